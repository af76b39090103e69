//! Calls that have not run, as a program holds them: `delayed!` builds them.

use std::{
    collections::HashSet,
    marker::PhantomData,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    data::value::TaskValue,
    engine::client::Status,
    graph::{
        node::{Graph, Node, for_each_node},
        task_fn::{IntoArg, TaskFn, fn_ref, handles},
    },
    model::{
        error::{Error, Result},
        ids::{Key, KeyMap},
        task::Arg,
    },
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
    pub(crate) node: Result<Arc<Node>>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Delayed<T> {
    fn clone(&self) -> Self {
        Delayed {
            node: self.node.clone(),
            value: PhantomData,
        }
    }
}

impl<T: TaskValue> Delayed<T> {
    /// What `delayed!(f(…))` expands to.
    pub fn call<F, Kind, In>(f: F, args: In) -> Delayed<T>
    where
        F: TaskFn<Kind, In, Output = T>,
    {
        Delayed::new(f, args, false)
    }

    /// As [`Delayed::call`], for a function whose result depends on more than its arguments: each is a task of its own, also
    /// with the same arguments.
    pub fn impure<F, Kind, In>(f: F, args: In) -> Delayed<T>
    where
        F: TaskFn<Kind, In, Output = T>,
    {
        Delayed::new(f, args, true)
    }

    /// A call of `f`, whose type names a function of the program, `Named`, that it works with: the task bears that one's name.
    /// `role` tells apart what works with the same function.
    #[doc(hidden)]
    pub fn around<Named, F, Kind, In>(f: F, args: In, role: &'static str) -> Delayed<T>
    where
        F: TaskFn<Kind, In, Output = T>,
    {
        let _ = f;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        Delayed {
            node: graph.call(fn_ref::<F, Kind, In>().in_role::<Named>(role), args, false),
            value: PhantomData,
        }
    }

    /// A call that could not be built: this error comes from whatever runs it.
    #[doc(hidden)]
    pub fn refused(error: Error) -> Delayed<T> {
        Delayed {
            node: Err(error),
            value: PhantomData,
        }
    }

    fn new<F, Kind, In>(f: F, args: In, is_impure: bool) -> Delayed<T>
    where
        F: TaskFn<Kind, In, Output = T>,
    {
        let _ = f;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        Delayed {
            node: graph.call(fn_ref::<F, Kind, In>(), args, is_impure),
            value: PhantomData,
        }
    }
}

impl<T> Delayed<T> {
    /// The same call, which carries this word: its journey shows it, and so does its error. A call has one.
    #[must_use]
    pub fn tag(self, tag: impl Into<String>) -> Delayed<T> {
        if let Ok(node) = &self.node {
            node.set_tag(tag.into());
        }
        self
    }

    /// The function's name.
    pub fn name(&self) -> String {
        self.node
            .as_ref()
            .map_or_else(|_| "?".to_string(), |node| node.name().to_string())
    }

    /// Under which the call will run; `None` if it was refused.
    pub fn key(&self) -> Option<crate::Key> {
        self.node.as_ref().ok().map(|node| node.key())
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
        graph.need(node);
        Ok(Arg::Task(key))
    }
}

#[inline(never)]
fn draw(roots: &[&Arc<Node>]) -> skep_render::graph::Graph {
    let mut drawn = skep_render::graph::Graph::default();
    let mut at: KeyMap<usize> = KeyMap::default();
    let client = crate::engine::client::current();
    let state_of = |key: Key| match client.as_ref().and_then(|client| client.status(key)) {
        Some(Status::Done { .. }) => "done",
        Some(Status::Failed(_)) => "failed",
        Some(Status::Pending) => "running",
        None => "pending",
    };
    // What has run needed its inputs, whose values may have been let go since.
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    for root in roots {
        for_each_node(root, &mut seen, &mut |node| {
            let has_run = node.has_run.load(Ordering::Relaxed) || state_of(node.key()) == "done";
            order.push((node.key(), has_run, node.task.dependencies()));
        });
    }
    let n_nodes = order.len();
    let mut names: KeyMap<String> = KeyMap::default();
    let mut has_run: HashSet<Key> = HashSet::new();
    for (key, is_so, inputs) in order.into_iter().rev() {
        if is_so || has_run.contains(&key) {
            has_run.insert(key);
            has_run.extend(inputs);
        }
    }
    let mut seen = HashSet::new();
    for root in roots {
        for_each_node(root, &mut seen, &mut |node| {
            for (key, name, state) in &node.remotes {
                at.entry(*key).or_insert_with(|| drawn.add_node(name, state));
                names.entry(*key).or_insert_with(|| name.to_string());
            }
            let state = if has_run.contains(&node.key()) {
                "done"
            } else {
                state_of(node.key())
            };
            let id = drawn.add_node(&node.name(), state);
            at.insert(node.key(), id);
            // Larger graphs are drawn in groups.
            if n_nodes <= skep_render::graph::MOST_NODES {
                drawn.set_detail(id, node.arguments(|key| names.get(&key).cloned()));
                names.insert(node.key(), node.name().to_string());
            }
            for key in node.task.dependencies() {
                if let Some(from) = at.get(&key) {
                    drawn.add_edge(*from, id);
                }
            }
        });
    }
    drawn
}

handles!(Delayed);
