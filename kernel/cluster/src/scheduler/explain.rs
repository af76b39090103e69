//! Why a task is where it is: what it waits for, in words.

use super::{Comm, Key, Record, Scheduler, State};
use crate::model::{event::Event, history::Explanation, ids::WorkerId, task::Task};

/// So many inputs are named.
const MOST_NAMED: usize = 5;

/// After so many looks that found tasks waiting and none that runs, that is told.
const LOOKS_BEFORE_STALL: u32 = 2;

impl Scheduler {
    /// A task as it was submitted; `None` for one that is not known here.
    pub fn task(&self, key: Key) -> Option<Task> {
        self.tasks.get(&key).map(|record| (*record.task).clone())
    }

    /// What a task waits for; `None` for one that is not known here.
    pub fn explain(&self, key: Key) -> Option<Explanation> {
        let record = self.tasks.get(&key)?;
        let (state, reasons) = match &record.state {
            State::Waiting { .. } => ("waiting", self.why_waiting(key, record)),
            State::Ready => ("queued", self.why_queued(key, record)),
            State::Assigned(worker) => ("assigned", self.why_assigned(key, *worker)),
            State::Done { holders } => {
                let holders: Vec<String> = holders.iter().map(WorkerId::to_string).collect();
                // A small one travels with the word that it is done, and outlasts its worker.
                let place = if holders.is_empty() {
                    "with the scheduler".to_string()
                } else {
                    format!("on {}", holders.join(", "))
                };
                let kept = format!("its value is {place}, {}", skep_render::bytes(record.n_bytes));
                (
                    "done",
                    vec![
                        kept,
                        format!(
                            "{} and {} need it",
                            count(record.wanted_by.len(), "handle"),
                            count(record.n_pending as usize, "task")
                        ),
                    ],
                )
            }
            State::Failed(error) => ("failed", vec![error.to_string()]),
            State::Freed => (
                "freed",
                vec![
                    "it ran, and nothing needed its value any more; it runs again when something does"
                        .to_string(),
                ],
            ),
        };
        Some(Explanation {
            function: self.name_of(key),
            key: key.to_string(),
            state: state.to_string(),
            reasons,
        })
    }

    fn why_waiting(&self, key: Key, record: &Record) -> Vec<String> {
        if let Some((at, _, _)) = self
            .timers
            .iter()
            .find(|(_, of, timer)| *of == key && *timer == super::Timer::Retry)
        {
            let left = std::time::Duration::from_micros(at.saturating_sub(self.now_us));
            return vec![format!(
                "it failed {}, and is tried again in {}",
                count(record.n_failures as usize, "time"),
                skep_render::duration(left)
            )];
        }
        let open: Vec<&Key> = record
            .inputs
            .iter()
            .filter(|input| {
                self.tasks
                    .get(*input)
                    .is_some_and(|input| input.state.is_pending())
            })
            .collect();
        let mut reasons = vec![format!(
            "it needs {}, of which {} not there yet",
            count(record.inputs.len(), "value"),
            are(open.len())
        )];
        for input in open.iter().take(MOST_NAMED) {
            let about = match &self.tasks[*input].state {
                State::Waiting { .. } => "which waits for others itself".to_string(),
                State::Ready => "which waits for a worker".to_string(),
                State::Assigned(worker) => format!("which {worker} has"),
                _ => continue,
            };
            reasons.push(format!("`{}` ({input}), {about}", self.name_of(**input)));
        }
        reasons.extend((open.len() > MOST_NAMED).then(|| format!("and {} more", open.len() - MOST_NAMED)));
        reasons
    }

    fn why_queued(&self, key: Key, record: &Record) -> Vec<String> {
        let code = self
            .functions
            .get(&record.task.function)
            .map(|function| function.code);
        if code.is_some_and(|code| {
            self.without_code
                .get(&code)
                .is_some_and(|waiting| waiting.contains(&key))
        }) {
            return vec!["its function is being compiled at release speed; that takes half a second, once for each cell".into()];
        }
        if self.workers.is_empty() {
            return vec!["there is no worker".into()];
        }
        let mut reasons = Vec::new();
        let options = record.task.options.as_deref();
        if record.deaths > 0 {
            reasons.push(format!(
                "a worker died under it ({}), so it waits for one that is idle",
                record.last_death.as_deref().unwrap_or_default()
            ));
        }
        if let Some(options) = options.filter(|options| !options.workers.is_empty()) {
            let workers: Vec<String> = options.workers.iter().map(WorkerId::to_string).collect();
            reasons.push(format!("it may run on {} only", workers.join(", ")));
        }
        for wanted in options
            .map(|options| options.resources.as_slice())
            .unwrap_or_default()
        {
            reasons.push(format!(
                "it needs {} = {}, which other tasks use now",
                wanted.name, wanted.amount
            ));
        }
        let n_paused = self
            .workers
            .values()
            .filter(|worker| worker.memory.is_paused)
            .count();
        if n_paused > 0 {
            let n = self.workers.len();
            reasons.push(format!(
                "{n_paused} of {} paused: memory is over 80 % of the limit",
                count(n, "worker")
            ));
        }
        if self.workers.values().all(|worker| worker.assigned.is_empty()) {
            return reasons;
        }
        let n_before = self.queue_before(record.task.priority);
        reasons.push(format!(
            "all workers are busy, and {} before it",
            if n_before == 1 {
                "1 task is".into()
            } else {
                format!("{n_before} tasks are")
            }
        ));
        reasons
    }

    /// To be called once a second: tells when tasks have been waiting for a while although none runs, and when that ends.
    pub fn check_stall(&mut self, comm: &mut impl Comm) {
        let is_stalled = self.queue.len() > 0
            && self.without_code.is_empty()
            && self.workers.values().all(|worker| worker.assigned.is_empty());
        let first = || {
            let ready = self
                .tasks
                .iter()
                .filter(|(_, record)| record.state == State::Ready);
            ready.min_by_key(|(_, record)| record.task.priority)
        };
        let Some((key, record)) = is_stalled.then(first).flatten() else {
            if std::mem::take(&mut self.n_stalled) >= LOOKS_BEFORE_STALL {
                comm.event(Event::Stalled { why: None });
            }
            return;
        };
        let why = self.why_queued(*key, record).join("; ");
        self.n_stalled += 1;
        if self.n_stalled == LOOKS_BEFORE_STALL {
            comm.event(Event::Stalled { why: Some(why) });
        }
    }

    fn queue_before(&self, priority: u64) -> usize {
        self.tasks
            .values()
            .filter(|record| record.state == State::Ready && record.task.priority < priority)
            .count()
    }

    fn why_assigned(&self, key: Key, id: WorkerId) -> Vec<String> {
        let Some(worker) = self.workers.get(&id) else {
            return Vec::new();
        };
        let mut reasons = vec![format!(
            "{id} has it, and {} beside it",
            count(worker.assigned.len().saturating_sub(1), "task")
        )];
        if worker.memory.is_paused {
            reasons.push(format!("{id} is paused: memory is over 80 % of its limit"));
        }
        if worker.is_silent {
            reasons.push(format!("{id} has not answered for seconds"));
        }
        if worker.seceded.contains(&key) {
            reasons.push("it waits for tasks that it submitted itself".into());
        }
        reasons
    }
}

fn count(n: usize, what: &str) -> String {
    skep_render::plural(n, what)
}

fn are(n: usize) -> String {
    if n == 1 {
        "1 is".to_string()
    } else {
        format!("{n} are")
    }
}
