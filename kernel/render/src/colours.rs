//! The colours of every picture, by what they say. `assets/PICTURES.md` has the reason for each.
//!
//! JupyterLab shows an SVG as an image, which does not know whether the page is light or dark; so each of them stands on both:
//! a contrast of 3 at least. The tests below look at them as people do who see red and green alike.

/// A task that is done, memory of values: what went well.
pub const DONE: &str = "#0d9257";
/// What goes on now.
pub const RUNNING: &str = "#cd7b0c";
/// What failed, and warnings.
pub const FAILED: &str = "#be2227";
/// What waits, lines, and everything that is not the point.
pub const WAITING: &str = "#8a8f98";
/// What people touch: a control, a link, a selection; and what lies on disk: spilled values, values of earlier runs.
pub const ACCENT: &str = "#3269d5";

/// Words on a picture that brings no ground of its own.
pub const INK: &str = "#7a808a";

/// The states as grounds of white text: the same hues, a shade deeper.
pub const DONE_GROUND: &str = "#0a7847";
pub const RUNNING_GROUND: &str = "#99590a";
pub const FAILED_GROUND: &str = "#be2227";
pub const WAITING_GROUND: &str = "#646b78";
pub const ACCENT_GROUND: &str = "#2f62c9";

/// Functions, and the lines of a chart: in the order in which they come.
pub const SERIES: [&str; 10] = [
    "#4e79a7", "#e08a2e", "#59a14f", "#b07aa1", "#d3605b", "#3f9c99", "#c9a227", "#8f6d57", "#d37295",
    "#6d7fbf",
];

/// Of a state, by its name; other states wait.
pub fn of_state(state: &str) -> &'static str {
    match state {
        "done" => DONE,
        "running" => RUNNING,
        "failed" => FAILED,
        "cached" => ACCENT,
        _ => WAITING,
    }
}

/// The same as a ground of white text.
pub fn ground_of_state(state: &str) -> &'static str {
    match state {
        "done" => DONE_GROUND,
        "running" => RUNNING_GROUND,
        "failed" => FAILED_GROUND,
        "cached" => ACCENT_GROUND,
        _ => WAITING_GROUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rgb = [f64; 3];

    const STATES: [&str; 5] = [DONE, RUNNING, FAILED, WAITING, ACCENT];
    const GROUNDS: [&str; 5] = [
        DONE_GROUND,
        RUNNING_GROUND,
        FAILED_GROUND,
        WAITING_GROUND,
        ACCENT_GROUND,
    ];

    /// Linear light.
    fn rgb(colour: &str) -> Rgb {
        let part = |at: usize| {
            let part = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if part <= 0.04045 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        [part(1), part(3), part(5)]
    }

    fn mixed(m: [[f64; 3]; 3], v: Rgb) -> Rgb {
        m.map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum())
    }

    fn luminance([r, g, b]: Rgb) -> f64 {
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(rgb(a)) + 0.05, luminance(rgb(b)) + 0.05);
        a.max(b) / a.min(b)
    }

    /// CIELAB, in which distances are about as eyes see them.
    fn lab(v: Rgb) -> Rgb {
        let xyz = mixed(
            [
                [0.4124, 0.3576, 0.1805],
                [0.2126, 0.7152, 0.0722],
                [0.0193, 0.1192, 0.9505],
            ],
            v,
        );
        let f = |t: f64| {
            if t > 0.008_856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        };
        let [x, y, z] = [xyz[0] / 0.950_47, xyz[1], xyz[2] / 1.088_83].map(|t| f(t.max(0.0)));
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// The matrices of Machado, Oliveira and Fernandes (2009) for eyes that lack one kind of cone.
    const EYES: [(&str, [[f64; 3]; 3], f64); 4] = [
        (
            "all cones",
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            40.0,
        ),
        (
            "no red",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
            20.0,
        ),
        (
            "no green",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
            20.0,
        ),
        // One person in ten thousand.
        (
            "no blue",
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
            15.0,
        ),
    ];

    #[test]
    fn states_are_told_apart_by_all_eyes() {
        for (eyes, matrix, least) in EYES {
            for (i, a) in STATES.iter().enumerate() {
                for b in &STATES[..i] {
                    let (x, y) = (lab(mixed(matrix, rgb(a))), lab(mixed(matrix, rgb(b))));
                    let distance = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
                    assert!(
                        distance >= least,
                        "{a} and {b} to eyes with {eyes}: {distance:.0}"
                    );
                }
            }
        }
    }

    #[test]
    fn colours_stand_on_light_and_on_dark() {
        // JupyterLab's grounds.
        for ground in ["#ffffff", "#111111"] {
            for colour in STATES.iter().chain([&INK]).chain(&SERIES) {
                let contrast = contrast(colour, ground);
                let least = if SERIES.contains(colour) { 2.3 } else { 3.0 };
                assert!(contrast >= least, "{colour} on {ground}: {contrast:.1}");
            }
        }
        for ground in GROUNDS {
            assert!(contrast(ground, "#ffffff") >= 5.0, "white on {ground}");
        }
    }

    /// The cluster's page has the same, for its light side.
    #[test]
    fn the_page_has_the_same_colours() {
        let style = include_str!("../../../assets/dashboard/page.css");
        let script = include_str!("../../../assets/dashboard/page.js");
        for (name, colour) in [
            ("done", DONE),
            ("running", RUNNING),
            ("failed", FAILED),
            ("waiting", WAITING),
            ("spilled", ACCENT),
        ] {
            assert!(style.contains(&format!("--{name}: {colour};")), "{name}");
        }
        assert!(SERIES.iter().all(|colour| script.contains(colour)));
    }
}
