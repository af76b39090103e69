//! A worker process: one thread for sockets and decisions, a few for tasks, one that encodes values for others.

use std::{
    collections::{BinaryHeap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::AtomicBool,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mio::Waker;
use serde_bytes::ByteBuf;

use crate::{
    FunctionId, Key, TaskError, TaskErrorKind, client, code,
    function::{Inputs, Thunk},
    hub::{ConnId, Hub, HubEvent, decode},
    message::{Function, GetValue, Ran, Task, ToScheduler, ToWorker, ValueReply},
    value::Stored,
    worker::{Comm, Worker},
};

/// A task that was told to stop has this long, before another thread takes its place.
const STOP_PATIENCE: Duration = Duration::from_millis(300);
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Of the memory limit: a worker above it ends itself, before the system chooses a victim.
const MOST_MEMORY: f64 = 0.95;

/// How a worker process is started.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    pub scheduler: PathBuf,
    pub threads: u32,
    /// Bytes; 0 is no limit.
    pub memory_limit: u64,
}

/// Runs a worker until its scheduler is gone.
///
/// # Errors
/// When the scheduler cannot be reached or sockets cannot be made.
pub fn run_worker(options: &WorkerOptions) -> io::Result<()> {
    let pid = std::process::id();
    let address = options.scheduler.with_file_name(format!("worker-{pid}.sock"));
    let mut hub = Hub::new(Some(&address))?;
    let scheduler = match hub.connect(&options.scheduler) {
        // The notebook ended while this process was starting.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(()),
        connected => connected?,
    };
    let register = ToScheduler::Register { pid, address: address.to_string_lossy().into_owned(), threads: options.threads, memory_limit: options.memory_limit };
    hub.send(scheduler, &vec![register]);
    let pool = Arc::new(Pool::default());
    let ended = Arc::new(Mutex::new(Vec::new()));
    for i in 0..options.threads.max(1) {
        let (pool, ended, waker) = (pool.clone(), ended.clone(), hub.waker());
        pool.start(format!("task-{i}"), ended, waker)?;
    }
    let encoded = Arc::new(Mutex::new(Vec::new()));
    let encoder = start_encoder(encoded.clone(), hub.waker())?;
    let runtime = Runtime { scheduler, reports: Vec::new(), pool, peers: HashMap::new(), fetches: HashMap::new(), unreachable: Vec::new(), hub };
    let mut server = Server { worker: Worker::default(), runtime, ended, encoded, encoder, memory_limit: options.memory_limit, name: String::from("worker") };
    let result = server.serve();
    let _ = std::fs::remove_file(&address);
    result
}

struct Server {
    worker: Worker<Stored>,
    runtime: Runtime,
    ended: Arc<Mutex<Vec<Ended>>>,
    encoded: Arc<Mutex<Vec<(ConnId, ValueReply)>>>,
    encoder: Sender<(ConnId, Key, Stored)>,
    memory_limit: u64,
    name: String,
}

struct Runtime {
    hub: Hub,
    scheduler: ConnId,
    reports: Vec<ToScheduler>,
    pool: Arc<Pool>,
    peers: HashMap<String, ConnId>,
    fetches: HashMap<ConnId, Vec<Key>>,
    /// Fetches that failed at once.
    unreachable: Vec<Key>,
}

/// A task that ran.
struct Ended {
    key: Key,
    result: Result<Stored, TaskError>,
    start_us: u64,
    duration_us: u64,
}

impl Server {
    fn serve(&mut self) -> io::Result<()> {
        let mut happened = Vec::new();
        let mut next_beat = Instant::now();
        loop {
            let timeout = next_beat.saturating_duration_since(Instant::now());
            self.runtime.hub.wait(Some(timeout), &mut happened)?;
            for event in happened.drain(..) {
                match event {
                    HubEvent::Frame(conn, frame) if conn == self.runtime.scheduler => {
                        for message in decode::<Vec<ToWorker>>(&frame)? {
                            if !self.on_message(message) {
                                return Ok(());
                            }
                        }
                    }
                    HubEvent::Frame(conn, frame) => self.on_peer(conn, &frame),
                    // The notebook is gone, and so are we, whatever a task is doing.
                    HubEvent::Closed(conn) if conn == self.runtime.scheduler => return Ok(()),
                    HubEvent::Closed(conn) => self.on_peer_lost(conn),
                    HubEvent::Opened | HubEvent::Woken => {}
                }
            }
            self.collect();
            if Instant::now() >= next_beat {
                next_beat = Instant::now() + HEARTBEAT;
                self.beat();
            }
            self.runtime.send_reports();
        }
    }

    fn on_message(&mut self, message: ToWorker) -> bool {
        match message {
            ToWorker::Welcome { id } => self.name = id.to_string(),
            ToWorker::Function { function, library } => self.runtime.pool.add_function(function, library),
            ToWorker::Compute(assignment) => self.worker.compute(assignment, &mut self.runtime),
            ToWorker::Free { keys } => self.worker.free(&keys),
            ToWorker::Cancel { keys } => self.worker.cancel(&keys, &mut self.runtime),
            ToWorker::Exit => return false,
        }
        let unreachable: Vec<Key> = self.runtime.unreachable.drain(..).collect();
        for key in unreachable {
            self.worker.on_fetched(key, None, &mut self.runtime);
        }
        true
    }

    /// A peer asks for a value, or answers.
    fn on_peer(&mut self, conn: ConnId, frame: &[u8]) {
        if self.runtime.fetches.contains_key(&conn) {
            let Ok(reply) = decode::<ValueReply>(frame) else { return self.on_peer_lost(conn) };
            if let Some(keys) = self.runtime.fetches.get_mut(&conn) {
                keys.retain(|key| *key != reply.key);
            }
            let value = reply.value.and_then(Result::ok).map(|bytes| Stored::Bytes(bytes.into_vec().into()));
            return self.worker.on_fetched(reply.key, value, &mut self.runtime);
        }
        let Ok(GetValue { key }) = decode::<GetValue>(frame) else { return self.runtime.hub.close(conn) };
        match self.worker.value(key) {
            Some(value) => drop(self.encoder.send((conn, key, value.clone()))),
            None => self.runtime.hub.send(conn, &ValueReply { key, value: None }),
        }
    }

    fn on_peer_lost(&mut self, conn: ConnId) {
        self.runtime.hub.close(conn);
        self.runtime.peers.retain(|_, peer| *peer != conn);
        for key in self.runtime.fetches.remove(&conn).unwrap_or_default() {
            self.worker.on_fetched(key, None, &mut self.runtime);
        }
    }

    /// Takes in what the other threads have finished.
    fn collect(&mut self) {
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for Ended { key, result, start_us, duration_us } in ended {
            match result {
                Ok(value) => {
                    let (n_bytes, inline) = (value.size(), value.inline().map(ByteBuf::from));
                    if self.worker.on_finished(key, Some(value)) {
                        self.runtime.reports.push(ToScheduler::Done(Ran { key, n_bytes, inline, start_us, duration_us }));
                    }
                }
                Err(mut error) => {
                    error.worker = Some(self.name.clone());
                    if self.worker.on_finished(key, None) {
                        self.runtime.reports.push(ToScheduler::Failed { key, error });
                    }
                }
            }
        }
        self.runtime.pool.clone().replace_stuck(&self.ended, &self.runtime.hub.waker());
        for key in self.runtime.pool.take_forgotten() {
            self.worker.on_forgotten(key);
        }
        for (conn, reply) in std::mem::take(&mut *self.encoded.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.runtime.hub.send(conn, &reply);
        }
    }

    fn beat(&mut self) {
        let resident = resident_bytes();
        self.runtime.reports.push(ToScheduler::Heartbeat { resident });
        if self.memory_limit > 0 && resident as f64 > MOST_MEMORY * self.memory_limit as f64 {
            let running = self.runtime.pool.running().join("`, `");
            let running = if running.is_empty() { "holding its results".to_string() } else { format!("running `{running}`") };
            let cause = format!("over its memory limit: {} of {} while {running}", skep_render::bytes(resident), skep_render::bytes(self.memory_limit));
            self.runtime.reports.push(ToScheduler::Dying { cause });
            self.runtime.send_reports();
            self.runtime.hub.flush();
            // Without destructors: tasks are still running, and memory is short.
            // SAFETY: ends this process.
            unsafe { libc::_exit(3) };
        }
    }
}

impl Runtime {
    fn send_reports(&mut self) {
        if !self.reports.is_empty() {
            let reports = std::mem::take(&mut self.reports);
            self.hub.send(self.scheduler, &reports);
        }
    }

    fn peer(&mut self, address: &str) -> io::Result<ConnId> {
        if let Some(conn) = self.peers.get(address) {
            return Ok(*conn);
        }
        let conn = self.hub.connect(Path::new(address))?;
        self.peers.insert(address.to_string(), conn);
        self.fetches.insert(conn, Vec::new());
        Ok(conn)
    }
}

impl Comm<Stored> for Runtime {
    fn execute(&mut self, task: Arc<Task>, inputs: HashMap<Key, Stored>) {
        self.pool.push(task, inputs);
    }

    fn fetch(&mut self, address: &str, key: Key) {
        match self.peer(address) {
            Ok(conn) => {
                self.hub.send(conn, &GetValue { key });
                self.fetches.entry(conn).or_default().push(key);
            }
            Err(_) => self.unreachable.push(key),
        }
    }

    fn report(&mut self, message: ToScheduler) {
        self.reports.push(message);
    }

    fn forget(&mut self, key: Key) {
        self.pool.forget(key);
    }

    fn decode_inline(&mut self, bytes: &[u8]) -> Stored {
        Stored::Bytes(bytes.into())
    }
}

/// The tasks that are ready, most urgent first, and the threads that run them.
#[derive(Default)]
struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
    functions: Mutex<HashMap<FunctionId, Loaded>>,
}

#[derive(Default)]
struct Queue {
    jobs: BinaryHeap<Job>,
    forgotten: Vec<Key>,
    running: HashMap<Key, Running>,
}

/// A task on a thread.
struct Running {
    function: FunctionId,
    /// The thread's flag; raised, it tells the task to stop.
    stop: &'static AtomicBool,
    cancelled_at: Option<Instant>,
    /// Another thread does this one's work now; it ends with its task.
    is_replaced: bool,
}

struct Loaded {
    function: Function,
    library: String,
    thunk: Option<Result<Thunk, String>>,
}

struct Job {
    task: Arc<Task>,
    inputs: HashMap<Key, Stored>,
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.task.priority == other.task.priority
    }
}
impl Eq for Job {}
impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Job {
    /// The heap gives the greatest first; a lower priority number is more urgent.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.task.priority.cmp(&self.task.priority)
    }
}

impl Pool {
    fn push(&self, task: Arc<Task>, inputs: HashMap<Key, Stored>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).jobs.push(Job { task, inputs });
        self.ready.notify_one();
    }

    fn forget(&self, key: Key) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.jobs.len();
        queue.jobs.retain(|job| job.task.key != key);
        if queue.jobs.len() < before {
            queue.forgotten.push(key);
        } else if let Some(running) = queue.running.get_mut(&key) {
            running.cancelled_at = Some(Instant::now());
            (client::hooks().raise)(running.stop);
        }
    }

    /// A task that was told to stop and does not listen gives its place to a new thread.
    fn replace_stuck(self: Arc<Pool>, ended: &Arc<Mutex<Vec<Ended>>>, waker: &Arc<Waker>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for running in queue.running.values_mut() {
            let is_stuck = running.cancelled_at.is_some_and(|at| at.elapsed() >= STOP_PATIENCE);
            if is_stuck && !running.is_replaced {
                running.is_replaced = self.clone().start("task-again".into(), ended.clone(), waker.clone()).is_ok();
            }
        }
    }

    /// Starts a thread that runs tasks.
    fn start(self: Arc<Pool>, name: String, ended: Arc<Mutex<Vec<Ended>>>, waker: Arc<Waker>) -> io::Result<()> {
        thread::Builder::new().name(name).stack_size(16 << 20).spawn(move || self.work(&ended, &waker)).map(drop)
    }

    fn take_forgotten(&self) -> Vec<Key> {
        std::mem::take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner).forgotten)
    }

    fn running(&self) -> Vec<String> {
        let ids: Vec<FunctionId> = self.queue.lock().unwrap_or_else(PoisonError::into_inner).running.values().map(|running| running.function).collect();
        let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().filter_map(|id| functions.get(id)).map(|loaded| loaded.function.name.clone()).collect()
    }

    fn add_function(&self, function: Function, library: String) {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).insert(function.id, Loaded { function, library, thunk: None });
    }

    fn thunk(&self, id: FunctionId) -> (String, Result<Thunk, String>) {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loaded) = functions.get_mut(&id) else { return (String::new(), Err("its function was never sent".into())) };
        let resolve = || {
            let at = code::resolve(&loaded.library, &loaded.function.place)?;
            // SAFETY: the client named a thunk of exactly this type, in a library whose content it named too.
            Ok(unsafe { std::mem::transmute::<*const std::ffi::c_void, Thunk>(at) })
        };
        let thunk = loaded.thunk.get_or_insert_with(resolve).clone();
        (loaded.function.name.clone(), thunk)
    }

    fn work(&self, ended: &Mutex<Vec<Ended>>, waker: &Waker) {
        // Leaked once for each thread, of which there are few.
        let stop: &'static AtomicBool = Box::leak(Box::default());
        (client::hooks().adopt)(stop);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(job) = queue.jobs.pop() else {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let key = job.task.key;
            queue.running.insert(key, Running { function: job.task.function, stop, cancelled_at: None, is_replaced: false });
            drop(queue);
            let done = self.run(job);
            let was_empty = {
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                ended.push(done);
                ended.len() == 1
            };
            // One wake serves all that ends until it is heard.
            if was_empty {
                let _ = waker.wake();
            }
            queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            (client::hooks().lower)(stop);
            if queue.running.remove(&key).is_some_and(|running| running.is_replaced) {
                return;
            }
        }
    }

    fn run(&self, job: Job) -> Ended {
        let start_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let start = Instant::now();
        let (name, thunk) = self.thunk(job.task.function);
        let code_error = |message| TaskError { kind: TaskErrorKind::Code, message, function: String::new(), at: None, worker: None };
        let result = thunk.map_err(code_error).and_then(|thunk| thunk(&mut Inputs::new(&job.task.args, job.inputs)));
        let result = result.map_err(|error| TaskError { function: name, ..error });
        Ended { key: job.task.key, result, start_us, duration_us: start.elapsed().as_micros() as u64 }
    }
}

/// Turning a large value into bytes takes long, and the worker must hear its scheduler meanwhile.
fn start_encoder(encoded: Arc<Mutex<Vec<(ConnId, ValueReply)>>>, waker: Arc<Waker>) -> io::Result<Sender<(ConnId, Key, Stored)>> {
    let (sender, wanted) = mpsc::channel::<(ConnId, Key, Stored)>();
    thread::Builder::new().name("encode".into()).spawn(move || {
        for (conn, key, value) in wanted {
            let value = Some(value.encode().map(ByteBuf::from));
            encoded.lock().unwrap_or_else(PoisonError::into_inner).push((conn, ValueReply { key, value }));
            let _ = waker.wake();
        }
    })?;
    Ok(sender)
}

/// Resident memory of this process; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // SAFETY: asks for a constant of the system.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as u64
}
