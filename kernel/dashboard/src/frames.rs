//! The stages of frames: how far each is, what it took and gave, whether one task took much longer than the others.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use skep_cluster::{Event, Key, model::stage};

/// Frames that are told, the newest.
const MOST_FRAMES: usize = 20;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stage {
    pub frame: u64,
    pub number: u32,
    pub what: String,
    pub n_tasks: u64,
    pub n_running: u64,
    pub n_done: u64,
    pub n_failed: u64,
    pub n_rows: u64,
    pub n_bytes: u64,
    pub moved_bytes: u64,
    pub total_us: u64,
    pub longest_us: u64,
}

#[derive(Default)]
pub(crate) struct Frames {
    stages: BTreeMap<(u64, u32), Stage>,
    /// Of tasks that are known to the cluster: their stage, and whether they run.
    tasks: HashMap<Key, ((u64, u32), bool)>,
    have_changed: bool,
}

impl Frames {
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Tagged { key, tags } => {
                for stage in tags.iter().filter_map(|tag| tag.parse::<stage::Stage>().ok()) {
                    self.add(*key, stage);
                }
            }
            Event::Assigned { key, moved_bytes, .. } => self.with(*key, true, |stage| {
                stage.moved_bytes += moved_bytes;
            }),
            Event::Done {
                key,
                n_bytes,
                duration_us,
                ..
            } => self.with(*key, false, |stage| {
                stage.n_done += 1;
                stage.n_bytes += n_bytes;
                stage.total_us += duration_us;
                stage.longest_us = stage.longest_us.max(*duration_us);
            }),
            Event::Counted { key, n_rows } => self.with(*key, false, |stage| stage.n_rows += n_rows),
            Event::Failed { key, .. } | Event::Cancelled { key } => {
                self.with(*key, false, |stage| stage.n_failed += 1);
            }
            Event::Retried { key, .. } | Event::Stolen { key, .. } => self.with(*key, false, |_| {}),
            Event::Freed { key } => drop(self.tasks.remove(key)),
            _ => {}
        }
    }

    fn add(&mut self, key: Key, stage: stage::Stage) {
        let at = (stage.query, stage.number);
        if self.tasks.insert(key, (at, false)).is_some() {
            return;
        }
        let known = self.stages.entry(at).or_insert_with(|| Stage {
            frame: stage.query,
            number: stage.number,
            what: stage.what.clone(),
            ..Stage::default()
        });
        if known.what != stage.what {
            // Another process counts its frames from 1 again.
            *known = Stage {
                frame: known.frame,
                number: known.number,
                what: stage.what,
                ..Stage::default()
            };
        }
        known.n_tasks += 1;
        self.have_changed = true;
        let mut frames: Vec<u64> = self.stages.keys().map(|(frame, _)| *frame).collect();
        frames.dedup();
        if let Some(oldest) = frames.len().checked_sub(MOST_FRAMES + 1).map(|at| frames[at]) {
            self.stages.retain(|(frame, _), _| *frame > oldest);
        }
    }

    fn with(&mut self, key: Key, runs: bool, change: impl FnOnce(&mut Stage)) {
        let Some((at, was_running)) = self.tasks.get_mut(&key) else {
            return;
        };
        let before = std::mem::replace(was_running, runs);
        let Some(stage) = self.stages.get_mut(at) else {
            return;
        };
        stage.n_running = (stage.n_running + u64::from(runs)).saturating_sub(u64::from(before));
        change(stage);
        self.have_changed = true;
    }

    /// The newest frame first, its stages in their order.
    pub fn all(&self) -> Vec<Stage> {
        let mut all: Vec<Stage> = self.stages.values().cloned().collect();
        all.sort_by_key(|stage| (std::cmp::Reverse(stage.frame), stage.number));
        all
    }

    /// The same, if it has changed since this was called last.
    pub fn news(&mut self) -> Option<Vec<Stage>> {
        std::mem::take(&mut self.have_changed).then(|| self.all())
    }
}

#[cfg(test)]
mod tests {
    use skep_cluster::{Reason, WorkerId};

    use super::*;

    fn tagged(key: u128, tag: &str) -> Event {
        Event::Tagged {
            key: Key(key),
            tags: vec!["nightly".into(), tag.into()],
        }
    }

    #[test]
    fn tasks_are_counted_by_the_stage_that_they_say() {
        let mut frames = Frames::default();
        assert_eq!(frames.news(), None);
        for key in 0..3 {
            frames.apply(&tagged(key, "stage 1 of frame 4: read a.csv"));
        }
        frames.apply(&tagged(9, "stage 2 of frame 4: group by k"));
        frames.apply(&tagged(10, "not a stage"));
        let assigned = |key| Event::Assigned {
            key: Key(key),
            worker: WorkerId(1),
            why: Reason::LeastBusy,
            moved_bytes: 5,
        };
        let done = |key, duration_us| Event::Done {
            key: Key(key),
            worker: WorkerId(1),
            n_bytes: 100,
            start_us: 0,
            duration_us,
        };
        frames.apply(&assigned(0));
        frames.apply(&assigned(1));
        frames.apply(&done(0, 7));
        frames.apply(&Event::Counted {
            key: Key(0),
            n_rows: 12,
        });
        let failed = |key| Event::Failed {
            key: Key(key),
            why: "no".into(),
        };
        frames.apply(&failed(2));
        let stages = frames.news().unwrap();
        assert_eq!(stages.len(), 2);
        let first = &stages[0];
        assert_eq!(
            (first.n_tasks, first.n_running, first.n_done, first.n_failed),
            (3, 1, 1, 1)
        );
        assert_eq!(
            (first.n_rows, first.n_bytes, first.moved_bytes, first.longest_us),
            (12, 100, 10, 7)
        );
        assert_eq!((stages[1].what.as_str(), stages[1].n_tasks), ("group by k", 1));
        assert_eq!(frames.news(), None);
        frames.apply(&tagged(20, "stage 2 of frame 4: sort"));
        let other = &frames.news().unwrap()[1];
        assert_eq!(
            (other.what.as_str(), other.n_tasks),
            ("sort", 1),
            "of another process"
        );
        frames.apply(&Event::Freed { key: Key(1) });
        frames.apply(&done(1, 7));
        assert_eq!(frames.all()[0].n_done, 1, "a task that is freed is forgotten");
    }

    #[test]
    fn the_newest_frames_are_kept() {
        let mut frames = Frames::default();
        for frame in 0..500 {
            for number in 1..4 {
                frames.apply(&tagged(
                    frame * 10 + number,
                    &format!("stage {number} of frame {frame}: read"),
                ));
            }
        }
        let all = frames.all();
        assert_eq!(
            (all.len(), all[0].frame, all[0].number),
            (3 * MOST_FRAMES, 499, 1)
        );
    }
}
