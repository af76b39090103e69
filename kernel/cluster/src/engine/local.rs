//! The local engine: a scheduler and workers on this machine, over sockets.

use std::{
    collections::HashMap,
    io,
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::{
    data::segment::Bytes,
    engine::{
        Actors, Coordination, Copies, Ended, Engine, Names, Neighbours, Sink, Stories, Told, Workers,
        watched::Watched,
    },
    hooks::hooks,
    model::{
        cluster::{ClusterInfo, ClusterSpec, Holding, Published},
        coordination::{ObjectName, Op, Reply},
        error::{Error, Result, TaskError},
        event::Elsewhere,
        history::{Explanation, History, Journey, LogLine},
        ids::{CodeId, FunctionId, Key, KeyMap, Token, WorkerId},
        recording::Recording,
        task::{Arg, Function, Output, Task},
    },
    wire::{
        protocol::{Answer, AskId, Carried, Finished, FromPeer, Request, ToClient, ToPeer, ToScheduler},
        transport::{read_blocking, write_blocking},
    },
};

/// An interrupt is noticed within this time while a worker is silent.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The scheduler answers a question that was given up within this time, or is not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a scheduler of this package.
pub struct Local {
    writer: Mutex<UnixStream>,
    token: Token,
    /// One connection to each worker for values, and one for actors, whose calls may take long.
    values: Peers,
    calls: Peers,
    next_call: AtomicU64,
    /// Which worker has the code of a method, by actor.
    prepared: Mutex<KeyMap<HashMap<FunctionId, String>>>,
    known: Arc<Known>,
    next_question: AtomicU64,
}

/// What the scheduler has told.
struct Known {
    /// Open questions, with their answers where these have come.
    answers: Arc<Watched<HashMap<AskId, Option<Answer>>>>,
    /// Where workers answer.
    addresses: Mutex<HashMap<WorkerId, String>>,
}

type Peers = Mutex<HashMap<String, Arc<Mutex<UnixStream>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    /// Connects to the scheduler at a socket, with the token that is beside it.
    ///
    /// # Errors
    /// When there is no scheduler, or its token cannot be read.
    pub fn connect(socket: &Path, sink: Arc<dyn Sink>) -> io::Result<Arc<dyn Engine>> {
        let token = Token::beside(socket)?;
        let mut stream = UnixStream::connect(socket)?;
        write_blocking(&mut stream, &vec![ToScheduler::Hello { token }])?;
        let reader = stream.try_clone()?;
        let sink = Arc::downgrade(&sink);
        let known = Arc::new(Known {
            answers: Watched::new(),
            addresses: Mutex::default(),
        });
        let to_tell = known.clone();
        thread::Builder::new()
            .name("cluster".into())
            .spawn(move || read(&sink, &to_tell, reader))?;
        Ok(Arc::new(Local {
            writer: Mutex::new(stream),
            token,
            values: Mutex::default(),
            calls: Mutex::default(),
            next_call: AtomicU64::new(1),
            prepared: Mutex::default(),
            known,
            next_question: AtomicU64::new(1),
        }))
    }

    fn next_id(&self) -> AskId {
        AskId(self.next_question.fetch_add(1, Ordering::Relaxed))
    }

    /// Orders something that has no answer.
    fn order(&self, request: Request) -> Result<()> {
        let id = self.next_id();
        self.send(&[ToScheduler::Ask { id, request }])
    }

    /// Asks, and waits for the answer to this very question.
    fn ask(&self, request: Request) -> Result<Answer> {
        let id = self.next_id();
        let answers = &self.known.answers;
        answers.lock().insert(id, None);
        let asked = self.send(&[ToScheduler::Ask { id, request }]);
        let answer = asked.and_then(|()| answers.wait_for(|answers| answers.get_mut(&id)?.take()));
        // An answer that comes from here on is nobody's, and not kept.
        answers.lock().remove(&id);
        answer
    }

    /// The worker of an actor, once it has the code of this method.
    fn prepare(&self, actor: Key, function: FunctionId) -> Result<String> {
        if let Some(address) = lock(&self.prepared)
            .get(&actor)
            .and_then(|known| known.get(&function))
        {
            return Ok(address.clone());
        }
        let address = match self.ask(Request::Prepare { actor, function })? {
            Answer::Prepared(answer) => {
                answer.map_err(|why| Error::Task(Arc::new(TaskError::actor_lost(why))))?
            }
            other => return Err(unexpected(&other)),
        };
        lock(&self.prepared)
            .entry(actor)
            .or_default()
            .insert(function, address.clone());
        Ok(address)
    }

    fn names(&self, request: Request) -> Result<Vec<Published>> {
        match self.ask(request)? {
            Answer::Published(published) => Ok(published),
            other => Err(unexpected(&other)),
        }
    }

    fn transfer(&self, request: Request) -> Result<(u64, u64)> {
        match self.ask(request)? {
            Answer::Transferred { n_values, n_bytes } => Ok((n_values, n_bytes)),
            other => Err(unexpected(&other)),
        }
    }

    fn send(&self, messages: &[ToScheduler]) -> Result<()> {
        write_blocking(&mut *lock(&self.writer), &messages)
            .map_err(|error| Error::Disconnected(error.to_string()))
    }

    /// Asks a worker something and waits for its answer.
    fn exchange(
        &self,
        peers: &Peers,
        address: &str,
        question: &impl Serialize,
    ) -> Result<(FromPeer, Arc<Mutex<UnixStream>>)> {
        let gone = |error: io::Error| Error::Disconnected(error.to_string());
        let known = lock(peers).get(address).cloned();
        let peer = match known {
            Some(peer) => peer,
            None => {
                let mut stream = UnixStream::connect(address).map_err(gone)?;
                write_blocking(&mut stream, &ToPeer::Hello { token: self.token }).map_err(gone)?;
                let peer = Arc::new(Mutex::new(stream));
                lock(peers).insert(address.to_string(), peer.clone());
                peer
            }
        };
        let answered = (|| {
            let mut stream = lock(&peer);
            write_blocking(&mut *stream, question).map_err(gone)?;
            wait_readable(&stream)?;
            read_blocking::<FromPeer>(&mut *stream).map_err(gone)
        })();
        if answered.is_err() {
            // Its answer may still come, to nobody: the next question gets a connection of its own.
            lock(peers).remove(address);
        }
        Ok((answered?, peer))
    }
}

/// Waits until there is something to read, or the cell is interrupted.
fn wait_readable(stream: &UnixStream) -> Result<()> {
    let hooks = hooks();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(Error::Disconnected(error.to_string())),
        }
        if hooks.interrupted.is_some_and(|interrupted| interrupted()) {
            return Err(Error::Interrupted);
        }
    }
}

impl Engine for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn put_code(&self, functions: Vec<Function>, code: Vec<(CodeId, Option<String>)>) -> Result<()> {
        let mut messages: Vec<ToScheduler> = functions.into_iter().map(ToScheduler::Function).collect();
        messages.extend(code.into_iter().map(|(id, path)| ToScheduler::Code { id, path }));
        self.send(&messages)
    }

    fn submit(&self, tasks: Vec<Task>, wanted: Vec<Key>) -> Result<()> {
        self.send(&[ToScheduler::Submit { tasks, wanted }])
    }

    fn fetch(&self, output: Output, worker: WorkerId) -> Result<Option<Result<Bytes>>> {
        let address = lock(&self.known.addresses).get(&worker).cloned();
        let Some(address) = address else { return Ok(None) };
        let (reply, peer) = match self.exchange(&self.values, &address, &ToPeer::Get { output }) {
            Err(Error::Disconnected(_)) => return Ok(None),
            exchanged => exchanged?,
        };
        let FromPeer::Value { value, .. } = reply else {
            return Ok(None);
        };
        Ok(match value {
            None => None,
            Some(Err(error)) => Some(Err(Error::serialisation(format!(
                "the result could not be sent: {error}"
            )))),
            Some(Ok(carried)) => {
                let is_segment = matches!(carried, Carried::Segment { .. });
                let bytes = carried.open();
                if is_segment {
                    let key = output.task;
                    let _ = write_blocking(&mut *lock(&peer), &ToPeer::Opened { key });
                }
                bytes.ok().map(Ok)
            }
        })
    }

    fn release(&self, keys: Vec<Key>) -> Result<()> {
        let mut prepared = lock(&self.prepared);
        if !prepared.is_empty() {
            prepared.retain(|actor, _| !keys.contains(actor));
        }
        drop(prepared);
        self.send(&[ToScheduler::Release { keys }])
    }

    fn cancel(&self, keys: Vec<Key>) -> Result<()> {
        self.send(&[ToScheduler::Cancel { keys }])
    }

    fn follow(&self, is_on: bool) -> Result<()> {
        self.send(&[ToScheduler::Follow { is_on }])
    }

    fn detach(&self, key: Key) -> Result<()> {
        self.order(Request::Detach { key })
    }

    fn close(&self) -> Result<()> {
        self.order(Request::Shutdown)
    }

    fn workers(&self) -> Option<&dyn Workers> {
        Some(self)
    }

    fn neighbours(&self) -> Option<&dyn Neighbours> {
        Some(self)
    }

    fn actors(&self) -> Option<&dyn Actors> {
        Some(self)
    }

    fn names(&self) -> Option<&dyn Names> {
        Some(self)
    }

    fn copies(&self) -> Option<&dyn Copies> {
        Some(self)
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(self)
    }

    fn stories(&self) -> Option<&dyn Stories> {
        Some(self)
    }
}

impl Workers for Local {
    fn launch(&self, spec: ClusterSpec) -> Result<ClusterInfo> {
        match self.ask(Request::Launch(spec))? {
            Answer::Launched(result) => result.map_err(Error::start),
            other => Err(unexpected(&other)),
        }
    }

    fn info(&self) -> Result<ClusterInfo> {
        match self.ask(Request::Info)? {
            Answer::Info(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    fn restart(&self) -> Result<ClusterInfo> {
        match self.ask(Request::Restart)? {
            Answer::Launched(result) => result.map_err(Error::start),
            other => Err(unexpected(&other)),
        }
    }

    fn scale(&self, least: u32, most: u32) -> Result<()> {
        self.order(Request::Scale { least, most })
    }

    fn kill(&self, worker: WorkerId) -> Result<()> {
        self.order(Request::KillWorker { worker })
    }

    fn pause(&self, worker: WorkerId, time: Duration) -> Result<()> {
        let for_us = time.as_micros() as u64;
        self.order(Request::PauseWorker { worker, for_us })
    }
}

impl Neighbours for Local {
    fn open(&self, name: &str) -> Result<String> {
        let name = name.to_string();
        match self.ask(Request::Open { name })? {
            Answer::Opened(opened) => opened.map_err(Error::start),
            other => Err(unexpected(&other)),
        }
    }

    fn show(&self, what: Elsewhere) -> Result<()> {
        self.send(&[ToScheduler::Elsewhere(what)])
    }

    fn share(&self, address: &str) -> Result<()> {
        let socket = address.to_string();
        match self.ask(Request::Share { socket })? {
            Answer::Shared(shared) => shared.map_err(Error::start),
            other => Err(unexpected(&other)),
        }
    }
}

impl Actors for Local {
    fn call(&self, actor: Key, function: FunctionId, args: Vec<Arg>) -> Result<Vec<u8>> {
        let address = self.prepare(actor, function)?;
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let call = ToPeer::Call {
            actor,
            id,
            function,
            args,
        };
        match self.exchange(&self.calls, &address, &call)?.0 {
            FromPeer::Returned { result, .. } => result
                .map(serde_bytes::ByteBuf::into_vec)
                .map_err(|error| Error::Task(Arc::new(error))),
            FromPeer::Value { .. } => Err(Error::Disconnected("the worker answered something else".into())),
        }
    }
}

impl Names for Local {
    fn publish(&self, published: Published) -> Result<Vec<Published>> {
        self.names(Request::Publish(published))
    }

    fn unpublish(&self, name: &str) -> Result<()> {
        let name = name.to_string();
        self.names(Request::Unpublish { name }).map(drop)
    }

    fn published(&self) -> Result<Vec<Published>> {
        self.names(Request::Lookup)
    }
}

impl Copies for Local {
    fn broadcast(&self, keys: Vec<Key>) -> Result<(u64, u64)> {
        self.transfer(Request::Broadcast { keys })
    }

    fn rebalance(&self) -> Result<(u64, u64)> {
        self.transfer(Request::Rebalance)
    }

    fn holdings(&self) -> Result<Vec<Holding>> {
        match self.ask(Request::Holdings)? {
            Answer::Holdings(holdings) => Ok(holdings),
            other => Err(unexpected(&other)),
        }
    }
}

impl Coordination for Local {
    fn coordinate(&self, object: ObjectName, op: Op, patience: Option<Duration>) -> Result<Reply> {
        let id = self.next_id();
        let answers = &self.known.answers;
        answers.lock().insert(id, None);
        let withdrawal = || ToScheduler::Ask {
            id: self.next_id(),
            request: Request::Withdraw { id },
        };
        let mut messages = vec![ToScheduler::Ask {
            id,
            request: Request::Coordinate { object, op },
        }];
        let is_at_once = patience.is_some_and(|patience| patience.is_zero());
        if is_at_once {
            messages.push(withdrawal());
        }
        let deadline = patience
            .filter(|_| !is_at_once)
            .and_then(|patience| Instant::now().checked_add(patience));
        let found = |answers: &mut HashMap<AskId, Option<Answer>>| answers.get_mut(&id)?.take();
        let mut answer = self
            .send(&messages)
            .and_then(|()| answers.wait_until(deadline, found));
        if let Ok(None) | Err(Error::Interrupted) = answer {
            // It may be granted at this very moment: only the scheduler can say whether it was.
            self.send(&[withdrawal()])?;
            let mut known =
                answers.wait_while(ANSWERS_WITHIN, |answers| matches!(answers.get(&id), Some(None)));
            match found(&mut known) {
                Some(Answer::Coordinated(Reply::NotYet)) | None => {}
                granted => answer = Ok(granted),
            }
        }
        answers.lock().remove(&id);
        match answer? {
            Some(Answer::Coordinated(reply)) => Ok(reply),
            None => Ok(Reply::NotYet),
            Some(other) => Err(unexpected(&other)),
        }
    }

    fn give_back(&self, object: ObjectName) -> Result<()> {
        let op = Op::Release;
        self.order(Request::Coordinate { object, op })
    }
}

impl Stories for Local {
    fn journey(&self, key: Key) -> Result<Option<Journey>> {
        match self.ask(Request::Journey { key })? {
            Answer::Journey(journey) => Ok(journey),
            other => Err(unexpected(&other)),
        }
    }

    fn explain(&self, key: Key) -> Result<Option<Explanation>> {
        match self.ask(Request::Explain { key })? {
            Answer::Explained(explanation) => Ok(explanation),
            other => Err(unexpected(&other)),
        }
    }

    fn task(&self, key: Key) -> Result<Option<Task>> {
        match self.ask(Request::Task { key })? {
            Answer::Task(task) => Ok(task),
            other => Err(unexpected(&other)),
        }
    }

    fn dashboard(&self) -> Result<String> {
        match self.ask(Request::Dashboard)? {
            Answer::Dashboard(url) => url.map_err(Error::Unsupported),
            other => Err(unexpected(&other)),
        }
    }

    fn logs(&self) -> Result<Vec<LogLine>> {
        match self.ask(Request::Logs)? {
            Answer::Logs(lines) => Ok(lines),
            other => Err(unexpected(&other)),
        }
    }

    fn record(&self) -> Result<()> {
        self.order(Request::Record)
    }

    fn recorded(&self) -> Result<Recording> {
        match self.ask(Request::Recorded)? {
            Answer::Recorded(recording) => Ok(*recording),
            other => Err(unexpected(&other)),
        }
    }

    fn history(&self) -> Result<History> {
        match self.ask(Request::History)? {
            Answer::History(history) => Ok(history),
            other => Err(unexpected(&other)),
        }
    }
}

/// The scheduler shall know that this program has left, and let go what it held.
impl Drop for Local {
    fn drop(&mut self) {
        let _ = lock(&self.writer).shutdown(Shutdown::Both);
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Disconnected(format!("the scheduler answered something else: {answer:?}"))
}

impl Known {
    /// Keeps what is for this engine alone, and gives what is for the program.
    fn on_message(&self, message: ToClient) -> Option<Told> {
        match message {
            ToClient::Welcome { .. } => None,
            ToClient::Answer { id, answer } => {
                self.answers.change(|answers| {
                    if let Some(open) = answers.get_mut(&id) {
                        *open = Some(answer);
                    }
                });
                None
            }
            ToClient::Events(events) => Some(Told::Events(events)),
            ToClient::Finished { key, how } => {
                let how = match how {
                    Finished::Done {
                        n_bytes,
                        inline,
                        worker,
                        address,
                        duration_us,
                    } => {
                        lock(&self.addresses).entry(worker).or_insert(address);
                        Ended::Done {
                            n_bytes,
                            inline: inline.map(serde_bytes::ByteBuf::into_vec),
                            worker,
                            duration_us,
                        }
                    }
                    Finished::Failed(error) => Ended::Failed(error),
                    Finished::Pending => Ended::Pending,
                };
                Some(Told::Ended { key, how })
            }
        }
    }
}

fn read(sink: &Weak<dyn Sink>, known: &Known, mut stream: UnixStream) {
    loop {
        let read: io::Result<Vec<ToClient>> = read_blocking(&mut stream);
        let Some(sink) = sink.upgrade() else {
            return known.answers.end("its program has left".into());
        };
        let reason = match read {
            Ok(messages) => {
                let told: Vec<Told> = messages
                    .into_iter()
                    .filter_map(|message| known.on_message(message))
                    .collect();
                if !told.is_empty() {
                    sink.on_told(told);
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the scheduler has ended".to_string()
            }
            Err(error) => error.to_string(),
        };
        known.answers.end(reason.clone());
        return sink.on_gone(reason);
    }
}
