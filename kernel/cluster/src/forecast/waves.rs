//! Which tasks a program submitted together, and after what.

use std::ops::Range;

use crate::model::{
    ids::{Key, KeyMap, KeySet},
    recording::Recorded,
};

/// Tasks that were submitted within such a time of each other were submitted together.
const TOGETHER_US: u64 = 2_000;

/// Tasks that were submitted together.
pub(super) struct Wave {
    pub tasks: Range<usize>,
    /// The task after whose end this came, if it came after one.
    pub after: Option<Key>,
    /// How long after that, or after the wave before; nothing for the first.
    pub gap_us: u64,
}

/// In the order in which they came.
pub(super) fn waves(tasks: &[Recorded]) -> Vec<Wave> {
    let mut ends: Vec<(u64, Key)> = tasks
        .iter()
        .filter(|task| task.ended_us > 0)
        .map(|task| (task.ended_us, task.key))
        .collect();
    ends.sort_unstable();
    let mut waves: Vec<Wave> = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        let last = at.checked_sub(1).map(|before| tasks[before].submitted_us);
        match (waves.last_mut(), last) {
            (Some(wave), Some(last)) if task.submitted_us <= last + TOGETHER_US => wave.tasks.end = at + 1,
            (_, last) => {
                // What a program did before it submitted anything is no part of the run.
                let last = last.unwrap_or(task.submitted_us);
                let n_before = ends.partition_point(|(end, _)| *end <= task.submitted_us);
                let before = n_before
                    .checked_sub(1)
                    .map(|i| ends[i])
                    .filter(|(end, _)| *end > last);
                waves.push(Wave {
                    tasks: at..at + 1,
                    after: before.map(|(_, key)| key),
                    gap_us: task.submitted_us - before.map_or(last, |(end, _)| end),
                });
            }
        }
    }
    waves
}

/// What a program holds: results that nothing needs, those that a later wave needs, and those that one came after.
pub(super) fn wanted(tasks: &[Recorded], waves: &[Wave]) -> KeySet {
    let mut wave_of: KeyMap<usize> = KeyMap::default();
    for (number, wave) in waves.iter().enumerate() {
        wave_of.extend(tasks[wave.tasks.clone()].iter().map(|task| (task.key, number)));
    }
    let mut wanted: KeySet = tasks.iter().map(|task| task.key).collect();
    for task in tasks {
        for (input, _) in &task.inputs {
            if wave_of.get(input) == wave_of.get(&task.key) {
                wanted.remove(input);
            }
        }
    }
    for task in tasks {
        for (input, _) in &task.inputs {
            if wave_of.get(input) != wave_of.get(&task.key) {
                wanted.insert(*input);
            }
        }
    }
    wanted.extend(waves.iter().filter_map(|wave| wave.after));
    wanted
}
