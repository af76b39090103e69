//! Checks of the lesson on speed: they ask recorded runs what limits them.

use skep_cluster::{Forecast, Performance};
use skep_course::Verdict;

use super::said;

/// Exercise 8.1: tasks of a good size.
pub fn check_8_1(run: &Performance, total: u64) -> Verdict {
    Verdict::of("8.1", |verdict| {
        let n = run.n_runs("steps");
        if n == 0 {
            return verdict.not_begun("`run` is what `performance` gave, and no `steps` ran in it");
        }
        verdict.holds(
            n >= 8,
            format!("{n} tasks"),
            format!("{n} tasks; at least 8 are asked for"),
        );
        if n > 4_000 {
            verdict.holds(
                false,
                String::new(),
                format!("{n} tasks are far too many: each does next to nothing"),
            );
            return Ok(());
        }
        let one = run.what_if().workers(1).threads(1).start().map_err(said)?;
        let mean_us = one.took().as_micros() as u64 / n;
        verdict.holds(
            mean_us >= 1_000,
            format!("{:.1} ms each", mean_us as f64 / 1e3),
            format!("{mean_us} µs each; a millisecond or more is asked for"),
        );
        let expected: u64 = (1..=400_000).map(collatz).sum();
        verdict.holds(
            total == expected,
            format!("{total} steps in all"),
            format!("{total} steps in all, and {expected} is right: does `size` divide 400,000?"),
        );
        Ok(())
    })
}

fn collatz(mut x: u64) -> u64 {
    let mut steps = 0;
    while x > 1 {
        x = if x.is_multiple_of(2) { x / 2 } else { 3 * x + 1 };
        steps += 1;
    }
    steps
}

/// Exercise 8.2: no piece that keeps all others waiting.
pub fn check_8_2(run: &Performance) -> Verdict {
    Verdict::of("8.2", |verdict| {
        if run.n_runs("step") == 0 {
            return verdict.not_begun("`run` is what `performance` gave, and no `step` ran in it");
        }
        let on = |n: u32| run.what_if().workers(n).threads(1).start().map_err(said);
        let (one, four) = (on(1)?, on(4)?);
        let (work_ms, took_ms) = (one.took().as_millis(), four.took().as_millis());
        verdict.holds(
            (780..=1_000).contains(&work_ms),
            format!("{work_ms} ms of work"),
            format!("{work_ms} ms of work; the pieces are to be 800 together"),
        );
        verdict.holds(
            took_ms <= 250,
            format!("four workers would end it within {took_ms} ms"),
            format!(
                "four workers would take {took_ms} ms{}",
                four.limits()
                    .first()
                    .map_or_else(String::new, |limit| format!(": {limit}"))
            ),
        );
        Ok(())
    })
}

/// Exercise 8.3: where the network is what a run waits for.
pub fn check_8_3(forecast: &Forecast) -> Verdict {
    Verdict::of("8.3", |verdict| {
        let took_ms = forecast.took().as_millis();
        verdict.holds(
            took_ms >= 1_000,
            format!("it would take {took_ms} ms"),
            format!("it would take {took_ms} ms; more than a second is asked for"),
        );
        let is_moved = forecast
            .limits()
            .iter()
            .any(|limit| limit.starts_with("transfers"));
        verdict.holds(
            is_moved,
            "it waits for bytes".to_string(),
            "transfers are not what limits it".to_string(),
        );
        Ok(())
    })
}
