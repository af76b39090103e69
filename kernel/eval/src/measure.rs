//! `:bench`: how long one run of an expression takes.

use std::time::{Duration, Instant};

use skep_render::{Bundle, count, duration};

use crate::{errors::Error, interrupt::poll, link};

/// All runs together take about this long.
const TOTAL: Duration = Duration::from_secs(2);
/// A sample is at least this long, so that reading the clock does not count.
const SAMPLE: Duration = Duration::from_micros(50);
const FEWEST_SAMPLES: usize = 5;
const MOST_SAMPLES: usize = 10_000;

/// Runs `body` in samples and shows the median, the fastest and the slowest.
pub(crate) fn measure(body: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
    let started = Instant::now();
    let mut n_each = 1u32;
    // Warm: caches are filled, and a sample becomes long enough.
    loop {
        let took = sample(body, n_each)?;
        if took >= SAMPLE || started.elapsed() > TOTAL / 4 {
            break;
        }
        n_each = n_each.saturating_mul(4);
    }
    let mut samples = Vec::new();
    while samples.len() < FEWEST_SAMPLES || (started.elapsed() < TOTAL && samples.len() < MOST_SAMPLES) {
        samples.push(sample(body, n_each)? / n_each);
    }
    link::result(Bundle::text(describe(&mut samples, n_each)));
    Ok(())
}

fn sample(body: &mut dyn FnMut() -> Result<(), Error>, n: u32) -> Result<Duration, Error> {
    let started = Instant::now();
    for _ in 0..n {
        body()?;
        poll();
    }
    Ok(started.elapsed())
}

fn describe(samples: &mut [Duration], n_each: u32) -> String {
    samples.sort_unstable();
    let (median, fastest, slowest) = (samples[samples.len() / 2], samples[0], samples[samples.len() - 1]);
    let runs = count(samples.len() as u64 * u64::from(n_each));
    let ns = |d: Duration| {
        if d < Duration::from_micros(1) {
            format!("{} ns", d.as_nanos())
        } else {
            duration(d)
        }
    };
    format!(
        "{} a run, median of {runs} runs (fastest {}, slowest {})",
        ns(median),
        ns(fastest),
        ns(slowest)
    )
}

#[test]
fn the_median_is_told_with_its_spread() {
    let mut samples = [3, 1, 2].map(Duration::from_micros);
    assert_eq!(
        describe(&mut samples, 10),
        "2 µs a run, median of 30 runs (fastest 1 µs, slowest 3 µs)"
    );
}
