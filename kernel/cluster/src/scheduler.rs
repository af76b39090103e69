//! The scheduler as a pure state machine: events in, messages out through [`Comm`]; durations come with the events.
//!
//! A task waits for its inputs, is queued by priority, goes to a worker with room (near its inputs, then least loaded), and
//! its value stays there until nobody needs it. Lost values are made again from their tasks, which are kept as long as
//! anything that was made from them. A task that was on three dying workers is given up with the cause.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_bytes::ByteBuf;

use crate::{
    ClientId, CodeId, Event, FunctionId, Key, TaskError, TaskErrorKind, WorkerId,
    ids::{IdMap, IdSet, KeyMap, KeySet},
    message::{ClusterInfo, Finished, Function, Memory, Published, Ran, Resource, Task, ToClient, ToWorker, WorkerInfo},
};

mod balance;
mod explain;
mod failures;
mod placement;
mod published;
mod values;

pub use explain::Explanation;

use balance::Transfers;
use failures::Timer;
use placement::Queue;

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

/// And when its value was lost so often: the workers have not room for what they are asked to hold.
const MOST_LOSSES: u32 = 20;

/// Holds tasks that run for their effect, until they have ended.
const DETACHED: ClientId = ClientId(u32::MAX);

/// In a report of missing inputs: the worker that reports should have had it itself.
pub const HERE: WorkerId = WorkerId(u32::MAX);

#[derive(Default)]
pub struct Scheduler {
    tasks: KeyMap<Record>,
    workers: BTreeMap<WorkerId, Worker>,
    functions: IdMap<FunctionId, Function>,
    /// Where each library is; `None` while its optimised build is made.
    code: IdMap<CodeId, Option<String>>,
    durations: IdMap<FunctionId, u64>,
    queue: Queue,
    /// Workers with room, the least busy first: guessed time of a thread's work, number of tasks.
    room: BTreeSet<(u64, usize, WorkerId)>,
    /// Workers with tasks that they have not begun, by how many.
    crowded: BTreeSet<(usize, WorkerId)>,
    /// Tasks that wait for code rather than for inputs.
    without_code: IdMap<CodeId, Vec<Key>>,
    /// Methods of actors whose code is not there yet.
    without_method: Vec<(ClientId, Key, FunctionId)>,
    published: BTreeMap<String, Published>,
    transfers: Transfers,
    /// What is to happen when, in microseconds of the clock that [`Scheduler::set_now`] is given.
    timers: BTreeSet<(u64, Key, Timer)>,
    is_balance_due: bool,
    now_us: u64,
    /// When silence was last looked for.
    checked_us: u64,
    losses: Vec<String>,
    n_done: u64,
    n_failed: u64,
}

struct Record {
    task: Arc<Task>,
    inputs: Box<[Key]>,
    /// Those that name this one as input. May hold keys that are gone, or twice: see [`Scheduler::take_dependents`].
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
    last_death: Option<Box<str>>,
    /// Times that its value was lost with a worker.
    n_losses: u32,
    /// Times that it failed and is to run again.
    n_failures: u32,
    /// Times that it was given to a worker.
    n_attempts: u32,
    /// It was taken from a busy worker, and shall not go back there for its inputs' sake.
    is_stolen: bool,
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

/// A worker that joins.
#[derive(Clone, Debug, Default)]
pub struct NewWorker {
    pub pid: u32,
    pub address: String,
    pub threads: u32,
    /// Bytes; 0 is no limit.
    pub memory_limit: u64,
    pub resources: Vec<Resource>,
}

struct Worker {
    new: NewWorker,
    memory: Memory,
    /// What it was given, each with its guessed time.
    assigned: KeyMap<u64>,
    /// Guessed time of what is assigned.
    load_us: u64,
    values: KeySet,
    held_bytes: u64,
    functions: IdSet<FunctionId>,
    /// Resources that no task uses up now.
    free: Vec<Resource>,
    /// Runs a task that was on a dying worker before; nothing else is put at risk beside it.
    is_quarantined: bool,
    /// Tasks that wait for tasks of their own, and have given their thread away meanwhile.
    seceded: KeySet,
    /// It was asked to give tasks back.
    is_being_robbed: bool,
    /// Tasks that it has begun, or at least kept when it was asked.
    n_kept: usize,
    last_heard_us: u64,
    /// The last heartbeat; they come five times a second, whatever its tasks do.
    last_beat_us: u64,
    is_silent: bool,
    /// Its places in [`Scheduler::room`] and [`Scheduler::crowded`].
    seat: Option<(u64, usize)>,
    excess: usize,
}

impl Worker {
    fn threads(&self) -> usize {
        self.new.threads as usize + self.seceded.len()
    }

    /// What it has waits for other tasks, and those may need it.
    fn has_only_seceded(&self) -> bool {
        self.assigned.len() == self.seceded.len()
    }

    fn may_begin(&self) -> bool {
        (!self.is_quarantined || self.has_only_seceded()) && !self.memory.is_paused && !self.is_silent
    }

    fn has_room(&self) -> bool {
        let n = self.assigned.len();
        self.may_begin() && (n <= self.threads() || (self.load_us < AHEAD_US * u64::from(self.new.threads) && n < MOST_AHEAD))
    }

    /// Tasks that it has not begun, as far as is known.
    fn n_excess(&self) -> usize {
        if self.is_being_robbed {
            return 0;
        }
        let n_begun = if self.memory.is_paused { 0 } else { self.threads() };
        self.assigned.len().saturating_sub(n_begun.max(self.n_kept))
    }
}

impl Scheduler {
    pub fn add_worker(&mut self, id: WorkerId, new: NewWorker, comm: &mut impl Comm) {
        comm.to_worker(id, ToWorker::Welcome { id });
        comm.event(Event::WorkerJoined { worker: id, pid: new.pid });
        let worker = Worker {
            free: new.resources.clone(),
            new: NewWorker { threads: new.threads.max(1), ..new },
            memory: Memory::default(),
            assigned: KeyMap::default(),
            load_us: 0,
            values: KeySet::default(),
            held_bytes: 0,
            functions: IdSet::default(),
            is_quarantined: false,
            seceded: KeySet::default(),
            is_being_robbed: false,
            n_kept: 0,
            last_heard_us: self.now_us,
            last_beat_us: self.now_us,
            is_silent: false,
            seat: None,
            excess: 0,
        };
        self.workers.insert(id, worker);
        self.touch(id);
        self.dispatch(comm);
    }

    /// Brings a worker's places among those with room, and those with too much, up to date.
    fn touch(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let seat = worker.has_room().then(|| (worker.load_us / worker.threads() as u64, worker.assigned.len()));
        if seat != worker.seat {
            if let Some((load, n)) = std::mem::replace(&mut worker.seat, seat) {
                self.room.remove(&(load, n, id));
            }
            if let Some((load, n)) = seat {
                self.room.insert((load, n, id));
            }
        }
        let excess = worker.n_excess();
        if excess != worker.excess {
            self.crowded.remove(&(std::mem::replace(&mut worker.excess, excess), id));
            if excess > 0 {
                self.crowded.insert((excess, id));
            }
        }
    }

    pub fn n_workers(&self) -> usize {
        self.workers.len()
    }

    pub fn worker_ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    pub fn add_function(&mut self, function: Function, comm: &mut impl Comm) {
        comm.event(Event::Function { id: function.id, name: function.name.clone() });
        self.code.entry(function.code).or_insert(None);
        self.functions.insert(function.id, function);
    }

    /// Sends the code of a method to the worker of an actor, and tells the client that worker's address.
    pub fn prepare(&mut self, client: ClientId, actor: Key, function: FunctionId, comm: &mut impl Comm) {
        let holder = match self.tasks.get(&actor).map(|record| &record.state) {
            Some(State::Done { holders }) => holders.first().copied(),
            _ => None,
        };
        let (Some(id), Some(known)) = (holder, self.functions.get(&function).cloned()) else {
            let worker = Err("the actor is gone".to_string());
            return comm.to_client(client, ToClient::Prepared { actor, function, worker });
        };
        let Some(Some(library)) = self.code.get(&known.code).cloned() else {
            return self.without_method.push((client, actor, function));
        };
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.functions.insert(function) {
            comm.to_worker(id, ToWorker::Function { function: known, library });
        }
        comm.to_client(client, ToClient::Prepared { actor, function, worker: Ok(worker.new.address.clone()) });
    }

    /// The library is at `path`; tasks that waited for it may run.
    pub fn code_ready(&mut self, code: CodeId, path: String, comm: &mut impl Comm) {
        self.code.insert(code, Some(path));
        for key in self.without_code.remove(&code).unwrap_or_default() {
            self.enqueue(key);
        }
        for (client, actor, function) in std::mem::take(&mut self.without_method) {
            self.prepare(client, actor, function, comm);
        }
        self.dispatch(comm);
    }

    pub fn submit(&mut self, client: ClientId, tasks: Vec<Task>, wanted: &[Key], comm: &mut impl Comm) {
        let new: Vec<Key> = tasks.into_iter().filter_map(|task| self.add_task(task, comm)).collect();
        // Before anything of it is set going: some may fail at once, since an input has, and the client is to hear of it.
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
        for key in new {
            self.revive(key, comm);
        }
        self.dispatch(comm);
    }

    /// Takes in a task; gives its key if it is to be set going.
    fn add_task(&mut self, task: Task, comm: &mut impl Comm) -> Option<Key> {
        let key = task.key;
        if let Some(record) = self.tasks.get_mut(&key) {
            // Known work is free, and what failed is tried again.
            if let State::Failed(_) = record.state {
                record.state = State::Freed;
                (record.deaths, record.n_failures) = (0, 0);
                record.task = Arc::new(Task { args: record.task.args.clone(), ..task.clone() });
                comm.event(Event::Submitted { key, function: task.function });
                return Some(key);
            }
            return None;
        }
        comm.event(Event::Submitted { key, function: task.function });
        let inputs = task.dependencies();
        for input in &inputs {
            self.add_dependent(*input, key);
        }
        let record = Record {
            task: Arc::new(task),
            inputs: inputs.into(),
            dependents: Vec::new(),
            n_dependents: 0,
            n_pending: 0,
            wanted_by: Vec::new(),
            state: State::Freed,
            n_bytes: 0,
            inline: None,
            duration_us: 0,
            deaths: 0,
            last_death: None,
            n_losses: 0,
            n_failures: 0,
            n_attempts: 0,
            is_stolen: false,
        };
        self.tasks.insert(key, record);
        Some(key)
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
                        stack.push(*input);
                    }
                    _ => n_missing += 1,
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

    fn add_dependent(&mut self, input: Key, dependent: Key) {
        let Some(record) = self.tasks.get_mut(&input) else { return };
        record.n_dependents += 1;
        record.dependents.push(dependent);
        let (n, n_live) = (record.dependents.len(), record.n_dependents as usize);
        if n > 64 && n > 2 * n_live {
            let live = self.take_dependents(input);
            self.give_back_dependents(input, live);
        }
    }

    /// Those that name `key` as input, each once. [`Scheduler::give_back_dependents`] puts them back.
    ///
    /// Records that go do not take themselves off this list, which would cost as much as the list is long; so it may hold
    /// more than there are.
    fn take_dependents(&mut self, key: Key) -> Vec<Key> {
        let Some(record) = self.tasks.get_mut(&key) else { return Vec::new() };
        let n_live = record.n_dependents as usize;
        let mut dependents = std::mem::take(&mut record.dependents);
        if dependents.len() > n_live {
            dependents.sort_unstable();
            dependents.dedup();
            dependents.retain(|dependent| self.tasks.get(dependent).is_some_and(|record| record.inputs.contains(&key)));
        }
        dependents
    }

    fn give_back_dependents(&mut self, key: Key, dependents: Vec<Key>) {
        if let Some(record) = self.tasks.get_mut(&key) {
            record.dependents = dependents;
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
        let code = self.functions.get(&record.task.function).map(|function| function.code);
        match code {
            Some(code) if !matches!(self.code.get(&code), Some(Some(_))) => self.without_code.entry(code).or_default().push(key),
            _ => self.queue.push(&record.task, record.deaths > 0),
        }
    }

    pub fn on_done(&mut self, worker: WorkerId, ran: Ran, comm: &mut impl Comm) {
        let Ran { key, attempt, n_bytes, inline, start_us, duration_us } = ran;
        self.heard_from(worker);
        match self.tasks.get(&key).map(|record| (&record.state, record.n_attempts)) {
            Some((State::Assigned(assigned), current)) if *assigned == worker && current == attempt => self.unassign(worker, key),
            // Late news of an earlier attempt, while this worker has the next; or said twice.
            Some((State::Assigned(assigned), _)) if *assigned == worker => return,
            Some((State::Done { holders }, _)) if holders.contains(&worker) => return,
            // Cancelled, or finished elsewhere meanwhile.
            _ => {
                comm.to_worker(worker, ToWorker::Free { keys: vec![key] });
                return self.dispatch(comm);
            }
        }
        let record = self.tasks.get_mut(&key).expect("invariant: looked up above");
        record.state = State::Done { holders: vec![worker] };
        (record.n_bytes, record.inline, record.duration_us) = (n_bytes, inline, duration_us);
        (record.deaths, record.is_stolen) = (0, false);
        self.n_done += 1;
        let known = self.durations.entry(record.task.function).or_insert(duration_us);
        *known = (*known * 3 + duration_us) / 4;
        let wanted_by = record.wanted_by.clone();
        record.wanted_by.retain(|client| *client != DETACHED);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.values.insert(key);
            worker.held_bytes += n_bytes;
        }
        comm.event(Event::Done { key, worker, n_bytes, start_us, duration_us });
        if !wanted_by.is_empty() {
            let how = self.finished(key);
            for client in wanted_by {
                comm.to_client(client, ToClient::Finished { key, how: how.clone() });
            }
        }
        let dependents = self.take_dependents(key);
        for dependent in &dependents {
            let Some(record) = self.tasks.get_mut(dependent) else { continue };
            if let State::Waiting { n_missing } = &mut record.state {
                *n_missing = n_missing.saturating_sub(1);
                if *n_missing == 0 {
                    comm.event(Event::Ready { key: *dependent });
                    self.enqueue(*dependent);
                }
            }
        }
        self.give_back_dependents(key, dependents);
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

    fn unassign(&mut self, id: WorkerId, key: Key) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(guess_us) = worker.assigned.remove(&key) else { return };
        worker.load_us = worker.load_us.saturating_sub(guess_us);
        worker.seceded.remove(&key);
        worker.n_kept = worker.n_kept.min(worker.assigned.len());
        if worker.assigned.is_empty() {
            worker.is_quarantined = false;
        }
        if let Some(options) = self.tasks.get(&key).and_then(|record| record.task.options.as_ref()) {
            placement::give_back(&mut worker.free, &options.resources);
        }
        self.touch(id);
    }

    fn heard_from(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.last_heard_us = self.now_us;
        }
    }

    fn finished(&self, key: Key) -> Finished {
        let record = &self.tasks[&key];
        match &record.state {
            State::Done { holders } => {
                let worker = holders.first().copied().unwrap_or(WorkerId(0));
                let address = self.workers.get(&worker).map(|worker| worker.new.address.clone()).unwrap_or_default();
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

    /// Workers that hold values.
    pub fn holders(&self) -> Vec<WorkerId> {
        self.workers.iter().filter(|(_, worker)| !worker.values.is_empty()).map(|(id, _)| *id).collect()
    }

    /// A worker goes because fewer are wanted: nothing to be sorry for.
    pub fn retire(&mut self, id: WorkerId, comm: &mut impl Comm) {
        comm.to_worker(id, ToWorker::Exit);
        comm.event(Event::WorkerRetired { worker: id });
        self.remove_worker(id, "fewer workers are wanted", comm);
    }

    pub fn on_worker_lost(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        let Some(worker) = self.workers.get(&id) else { return };
        self.losses.push(format!("{id} (pid {}): {cause}", worker.new.pid));
        comm.event(Event::WorkerLost { worker: id, cause: cause.to_string() });
        self.remove_worker(id, cause, comm);
    }

    fn remove_worker(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if let Some((load, n)) = worker.seat {
            self.room.remove(&(load, n, id));
        }
        self.crowded.remove(&(worker.excess, id));
        self.close_transfers_of(id, comm);
        for key in &worker.values {
            self.lose_copy(*key, id, comm);
        }
        // Only what can have been running is to blame, not what was queued behind it; which of it ran is not known.
        let is_to_blame = worker.assigned.len() <= worker.threads() + 1;
        let mut assigned: Vec<Key> = worker.assigned.keys().copied().collect();
        assigned.sort_by_key(|key| self.tasks.get(key).map(|record| record.task.priority));
        for (i, key) in assigned.into_iter().enumerate() {
            let Some(record) = self.tasks.get_mut(&key) else { continue };
            if record.state != State::Assigned(id) {
                continue;
            }
            if is_to_blame || i < worker.threads() {
                record.deaths += 1;
                record.last_death = Some(cause.into());
            }
            if record.deaths >= MOST_DEATHS {
                let error = TaskError {
                    kind: TaskErrorKind::KilledWorkers,
                    message: format!("{MOST_DEATHS} workers died while it ran, the last one: {}", record.last_death.as_deref().unwrap_or_default()),
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
            pid: worker.new.pid,
            threads: worker.new.threads,
            memory_limit: worker.new.memory_limit,
            resources: worker.new.resources.clone(),
            memory: worker.memory,
            is_silent: worker.is_silent,
            n_assigned: worker.assigned.len() as u64,
            n_values: worker.values.len() as u64,
            held_bytes: worker.held_bytes,
        });
        ClusterInfo { workers: workers.collect(), n_tasks: self.tasks.len() as u64, n_done: self.n_done, n_failed: self.n_failed, losses: self.losses.clone() }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
