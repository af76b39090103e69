//! A program's connection to its cluster: it knows the state of each value that it has a handle of.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    io,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    CodeId, Error, FunctionId, Journey, Key, Result,
    function::Located,
    hub::{read_blocking, write_blocking},
    ids::KeyMap,
    message::{ClusterInfo, ClusterSpec, Finished, GetValue, Published, Task, ToClient, ToScheduler, ValueReply},
};

/// How a notebook takes part. In a plain program nothing is set.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Whether the running cell has been interrupted.
    pub interrupted: Option<fn() -> bool>,
    /// Ends the interrupted cell.
    pub stop: Option<fn()>,
    /// Whether somebody will make an optimised build of this library; asks for it if so.
    pub code_needed: Option<fn(&str) -> bool>,
    /// In a worker: this thread's tasks stop when the flag is raised.
    pub adopt: fn(&'static AtomicBool),
    pub raise: fn(&'static AtomicBool),
    pub lower: fn(&'static AtomicBool),
    /// Whether a panic's payload is a task's own stop.
    pub is_stop: fn(&(dyn Any + Send)) -> bool,
}

impl Hooks {
    /// A plain program: nobody interrupts it, and its tasks are not told to stop.
    pub const NONE: Hooks = Hooks { interrupted: None, stop: None, code_needed: None, adopt: |_| {}, raise: |_| {}, lower: |_| {}, is_stop: |_| false };
}

static HOOKS: RwLock<Hooks> = RwLock::new(Hooks::NONE);

pub fn set_hooks(hooks: Hooks) {
    *HOOKS.write().unwrap_or_else(PoisonError::into_inner) = hooks;
}

pub(crate) fn hooks() -> Hooks {
    *HOOKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Makes waits look again whether they were interrupted.
pub fn wake_waits() {
    if let Some(client) = current() {
        drop(client.lock());
        client.changed.notify_all();
    }
}

static CURRENT: RwLock<Option<Arc<Client>>> = RwLock::new(None);

/// The cluster started last.
pub(crate) fn current() -> Option<Arc<Client>> {
    CURRENT.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|client| !client.is_gone())
}

pub(crate) fn set_current(client: Arc<Client>) {
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
}

#[derive(Clone, Debug)]
pub(crate) enum Status {
    Pending,
    Done { n_bytes: u64, inline: Option<Vec<u8>>, worker: String, address: String, duration_us: u64 },
    Failed(Error),
}

pub(crate) struct Client {
    writer: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
    gone: AtomicBool,
    next_priority: AtomicU64,
    peers: Mutex<HashMap<String, Arc<Mutex<UnixStream>>>>,
}

#[derive(Default)]
struct State {
    tasks: KeyMap<Entry>,
    functions: HashSet<FunctionId>,
    code: HashSet<CodeId>,
    released: Vec<Key>,
    launched: Option<Result<ClusterInfo, String>>,
    info: Option<ClusterInfo>,
    journey: Option<(Key, Option<Journey>)>,
    published: Option<Vec<Published>>,
    /// When values were fetched, for their journeys.
    gathered: KeyMap<u64>,
    reason: String,
}

struct Entry {
    n_handles: usize,
    status: Status,
}

impl Client {
    /// Connects to the scheduler at a socket.
    pub fn connect(socket: &Path) -> io::Result<Arc<Client>> {
        let mut stream = UnixStream::connect(socket)?;
        write_blocking(&mut stream, &vec![ToScheduler::Hello])?;
        let reader = stream.try_clone()?;
        let client = Arc::new(Client {
            writer: Mutex::new(stream),
            state: Mutex::default(),
            changed: Condvar::new(),
            gone: AtomicBool::new(false),
            next_priority: AtomicU64::new(1),
            peers: Mutex::default(),
        });
        let weak = Arc::downgrade(&client);
        thread::Builder::new().name("cluster".into()).spawn(move || read(&weak, reader))?;
        let weak = Arc::downgrade(&client);
        thread::Builder::new().name("release".into()).spawn(move || release_often(&weak))?;
        Ok(client)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn send(&self, messages: &[ToScheduler]) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        write_blocking(&mut *writer, &messages).map_err(|error| Error::Disconnected(error.to_string()))
    }

    /// Starts workers, or finds them as they are.
    pub fn launch(&self, spec: ClusterSpec) -> Result<ClusterInfo> {
        self.lock().launched = None;
        self.send(&[ToScheduler::Launch(spec)])?;
        self.wait_for(|state| state.launched.take())?.map_err(Error::Start)
    }

    pub fn info(&self) -> Result<ClusterInfo> {
        self.lock().info = None;
        self.send(&[ToScheduler::Info])?;
        self.wait_for(|state| state.info.take())
    }

    pub fn journey(&self, key: Key) -> Result<Option<Journey>> {
        self.lock().journey = None;
        self.send(&[ToScheduler::Journey { key }])?;
        let journey = self.wait_for(|state| state.journey.take_if(|(of, _)| *of == key))?.1;
        let gathered_us = self.lock().gathered.get(&key).copied().unwrap_or(0);
        Ok(journey.map(|journey| Journey { gathered_us, ..journey }))
    }

    /// Sends a request about names, and gives all names after it.
    pub fn published(&self, request: ToScheduler) -> Result<Vec<Published>> {
        self.lock().published = None;
        self.send(&[request])?;
        self.wait_for(|state| state.published.take())
    }

    pub fn shutdown(&self) -> Result<()> {
        self.send(&[ToScheduler::Shutdown])
    }

    pub fn kill_worker(&self, worker: crate::WorkerId) -> Result<()> {
        self.send(&[ToScheduler::KillWorker { worker }])
    }

    /// Waits until `found` finds what it looks for, the cluster is gone, or the cell is interrupted.
    fn wait_for<T>(&self, found: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        self.wait_until(None, found).map(|found| found.expect("invariant: without a deadline it is found"))
    }

    /// As [`Client::wait_for`]; `None` when it was not found by the deadline.
    fn wait_until<T>(&self, deadline: Option<Instant>, mut found: impl FnMut(&mut State) -> Option<T>) -> Result<Option<T>> {
        let hooks = hooks();
        let mut state = self.lock();
        loop {
            if let Some(value) = found(&mut state) {
                return Ok(Some(value));
            }
            if self.is_gone() {
                return Err(Error::Disconnected(state.reason.clone()));
            }
            if hooks.interrupted.is_some_and(|interrupted| interrupted()) {
                return Err(Error::Interrupted);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Which of these have ended; waits until one has, or the deadline. An interrupt cancels them, and ends the cell.
    pub fn ended(&self, keys: &[Key], deadline: Option<Instant>) -> Result<Vec<bool>> {
        let has_ended = |state: &State, key: &Key| !matches!(state.tasks.get(key).map(|entry| &entry.status), Some(Status::Pending));
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

    /// Asks the scheduler for something that has no answer.
    pub fn tell(&self, message: ToScheduler) -> Result<()> {
        self.send(&[message])
    }

    /// The next number in the order in which tasks should run.
    pub fn next_priority(&self) -> u64 {
        self.next_priority.fetch_add(1, Ordering::Relaxed)
    }

    /// Submits tasks, and holds those that are wanted. Functions and code that the scheduler has not seen go ahead.
    pub fn submit(&self, tasks: Vec<Task>, wanted: &[Key], located: &[Located]) -> Result<()> {
        let mut messages = Vec::new();
        {
            let mut state = self.lock();
            for located in located {
                let function = &located.function;
                if state.functions.insert(function.id) {
                    messages.push(ToScheduler::Function(function.clone()));
                    if state.code.insert(function.code) {
                        messages.push(ToScheduler::Code { id: function.code, path: located.library.clone() });
                    }
                }
            }
            let mut new = Vec::with_capacity(wanted.len());
            for key in wanted {
                let entry = state.tasks.entry(*key).or_insert(Entry { n_handles: 0, status: Status::Pending });
                entry.n_handles += 1;
                let is_retry = matches!(entry.status, Status::Failed(_));
                if is_retry {
                    entry.status = Status::Pending;
                }
                if entry.n_handles == 1 || is_retry {
                    new.push(*key);
                }
            }
            // A key that was let go a moment ago is wanted again: one of the two cancels the other.
            messages.extend((!state.released.is_empty()).then(|| ToScheduler::Release { keys: std::mem::take(&mut state.released) }));
            messages.push(ToScheduler::Submit { tasks, wanted: new });
        }
        self.send(&messages)
    }

    pub fn release(&self, key: Key) {
        let mut state = self.lock();
        let Some(entry) = state.tasks.get_mut(&key) else { return };
        entry.n_handles -= 1;
        if entry.n_handles == 0 {
            state.tasks.remove(&key);
            state.gathered.remove(&key);
            state.released.push(key);
            if state.released.len() == 1 {
                self.changed.notify_all();
            }
        }
    }

    pub fn cancel(&self, keys: Vec<Key>) -> Result<()> {
        self.send(&[ToScheduler::Cancel { keys }])
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
    pub fn fetch(&self, key: Key) -> Result<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.wait(&[key])?;
            let Some(Status::Done { inline, address, worker, .. }) = self.status(key) else {
                continue;
            };
            if let Some(bytes) = inline {
                self.note_gathered(key);
                return Ok(bytes);
            }
            match self.fetch_from(&address, key) {
                Ok(Some(value)) => {
                    self.note_gathered(key);
                    return value.map_err(|error| Error::Serialisation(format!("the result could not be sent: {error}")));
                }
                // The worker is dying, or was told to let go: the scheduler will say what becomes of the value.
                Ok(None) | Err(_) => {
                    self.peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
                    if Instant::now() > deadline {
                        return Err(Error::Disconnected(format!("{worker} has the value but does not answer")));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    fn note_gathered(&self, key: Key) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        self.lock().gathered.entry(key).or_insert(now);
    }

    fn fetch_from(&self, address: &str, key: Key) -> io::Result<Option<Result<Vec<u8>, String>>> {
        let known = self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        let peer = match known {
            Some(peer) => peer,
            None => {
                let peer = Arc::new(Mutex::new(UnixStream::connect(address)?));
                self.peers.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_string(), peer.clone());
                peer
            }
        };
        let mut stream = peer.lock().unwrap_or_else(PoisonError::into_inner);
        write_blocking(&mut *stream, &GetValue { key })?;
        let reply: ValueReply = read_blocking(&mut *stream)?;
        Ok(reply.value.map(|value| value.map(serde_bytes::ByteBuf::into_vec)))
    }

    fn on_message(&self, state: &mut State, message: ToClient) {
        match message {
            ToClient::Welcome { .. } => {}
            ToClient::Launched(result) => state.launched = Some(result),
            ToClient::Info(info) => state.info = Some(info),
            ToClient::Published(published) => state.published = Some(published),
            ToClient::Journey { key, journey } => state.journey = Some((key, journey)),
            ToClient::Finished { key, how } => {
                let Some(entry) = state.tasks.get_mut(&key) else { return };
                entry.status = match how {
                    Finished::Done { n_bytes, inline, worker, address, duration_us } => {
                        Status::Done { n_bytes, inline: inline.map(serde_bytes::ByteBuf::into_vec), worker: worker.to_string(), address, duration_us }
                    }
                    Finished::Failed(error) => Status::Failed(Error::Task(error)),
                    Finished::Pending => Status::Pending,
                };
            }
        }
    }
}

fn read(client: &Weak<Client>, mut stream: UnixStream) {
    loop {
        let read: io::Result<Vec<ToClient>> = read_blocking(&mut stream);
        let Some(client) = client.upgrade() else { return };
        match read {
            Ok(messages) => {
                let mut state = client.lock();
                for message in messages {
                    client.on_message(&mut state, message);
                }
            }
            Err(error) => {
                client.lock().reason = if error.kind() == io::ErrorKind::UnexpectedEof { "the scheduler has ended".into() } else { error.to_string() };
                client.gone.store(true, Ordering::SeqCst);
            }
        }
        client.changed.notify_all();
        if client.is_gone() {
            return;
        }
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
            let (mut state, _) = client.changed.wait_timeout_while(state, wait, |state| state.released.is_empty()).unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut state.released)
        };
        if !keys.is_empty() {
            let _ = client.send(&[ToScheduler::Release { keys }]);
            drop(client);
            thread::sleep(Duration::from_millis(2));
        }
    }
}
