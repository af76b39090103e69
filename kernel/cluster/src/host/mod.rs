//! The process that hosts a cluster: the scheduler's thread, and the worker processes under it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mio::Waker;
use skep_render::Message;

use self::feed::Feed;
use crate::{
    model::{
        cluster::{ClusterInfo, ClusterSpec},
        event::{Elsewhere, Event},
        history::{Bar, Journey},
        ids::{ClientId, CodeId, Key, Token, WorkerId},
        recording::Recording,
    },
    observe::stories::Stories,
    scheduler::{Comm, NewWorker, Scheduler},
    wire::{
        protocol::{Answer, Asker, Request, ToClient, ToScheduler, ToWorker},
        transport::{ConnId, Transport, TransportEvent, decode},
    },
};

mod feed;
pub(crate) mod named;
mod processes;
pub mod program;

pub use feed::{Snapshot, Subscription, Update};
pub use processes::set_worker_env;

/// Called in a scheduler's thread with every batch of events.
pub type Subscriber = Arc<dyn Fn(&[Event]) + Send + Sync>;

/// Opens the page that shows the cluster, or finds it: its address. Called in a thread of its own.
pub type OpenDashboard = Arc<dyn Fn() -> Result<String, Message> + Send + Sync>;

/// Makes it for a host.
pub type OfferDashboard = Arc<dyn Fn(Weak<Host>) -> OpenDashboard + Send + Sync>;

/// Makes the command that starts a worker process.
pub type WorkerCommand = Arc<dyn Fn(&ClusterSpec, &Path) -> Command + Send + Sync>;

/// A hosted cluster. Dropping it ends the workers.
pub struct Host {
    socket: PathBuf,
    orders: Arc<Mutex<Vec<Order>>>,
    waker: Arc<Waker>,
    n_workers: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// From the process that hosts the cluster.
/// The host itself, among those that have runs recorded.
const OWN: ClientId = ClientId(u32::MAX);

enum Order {
    Info(std::sync::mpsc::Sender<ClusterInfo>),
    Stream(std::sync::mpsc::Sender<Vec<(Bar, String)>>),
    Journey(Key, std::sync::mpsc::Sender<Option<Journey>>),
    Subscribe(std::sync::mpsc::Sender<Subscription>),
    Record,
    Recorded(std::sync::mpsc::Sender<Recording>),
    Reset(std::sync::mpsc::Sender<()>),
    Offer(OpenDashboard, OfferDashboard),
    Answer(Asker, Answer),
    CodeReady(CodeId, String),
    Stop,
}

impl Host {
    /// Starts the scheduler, which listens at `folder/scheduler.sock`. Workers come when a client asks for
    /// them.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(folder: &Path, command: WorkerCommand, subscriber: Subscriber) -> io::Result<Host> {
        let socket = folder.join("scheduler.sock");
        let transport = Transport::new(Some(&socket))?;
        let token = Token::create(folder)?;
        let orders = Arc::new(Mutex::new(Vec::new()));
        let waker = transport.waker();
        let n_workers = Arc::new(AtomicUsize::new(0));
        let server = Server {
            outbox: Outbox::default(),
            n_workers: n_workers.clone(),
            scheduler: Scheduler::default(),
            stories: Stories::default(),
            transport,
            orders: orders.clone(),
            token,
            command,
            subscriber,
            open_dashboard: None,
            offer_dashboard: None,
            socket: socket.clone(),
            named: Vec::new(),
            sharing: HashMap::new(),
            peers: HashMap::new(),
            conns: HashMap::new(),
            followers: Vec::new(),
            elsewhere: None,
            feed: Feed::default(),
            next_client: 1,
            next_worker: 1,
            children: Vec::new(),
            pids: HashMap::new(),
            ended: HashMap::new(),
            leaving: HashSet::new(),
            paused: Vec::new(),
            spec: None,
            asked: None,
            launching: None,
            causes: HashMap::new(),
            restarts: Vec::new(),
            elastic: None,
            began: Instant::now(),
            looked_at: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name("scheduler".into())
            .spawn(move || server.run())?;
        Ok(Host {
            socket,
            orders,
            waker,
            n_workers,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The optimised library of some cell is at `path`.
    pub fn code_ready(&self, code: CodeId, path: &Path) {
        self.order(Order::CodeReady(code, path.to_string_lossy().into_owned()));
    }

    /// Workers that are there, without asking the scheduler.
    pub fn n_workers(&self) -> usize {
        self.n_workers.load(Ordering::Relaxed)
    }

    /// The cluster as it is now; `None` when the scheduler's thread has ended.
    pub fn info(&self) -> Option<ClusterInfo> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.order(Order::Info(sender));
        answer.recv_timeout(Duration::from_secs(2)).ok()
    }

    /// What `cluster.dashboard()` opens; `of` makes it for this host, and for each that is made by name. Without it there is
    /// no page.
    pub fn offer_dashboards(self: &Arc<Host>, of: OfferDashboard) {
        self.order(Order::Offer(of(Arc::downgrade(self)), of));
    }

    /// From now on, tasks that are submitted are noted, until [`Host::recorded`].
    pub fn record(&self) {
        self.order(Order::Record);
    }

    /// What was noted since [`Host::record`]; `None` when the scheduler's thread has ended.
    pub fn recorded(&self) -> Option<Recording> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.order(Order::Recorded(sender));
        answer.recv_timeout(Duration::from_secs(10)).ok()
    }

    /// The newest tasks that ran, for a task stream.
    pub fn stream(&self) -> Vec<(Bar, String)> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.order(Order::Stream(sender));
        answer.recv_timeout(Duration::from_secs(2)).unwrap_or_default()
    }

    /// What happened to a task; `None` of one that is not known.
    pub fn journey(&self, key: Key) -> Option<Journey> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.order(Order::Journey(key, sender));
        answer.recv_timeout(Duration::from_secs(2)).ok().flatten()
    }

    /// Everything that happens from now on, and how things stand before it; `None` when the scheduler's thread has
    /// ended. However many watch and however slow they are, the scheduler does not wait for them.
    pub fn subscribe(&self) -> Option<Subscription> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.order(Order::Subscribe(sender));
        answer.recv_timeout(Duration::from_secs(2)).ok()
    }

    /// Ends the workers; the next cluster begins anew.
    pub fn reset(&self) {
        let (sender, answer) = std::sync::mpsc::channel();
        self.order(Order::Reset(sender));
        let _ = answer.recv_timeout(Duration::from_secs(5));
    }

    /// Ends the workers and the scheduler, and waits for it.
    pub fn stop(&self) {
        self.order(Order::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn order(&self, order: Order) {
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(order);
        let _ = self.waker.wake();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.order(Order::Stop);
    }
}

#[derive(Default)]
struct Outbox {
    to_workers: BTreeMap<WorkerId, Vec<ToWorker>>,
    to_clients: BTreeMap<ClientId, Vec<ToClient>>,
    events: Vec<Event>,
}

impl Comm for Outbox {
    fn to_worker(&mut self, worker: WorkerId, message: ToWorker) {
        self.to_workers.entry(worker).or_default().push(message);
    }

    fn to_client(&mut self, client: ClientId, message: ToClient) {
        self.to_clients.entry(client).or_default().push(message);
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    Client(ClientId),
    Worker(WorkerId),
}

struct Server {
    transport: Transport,
    n_workers: Arc<AtomicUsize>,
    scheduler: Scheduler,
    stories: Stories,
    outbox: Outbox,
    orders: Arc<Mutex<Vec<Order>>>,
    token: Token,
    command: WorkerCommand,
    subscriber: Subscriber,
    open_dashboard: Option<OpenDashboard>,
    offer_dashboard: Option<OfferDashboard>,
    socket: PathBuf,
    /// Further clusters of this process, by name.
    named: Vec<(String, Arc<Host>)>,
    /// Other schedulers that run this process's code, by their sockets.
    sharing: HashMap<PathBuf, UnixStream>,
    peers: HashMap<ConnId, Peer>,
    conns: HashMap<Peer, ConnId>,
    /// Programs that want to hear every event.
    followers: Vec<ClientId>,
    /// The cluster of another engine that a program uses, as it said last.
    elsewhere: Option<(ClientId, ClusterInfo)>,
    feed: Feed,
    next_client: u32,
    next_worker: u32,
    children: Vec<Child>,
    pids: HashMap<WorkerId, u32>,
    /// How processes ended whose connection was not yet seen to close.
    ended: HashMap<u32, ExitStatus>,
    /// Processes that were told to go, and may take a moment.
    leaving: HashSet<u32>,
    /// Processes that are stopped, and until when.
    paused: Vec<(Instant, u32)>,
    spec: Option<ClusterSpec>,
    /// What was asked for last; scaling changes the other one.
    asked: Option<ClusterSpec>,
    launching: Option<Launch>,
    /// What dying workers said, by process.
    causes: HashMap<WorkerId, String>,
    restarts: Vec<Instant>,
    elastic: Option<Elastic>,
    began: Instant,
    looked_at: Instant,
}

/// Between how many workers the cluster may have.
struct Elastic {
    least: u32,
    most: u32,
    /// Idle for this long, workers go.
    patience: Duration,
    /// Only those that hold nothing.
    is_gentle: bool,
    idle_since: Option<Instant>,
}

struct Launch {
    askers: Vec<Asker>,
    until: Instant,
}

impl Server {
    fn run(mut self) {
        let mut happened = Vec::new();
        loop {
            let timeout = match (&self.launching, &self.elastic) {
                (Some(_), _) => Duration::from_millis(20),
                (None, Some(_)) => Duration::from_millis(250),
                (None, None) => Duration::from_secs(1),
            };
            let resumed = self.resume();
            let timeout = resumed.map_or(timeout, |due| due.min(timeout));
            let due = self
                .scheduler
                .next_timer()
                .map(|at| Duration::from_micros(at.saturating_sub(self.clock())));
            if self
                .transport
                .wait(Some(due.map_or(timeout, |due| due.min(timeout))), &mut happened)
                .is_err()
            {
                break;
            }
            let now = self.clock();
            self.scheduler.set_now(now, &mut self.outbox);
            for event in happened.drain(..) {
                match event {
                    TransportEvent::Frame(conn, frame) => self.on_frame(conn, &frame),
                    TransportEvent::Closed(conn) => self.on_closed(conn),
                    TransportEvent::Opened | TransportEvent::Woken => {}
                }
            }
            let orders = std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner));
            for order in orders {
                match order {
                    Order::CodeReady(code, path) => {
                        self.share(code, &path);
                        self.scheduler.code_ready(code, path, &mut self.outbox);
                    }
                    Order::Info(answer) => drop(answer.send(self.shown())),
                    Order::Stream(answer) => drop(answer.send(self.stories.stream())),
                    Order::Journey(key, answer) => drop(answer.send(self.stories.journey(key))),
                    Order::Subscribe(answer) => {
                        let (info, history) = (self.shown(), self.stories.history());
                        drop(answer.send(self.feed.subscribe(info, history, self.stories.open())));
                    }
                    Order::Record => self.scheduler.begin_recording(OWN, &mut self.outbox),
                    Order::Recorded(answer) => {
                        let recording = self.scheduler.end_recording(OWN, &mut self.outbox);
                        drop(answer.send(recording));
                    }
                    Order::Reset(answer) => {
                        self.spec = None;
                        self.elsewhere = None;
                        self.end_named();
                        self.exit_workers();
                        self.scheduler.end_coordination(&mut self.outbox);
                        self.feed.reset();
                        // Libraries outlive the workers that loaded them.
                        let code = self.scheduler.take_code();
                        (self.scheduler, self.stories) = (Scheduler::with_code(code), Stories::default());
                        let _ = answer.send(());
                    }
                    Order::Offer(open, of) => {
                        (self.open_dashboard, self.offer_dashboard) = (Some(open), Some(of));
                    }
                    Order::Answer(asker, answer) => self.outbox.answer(asker, answer),
                    Order::Stop => return self.stop_workers(),
                }
            }
            self.look_for_silence();
            self.check_launch();
            self.fit();
            self.restart();
            self.send();
        }
        self.stop_workers();
    }

    fn send(&mut self) {
        self.n_workers.store(self.pids.len(), Ordering::Relaxed);
        let events = std::mem::take(&mut self.outbox.events);
        // What a task printed is shown before anybody can have its value.
        let has_prints = events.iter().any(|event| matches!(event, Event::Printed { .. }));
        if has_prints {
            self.tell_events(&events);
        }
        for (worker, messages) in std::mem::take(&mut self.outbox.to_workers) {
            if let Some(conn) = self.conns.get(&Peer::Worker(worker)) {
                self.transport.send(*conn, &messages);
            }
        }
        for (client, messages) in std::mem::take(&mut self.outbox.to_clients) {
            if let Some(conn) = self.conns.get(&Peer::Client(client)) {
                self.transport.send(*conn, &messages);
            }
        }
        if !has_prints && !events.is_empty() {
            self.transport.flush();
            self.tell_events(&events);
        }
    }

    fn tell_events(&mut self, events: &[Event]) {
        let now = now_us();
        for event in events {
            self.stories.apply(event, now);
        }
        (self.subscriber)(events);
        self.feed.tell(events);
        for client in &self.followers {
            if let Some(conn) = self.conns.get(&Peer::Client(*client)) {
                self.transport
                    .send(*conn, &vec![ToClient::Events(events.to_vec())]);
            }
        }
    }

    fn introduce(&mut self, conn: ConnId, peer: Peer) {
        self.peers.insert(conn, peer);
        self.conns.insert(peer, conn);
        self.transport.admit(conn);
    }

    /// A worker that is told to go is none of ours from here on.
    fn dismiss(&mut self, worker: WorkerId) {
        self.send();
        if let Some(conn) = self.conns.remove(&Peer::Worker(worker)) {
            self.peers.remove(&conn);
        }
        self.leaving.extend(self.pids.remove(&worker));
    }

    fn on_frame(&mut self, conn: ConnId, frame: &[u8]) {
        let Ok(messages) = decode::<Vec<ToScheduler>>(frame) else {
            self.transport.close(conn);
            return self.on_closed(conn);
        };
        for message in messages {
            match (self.peers.get(&conn).copied(), message) {
                (None, ToScheduler::Hello { token }) if token.admits(self.token) => {
                    let id = ClientId(self.next_client);
                    self.next_client += 1;
                    self.introduce(conn, Peer::Client(id));
                    self.outbox.to_client(id, ToClient::Welcome { id });
                }
                // It was told to go before it had come.
                (None, ToScheduler::Register { pid, .. }) if self.leaving.contains(&pid) => {
                    return self.transport.close(conn);
                }
                (
                    None,
                    ToScheduler::Register {
                        token,
                        pid,
                        address,
                        threads,
                        memory_limit,
                        resources,
                    },
                ) if token.admits(self.token) => {
                    let id = WorkerId(self.next_worker);
                    self.next_worker += 1;
                    self.introduce(conn, Peer::Worker(id));
                    self.pids.insert(id, pid);
                    self.scheduler.add_worker(
                        id,
                        NewWorker {
                            pid,
                            address,
                            threads,
                            memory_limit,
                            resources,
                        },
                        &mut self.outbox,
                    );
                }
                (Some(Peer::Client(client)), message) => self.on_client(client, message),
                (Some(Peer::Worker(worker)), message) => self.on_worker(worker, message),
                // A stranger that does not introduce itself, or has not the token.
                (None, _) => return self.transport.close(conn),
            }
        }
    }

    fn on_client(&mut self, client: ClientId, message: ToScheduler) {
        let out = &mut self.outbox;
        match message {
            ToScheduler::Code { id, path: Some(path) } => {
                self.scheduler.code_ready(id, path.clone(), out);
                self.share(id, &path);
            }
            ToScheduler::Function(function) => self.scheduler.add_function(function, out),
            ToScheduler::Submit { tasks, wanted } => self.scheduler.submit(client, tasks, &wanted, out),
            ToScheduler::Release { keys } => self.scheduler.release(client, &keys, out),
            ToScheduler::Cancel { keys } => self.scheduler.cancel(&keys, out),
            ToScheduler::Follow { is_on } => {
                self.followers.retain(|follower| *follower != client);
                if is_on {
                    self.followers.push(client);
                }
            }
            ToScheduler::Ask { id, request } => self.on_request(Asker { client, id }, request),
            ToScheduler::Elsewhere(what) => self.on_elsewhere(client, what),
            _ => {}
        }
    }

    fn on_elsewhere(&mut self, client: ClientId, what: Elsewhere) {
        match what {
            Elsewhere::Began(info) => self.elsewhere = Some((client, info)),
            Elsewhere::Is(info) => {
                if let Some(known) = self.elsewhere.as_mut().filter(|(of, _)| *of == client) {
                    known.1 = info;
                }
            }
            Elsewhere::Happened(events) => self.outbox.events.extend(events),
            Elsewhere::Gone => drop(self.elsewhere.take_if(|(of, _)| *of == client)),
        }
    }

    /// The cluster that was started last: this one, or one of another engine.
    fn shown(&self) -> ClusterInfo {
        match &self.elsewhere {
            Some((_, info)) => info.clone(),
            None => self.scheduler.info(),
        }
    }

    fn on_request(&mut self, asker: Asker, request: Request) {
        let out = &mut self.outbox;
        match request {
            Request::Launch(spec) => {
                self.elsewhere = None;
                self.launch(asker, spec);
            }
            Request::Restart => match self.spec.clone() {
                Some(spec) => {
                    self.exit_workers();
                    self.launch(asker, spec);
                }
                None => {
                    let none =
                        Message::new("it was shut down").hint("`Cluster::local().start()?` starts one");
                    out.answer(asker, Answer::Launched(Err(none)));
                }
            },
            Request::Open { name } => {
                let opened = self.open(&name);
                self.outbox.answer(asker, Answer::Opened(opened));
            }
            Request::Share { socket } => {
                let shared = self.share_with(Path::new(&socket));
                self.outbox.answer(asker, Answer::Shared(shared));
            }
            Request::Shutdown => {
                self.spec = None;
                self.exit_workers();
                self.scheduler.close(&mut self.outbox);
            }
            Request::Info => {
                let info = self.scheduler.info();
                out.answer(asker, Answer::Info(info));
            }
            Request::Publish(published) => self.scheduler.publish(asker, published, out),
            Request::Unpublish { name } => self.scheduler.unpublish(asker, &name, out),
            Request::Lookup => self.scheduler.tell_published(asker, out),
            Request::Detach { key } => self.scheduler.detach(key),
            Request::Broadcast { keys } => self.scheduler.broadcast(asker, &keys, out),
            Request::Holdings => {
                let holdings = self.scheduler.holdings();
                out.answer(asker, Answer::Holdings(holdings));
            }
            Request::Rebalance => self.scheduler.rebalance(asker, out),
            Request::Prepare { actor, function } => self.scheduler.prepare(asker, actor, function, out),
            Request::Coordinate { object, op } => self.scheduler.coordinate(asker, object, op, out),
            Request::Withdraw { id } => self.scheduler.withdraw(Asker { id, ..asker }, out),
            Request::Scale { least, most } => {
                self.elastic = Some(Elastic {
                    least,
                    most,
                    patience: processes::ADAPT_AFTER,
                    is_gentle: false,
                    idle_since: None,
                });
            }
            Request::Journey { key } => {
                let journey = self.stories.journey(key);
                out.answer(asker, Answer::Journey(journey));
            }
            Request::Explain { key } => {
                let explanation = self.scheduler.explain(key);
                out.answer(asker, Answer::Explained(explanation));
            }
            Request::Task { key } => {
                let task = self.scheduler.task(key);
                out.answer(asker, Answer::Task(task));
            }
            Request::Logs => {
                let lines = self.stories.logs();
                out.answer(asker, Answer::Logs(lines));
            }
            Request::Dashboard => self.open_dashboard_for(asker),
            Request::Record => self.scheduler.begin_recording(asker.client, out),
            Request::Recorded => {
                let recording = self.scheduler.end_recording(asker.client, out);
                out.answer(asker, Answer::Recorded(Box::new(recording)));
            }
            Request::History => {
                let history = self.stories.history();
                out.answer(asker, Answer::History(history));
            }
            Request::KillWorker { worker } => self.kill(worker),
            Request::PauseWorker { worker, for_us } => self.pause(worker, Duration::from_micros(for_us)),
        }
    }

    /// In a thread of its own: the page asks this one how things are.
    fn open_dashboard_for(&mut self, asker: Asker) {
        let Some(open) = self.open_dashboard.clone() else {
            let none = Message::new("this cluster has no page")
                .hint("the cluster of a notebook or of the terminal has one; `cluster.history()` and `cluster.info()` tell a program what there is to know");
            return self.outbox.answer(asker, Answer::Dashboard(Err(none)));
        };
        let (orders, waker) = (self.orders.clone(), self.transport.waker());
        thread::spawn(move || {
            let answer = Order::Answer(asker, Answer::Dashboard(open()));
            orders.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            let _ = waker.wake();
        });
    }

    fn kill(&mut self, worker: WorkerId) {
        let pid = self.pids.get(&worker).copied();
        // By its handle, not its number: a process that has been waited for is not there any more, and its
        // number may be another's.
        if let Some(child) = self.children.iter_mut().find(|child| Some(child.id()) == pid) {
            let _ = child.kill();
        }
    }

    fn on_worker(&mut self, worker: WorkerId, message: ToScheduler) {
        let out = &mut self.outbox;
        match message {
            ToScheduler::Done(ran) => self.scheduler.on_done(worker, ran, out),
            ToScheduler::Failed { key, error } => self.scheduler.on_failed(worker, key, error, out),
            ToScheduler::Missing { key, inputs } => self.scheduler.on_missing(worker, key, &inputs, out),
            ToScheduler::Heartbeat(memory) => {
                self.stories.note_memory(worker, memory, now_us());
                self.scheduler.on_heartbeat(worker, memory, out);
            }
            ToScheduler::GivenBack { keys } => self.scheduler.on_given_back(worker, &keys, out),
            ToScheduler::Acquired { key, is_here } => self.scheduler.on_acquired(worker, key, is_here, out),
            ToScheduler::Seceded { key } => self.scheduler.on_seceded(worker, key, out),
            ToScheduler::Printed { key, is_stderr, text } => out.event(Event::Printed {
                key,
                worker,
                is_stderr,
                text,
            }),
            ToScheduler::Progressed { key, n_done, n_total } => {
                out.event(Event::Progressed { key, n_done, n_total })
            }
            ToScheduler::Dying { cause } => drop(self.causes.insert(worker, cause)),
            _ => {}
        }
    }

    fn on_closed(&mut self, conn: ConnId) {
        let peer = self.peers.remove(&conn);
        if let Some(peer) = peer {
            self.conns.remove(&peer);
        }
        match peer {
            Some(Peer::Client(client)) => {
                self.followers.retain(|follower| *follower != client);
                self.on_elsewhere(client, Elsewhere::Gone);
                self.scheduler.on_client_lost(client, &mut self.outbox);
            }
            Some(Peer::Worker(worker)) => {
                let ended = self.cause_of(worker);
                self.clear_spill_of(worker);
                let cause = self.causes.remove(&worker).unwrap_or(ended);
                self.scheduler.on_worker_lost(worker, &cause, &mut self.outbox);
                self.restart();
            }
            None => {}
        }
    }

    /// The scheduler's clock: it goes on while the wall clock jumps.
    fn clock(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// Microseconds since 1970, as workers stamp their tasks.
fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

#[test]
fn a_host_can_be_watched_to_its_end() {
    let folder = std::env::temp_dir().join(format!("skep-host-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let host = Host::start(&folder, Arc::new(|_, _| Command::new("true")), Arc::new(|_| {})).unwrap();
    let mut watch = host.subscribe().unwrap();
    assert_eq!((watch.snapshot.next, watch.snapshot.info.workers.len()), (0, 0));
    host.reset();
    assert_eq!(watch.next(Duration::from_secs(5)), Some(Update::Reset));
    host.stop();
    assert_eq!(watch.next(Duration::from_secs(5)), Some(Update::Ended));
    assert!(host.subscribe().is_none());
    let _ = std::fs::remove_dir_all(folder);
}
