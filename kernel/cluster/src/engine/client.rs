//! A program's half of its engine: the state of each value that it has a handle of, and waiting for it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    call::{context, locate::Located},
    data::segment::Bytes,
    engine::{Connect, Engine, Sink},
    hooks::{self, Wake, hooks},
    model::{
        cluster::{ClusterInfo, ClusterSpec, Published},
        error::{Error, Result, TaskError},
        event::Event,
        history::{Explanation, History, Journey},
        ids::{CodeId, FunctionId, Key, KeyMap},
        task::{Arg, Task},
    },
    wire::protocol::{Answer, AskId, Finished, Request, ToClient},
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
        worker: String,
        address: String,
        duration_us: u64,
    },
    Failed(Error),
}

pub(crate) struct Client {
    engine: Arc<dyn Engine>,
    shared: Arc<Shared>,
    next_priority: AtomicU64,
    next_ask: AtomicU64,
}

/// What the engine tells into.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gone: AtomicBool,
}

#[derive(Default)]
struct State {
    tasks: KeyMap<Entry>,
    functions: HashSet<FunctionId>,
    code: HashSet<CodeId>,
    released: Vec<Key>,
    /// Open questions, with their answers where these have come.
    answers: HashMap<AskId, Option<Answer>>,
    events: VecDeque<Event>,
    /// When values were fetched, for their journeys.
    gathered: KeyMap<u64>,
    reason: String,
}

struct Entry {
    n_handles: usize,
    status: Status,
}

impl Client {
    /// A program's half for any engine.
    pub fn with_engine(connect: Connect) -> std::io::Result<Arc<Client>> {
        let shared = Arc::new(Shared::default());
        let engine = connect(shared.clone())?;
        let client = Arc::new(Client {
            engine,
            shared,
            next_priority: AtomicU64::new(1),
            next_ask: AtomicU64::new(1),
        });
        let wait: Weak<dyn Wake> = Arc::<Shared>::downgrade(&client.shared);
        hooks::register(wait);
        let weak = Arc::downgrade(&client);
        thread::Builder::new()
            .name("release".into())
            .spawn(move || release_often(&weak))?;
        Ok(client)
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    pub fn is_gone(&self) -> bool {
        self.shared.gone.load(Ordering::Relaxed)
    }

    /// Starts workers, or finds them as they are.
    pub fn launch(&self, spec: ClusterSpec) -> Result<ClusterInfo> {
        match self.ask(Request::Launch(spec))? {
            Answer::Launched(result) => result.map_err(Error::Start),
            other => Err(unexpected(&other)),
        }
    }

    pub fn info(&self) -> Result<ClusterInfo> {
        match self.ask(Request::Info)? {
            Answer::Info(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    pub fn journey(&self, key: Key) -> Result<Option<Journey>> {
        let journey = match self.ask(Request::Journey { key })? {
            Answer::Journey(journey) => journey,
            other => return Err(unexpected(&other)),
        };
        let gathered_us = self.lock().gathered.get(&key).copied().unwrap_or(0);
        Ok(journey.map(|journey| Journey {
            gathered_us,
            ..journey
        }))
    }

    pub fn explain(&self, key: Key) -> Result<Option<Explanation>> {
        match self.ask(Request::Explain { key })? {
            Answer::Explained(explanation) => Ok(explanation),
            other => Err(unexpected(&other)),
        }
    }

    pub fn history(&self) -> Result<History> {
        match self.ask(Request::History)? {
            Answer::History(history) => Ok(history),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request about names, and gives all names after it.
    pub fn published(&self, request: Request) -> Result<Vec<Published>> {
        match self.ask(request)? {
            Answer::Published(published) => Ok(published),
            other => Err(unexpected(&other)),
        }
    }

    /// Moves or copies values; gives how many, and their bytes.
    pub fn transfer(&self, request: Request) -> Result<(u64, u64)> {
        match self.ask(request)? {
            Answer::Transferred { n_values, n_bytes } => Ok((n_values, n_bytes)),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends the code of a method to the worker of an actor; gives that worker's address.
    pub fn prepare(&self, actor: Key, located: &Located) -> Result<String> {
        self.put_code(std::slice::from_ref(located))?;
        match self.ask(Request::Prepare {
            actor,
            function: located.function.id,
        })? {
            Answer::Prepared(answer) => {
                answer.map_err(|why| Error::Task(Arc::new(TaskError::actor_lost(&why))))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Calls a method of an actor.
    pub fn call(&self, address: &str, actor: Key, function: FunctionId, args: Vec<Arg>) -> Result<Vec<u8>> {
        let result = self.engine.call(address, actor, function, args);
        if let Err(Error::Interrupted) = result {
            self.stop(&[])?;
        }
        result
    }

    /// Events from now on are kept for [`Client::next_events`].
    pub fn follow(&self) -> Result<()> {
        self.engine.follow()
    }

    /// Events that came since the last call; waits for one, for as long as `patience`.
    pub fn next_events(&self, patience: Duration) -> Result<Vec<Event>> {
        let found = self.wait_until(Some(Instant::now() + patience), |state| {
            (!state.events.is_empty()).then(|| state.events.drain(..).collect())
        })?;
        Ok(found.unwrap_or_default())
    }

    pub fn shutdown(&self) -> Result<()> {
        self.engine.close()
    }

    /// Orders something that has no answer.
    pub fn tell(&self, request: Request) -> Result<()> {
        self.engine.ask(self.next_question(), request)
    }

    fn next_question(&self) -> AskId {
        AskId(self.next_ask.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks, and waits for the answer to this very question.
    fn ask(&self, request: Request) -> Result<Answer> {
        let id = self.next_question();
        self.lock().answers.insert(id, None);
        let asked = self.engine.ask(id, request);
        let answer = asked.and_then(|()| self.wait_for(|state| state.answers.get_mut(&id)?.take()));
        // An answer that comes from here on is nobody's, and not kept.
        self.lock().answers.remove(&id);
        answer
    }

    /// Waits until `found` finds what it looks for, the cluster is gone, or the cell is interrupted.
    fn wait_for<T>(&self, found: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        self.wait_until(None, found)
            .map(|found| found.expect("invariant: without a deadline it is found"))
    }

    /// As [`Client::wait_for`]; `None` when it was not found by the deadline.
    fn wait_until<T>(
        &self,
        deadline: Option<Instant>,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>> {
        let hooks = hooks();
        let mut state = self.lock();
        let mut has_seceded = !context::is_inside();
        loop {
            if let Some(value) = found(&mut state) {
                return Ok(Some(value));
            }
            if !has_seceded {
                has_seceded = true;
                drop(state);
                context::before_wait();
                state = self.lock();
                continue;
            }
            if self.is_gone() {
                return Err(Error::Disconnected(state.reason.clone()));
            }
            if hooks.interrupted.is_some_and(|interrupted| interrupted()) {
                return Err(Error::Interrupted);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self
                    .shared
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => {
                    self.shared
                        .changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Which of these have ended; waits until one has, or the deadline. An interrupt cancels them, and ends
    /// the cell.
    pub fn ended(&self, keys: &[Key], deadline: Option<Instant>) -> Result<Vec<bool>> {
        let has_ended = |state: &State, key: &Key| {
            !matches!(
                state.tasks.get(key).map(|entry| &entry.status),
                Some(Status::Pending)
            )
        };
        let result = self.wait_until(deadline, |state| {
            let ended: Vec<bool> = keys.iter().map(|key| has_ended(state, key)).collect();
            ended.contains(&true).then_some(ended)
        });
        if let Err(Error::Interrupted) = &result {
            self.stop(keys)?;
        }
        Ok(result?.unwrap_or_else(|| vec![false; keys.len()]))
    }

    fn stop(&self, keys: &[Key]) -> Result<()> {
        self.cancel(keys.to_vec())?;
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
    fn put_code(&self, located: &[Located]) -> Result<()> {
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
        let mut new = Vec::with_capacity(wanted.len());
        let released = {
            let mut state = self.lock();
            for key in wanted {
                let entry = state.tasks.entry(*key).or_insert(Entry {
                    n_handles: 0,
                    status: Status::Pending,
                });
                entry.n_handles += 1;
                // What failed is tried again; it is held already.
                if matches!(entry.status, Status::Failed(_)) && tasks.iter().any(|task| task.key == *key) {
                    entry.status = Status::Pending;
                }
                if entry.n_handles == 1 {
                    new.push(*key);
                }
            }
            std::mem::take(&mut state.released)
        };
        self.engine.submit(tasks, new)?;
        // After: a key that was let go a moment ago and is wanted again is held throughout.
        if released.is_empty() {
            Ok(())
        } else {
            self.engine.release(released)
        }
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
            state.released.push(key);
            if state.released.len() == 1 {
                self.shared.changed.notify_all();
            }
        }
    }

    pub fn cancel(&self, keys: Vec<Key>) -> Result<()> {
        self.engine.cancel(keys)
    }

    /// Waits until a value that was there is told to be gone, and gives the reason; `None` if it is not told
    /// in time.
    pub fn why_ended(&self, key: Key, patience: Duration) -> Result<Option<Error>> {
        self.wait_until(Some(Instant::now() + patience), |state| {
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

    pub fn status(&self, key: Key) -> Option<Status> {
        self.lock().tasks.get(&key).map(|entry| entry.status.clone())
    }

    /// Waits for all of these to end. When the cell is interrupted they are cancelled, and the cell ends.
    pub fn wait(&self, keys: &[Key]) -> Result<()> {
        let mut n_ended = 0;
        let result = self.wait_for(|state| {
            // What has ended stays so, but for values that are lost; those are caught when they are fetched.
            while n_ended < keys.len() {
                match state.tasks.get(&keys[n_ended]).map(|entry| &entry.status) {
                    Some(Status::Pending) => return None,
                    Some(Status::Failed(error)) => return Some(Err(error.clone())),
                    _ => n_ended += 1,
                }
            }
            Some(Ok(()))
        });
        if let Err(Error::Interrupted) = &result {
            self.stop(keys)?;
        }
        result?
    }

    /// The bytes of a value, from the worker that has it.
    pub fn fetch(&self, key: Key) -> Result<Bytes> {
        let mut deadline = None;
        loop {
            self.wait(&[key])?;
            let Some(Status::Done {
                inline,
                address,
                worker,
                ..
            }) = self.status(key)
            else {
                continue;
            };
            if let Some(bytes) = inline {
                self.note_gathered(key);
                return Ok(bytes.into());
            }
            match self.engine.fetch(key, &address) {
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Shared {
    fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Disconnected(format!("the scheduler answered something else: {answer:?}"))
}

/// Of events that nobody takes, so many are kept.
const MOST_EVENTS: usize = 1_000_000;

impl State {
    fn on_message(&mut self, message: ToClient) {
        match message {
            ToClient::Welcome { .. } => {}
            ToClient::Answer { id, answer } => {
                if let Some(open) = self.answers.get_mut(&id) {
                    *open = Some(answer);
                }
            }
            ToClient::Events(events) => {
                self.events.extend(events);
                let n_extra = self.events.len().saturating_sub(MOST_EVENTS);
                self.events.drain(..n_extra);
            }
            ToClient::Finished { key, how } => {
                let Some(entry) = self.tasks.get_mut(&key) else {
                    return;
                };
                entry.status = match how {
                    Finished::Done {
                        n_bytes,
                        inline,
                        worker,
                        address,
                        duration_us,
                    } => Status::Done {
                        n_bytes,
                        inline: inline.map(serde_bytes::ByteBuf::into_vec),
                        worker: worker.to_string(),
                        address,
                        duration_us,
                    },
                    Finished::Failed(error) => Status::Failed(Error::Task(error)),
                    Finished::Pending => Status::Pending,
                };
            }
        }
    }
}

impl Sink for Shared {
    fn on_messages(&self, messages: Vec<ToClient>) {
        let mut state = self.lock();
        for message in messages {
            state.on_message(message);
        }
        drop(state);
        self.changed.notify_all();
    }

    fn on_gone(&self, reason: String) {
        self.lock().reason = reason;
        self.gone.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }
}

/// Handles are dropped by the thousand; what they let go is told in batches.
fn release_often(client: &Weak<Client>) {
    while let Some(client) = client.upgrade() {
        if client.is_gone() {
            return;
        }
        let keys = {
            let state = client.lock();
            let wait = Duration::from_millis(500);
            let (mut state, _) = client
                .shared
                .changed
                .wait_timeout_while(state, wait, |state| state.released.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut state.released)
        };
        if !keys.is_empty() {
            let _ = client.engine.release(keys);
            drop(client);
            thread::sleep(Duration::from_millis(2));
        }
    }
}
