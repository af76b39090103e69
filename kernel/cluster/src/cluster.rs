//! `Cluster` and `Remote`: what a cell holds.

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Error, IntoArg, Journey, Key, Result, TaskFn, TaskValue, WorkerId,
    client::{self, Client, Status},
    delayed::{Delayed, Graph, How, Node},
    function::{FnRef, fn_ref},
    message::{Arg, ClusterInfo, ClusterSpec, TaskOptions, ToScheduler},
    value,
};

/// A running cluster. Cheap to clone; the workers live as long as the notebook.
///
/// ```no_run
/// # use skep_cluster::Cluster;
/// fn inc(x: i64) -> i64 { x + 1 }
/// let cluster = Cluster::local().workers(2).start()?;
/// let a = cluster.submit(inc, 1);
/// assert_eq!(a.gather()?, 2);
/// # Ok::<(), skep_cluster::Error>(())
/// ```
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Arc<Client>,
    spec: ClusterSpec,
    is_impure: bool,
    how: How,
}

/// The root of a graph, and its result on the cluster, without their types: what `compute!` passes around.
#[doc(hidden)]
pub struct Root(pub(crate) Result<Arc<Node>>);
#[doc(hidden)]
pub struct Computed(Handle);

impl Computed {
    #[doc(hidden)]
    pub fn typed<T>(self, _: &Delayed<T>) -> Remote<T> {
        self.0.typed()
    }
}

/// What a local cluster shall be; see [`Cluster::local`].
#[derive(Clone, Debug)]
#[must_use = "a cluster starts with `.start()?`"]
pub struct ClusterBuilder {
    workers: Option<usize>,
    threads: Option<usize>,
    memory_limit: Option<u64>,
}

impl Cluster {
    /// A cluster of worker processes on this machine. By default one worker for each core, with one thread.
    pub fn local() -> ClusterBuilder {
        ClusterBuilder { workers: None, threads: None, memory_limit: None }
    }

    /// The cluster that was started last in this program; in a notebook also one that an earlier evaluation process started.
    ///
    /// # Errors
    /// When there is none.
    pub fn current() -> Result<Cluster> {
        let none = || Error::Start("there is no cluster yet\nhint: run `let cluster = Cluster::local().start()?;` first".into());
        let known = client::current();
        let is_new = known.is_none();
        let client = match known {
            Some(client) => client,
            None => Client::connect(&scheduler_socket().map_err(|_| none())?).map_err(|_| none())?,
        };
        let info = client.info()?;
        let first = info.workers.first();
        if is_new {
            first.ok_or_else(none)?;
            client::set_current(client.clone());
        }
        let spec =
            ClusterSpec { workers: info.workers.len() as u32, threads: first.map_or(1, |w| w.threads), memory_limit: first.map_or(0, |w| w.memory_limit) };
        Ok(Cluster { client, spec, is_impure: false, how: How::default() })
    }

    /// Calls `f` on a worker. `args` is a tuple of values and handles; one argument stands alone.
    ///
    /// The result stays on its worker until it is gathered, and is freed with its last handle. The same function with the
    /// same arguments is the same task: see [`Cluster::impure`]. A function that returns a `Result` whose error cannot
    /// travel fails the task with that error.
    pub fn submit<F, Kind, In>(&self, f: F, args: In) -> Remote<F::Output>
    where
        F: TaskFn<Kind, In>,
        F::Output: TaskValue,
    {
        let _ = f;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        self.call(fn_ref::<F, Kind, In>(), args, graph).typed()
    }

    #[inline(never)]
    fn call(&self, f: FnRef, args: Result<Vec<Arg>>, mut graph: Graph) -> Handle {
        match graph.call(f, args, self.is_impure) {
            Ok(node) => self.submit_node(&node, graph),
            Err(error) => Handle::Refused(error),
        }
    }

    /// Calls `f` once for each item, as one batch.
    pub fn map<F, Kind, In>(&self, f: F, items: impl IntoIterator<Item = In>) -> Vec<Remote<F::Output>>
    where
        F: TaskFn<Kind, In>,
        F::Output: TaskValue,
    {
        let _ = f;
        let f = fn_ref::<F, Kind, In>();
        let mut graph = Graph::default();
        let mut nodes = Vec::new();
        for item in items {
            let args = F::args(item, &mut graph);
            nodes.push(graph.call(f, args, self.is_impure));
        }
        let mut remotes = Vec::with_capacity(nodes.len());
        for handle in self.submit_all(nodes, graph) {
            remotes.push(handle.typed());
        }
        remotes
    }

    #[inline(never)]
    fn submit_all(&self, nodes: Vec<Result<Arc<Node>>>, graph: Graph) -> Vec<Handle> {
        let keys: Vec<Key> = nodes.iter().flatten().map(|node| node.key()).collect();
        let submitted = graph.submit(&self.client, &keys, &self.how);
        let handle = |node: Result<Arc<Node>>| match (&submitted, node) {
            (Ok(()), Ok(node)) => self.held(&node),
            (Err(error), _) => Handle::Refused(error.clone()),
            (_, Err(error)) => Handle::Refused(error),
        };
        nodes.into_iter().map(handle).collect()
    }

    fn held(&self, node: &Node) -> Handle {
        Handle::Held(Arc::new(Held { client: self.client.clone(), key: node.key(), name: node.name() }))
    }

    /// Waits for the values of many handles and brings them here, in order.
    ///
    /// # Errors
    /// The first task that failed, the cluster being gone, or an interrupt.
    pub fn gather<'r, T: TaskValue>(&self, handles: impl IntoIterator<Item = &'r Remote<T>>) -> Result<Vec<T>> {
        let mut wanted = Vec::new();
        for remote in handles {
            wanted.push(&remote.handle);
        }
        let mut values = Vec::with_capacity(wanted.len());
        for (key, bytes) in self.gather_bytes(&wanted)? {
            values.push(value::decode(&bytes).map_err(|error| Error::decode(key, &error))?);
        }
        Ok(values)
    }

    #[inline(never)]
    fn gather_bytes(&self, handles: &[&Handle]) -> Result<Vec<(Key, Vec<u8>)>> {
        let held = handles.iter().map(|handle| handle.held()).collect::<Result<Vec<&Arc<Held>>>>()?;
        let keys: Vec<Key> = held.iter().map(|held| held.key).collect();
        self.client.wait(&keys)?;
        keys.into_iter().map(|key| Ok((key, self.client.fetch(key)?))).collect()
    }

    /// The same cluster, but every call runs anew: for functions whose result depends on more than their arguments.
    #[must_use]
    pub fn impure(&self) -> Cluster {
        Cluster { is_impure: true, ..self.clone() }
    }

    /// The same cluster, but a task that fails runs again, up to `n` times: `cluster.retries(3).submit(f, x)`.
    #[must_use]
    pub fn retries(&self, n: u32) -> Cluster {
        self.with(|options| options.retries = n)
    }

    /// The same cluster, but a task that failed waits before it runs again; see [`Cluster::retries`].
    #[must_use]
    pub fn retry_delay(&self, delay: Duration) -> Cluster {
        self.with(|options| options.retry_delay_us = delay.as_micros() as u64)
    }

    /// The same cluster, but a task that its worker has had for longer is stopped, and fails.
    #[must_use]
    pub fn timeout(&self, limit: Duration) -> Cluster {
        self.with(|options| options.timeout_us = (limit.as_micros() as u64).max(1))
    }

    /// The same cluster, but tasks run on these workers only: `cluster.on_workers([1, 2])`.
    #[must_use]
    pub fn on_workers(&self, workers: impl IntoIterator<Item = u32>) -> Cluster {
        let workers: Vec<WorkerId> = workers.into_iter().map(WorkerId).collect();
        self.with(|options| options.workers = workers)
    }

    /// The same cluster, but its tasks go before (or, below 0, behind) others that wait. The default is 0.
    #[must_use]
    pub fn priority(&self, urgency: i32) -> Cluster {
        Cluster { how: How { urgency, ..self.how.clone() }, ..self.clone() }
    }

    fn with(&self, change: impl FnOnce(&mut TaskOptions)) -> Cluster {
        let mut options = self.how.options.as_deref().cloned().unwrap_or_default();
        change(&mut options);
        Cluster { how: How { options: Some(Arc::new(options)), ..self.how.clone() }, ..self.clone() }
    }

    /// Workers, threads and memory as they are now.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn info(&self) -> Result<ClusterInfo> {
        self.client.info()
    }

    pub fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    /// Kills a worker process, for teaching: its values are made again, and it is replaced.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn kill_worker(&self, worker: u32) -> Result<()> {
        self.client.kill_worker(WorkerId(worker))
    }

    /// Ends the workers; their values are lost.
    ///
    /// # Errors
    /// When the scheduler is gone already.
    pub fn shutdown(&self) -> Result<()> {
        self.client.shutdown()
    }

    /// As many workers as this from now on. Values of workers that go are made again where they are needed.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn scale(&self, workers: usize) -> Result<()> {
        self.client.tell(ToScheduler::Scale { least: workers.max(1) as u32, most: workers.max(1) as u32 })
    }

    /// Between `least` and `most` workers from now on: more while tasks wait, fewer when there has been nothing to do for
    /// two seconds.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn adapt(&self, least: usize, most: usize) -> Result<()> {
        self.client.tell(ToScheduler::Scale { least: least.max(1) as u32, most: most.max(least).max(1) as u32 })
    }

    /// Which of these tasks have ended; waits for one at least, or until the deadline.
    #[inline(never)]
    fn ended_keys(&self, handles: &[&Handle], deadline: Option<Instant>) -> Result<Vec<bool>> {
        // What could not even be submitted has ended.
        let keys: Vec<Option<Key>> = handles.iter().map(|handle| handle.held().ok().map(|held| held.key)).collect();
        if keys.contains(&None) {
            return Ok(keys.iter().map(Option::is_none).collect());
        }
        self.client.ended(&keys.into_iter().flatten().collect::<Vec<_>>(), deadline)
    }

    pub(crate) fn ended<T>(&self, remotes: &[Remote<T>], deadline: Option<Instant>) -> Result<Vec<bool>> {
        let mut handles = Vec::with_capacity(remotes.len());
        for remote in remotes {
            handles.push(&remote.handle);
        }
        self.ended_keys(&handles, deadline)
    }

    #[inline(never)]
    pub(crate) fn detach(&self, key: Option<Key>) -> Result<()> {
        key.map_or(Ok(()), |key| self.client.tell(ToScheduler::Detach { key }))
    }

    /// Submits several graphs as one, so that what they share runs once; see `compute!`.
    #[doc(hidden)]
    pub fn compute_roots(&self, roots: Vec<Root>) -> Result<Vec<Computed>> {
        let nodes = roots.into_iter().map(|root| root.0).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key> = nodes.iter().map(|node| node.key()).collect();
        Graph::of(nodes.clone()).submit(&self.client, &keys, &self.how)?;
        Ok(nodes.iter().map(|node| Computed(self.held(node))).collect())
    }

    fn submit_node(&self, node: &Arc<Node>, graph: Graph) -> Handle {
        match graph.submit(&self.client, &[node.key()], &self.how) {
            Ok(()) => self.held(node),
            Err(error) => Handle::Refused(error),
        }
    }

    /// Submits the graph of a delayed value, and holds its result on the cluster.
    pub fn compute<T: TaskValue>(&self, delayed: &Delayed<T>) -> Remote<T> {
        self.submit_node(delayed.node(), delayed.graph_of()).typed()
    }
}

impl ClusterBuilder {
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

    /// Memory of each worker, as bytes or as text like `"2 GB"`. A worker that goes over it is restarted, and says so.
    pub fn memory_limit(mut self, limit: impl IntoBytes) -> Self {
        self.memory_limit = Some(limit.into_bytes());
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
            return Err(Error::Start(format!("{workers} workers of {threads} threads\nhint: ask for 1 to 1024 of each")));
        }
        let memory_limit = match self.memory_limit {
            Some(u64::MAX) => return Err(Error::Start("the memory limit is no size\nhint: write it like `\"512 MB\"` or `\"2 GiB\"`".into())),
            Some(limit) if limit < 64 << 20 => return Err(Error::Start("a worker needs a memory limit of at least 64 MiB".into())),
            limit => limit.unwrap_or(0),
        };
        let spec = ClusterSpec { workers: workers as u32, threads: threads as u32, memory_limit };
        let socket = scheduler_socket()?;
        let connect = |socket: &Path| Client::connect(socket).map_err(|error| Error::Disconnected(error.to_string()));
        let client = client::current().map_or_else(|| connect(&socket), Ok)?;
        client.launch(spec.clone())?;
        client::set_current(client.clone());
        Ok(Cluster { client, spec, is_impure: false, how: How::default() })
    }
}

/// The hosting notebook says where its scheduler is.
fn scheduler_socket() -> Result<PathBuf> {
    let folder = std::env::var_os("SKEP_RUN").ok_or_else(|| {
        Error::Start(
            "no notebook hosts this program, and a cluster inside a plain program is not there yet\nhint: run it in Jupyter or with `skep run FILE`".into(),
        )
    })?;
    Ok(Path::new(&folder).join("scheduler.sock"))
}

/// A size in bytes, or as text with a unit.
pub trait IntoBytes {
    #[doc(hidden)]
    fn into_bytes(self) -> u64;
}

impl IntoBytes for u64 {
    fn into_bytes(self) -> u64 {
        self
    }
}

impl IntoBytes for i32 {
    fn into_bytes(self) -> u64 {
        u64::try_from(self).unwrap_or(0)
    }
}

impl IntoBytes for &str {
    /// `u64::MAX` for what cannot be read; `start` refuses it.
    fn into_bytes(self) -> u64 {
        let text = self.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return u64::MAX,
        };
        number.parse::<f64>().map_or(u64::MAX, |n| (n * factor) as u64)
    }
}

/// The handle of a value that is, or will be, on the cluster.
///
/// A handle is an argument wherever its value is one; data moves from worker to worker. The value is freed when the last
/// handle is dropped and no task needs it.
pub struct Remote<T> {
    pub(crate) handle: Handle,
    value: PhantomData<fn() -> T>,
}

/// A handle without its type: what is not generic is compiled once, not in every cell.
#[derive(Clone)]
pub(crate) enum Handle {
    Held(Arc<Held>),
    /// The call could not be submitted; whoever gathers it hears why.
    Refused(Error),
}

pub(crate) struct Held {
    pub client: Arc<Client>,
    pub key: Key,
    pub name: Arc<str>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.client.release(self.key);
    }
}

impl Handle {
    pub(crate) fn typed<T>(self) -> Remote<T> {
        Remote { handle: self, value: PhantomData }
    }

    pub(crate) fn held(&self) -> Result<&Arc<Held>> {
        match self {
            Handle::Held(held) => Ok(held),
            Handle::Refused(error) => Err(error.clone()),
        }
    }

    fn status(&self) -> Option<Status> {
        match self {
            Handle::Held(held) => held.client.status(held.key),
            Handle::Refused(error) => Some(Status::Failed(error.clone())),
        }
    }

    #[inline(never)]
    fn state(&self) -> (&'static str, String) {
        match self.status() {
            Some(Status::Pending) | None => ("pending", String::new()),
            Some(Status::Done { n_bytes, worker, duration_us, .. }) => {
                ("done", format!("{} on {worker}, {}", skep_render::bytes(n_bytes), skep_render::duration(Duration::from_micros(duration_us))))
            }
            Some(Status::Failed(error)) => ("failed", error.to_string()),
        }
    }

    #[inline(never)]
    fn journey(&self) -> Result<Journey> {
        let held = self.held()?;
        held.client.journey(held.key)?.ok_or_else(|| Error::Disconnected("the scheduler does not know this task any more".into()))
    }

    #[inline(never)]
    fn fetch(&self) -> Result<(Key, Vec<u8>)> {
        let held = self.held()?;
        Ok((held.key, held.client.fetch(held.key)?))
    }

    #[inline(never)]
    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        let held = self.held()?;
        graph.keep(held.clone());
        graph.note_remote(held.key, &held.name, self.state().0);
        Ok(Arg::Task(held.key))
    }
}

impl<T> Clone for Remote<T> {
    fn clone(&self) -> Self {
        Remote { handle: self.handle.clone(), value: PhantomData }
    }
}

impl<T> Remote<T> {
    /// Names the task; `None` if it could not be submitted.
    pub fn key(&self) -> Option<Key> {
        self.handle.held().ok().map(|held| held.key)
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        self.handle.held().map_or("?", |held| &held.name)
    }

    pub fn is_done(&self) -> bool {
        matches!(self.handle.status(), Some(Status::Done { .. }))
    }

    /// Where the value is: pending, done (worker, size, time) or failed, in one line.
    pub fn state(&self) -> (&'static str, String) {
        self.handle.state()
    }

    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        self.handle.add_to(graph)
    }

    /// Waits until the value is there, and leaves it on its worker.
    ///
    /// # Errors
    /// As [`Remote::gather`].
    pub fn wait(&self) -> Result<()> {
        let held = self.handle.held()?;
        held.client.wait(&[held.key])
    }

    /// What happened to this task, stage by stage, and why it ran where it ran.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn journey(&self) -> Result<Journey> {
        self.handle.journey()
    }

    /// Stops the task if it has not ended. One that waits never runs. One that runs is told: `sleep` and `cancelled()` hear
    /// it; one that does not listen loses its thread to the next task, and its value is dropped.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn cancel(&self) -> Result<()> {
        let held = self.handle.held()?;
        held.client.cancel(vec![held.key])
    }
}

impl<T: TaskValue> Remote<T> {
    /// Waits for the value and brings it here.
    ///
    /// # Errors
    /// The task's own error with its place and worker, the cluster being gone, or an interrupt, which cancels the task.
    pub fn gather(&self) -> Result<T> {
        let (key, bytes) = self.handle.fetch()?;
        value::decode(&bytes).map_err(|error| Error::decode(key, &error))
    }
}

impl<T: TaskValue> IntoArg<T> for &&Remote<T> {
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
        self.add_to(graph)
    }
}

#[test]
fn sizes_are_read_with_units() {
    for (text, expect) in [("512", 512), ("2 GB", 2_000_000_000), ("1.5GiB", 1_610_612_736), ("x", u64::MAX), ("3 parsecs", u64::MAX)] {
        assert_eq!(text.into_bytes(), expect, "{text}");
    }
}
