//! The scheduler as a pure state machine: events in, messages out through [`Comm`]; durations come with the
//! events.
//!
//! A task waits for its inputs, is queued by priority, goes to a worker with room (near its inputs, then
//! least loaded), and its value stays there until nobody needs it. Lost values are made again from their
//! tasks, which are kept as long as anything that was made from them. A task that was on three dying workers
//! is given up with the cause.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use balance::Transfers;
use coordination::Objects;
use failures::Timer;
use placement::Queue;
use serde_bytes::ByteBuf;
use skep_render::Message;
use workers::Worker;

use crate::{
    model::{
        cluster::Published,
        error::{TaskError, TaskErrorKind},
        event::Event,
        ids::{ClientId, CodeId, FunctionId, IdMap, Key, KeyMap, WorkerId},
        task::{Function, Task},
    },
    wire::protocol::{Answer, Asker, Finished, Ran, ToClient, ToWorker},
};

mod balance;
mod coordination;
mod explain;
mod failures;
mod placement;
mod published;
mod recorder;
mod values;
mod workers;

pub use workers::NewWorker;

/// What the scheduler says to the world.
pub trait Comm {
    fn to_worker(&mut self, worker: WorkerId, message: ToWorker);
    fn to_client(&mut self, client: ClientId, message: ToClient);
    fn event(&mut self, event: Event);

    fn answer(&mut self, asker: Asker, answer: Answer) {
        self.to_client(asker.client, ToClient::Answer { id: asker.id, answer });
    }
}

/// A worker is given about this much work ahead, so that it never waits for the scheduler: 5 ms, by past
/// durations.
const AHEAD_US: u64 = 5_000;

/// And never more tasks than this.
const MOST_AHEAD: usize = 2_048;

/// The guess for a function that has not run yet.
const UNKNOWN_DURATION_US: u64 = 100_000;

/// A task is given up when this many workers died under it.
const MOST_DEATHS: u32 = 3;

/// And when its value was lost so often: the workers have not room for what they are asked to hold.
const MOST_LOSSES: u32 = 20;

/// Room for so many tasks is not worth giving back.
const MUCH_ROOM: usize = 20_000;

/// Holds the tasks that set workers up, for as long as these are there.
const SET_UP: ClientId = ClientId(u32::MAX - 1);

/// Holds tasks that run for their effect, until they have ended.
const DETACHED: ClientId = ClientId(u32::MAX);

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
    without_method: Vec<(Asker, Key, FunctionId)>,
    published: BTreeMap<String, Published>,
    objects: Objects,
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
    /// The cluster was shut down: tasks fail rather than wait for workers that will not come.
    is_closed: bool,
    /// What each worker runs first.
    set_up: Option<Task>,
    /// Looks in a row that found tasks waiting and none that runs.
    n_stalled: u32,
    recorder: Option<Box<recorder::Recorder>>,
}

struct Record {
    task: Arc<Task>,
    inputs: Box<[Key]>,
    /// What part of each input's bytes it needs, where that is not all.
    shares: Option<Box<[f32]>>,
    /// Those that name this one as input. May hold keys that are gone, or twice: see
    /// [`Scheduler::take_dependents`].
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

impl Record {
    /// How many of the bytes of its input number `i` it needs, about.
    fn share(&self, i: usize, n_bytes: u64) -> u64 {
        match &self.shares {
            None => n_bytes,
            Some(shares) => (n_bytes as f64 * f64::from(shares[i])) as u64,
        }
    }
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

impl Scheduler {
    pub fn add_function(&mut self, function: Function, comm: &mut impl Comm) {
        comm.event(Event::Function {
            id: function.id,
            name: function.name.clone(),
        });
        self.code.entry(function.code).or_insert(None);
        self.functions.insert(function.id, function);
    }

    /// Sends the code of a method to the worker of an actor, and tells the client that worker's address.
    pub fn prepare(&mut self, asker: Asker, actor: Key, function: FunctionId, comm: &mut impl Comm) {
        let holder = match self.tasks.get(&actor).map(|record| &record.state) {
            Some(State::Done { holders }) => holders.first().copied(),
            _ => None,
        };
        let (Some(id), Some(known)) = (holder, self.functions.get(&function).cloned()) else {
            return comm.answer(asker, Answer::Prepared(Err("the actor is gone".into())));
        };
        let Some(Some(library)) = self.code.get(&known.code).cloned() else {
            return self.without_method.push((asker, actor, function));
        };
        let Some(worker) = self.workers.get_mut(&id) else {
            return comm.answer(
                asker,
                Answer::Prepared(Err("the worker of the actor is gone".into())),
            );
        };
        if worker.functions.insert(function) {
            comm.to_worker(
                id,
                ToWorker::Function {
                    function: known,
                    library,
                },
            );
        }
        comm.answer(asker, Answer::Prepared(Ok(worker.new.address.clone())));
    }

    /// Gives back the room that many tasks at once took, once they are gone; `true` if there was much.
    pub fn shrink(&mut self) -> bool {
        let n = self.tasks.len();
        if self.tasks.capacity() < 4 * n + MUCH_ROOM {
            return false;
        }
        self.tasks.shrink_to(2 * n);
        self.queue.shrink();
        for worker in self.workers.values_mut() {
            worker.assigned.shrink_to_fit();
            worker.values.shrink_to_fit();
        }
        true
    }

    /// The libraries that are there, for the scheduler that takes this one's place.
    pub fn take_code(&mut self) -> IdMap<CodeId, Option<String>> {
        std::mem::take(&mut self.code)
    }

    /// The libraries that are there, for another scheduler that runs the same functions.
    pub fn code(&self) -> impl Iterator<Item = (CodeId, &str)> {
        self.code
            .iter()
            .filter_map(|(id, path)| Some((*id, path.as_deref()?)))
    }

    pub fn with_code(code: IdMap<CodeId, Option<String>>) -> Scheduler {
        Scheduler {
            code,
            ..Scheduler::default()
        }
    }

    /// The library is at `path`; tasks that waited for it may run.
    pub fn code_ready(&mut self, code: CodeId, path: String, comm: &mut impl Comm) {
        self.code.insert(code, Some(path));
        for key in self.without_code.remove(&code).unwrap_or_default() {
            self.enqueue(key);
        }
        for (asker, actor, function) in std::mem::take(&mut self.without_method) {
            self.prepare(asker, actor, function, comm);
        }
        self.dispatch(comm);
    }

    pub fn submit(&mut self, client: ClientId, tasks: Vec<Task>, wanted: &[Key], comm: &mut impl Comm) {
        let new: Vec<Key> = tasks
            .into_iter()
            .filter_map(|task| self.add_task(task, comm))
            .collect();
        // Before anything of it is set going: some may fail at once, since an input has, and the client is to
        // hear of it.
        for key in wanted {
            let Some(record) = self.tasks.get_mut(key) else {
                continue;
            };
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
                record.task = Arc::new(Task {
                    args: record.task.args.clone(),
                    ..task.clone()
                });
                let inputs = record.inputs.iter().copied().collect();
                comm.event(Event::Submitted {
                    key,
                    function: task.function,
                    origin: task.origin,
                    inputs,
                });
                return Some(key);
            }
            return None;
        }
        let inputs = task.dependencies();
        comm.event(Event::Submitted {
            key,
            function: task.function,
            origin: task.origin,
            inputs: inputs.as_slice().into(),
        });
        if let Some(options) = task.options.as_ref().filter(|options| !options.tags.is_empty()) {
            let tags = options.tags.clone();
            comm.event(Event::Tagged { key, tags });
        }
        let shares: Option<Box<[f32]>> = task.shares().map(Into::into);
        if let Some(recorder) = &mut self.recorder {
            recorder.note_task(&task, &inputs, shares.as_deref(), self.now_us);
        }
        for input in &inputs {
            self.add_dependent(*input, key);
        }
        let record = Record {
            task: Arc::new(task),
            inputs: inputs.into(),
            shares,
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
            let Some(record) = self.tasks.get(&key) else {
                continue;
            };
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
        let Some(record) = self.tasks.get_mut(&input) else {
            return;
        };
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
    /// Records that go do not take themselves off this list, which would cost as much as the list is long; so
    /// it may hold more than there are.
    fn take_dependents(&mut self, key: Key) -> Vec<Key> {
        let Some(record) = self.tasks.get_mut(&key) else {
            return Vec::new();
        };
        let n_live = record.n_dependents as usize;
        let mut dependents = std::mem::take(&mut record.dependents);
        if dependents.len() > n_live {
            dependents.sort_unstable();
            dependents.dedup();
            dependents.retain(|dependent| {
                self.tasks
                    .get(dependent)
                    .is_some_and(|record| record.inputs.contains(&key))
            });
        }
        dependents
    }

    fn give_back_dependents(&mut self, key: Key, dependents: Vec<Key>) {
        if let Some(record) = self.tasks.get_mut(&key) {
            record.dependents = dependents;
        }
    }

    fn lost_input(&self, key: Key, input: Key) -> TaskError {
        let message = Message::new(format!("its input {input} is not known to the scheduler"))
            .hint("keep the handle of an input until its task was submitted; a handle belongs to the cluster that made it: gather its value to take it to another one");
        TaskError {
            function: self.name_of(key),
            ..TaskError::new(TaskErrorKind::Code, message)
        }
    }

    fn set_state(&mut self, key: Key, state: State) {
        if let Some(record) = self.tasks.get_mut(&key) {
            record.state = state;
        }
    }

    fn enqueue(&mut self, key: Key) {
        let Some(record) = self.tasks.get_mut(&key) else {
            return;
        };
        if !record.state.is_pending() || matches!(record.state, State::Assigned(_)) {
            return;
        }
        record.state = State::Ready;
        let code = self
            .functions
            .get(&record.task.function)
            .map(|function| function.code);
        match code {
            Some(code) if !matches!(self.code.get(&code), Some(Some(_))) => {
                self.without_code.entry(code).or_default().push(key)
            }
            _ => self.queue.push(&record.task, record.deaths > 0),
        }
    }

    pub fn on_done(&mut self, worker: WorkerId, ran: Ran, comm: &mut impl Comm) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note_done(&ran, self.now_us);
        }
        let Ran {
            key,
            attempt,
            n_bytes,
            n_rows,
            inline,
            start_us,
            duration_us,
            ..
        } = ran;
        self.heard_from(worker);
        match self
            .tasks
            .get(&key)
            .map(|record| (&record.state, record.n_attempts))
        {
            Some((State::Assigned(assigned), current)) if *assigned == worker && current == attempt => {
                self.unassign(worker, key)
            }
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
        record.state = State::Done {
            holders: vec![worker],
        };
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
        comm.event(Event::Done {
            key,
            worker,
            n_bytes,
            start_us,
            duration_us,
        });
        if let Some(n_rows) = n_rows {
            comm.event(Event::Counted { key, n_rows });
        }
        if !wanted_by.is_empty() {
            let how = self.finished(key);
            for client in wanted_by {
                comm.to_client(
                    client,
                    ToClient::Finished {
                        key,
                        how: how.clone(),
                    },
                );
            }
        }
        let dependents = self.take_dependents(key);
        for dependent in &dependents {
            let Some(record) = self.tasks.get_mut(dependent) else {
                continue;
            };
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
        let inputs = self
            .tasks
            .get(&key)
            .map(|record| record.inputs.clone())
            .unwrap_or_default();
        for input in inputs {
            if let Some(record) = self.tasks.get_mut(&input) {
                record.n_pending = record.n_pending.saturating_sub(1);
            }
            self.let_go(input, comm);
        }
    }

    fn finished(&self, key: Key) -> Finished {
        let record = &self.tasks[&key];
        match &record.state {
            State::Done { holders } => {
                let worker = holders.first().copied().unwrap_or(WorkerId(0));
                let address = self
                    .workers
                    .get(&worker)
                    .map(|worker| worker.new.address.clone())
                    .unwrap_or_default();
                Finished::Done {
                    n_bytes: record.n_bytes,
                    inline: record.inline.clone(),
                    worker,
                    address,
                    duration_us: record.duration_us,
                }
            }
            State::Failed(error) => Finished::Failed(error.clone()),
            _ => Finished::Pending,
        }
    }

    fn name_of(&self, key: Key) -> String {
        let function = self
            .tasks
            .get(&key)
            .and_then(|record| self.functions.get(&record.task.function));
        function.map(|function| function.name.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;
