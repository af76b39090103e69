//! How far tasks are, by function.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::{
    event::Event,
    ids::{FunctionId, Key, KeyMap, WorkerId},
};

/// Counts by function since [`Progress::begin`], for bars.
#[derive(Debug, Default)]
pub struct Progress {
    names: HashMap<FunctionId, String>,
    tasks: KeyMap<Open>,
    /// Tasks whose values were let go: the oldest of them are forgotten.
    freed: VecDeque<Key>,
    rows: BTreeMap<u64, ProgressRow>,
    order: HashMap<FunctionId, u64>,
    pub losses: Vec<String>,
    /// Running tasks that told how far they are.
    told: KeyMap<f64>,
    /// What is the matter with workers now.
    notes: BTreeMap<WorkerId, String>,
    /// Why nothing runs although tasks wait.
    stall: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    function: FunctionId,
    stage: Stage,
    origin: u32,
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

/// So many tasks whose values were let go are remembered: they may run again.
const MOST_FREED: usize = 100_000;

impl Progress {
    /// Starts counting anew; tasks that are still under way stay in the count.
    pub fn begin(&mut self) {
        self.tasks
            .retain(|_, open| matches!(open.stage, Stage::Waiting | Stage::Running));
        self.tasks.shrink_to_fit();
        self.freed = VecDeque::new();
        self.rows.clear();
        self.order.clear();
        self.losses.clear();
        let open: Vec<Open> = self.tasks.values().copied().collect();
        for Open { function, stage, .. } in open {
            *count_of(self.row(function), stage) += 1;
        }
    }

    /// What a task belongs to.
    pub fn origin_of(&self, key: Key) -> Option<u32> {
        self.tasks.get(&key).map(|open| open.origin)
    }

    /// What is the matter with workers, in words.
    pub fn notes(&self) -> Vec<String> {
        let notes = self.notes.iter().map(|(worker, note)| format!("{worker} {note}"));
        let stall = self.stall.iter().map(|why| format!("waiting: {why}"));
        self.losses.iter().cloned().chain(notes).chain(stall).collect()
    }

    /// What the running tasks of each function have done, as they told themselves: parts of a task.
    pub fn parts_done(&self) -> HashMap<String, f64> {
        let mut done: HashMap<String, f64> = HashMap::new();
        for (key, part) in &self.told {
            let Some(open) = self.tasks.get(key) else { continue };
            let name = self.names.get(&open.function).cloned().unwrap_or_default();
            *done.entry(name).or_default() += part;
        }
        done
    }

    /// Its count stays.
    fn forget(&mut self, key: Key) {
        self.freed.push_back(key);
        if self.freed.len() > MOST_FREED
            && let Some(oldest) = self.freed.pop_front()
            && self
                .tasks
                .get(&oldest)
                .is_some_and(|open| open.stage == Stage::Done)
        {
            self.tasks.remove(&oldest);
        }
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Function { id, name } => drop(self.names.insert(*id, name.clone())),
            Event::Submitted {
                key,
                function,
                origin,
                ..
            } => {
                let open = Open {
                    function: *function,
                    stage: Stage::Waiting,
                    origin: *origin,
                };
                let before = self.tasks.insert(*key, open);
                if let Some(Open { function, stage, .. }) = before {
                    let count = count_of(self.row(function), stage);
                    *count = count.saturating_sub(1);
                }
                *count_of(self.row(*function), Stage::Waiting) += 1;
            }
            Event::Assigned { key, .. } => self.change(*key, Stage::Running),
            Event::Done { key, .. } => self.change(*key, Stage::Done),
            Event::Failed { key, .. } => self.change(*key, Stage::Failed),
            Event::Cancelled { key } => self.change(*key, Stage::Cancelled),
            Event::Retried { key, .. } | Event::Stolen { key, .. } => self.change(*key, Stage::Waiting),
            Event::Freed { key } => self.forget(*key),
            Event::Ready { .. }
            | Event::Tagged { .. }
            | Event::Moved { .. }
            | Event::Counted { .. }
            | Event::WorkerJoined { .. }
            | Event::WorkerRetired { .. }
            | Event::Printed { .. } => {}
            Event::Progressed { key, n_done, n_total } => {
                if self
                    .tasks
                    .get(key)
                    .is_some_and(|open| open.stage == Stage::Running)
                    && *n_total > 0
                {
                    self.told
                        .insert(*key, (*n_done as f64 / *n_total as f64).min(1.0));
                }
            }
            Event::Stalled { why } => self.stall.clone_from(why),
            Event::WorkerPaused { worker } => {
                let note = "is paused: its memory is over 80 % of the limit; it goes on when there is room"
                    .to_string();
                self.notes.insert(*worker, note);
            }
            Event::WorkerSilent {
                worker,
                is_back: false,
            } => {
                self.notes.insert(
                    *worker,
                    "has not answered for seconds: is it stopped, or the machine overloaded?".to_string(),
                );
            }
            Event::WorkerResumed { worker } | Event::WorkerSilent { worker, .. } => {
                drop(self.notes.remove(worker))
            }
            Event::WorkerLost { worker, cause } => {
                self.notes.remove(worker);
                self.losses.push(format!("{worker} died: {cause}"));
            }
        }
    }

    /// In the order in which the functions were first submitted.
    pub fn rows(&self) -> impl Iterator<Item = &ProgressRow> {
        self.rows.values().filter(|row| row.total() > 0)
    }

    /// Tasks of this cell that have not ended.
    pub fn n_open_of(&self, cell: u32) -> usize {
        let is_open =
            |open: &&Open| open.origin == cell && matches!(open.stage, Stage::Waiting | Stage::Running);
        self.tasks.values().filter(is_open).count()
    }

    pub fn n_open(&self) -> u64 {
        self.rows.values().map(|row| row.n_waiting + row.n_running).sum()
    }

    fn change(&mut self, key: Key, to: Stage) {
        let Some(open) = self.tasks.get_mut(&key) else {
            return;
        };
        let (function, from) = (open.function, std::mem::replace(&mut open.stage, to));
        if !self.told.is_empty() {
            self.told.remove(&key);
        }
        let row = self.row(function);
        let count = count_of(row, from);
        *count = count.saturating_sub(1);
        *count_of(row, to) += 1;
    }

    fn row(&mut self, function: FunctionId) -> &mut ProgressRow {
        let next = self.order.len() as u64;
        let at = *self.order.entry(function).or_insert(next);
        let name = self.names.get(&function);
        self.rows.entry(at).or_insert_with(|| ProgressRow {
            name: name.cloned().unwrap_or_default(),
            ..ProgressRow::default()
        })
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
    let done = Event::Done {
        key,
        worker,
        n_bytes: 8,
        start_us: 0,
        duration_us: 5,
    };
    for event in [
        Event::Function {
            id: function,
            name: "inc".into(),
        },
        Event::Submitted {
            key,
            function,
            origin: 1,
            inputs: [].into(),
        },
        Event::Assigned {
            key,
            worker,
            why: crate::model::event::Reason::LeastBusy,
            moved_bytes: 0,
        },
    ] {
        progress.apply(&event);
    }
    assert_eq!(progress.n_open(), 1);
    progress.apply(&Event::Progressed {
        key,
        n_done: 1,
        n_total: 4,
    });
    assert_eq!(progress.parts_done(), HashMap::from([("inc".to_string(), 0.25)]));
    progress.apply(&done);
    assert_eq!(progress.parts_done(), HashMap::new());
    let row = progress.rows().next().unwrap();
    assert_eq!((row.name.as_str(), row.n_done, row.total()), ("inc", 1, 1));
    progress.begin();
    assert_eq!(progress.rows().count(), 0, "what is done is not counted again");
}
