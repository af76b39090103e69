//! How a local cluster is asked for, and where it comes from: the notebook that hosts this program, or the
//! program itself.

use std::{fmt, time::Duration};

use skep_render::Message;

use crate::{
    api::{cluster::Cluster, connect},
    call::locate::Located,
    data::value::TaskValue,
    engine::{
        Connect,
        client::{self, Client},
    },
    graph::{
        node::{Graph, How},
        task_fn::{TaskFn, fn_ref},
    },
    hooks,
    model::{
        cluster::{ClusterInfo, ClusterSpec, WorkerInfo},
        error::{Error, Result},
        ids::Key,
        task::{Resource, Task},
    },
};

/// A worker cannot do with less.
const LEAST_MEMORY: u64 = 64 << 20;

/// What a local cluster shall be; see [`Cluster::local`].
#[derive(Clone, Debug, Default)]
#[must_use = "a cluster starts with `.start()?`"]
pub struct ClusterBuilder {
    name: String,
    workers: Option<usize>,
    threads: Option<usize>,
    memory_limit: Option<Size>,
    spill_limit: Option<Size>,
    resources: Vec<Resource>,
    idle_timeout: Option<Duration>,
    set_up: Option<SetUp>,
}

/// What workers run first, and its code.
#[derive(Clone)]
struct SetUp(Result<(Task, Vec<Located>)>);

impl std::fmt::Debug for SetUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetUp")
    }
}

impl ClusterBuilder {
    /// A cluster beside others, which other notebooks and programs of the same user reach with [`Cluster::connect`]. Its
    /// handles stay as they are when another cluster is started.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_string();
        // An empty name is none, and refused as such.
        if name.is_empty() {
            self.name.push(' ');
        }
        self
    }

    /// Worker processes, at least one.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// Threads of each worker: tasks it runs at once.
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n);
        self
    }

    /// One worker process with so many threads, whose tasks share their values without copying them: for tasks that pass
    /// large values on, and for looking at one process in a debugger. A task that crashes takes all of them along.
    pub fn with_threads(self, n: usize) -> Self {
        self.workers(1).threads(n)
    }

    /// Memory of each worker: bytes as a number of any kind, text like `"2 GB"`, or a part of the machine's memory like
    /// `0.25`. Values that have no room go to disk; a worker that goes over it is restarted, and says so.
    ///
    /// Without it the memory of the machine, or of the container, is shared out among the workers.
    pub fn memory_limit(mut self, limit: impl Into<Size>) -> Self {
        self.memory_limit = Some(limit.into());
        self
    }

    /// What each worker may write to disk of values that its memory has no room for. Without it the disk is
    /// the limit.
    pub fn spill_limit(mut self, limit: impl Into<Size>) -> Self {
        self.spill_limit = Some(limit.into());
        self
    }

    /// Something that each worker has a number of, by any name. Tasks ask for it with [`Cluster::resource`],
    /// and run only where there is enough left.
    pub fn resource(mut self, name: &str, amount: u32) -> Self {
        self.resources.retain(|resource| resource.name != name);
        self.resources.push(Resource {
            name: name.to_string(),
            amount,
        });
        self.resources.sort();
        self
    }

    /// Runs a function on each worker before anything else runs there, also on those that take the place of others: to load
    /// something, or to set something.
    ///
    /// ```no_run
    /// # use skep_cluster::Cluster;
    /// fn prepare() { println!("process {} is ready", std::process::id()) }
    /// let cluster = Cluster::local().on_start(prepare).start()?;
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    pub fn on_start<F, Kind>(mut self, f: F) -> Self
    where
        F: TaskFn<Kind, ()>,
        F::Output: TaskValue,
    {
        let _ = f;
        let mut graph = Graph::default();
        let node = graph.call(fn_ref::<F, Kind, ()>(), Ok(Vec::new()), false);
        self.set_up = Some(SetUp(node.map(|_| {
            let (mut tasks, functions) = graph.into_tasks(&How::default(), || 0);
            (tasks.remove(0), functions)
        })));
        self
    }

    /// Workers that have had nothing to do for this long, and hold nothing, end; the next task starts them
    /// again.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.idle_timeout = Some(after);
        self
    }

    /// Starts the workers. Run again with the same numbers, it finds the cluster as it is.
    ///
    /// # Errors
    /// When numbers make no sense, or the workers do not come up.
    pub fn start(self) -> Result<Cluster> {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.workers.unwrap_or(n_cores);
        let threads = self.threads.unwrap_or_else(|| (n_cores / workers.max(1)).max(1));
        if workers == 0 || threads == 0 || workers > 1024 || threads > 1024 {
            return Err(Error::Start(
                Message::new(format!("{workers} workers of {threads} threads"))
                    .hint("ask for 1 to 1024 of each"),
            ));
        }
        let machine = machine_memory();
        let memory_limit = match &self.memory_limit {
            None => machine.map_or(0, |machine| machine / workers as u64),
            Some(limit) => limit.bytes(machine)?,
        };
        if memory_limit < LEAST_MEMORY && (self.memory_limit.is_some() || memory_limit > 0) {
            return Err(Error::start(
                Message::new(format!(
                    "a worker needs at least 64 MiB of memory, and each of these would have {}",
                    skep_render::bytes(memory_limit)
                ))
                .hint("ask for fewer workers, or a higher memory limit"),
            ));
        }
        let asked = memory_limit.saturating_mul(workers as u64);
        if let Some(machine) = machine.filter(|machine| self.memory_limit.is_some() && asked > *machine) {
            hooks::note(&format!(
                "{workers} workers of {} may take more memory together than there is ({})",
                skep_render::bytes(memory_limit),
                skep_render::bytes(machine)
            ));
        }
        let spill_limit = self
            .spill_limit
            .as_ref()
            .map_or(Ok(0), |limit| limit.bytes(machine))?;
        if let Some(resource) = self
            .resources
            .iter()
            .find(|resource| resource.name.is_empty() || resource.name.contains(['=', '\u{1f}']))
        {
            return Err(Error::Start(
                Message::new(format!("`{}` is no name of a resource", resource.name))
                    .hint("a word like `gpu`"),
            ));
        }
        let set_up = self.set_up.map(|set_up| set_up.0).transpose()?;
        let spec = ClusterSpec {
            set_up: set_up.as_ref().map(|(task, _)| task.clone()),
            name: self.name,
            workers: workers as u32,
            threads: threads as u32,
            memory_limit,
            resources: self.resources,
            idle_timeout_us: self.idle_timeout.map_or(0, |after| after.as_micros() as u64),
            spill_limit,
        };
        let client = connect::client_of(&spec.name)?;
        let before = client.workers()?.info()?;
        if let Some((_, functions)) = &set_up {
            client.put_code(functions)?;
        }
        let info = client.workers()?.launch(spec.clone())?;
        say_replaced(&before, &info);
        client::set_current(client.clone());
        let cluster = Cluster::of(client, spec);
        if let Some((task, functions)) = set_up
            && let Err(error) = cluster.wait_for_set_up(&task, &functions, &info)
        {
            // Workers that are not as they should be are none.
            cluster.shutdown()?;
            return Err(error);
        }
        Ok(cluster)
    }
}

/// One cluster took the place of another: none of the workers is the same.
fn say_replaced(before: &ClusterInfo, now: &ClusterInfo) {
    let is_there = |worker: &WorkerInfo| now.workers.iter().any(|other| other.id == worker.id);
    let was = before.workers.len();
    if was > 0 && !before.workers.iter().any(is_there) {
        hooks::note(&format!(
            "this replaces the cluster of {} with {} each; values that were there are made again when they are needed",
            skep_render::plural(was, "worker"),
            skep_render::plural(before.workers[0].threads as usize, "thread"),
        ));
    }
}

impl Cluster {
    /// Its tasks run already: this holds them too, and hears how they ended.
    fn wait_for_set_up(&self, task: &Task, functions: &[Located], info: &ClusterInfo) -> Result<()> {
        let tasks: Vec<Task> = info
            .workers
            .iter()
            .map(|worker| task.for_worker(worker.id))
            .collect();
        let keys: Vec<Key> = tasks.iter().map(|task| task.key).collect();
        self.client.submit(tasks, &keys, functions)?;
        let ended = self.client.wait(&keys);
        keys.iter().for_each(|key| self.client.release(*key));
        ended
    }

    /// A cluster of worker processes on this machine. By default one worker for each core, with one thread.
    pub fn local() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// A cluster of another engine than the local one; see [`crate::engine`].
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub fn with_engine(connect: Connect) -> Result<Cluster> {
        let client = Client::with_engine(connect).map_err(|error| Error::start(error.to_string()))?;
        client::set_current(client.clone());
        Ok(Cluster::of(client, ClusterSpec::default()))
    }
}

/// Memory that this process may use: the machine's, or less where a container has less. `None` where the system does
/// not tell.
fn machine_memory() -> Option<u64> {
    // SAFETY: plain questions to the system.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let machine = u64::try_from(pages).ok()? * u64::try_from(size).ok()?;
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let of_groups = limits
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    Some(of_groups.fold(machine, u64::min)).filter(|bytes| *bytes > 0)
}

/// An amount of memory: bytes as a number of any kind, a part of the machine's memory as a fraction (`0.25`), or text
/// with a unit (`"2 GB"`, `"1.5 GiB"`, `"25 %"`).
#[derive(Clone, Debug, PartialEq)]
pub struct Size(std::result::Result<Amount, String>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Bytes(u64),
    /// Of the machine's memory.
    Part(f64),
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(Amount::Part(part)) => write!(f, "{part}"),
            Ok(Amount::Bytes(bytes)) => write!(f, "{bytes}"),
            Err(text) => write!(f, "\"{text}\""),
        }
    }
}

impl Size {
    /// # Errors
    /// When it is no size; the message quotes it.
    pub(crate) fn bytes(&self, machine: Option<u64>) -> Result<u64> {
        let bytes = match &self.0 {
            Ok(Amount::Bytes(bytes)) => return Ok(*bytes),
            Ok(Amount::Part(part)) if *part > 0.0 && *part <= 1.0 => {
                machine.map(|machine| (machine as f64 * part) as u64)
            }
            Ok(Amount::Part(_)) | Err(_) => None,
        };
        bytes.ok_or_else(|| {
            Error::start(
                Message::new(format!("{self} is no amount of memory"))
                    .hint("write it like `\"512 MB\"`, `\"2 GiB\"`, `2_000_000_000` or, as a part of the machine's memory, `0.25`"),
            )
        })
    }
}

macro_rules! sizes {
    ($($number:ty)*) => { $(
        impl From<$number> for Size {
            fn from(n: $number) -> Size {
                Size(u64::try_from(n).map(Amount::Bytes).map_err(|_| n.to_string()))
            }
        }
    )* };
}
sizes!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize);

impl From<f64> for Size {
    fn from(n: f64) -> Size {
        // A number of bytes that came out of arithmetic.
        if n > 1.0 && n.is_finite() {
            Size(Ok(Amount::Bytes(n as u64)))
        } else {
            Size(Ok(Amount::Part(n)))
        }
    }
}

impl From<f32> for Size {
    fn from(n: f32) -> Size {
        Size::from(f64::from(n))
    }
}

impl From<String> for Size {
    fn from(text: String) -> Size {
        Size::from(text.as_str())
    }
}

impl From<&str> for Size {
    fn from(text: &str) -> Size {
        let none = || Size(Err(text.to_string()));
        let given = text.trim();
        let digits = given
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
            .unwrap_or(given.len());
        let (number, unit) = given.split_at(digits);
        let Ok(number) = number.replace('_', "").parse::<f64>() else {
            return none();
        };
        let unit = unit.trim().to_ascii_lowercase();
        // A bandwidth.
        let unit = unit.strip_suffix("/s").unwrap_or(&unit);
        if unit == "%" {
            return Size(Ok(Amount::Part(number / 100.0)));
        }
        let binary = unit.contains('i');
        let power = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" if unit.is_empty() || unit == "b" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return none(),
        };
        let base: f64 = if binary { 1024.0 } else { 1000.0 };
        Size(Ok(Amount::Bytes((number * base.powi(power)) as u64)))
    }
}

#[test]
fn sizes_are_read_in_every_way_that_people_write_them() {
    let machine = Some(8_000_000_000);
    for (text, expect) in [
        ("512", 512),
        ("2 GB", 2_000_000_000),
        ("2gb", 2_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("1 TB", 1_000_000_000_000),
        ("4G", 4_000_000_000),
        ("1.5 GB/s", 1_500_000_000),
        ("25 %", 2_000_000_000),
    ] {
        assert_eq!(Size::from(text).bytes(machine).unwrap(), expect, "{text}");
    }
    for size in [
        Size::from(7u8),
        Size::from(7i64),
        Size::from(7usize),
        Size::from(7i128),
    ] {
        assert_eq!(size.bytes(None).unwrap(), 7);
    }
    assert_eq!(Size::from(0.5).bytes(machine).unwrap(), 4_000_000_000);
    assert_eq!(Size::from(2e9).bytes(machine).unwrap(), 2_000_000_000);
    for none in [
        Size::from("x"),
        Size::from("3 parsecs"),
        Size::from("GB"),
        Size::from("i"),
        Size::from(-5),
        Size::from(0.0),
        Size::from(f64::NAN),
        Size::from("250 %"),
    ] {
        let error = none.bytes(machine).unwrap_err().message();
        assert!(
            error.what.contains("is no amount of memory") && error.hint.is_some(),
            "{error}"
        );
    }
}
