//! What a recorded run would have been on other workers: the real scheduler and the real worker machines, on a virtual
//! clock and a simulated network.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::recording::Recording;

mod limits;
mod waves;
mod world;

/// Workers as they might be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    pub n_workers: u32,
    /// Of each worker.
    pub n_threads: u32,
    /// Bytes for each worker; 0 is no limit.
    pub memory: u64,
    /// Bytes a second into and out of each worker.
    pub bandwidth: f64,
    /// Processors that all workers share; `None`: each thread has one.
    pub n_cores: Option<u32>,
}

/// A task as it would have run. Times are microseconds since the first was submitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Played {
    pub worker: u32,
    /// Its place in the recording.
    pub task: u32,
    pub start_us: u64,
    pub duration_us: u64,
}

/// What a recorded run would have been.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub took_us: u64,
    /// Tasks in the order of their ends.
    pub bars: Vec<Played>,
    /// What tasks take together.
    pub work_us: u64,
    /// Bytes from worker to worker.
    pub moved_bytes: u64,
    /// The longest time that one worker's link was taken, by what it fetched and what others fetched from it.
    pub moving_us: u64,
    /// The most that one worker held of values.
    pub peak_bytes: u64,
    /// What workers would have written to disk, all together, by Dask's documented thresholds.
    pub spilled_bytes: u64,
    /// The longest chain of tasks that need each other.
    pub critical_us: u64,
    /// Its tasks, by their places in the recording, first to last.
    pub critical: Vec<u32>,
    /// Tasks that could not be played, or not in reasonable time.
    pub n_unplayed: u64,
    /// What keeps it from being faster, the most important first.
    pub limits: Vec<String>,
    /// Where it cannot know.
    pub doubts: Vec<String>,
}

/// Plays a recording on other workers.
pub fn forecast(recording: &Recording, scenario: Scenario) -> Outcome {
    let mut outcome = world::play(recording, scenario);
    (outcome.critical_us, outcome.critical) = limits::critical_path(recording);
    outcome.limits = limits::limits(recording, scenario, &outcome);
    outcome.doubts = limits::doubts(recording, scenario, &outcome);
    outcome
}

/// Of a curve's points: each step looks at all that runs.
const MOST_THREADS: u64 = 1_000;

/// What it would take on 1, 2, 4, … 64 workers that are otherwise the same.
pub fn curve(recording: &Recording, scenario: Scenario) -> BTreeMap<u32, u64> {
    let counts: BTreeSet<u32> = (0..7).map(|i| 1 << i).chain([scenario.n_workers]).collect();
    let counts = counts
        .into_iter()
        .filter(|n| u64::from(*n) * u64::from(scenario.n_threads) <= MOST_THREADS);
    counts
        .map(|n_workers| {
            let outcome = world::play(
                recording,
                Scenario {
                    n_workers,
                    ..scenario
                },
            );
            (n_workers, outcome.took_us)
        })
        .collect()
}

#[cfg(test)]
mod tests;
