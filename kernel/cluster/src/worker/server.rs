//! A worker process: one thread for sockets and decisions, a few for tasks, one that writes values for others
//! or to disk.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
    time::{Duration, Instant},
};

use serde_bytes::ByteBuf;

use crate::{
    data::{
        segment::{Bytes, Segment},
        value::Stored,
    },
    model::{
        cluster::Memory,
        ids::{Key, Token},
        task::{Output, Task},
    },
    wire::{
        protocol::{Carried, FromPeer, Ran, ToPeer, ToScheduler, ToWorker},
        transport::{ConnId, Transport, TransportEvent, decode},
    },
    worker::{
        actors::Actors,
        capture::Capture,
        machine::{Comm, Worker},
        memory::{Policy, Work},
        options::WorkerOptions,
        pool::{Ended, Pool},
        process::resident_bytes,
        writer::{Job, Written, carried, start_writer},
    },
};

const HEARTBEAT: Duration = Duration::from_millis(200);

/// A segment that was written for one worker is kept this long for the next, since values are often asked for
/// by many.
const KEEP_SEGMENT: Duration = Duration::from_secs(1);

/// A task that was cancelled and goes on for so long costs its worker, when nothing else runs there;
const DEAF: Duration = Duration::from_secs(5);

/// and after so long in any case.
const DEAF_LONG: Duration = Duration::from_secs(30);

/// A value that could not be written to disk is tried again after this.
const TRY_DISK_AGAIN: Duration = Duration::from_secs(5);

/// How a worker's time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It was told to go.
    Dismissed,
    /// Its scheduler is not there, or not any more.
    Abandoned,
}

/// Runs a worker until it is told to go, or its scheduler is gone.
///
/// # Errors
/// When the scheduler cannot be reached or sockets cannot be made.
pub fn run_worker(options: &WorkerOptions) -> io::Result<Leave> {
    let (capture, [_, mut own]) = Capture::begin()?;
    let result = serve(options, capture);
    if let Err(error) = &result {
        let _ = writeln!(own, "worker {}: {error}", std::process::id());
    }
    let _ = fs::remove_dir_all(&options.spill_folder);
    result
}

fn serve(options: &WorkerOptions, capture: Capture) -> io::Result<Leave> {
    let pid = std::process::id();
    let address = options.scheduler.with_file_name(format!("worker-{pid}.sock"));
    let token = match Token::beside(&options.scheduler) {
        // The notebook ended while this process was starting.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Leave::Abandoned),
        token => token?,
    };
    let mut transport = Transport::new(Some(&address))?;
    let scheduler = match transport.connect(&options.scheduler) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            let _ = fs::remove_file(&address);
            return Ok(Leave::Abandoned);
        }
        connected => connected?,
    };
    let register = ToScheduler::Register {
        token,
        pid,
        address: address.to_string_lossy().into_owned(),
        threads: options.threads,
        memory_limit: options.memory_limit,
        resources: options.resources.clone(),
    };
    transport.send(scheduler, &vec![register]);
    let capture = Arc::new(capture);
    let pool = Arc::new(Pool::new(transport.waker(), capture.clone()));
    for i in 0..options.threads.max(1) {
        pool.clone().start(format!("task-{i}"))?;
    }
    let (running, say) = (pool.clone(), pool.clone());
    capture.watch(
        move || running.running().first().map(|(key, _)| *key),
        move |message| say.say(message),
    )?;
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = start_writer(options, written.clone(), transport.waker())?;
    let actors = Actors::new(pool.clone(), transport.waker());
    let runtime = Runtime {
        scheduler,
        token,
        reports: Vec::new(),
        pool,
        peers: HashMap::new(),
        fetches: HashMap::new(),
        unreachable: Vec::new(),
        transport,
    };
    let policy = Policy::new(options.memory_limit, options.spill_limit);
    let mut server = Server {
        worker: Worker::default(),
        runtime,
        written,
        writer,
        actors,
        segments: HashMap::new(),
        admitted: HashSet::new(),
        spilling: HashMap::new(),
        unspillable: HashMap::new(),
        largest: 0,
        n_threads: u64::from(options.threads.max(1)),
        policy,
        n_spill_failures: 0,
        is_paused: false,
        name: String::from("worker"),
    };
    let result = server.serve();
    let _ = fs::remove_file(&address);
    result
}

struct Server {
    worker: Worker<Stored>,
    runtime: Runtime,
    written: Arc<Mutex<Vec<Written>>>,
    writer: Sender<Job>,
    actors: Actors,
    /// Values that others are opening, or may ask for again soon.
    segments: HashMap<Key, Lent>,
    /// Connections that showed the token.
    admitted: HashSet<ConnId>,
    /// Values on their way to disk, by size.
    spilling: HashMap<Key, u64>,
    /// Values that could not be written to disk, and when; they are not tried again at once.
    unspillable: HashMap<Key, Instant>,
    /// The largest result lately: what a running task may add.
    largest: u64,
    n_threads: u64,
    policy: Policy,
    n_spill_failures: u64,
    is_paused: bool,
    name: String,
}

/// A segment, and who has not opened it yet.
struct Lent {
    segment: Arc<Segment>,
    readers: Vec<ConnId>,
    since: Instant,
}

struct Runtime {
    transport: Transport,
    scheduler: ConnId,
    token: Token,
    reports: Vec<ToScheduler>,
    pool: Arc<Pool>,
    peers: HashMap<String, ConnId>,
    fetches: HashMap<ConnId, Vec<Output>>,
    /// Fetches that failed at once.
    unreachable: Vec<Key>,
}

impl Server {
    fn serve(&mut self) -> io::Result<Leave> {
        let mut happened = Vec::new();
        let mut next_beat = Instant::now();
        loop {
            let timeout = next_beat.saturating_duration_since(Instant::now());
            self.runtime.transport.wait(Some(timeout), &mut happened)?;
            for event in happened.drain(..) {
                match event {
                    TransportEvent::Frame(conn, frame) if conn == self.runtime.scheduler => {
                        for message in decode::<Vec<ToWorker>>(&frame)? {
                            if !self.on_message(message) {
                                return Ok(Leave::Dismissed);
                            }
                        }
                    }
                    TransportEvent::Frame(conn, frame) => self.on_peer(conn, &frame),
                    // The notebook is gone, and so are we, whatever a task is doing.
                    TransportEvent::Closed(conn) if conn == self.runtime.scheduler => {
                        return Ok(Leave::Abandoned);
                    }
                    TransportEvent::Closed(conn) => self.on_peer_lost(conn),
                    TransportEvent::Opened | TransportEvent::Woken => {}
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
            ToWorker::Timed(is_timed) => self.runtime.pool.time_tasks(is_timed),
            ToWorker::GiveBack { keys, most } => {
                self.worker.give_back(&keys, most as usize, &mut self.runtime)
            }
            ToWorker::Acquire { key, source } => self.worker.acquire(key, source, &mut self.runtime),
            ToWorker::Exit => return false,
        }
        true
    }

    /// A peer asks for something, or answers.
    fn on_peer(&mut self, conn: ConnId, frame: &[u8]) {
        if self.runtime.fetches.contains_key(&conn) {
            return match decode::<FromPeer>(frame) {
                Ok(FromPeer::Value { key, value }) => self.on_value(conn, key, value),
                _ => self.on_peer_lost(conn),
            };
        }
        let Ok(message) = decode::<ToPeer>(frame) else {
            return self.on_peer_lost(conn);
        };
        match message {
            ToPeer::Hello { token } if token.admits(self.runtime.token) => {
                self.admitted.insert(conn);
                self.runtime.transport.admit(conn);
            }
            // A stranger.
            _ if !self.admitted.contains(&conn) => self.on_peer_lost(conn),
            ToPeer::Hello { .. } => {}
            ToPeer::Get { output } => self.on_get(conn, output),
            ToPeer::Opened { key } => {
                if let Some(lent) = self.segments.get_mut(&key) {
                    lent.readers.retain(|reader| *reader != conn);
                }
            }
            ToPeer::Call {
                actor,
                id,
                function,
                args,
            } => {
                let value = self.worker.value(actor).cloned();
                self.actors.call(conn, actor, value, id, function, args);
            }
        }
    }

    fn on_get(&mut self, conn: ConnId, output: Output) {
        let Some(value) = self.worker.value(output.task) else {
            let key = output.key();
            return self
                .runtime
                .transport
                .send(conn, &FromPeer::Value { key, value: None });
        };
        match self.segments.get_mut(&output.task) {
            Some(lent) => {
                lent.readers.push(conn);
                lent.since = Instant::now();
                self.runtime.transport.send(conn, &carried(output, &lent.segment));
            }
            None => drop(self.writer.send(Job::Send {
                to: conn,
                output,
                value: value.clone(),
            })),
        }
    }

    /// A value that was asked for.
    fn on_value(&mut self, conn: ConnId, key: Key, value: Option<Result<Carried, String>>) {
        let mut task = key;
        if let Some(outputs) = self.runtime.fetches.get_mut(&conn)
            && let Some(at) = outputs.iter().position(|asked| asked.key() == key)
        {
            task = outputs.swap_remove(at).task;
        }
        let bytes = match value {
            Some(Ok(carried)) => {
                let is_segment = matches!(carried, Carried::Segment { .. });
                let opened = carried.open();
                if is_segment {
                    self.runtime.transport.send(conn, &ToPeer::Opened { key: task });
                }
                opened.ok()
            }
            // It is there, and has no bytes: asking again would not help.
            Some(Err(why)) => return self.worker.on_unfetchable(key, &why, &mut self.runtime),
            None => None,
        };
        let value = bytes.map(|bytes| {
            let n_bytes = bytes.as_slice().len() as u64;
            (Stored::Bytes(bytes), n_bytes)
        });
        self.worker.on_fetched(key, value, &mut self.runtime);
    }

    fn on_peer_lost(&mut self, conn: ConnId) {
        self.runtime.transport.close(conn);
        self.runtime.peers.retain(|_, peer| *peer != conn);
        self.admitted.remove(&conn);
        for lent in self.segments.values_mut() {
            lent.readers.retain(|reader| *reader != conn);
        }
        for output in self.runtime.fetches.remove(&conn).unwrap_or_default() {
            self.worker.on_fetched(output.key(), None, &mut self.runtime);
        }
    }

    /// Takes in what the other threads have finished.
    fn collect(&mut self) {
        let out = self.runtime.pool.take_out();
        self.runtime.reports.extend(out.said);
        for Ended {
            key,
            attempt,
            result,
            start_us,
            duration_us,
            cpu_us,
        } in out.ended
        {
            match result {
                Ok((value, n_bytes)) => {
                    let (inline, n_rows) = (value.inline().map(ByteBuf::from), value.rows());
                    self.largest = self.largest.max(n_bytes);
                    if self.worker.on_finished(key, attempt, Some((value, n_bytes))) {
                        self.runtime.reports.push(ToScheduler::Done(Ran {
                            key,
                            attempt,
                            n_bytes,
                            n_rows,
                            inline,
                            start_us,
                            duration_us,
                            cpu_us,
                        }));
                    }
                }
                Err(mut error) => {
                    error.worker = Some(self.name.clone());
                    if self.worker.on_finished(key, attempt, None) {
                        self.runtime.reports.push(ToScheduler::Failed { key, error });
                    }
                }
            }
        }
        // Giving one up may begin the next, which may be out of reach too.
        while let Some(key) = self.runtime.unreachable.pop() {
            self.worker.on_fetched(key, None, &mut self.runtime);
        }
        let written = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        for written in written {
            self.on_written(written);
        }
        for (conn, reply) in self.actors.take_replies() {
            self.runtime.transport.send(conn, &reply);
        }
        if self.policy.is_due(self.worker.bytes().0) {
            self.look_at_memory();
        }
    }

    fn on_written(&mut self, written: Written) {
        match written {
            Written::Bytes { to, key, bytes } => {
                let value = Some(bytes.map(|bytes| Carried::Bytes(bytes.into())));
                self.runtime.transport.send(to, &FromPeer::Value { key, value });
            }
            // Its reader has gone.
            Written::Segment { to, .. } if !self.admitted.contains(&to) => {}
            Written::Segment { to, output, segment } => {
                if output.part.is_some() {
                    // The other parts will be asked for too: they are in the same bytes.
                    let bytes = Stored::Bytes(Bytes::Segment(segment.clone()));
                    self.worker.replace(output.task, bytes);
                }
                // Two may have asked at once: the one that is kept is the one that is told.
                let lent = self.segments.entry(output.task).or_insert_with(|| Lent {
                    segment,
                    readers: Vec::new(),
                    since: Instant::now(),
                });
                self.runtime.transport.send(to, &carried(output, &lent.segment));
                lent.readers.push(to);
            }
            Written::Spilled { key, value } => {
                self.spilling.remove(&key);
                match value {
                    Ok(value) => {
                        self.worker.on_spilled(key, value);
                        let _ = self.writer.send(Job::Trim);
                    }
                    Err(_) => {
                        self.n_spill_failures += 1;
                        self.unspillable.insert(key, Instant::now());
                    }
                }
                self.look_at_memory();
            }
        }
    }

    fn beat(&mut self) {
        self.runtime.pool.replace_stuck();
        self.end_if_deaf();
        self.worker.age();
        self.largest -= self.largest / 16;
        self.segments
            .retain(|_, lent| !lent.readers.is_empty() || lent.since.elapsed() < KEEP_SEGMENT);
        let worker = &self.worker;
        self.actors.retain(|key| worker.value(key).is_some());
        self.look_at_memory();
    }

    /// Spills, pauses, or ends, as the policy says; and tells the scheduler.
    fn look_at_memory(&mut self) {
        let (managed, spilled) = self.worker.bytes();
        let mut memory = Memory {
            resident: resident_bytes(),
            managed,
            spilled,
            is_paused: self.is_paused,
            n_spill_failures: self.n_spill_failures,
        };
        self.unspillable
            .retain(|_, since| since.elapsed() < TRY_DISK_AGAIN);
        let (worker, spilling, unspillable) = (&self.worker, &self.spilling, &self.unspillable);
        let candidates = || {
            let mut candidates = worker.candidates();
            candidates.retain(|candidate| {
                !spilling.contains_key(&candidate.key)
                    && !unspillable.contains_key(&candidate.key)
                    && worker.value(candidate.key).is_some_and(Stored::is_movable)
            });
            candidates
        };
        let work = Work {
            n_running: self.runtime.pool.n_running(),
            expected: self.largest * self.n_threads,
            spilling: spilling.values().sum(),
        };
        let decision = self.policy.decide(&memory, candidates, work);
        if decision.is_over {
            self.end_over_limit(memory);
        }
        if !decision.spill.is_empty() || decision.is_paused {
            self.worker.drop_spare();
        }
        for key in decision.spill {
            if let Some(value) = self.worker.value(key).cloned() {
                self.spilling.insert(key, self.worker.n_bytes_of(key));
                let _ = self.writer.send(Job::Spill { key, value });
            }
        }
        if decision.is_paused != self.is_paused {
            self.is_paused = decision.is_paused;
            self.runtime.pool.pause(decision.is_paused);
            self.segments.retain(|_, lent| !lent.readers.is_empty());
        }
        memory.is_paused = self.is_paused;
        self.runtime.reports.push(ToScheduler::Heartbeat(memory));
    }

    /// A task that was cancelled and does not listen takes a core from others, unseen. Its worker ends once nothing else
    /// runs on it, or after a while, and another one takes its place; not if that would cost the state of an actor.
    fn end_if_deaf(&mut self) {
        let deaf = self.runtime.pool.deaf(DEAF);
        let Some((function, since)) = deaf.first() else {
            return;
        };
        let is_due = self.runtime.pool.n_running() == 0 || *since >= DEAF_LONG;
        if !is_due || self.worker.has(|value| !value.can_be_made_again()) {
            return;
        }
        let cause = format!(
            "it was ended, since `{function}` was cancelled {:.0} s ago and went on; `sleep` and `cancelled()` hear of it",
            since.as_secs_f64()
        );
        self.end(cause)
    }

    /// Better to end here, with a word, than to be the system's victim.
    fn end_over_limit(&mut self, memory: Memory) -> ! {
        let running: Vec<String> = self
            .runtime
            .pool
            .running()
            .into_iter()
            .map(|(_, name)| format!("`{name}`"))
            .collect();
        let by = if running.is_empty() {
            "while no task ran".to_string()
        } else {
            format!("while {} ran", running.join(", "))
        };
        let on_disk = match (memory.spilled, memory.n_spill_failures) {
            (0, 0) => String::new(),
            (n, 0) => format!("; {} more were on disk", skep_render::bytes(n)),
            (_, _) => "; values could not be written to disk, which is full".to_string(),
        };
        let limit = self.policy.limit;
        let cause = format!(
            "it went over its memory limit: {} of {} {by}, and 95 % is the most; values took {} of it{on_disk}",
            skep_render::bytes(memory.resident),
            skep_render::bytes(limit),
            skep_render::bytes(memory.managed)
        );
        self.end(cause)
    }

    /// Tells why, and ends this process.
    fn end(&mut self, cause: String) -> ! {
        self.runtime.reports.push(ToScheduler::Dying { cause });
        self.runtime.send_reports();
        self.runtime.transport.flush();
        // SAFETY: ends this process; tasks may still be running.
        unsafe { libc::_exit(3) };
    }
}

impl Runtime {
    fn send_reports(&mut self) {
        if !self.reports.is_empty() {
            let reports = std::mem::take(&mut self.reports);
            self.transport.send(self.scheduler, &reports);
        }
    }

    fn peer(&mut self, address: &str) -> io::Result<ConnId> {
        if let Some(conn) = self.peers.get(address) {
            return Ok(*conn);
        }
        let conn = self.transport.connect(Path::new(address))?;
        self.transport.send(conn, &ToPeer::Hello { token: self.token });
        self.peers.insert(address.to_string(), conn);
        self.fetches.insert(conn, Vec::new());
        Ok(conn)
    }
}

impl Comm<Stored> for Runtime {
    fn execute(&mut self, task: Arc<Task>, attempt: u32, inputs: HashMap<Key, Stored>) {
        self.pool.push(task, attempt, inputs);
    }

    fn fetch(&mut self, address: &str, output: Output) {
        match self.peer(address) {
            Ok(conn) => {
                self.transport.send(conn, &ToPeer::Get { output });
                self.fetches.entry(conn).or_default().push(output);
            }
            Err(_) => self.unreachable.push(output.key()),
        }
    }

    fn report(&mut self, message: ToScheduler) {
        self.reports.push(message);
    }

    fn forget(&mut self, key: Key, attempt: u32) {
        self.pool.forget(key, attempt);
    }

    fn take_back(&mut self, keys: &[Key], most: usize) -> Vec<Key> {
        self.pool.take_back(keys, most)
    }

    fn decode_inline(&mut self, bytes: &[u8]) -> Stored {
        Stored::Bytes(bytes.to_vec().into())
    }
}
