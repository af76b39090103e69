//! Numbers with units, as every card, table and message writes them.

use std::time::Duration;

/// `1536` → `1.5 KiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A type as people write it, without its modules: `alloc::vec::Vec<i64>` → `Vec<i64>`.
pub fn short_type(name: &str) -> String {
    let name = name.replace("::{{closure}}", "::closure");
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    name.split_inclusive(|c: char| !is_path(c))
        .map(|part| &part[part.rfind("::").map_or(0, |at| at + 2)..])
        .collect()
}

#[test]
fn types_are_short() {
    assert_eq!(
        short_type("core::iter::Map<core::slice::Iter<'_, i32>, cell::f::{{closure}}::{{closure}}>"),
        "Map<Iter<'_, i32>, closure>"
    );
    assert_eq!(
        short_type("alloc::vec::Vec<(i64, alloc::string::String)>"),
        "Vec<(i64, String)>"
    );
}

/// `1234567` → `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits and the unit that fits: `640 µs`, `12.7 ms`, `1.50 s`, `2 min 05 s`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs_f64();
    let three = |v: f64| {
        if v < 9.995 {
            format!("{v:.2}")
        } else if v < 99.95 {
            format!("{v:.1}")
        } else {
            format!("{v:.0}")
        }
    };
    match s {
        _ if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        _ if s < 0.999_5 => format!("{} ms", three(s * 1e3)),
        _ if s < 60.0 => format!("{} s", three(s)),
        _ if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        _ => format!("{} h {:02} min", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// `1 worker`, `2 workers`, `0 workers`.
pub fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

#[test]
fn numbers_read_well() {
    for (n, expect) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        (1_048_550, "1.0 MiB"),
    ] {
        assert_eq!(bytes(n), expect);
    }
    for (n, expect) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(count(n), expect);
    }
    for (micros, expect) in [
        (640, "640 µs"),
        (12_700, "12.7 ms"),
        (1_500_000, "1.50 s"),
        (125_000_000, "2 min 05 s"),
    ] {
        assert_eq!(duration(Duration::from_micros(micros)), expect);
    }
    assert_eq!(
        (plural(1, "worker"), plural(2000, "worker")),
        ("1 worker".into(), "2,000 workers".into())
    );
}
