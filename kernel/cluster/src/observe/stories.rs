//! What happened to each task, kept for as long as the cluster.
//!
//! A journey answers "what happened to this very task, and why did it run there". Dask keeps its last
//! thousand raw tuples; here every task keeps its stages, at about a hundred bytes each, and the reason for
//! the worker that it got.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{
    model::{
        cluster::Memory,
        event::{Event, Reason},
        history::{Attempt, Bar, End, History, Journey, Life, LogLine, Sample, Total},
        ids::{FunctionId, IdMap, Key, KeyMap, WorkerId},
    },
    observe::{
        archive::{Archive, Story},
        logs::Logs,
    },
};

/// A report and a trace show this many tasks at most, the newest.
const MOST_BARS: usize = 100_000;

/// The task stream shows this many.
const MOST_STREAMED: usize = 4_000;

/// Memory is noted for each worker this often.
const SAMPLE_EVERY_US: u64 = 1_000_000;

/// And so many times; then every second note is dropped.
const MOST_SAMPLES: usize = 20_000;

/// So many tasks keep their story; beyond them, those that ended first are forgotten.
const MOST_STORIES: usize = 1_000_000;

/// Everything that happened, by task.
#[derive(Default)]
pub struct Stories {
    tasks: KeyMap<Record>,
    /// Those that are over, and went through the first time.
    archive: Archive,
    /// In the order in which they were submitted, without those in the archive; some of these may still be among them.
    order: VecDeque<Key>,
    /// Of the few tasks that have any.
    tags: KeyMap<Vec<String>>,
    /// Of those that failed.
    why_failed: KeyMap<Box<str>>,
    /// Of those that gave tables.
    rows: KeyMap<u64>,
    names: IdMap<FunctionId, String>,
    recent: VecDeque<Bar>,
    totals: IdMap<FunctionId, Total>,
    workers: BTreeMap<WorkerId, Life>,
    memory: Vec<Sample>,
    losses: Vec<String>,
    logs: Logs,
}

#[derive(Clone)]
struct Record {
    function: FunctionId,
    submitted_us: u64,
    ready_us: u64,
    freed_us: u64,
    last: Attempt,
    /// Those before the last; most tasks have none.
    earlier: Vec<Attempt>,
}

impl Stories {
    /// Forgets the tasks that were submitted first, as long as there are more than `most`; one that has not
    /// ended is looked at again when its turn comes.
    fn forget_oldest(&mut self, most: usize) {
        if self.order.len() > 2 * self.tasks.len() + 1_000 {
            self.order.retain(|key| self.tasks.contains_key(key));
        }
        if self.archive.len() > 0 && self.tasks.len() + self.archive.len() > most {
            for key in self.archive.forget_some() {
                self.forget_words(key);
            }
            return;
        }
        for _ in 0..2 {
            if self.tasks.len() <= most {
                return;
            }
            let Some(key) = self.order.pop_front() else { return };
            match self.tasks.get(&key) {
                Some(record) if record.last.end == End::Open => self.order.push_back(key),
                _ => {
                    self.tasks.remove(&key);
                    self.forget_words(key);
                }
            }
        }
    }

    fn forget_words(&mut self, key: Key) {
        self.tags.remove(&key);
        self.why_failed.remove(&key);
        self.rows.remove(&key);
    }

    /// A task whose value nobody needs any more goes to the archive.
    fn put_by(&mut self, key: Key) {
        let Some(record) = self.tasks.get(&key) else {
            return;
        };
        if !record.earlier.is_empty() || record.last.end != End::Done {
            return;
        }
        let story = Story {
            function: record.function,
            submitted_us: record.submitted_us,
            ready_us: record.ready_us,
            freed_us: record.freed_us,
            attempt: record.last.clone(),
        };
        if self.archive.add(key, &story) {
            self.tasks.remove(&key);
            // The map has grown with the most that were under way at once.
            if self.tasks.capacity() > 4 * self.tasks.len() + 100_000 {
                self.tasks.shrink_to(2 * self.tasks.len());
            }
        }
    }

    /// A task of the archive runs again: its value is needed once more.
    fn take_up(&mut self, key: Key) {
        if let Some(story) = self.archive.take(key) {
            self.tasks.insert(key, Record::from(story));
            self.order.push_back(key);
        }
    }

    /// Takes in an event that happened at `now_us`.
    pub fn apply(&mut self, event: &Event, now_us: u64) {
        if let Some(key) = again(event) {
            self.take_up(key);
        }
        let tasks = &self.tasks;
        self.logs
            .apply(event, now_us, |key| tasks.get(&key).map(|record| record.function));
        match event {
            Event::Function { id, name } => {
                self.names.insert(*id, name.clone());
                self.totals.entry(*id).or_default().function.clone_from(name);
            }
            Event::Submitted { key, function, .. } => {
                let earlier = self
                    .tasks
                    .get_mut(key)
                    .map(Record::take_attempts)
                    .unwrap_or_default();
                let record = Record {
                    function: *function,
                    submitted_us: now_us,
                    ready_us: now_us,
                    freed_us: 0,
                    last: Attempt::default(),
                    earlier,
                };
                if self.tasks.insert(*key, record).is_none() {
                    self.order.push_back(*key);
                    self.forget_oldest(MOST_STORIES);
                }
            }
            Event::Tagged { key, tags } => drop(self.tags.insert(*key, tags.clone())),
            Event::Ready { key } => drop(self.with(*key, |record| record.ready_us = now_us)),
            Event::Assigned {
                key,
                worker,
                why,
                moved_bytes,
            } => {
                let function = self.with(*key, |record| {
                    record.push(Attempt {
                        assigned_us: now_us,
                        worker: Some(*worker),
                        why: *why,
                        moved_bytes: *moved_bytes,
                        ..Attempt::default()
                    });
                });
                self.total(function, |total| total.moved_bytes += moved_bytes);
            }
            Event::Done {
                key,
                worker,
                n_bytes,
                start_us,
                duration_us,
            } => {
                let function = self.with(*key, |record| {
                    let last = &mut record.last;
                    (last.start_us, last.duration_us, last.n_bytes) = (*start_us, *duration_us, *n_bytes);
                    (last.ended_us, last.end) = (now_us, End::Done);
                    // Another engine tells a moment later what it did.
                    if last.why == Reason::Elsewhere {
                        last.assigned_us = last.assigned_us.min(*start_us);
                        last.ended_us = start_us + duration_us;
                    }
                });
                self.total(function, |total| {
                    total.n_done += 1;
                    total.total_us += duration_us;
                    total.longest_us = total.longest_us.max(*duration_us);
                    total.n_bytes += n_bytes;
                });
                if let Some(function) = function {
                    self.recent.push_back(Bar {
                        key: *key,
                        worker: *worker,
                        function,
                        start_us: *start_us,
                        duration_us: *duration_us,
                    });
                    if self.recent.len() > MOST_BARS {
                        self.recent.pop_front();
                    }
                }
            }
            Event::Counted { key, n_rows } => {
                self.rows.insert(*key, *n_rows);
                let function = self.tasks.get(key).map(|record| record.function);
                self.total(function, |total| total.n_rows += n_rows);
            }
            Event::Failed { key, why } => {
                self.why_failed.insert(*key, why.as_str().into());
                let function = self.end(*key, End::Failed, now_us);
                self.total(function, |total| total.n_failed += 1);
            }
            Event::Cancelled { key } => drop(self.end(*key, End::Cancelled, now_us)),
            Event::Retried { key, has_failed } => {
                let function = self.end(*key, if *has_failed { End::Failed } else { End::Lost }, now_us);
                self.total(function, |total| total.n_repeated += 1);
            }
            Event::Stolen { key, .. } => drop(self.end(*key, End::Stolen, now_us)),
            Event::Freed { key } => {
                self.with(*key, |record| record.freed_us = now_us);
                self.put_by(*key);
            }
            Event::WorkerJoined { worker, pid } => {
                self.workers.insert(
                    *worker,
                    Life {
                        worker: worker.to_string(),
                        pid: *pid,
                        joined_us: now_us,
                        ..Life::default()
                    },
                );
            }
            Event::WorkerLost { worker, cause } => {
                self.losses.push(format!("{worker}: {cause}"));
                self.leave(*worker, cause, now_us);
            }
            Event::WorkerRetired { worker } => self.leave(*worker, "fewer were wanted", now_us),
            Event::Printed { .. }
            | Event::Moved { .. }
            | Event::Progressed { .. }
            | Event::Stalled { .. }
            | Event::WorkerPaused { .. }
            | Event::WorkerResumed { .. }
            | Event::WorkerSilent { .. } => {}
        }
    }

    fn leave(&mut self, worker: WorkerId, why: &str, now_us: u64) {
        if let Some(life) = self.workers.get_mut(&worker) {
            (life.left_us, life.why) = (now_us, why.to_string());
        }
    }

    fn total(&mut self, function: Option<FunctionId>, change: impl FnOnce(&mut Total)) {
        if let Some(total) = function.and_then(|function| self.totals.get_mut(&function)) {
            change(total);
        }
    }

    /// The newest lines of the log.
    pub fn logs(&self) -> Vec<LogLine> {
        self.logs
            .lines(|function| self.names.get(&function).cloned().unwrap_or_default())
    }

    /// Takes in a heartbeat.
    pub fn note_memory(&mut self, worker: WorkerId, memory: Memory, now_us: u64) {
        let is_due = self
            .memory
            .iter()
            .rev()
            .take(64)
            .find(|sample| sample.worker == worker)
            .is_none_or(|last| now_us >= last.at_us + SAMPLE_EVERY_US);
        if !is_due {
            return;
        }
        self.memory.push(Sample {
            at_us: now_us,
            worker,
            resident: memory.resident,
            spilled: memory.spilled,
        });
        if self.memory.len() > MOST_SAMPLES {
            let mut n = 0;
            self.memory.retain(|_| {
                n += 1;
                n % 2 == 0
            });
        }
    }

    /// Everything that happened.
    pub fn history(&self) -> History {
        let mut ids: Vec<&FunctionId> = self.totals.keys().collect();
        ids.sort_by_key(|id| std::cmp::Reverse(self.totals[id].total_us));
        let place: HashMap<&FunctionId, u32> =
            ids.iter().enumerate().map(|(i, id)| (*id, i as u32)).collect();
        History {
            bars: self
                .recent
                .iter()
                .filter_map(|bar| Some((bar.clone(), *place.get(&bar.function)?)))
                .collect(),
            totals: ids.iter().map(|id| self.totals[id].clone()).collect(),
            workers: self.workers.values().cloned().collect(),
            memory: self.memory.clone(),
            losses: self.losses.clone(),
        }
    }

    /// The functions, and the tasks that have not ended, as the events that would make them: for who begins to watch.
    pub fn open(&self) -> Vec<Event> {
        let mut events: Vec<Event> = self
            .names
            .iter()
            .map(|(id, name)| Event::Function {
                id: *id,
                name: name.clone(),
            })
            .collect();
        for key in &self.order {
            let Some(record) = self.tasks.get(key).filter(|record| record.last.end == End::Open) else {
                continue;
            };
            events.push(Event::Submitted {
                key: *key,
                function: record.function,
                origin: 0,
                inputs: [].into(),
            });
            events.extend(self.tags.get(key).map(|tags| Event::Tagged {
                key: *key,
                tags: tags.clone(),
            }));
            if let Some(worker) = record.last.worker {
                events.push(Event::Assigned {
                    key: *key,
                    worker,
                    why: record.last.why,
                    moved_bytes: record.last.moved_bytes,
                });
            }
        }
        events
    }

    /// Changes the record of a task, and says which function it is of.
    fn with(&mut self, key: Key, change: impl FnOnce(&mut Record)) -> Option<FunctionId> {
        let record = self.tasks.get_mut(&key)?;
        change(record);
        Some(record.function)
    }

    fn end(&mut self, key: Key, end: End, now_us: u64) -> Option<FunctionId> {
        self.with(key, |record| {
            if record.last.end == End::Open || end == End::Lost {
                (record.last.ended_us, record.last.end) = (now_us, end);
            }
        })
    }

    /// What happened to a task; `None` for one that was never submitted here.
    pub fn journey(&self, key: Key) -> Option<Journey> {
        let archived = || self.archive.get(key).map(Record::from);
        let record = self.tasks.get(&key).cloned().or_else(archived)?;
        let mut attempts = record.earlier.clone();
        attempts.extend(
            (record.last.worker.is_some() || record.last.end != End::Open).then(|| record.last.clone()),
        );
        Some(Journey {
            name: self.names.get(&record.function).cloned().unwrap_or_default(),
            key: key.to_string(),
            tags: self.tags.get(&key).cloned().unwrap_or_default(),
            why_failed: self
                .why_failed
                .get(&key)
                .map(ToString::to_string)
                .unwrap_or_default(),
            n_rows: self.rows.get(&key).copied(),
            submitted_us: record.submitted_us,
            ready_us: record.ready_us,
            attempts,
            gathered_us: 0,
            freed_us: record.freed_us,
        })
    }

    /// The newest tasks that ran, with their functions' names.
    pub fn stream(&self) -> Vec<(Bar, String)> {
        let n_older = self.recent.len().saturating_sub(MOST_STREAMED);
        self.recent
            .iter()
            .skip(n_older)
            .map(|bar| {
                (
                    bar.clone(),
                    self.names.get(&bar.function).cloned().unwrap_or_default(),
                )
            })
            .collect()
    }
}

impl From<Story> for Record {
    fn from(story: Story) -> Record {
        Record {
            function: story.function,
            submitted_us: story.submitted_us,
            ready_us: story.ready_us,
            freed_us: story.freed_us,
            last: story.attempt,
            earlier: Vec::new(),
        }
    }
}

/// The task that an event sets going.
fn again(event: &Event) -> Option<Key> {
    match event {
        Event::Submitted { key, .. } | Event::Ready { key } | Event::Assigned { key, .. } => Some(*key),
        _ => None,
    }
}

impl Record {
    fn push(&mut self, attempt: Attempt) {
        let before = std::mem::replace(&mut self.last, attempt);
        if before.worker.is_some() {
            self.earlier.push(before);
        }
    }

    fn take_attempts(&mut self) -> Vec<Attempt> {
        let mut earlier = std::mem::take(&mut self.earlier);
        let last = std::mem::take(&mut self.last);
        if last.worker.is_some() {
            earlier.push(last);
        }
        earlier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_render::Rich;

    use crate::model::event::Reason;

    #[test]
    fn a_journey_tells_each_stage_and_each_attempt() {
        let (key, function) = (Key(7 << 96), FunctionId(1));
        let mut stories = Stories::default();
        let events = [
            (
                0,
                Event::Function {
                    id: function,
                    name: "add".into(),
                },
            ),
            (
                1_000,
                Event::Submitted {
                    key,
                    function,
                    origin: 0,
                    inputs: [].into(),
                },
            ),
            (3_000, Event::Ready { key }),
            (
                3_100,
                Event::Assigned {
                    key,
                    worker: WorkerId(1),
                    why: Reason::Inputs,
                    moved_bytes: 2048,
                },
            ),
            (
                4_000,
                Event::Retried {
                    key,
                    has_failed: false,
                },
            ),
            (
                4_100,
                Event::Assigned {
                    key,
                    worker: WorkerId(2),
                    why: Reason::Alone,
                    moved_bytes: 0,
                },
            ),
            (
                6_000,
                Event::Done {
                    key,
                    worker: WorkerId(2),
                    n_bytes: 8,
                    start_us: 4_500,
                    duration_us: 1_200,
                },
            ),
            (9_000, Event::Freed { key }),
        ];
        for (now, event) in &events {
            stories.apply(event, *now);
        }
        let journey = stories.journey(key).unwrap();
        insta::assert_snapshot!(journey.bundle().plain(), @r"
        Journey of add (00000007): done, 2 attempts
          stage         at       what happened
          submitted     0 µs
          inputs ready  2.00 ms  waited 2.00 ms for the tasks it needs
          assigned      2.10 ms  to worker-1: it holds the inputs, so that the fewest
                                 bytes move; 2.0 KiB to move there
          lost          3.00 ms  worker-1 died, or an input was lost with another; it
                                 runs again
          assigned      3.10 ms  to worker-2: a worker died under this task before, so
                                 it got an idle one to itself
          started       3.50 ms  after 400 µs on the way, for inputs, and in the
                                 worker's queue
          done          5.00 ms  ran 1.20 ms; 8 B kept on worker-2
          freed         8.00 ms  no handle and no task needed the value any more
        ");
        assert_eq!(stories.stream().len(), 1);
        assert_eq!(stories.journey(Key(1)), None);
    }

    #[test]
    fn the_oldest_stories_are_forgotten_and_open_ones_stay() {
        let mut stories = Stories::default();
        for n in 1..=10 {
            stories.apply(
                &Event::Submitted {
                    key: Key(n),
                    function: FunctionId(1),
                    origin: 0,
                    inputs: [].into(),
                },
                n as u64,
            );
            if n > 2 {
                stories.apply(
                    &Event::Done {
                        key: Key(n),
                        worker: WorkerId(1),
                        n_bytes: 8,
                        start_us: 1,
                        duration_us: 1,
                    },
                    n as u64,
                );
            }
        }
        for _ in 0..10 {
            stories.forget_oldest(5);
        }
        let left: Vec<u128> = (1..=10).filter(|n| stories.journey(Key(*n)).is_some()).collect();
        assert_eq!(left, [1, 2, 8, 9, 10]);
    }
}
