//! A running cluster: how calls are made on it, and how they shall run.

use std::{
    borrow::Borrow,
    sync::Arc,
    time::{Duration, Instant},
};

use skep_render::Message;

use crate::{
    api::remote::{Handle, Held, Remote},
    call::locate::FnRef,
    data::{
        segment::Bytes,
        value::{self, TaskValue},
    },
    engine::client::Client,
    graph::{
        node::{Graph, How, Node},
        task_fn::{TaskFn, fn_ref},
    },
    host::named,
    model::{
        cluster::{ClusterInfo, ClusterSpec},
        error::{Error, Result},
        event::Event,
        ids::{Key, WorkerId},
        task::{Arg, Output, Resource, TaskOptions},
    },
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

impl Cluster {
    /// What runs this cluster's graphs: `local`, or the name of another engine.
    pub fn engine(&self) -> &'static str {
        self.client.engine_name()
    }

    /// Whether both are connections to one cluster.
    pub fn is_same(&self, other: &Cluster) -> bool {
        Arc::ptr_eq(&self.client, &other.client)
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
        Cluster {
            client,
            spec,
            is_impure: false,
            how: How::default(),
        }
    }

    /// Calls `f` on a worker. `args` is a tuple of values and handles; one argument stands alone.
    ///
    /// The result stays on its worker until it is gathered, and is freed with its last handle. The same
    /// function with the same arguments is the same task: see [`Cluster::impure`]. A function that returns a
    /// `Result` whose error cannot travel fails the task with that error.
    pub fn submit<F, Kind, In>(&self, f: F, args: In) -> Remote<F::Output>
    where
        F: TaskFn<Kind, In>,
        F::Output: TaskValue,
    {
        let _ = f;
        let mut graph = self.new_graph();
        let args = F::args(args, &mut graph);
        self.call(fn_ref::<F, Kind, In>(), args, graph).typed()
    }

    #[inline(never)]
    pub(crate) fn new_graph(&self) -> Graph {
        let mut graph = Graph::default();
        graph.set_salt(&self.how);
        graph
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
        let mut graph = self.new_graph();
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
    pub(crate) fn submit_all(&self, nodes: Vec<Result<Arc<Node>>>, graph: Graph) -> Vec<Handle> {
        let keys: Vec<Key> = nodes.iter().flatten().map(|node| node.key()).collect();
        let known: Vec<bool> = keys.iter().map(|key| self.client.is_known(*key)).collect();
        let mut known = known.into_iter();
        let submitted = self.submit_graph(graph, &keys);
        let mut handle = |node: Result<Arc<Node>>| match (&submitted, node) {
            (Ok(()), Ok(node)) => self.held(&node, known.next().unwrap_or(false)),
            (Err(error), _) => Handle::Refused(error.clone()),
            (_, Err(error)) => Handle::Refused(error),
        };
        nodes.into_iter().map(&mut handle).collect()
    }

    pub(crate) fn held(&self, node: &Node, was_known: bool) -> Handle {
        Handle::Held(Arc::new(Held {
            client: self.client.clone(),
            key: node.key(),
            name: node.name(),
            was_known,
        }))
    }

    /// Waits for the values of many handles and brings them here, in order.
    ///
    /// # Errors
    /// The first task that failed, the cluster being gone, or an interrupt.
    pub fn gather<T: TaskValue>(
        &self,
        handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>,
    ) -> Result<Vec<T>> {
        let mut wanted = Vec::new();
        for remote in handles {
            wanted.push(remote.borrow().handle.clone());
        }
        let mut values = Vec::with_capacity(wanted.len());
        for (key, bytes) in self.gather_bytes(&wanted)? {
            values.push(value::decode(&bytes).map_err(|error| Error::decode(key, &error))?);
        }
        Ok(values)
    }

    #[inline(never)]
    fn gather_bytes(&self, handles: &[Handle]) -> Result<Vec<(Key, Bytes)>> {
        let held = handles
            .iter()
            .map(|handle| handle.held())
            .collect::<Result<Vec<&Arc<Held>>>>()?;
        let is_own = |held: &&&Arc<Held>| Arc::ptr_eq(&held.client, &self.client);
        let own: Vec<Key> = held.iter().filter(is_own).map(|held| held.key).collect();
        self.client.wait(&own)?;
        // A value of another cluster comes from there, though a task here may have the same key.
        held.into_iter()
            .map(|held| Ok((held.key, held.client.fetch(Output::whole(held.key))?)))
            .collect()
    }

    /// The same cluster, but every call runs anew: for functions whose result depends on more than their
    /// arguments.
    #[must_use]
    pub fn impure(&self) -> Cluster {
        self.caching(false)
    }

    /// The same cluster, with caching on or off. It is on at first: the same function with the same arguments
    /// is the same task, which runs once for as long as its value is held; the handle of a value that was
    /// there says "cached".
    #[must_use]
    pub fn caching(&self, is_on: bool) -> Cluster {
        Cluster {
            is_impure: !is_on,
            ..self.clone()
        }
    }

    /// Whether the same call is the same task; see [`Cluster::caching`].
    pub fn is_caching(&self) -> bool {
        !self.is_impure
    }

    /// The same cluster, but a task that fails runs again, up to `n` times: `cluster.retries(3).submit(f,
    /// x)`.
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

    /// The same cluster, but each task uses up so much of a resource while it runs: `cluster.resource("gpu",
    /// 1).submit(f, x)`. Workers get resources when the cluster starts; see [`ClusterBuilder::resource`](crate::ClusterBuilder::resource).
    #[must_use]
    pub fn resource(&self, name: &str, amount: u32) -> Cluster {
        self.with(|options| {
            options.resources.retain(|resource| resource.name != name);
            options.resources.push(Resource {
                name: name.to_string(),
                amount,
            });
            options.resources.sort();
        })
    }

    /// The same cluster, but its tasks carry this word, which their journeys show; several may be given.
    #[must_use]
    pub fn tag(&self, tag: &str) -> Cluster {
        self.with(|options| {
            if !options.tags.iter().any(|known| known == tag) {
                options.tags.push(tag.to_string());
            }
        })
    }

    /// The same cluster, but a call has this key rather than one of its arguments: the same function under the same key is the
    /// same task, whatever its arguments. For arguments that are large, or never twice the same (a time, a path that changes);
    /// of a [`map`](Cluster::map) each call has the key with its number. The key is shown as a tag.
    ///
    /// ```no_run
    /// # use skep_cluster::Cluster;
    /// # fn train(rows: Vec<f64>) -> f64 { rows[0] }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = Cluster::local().start()?;
    /// let model = cluster.key("model-v1").submit(train, vec![0.5; 1_000_000]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn key(&self, key: &str) -> Cluster {
        let tagged = self.tag(key);
        Cluster {
            how: How {
                key: Some(key.into()),
                ..tagged.how.clone()
            },
            ..tagged
        }
    }

    /// The same cluster, but its tasks go before (or, below 0, behind) others that wait. The default is 0.
    #[must_use]
    pub fn priority(&self, urgency: i32) -> Cluster {
        Cluster {
            how: How {
                urgency,
                ..self.how.clone()
            },
            ..self.clone()
        }
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut TaskOptions)) -> Cluster {
        let mut options = self.how.options.as_deref().cloned().unwrap_or_default();
        change(&mut options);
        Cluster {
            how: How {
                options: Some(Arc::new(options)),
                ..self.how.clone()
            },
            ..self.clone()
        }
    }

    /// Workers, threads and memory as they are now.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn info(&self) -> Result<ClusterInfo> {
        self.client.workers()?.info()
    }

    pub fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    fn check_is_open(&self) -> Result<()> {
        if self.info()?.workers.is_empty() && self.spec.idle_timeout_us == 0 {
            return Err(Error::start(
                Message::new("the cluster was shut down").hint("`Cluster::local().start()?` starts one"),
            ));
        }
        Ok(())
    }

    fn check_is_there(&self, worker: u32) -> Result<()> {
        let workers = self.info()?.workers;
        // One that was there may have died just now.
        let newest = workers.iter().map(|known| known.id.0).max().unwrap_or(0);
        if (1..=newest).contains(&worker) {
            return Ok(());
        }
        let known: Vec<String> = workers.iter().map(|known| known.id.0.to_string()).collect();
        Err(Error::start(
            Message::new(format!("there is no worker {worker}")).hint(if known.is_empty() {
                "the cluster was shut down: `Cluster::local().start()?` starts one".to_string()
            } else {
                format!("there is: {}", known.join(", "))
            }),
        ))
    }

    /// Ends tasks that have not ended, and what needs them.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn cancel<T>(&self, handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>) -> Result<()> {
        let mut keys = Vec::new();
        for handle in handles {
            keys.extend(handle.borrow().key());
        }
        self.client.cancel(keys)
    }

    /// Kills a worker process, for teaching: its values are made again, and it is replaced.
    ///
    /// # Errors
    /// When there is no such worker, or the scheduler is gone.
    pub fn kill_worker(&self, worker: u32) -> Result<()> {
        self.check_is_there(worker)?;
        self.client.workers()?.kill(WorkerId(worker))
    }

    /// Stops a worker process for so long, for teaching: it answers nobody, as a machine that hangs would, and then goes on.
    /// Thirty seconds at most.
    ///
    /// # Errors
    /// When there is no such worker, or the scheduler is gone.
    pub fn pause_worker(&self, worker: u32, time: Duration) -> Result<()> {
        self.check_is_there(worker)?;
        self.client.workers()?.pause(WorkerId(worker), time)
    }

    /// Ends the workers; their values are lost.
    ///
    /// # Errors
    /// When the scheduler is gone already.
    pub fn shutdown(&self) -> Result<()> {
        // At once: who asks next is not to find it.
        named::forget(&self.spec.name);
        self.client.shutdown()
    }

    /// Ends all workers and starts as many new ones with the same settings: their memory is empty, and what handles stand
    /// for is made again when it is needed.
    ///
    /// # Errors
    /// When the scheduler is gone, or the workers do not come up.
    pub fn restart(&self) -> Result<()> {
        self.client.workers()?.restart().map(drop)
    }

    /// As many workers as this from now on. Values of workers that go are made again where they are needed.
    ///
    /// # Errors
    /// When it is none, the cluster was shut down, or the scheduler is gone.
    pub fn scale(&self, workers: usize) -> Result<()> {
        if workers == 0 {
            return Err(Error::start(
                Message::new("a cluster of 0 workers runs nothing").hint(
                    "`.shutdown()?` ends them all; `.adapt(1, 8)?` has few while there is nothing to do",
                ),
            ));
        }
        self.check_is_open()?;
        let workers = workers as u32;
        self.client.workers()?.scale(workers, workers)
    }

    /// Between `least` and `most` workers from now on: more while tasks wait, fewer when there has been
    /// nothing to do for two seconds.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn adapt(&self, least: usize, most: usize) -> Result<()> {
        let least = least.max(1) as u32;
        self.client.workers()?.scale(least, least.max(most as u32))
    }

    /// Which of these tasks have ended; waits for one at least, or until the deadline.
    #[inline(never)]
    fn ended_keys(&self, handles: &[&Handle], deadline: Option<Instant>) -> Result<Vec<bool>> {
        // What could not even be submitted has ended.
        let keys: Vec<Option<Key>> = handles
            .iter()
            .map(|handle| handle.held().ok().map(|held| held.key))
            .collect();
        if keys.contains(&None) {
            return Ok(keys.iter().map(Option::is_none).collect());
        }
        self.client
            .ended(&keys.into_iter().flatten().collect::<Vec<_>>(), deadline)
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
        key.map_or(Ok(()), |key| self.client.detach(key))
    }

    pub(crate) fn submit_graph(&self, graph: Graph, wanted: &[Key]) -> Result<()> {
        let (tasks, functions) = graph.into_tasks(&self.how, || self.client.next_priority());
        self.client.submit(tasks, wanted, &functions)
    }

    pub(crate) fn submit_node(&self, node: &Arc<Node>, graph: Graph) -> Handle {
        let was_known = self.client.is_known(node.key());
        match self.submit_graph(graph, &[node.key()]) {
            Ok(()) => self.held(node, was_known),
            Err(error) => Handle::Refused(error),
        }
    }
}
