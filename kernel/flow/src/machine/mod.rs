//! The tasks of flow runs as a pure state machine: what happened comes in, what is to be done comes out.
//!
//! Time and chance are inputs, so that tests can play years and every crash. What runs calls, keeps the journal and looks
//! into the cache is [`crate::driver`]. Tasks of all runs are in one machine, since limits hold for all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::{policy::Policy, state::State};

#[cfg(test)]
mod tests;

/// A task of a run, by the number of the run in this process and its own number in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskId {
    pub run: u32,
    pub no: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Note that a task is in this state now, and why.
    Record {
        id: TaskId,
        state: State,
        reason: String,
        attempt: u32,
    },
    /// See whether its value is there from an earlier run, and say so with [`Machine::looked_up`].
    LookUp(TaskId),
    /// Run its call.
    Launch { id: TaskId, attempt: u32 },
    /// Stop its call.
    Stop(TaskId),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Done,
    Failed(String),
    /// What it ran on was lost.
    Crashed(String),
}

struct Entry {
    name: Arc<str>,
    policy: Arc<Policy>,
    state: State,
    /// The attempts that were begun.
    attempt: u32,
    /// Inputs that are not there yet.
    n_missing: usize,
    consumers: Vec<u32>,
    was_looked_up: bool,
    /// It counts for its tags.
    holds_room: bool,
    retry_at: u64,
}

pub(crate) struct Machine {
    entries: HashMap<TaskId, Entry>,
    /// When tasks run again, in microseconds of the caller's clock.
    timers: BTreeSet<(u64, TaskId)>,
    /// How many tasks of a tag run.
    used: BTreeMap<String, usize>,
    /// Tasks that wait for room with a tag, in the order in which they came.
    queues: BTreeMap<String, VecDeque<TaskId>>,
    random: fastrand::Rng,
}

impl Machine {
    pub fn new(seed: u64) -> Machine {
        Machine {
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            used: BTreeMap::new(),
            queues: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// When [`Machine::tick`] has something to do.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn state(&self, id: TaskId) -> Option<State> {
        self.entries.get(&id).map(|entry| entry.state)
    }

    /// A task whose inputs are these tasks of its run, which were submitted before it. One whose value is known from the
    /// journal is `restored` in that state. Attempts are counted anew: what failed before has been mended since.
    pub fn submit(
        &mut self,
        id: TaskId,
        name: Arc<str>,
        policy: Arc<Policy>,
        inputs: &[u32],
        restored: Option<State>,
        out: &mut Vec<Action>,
    ) {
        let mut entry = Entry {
            name,
            policy,
            state: restored.unwrap_or(State::Pending),
            attempt: 0,
            n_missing: 0,
            consumers: Vec::new(),
            was_looked_up: false,
            holds_room: false,
            retry_at: 0,
        };
        if restored.is_some() {
            self.entries.insert(id, entry);
            return;
        }
        let mut lost = None;
        for no in inputs {
            let input = self.entries.get_mut(&TaskId { no: *no, ..id });
            match input {
                Some(input) if input.state.is_good() => {}
                Some(input) if !input.state.is_final() => {
                    input.consumers.push(id.no);
                    entry.n_missing += 1;
                }
                Some(input) => lost = lost.or(Some(because(input))),
                None => lost = lost.or(Some("something that it needs is not known".to_string())),
            }
        }
        let is_ready = entry.n_missing == 0;
        self.entries.insert(id, entry);
        self.set(id, State::Pending, "", out);
        match lost {
            Some(reason) => self.end(id, State::Cancelled, &reason, out),
            None if is_ready => self.ready(id, out),
            None => {}
        }
    }

    /// Whether the value of a task that was to be looked up is there.
    pub fn looked_up(&mut self, id: TaskId, is_there: bool, out: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.state != State::Pending {
            return;
        }
        entry.was_looked_up = true;
        if is_there {
            self.end(id, State::Cached, "the same call had run before", out);
        } else {
            self.ready(id, out);
        }
    }

    /// The call of a task that was launched has begun on a worker.
    pub fn started(&mut self, id: TaskId, worker: &str, out: &mut Vec<Action>) {
        let is_launched = self
            .entries
            .get(&id)
            .is_some_and(|entry| entry.state == State::Pending && entry.attempt > 0);
        if is_launched {
            self.set(id, State::Running, worker, out);
        }
    }

    /// An attempt has ended.
    pub fn ended(&mut self, id: TaskId, attempt: u32, outcome: &Outcome, now: u64, out: &mut Vec<Action>) {
        let random = self.random.f64();
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.state.is_final() || entry.attempt != attempt || !entry.holds_room {
            return;
        }
        let (state, reason) = match outcome {
            Outcome::Done => return self.end(id, State::Completed, "", out),
            Outcome::Failed(reason) => (State::Failed, reason),
            Outcome::Crashed(reason) => (State::Crashed, reason),
        };
        if attempt > entry.policy.retries {
            let reason = match entry.policy.retries {
                0 => reason.clone(),
                n => format!("{reason} (after {} attempts)", n + 1),
            };
            return self.end(id, state, &reason, out);
        }
        let delay = entry.policy.delay(attempt, random);
        entry.retry_at = now.saturating_add(delay.as_micros() as u64);
        self.timers.insert((entry.retry_at, id));
        self.give_room(id, out);
        let wait = match delay.is_zero() {
            true => "at once".to_string(),
            false => format!("in {}", skep_render::duration(delay)),
        };
        self.set(id, State::AwaitingRetry, &format!("again {wait}: {reason}"), out);
    }

    /// The time has come for retries.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Action>) {
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            self.set(id, State::Pending, "", out);
            self.ready(id, out);
        }
    }

    /// Ends all tasks of a run that have not ended.
    pub fn cancel(&mut self, run: u32, reason: &str, out: &mut Vec<Action>) {
        let mut open: Vec<TaskId> = self
            .entries
            .iter()
            .filter(|(id, entry)| id.run == run && !entry.state.is_final())
            .map(|(id, _)| *id)
            .collect();
        open.sort_unstable();
        for id in open {
            if self.entries[&id].holds_room {
                out.push(Action::Stop(id));
            }
            self.end(id, State::Cancelled, reason, out);
        }
    }

    /// The run has ended: its tasks are not asked for any more.
    pub fn forget(&mut self, run: u32) {
        self.entries.retain(|id, _| id.run != run);
        self.timers.retain(|(_, id)| id.run != run);
        self.queues.retain(|_, queue| {
            queue.retain(|id| id.run != run);
            !queue.is_empty()
        });
    }

    /// All inputs are there.
    fn ready(&mut self, id: TaskId, out: &mut Vec<Action>) {
        let entry = &self.entries[&id];
        if entry.policy.cache.is_some() && !entry.was_looked_up {
            return out.push(Action::LookUp(id));
        }
        let policy = entry.policy.clone();
        let full = policy
            .limits
            .iter()
            .find(|(tag, most)| self.used.get(tag).is_some_and(|used| used >= most));
        if let Some((tag, most)) = full {
            self.queues.entry(tag.clone()).or_default().push_back(id);
            let reason = format!("{most} with the tag `{tag}` run, and not more at once");
            return self.set(id, State::Pending, &reason, out);
        }
        for (tag, _) in &policy.limits {
            *self.used.entry(tag.clone()).or_default() += 1;
        }
        let entry = self.entries.get_mut(&id).expect("invariant: looked at above");
        entry.holds_room = true;
        entry.attempt += 1;
        out.push(Action::Launch {
            id,
            attempt: entry.attempt,
        });
    }

    /// A task does not run any more: others with its tags may.
    fn give_room(&mut self, id: TaskId, out: &mut Vec<Action>) {
        let entry = self.entries.get_mut(&id).expect("invariant: the caller has it");
        if !std::mem::take(&mut entry.holds_room) {
            return;
        }
        let policy = entry.policy.clone();
        for (tag, _) in &policy.limits {
            if let Some(used) = self.used.get_mut(tag) {
                *used -= 1;
            }
        }
        for (tag, _) in &policy.limits {
            // The next one may find another tag full, and then waits there.
            while let Some(next) = self.queues.get_mut(tag).and_then(VecDeque::pop_front) {
                let is_waiting = self
                    .entries
                    .get(&next)
                    .is_some_and(|entry| entry.state == State::Pending && !entry.holds_room);
                if !is_waiting {
                    continue;
                }
                let n_before = self.queues.get(tag).map_or(0, VecDeque::len);
                self.ready(next, out);
                if self.queues.get(tag).map_or(0, VecDeque::len) > n_before {
                    // It is full again: the one that was first stays first.
                    let queue = self.queues.get_mut(tag).expect("invariant: it has grown");
                    queue.rotate_right(1);
                    break;
                }
            }
        }
    }

    /// Ends a task, and with it what cannot run without it. Without recursion, since chains may be long.
    fn end(&mut self, id: TaskId, state: State, reason: &str, out: &mut Vec<Action>) {
        let mut ending = vec![(id, state, reason.to_string())];
        while let Some((id, state, reason)) = ending.pop() {
            if self.entries[&id].state.is_final() {
                continue;
            }
            self.timers.remove(&(self.entries[&id].retry_at, id));
            self.set(id, state, &reason, out);
            self.give_room(id, out);
            let entry = self.entries.get_mut(&id).expect("invariant: the caller has it");
            let consumers = std::mem::take(&mut entry.consumers);
            let lost = (!state.is_good()).then(|| because(entry));
            for no in consumers {
                let consumer = TaskId { no, ..id };
                let Some(entry) = self.entries.get_mut(&consumer) else {
                    continue;
                };
                match &lost {
                    Some(reason) => ending.push((consumer, State::Cancelled, reason.clone())),
                    None => {
                        entry.n_missing -= 1;
                        if entry.n_missing == 0 && !entry.state.is_final() {
                            self.ready(consumer, out);
                        }
                    }
                }
            }
        }
    }

    fn set(&mut self, id: TaskId, state: State, reason: &str, out: &mut Vec<Action>) {
        let entry = self.entries.get_mut(&id).expect("invariant: the caller has it");
        entry.state = state;
        out.push(Action::Record {
            id,
            state,
            reason: reason.to_string(),
            attempt: entry.attempt,
        });
    }
}

fn because(input: &Entry) -> String {
    let what = match input.state {
        State::Failed => "failed",
        State::Crashed => "crashed",
        _ => "was not run",
    };
    format!("not run: `{}`, which it needs, {what}", input.name)
}
