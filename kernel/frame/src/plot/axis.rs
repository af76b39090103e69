//! What stands at the axes of charts.

use std::ops::Range;

use polars::prelude::{AnyValue, DataType, NamedFrom, Series, TimeUnit};

/// How places of an axis are named.
pub(super) struct Axis {
    format: Option<&'static str>,
}

impl Axis {
    pub fn new(is_time: bool, range: &Range<f64>) -> Axis {
        const DAY: f64 = 86_400e3;
        let format = match range.end - range.start {
            span if span > 1_000.0 * DAY => "%Y-%m",
            span if span > 3.0 * DAY => "%Y-%m-%d",
            span if span > 0.1 * DAY => "%m-%d %H:%M",
            _ => "%H:%M:%S",
        };
        Axis {
            format: is_time.then_some(format),
        }
    }

    pub fn label(&self, value: f64) -> String {
        let Some(format) = self.format else {
            return short_number(value);
        };
        let at =
            Series::new("at".into(), [value as i64]).cast(&DataType::Datetime(TimeUnit::Milliseconds, None));
        let text = at.and_then(|at| at.datetime()?.to_string(format));
        text.ok()
            .and_then(|text| text.get(0).map(ToString::to_string))
            .unwrap_or_default()
    }
}

/// From the least to the greatest, with a little room; `None` of nothing.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        least = least.min(value);
        most = most.max(value);
    }
    if least > most {
        return None;
    }
    let room = if most > least {
        (most - least) * 0.04
    } else {
        most.abs().max(1.0) * 0.5
    };
    let from = if least >= 0.0 && least < room * 2.0 {
        0.0_f64.min(least)
    } else {
        least - room
    };
    Some(from..most + room)
}

pub(super) fn short_number(value: f64) -> String {
    let size = value.abs();
    let trimmed = |text: String| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            text
        }
    };
    match size {
        0.0 => "0".to_string(),
        _ if !(1e-3..1e12).contains(&size) => format!("{value:.1e}"),
        _ if size >= 1e9 => trimmed(format!("{:.2}", value / 1e9)) + " G",
        _ if size >= 1e6 => trimmed(format!("{:.2}", value / 1e6)) + " M",
        _ if size >= 1e4 => trimmed(format!("{:.1}", value / 1e3)) + " k",
        _ => trimmed(format!("{value:.3}")),
    }
}

pub(super) fn label_of(value: &AnyValue<'_>) -> String {
    let text = match value.extract_str() {
        Some(text) => text.to_string(),
        None => value.to_string(),
    };
    skep_render::text::cut(&text, 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (12_500.0, "12.5 k"),
            (3e6, "3 M"),
            (0.25, "0.25"),
            (1999.0, "1999"),
            (1e-7, "1.0e-7"),
        ] {
            assert_eq!(short_number(value), text);
        }
    }
}
