//! The engine: orders for the bridge, and what it says.

use std::{
    collections::HashMap,
    io::BufReader,
    path::PathBuf,
    process::ChildStdout,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_bytes::ByteBuf;
use skep_cluster::{
    Bytes, CodeId, Error, Event, FunctionId, Key, Reason, Result, TaskError, TaskErrorKind, WorkerId,
    engine::{Ended, Engine, Sink, Told, Workers, watched::Watched},
    model::{
        cluster::{ClusterInfo, ClusterSpec, Memory, WorkerInfo},
        ids::KeyMap,
        task::{Function, Output, Task, TaskOptions},
    },
    worker::foreign::Request,
};
use skep_render::Message;

use crate::{
    bridge::Bridge,
    code,
    words::{self, EndedWord, EventWord, Order, TaskOrder, Word, WorkerWord, hex, key_of},
};

/// Python and Dask are there within this time.
const START_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Dask {
    bridge: Arc<Bridge>,
    told: Arc<Watched<Answers>>,
    orders: Arc<Mutex<Orders>>,
    next: AtomicU64,
    /// Somebody hears events.
    follows: AtomicBool,
    sink: Weak<dyn Sink>,
    code: Option<code::Told>,
}

/// What the bridge has answered, by the number of the question.
#[derive(Default)]
pub(crate) struct Answers {
    is_ready: bool,
    refused: Option<Error>,
    values: HashMap<u64, (Option<Vec<u8>>, Option<String>)>,
    workers: HashMap<u64, Vec<WorkerWord>>,
    /// Tasks of this program whose end it was told.
    n_done: u64,
    n_failed: u64,
}

/// Functions and libraries, and orders that wait for one.
#[derive(Default)]
struct Orders {
    functions: HashMap<FunctionId, Function>,
    /// Whether it is there, or still being made.
    code: HashMap<CodeId, bool>,
    /// In order: what is ordered after tasks that wait for their code waits too.
    waiting: Vec<Waiting>,
    /// The functions of tasks that are held, for errors that do not name them.
    names: KeyMap<String>,
}

enum Waiting {
    Tasks(Vec<Task>, Vec<Key>),
    Order(Order),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dask {
    pub fn connect(address: &str, sink: Arc<dyn Sink>) -> Result<Arc<dyn Engine>> {
        let (bridge, words) = Bridge::start()?;
        let bridge = Arc::new(bridge);
        let told: Arc<Watched<Answers>> = Watched::new();
        let orders: Arc<Mutex<Orders>> = Arc::default();
        let reader = Reader {
            words,
            sink: Arc::downgrade(&sink),
            told: told.clone(),
            bridge: Arc::downgrade(&bridge),
            orders: orders.clone(),
        };
        thread::Builder::new()
            .name("dask".into())
            .spawn(move || reader.run())
            .map_err(|error| Error::Start(Message::new(error.to_string())))?;
        let address = address.to_string();
        bridge.order(&Order::Hello { address })?;
        let deadline = std::time::Instant::now() + START_WITHIN;
        let ready = told.wait_until(Some(deadline), |told| {
            told.refused.take().map(Err).or(told.is_ready.then_some(Ok(())))
        });
        match ready {
            Ok(Some(ready)) => ready?,
            Ok(None) => return Err(Error::Start(Message::new("the bridge to Dask does not answer"))),
            Err(Error::Disconnected(why)) => return Err(Error::Start(Message::new(why))),
            Err(error) => return Err(error),
        }
        let cannot = |why| Error::Start(Message::new(format!("what cells stand on cannot be sent: {why}")));
        for (id, path) in code::base().map_err(cannot)? {
            lock(&orders).code.insert(id, true);
            let code = id.0;
            bridge.order(&Order::Code {
                code,
                path,
                is_base: true,
            })?;
        }
        let engine = Arc::new_cyclic(|engine: &Weak<Dask>| {
            let engine = engine.clone();
            let code = code::Told::listen(move |id, path| {
                if let Some(engine) = engine.upgrade() {
                    // It says what went wrong when the next order does not go through.
                    let _ = engine.code_came(id, path);
                }
            });
            Dask {
                bridge,
                told,
                orders,
                next: AtomicU64::new(1),
                follows: AtomicBool::new(false),
                sink: Arc::downgrade(&sink),
                code: code.ok(),
            }
        });
        Ok(engine)
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A library is there: it goes to the workers, and what waited for it after it.
    fn code_came(&self, code: CodeId, path: String) -> Result<()> {
        let mut orders = lock(&self.orders);
        if orders.code.insert(code, true) == Some(true) {
            return Ok(());
        }
        self.bridge.order(&Order::Code {
            code: code.0,
            path,
            is_base: false,
        })?;
        for waiting in std::mem::take(&mut orders.waiting) {
            match waiting {
                Waiting::Tasks(tasks, wanted) => self.send(&mut orders, tasks, wanted)?,
                Waiting::Order(order) => self.order(&mut orders, order)?,
            }
        }
        Ok(())
    }

    /// After everything that was ordered before.
    fn order(&self, orders: &mut Orders, order: Order) -> Result<()> {
        if orders.waiting.is_empty() {
            return self.bridge.order(&order);
        }
        orders.waiting.push(Waiting::Order(order));
        Ok(())
    }

    /// In order: what needs code that is still being made holds up what comes after it.
    fn send(&self, orders: &mut Orders, tasks: Vec<Task>, wanted: Vec<Key>) -> Result<()> {
        let lacks_code = |task: &Task| {
            let function = orders.functions.get(&task.function);
            function.is_some_and(|function| orders.code.get(&function.code) != Some(&true))
        };
        if !orders.waiting.is_empty() || tasks.iter().any(lacks_code) {
            orders.waiting.push(Waiting::Tasks(tasks, wanted));
            return Ok(());
        }
        let tasks = tasks
            .into_iter()
            .map(|task| orders.order_of(task))
            .collect::<Result<Vec<TaskOrder>>>()?;
        let wanted = wanted.into_iter().map(hex).collect();
        self.bridge.order(&Order::Submit { tasks, wanted })
    }

    /// Dask says what becomes of tasks, and this what they are.
    fn tell_submitted(&self, tasks: &[Task]) {
        let orders = lock(&self.orders);
        let mut events = Vec::new();
        for task in tasks {
            let (key, id) = (task.key, task.function);
            if let Some(function) = orders.functions.get(&id) {
                let name = function.name.clone();
                events.push(Event::Function { id, name });
            }
            events.push(Event::Submitted {
                key,
                function: id,
                origin: task.origin,
                inputs: task.dependencies().into(),
            });
            let tags = task
                .options
                .as_ref()
                .map_or(Vec::new(), |options| options.tags.clone());
            if !tags.is_empty() {
                events.push(Event::Tagged { key, tags });
            }
        }
        drop(orders);
        if let Some(sink) = self.sink.upgrade() {
            sink.on_told(vec![Told::Events(events)]);
        }
    }

    fn ask<R>(
        &self,
        order: impl FnOnce(u64) -> Order,
        mut answer: impl FnMut(&mut Answers, u64) -> Option<R>,
    ) -> Result<R> {
        let id = self.next_id();
        self.bridge.order(&order(id))?;
        self.told.wait_for(|told| answer(told, id))
    }
}

impl Orders {
    fn order_of(&mut self, task: Task) -> Result<TaskOrder> {
        let function = self
            .functions
            .get(&task.function)
            .cloned()
            .ok_or_else(|| Error::Disconnected("a task names a function that was never sent".into()))?;
        let options = task.options.as_deref().cloned().unwrap_or_default();
        let inputs = task
            .outputs()
            .into_iter()
            .map(|(output, _)| (hex(output.task), output.part))
            .collect();
        let key = task.key;
        self.names.insert(key, function.name.clone());
        let name = function.name.clone();
        let code = function.code.0;
        let request = postcard::to_stdvec(&Request { task, function })
            .map_err(|error| Error::Serialisation(Message::new(error.to_string())))?;
        Ok(TaskOrder {
            key: hex(key),
            name,
            code,
            request: ByteBuf::from(request),
            inputs,
            retries: options.retries,
            workers: options.workers.iter().map(|worker| worker.0).collect(),
        })
    }
}

fn can_do(options: &TaskOptions) -> Result<()> {
    let lacks = [
        (options.is_actor, "actors"),
        (options.timeout_us > 0, "timeouts of tasks"),
        (options.retry_delay_us > 0, "delays between retries"),
        (!options.resources.is_empty(), "resources"),
    ];
    match lacks.into_iter().find(|(is_wanted, _)| *is_wanted) {
        Some((_, what)) => Err(lacking(what)),
        None => Ok(()),
    }
}

fn lacking(what: &str) -> Error {
    Error::Unsupported(
        Message::new(format!("the engine `dask` does not offer {what}")).hint("a local cluster does"),
    )
}

impl Engine for Dask {
    fn name(&self) -> &'static str {
        "dask"
    }

    fn put_code(&self, functions: Vec<Function>, code: Vec<(CodeId, Option<String>)>) -> Result<()> {
        {
            let mut orders = lock(&self.orders);
            orders
                .functions
                .extend(functions.into_iter().map(|function| (function.id, function)));
            for (id, _) in &code {
                orders.code.entry(*id).or_insert(false);
            }
        }
        for (id, path) in code {
            if let Some(path) = path {
                self.code_came(id, path)?;
            }
        }
        Ok(())
    }

    fn submit(&self, tasks: Vec<Task>, wanted: Vec<Key>) -> Result<()> {
        // Before any of them waits: what is refused later is refused to nobody.
        for options in tasks.iter().filter_map(|task| task.options.as_deref()) {
            can_do(options)?;
        }
        if self.follows.load(Ordering::Relaxed) {
            self.tell_submitted(&tasks);
        }
        self.send(&mut lock(&self.orders), tasks, wanted)
    }

    fn fetch(&self, output: Output, _: WorkerId) -> Result<Option<Result<Bytes>>> {
        let order = |id| Order::Fetch {
            id,
            key: hex(output.task),
            part: output.part,
        };
        let (value, why) = self.ask(order, |told, id| told.values.remove(&id))?;
        Ok(match (value, why) {
            (Some(value), _) => Some(Ok(value.into())),
            (None, why) => Some(Err(Error::Disconnected(format!(
                "the value could not be fetched: {}",
                why.unwrap_or_default()
            )))),
        })
    }

    fn release(&self, keys: Vec<Key>) -> Result<()> {
        let mut orders = lock(&self.orders);
        keys.iter().for_each(|key| drop(orders.names.remove(key)));
        let keys = keys.into_iter().map(hex).collect();
        self.order(&mut orders, Order::Release { keys })
    }

    fn detach(&self, key: Key) -> Result<()> {
        self.order(&mut lock(&self.orders), Order::Detach { key: hex(key) })
    }

    fn cancel(&self, keys: Vec<Key>) -> Result<()> {
        let keys = keys.into_iter().map(hex).collect();
        self.order(&mut lock(&self.orders), Order::Cancel { keys })
    }

    fn follow(&self, is_on: bool) -> Result<()> {
        self.follows.store(is_on, Ordering::Relaxed);
        self.bridge.order(&Order::Follow { is_on })
    }

    /// The workers are somebody else's: they stay, and lose what was held for this program.
    fn close(&self) -> Result<()> {
        self.bridge.order(&Order::Close)
    }

    fn code_socket(&self) -> Option<PathBuf> {
        self.code.as_ref().map(code::Told::socket)
    }

    fn workers(&self) -> Option<&dyn Workers> {
        Some(self)
    }
}

impl Workers for Dask {
    fn launch(&self, _: ClusterSpec) -> Result<ClusterInfo> {
        self.info()
    }

    fn info(&self) -> Result<ClusterInfo> {
        let workers = self.ask(|id| Order::Info { id }, |told, id| told.workers.remove(&id))?;
        let workers = workers
            .into_iter()
            .map(|worker| WorkerInfo {
                id: WorkerId(worker.id),
                pid: worker.pid,
                threads: worker.threads,
                memory_limit: worker.memory_limit,
                resources: Vec::new(),
                memory: Memory {
                    resident: worker.resident,
                    managed: worker.held,
                    ..Memory::default()
                },
                is_silent: false,
                n_assigned: worker.n_assigned,
                n_values: worker.n_values,
                held_bytes: worker.held,
            })
            .collect();
        let (n_done, n_failed) = {
            let told = self.told.lock();
            (told.n_done, told.n_failed)
        };
        Ok(ClusterInfo {
            workers,
            n_done,
            n_failed,
            ..ClusterInfo::default()
        })
    }

    fn restart(&self) -> Result<ClusterInfo> {
        Err(lacking("a restart"))
    }

    fn scale(&self, _: u32, _: u32) -> Result<()> {
        Err(lacking(
            "more or fewer workers: who runs the Dask cluster scales it",
        ))
    }

    fn kill(&self, _: WorkerId) -> Result<()> {
        Err(lacking("the end of a worker"))
    }

    fn pause(&self, _: WorkerId, _: Duration) -> Result<()> {
        Err(lacking("pauses of workers"))
    }
}

/// Hears the bridge.
struct Reader {
    words: BufReader<ChildStdout>,
    sink: Weak<dyn Sink>,
    told: Arc<Watched<Answers>>,
    bridge: Weak<Bridge>,
    orders: Arc<Mutex<Orders>>,
}

impl Reader {
    fn run(mut self) {
        let reason = loop {
            match words::read(&mut self.words) {
                Ok(Word::Gone { reason }) => break reason,
                Ok(word) => self.on_word(word),
                Err(error) => {
                    let said = self
                        .bridge
                        .upgrade()
                        .map_or(String::new(), |bridge| bridge.said());
                    break match error.kind() {
                        std::io::ErrorKind::UnexpectedEof => format!("the bridge to Dask has ended{said}"),
                        _ => format!("the bridge to Dask: {error}{said}"),
                    };
                }
            }
        };
        self.told.end(reason.clone());
        if let Some(sink) = self.sink.upgrade() {
            sink.on_gone(reason);
        }
    }

    fn on_word(&self, word: Word) {
        match word {
            Word::Ready => self.told.change(|told| told.is_ready = true),
            Word::Refused { what, hint } => self.told.change(|told| {
                told.refused = Some(Error::Start(Message::new(what).hint(hint)));
            }),
            Word::Value { id, value, why } => self.told.change(|told| {
                told.values.insert(id, (value.map(ByteBuf::into_vec), why));
            }),
            Word::Info { id, workers } => self.told.change(|told| {
                told.workers.insert(id, workers);
            }),
            Word::Ended { ended } => {
                let n_failed = ended.iter().filter(|ended| ended.failed.is_some()).count() as u64;
                self.told.change(|told| {
                    told.n_failed += n_failed;
                    told.n_done += ended.len() as u64 - n_failed;
                });
                let told = ended.into_iter().filter_map(|ended| self.ended(ended)).collect();
                self.tell(told);
            }
            Word::Events { events } => {
                let events: Vec<Event> = events.into_iter().filter_map(event).collect();
                self.tell(vec![Told::Events(events)]);
            }
            Word::Trouble { what, order, keys } => {
                let message = format!("Dask refused `{order}`: {what}");
                let failed = |key: &String| {
                    let key = key_of(key)?;
                    let how = Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Code, message.clone())));
                    Some(Told::Ended { key, how })
                };
                self.tell(keys.iter().filter_map(failed).collect());
            }
            Word::Gone { .. } => {}
        }
    }

    fn tell(&self, told: Vec<Told>) {
        if let (Some(sink), false) = (self.sink.upgrade(), told.is_empty()) {
            sink.on_told(told);
        }
    }

    fn ended(&self, ended: EndedWord) -> Option<Told> {
        let key = key_of(&ended.key)?;
        let why = ended.why.map(ByteBuf::into_vec).unwrap_or_default();
        let words = || String::from_utf8_lossy(&why).into_owned();
        let how = match ended.failed.as_deref() {
            None => Ended::Done {
                n_bytes: ended.n_bytes,
                inline: ended.inline.map(ByteBuf::into_vec),
                worker: WorkerId(ended.worker),
                duration_us: 0,
            },
            Some("told") => Ended::Failed(Arc::new(match postcard::from_bytes(&why) {
                Ok(error) => error,
                Err(error) => self.error(key, TaskErrorKind::Failed, error.to_string()),
            })),
            Some("cancelled") => {
                Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Cancelled, String::new())))
            }
            Some("killed") => Ended::Failed(Arc::new(self.error(key, TaskErrorKind::KilledWorkers, words()))),
            Some("code") => Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Code, words()))),
            Some(_) => Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Failed, words()))),
        };
        Some(Told::Ended { key, how })
    }

    fn error(&self, key: Key, kind: TaskErrorKind, message: String) -> TaskError {
        TaskError {
            kind,
            message,
            hint: None,
            function: lock(&self.orders).names.get(&key).cloned().unwrap_or_default(),
            at: None,
            worker: None,
            tags: Vec::new(),
        }
    }
}

fn event(word: EventWord) -> Option<Event> {
    let worker = WorkerId(word.worker);
    match word.what.as_str() {
        "joined" => return Some(Event::WorkerJoined { worker, pid: 0 }),
        "lost" => {
            let cause = word.why;
            return Some(Event::WorkerLost { worker, cause });
        }
        _ => {}
    }
    let key = key_of(&word.key)?;
    Some(match word.what.as_str() {
        "assigned" => Event::Assigned {
            key,
            worker,
            why: Reason::LeastBusy,
            moved_bytes: 0,
        },
        "done" => Event::Done {
            key,
            worker,
            n_bytes: word.n_bytes,
            start_us: word.start_us,
            duration_us: word.duration_us,
        },
        "failed" => Event::Failed { key, why: word.why },
        "freed" => Event::Freed { key },
        _ => return None,
    })
}
