//! Checks of the lesson on other clusters: they ask which engine ran a task, and its journey.

use skep_cluster::{Cluster, Remote};
use skep_course::Verdict;

use super::said;

/// Primes below a million.
const N_PRIMES: u64 = 78_498;

/// Exercise 10.1: the same cell on Dask.
pub fn check_10_1(cluster: &Cluster, total: u64) -> Verdict {
    Verdict::of("10.1", |verdict| {
        if cluster.engine() == "local" {
            return verdict.not_begun("`here` is a local cluster; one line makes it the Dask cluster");
        }
        verdict.holds(
            total == N_PRIMES,
            format!("Dask's workers found {total} primes"),
            format!("{total} primes, and {N_PRIMES} is right: only the first line has to change"),
        );
        Ok(())
    })
}

/// Exercise 10.2: tasks that are worth the way.
pub fn check_10_2(parts: &[Remote<u64>], total: u64) -> Verdict {
    Verdict::of("10.2", |verdict| {
        let n = parts.len();
        if n >= 2_000 {
            return verdict.not_begun("2,000 tasks are far too many: each does next to nothing");
        }
        verdict.holds(
            n >= 4,
            format!("{n} tasks"),
            format!("{n} tasks: with fewer than 4, a worker has nothing to do while the other works"),
        );
        let mut total_us = 0;
        for part in parts {
            let journey = part.journey().map_err(said)?;
            total_us += journey.attempts.last().map_or(0, |last| last.duration_us);
        }
        let mean_us = total_us / n.max(1) as u64;
        verdict.holds(
            mean_us >= 5_000,
            format!("{:.1} ms each", mean_us as f64 / 1e3),
            format!("{:.1} ms each; 5 or more are asked for", mean_us as f64 / 1e3),
        );
        verdict.holds(
            total == N_PRIMES,
            format!("{total} primes"),
            format!("{total} primes, and {N_PRIMES} is right: does `size` divide 1,000,000?"),
        );
        Ok(())
    })
}

/// Exercise 10.3: a value that stays where it is.
pub fn check_10_3(data: &Remote<Vec<u64>>, answer: u64) -> Verdict {
    Verdict::of("10.3", |verdict| {
        let journey = data.journey().map_err(said)?;
        if journey.gathered_us > 0 {
            return verdict.not_begun("the table came here: `data` was gathered");
        }
        verdict.holds(true, "the table stayed where it was".to_string(), String::new());
        let expected = (0..5_000_000u64)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)
            .max()
            .unwrap_or(0);
        verdict.holds(
            answer == expected,
            format!("{answer} is the largest"),
            format!("{answer} is not the largest: {expected} is"),
        );
        Ok(())
    })
}
