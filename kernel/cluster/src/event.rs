//! The one stream of events that progress, graphs and reports read.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::{FunctionId, Key, WorkerId, ids::KeyMap};

/// Something that happened in the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Function {
        id: FunctionId,
        name: String,
    },
    Submitted {
        key: Key,
        function: FunctionId,
    },
    /// The last of its inputs is there; said of tasks that had to wait.
    Ready {
        key: Key,
    },
    Assigned {
        key: Key,
        worker: WorkerId,
        why: Reason,
        /// Bytes of inputs that have to come from other workers.
        moved_bytes: u64,
    },
    Done {
        key: Key,
        worker: WorkerId,
        n_bytes: u64,
        start_us: u64,
        duration_us: u64,
    },
    Failed {
        key: Key,
    },
    Cancelled {
        key: Key,
    },
    /// It will run again.
    Retried {
        key: Key,
        /// It failed itself; else its worker died, or a value was lost.
        has_failed: bool,
    },
    Freed {
        key: Key,
    },
    WorkerJoined {
        worker: WorkerId,
        pid: u32,
    },
    WorkerLost {
        worker: WorkerId,
        cause: String,
    },
    /// It was told to go, since fewer are wanted.
    WorkerRetired {
        worker: WorkerId,
    },
}

/// Why a task got the worker that it got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    OnlyOne,
    /// Elsewhere more bytes would have had to move.
    Inputs,
    #[default]
    LeastBusy,
    /// It was on a dying worker before.
    Alone,
}

/// Counts by function since [`Progress::begin`], for bars.
#[derive(Debug, Default)]
pub struct Progress {
    names: HashMap<FunctionId, String>,
    tasks: KeyMap<(FunctionId, Stage)>,
    rows: BTreeMap<u64, ProgressRow>,
    order: HashMap<FunctionId, u64>,
    pub losses: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressRow {
    pub name: String,
    pub n_waiting: u64,
    pub n_running: u64,
    pub n_done: u64,
    pub n_failed: u64,
    pub n_cancelled: u64,
}

impl ProgressRow {
    pub fn total(&self) -> u64 {
        self.n_waiting + self.n_running + self.n_done + self.n_failed + self.n_cancelled
    }
}

impl Progress {
    /// Starts counting anew; tasks that are still under way stay in the count.
    pub fn begin(&mut self) {
        self.tasks.retain(|_, (_, stage)| matches!(stage, Stage::Waiting | Stage::Running));
        self.rows.clear();
        self.order.clear();
        self.losses.clear();
        let open: Vec<(FunctionId, Stage)> = self.tasks.values().copied().collect();
        for (function, stage) in open {
            *count_of(self.row(function), stage) += 1;
        }
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Function { id, name } => drop(self.names.insert(*id, name.clone())),
            Event::Submitted { key, function } => {
                let before = self.tasks.insert(*key, (*function, Stage::Waiting));
                if let Some((function, stage)) = before {
                    let count = count_of(self.row(function), stage);
                    *count = count.saturating_sub(1);
                }
                *count_of(self.row(*function), Stage::Waiting) += 1;
            }
            Event::Assigned { key, .. } => self.change(*key, Stage::Running),
            Event::Done { key, .. } => self.change(*key, Stage::Done),
            Event::Failed { key } => self.change(*key, Stage::Failed),
            Event::Cancelled { key } => self.change(*key, Stage::Cancelled),
            Event::Retried { key, .. } => self.change(*key, Stage::Waiting),
            Event::Ready { .. } | Event::Freed { .. } | Event::WorkerJoined { .. } | Event::WorkerRetired { .. } => {}
            Event::WorkerLost { worker, cause } => self.losses.push(format!("{worker} died: {cause}")),
        }
    }

    /// In the order in which the functions were first submitted.
    pub fn rows(&self) -> impl Iterator<Item = &ProgressRow> {
        self.rows.values().filter(|row| row.total() > 0)
    }

    pub fn n_open(&self) -> u64 {
        self.rows.values().map(|row| row.n_waiting + row.n_running).sum()
    }

    fn change(&mut self, key: Key, to: Stage) {
        let Some((function, stage)) = self.tasks.get_mut(&key) else { return };
        let (function, from) = (*function, std::mem::replace(stage, to));
        let row = self.row(function);
        let count = count_of(row, from);
        *count = count.saturating_sub(1);
        *count_of(row, to) += 1;
    }

    fn row(&mut self, function: FunctionId) -> &mut ProgressRow {
        let next = self.order.len() as u64;
        let at = *self.order.entry(function).or_insert(next);
        let name = self.names.get(&function);
        self.rows.entry(at).or_insert_with(|| ProgressRow { name: name.cloned().unwrap_or_default(), ..ProgressRow::default() })
    }
}

fn count_of(row: &mut ProgressRow, stage: Stage) -> &mut u64 {
    match stage {
        Stage::Waiting => &mut row.n_waiting,
        Stage::Running => &mut row.n_running,
        Stage::Done => &mut row.n_done,
        Stage::Failed => &mut row.n_failed,
        Stage::Cancelled => &mut row.n_cancelled,
    }
}

#[test]
fn counts_follow_the_events() {
    let (key, function, worker) = (Key(7), FunctionId(1), WorkerId(1));
    let mut progress = Progress::default();
    let done = Event::Done { key, worker, n_bytes: 8, start_us: 0, duration_us: 5 };
    for event in [
        Event::Function { id: function, name: "inc".into() },
        Event::Submitted { key, function },
        Event::Assigned { key, worker, why: Reason::LeastBusy, moved_bytes: 0 },
    ] {
        progress.apply(&event);
    }
    assert_eq!(progress.n_open(), 1);
    progress.apply(&done);
    let row = progress.rows().next().unwrap();
    assert_eq!((row.name.as_str(), row.n_done, row.total()), ("inc", 1, 1));
    progress.begin();
    assert_eq!(progress.rows().count(), 0, "what is done is not counted again");
}
