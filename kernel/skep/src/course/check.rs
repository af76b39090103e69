//! Checks of exercises. They look at the reader's own values and traces: which tasks ran, when, where, how often, and how many
//! bytes moved. Never at the clock on the wall, and never at the text of a cell.

use skep_cluster::{Cluster, Delayed, End, Journey, Remote};
use skep_course::Verdict;

use super::{first_line, said};

type Made<T> = Result<T, String>;

fn journey<T>(handle: &Remote<T>) -> Made<Journey> {
    handle.wait().map_err(said)?;
    handle.journey().map_err(said)
}

/// From when to when its last attempt ran, in microseconds.
fn ran(journey: &Journey) -> Option<(u64, u64)> {
    let last = journey.attempts.last()?;
    (last.end == End::Done).then_some((last.start_us, last.start_us + last.duration_us))
}

/// Exercise 1.1: two calls ran at the same time.
pub fn check_1_1<T>(first: &Remote<T>, second: &Remote<T>) -> Verdict {
    Verdict::of("1.1", |verdict| {
        let (first, second) = (journey(first)?, journey(second)?);
        let (Some(a), Some(b)) = (ran(&first), ran(&second)) else {
            return Err("one of the calls did not get to its end".to_string());
        };
        let together = a.1.min(b.1).saturating_sub(a.0.max(b.0));
        verdict.holds(
            together > (a.1 - a.0) / 2,
            format!("they ran at the same time for {} ms", together / 1000),
            format!(
                "they ran one after the other: the second began {} ms after the first had ended",
                b.0.saturating_sub(a.1) / 1000
            ),
        );
        verdict.holds(
            first.key != second.key,
            "they are two calls".to_string(),
            "both handles are the same call: call it with different numbers".to_string(),
        );
        Ok(())
    })
}

/// Exercise 1.2: the numbers of the workers' processes.
pub fn check_1_2(cluster: &Cluster, pids: &[u32]) -> Verdict {
    Verdict::of("1.2", |verdict| {
        if pids.is_empty() {
            return verdict.not_begun("put the numbers into `pids`");
        }
        let workers = cluster.info().map_err(said)?.workers;
        verdict.holds(
            !pids.contains(&std::process::id()),
            "none of them is this notebook".to_string(),
            "one of them is this notebook's own process: let workers call `my_pid`".to_string(),
        );
        let missing = workers
            .iter()
            .filter(|worker| !pids.contains(&worker.pid))
            .count();
        verdict.holds(
            missing == 0,
            "every worker is there".to_string(),
            format!("{missing} of {} workers are missing", workers.len()),
        );
        verdict.holds(
            pids.len() == workers.len(),
            "each once".to_string(),
            format!(
                "there are {} numbers and {} workers: keep each once",
                pids.len(),
                workers.len()
            ),
        );
        Ok(())
    })
}

/// Exercise 2.1: a loop as a graph.
pub fn check_2_1(total: &Delayed<i64>) -> Verdict {
    Verdict::of("2.1", |verdict| {
        let n_tasks = total.n_tasks();
        verdict.holds(
            n_tasks >= 9,
            format!("the graph has {n_tasks} tasks: a call of `cube` each, and sums"),
            format!(
                "the graph has {n_tasks} tasks: eight calls of `cube` and at least one sum should be in it"
            ),
        );
        let sum = total.compute().map_err(said)?;
        verdict.holds(
            sum == 1296,
            "the sum is right".to_string(),
            format!("the sum is {sum}; the loop gives 1296"),
        );
        Ok(())
    })
}

/// Exercise 2.2: `load` ran once.
pub fn check_2_2<F>(cluster: &Cluster, both: F) -> Verdict
where
    F: FnOnce() -> skep_cluster::Result<(f64, f64)>,
{
    Verdict::of("2.2", |verdict| {
        let (results, performance) = cluster.performance(both).map_err(said)?;
        let results = results.map_err(said)?;
        let n = performance.n_runs("load");
        verdict.holds(
            n == 1,
            "`load` ran once".to_string(),
            format!("`load` ran {n} times: are both results in one graph?"),
        );
        let values: Vec<f64> = (0..1_000u64).map(|i| ((i * 11) % 97) as f64).collect();
        let (mean, most) = (
            values.iter().sum::<f64>() / 1e3,
            values.iter().copied().fold(f64::MIN, f64::max),
        );
        verdict.holds(
            results == (mean, most),
            "both results are right".to_string(),
            format!("the results are {results:?}; they should be ({mean}, {most})"),
        );
        Ok(())
    })
}

/// Exercise 2.3: fewer, larger tasks.
pub fn check_2_3(total: &Delayed<u64>) -> Verdict {
    Verdict::of("2.3", |verdict| {
        let n_tasks = total.n_tasks();
        verdict.holds(
            (3..=64).contains(&n_tasks),
            format!("{n_tasks} tasks"),
            format!("{n_tasks} tasks; 3 to 64 are asked for"),
        );
        if n_tasks <= 5_000 {
            let sum = total.compute().map_err(said)?;
            let right: u64 = (0..2_000u64).map(|x| x * x % 7).sum();
            verdict.holds(
                sum == right,
                "the sum is right".to_string(),
                format!("the sum is {sum}; it should be {right}"),
            );
        }
        Ok(())
    })
}

/// Exercise 3.1: calls that were tried again.
pub fn check_3_1(results: &[Remote<i64>]) -> Verdict {
    Verdict::of("3.1", |verdict| {
        let (mut n_done, mut n_failed) = (0, 0);
        let mut last = String::new();
        for handle in results {
            match handle.gather() {
                Ok(_) => n_done += 1,
                Err(error) => last = error.to_string(),
            }
            let attempts = handle.journey().map_err(said)?.attempts;
            n_failed += attempts
                .iter()
                .filter(|attempt| attempt.end == End::Failed)
                .count();
        }
        verdict.holds(
            n_done >= 6 && n_done == results.len(),
            "all six calls have a result".to_string(),
            format!(
                "{n_done} of {} calls have a result; the last error: {}",
                results.len(),
                first_line(&last)
            ),
        );
        if n_done == results.len() {
            verdict.holds(
                n_failed >= 1,
                format!("{n_failed} attempts failed on the way"),
                "no attempt failed: is `flaky` as it was?".to_string(),
            );
        }
        Ok(())
    })
}

/// Exercise 3.2: what nobody needs was stopped.
pub fn check_3_2<T>(searches: &[Remote<T>]) -> Verdict {
    Verdict::of("3.2", |verdict| {
        let mut n_done = 0;
        for handle in searches {
            // Stopped calls end with an error, which is meant here.
            let _ = handle.wait();
            n_done += usize::from(handle.state().0 == "done");
        }
        verdict.holds(
            searches.len() == 20,
            "twenty calls were made".to_string(),
            format!("{} calls were made; twenty are asked for", searches.len()),
        );
        verdict.holds(
            n_done >= 3,
            format!("{n_done} have a result"),
            format!("{n_done} have a result; wait for three"),
        );
        let n_stopped = searches.len() - n_done;
        verdict.holds(
            n_stopped >= 8,
            format!("{n_stopped} were stopped"),
            format!("{n_stopped} were stopped: all others ran to their end, though nobody needs them"),
        );
        Ok(())
    })
}

/// Exercise 3.3: the handle is the argument. The function is given other numbers than the reader's: what it captured is of no
/// use to it.
pub fn check_3_3<F>(cluster: &Cluster, shares_of: F) -> Verdict
where
    F: FnOnce(&Remote<Vec<f64>>) -> Vec<Remote<f64>>,
{
    Verdict::of("3.3", |verdict| {
        const N: u32 = 600_000;
        let table = cluster.scatter((0..N).map(|i| f64::from(i % 10)).collect::<Vec<f64>>());
        table.wait().map_err(said)?;
        let shares = shares_of(&table);
        let mut sum = 0.0;
        let mut moved = 0;
        for share in &shares {
            sum += share.gather().map_err(said)?;
            let journey = share.journey().map_err(said)?;
            moved += journey
                .attempts
                .iter()
                .map(|attempt| attempt.moved_bytes)
                .sum::<u64>();
        }
        verdict.holds(
            shares.len() == 8,
            "eight calls".to_string(),
            format!("{} calls; eight are asked for", shares.len()),
        );
        let right = f64::from(N) * 4.5;
        verdict.holds(
            sum == right,
            format!(
                "of the numbers behind the handle; {} MB went from worker to worker, none through this notebook",
                moved / 1_000_000
            ),
            format!("the shares sum up to {sum}, the numbers behind the handle to {right}: is `table` the argument?"),
        );
        Ok(())
    })
}

/// Exercise 4.1: the part of a task's life that was work.
pub fn check_4_1<T>(z: &Remote<T>, ran: u64) -> Verdict {
    Verdict::of("4.1", |verdict| {
        if ran == 0 {
            return verdict.not_begun("`ran` is the time in microseconds, from the journey");
        }
        let journey = journey(z)?;
        let last = journey.attempts.last().ok_or("the journey has no attempt")?;
        verdict.holds(
            ran == last.duration_us,
            format!(
                "`{}` ran for {ran} µs, of {} µs from its submission to its end",
                journey.name,
                last.ended_us.saturating_sub(journey.submitted_us)
            ),
            format!("{ran} µs is not the time that it ran: which field of the attempt is it?"),
        );
        Ok(())
    })
}

/// Exercise 4.2: nothing moved.
pub fn check_4_2<T>(product: &Remote<T>) -> Verdict {
    Verdict::of("4.2", |verdict| {
        let journey = journey(product)?;
        let last = journey.attempts.last().ok_or("the journey has no attempt")?;
        verdict.holds(
            last.end == End::Done,
            "the product was made".to_string(),
            "the product has not been made".to_string(),
        );
        verdict.holds(
            last.moved_bytes == 0,
            "no byte moved between workers".to_string(),
            format!(
                "{} bytes moved to the worker that made the product",
                last.moved_bytes
            ),
        );
        Ok(())
    })
}

/// Exercise 6.1: a value that was lost and made again.
pub fn check_6_1<T>(mine: &Remote<T>) -> Verdict {
    Verdict::of("6.1", |verdict| {
        let journey = journey(mine)?;
        let workers: Vec<_> = journey
            .attempts
            .iter()
            .filter_map(|attempt| attempt.worker)
            .collect();
        verdict.holds(
            workers.len() >= 2,
            format!("it was made {} times", workers.len()),
            "it was made once: its worker is still alive".to_string(),
        );
        if workers.len() >= 2 {
            verdict.holds(
                workers.first() != workers.last(),
                "by two workers".to_string(),
                "by the same worker: which one was killed?".to_string(),
            );
        }
        Ok(())
    })
}

/// Exercise 6.2: the task that kills.
pub fn check_6_2<T: skep_cluster::TaskValue>(runs: &[Remote<T>], poisoned: usize) -> Verdict {
    Verdict::of("6.2", |verdict| {
        if poisoned == usize::MAX {
            return verdict.not_begun("`poisoned` is the place in the list, counted from 0");
        }
        let mut failed = Vec::new();
        for (at, handle) in runs.iter().enumerate() {
            if handle.gather().is_err() {
                failed.push(at);
            }
        }
        verdict.holds(
            runs.len() == 8 && failed.len() == 1,
            "one of eight calls was given up".to_string(),
            format!(
                "{} of {} calls failed; one of eight should",
                failed.len(),
                runs.len()
            ),
        );
        verdict.holds(
            failed == [poisoned],
            format!("it is number {poisoned}"),
            format!("it is not number {poisoned}: ask `try_gather`"),
        );
        Ok(())
    })
}

/// Exercise 6.3: work cut evenly.
pub fn check_6_3(handles: &[Remote<u64>]) -> Verdict {
    Verdict::of("6.3", |verdict| {
        let mut times = Vec::new();
        let mut sum = 0;
        for handle in handles {
            sum += handle.gather().map_err(said)?;
            let (from, to) = ran(&handle.journey().map_err(said)?).ok_or("a piece did not get to its end")?;
            times.push(to - from);
        }
        verdict.holds(
            (745..=755).contains(&sum),
            "the work is 750 ms".to_string(),
            format!("the work is {sum} ms; it should be 750"),
        );
        times.sort_unstable();
        let (Some(longest), Some(median)) = (times.last(), times.get(times.len() / 2)) else {
            return Err("there are no pieces".to_string());
        };
        verdict.holds(
            *longest <= 2 * median && times.len() >= 4,
            format!(
                "the longest of {} tasks took {} ms, the median {} ms",
                times.len(),
                longest / 1000,
                median / 1000
            ),
            format!(
                "the longest of {} tasks took {} ms, and the median is {} ms: all others wait for it",
                times.len(),
                longest / 1000,
                median / 1000
            ),
        );
        Ok(())
    })
}

/// Exercise 7.1: the words that come most often.
pub fn check_7_1(lines: &[String], answer: &[(String, u64)]) -> Verdict {
    Verdict::of("7.1", |verdict| {
        if answer.is_empty() {
            return verdict.not_begun("`answer` is a list of pairs of a word and its count");
        }
        let mut counts = std::collections::HashMap::new();
        for word in lines.iter().flat_map(|line| line.split_whitespace()) {
            *counts.entry(word).or_insert(0u64) += 1;
        }
        let mut largest: Vec<u64> = counts.values().copied().collect();
        largest.sort_unstable_by(|a, b| b.cmp(a));
        verdict.holds(
            answer.len() == 3,
            "three words".to_string(),
            format!("{} words; three are asked for", answer.len()),
        );
        let wrong = answer
            .iter()
            .find(|(word, n)| counts.get(word.as_str()) != Some(n));
        verdict.holds(
            wrong.is_none(),
            "their counts are right".to_string(),
            wrong.map_or_else(String::new, |(word, n)| {
                format!(
                    "`{word}` comes {} times, and not {n}",
                    counts.get(word.as_str()).unwrap_or(&0)
                )
            }),
        );
        let given: Vec<u64> = answer.iter().map(|(_, n)| *n).collect();
        verdict.holds(
            given.iter().eq(largest.iter().take(3)),
            "no other word comes as often".to_string(),
            "another word comes more often, or the order is not from the largest".to_string(),
        );
        Ok(())
    })
}

/// Exercise 7.2: π from many tasks.
pub fn check_7_2(counts: &[Remote<u64>], pi: f64) -> Verdict {
    Verdict::of("7.2", |verdict| {
        if counts.is_empty() {
            return verdict.not_begun("`counts` are the handles of the calls");
        }
        verdict.holds(
            counts.len() >= 16,
            format!("{} tasks", counts.len()),
            format!("{} tasks; at least 16 are asked for", counts.len()),
        );
        let mut inside = 0;
        for count in counts {
            inside += count.gather().map_err(said)?;
        }
        let mut keys: Vec<_> = counts.iter().filter_map(Remote::key).collect();
        keys.sort_unstable();
        keys.dedup();
        verdict.holds(
            keys.len() == counts.len(),
            "each with a seed of its own".to_string(),
            "some of them have the same seed, and so the same points".to_string(),
        );
        // By chance alone it is this near with sixteen million points.
        let n_points = inside as f64 * 4.0 / pi;
        verdict.holds(
            (pi - std::f64::consts::PI).abs() < 0.005,
            format!("{pi:.5} is near π"),
            format!("{pi:.5} is not near π"),
        );
        verdict.holds(
            n_points >= 15.9e6 && (n_points - n_points.round()).abs() < 1e-3 * n_points,
            format!("from {:.0} million points", n_points / 1e6),
            format!(
                "it would be from {:.1} million points; sixteen are asked for",
                n_points / 1e6
            ),
        );
        Ok(())
    })
}
