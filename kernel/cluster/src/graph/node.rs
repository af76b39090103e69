//! Graphs of calls that have not run.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    call::{
        context,
        locate::{FnRef, Located, located},
    },
    graph::kinds::Kinds,
    model::{
        error::Result,
        ids::Key,
        task::{Arg, Task, TaskOptions},
    },
};

/// One call in a graph, with the calls it needs.
pub(crate) struct Node {
    pub task: Task,
    located: Arc<Located>,
    inputs: Vec<Arc<Node>>,
    /// Remote handles among the arguments: kept so that their values are.
    _kept: Vec<Arc<dyn Any + Send + Sync>>,
    pub remotes: Vec<(Key, Arc<str>, &'static str)>,
    kinds: Kinds,
    /// Its result was here: for drawing, also when nobody holds it any more.
    pub has_run: AtomicBool,
    /// A word that its journey and its error show.
    tag: OnceLock<String>,
}

impl Node {
    pub fn key(&self) -> Key {
        self.task.key
    }

    /// Its arguments as people write them; of a handle, the name of the call that it stands for.
    pub fn arguments(&self, name_of: impl Fn(Key) -> Option<String>) -> String {
        self.kinds.describe(&self.task.args, &name_of)
    }

    /// The first one counts.
    pub fn set_tag(&self, tag: String) {
        let _ = self.tag.set(tag);
    }

    fn options(&self, how: &How) -> Option<Arc<TaskOptions>> {
        let Some(tag) = self.tag.get() else {
            return how.options.clone();
        };
        let mut options = how.options.clone().unwrap_or_default();
        Arc::make_mut(&mut options).tags.push(tag.clone());
        Some(options)
    }

    pub fn name(&self) -> Arc<str> {
        self.located.function.name.as_str().into()
    }
}

/// Without recursion, since chains may be long and stacks short.
impl Drop for Node {
    fn drop(&mut self) {
        let mut stack = std::mem::take(&mut self.inputs);
        while let Some(node) = stack.pop() {
            if let Ok(mut last) = Arc::try_unwrap(node) {
                stack.append(&mut last.inputs);
            }
        }
    }
}

/// Collects what the arguments of a call bring with them.
#[derive(Default)]
pub(crate) struct Graph {
    inputs: Vec<Arc<Node>>,
    kept: Vec<Arc<dyn Any + Send + Sync>>,
    remotes: Vec<(Key, Arc<str>, &'static str)>,
    kinds: Kinds,
    /// An argument is something that calls change: a queue, a lock, an actor.
    is_shared: bool,
    /// The key that a program gives to its calls, and how many have it.
    given: Option<(Arc<str>, u64)>,
    /// What calls must share, beside function and arguments, to be the same.
    salt: u64,
    /// Finished nodes, roots last.
    roots: Vec<Arc<Node>>,
}

impl Graph {
    /// A graph of several results.
    pub fn of(roots: Vec<Arc<Node>>) -> Graph {
        Graph {
            roots,
            ..Graph::default()
        }
    }

    /// Of calls that have this key with their number, whatever their arguments.
    pub fn keyed(id: &str) -> Graph {
        Graph {
            given: Some((id.into(), 0)),
            ..Graph::default()
        }
    }

    /// The next call needs this one's result.
    pub fn need(&mut self, node: Arc<Node>) {
        self.inputs.push(node);
    }

    pub fn keep(&mut self, handle: Arc<dyn Any + Send + Sync>) {
        self.kept.push(handle);
    }

    /// The next argument is a value of this type.
    pub fn note_value<T: 'static>(&mut self) {
        self.kinds.push(TypeId::of::<T>());
        // Of this package only what is shared is an argument.
        self.is_shared |= std::any::type_name::<T>().starts_with("skep_cluster::api::");
    }

    /// Calls that shall run otherwise are others.
    pub fn set_salt(&mut self, how: &How) {
        self.salt = how.salt();
        self.given = how.key.clone().map(|key| (key, 0));
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

    /// A call in the place of another one.
    pub fn call_as(&mut self, key: Key, f: FnRef, args: Vec<Arg>) -> Result<Arc<Node>> {
        let located = located(f)?;
        Ok(Arc::new(self.node(key, &located, args)))
    }

    /// Ends a call: its key comes from function, code and arguments.
    fn add(&mut self, located: &Arc<Located>, args: Vec<Arg>, is_impure: bool) -> Arc<Node> {
        static SALT: AtomicU64 = AtomicU64::new(1);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&located.function.id.0.to_le_bytes());
        match &mut self.given {
            Some((key, n)) => {
                hasher
                    .update(b"key")
                    .update(key.as_bytes())
                    .update(&n.to_le_bytes());
                *n += 1;
            }
            None => args.iter().for_each(|arg| hash(arg, &mut hasher)),
        }
        if self.salt != 0 {
            hasher.update(&self.salt.to_le_bytes());
        }
        if is_impure || std::mem::take(&mut self.is_shared) {
            hasher
                .update(&SALT.fetch_add(1, Ordering::Relaxed).to_le_bytes())
                .update(&std::process::id().to_le_bytes());
        }
        let key = Key(first_half(&hasher));
        let node = Arc::new(self.node(key, located, args));
        self.roots.push(node.clone());
        node
    }

    fn node(&mut self, key: Key, located: &Arc<Located>, args: Vec<Arg>) -> Node {
        let task = Task {
            key,
            function: located.function.id,
            args,
            priority: 0,
            origin: 0,
            options: None,
        };
        Node {
            task,
            located: located.clone(),
            inputs: std::mem::take(&mut self.inputs),
            _kept: std::mem::take(&mut self.kept),
            remotes: std::mem::take(&mut self.remotes),
            kinds: std::mem::take(&mut self.kinds),
            has_run: AtomicBool::new(false),
            tag: OnceLock::new(),
        }
    }

    /// All nodes as tasks, inputs first, in an order that finishes one branch before it begins the next, and
    /// their functions.
    pub fn into_tasks(self, how: &How, mut next_priority: impl FnMut() -> u64) -> (Vec<Task>, Vec<Located>) {
        let mut tasks = Vec::new();
        let mut functions = BTreeMap::new();
        let mut seen: HashSet<Key> = HashSet::new();
        let origin = context::origin();
        for root in &self.roots {
            for_each_node(root, &mut seen, &mut |node| {
                tasks.push(Task {
                    priority: how.priority_of(next_priority()),
                    origin,
                    options: node.options(how),
                    ..node.task.clone()
                });
                functions
                    .entry(node.located.function.id)
                    .or_insert_with(|| node.located.clone());
            });
        }
        (
            tasks,
            functions
                .into_values()
                .map(|located| (*located).clone())
                .collect(),
        )
    }
}

/// How the calls of a graph shall run.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    pub options: Option<Arc<TaskOptions>>,
    /// Higher is more urgent.
    pub urgency: i32,
    /// Calls are told apart by this, rather than by their arguments.
    pub key: Option<Arc<str>>,
}

impl How {
    /// Of where and for how long calls may run; what only changes when they run does not matter.
    fn salt(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let Some(options) = self.options.as_deref() else {
            return 0;
        };
        if options.timeout_us == 0 && options.workers.is_empty() && options.resources.is_empty() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        (options.timeout_us, &options.workers, &options.resources).hash(&mut hasher);
        hasher.finish()
    }

    /// The scheduler takes the lowest number first; urgency outweighs the order of the graph.
    fn priority_of(&self, order: u64) -> u64 {
        (1u64 << 63)
            .saturating_add_signed(-(i64::from(self.urgency) << 31))
            .saturating_add(order)
    }
}

/// Half of a hash is enough to tell calls apart.
pub(crate) fn first_half(hasher: &blake3::Hasher) -> u128 {
    u128::from_le_bytes(
        hasher.finalize().as_bytes()[..16]
            .try_into()
            .expect("invariant: a hash has 32 bytes"),
    )
}

pub(crate) fn hash(arg: &Arg, hasher: &mut blake3::Hasher) {
    match arg {
        Arg::Value(bytes) => drop(
            hasher
                .update(&[0])
                .update(&bytes.len().to_le_bytes())
                .update(bytes),
        ),
        Arg::Task(key) => drop(hasher.update(&[1]).update(&key.0.to_le_bytes())),
        Arg::Part { task, part, .. } => drop(
            hasher
                .update(&[3])
                .update(&task.0.to_le_bytes())
                .update(&part.to_le_bytes()),
        ),
        Arg::List(items) => {
            hasher.update(&[2]).update(&items.len().to_le_bytes());
            items.iter().for_each(|item| hash(item, hasher));
        }
    }
}

/// Depth first, each node once, inputs before what needs them; without recursion, since chains may be long.
pub(crate) fn for_each_node(root: &Arc<Node>, seen: &mut HashSet<Key>, each: &mut impl FnMut(&Node)) {
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
