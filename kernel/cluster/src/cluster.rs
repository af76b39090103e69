//! `Cluster` and `Remote`: what a cell holds.

use std::{
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ClusterBuilder, Error, Event, Explanation, IntoArg, Journey, Key, Result, TaskFn, TaskValue, WorkerId,
    builder::scheduler_socket,
    client::{self, Client, Status},
    delayed::{Delayed, Graph, How, Node},
    engine::Connect,
    function::{FnRef, fn_ref},
    message::{Arg, ClusterInfo, ClusterSpec, Request, Resource, TaskOptions},
    segment::Bytes,
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
    pub(crate) spec: ClusterSpec,
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

impl Cluster {
    /// A cluster of worker processes on this machine. By default one worker for each core, with one thread.
    pub fn local() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The cluster that was started last in this program; in a notebook also one that an earlier evaluation process started.
    ///
    /// # Errors
    /// When there is none.
    pub fn current() -> Result<Cluster> {
        let none = || Error::NoCluster;
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
        let spec = ClusterSpec {
            workers: info.workers.len() as u32,
            threads: first.map_or(1, |w| w.threads),
            memory_limit: first.map_or(0, |w| w.memory_limit),
            ..ClusterSpec::default()
        };
        Ok(Cluster::of(client, spec))
    }

    /// A cluster of another engine than the local one; see [`crate::engine`].
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub fn with_engine(connect: Connect) -> Result<Cluster> {
        let client = Client::with_engine(connect).map_err(|error| Error::Start(error.to_string()))?;
        client::set_current(client.clone());
        Ok(Cluster::of(client, ClusterSpec::default()))
    }

    /// What runs this cluster's graphs: `local`, or the name of another engine.
    pub fn engine(&self) -> &'static str {
        self.client.engine_name()
    }

    /// Keeps every event from now on for [`Cluster::next_events`].
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn follow(&self) -> Result<()> {
        self.client.follow()
    }

    /// Events since the last call, oldest first; waits for `patience` if there are none.
    ///
    /// # Errors
    /// When the scheduler is gone, or the cell is interrupted.
    pub fn next_events(&self, patience: Duration) -> Result<Vec<Event>> {
        self.client.next_events(patience)
    }

    pub(crate) fn of(client: Arc<Client>, spec: ClusterSpec) -> Cluster {
        Cluster { client, spec, is_impure: false, how: How::default() }
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
    pub(crate) fn call(&self, f: FnRef, args: Result<Vec<Arg>>, mut graph: Graph) -> Handle {
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
        let known: Vec<bool> = keys.iter().map(|key| self.client.is_known(*key)).collect();
        let mut known = known.into_iter();
        let submitted = graph.submit(&self.client, &keys, &self.how);
        let mut handle = |node: Result<Arc<Node>>| match (&submitted, node) {
            (Ok(()), Ok(node)) => self.held(&node, known.next().unwrap_or(false)),
            (Err(error), _) => Handle::Refused(error.clone()),
            (_, Err(error)) => Handle::Refused(error),
        };
        nodes.into_iter().map(&mut handle).collect()
    }

    fn held(&self, node: &Node, was_known: bool) -> Handle {
        Handle::Held(Arc::new(Held { client: self.client.clone(), key: node.key(), name: node.name(), was_known }))
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
    fn gather_bytes(&self, handles: &[&Handle]) -> Result<Vec<(Key, Bytes)>> {
        let held = handles.iter().map(|handle| handle.held()).collect::<Result<Vec<&Arc<Held>>>>()?;
        let keys: Vec<Key> = held.iter().map(|held| held.key).collect();
        self.client.wait(&keys)?;
        keys.into_iter().map(|key| Ok((key, self.client.fetch(key)?))).collect()
    }

    /// The same cluster, but every call runs anew: for functions whose result depends on more than their arguments.
    #[must_use]
    pub fn impure(&self) -> Cluster {
        self.caching(false)
    }

    /// The same cluster, with caching on or off. It is on at first: the same function with the same arguments is the same
    /// task, which runs once for as long as its value is held; the handle of a value that was there says "cached".
    #[must_use]
    pub fn caching(&self, is_on: bool) -> Cluster {
        Cluster { is_impure: !is_on, ..self.clone() }
    }

    /// Whether the same call is the same task; see [`Cluster::caching`].
    pub fn is_caching(&self) -> bool {
        !self.is_impure
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

    /// The same cluster, but each task uses up so much of a resource while it runs: `cluster.resource("gpu", 1).submit(f, x)`.
    /// Workers get resources when the cluster starts; see [`ClusterBuilder::resource`].
    #[must_use]
    pub fn resource(&self, name: &str, amount: u32) -> Cluster {
        self.with(|options| {
            options.resources.retain(|resource| resource.name != name);
            options.resources.push(Resource { name: name.to_string(), amount });
            options.resources.sort();
        })
    }

    /// The same cluster, but its tasks go before (or, below 0, behind) others that wait. The default is 0.
    #[must_use]
    pub fn priority(&self, urgency: i32) -> Cluster {
        Cluster { how: How { urgency, ..self.how.clone() }, ..self.clone() }
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut TaskOptions)) -> Cluster {
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
        self.client.tell(Request::KillWorker { worker: WorkerId(worker) })
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
        self.client.tell(Request::Scale { least: workers.max(1) as u32, most: workers.max(1) as u32 })
    }

    /// Between `least` and `most` workers from now on: more while tasks wait, fewer when there has been nothing to do for
    /// two seconds.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn adapt(&self, least: usize, most: usize) -> Result<()> {
        self.client.tell(Request::Scale { least: least.max(1) as u32, most: most.max(least).max(1) as u32 })
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
        key.map_or(Ok(()), |key| self.client.tell(Request::Detach { key }))
    }

    /// Submits several graphs as one, so that what they share runs once; see `compute!`.
    #[doc(hidden)]
    pub fn compute_roots(&self, roots: Vec<Root>) -> Result<Vec<Computed>> {
        let nodes = roots.into_iter().map(|root| root.0).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key> = nodes.iter().map(|node| node.key()).collect();
        Graph::of(nodes.clone()).submit(&self.client, &keys, &self.how)?;
        Ok(nodes.iter().map(|node| Computed(self.held(node, false))).collect())
    }

    fn submit_node(&self, node: &Arc<Node>, graph: Graph) -> Handle {
        let was_known = self.client.is_known(node.key());
        match graph.submit(&self.client, &[node.key()], &self.how) {
            Ok(()) => self.held(node, was_known),
            Err(error) => Handle::Refused(error),
        }
    }

    /// Submits the graph of a delayed value, and holds its result on the cluster.
    pub fn compute<T: TaskValue>(&self, delayed: &Delayed<T>) -> Remote<T> {
        self.submit_node(delayed.node(), delayed.graph_of()).typed()
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
    /// The same call had been made, and its value was still held.
    pub was_known: bool,
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
                let cached = if self.held().is_ok_and(|held| held.was_known) { ", cached: the same call had run" } else { "" };
                ("done", format!("{} on {worker}, {}{cached}", skep_render::bytes(n_bytes), skep_render::duration(Duration::from_micros(duration_us))))
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
    fn explain(&self) -> Result<Explanation> {
        let held = self.held()?;
        held.client.explain(held.key)?.ok_or_else(|| Error::Disconnected("the scheduler does not know this task any more".into()))
    }

    #[inline(never)]
    fn fetch(&self) -> Result<(Key, Bytes)> {
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

    /// What the task waits for, in words: inputs, a worker, its code, a retry.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn explain(&self) -> Result<Explanation> {
        self.handle.explain()
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
