//! What keeps a run from being faster, and where a forecast cannot know.

use std::{collections::HashMap, time::Duration};

use skep_render::{bytes, count, duration, plural};

use super::{Outcome, Scenario};
use crate::model::{ids::Key, recording::Recording};

fn time(us: u64) -> String {
    duration(Duration::from_micros(us))
}

fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}

/// The longest chain of tasks that need each other, and what it takes with nothing else in the way.
pub(super) fn critical_path(recording: &Recording) -> (u64, Vec<u32>) {
    let places: HashMap<Key, usize> = recording
        .tasks
        .iter()
        .enumerate()
        .map(|(place, task)| (task.key, place))
        .collect();
    let n = recording.tasks.len();
    // Of each task: when it could have ended, and after which it comes. Its inputs may stand behind it.
    let (mut ends, mut before): (Vec<Option<u64>>, Vec<Option<usize>>) = (vec![None; n], vec![None; n]);
    for first in 0..n {
        let mut stack = vec![(first, false)];
        while let Some((at, has_inputs)) = stack.pop() {
            if ends[at].is_some() {
                continue;
            }
            let task = &recording.tasks[at];
            let inputs = || task.inputs.iter().filter_map(|(key, _)| places.get(key).copied());
            if !has_inputs {
                stack.push((at, true));
                stack.extend(
                    inputs()
                        .filter(|input| ends[*input].is_none())
                        .map(|input| (input, false)),
                );
                continue;
            }
            let last = inputs().max_by_key(|input| ends[*input].unwrap_or(0));
            before[at] = last;
            ends[at] = Some(last.and_then(|last| ends[last]).unwrap_or(0) + task.duration_us);
        }
    }
    let Some(last) = (0..n).max_by_key(|at| ends[*at].unwrap_or(0)) else {
        return (0, Vec::new());
    };
    let mut path: Vec<u32> = std::iter::successors(Some(last), |at| before[*at])
        .map(|at| at as u32)
        .collect();
    path.reverse();
    (ends[last].unwrap_or(0), path)
}

pub(super) fn limits(recording: &Recording, scenario: Scenario, outcome: &Outcome) -> Vec<String> {
    let mut limits: Vec<(f64, String)> = Vec::new();
    let took = outcome.took_us.max(1) as f64;
    let n_threads = f64::from(scenario.n_workers * scenario.n_threads);
    let part = |us: u64| us as f64 / took;
    let critical = part(outcome.critical_us);
    let longest = outcome
        .bars
        .iter()
        .map(|bar| &recording.tasks[bar.task as usize])
        .max_by_key(|task| task.duration_us);
    let name = |function: u32| {
        let name = recording.functions.get(function as usize);
        name.map_or("?", String::as_str)
    };
    let busy = (outcome.work_us as f64 / (took * n_threads)).min(1.0);
    // Where all threads have work to the end, a task may be long.
    let is_long = |us: u64| part(us) > 0.5 && busy < 0.9 && outcome.bars.len() > 1;
    if let Some(longest) = longest.filter(|longest| is_long(longest.duration_us)) {
        limits.push((
            part(longest.duration_us),
            format!(
                "one long task: `{}` takes {} of the {}; cut it into several",
                name(longest.function),
                time(longest.duration_us),
                time(outcome.took_us)
            ),
        ));
    } else if critical > 0.7 && outcome.critical.len() > 1 {
        limits.push((
            critical,
            format!(
                "a chain of {} that need each other takes {}: more workers do not help, a shorter chain does",
                plural(outcome.critical.len(), "task"),
                time(outcome.critical_us)
            ),
        ));
    }
    if !outcome.bars.is_empty() && (outcome.bars.len() as f64) < n_threads {
        limits.push((
            1.0 - outcome.bars.len() as f64 / n_threads,
            format!(
                "too few tasks: {} for {} threads",
                plural(outcome.bars.len(), "task"),
                n_threads
            ),
        ));
    }
    let moving = part(outcome.moving_us);
    if moving > 0.25 {
        limits.push((
            moving,
            format!(
                "transfers: {} move, and the link of one worker is taken {} of the time",
                bytes(outcome.moved_bytes),
                percent(moving.min(1.0))
            ),
        ));
    }
    let mean_us = outcome.work_us / (outcome.bars.len() as u64).max(1);
    if mean_us < 200 && outcome.bars.len() > 1_000 {
        limits.push((
            0.9,
            format!(
                "short tasks: {} each on average, and handing one out costs about 6 µs; give each more to do",
                time(mean_us)
            ),
        ));
    }
    if let Some(n_cores) = scenario.n_cores.filter(|n| f64::from(*n) < n_threads) {
        let cpu: u64 = outcome
            .bars
            .iter()
            .map(|bar| recording.tasks[bar.task as usize].cpu_us)
            .sum();
        let of_cores = cpu as f64 / (took * f64::from(n_cores));
        if of_cores > 0.7 {
            limits.push((
                of_cores,
                format!(
                    "processors: {} at work {} of the time",
                    plural(n_cores as usize, "core"),
                    percent(of_cores.min(1.0))
                ),
            ));
        }
    }
    if scenario.memory > 0 && outcome.spilled_bytes > 0 {
        let fits = outcome.peak_bytes as f64 / scenario.memory as f64;
        limits.push((
            fits.min(1.5),
            format!(
                "memory: a worker would hold {} of values and has {}; about {} go to disk",
                bytes(outcome.peak_bytes),
                bytes(scenario.memory),
                bytes(outcome.spilled_bytes)
            ),
        ));
    }
    if limits.is_empty() && busy > 0.7 {
        limits.push((
            busy,
            format!(
                "the workers are busy {} of the time: more of them make it faster",
                percent(busy)
            ),
        ));
    }
    limits.sort_by(|a, b| b.0.total_cmp(&a.0));
    limits.into_iter().map(|(_, text)| text).collect()
}

pub(super) fn doubts(recording: &Recording, scenario: Scenario, outcome: &Outcome) -> Vec<String> {
    let mut doubts = Vec::new();
    if outcome.n_unplayed > 0 {
        doubts.push(format!(
            "{} of {} tasks could not be played to their end: it takes longer than this",
            count(outcome.n_unplayed),
            count(recording.tasks.len() as u64)
        ));
    }
    let n_open = recording.tasks.iter().filter(|task| task.ended_us == 0).count();
    if n_open > 0 {
        doubts.push(format!(
            "{} had not ended, and are left out",
            plural(n_open, "task")
        ));
    }
    if recording.n_left_out > 0 {
        doubts.push(format!(
            "{} were too many to be recorded",
            count(recording.n_left_out)
        ));
    }
    if recording.tasks.iter().any(|task| task.has_demands) {
        doubts.push(
            "some tasks asked for certain workers or for resources: here any worker takes them".to_string(),
        );
    }
    let mean_us = outcome.work_us / (outcome.bars.len() as u64).max(1);
    if mean_us < 200 && !outcome.bars.is_empty() {
        doubts.push(
            "tasks this short are mostly hand-over, whose time differs by machine and network".to_string(),
        );
    }
    // Where processors were short, the times of tasks contain waiting for one.
    let n_threads: u32 = recording.workers.iter().map(|(threads, _)| threads).sum();
    let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let cpu: u64 = recording.tasks.iter().map(|task| task.cpu_us).sum();
    let span = recording
        .tasks
        .iter()
        .map(|task| task.ended_us)
        .max()
        .unwrap_or(0)
        .max(1);
    if n_threads > n_cores && cpu as f64 / span as f64 > 0.8 * f64::from(n_cores) {
        doubts.push(format!(
            "it was recorded with {n_threads} threads on {}: its tasks waited for processors, and their times are too long",
            plural(n_cores as usize, "core")
        ));
    }
    if outcome.spilled_bytes > 0 {
        doubts.push("what writing to disk and reading again would take is not in it".to_string());
    }
    if scenario.memory > 0 && outcome.peak_bytes as f64 > 3.0 * scenario.memory as f64 {
        doubts.push("so little memory may end workers".to_string());
    }
    doubts
}
