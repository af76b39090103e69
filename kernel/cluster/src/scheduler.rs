//! The scheduler as a pure state machine: events in, messages out through [`Comm`]; durations come with the events.
//!
//! A task waits for its inputs, is queued by priority, goes to a worker with room (near its inputs, then least loaded), and
//! its value stays there until nobody needs it. Lost values are made again from their tasks, which are kept as long as
//! anything that was made from them. A task that was on three dying workers is given up with the cause.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use serde_bytes::ByteBuf;

use crate::{
    ClientId, CodeId, Event, FunctionId, Key, TaskError, TaskErrorKind, WorkerId,
    event::Reason,
    ids::{KeyMap, KeySet},
    message::{Assignment, ClusterInfo, Finished, Function, Input, Published, Ran, Task, ToClient, ToWorker, WorkerInfo},
};

mod failures;
mod published;
mod values;

use failures::Timer;

/// What the scheduler says to the world.
pub trait Comm {
    fn to_worker(&mut self, worker: WorkerId, message: ToWorker);
    fn to_client(&mut self, client: ClientId, message: ToClient);
    fn event(&mut self, event: Event);
}

/// A worker is given about this much work ahead, so that it never waits for the scheduler: 5 ms, by past durations.
const AHEAD_US: u64 = 5_000;
/// And never more tasks than this.
const MOST_AHEAD: usize = 2_048;
/// The guess for a function that has not run yet.
const UNKNOWN_DURATION_US: u64 = 100_000;
/// A task is given up when this many workers died under it.
const MOST_DEATHS: u32 = 3;
/// What moving a byte costs, for choosing a worker: 1 GB/s.
const US_PER_KILOBYTE: u64 = 1;

/// Holds tasks that run for their effect, until they have ended.
const DETACHED: ClientId = ClientId(u32::MAX);

/// In a report of missing inputs: the worker that reports should have had it itself.
pub const HERE: WorkerId = WorkerId(u32::MAX);

#[derive(Default)]
pub struct Scheduler {
    tasks: KeyMap<Record>,
    workers: BTreeMap<WorkerId, Worker>,
    functions: HashMap<FunctionId, Function>,
    /// Where each library is; `None` while its optimised build is made.
    code: HashMap<CodeId, Option<String>>,
    durations: HashMap<FunctionId, u64>,
    queue: BinaryHeap<Reverse<(u64, Key)>>,
    /// Tasks that wait for code rather than for inputs.
    without_code: HashMap<CodeId, Vec<Key>>,
    published: BTreeMap<String, Published>,
    /// What is to happen when, in microseconds of the clock that [`Scheduler::set_now`] is given.
    timers: BTreeSet<(u64, Key, Timer)>,
    now_us: u64,
    losses: Vec<String>,
    n_done: u64,
    n_failed: u64,
}

struct Record {
    task: Arc<Task>,
    inputs: Vec<Key>,
    /// May hold keys that are gone or no longer wait; they are skipped.
    dependents: Vec<Key>,
    /// Records that name this one as input: lineage is kept for them.
    n_dependents: u32,
    /// Of those, the ones that still have to run: the value is kept for them.
    n_pending: u32,
    wanted_by: Vec<ClientId>,
    state: State,
    n_bytes: u64,
    inline: Option<ByteBuf>,
    duration_us: u64,
    deaths: u32,
    last_death: String,
    /// Times that it failed and is to run again.
    n_failures: u32,
    /// Times that it was given to a worker.
    n_attempts: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Waiting {
        n_missing: u32,
    },
    /// In the queue, or waiting for its code.
    Ready,
    Assigned(WorkerId),
    Done {
        holders: Vec<WorkerId>,
    },
    Failed(Arc<TaskError>),
    /// It ran, and its value was let go.
    Freed,
}

impl State {
    fn is_pending(&self) -> bool {
        matches!(self, State::Waiting { .. } | State::Ready | State::Assigned(_))
    }
}

struct Worker {
    pid: u32,
    address: String,
    threads: u32,
    memory_limit: u64,
    resident: u64,
    assigned: KeySet,
    /// Guessed time of what is assigned.
    load_us: u64,
    values: KeySet,
    held_bytes: u64,
    functions: HashSet<FunctionId>,
    /// Runs a task that was on a dying worker before; nothing else is put at risk beside it.
    is_quarantined: bool,
}

impl Worker {
    fn has_room(&self) -> bool {
        let n = self.assigned.len();
        !self.is_quarantined && (n <= self.threads as usize || (self.load_us < AHEAD_US * u64::from(self.threads) && n < MOST_AHEAD))
    }
}

impl Scheduler {
    pub fn add_worker(&mut self, id: WorkerId, pid: u32, address: String, threads: u32, memory_limit: u64, comm: &mut impl Comm) {
        let worker = Worker {
            pid,
            address,
            threads: threads.max(1),
            memory_limit,
            resident: 0,
            assigned: KeySet::default(),
            load_us: 0,
            values: KeySet::default(),
            held_bytes: 0,
            functions: HashSet::new(),
            is_quarantined: false,
        };
        self.workers.insert(id, worker);
        comm.to_worker(id, ToWorker::Welcome { id });
        comm.event(Event::WorkerJoined { worker: id, pid });
        self.dispatch(comm);
    }

    pub fn n_workers(&self) -> usize {
        self.workers.len()
    }

    pub fn worker_ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    pub fn set_resident(&mut self, worker: WorkerId, bytes: u64) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.resident = bytes;
        }
    }

    pub fn add_function(&mut self, function: Function, comm: &mut impl Comm) {
        comm.event(Event::Function { id: function.id, name: function.name.clone() });
        self.code.entry(function.code).or_insert(None);
        self.functions.insert(function.id, function);
    }

    /// The library is at `path`; tasks that waited for it may run.
    pub fn code_ready(&mut self, code: CodeId, path: String, comm: &mut impl Comm) {
        self.code.insert(code, Some(path));
        for key in self.without_code.remove(&code).unwrap_or_default() {
            self.enqueue(key);
        }
        self.dispatch(comm);
    }

    pub fn submit(&mut self, client: ClientId, tasks: Vec<Task>, wanted: &[Key], comm: &mut impl Comm) {
        for task in tasks {
            self.add_task(task, comm);
        }
        for key in wanted {
            let Some(record) = self.tasks.get_mut(key) else { continue };
            record.wanted_by.push(client);
            match &record.state {
                State::Freed => self.revive(*key, comm),
                State::Done { .. } | State::Failed(_) => {
                    let how = self.finished(*key);
                    comm.to_client(client, ToClient::Finished { key: *key, how });
                }
                _ => {}
            }
        }
        self.dispatch(comm);
    }

    fn add_task(&mut self, task: Task, comm: &mut impl Comm) {
        let key = task.key;
        if let Some(record) = self.tasks.get_mut(&key) {
            // Known work is free, and what failed is tried again.
            if let State::Failed(_) = record.state {
                record.state = State::Freed;
                (record.deaths, record.n_failures) = (0, 0);
                record.task = Arc::new(Task { args: record.task.args.clone(), ..task.clone() });
                comm.event(Event::Submitted { key, function: task.function });
                self.revive(key, comm);
            }
            return;
        }
        comm.event(Event::Submitted { key, function: task.function });
        let inputs = task.dependencies();
        for input in &inputs {
            if let Some(record) = self.tasks.get_mut(input) {
                record.n_dependents += 1;
                record.dependents.push(key);
            }
        }
        let record = Record {
            task: Arc::new(task),
            inputs,
            dependents: Vec::new(),
            n_dependents: 0,
            n_pending: 0,
            wanted_by: Vec::new(),
            state: State::Freed,
            n_bytes: 0,
            inline: None,
            duration_us: 0,
            deaths: 0,
            last_death: String::new(),
            n_failures: 0,
            n_attempts: 0,
        };
        self.tasks.insert(key, record);
        self.revive(key, comm);
    }

    /// Makes a task run (again), and with it those of its inputs whose values are gone.
    fn revive(&mut self, key: Key, comm: &mut impl Comm) {
        let mut stack = vec![key];
        while let Some(key) = stack.pop() {
            let Some(record) = self.tasks.get(&key) else { continue };
            if record.state != State::Freed {
                continue;
            }
            let inputs = record.inputs.clone();
            let mut n_missing = 0;
            let mut failed = None;
            for input in &inputs {
                let Some(record) = self.tasks.get_mut(input) else {
                    failed = Some(Arc::new(self.lost_input(key, *input)));
                    continue;
                };
                record.n_pending += 1;
                match &record.state {
                    State::Done { .. } => {}
                    State::Failed(error) => failed = Some(error.clone()),
                    State::Freed => {
                        n_missing += 1;
                        if !record.dependents.contains(&key) {
                            record.dependents.push(key);
                        }
                        stack.push(*input);
                    }
                    _ => {
                        n_missing += 1;
                        if record.dependents.last() != Some(&key) && !record.dependents.contains(&key) {
                            record.dependents.push(key);
                        }
                    }
                }
            }
            self.set_state(key, State::Waiting { n_missing });
            match failed {
                Some(error) => self.fail(key, error, comm),
                None if n_missing == 0 => self.enqueue(key),
                None => {}
            }
        }
    }

    fn lost_input(&self, key: Key, input: Key) -> TaskError {
        TaskError {
            kind: TaskErrorKind::Code,
            message: format!("its input {input} is not known to the scheduler\nhint: keep the handle of an input until its task was submitted"),
            function: self.name_of(key),
            at: None,
            worker: None,
        }
    }

    fn set_state(&mut self, key: Key, state: State) {
        if let Some(record) = self.tasks.get_mut(&key) {
            record.state = state;
        }
    }

    fn enqueue(&mut self, key: Key) {
        let Some(record) = self.tasks.get_mut(&key) else { return };
        if !record.state.is_pending() || matches!(record.state, State::Assigned(_)) {
            return;
        }
        record.state = State::Ready;
        let priority = record.task.priority;
        let code = self.functions.get(&record.task.function).map(|function| function.code);
        match code {
            Some(code) if !matches!(self.code.get(&code), Some(Some(_))) => self.without_code.entry(code).or_default().push(key),
            _ => self.queue.push(Reverse((priority, key))),
        }
    }

    /// Hands queued tasks to workers with room.
    fn dispatch(&mut self, comm: &mut impl Comm) {
        let mut postponed = Vec::new();
        while let Some(Reverse((priority, key))) = self.queue.pop() {
            let Some(record) = self.tasks.get(&key) else { continue };
            if record.state != State::Ready {
                continue;
            }
            if !self.functions.contains_key(&record.task.function) {
                let error =
                    TaskError { kind: TaskErrorKind::Code, message: "its function was never sent".into(), function: String::new(), at: None, worker: None };
                self.fail(key, Arc::new(error), comm);
                continue;
            }
            let is_suspect = record.deaths > 0;
            let is_pinned = record.task.options.as_ref().is_some_and(|options| !options.workers.is_empty());
            if is_pinned && !self.workers.keys().any(|id| may_run_on(record, *id)) && !self.workers.is_empty() {
                let message = "none of the workers that it may run on is there\nhint: `:workers` lists those that are".to_string();
                let error = TaskError { kind: TaskErrorKind::Code, message, function: self.name_of(key), at: None, worker: None };
                self.fail(key, Arc::new(error), comm);
                continue;
            }
            match self.choose_worker(key, is_suspect) {
                Some((worker, why)) => self.assign(key, worker, why, comm),
                None => {
                    postponed.push(Reverse((priority, key)));
                    // A suspect waits for an idle worker, a pinned task for its own; others behind them may go ahead.
                    if !is_suspect && !is_pinned {
                        break;
                    }
                }
            }
        }
        self.queue.extend(postponed);
    }

    /// Near the inputs, then least loaded.
    fn choose_worker(&self, key: Key, is_suspect: bool) -> Option<(WorkerId, Reason)> {
        let record = &self.tasks[&key];
        let to_move = |id: WorkerId| -> u64 {
            let missing = |input: &&Key| {
                self.tasks.get(*input).is_some_and(|r| r.inline.is_none() && !matches!(&r.state, State::Done { holders } if holders.contains(&id)))
            };
            record.inputs.iter().filter(missing).map(|input| self.tasks[input].n_bytes / 1024 * US_PER_KILOBYTE + 200).sum()
        };
        let fits = |worker: &Worker| if is_suspect { worker.assigned.is_empty() } else { worker.has_room() };
        let mut best: Option<(u64, usize, u64, WorkerId)> = None;
        let (mut n_fit, mut most_moved) = (0, 0);
        for (id, worker) in self.workers.iter().filter(|(id, worker)| fits(worker) && may_run_on(record, **id)) {
            let moved = if record.inputs.is_empty() { 0 } else { to_move(*id) };
            let cost = (worker.load_us / u64::from(worker.threads) + moved, worker.assigned.len(), moved, *id);
            (n_fit, most_moved) = (n_fit + 1, most_moved.max(moved));
            if best.is_none_or(|best| (cost.0, cost.1) < (best.0, best.1)) {
                best = Some(cost);
            }
        }
        let (_, _, moved, id) = best?;
        let why = match (is_suspect, n_fit) {
            (true, _) => Reason::Alone,
            (_, 1) => Reason::OnlyOne,
            _ if moved < most_moved => Reason::Inputs,
            _ => Reason::LeastBusy,
        };
        Some((id, why))
    }

    fn assign(&mut self, key: Key, id: WorkerId, why: Reason, comm: &mut impl Comm) {
        let record = &self.tasks[&key];
        let task = record.task.clone();
        let is_suspect = record.deaths > 0;
        let mut inputs = Vec::new();
        let mut moved_bytes = 0;
        for input in &record.inputs {
            let Some(from) = self.tasks.get(input) else { continue };
            let State::Done { holders } = &from.state else { continue };
            if holders.contains(&id) {
                continue;
            }
            let address = |holder: &WorkerId| Some((*holder, self.workers.get(holder)?.address.clone()));
            let source = match (&from.inline, holders.iter().find_map(address)) {
                (Some(bytes), _) => Input::Inline(bytes.clone()),
                (None, Some((worker, address))) => Input::At { worker, address },
                (None, None) => continue,
            };
            moved_bytes += if matches!(source, Input::At { .. }) { from.n_bytes } else { 0 };
            inputs.push((*input, source));
        }
        let function = &self.functions[&task.function];
        let duration = self.durations.get(&task.function).copied().unwrap_or(UNKNOWN_DURATION_US);
        let library = self.code.get(&function.code).cloned().flatten().unwrap_or_default();
        let worker = self.workers.get_mut(&id).expect("invariant: chosen among the workers");
        if worker.functions.insert(task.function) {
            comm.to_worker(id, ToWorker::Function { function: function.clone(), library });
        }
        worker.assigned.insert(key);
        worker.load_us += duration;
        worker.is_quarantined = is_suspect;
        let timeout_us = task.options.as_ref().map_or(0, |options| options.timeout_us);
        if let Some(record) = self.tasks.get_mut(&key) {
            record.state = State::Assigned(id);
            record.n_attempts += 1;
            if timeout_us > 0 {
                self.timers.insert((self.now_us + timeout_us, key, Timer::Timeout { attempt: record.n_attempts }));
            }
        }
        comm.event(Event::Assigned { key, worker: id, why, moved_bytes });
        comm.to_worker(id, ToWorker::Compute(Assignment { task, inputs }));
    }

    pub fn on_done(&mut self, worker: WorkerId, ran: Ran, comm: &mut impl Comm) {
        let Ran { key, n_bytes, inline, start_us, duration_us } = ran;
        self.unassign(worker, key);
        let Some(record) = self.tasks.get_mut(&key) else {
            comm.to_worker(worker, ToWorker::Free { keys: vec![key] });
            return self.dispatch(comm);
        };
        if record.state != State::Assigned(worker) {
            // Cancelled, or finished elsewhere meanwhile.
            comm.to_worker(worker, ToWorker::Free { keys: vec![key] });
            return self.dispatch(comm);
        }
        record.state = State::Done { holders: vec![worker] };
        (record.n_bytes, record.inline, record.duration_us) = (n_bytes, inline, duration_us);
        (record.deaths, self.n_done) = (0, self.n_done + 1);
        let known = self.durations.entry(record.task.function).or_insert(duration_us);
        *known = (*known * 3 + duration_us) / 4;
        let dependents = std::mem::take(&mut record.dependents);
        let wanted_by = record.wanted_by.clone();
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.values.insert(key);
            worker.held_bytes += n_bytes;
        }
        comm.event(Event::Done { key, worker, n_bytes, start_us, duration_us });
        self.tasks.get_mut(&key).expect("invariant: looked up above").wanted_by.retain(|client| *client != DETACHED);
        if !wanted_by.is_empty() {
            let how = self.finished(key);
            for client in wanted_by {
                comm.to_client(client, ToClient::Finished { key, how: how.clone() });
            }
        }
        for dependent in dependents {
            let Some(record) = self.tasks.get_mut(&dependent) else { continue };
            if let State::Waiting { n_missing } = &mut record.state {
                *n_missing = n_missing.saturating_sub(1);
                if *n_missing == 0 {
                    comm.event(Event::Ready { key: dependent });
                    self.enqueue(dependent);
                }
            }
        }
        self.settle_inputs(key, comm);
        self.let_go(key, comm);
        self.dispatch(comm);
    }

    /// A task has run or been given up: its inputs have one less to wait for.
    fn settle_inputs(&mut self, key: Key, comm: &mut impl Comm) {
        let inputs = self.tasks.get(&key).map(|record| record.inputs.clone()).unwrap_or_default();
        for input in inputs {
            if let Some(record) = self.tasks.get_mut(&input) {
                record.n_pending = record.n_pending.saturating_sub(1);
            }
            self.let_go(input, comm);
        }
    }

    fn unassign(&mut self, worker: WorkerId, key: Key) {
        let function = self.tasks.get(&key).map(|record| record.task.function);
        let duration = function.and_then(|function| self.durations.get(&function)).copied().unwrap_or(UNKNOWN_DURATION_US);
        if let Some(worker) = self.workers.get_mut(&worker)
            && worker.assigned.remove(&key)
        {
            worker.load_us = worker.load_us.saturating_sub(duration);
            if worker.assigned.is_empty() {
                (worker.load_us, worker.is_quarantined) = (0, false);
            }
        }
    }

    fn finished(&self, key: Key) -> Finished {
        let record = &self.tasks[&key];
        match &record.state {
            State::Done { holders } => {
                let worker = holders.first().copied().unwrap_or(WorkerId(0));
                let address = self.workers.get(&worker).map(|worker| worker.address.clone()).unwrap_or_default();
                Finished::Done { n_bytes: record.n_bytes, inline: record.inline.clone(), worker, address, duration_us: record.duration_us }
            }
            State::Failed(error) => Finished::Failed(error.clone()),
            _ => Finished::Pending,
        }
    }

    fn name_of(&self, key: Key) -> String {
        let function = self.tasks.get(&key).and_then(|record| self.functions.get(&record.task.function));
        function.map(|function| function.name.clone()).unwrap_or_default()
    }

    /// Tasks that wait for a worker.
    pub fn n_queued(&self) -> usize {
        self.queue.len()
    }

    /// The workers that would be missed least: idle ones, with the fewest bytes.
    pub fn idle_workers(&self) -> Vec<WorkerId> {
        let mut idle: Vec<(u64, WorkerId)> =
            self.workers.iter().filter(|(_, worker)| worker.assigned.is_empty()).map(|(id, worker)| (worker.held_bytes, *id)).collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, id)| id).collect()
    }

    /// A worker goes because fewer are wanted: nothing to be sorry for.
    pub fn retire(&mut self, id: WorkerId, comm: &mut impl Comm) {
        comm.to_worker(id, ToWorker::Exit);
        comm.event(Event::WorkerRetired { worker: id });
        self.remove_worker(id, "fewer workers are wanted", comm);
    }

    pub fn on_worker_lost(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        let Some(worker) = self.workers.get(&id) else { return };
        self.losses.push(format!("{id} (pid {}): {cause}", worker.pid));
        comm.event(Event::WorkerLost { worker: id, cause: cause.to_string() });
        self.remove_worker(id, cause, comm);
    }

    fn remove_worker(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        let Some(worker) = self.workers.remove(&id) else { return };
        for key in &worker.values {
            self.lose_copy(*key, id, comm);
        }
        // Only what can have been running is to blame, not what was queued behind it; which of it ran is not known.
        let is_to_blame = worker.assigned.len() <= worker.threads as usize + 1;
        let mut assigned: Vec<Key> = worker.assigned.iter().copied().collect();
        assigned.sort_by_key(|key| self.tasks.get(key).map(|record| record.task.priority));
        for (i, key) in assigned.into_iter().enumerate() {
            let Some(record) = self.tasks.get_mut(&key) else { continue };
            if record.state != State::Assigned(id) {
                continue;
            }
            if is_to_blame || i < worker.threads as usize {
                record.deaths += 1;
                record.last_death = cause.to_string();
            }
            if record.deaths >= MOST_DEATHS {
                let error = TaskError {
                    kind: TaskErrorKind::KilledWorkers,
                    message: format!("{MOST_DEATHS} workers died while it ran, the last one: {}", record.last_death),
                    function: self.name_of(key),
                    at: None,
                    worker: Some(id.to_string()),
                };
                self.fail(key, Arc::new(error), comm);
                continue;
            }
            comm.event(Event::Retried { key, has_failed: false });
            self.rerun(key, comm);
        }
        self.dispatch(comm);
    }

    pub fn info(&self) -> ClusterInfo {
        let workers = self.workers.iter().map(|(id, worker)| WorkerInfo {
            id: *id,
            pid: worker.pid,
            threads: worker.threads,
            memory_limit: worker.memory_limit,
            resident: worker.resident,
            n_assigned: worker.assigned.len() as u64,
            n_values: worker.values.len() as u64,
            held_bytes: worker.held_bytes,
        });
        ClusterInfo { workers: workers.collect(), n_tasks: self.tasks.len() as u64, n_done: self.n_done, n_failed: self.n_failed, losses: self.losses.clone() }
    }
}

fn may_run_on(record: &Record, worker: WorkerId) -> bool {
    record.task.options.as_ref().is_none_or(|options| options.workers.is_empty() || options.workers.contains(&worker))
}

#[cfg(test)]
mod tests;
