//! The engine: orders for the bridge.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_bytes::ByteBuf;
use skep_cluster::{
    Bytes, CodeId, Error, Event, FunctionId, Key, Result, WorkerId, code_id,
    engine::{Engine, Sink, Told, Workers, watched::Watched},
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
    reader::{Answer, Answers, Known, Reader, lock},
    words::{Order, TaskOrder, hex},
};

/// Python and Dask are there within this time.
const START_WITHIN: Duration = Duration::from_secs(30);

/// So many functions' names are kept: those of tasks that are let go may be wanted again.
const MOST_NAMES: usize = 200_000;

/// What a function of somebody else's makes may have to buy machines first.
const MADE_WITHIN: Duration = Duration::from_secs(1800);

pub(crate) struct Dask {
    bridge: Arc<Bridge>,
    told: Arc<Watched<Answers>>,
    orders: Mutex<Orders>,
    next: AtomicU64,
    /// Somebody hears events.
    follows: AtomicBool,
    known: Arc<Mutex<KeyMap<Known>>>,
    sink: Weak<dyn Sink>,
    code: Option<code::Told>,
}

/// Functions and libraries, and orders that wait for one.
#[derive(Default)]
struct Orders {
    functions: HashMap<FunctionId, Function>,
    /// Whether it is there, or still being made.
    code: HashMap<CodeId, bool>,
    /// In order: what is ordered after tasks that wait for their code waits too.
    waiting: Vec<Waiting>,
    names: Arc<Mutex<KeyMap<String>>>,
}

enum Waiting {
    Tasks(Vec<Task>, Vec<Key>),
    Order(Order),
}

impl Dask {
    pub fn connect(address: &str, sink: Arc<dyn Sink>) -> Result<Arc<dyn Engine>> {
        let (bridge, words) = Bridge::start()?;
        let bridge = Arc::new(bridge);
        let told: Arc<Watched<Answers>> = Watched::new();
        let orders = Mutex::new(Orders::default());
        let known: Arc<Mutex<KeyMap<Known>>> = Arc::default();
        let reader = Reader {
            words,
            sink: Arc::downgrade(&sink),
            told: told.clone(),
            bridge: Arc::downgrade(&bridge),
            names: lock(&orders).names.clone(),
            known: known.clone(),
        };
        thread::Builder::new()
            .name("dask".into())
            .spawn(move || reader.run())
            .map_err(|error| Error::Start(Message::new(error.to_string())))?;
        let address = address.to_string();
        let within = if address.starts_with("python://") {
            MADE_WITHIN
        } else {
            START_WITHIN
        };
        bridge.order(&Order::Hello { address })?;
        let deadline = std::time::Instant::now() + within;
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
                known,
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
        for path in code::below(&path) {
            let path = path.to_string_lossy().into_owned();
            let Ok(below) = code_id(&path) else { continue };
            if orders.code.insert(below, true) != Some(true) {
                let code = below.0;
                self.bridge.order(&Order::Code {
                    code,
                    path,
                    is_base: true,
                })?;
            }
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
        let (orders, mut known) = (lock(&self.orders), lock(&self.known));
        let mut events = Vec::new();
        for task in tasks {
            let (key, id) = (task.key, task.function);
            // The same call is the same task.
            if known.contains_key(&key) {
                continue;
            }
            known.insert(key, Known::Open(WorkerId(0)));
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
        drop((orders, known));
        if let Some(sink) = self.sink.upgrade() {
            sink.on_told(vec![Told::Events(events)]);
        }
    }

    fn ask(&self, order: impl FnOnce(u64) -> Order) -> Result<Answer> {
        let id = self.next_id();
        self.told.lock().open.insert(id, None);
        let answer = self
            .bridge
            .order(&order(id))
            .and_then(|()| self.told.wait_for(|told| told.open.get_mut(&id)?.take()));
        self.told.lock().open.remove(&id);
        answer
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
        lock(&self.names).insert(key, function.name.clone());
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
            resources: options
                .resources
                .iter()
                .map(|resource| (resource.name.clone(), resource.amount))
                .collect(),
        })
    }
}

fn can_do(options: &TaskOptions) -> Result<()> {
    let lacks = [
        (options.is_actor, "actors"),
        (options.retry_delay_us > 0, "delays between retries"),
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
        let value = match self.ask(order)? {
            Answer::Value(value) => value,
            Answer::Workers(_) => Err("the bridge answered something else".into()),
        };
        Ok(Some(value.map(Bytes::from).map_err(|why| {
            Error::Disconnected(format!("the value could not be fetched: {why}"))
        })))
    }

    fn release(&self, keys: Vec<Key>) -> Result<()> {
        let mut orders = lock(&self.orders);
        {
            let mut names = lock(&orders.names);
            if names.len() > MOST_NAMES {
                names.clear();
            }
        }
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
        let workers = match self.ask(|id| Order::Info { id })? {
            Answer::Workers(workers) => workers,
            Answer::Value(_) => Err("the bridge answered something else".into()),
        };
        let workers = workers
            .map_err(Error::Disconnected)?
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
                    spilled: worker.spilled,
                    ..Memory::default()
                },
                is_silent: false,
                n_assigned: worker.n_assigned,
                n_values: worker.n_values,
                held_bytes: worker.held,
            })
            .collect();
        let told = self.told.lock();
        Ok(ClusterInfo {
            workers,
            n_done: told.n_done,
            n_failed: told.n_failed,
            losses: told.losses.clone(),
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
