//! Graphs of calls that have not run: `delayed!` builds them, `compute` runs them.

use std::{
    any::Any,
    collections::{BTreeMap, HashSet},
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Cluster, Key, Result, TaskFn, TaskValue,
    client::{Client, Status},
    cluster::Remote,
    function::{FnRef, Located, fn_ref, located},
    ids::KeyMap,
    message::{Arg, Task, TaskOptions},
};

/// A call that has not run. `delayed!(f(a, b))` makes one; its arguments may be delayed themselves.
///
/// ```no_run
/// # use skep_cluster::Delayed;
/// fn inc(x: i64) -> i64 { x + 1 }
/// fn add(a: i64, b: i64) -> i64 { a + b }
/// let total = Delayed::call(add, (Delayed::call(inc, 1), Delayed::call(inc, 2)));
/// assert_eq!(total.compute()?, 5);
/// # Ok::<(), skep_cluster::Error>(())
/// ```
pub struct Delayed<T> {
    node: Result<Arc<Node>>,
    value: PhantomData<fn() -> T>,
}

/// One call in a graph, with the calls it needs.
pub(crate) struct Node {
    task: Task,
    located: Arc<Located>,
    inputs: Vec<Arc<Node>>,
    /// Remote handles among the arguments: kept so that their values are.
    _kept: Vec<Arc<dyn Any + Send + Sync>>,
    remotes: Vec<(Key, Arc<str>, &'static str)>,
}

impl Node {
    pub fn key(&self) -> Key {
        self.task.key
    }

    pub fn name(&self) -> Arc<str> {
        self.located.function.name.as_str().into()
    }
}

/// Collects what the arguments of a call bring with them.
#[derive(Default)]
pub(crate) struct Graph {
    inputs: Vec<Arc<Node>>,
    kept: Vec<Arc<dyn Any + Send + Sync>>,
    remotes: Vec<(Key, Arc<str>, &'static str)>,
    /// Finished nodes, roots last.
    roots: Vec<Arc<Node>>,
}

impl Graph {
    /// A graph of several results.
    pub fn of(roots: Vec<Arc<Node>>) -> Graph {
        Graph { roots, ..Graph::default() }
    }

    pub fn keep(&mut self, handle: Arc<dyn Any + Send + Sync>) {
        self.kept.push(handle);
    }

    pub fn note_remote(&mut self, key: Key, name: &Arc<str>, state: &'static str) {
        self.remotes.push((key, name.clone(), state));
    }

    /// A call of `f` with these arguments.
    #[inline(never)]
    pub fn call(&mut self, f: FnRef, args: Result<Vec<Arg>>, is_impure: bool) -> Result<Arc<Node>> {
        match (located(f), args) {
            (Ok(located), Ok(args)) => Ok(self.add(&located, args, is_impure)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Ends a call: its key comes from function, code and arguments.
    fn add(&mut self, located: &Arc<Located>, args: Vec<Arg>, is_impure: bool) -> Arc<Node> {
        static SALT: AtomicU64 = AtomicU64::new(1);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&located.function.id.0.to_le_bytes());
        args.iter().for_each(|arg| hash(arg, &mut hasher));
        if is_impure {
            hasher.update(&SALT.fetch_add(1, Ordering::Relaxed).to_le_bytes()).update(&std::process::id().to_le_bytes());
        }
        let key = Key(u128::from_le_bytes(hasher.finalize().as_bytes()[..16].try_into().expect("invariant: a hash has 32 bytes")));
        let task = Task { key, function: located.function.id, args, priority: 0, options: None };
        let node = Arc::new(Node {
            task,
            located: located.clone(),
            inputs: std::mem::take(&mut self.inputs),
            _kept: std::mem::take(&mut self.kept),
            remotes: std::mem::take(&mut self.remotes),
        });
        self.roots.push(node.clone());
        node
    }

    /// Submits all nodes, inputs first, in an order that finishes one branch before it begins the next.
    pub fn submit(self, client: &Client, wanted: &[Key], how: &How) -> Result<()> {
        let mut tasks = Vec::new();
        let mut functions = BTreeMap::new();
        let mut seen: HashSet<Key> = HashSet::new();
        for root in &self.roots {
            for_each_node(root, &mut seen, &mut |node| {
                tasks.push(Task { priority: how.priority_of(client.next_priority()), options: how.options.clone(), ..node.task.clone() });
                functions.entry(node.located.function.id).or_insert_with(|| node.located.clone());
            });
        }
        let functions: Vec<Located> = functions.into_values().map(|located| (*located).clone()).collect();
        client.submit(tasks, wanted, &functions)
    }
}

/// How the calls of a graph shall run.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    pub options: Option<Arc<TaskOptions>>,
    /// Higher is more urgent.
    pub urgency: i32,
}

impl How {
    /// The scheduler takes the lowest number first; urgency outweighs the order of the graph.
    fn priority_of(&self, order: u64) -> u64 {
        (1u64 << 63).saturating_add_signed(-(i64::from(self.urgency) << 31)).saturating_add(order)
    }
}

fn hash(arg: &Arg, hasher: &mut blake3::Hasher) {
    match arg {
        Arg::Value(bytes) => drop(hasher.update(&[0]).update(&bytes.len().to_le_bytes()).update(bytes)),
        Arg::Task(key) => drop(hasher.update(&[1]).update(&key.0.to_le_bytes())),
        Arg::List(items) => {
            hasher.update(&[2]).update(&items.len().to_le_bytes());
            items.iter().for_each(|item| hash(item, hasher));
        }
    }
}

/// Depth first, each node once, inputs before what needs them; without recursion, since chains may be long.
fn for_each_node(root: &Arc<Node>, seen: &mut HashSet<Key>, each: &mut impl FnMut(&Node)) {
    let mut stack = vec![(root.clone(), 0)];
    while let Some((node, n_visited)) = stack.pop() {
        if n_visited == 0 && seen.contains(&node.key()) {
            continue;
        }
        match node.inputs.get(n_visited) {
            Some(input) => {
                let input = input.clone();
                stack.push((node, n_visited + 1));
                stack.push((input, 0));
            }
            None => {
                if seen.insert(node.key()) {
                    each(&node);
                }
            }
        }
    }
}

impl<T> Clone for Delayed<T> {
    fn clone(&self) -> Self {
        Delayed { node: self.node.clone(), value: PhantomData }
    }
}

impl<T: TaskValue> Delayed<T> {
    /// What `delayed!(f(…))` expands to.
    pub fn call<F, Kind, In>(f: F, args: In) -> Delayed<T>
    where
        F: TaskFn<Kind, In, Output = T>,
    {
        let _ = f;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        Delayed { node: graph.call(fn_ref::<F, Kind, In>(), args, false), value: PhantomData }
    }

    /// Runs the graph on the current cluster and brings the result here.
    ///
    /// # Errors
    /// When there is no cluster, or as [`Remote::gather`].
    pub fn compute(&self) -> Result<T> {
        self.persist()?.gather()
    }

    /// Runs the graph on the current cluster and leaves the result there.
    ///
    /// # Errors
    /// When there is no cluster, or the graph could not be built.
    pub fn persist(&self) -> Result<Remote<T>> {
        self.node.clone()?;
        Ok(Cluster::current()?.compute(self))
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.node.as_ref().expect("invariant: `persist` refuses a graph that could not be built")
    }

    pub(crate) fn graph_of(&self) -> Graph {
        Graph::of(vec![self.node().clone()])
    }
}

impl<T> Delayed<T> {
    #[doc(hidden)]
    pub fn root(&self) -> crate::cluster::Root {
        crate::cluster::Root(self.node.clone())
    }

    /// The function's name.
    pub fn name(&self) -> String {
        self.node.as_ref().map_or_else(|_| "?".to_string(), |node| node.name().to_string())
    }

    /// Calls in the graph.
    pub fn n_tasks(&self) -> usize {
        let (mut n, mut seen) = (0, HashSet::new());
        if let Ok(node) = &self.node {
            for_each_node(node, &mut seen, &mut |_| n += 1);
        }
        n
    }

    /// The graph as it is now, coloured by what has run.
    pub fn graph(&self) -> skep_render::graph::Graph {
        Delayed::graph_of_all(std::slice::from_ref(self))
    }

    /// The graph of several results, with shared work drawn once.
    pub fn graph_of_all(results: &[Delayed<T>]) -> skep_render::graph::Graph {
        let roots: Vec<&Arc<Node>> = results.iter().flat_map(|delayed| &delayed.node).collect();
        draw(&roots)
    }

    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        let node = self.node.clone()?;
        let key = node.key();
        graph.inputs.push(node);
        Ok(Arg::Task(key))
    }
}

#[inline(never)]
fn draw(roots: &[&Arc<Node>]) -> skep_render::graph::Graph {
    let mut drawn = skep_render::graph::Graph::default();
    let mut at: KeyMap<usize> = KeyMap::default();
    let mut seen = HashSet::new();
    let client = crate::client::current();
    let state_of = |key: Key| match client.as_ref().and_then(|client| client.status(key)) {
        Some(Status::Done { .. }) => "done",
        Some(Status::Failed(_)) => "failed",
        Some(Status::Pending) => "running",
        None => "pending",
    };
    for root in roots {
        for_each_node(root, &mut seen, &mut |node| {
            for (key, name, state) in &node.remotes {
                at.entry(*key).or_insert_with(|| drawn.add_node(name, state));
            }
            let id = drawn.add_node(&node.name(), state_of(node.key()));
            at.insert(node.key(), id);
            for key in node.task.dependencies() {
                if let Some(from) = at.get(&key) {
                    drawn.add_edge(*from, id);
                }
            }
        });
    }
    drawn
}
