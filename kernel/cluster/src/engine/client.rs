//! A program's half of its engine: the state of each value that it has a handle of, and waiting for it.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use skep_render::Message;

use crate::{
    call::{context, locate::Located},
    data::segment::Bytes,
    engine::{
        Actors, Connect, Coordination, Copies, Ended, Engine, Listener, Names, Neighbours, Sink, Stories,
        Told, Workers, has, mirror, watched::Watched,
    },
    hooks::{self, Wake, hooks},
    model::{
        coordination::{ObjectName, Op, Reply},
        error::{Error, Result},
        event::Event,
        history::{Explanation, History, Journey, LogLine},
        ids::{CodeId, FunctionId, Key, KeyMap, WorkerId},
        recording::Recording,
        task::{Arg, Output, Task},
    },
};

static CURRENT: RwLock<Option<Arc<Client>>> = RwLock::new(None);

/// The cluster started last.
pub(crate) fn current() -> Option<Arc<Client>> {
    CURRENT
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
        .filter(|client| !client.is_gone())
}

pub(crate) fn set_current(client: Arc<Client>) {
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
}

#[derive(Clone, Debug)]
pub(crate) enum Status {
    Pending,
    Done {
        n_bytes: u64,
        inline: Option<Vec<u8>>,
        worker: WorkerId,
        duration_us: u64,
    },
    Failed(Error),
}

pub(crate) struct Client {
    engine: Arc<dyn Engine>,
    state: Arc<Watched<State>>,
    next_priority: AtomicU64,
    /// Of an engine whose tasks a notebook shows as its own.
    shown_by: OnceLock<(Arc<Client>, Arc<Listener>)>,
}

#[derive(Default)]
struct State {
    tasks: KeyMap<Entry>,
    functions: HashSet<FunctionId>,
    code: HashSet<CodeId>,
    released: Vec<Key>,
    events: VecDeque<Event>,
    /// Somebody takes events from there.
    keeps_events: bool,
    /// Those who hear events as they come.
    listeners: Vec<Weak<Listener>>,
    /// Futures that wait for a value to end.
    wakers: Arc<Wakers>,
    /// When values were fetched, for their journeys.
    gathered: KeyMap<u64>,
}

#[derive(Default)]
struct Wakers(Mutex<KeyMap<Vec<Waker>>>);

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, KeyMap<Vec<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: Key, waker: &Waker) {
        let mut all = self.lock();
        let of_key = all.entry(key).or_default();
        if !of_key.iter().any(|known| known.will_wake(waker)) {
            of_key.push(waker.clone());
        }
    }

    fn wake_those_of(&self, key: Key) {
        let woken = self.lock().remove(&key);
        woken.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(&self) {
        let woken = std::mem::take(&mut *self.lock());
        woken.into_values().flatten().for_each(Waker::wake);
    }
}

struct Entry {
    n_handles: usize,
    /// What submitted it first: a cell, or 0.
    origin: u32,
    status: Status,
}

impl Client {
    /// A program's half for any engine.
    pub fn with_engine(connect: Connect) -> std::io::Result<Arc<Client>> {
        let state: Arc<Watched<State>> = Watched::new();
        let wakers: Weak<dyn Wake> = Arc::<Wakers>::downgrade(&state.lock().wakers);
        hooks::register(wakers);
        let engine = connect(state.clone())?;
        let client = Arc::new(Client {
            engine,
            state,
            next_priority: AtomicU64::new(1),
            shown_by: OnceLock::new(),
        });
        let weak = Arc::downgrade(&client);
        thread::Builder::new()
            .name("release".into())
            .spawn(move || release_often(&weak))?;
        Ok(client)
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// From now on `own`, the notebook's, shows what happens here.
    pub fn mirror_to(&self, own: Arc<Client>) -> Result<()> {
        let state = self.state.clone();
        let listener = mirror::begin(self.engine.clone(), own.engine.clone(), move || state.is_gone())?;
        self.listen(Arc::downgrade(&listener))?;
        let _ = self.shown_by.set((own, listener));
        Ok(())
    }

    pub fn code_socket(&self) -> Option<std::path::PathBuf> {
        self.engine.code_socket()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn is_gone(&self) -> bool {
        self.state.is_gone()
    }

    pub fn workers(&self) -> Result<&dyn Workers> {
        has(self.engine.workers(), self.engine.name(), "workers of its own")
    }

    pub fn neighbours(&self) -> Result<&dyn Neighbours> {
        has(self.engine.neighbours(), self.engine.name(), "clusters beside it")
    }

    pub fn names(&self) -> Result<&dyn Names> {
        has(self.engine.names(), self.engine.name(), "values under names")
    }

    pub fn copies(&self) -> Result<&dyn Copies> {
        has(
            self.engine.copies(),
            self.engine.name(),
            "copies of values on chosen workers",
        )
    }

    pub fn has_actors(&self) -> bool {
        self.engine.actors().is_some()
    }

    fn actors(&self) -> Result<&dyn Actors> {
        has(self.engine.actors(), self.engine.name(), "actors")
    }

    fn stories(&self) -> Result<&dyn Stories> {
        has(
            self.engine.stories(),
            self.engine.name(),
            "the history of its tasks",
        )
    }

    /// What the engine remembers, or what the notebook does that was told.
    fn told_stories(&self) -> Result<&dyn Stories> {
        match (self.engine.stories(), self.shown_by.get()) {
            (None, Some((own, _))) => own.stories(),
            _ => self.stories(),
        }
    }

    pub fn journey(&self, key: Key) -> Result<Option<Journey>> {
        let stories = self.told_stories()?;
        let mut journey = stories.journey(key)?;
        let until = Instant::now() + TOLD_WITHIN;
        // It has ended, and what was told of it is on its way.
        while self.shown_by.get().is_some()
            && !matches!(self.status(key), Some(Status::Pending) | None)
            && journey.as_ref().is_some_and(Journey::is_open)
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(5));
            journey = stories.journey(key)?;
        }
        let gathered_us = self.lock().gathered.get(&key).copied().unwrap_or(0);
        Ok(journey.map(|journey| Journey {
            gathered_us,
            ..journey
        }))
    }

    pub fn explain(&self, key: Key) -> Result<Option<Explanation>> {
        self.stories()?.explain(key)
    }

    pub fn task(&self, key: Key) -> Result<Option<Task>> {
        self.stories()?.task(key)
    }

    pub fn dashboard(&self) -> Result<String> {
        self.told_stories()?.dashboard()
    }

    pub fn logs(&self) -> Result<Vec<LogLine>> {
        self.told_stories()?.logs()
    }

    pub fn history(&self) -> Result<History> {
        if self.shown_by.get().is_some() {
            // What has just ended is on its way.
            thread::sleep(SETTLES_WITHIN);
        }
        self.told_stories()?.history()
    }

    /// Notes the tasks that are submitted from now on.
    pub fn record(&self) -> Result<()> {
        self.stories()?.record()
    }

    /// What was noted since.
    pub fn recorded(&self) -> Result<Recording> {
        self.stories()?.recorded()
    }

    /// Asks something of a named object; an interrupt ends the cell.
    pub fn coordinate(&self, object: &ObjectName, op: Op, patience: Option<Duration>) -> Result<Reply> {
        let result = self.coordination()?.coordinate(object.clone(), op, patience);
        if let Err(Error::Interrupted) = result {
            self.stop(&[])?;
        }
        result
    }

    pub fn coordination(&self) -> Result<&dyn Coordination> {
        has(
            self.engine.coordination(),
            self.engine.name(),
            "locks, queues and their like",
        )
    }

    /// Calls a method of an actor.
    pub fn call(&self, actor: Key, method: &Located, args: Vec<Arg>) -> Result<Vec<u8>> {
        let actors = self.actors()?;
        self.put_code(std::slice::from_ref(method))?;
        let result = actors.call(actor, method.function.id, args);
        if let Err(Error::Interrupted) = result {
            self.stop(&[])?;
        }
        result
    }

    /// Runs a task to its end, whoever holds it.
    pub fn detach(&self, key: Key) -> Result<()> {
        self.engine.detach(key)
    }

    /// Events from now on are kept for [`Client::next_events`].
    pub fn follow(&self) -> Result<()> {
        self.lock().keeps_events = true;
        self.engine.follow(true)
    }

    /// Calls `listener` with events from now on, for as long as it is there.
    pub fn listen(&self, listener: Weak<Listener>) -> Result<()> {
        self.lock().listeners.push(listener);
        self.engine.follow(true)
    }

    /// A listener has gone.
    pub fn unlisten(&self) {
        let wants_none = {
            let mut state = self.lock();
            state.listeners.retain(|listener| listener.strong_count() > 0);
            state.listeners.is_empty() && !state.keeps_events
        };
        if wants_none {
            let _ = self.engine.follow(false);
        }
    }

    /// Events that came since the last call; waits for one, for as long as `patience`.
    pub fn next_events(&self, patience: Duration) -> Result<Vec<Event>> {
        let found = self.state.wait_until(Some(Instant::now() + patience), |state| {
            (!state.events.is_empty()).then(|| state.events.drain(..).collect())
        })?;
        Ok(found.unwrap_or_default())
    }

    pub fn shutdown(&self) -> Result<()> {
        self.engine.close()
    }

    /// Which of these have ended; waits until one has, or the deadline. An interrupt ends the cell and what it launched.
    pub fn ended(&self, keys: &[Key], deadline: Option<Instant>) -> Result<Vec<bool>> {
        let has_ended = |state: &State, key: &Key| {
            !matches!(
                state.tasks.get(key).map(|entry| &entry.status),
                Some(Status::Pending)
            )
        };
        let result = self.state.wait_until(deadline, |state| {
            let ended: Vec<bool> = keys.iter().map(|key| has_ended(state, key)).collect();
            ended.contains(&true).then_some(ended)
        });
        if let Err(Error::Interrupted) = &result {
            self.stop(keys)?;
        }
        Ok(result?.unwrap_or_else(|| vec![false; keys.len()]))
    }

    /// Ends an interrupted cell, and the tasks that it launched. Those of earlier cells go on. A program, and a task,
    /// end what they wait for.
    fn stop(&self, keys: &[Key]) -> Result<()> {
        let origin = context::origin();
        let keys = if origin == 0 || context::is_inside() {
            keys.to_vec()
        } else {
            let state = self.lock();
            let is_its_own =
                |entry: &Entry| entry.origin == origin && matches!(entry.status, Status::Pending);
            let own = state.tasks.iter().filter(|(_, entry)| is_its_own(entry));
            own.map(|(key, _)| *key).collect()
        };
        self.cancel(keys)?;
        if let Some(stop) = hooks().stop {
            stop();
        }
        Ok(())
    }

    /// The next number in the order in which tasks should run.
    pub fn next_priority(&self) -> u64 {
        self.next_priority.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes functions and code known that the engine has not seen.
    pub fn put_code(&self, located: &[Located]) -> Result<()> {
        let (mut functions, mut code) = (Vec::new(), Vec::new());
        {
            let mut state = self.lock();
            for Located { function, library } in located {
                if state.functions.insert(function.id) {
                    functions.push(function.clone());
                    code.extend(
                        state
                            .code
                            .insert(function.code)
                            .then(|| (function.code, library.clone())),
                    );
                }
            }
        }
        if functions.is_empty() {
            Ok(())
        } else {
            self.engine.put_code(functions, code)
        }
    }

    /// Submits tasks, and holds those that are wanted.
    pub fn submit(&self, tasks: Vec<Task>, wanted: &[Key], located: &[Located]) -> Result<()> {
        self.put_code(located)?;
        let origin = context::origin();
        let (mut new, mut failed) = (Vec::with_capacity(wanted.len()), Vec::new());
        let released = {
            let mut state = self.lock();
            for key in wanted {
                let entry = state.tasks.entry(*key).or_insert(Entry {
                    n_handles: 0,
                    origin,
                    status: Status::Pending,
                });
                entry.n_handles += 1;
                // What failed is tried again; it is held already.
                if matches!(entry.status, Status::Failed(_)) && tasks.iter().any(|task| task.key == *key) {
                    failed.push((*key, std::mem::replace(&mut entry.status, Status::Pending)));
                }
                if entry.n_handles == 1 {
                    new.push(*key);
                }
            }
            std::mem::take(&mut state.released)
        };
        if let Err(error) = self.engine.submit(tasks, new) {
            self.take_back(wanted, failed, released);
            return Err(error);
        }
        // After: a key that was let go a moment ago and is wanted again is held throughout.
        if released.is_empty() {
            Ok(())
        } else {
            self.engine.release(released)
        }
    }

    /// The engine took in none of it: nobody gets a handle of these, and what was to be let go still is.
    fn take_back(&self, wanted: &[Key], failed: Vec<(Key, Status)>, released: Vec<Key>) {
        let mut state = self.lock();
        for (key, status) in failed {
            if let Some(entry) = state.tasks.get_mut(&key) {
                entry.status = status;
            }
        }
        for key in wanted {
            if let Some(entry) = state.tasks.get_mut(key) {
                entry.n_handles -= 1;
                if entry.n_handles == 0 {
                    state.tasks.remove(key);
                }
            }
        }
        state.released.extend(released);
        self.state.notify();
    }

    pub fn release(&self, key: Key) {
        let mut state = self.lock();
        let Some(entry) = state.tasks.get_mut(&key) else {
            return;
        };
        entry.n_handles -= 1;
        if entry.n_handles == 0 {
            state.tasks.remove(&key);
            state.gathered.remove(&key);
            state.wakers.lock().remove(&key);
            state.released.push(key);
            if state.released.len() == 1 {
                self.state.notify();
            }
        }
    }

    pub fn cancel(&self, keys: Vec<Key>) -> Result<()> {
        self.engine.cancel(keys)
    }

    /// Waits until a value that was there is told to be gone, and gives the reason; `None` if it is not told
    /// in time.
    pub fn why_ended(&self, key: Key, patience: Duration) -> Result<Option<Error>> {
        self.state.wait_until(Some(Instant::now() + patience), |state| {
            match state.tasks.get(&key).map(|entry| &entry.status) {
                Some(Status::Failed(error)) => Some(error.clone()),
                _ => None,
            }
        })
    }

    /// Whether a handle of this value is held, and the value is there.
    pub fn is_known(&self, key: Key) -> bool {
        matches!(
            self.lock().tasks.get(&key).map(|entry| &entry.status),
            Some(Status::Done { .. })
        )
    }

    /// Whether a task has not ended; the waker is then woken when it does, when the engine is gone, and on an interrupt.
    pub fn is_pending(&self, key: Key, waker: &Waker) -> bool {
        let state = self.lock();
        let is_so = matches!(
            state.tasks.get(&key).map(|entry| &entry.status),
            Some(Status::Pending)
        );
        if is_so {
            state.wakers.add(key, waker);
        }
        is_so && !self.is_gone()
    }

    pub fn status(&self, key: Key) -> Option<Status> {
        self.lock().tasks.get(&key).map(|entry| entry.status.clone())
    }

    /// Waits for all of these to end. An interrupt ends the cell and what it launched.
    pub fn wait(&self, keys: &[Key]) -> Result<()> {
        let mut n_ended = 0;
        let result = self.state.wait_for(|state| {
            // What has ended stays so, but for values that are lost; those are caught when they are fetched.
            while n_ended < keys.len() {
                match state.tasks.get(&keys[n_ended]).map(|entry| &entry.status) {
                    Some(Status::Pending) => return None,
                    Some(Status::Failed(error)) => return Some(Err(error.clone())),
                    Some(Status::Done { .. }) => n_ended += 1,
                    None => return Some(Err(of_another_cluster())),
                }
            }
            Some(Ok(()))
        });
        if let Err(Error::Interrupted) = &result {
            self.stop(keys)?;
        }
        result?
    }

    /// The bytes of a value, or of a part of it, from the worker that has it.
    pub fn fetch(&self, output: Output) -> Result<Bytes> {
        let key = output.task;
        let mut deadline = None;
        loop {
            self.wait(&[key])?;
            let Some(Status::Done { inline, worker, .. }) = self.status(key) else {
                continue;
            };
            if let Some(bytes) = inline {
                self.note_gathered(key);
                return Ok(bytes.into());
            }
            match self.engine.fetch(output, worker) {
                Ok(Some(value)) => {
                    self.note_gathered(key);
                    return value;
                }
                Err(Error::Interrupted) => {
                    self.stop(&[key])?;
                    return Err(Error::Interrupted);
                }
                Err(error) => return Err(error),
                // The worker is dying, or was told to let go: the scheduler will say what becomes of the
                // value.
                Ok(None) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_secs(60));
                    if Instant::now() > deadline {
                        return Err(Error::Disconnected(format!(
                            "{worker} has the value but does not answer"
                        )));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    fn note_gathered(&self, key: Key) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64);
        self.lock().gathered.entry(key).or_insert(now);
    }
}

/// Whoever holds a handle of this cluster has its state here.
fn of_another_cluster() -> Error {
    Error::Unsupported(
        Message::new("a handle of another cluster was given to this one").hint(
            "a handle belongs to the cluster that made it: `handle.gather()?` brings its value here, and that goes to any cluster",
        ),
    )
}

/// What happens on another engine is told within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// And mostly within this.
const SETTLES_WITHIN: Duration = Duration::from_millis(120);

/// Of events that nobody takes, so many are kept.
const MOST_EVENTS: usize = 1_000_000;

impl State {
    fn on_told(&mut self, told: Told) {
        match told {
            Told::Events(events) => {
                for listener in self.listeners.iter().filter_map(Weak::upgrade) {
                    listener(&events);
                }
                if self.keeps_events {
                    self.events.extend(events);
                    let n_extra = self.events.len().saturating_sub(MOST_EVENTS);
                    self.events.drain(..n_extra);
                }
            }
            Told::Ended { key, how } => {
                let Some(entry) = self.tasks.get_mut(&key) else {
                    return;
                };
                entry.status = match how {
                    Ended::Done {
                        n_bytes,
                        inline,
                        worker,
                        duration_us,
                    } => Status::Done {
                        n_bytes,
                        inline,
                        worker,
                        duration_us,
                    },
                    Ended::Failed(error) => Status::Failed(Error::Task(error)),
                    Ended::Pending => Status::Pending,
                };
                if !matches!(entry.status, Status::Pending) {
                    self.wakers.wake_those_of(key);
                }
            }
        }
    }
}

impl Sink for Watched<State> {
    fn on_told(&self, told: Vec<Told>) {
        self.change(|state| told.into_iter().for_each(|told| state.on_told(told)));
    }

    fn on_gone(&self, reason: String) {
        self.end(reason);
        let wakers = self.lock().wakers.clone();
        wakers.wake();
    }
}

/// Handles are dropped by the thousand; what they let go is told in batches.
fn release_often(client: &Weak<Client>) {
    while let Some(client) = client.upgrade() {
        if client.is_gone() {
            return;
        }
        let keys = {
            let most = Duration::from_millis(500);
            let mut state = client.state.wait_while(most, |state| state.released.is_empty());
            std::mem::take(&mut state.released)
        };
        if !keys.is_empty() {
            let _ = client.engine.release(keys);
            drop(client);
            thread::sleep(Duration::from_millis(2));
        }
    }
}
