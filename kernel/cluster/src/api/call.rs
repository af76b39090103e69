//! Calls without their types: for a part of a program that decides by itself when each runs, how often, and whether at all.
//! Flows are such a part.
//!
//! A [`Call`] knows its function and its arguments, and has a key of the caller's choice. [`Cluster::begin`] runs it,
//! [`Cluster::restore`] puts a value that is there already in its place; both may be done again. What other calls need of it
//! is named by its key, so it has to be on the cluster before they begin: a call does not bring its inputs along.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Weak},
    task::Waker,
    time::Duration,
};

use crate::{
    api::{
        cluster::Cluster,
        remote::{Handle, Held},
    },
    call::{
        locate::FnRef,
        thunk::{Inputs, unreadable},
    },
    data::{
        segment::{Bytes, Segment},
        value::Stored,
    },
    engine::{
        Listener,
        client::{Client, Status},
    },
    graph::{
        node::{Graph, Node, first_half, for_each_node, hash},
        task_fn::{TaskFn, fn_ref},
    },
    model::{
        error::{Error, Result, TaskError},
        event::Event,
        ids::{Key, WorkerId},
        task::{Arg, Output},
    },
};

/// A call of a function with its arguments, without their types.
#[derive(Clone)]
pub struct Call(Arc<Node>);

impl Call {
    /// A call whose key comes from its function and `id`, whatever its arguments.
    ///
    /// # Errors
    /// When an argument cannot be turned into bytes, or is the handle of a call that was refused.
    pub fn new<F, Kind, In>(f: F, args: In, id: &str) -> Result<Call>
    where
        F: TaskFn<Kind, In>,
    {
        let _ = f;
        let mut graph = Graph::keyed(id);
        let args = F::args(args, &mut graph);
        Call::of(fn_ref::<F, Kind, In>(), args, graph)
    }

    #[inline(never)]
    fn of(f: FnRef, args: Result<Vec<Arg>>, mut graph: Graph) -> Result<Call> {
        graph.call(f, args, false).map(Call)
    }

    pub fn key(&self) -> Key {
        self.0.key()
    }

    /// The function's name.
    pub fn name(&self) -> Arc<str> {
        self.0.name()
    }

    /// The arguments as people write them; `name_of` names what handles stand for.
    pub fn arguments(&self, name_of: impl Fn(Key) -> Option<String>) -> String {
        self.0.arguments(name_of)
    }

    /// The values that it needs and does not bring along, each once.
    pub fn inputs(&self) -> Vec<Key> {
        let (mut inputs, mut seen) = (Vec::new(), HashSet::new());
        for_each_node(&self.0, &mut seen, &mut |node| {
            inputs.extend(node.task.dependencies())
        });
        inputs.sort_unstable();
        inputs.dedup();
        inputs.retain(|key| !seen.contains(key));
        inputs
    }

    /// A hash of the function and of the arguments; of those that are values of others, of what `input` says of them.
    /// With `has_code` the version of the function's code counts, else its name.
    pub fn fingerprint(&self, has_code: bool, input: impl Fn(Key) -> Option<u128>) -> u128 {
        let mut of_nodes: HashMap<Key, u128> = HashMap::new();
        for_each_node(&self.0, &mut HashSet::new(), &mut |node| {
            let mut hasher = blake3::Hasher::new();
            if has_code {
                hasher.update(&node.task.function.0.to_le_bytes());
            } else {
                hasher.update(node.name().as_bytes());
            }
            for arg in &node.task.args {
                let known = with_keys(arg, &|key| of_nodes.get(&key).copied().or_else(|| input(key)));
                hash(&known, &mut hasher);
            }
            of_nodes.insert(node.key(), first_half(&hasher));
        });
        of_nodes[&self.key()]
    }
}

/// An argument in which keys are replaced.
fn with_keys(arg: &Arg, of: &impl Fn(Key) -> Option<u128>) -> Arg {
    let key = |key: Key| of(key).map_or(key, Key);
    match arg {
        Arg::Value(bytes) => Arg::Value(bytes.clone()),
        Arg::Task(task) => Arg::Task(key(*task)),
        Arg::Part { task, part, of } => Arg::Part {
            task: key(*task),
            part: *part,
            of: *of,
        },
        Arg::List(items) => Arg::List(items.iter().map(|item| with_keys(item, of)).collect()),
    }
}

/// A call that has begun. Its value stays on the cluster for as long as this is held.
#[derive(Clone)]
pub struct Started(Arc<Held>);

/// A call that has ended well.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Of the value in memory.
    pub n_bytes: u64,
    pub worker: WorkerId,
    pub took: Duration,
}

impl Started {
    /// How it ended; `None` while it has not, and then the waker is woken when it does.
    pub fn ended(&self, waker: &Waker) -> Option<Result<Ended>> {
        if self.0.client.is_pending(self.0.key, waker) {
            return None;
        }
        match self.0.client.status(self.0.key) {
            Some(Status::Done {
                n_bytes,
                worker,
                duration_us,
                ..
            }) => Some(Ok(Ended {
                n_bytes,
                worker,
                took: Duration::from_micros(duration_us),
            })),
            Some(Status::Failed(error)) => Some(Err(error)),
            _ if self.0.client.is_gone() => Some(Err(Error::Disconnected("the scheduler has ended".into()))),
            _ => None,
        }
    }

    /// The bytes of its value.
    ///
    /// # Errors
    /// As [`Remote::gather`](crate::Remote::gather).
    pub fn bytes(&self) -> Result<Bytes> {
        self.0.client.fetch(Output::whole(self.0.key))
    }

    /// Stops it if it has not ended.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn cancel(&self) -> Result<()> {
        self.0.client.cancel(vec![self.0.key])
    }
}

impl Cluster {
    /// Runs calls, all at once; those that failed before, again.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn begin(&self, calls: &[&Call]) -> Result<Vec<Started>> {
        let nodes: Vec<Arc<Node>> = calls.iter().map(|call| call.0.clone()).collect();
        self.begin_nodes(nodes)
    }

    /// Puts a value in the place of a call's own.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn restore(&self, call: &Call, bytes: &[u8]) -> Result<Started> {
        let arg = Arg::Value(bytes.to_vec().into());
        self.restored_by(call, FnRef::to_thunk(restored, "restored"), arg)
    }

    /// As [`Cluster::restore`], for a value in a file that workers can read.
    ///
    /// # Errors
    /// As there. A file that cannot be read fails the call.
    pub fn restore_file(&self, call: &Call, path: &Path) -> Result<Started> {
        let arg = Arg::Value(path.as_os_str().as_encoded_bytes().to_vec().into());
        self.restored_by(call, FnRef::to_thunk(restored_file, "restored"), arg)
    }

    fn restored_by(&self, call: &Call, f: FnRef, arg: Arg) -> Result<Started> {
        let node = Graph::default().call_as(call.key(), f, vec![arg])?;
        Ok(self.begin_nodes(vec![node])?.remove(0))
    }

    fn begin_nodes(&self, nodes: Vec<Arc<Node>>) -> Result<Vec<Started>> {
        let keys: Vec<Key> = nodes.iter().map(|node| node.key()).collect();
        self.submit_graph(Graph::of(nodes.clone()), &keys)?;
        let started = nodes.iter().map(|node| match self.held(node, false) {
            Handle::Held(held) => Ok(Started(held)),
            Handle::Refused(error) => Err(error),
        });
        started.collect()
    }

    /// Calls `listener` with everything that happens on the cluster, until what this gives is dropped. It is called from the
    /// thread that hears of values: it may not wait for any.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn listen(&self, listener: impl Fn(&[Event]) + Send + Sync + 'static) -> Result<Listening> {
        let listener: Arc<Listener> = Arc::new(listener);
        self.client.listen(Arc::downgrade(&listener))?;
        Ok(Listening {
            listener: Some(listener),
            client: Arc::downgrade(&self.client),
        })
    }
}

/// Somebody hears what happens on a cluster; see [`Cluster::listen`].
pub struct Listening {
    listener: Option<Arc<Listener>>,
    client: Weak<Client>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listener = None;
        if let Some(client) = self.client.upgrade() {
            client.unlisten();
        }
    }
}

/// The value is these bytes.
fn restored(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
    Ok(Stored::Bytes(inputs.next_bytes()?.into()))
}

/// The value is what this file holds.
fn restored_file(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
    use std::os::unix::ffi::OsStringExt;
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(inputs.next_bytes()?));
    let cannot = |error: std::io::Error| unreadable(format!("{} cannot be read: {error}", path.display()));
    let n_bytes = std::fs::metadata(&path).map_err(cannot)?.len();
    if n_bytes == 0 {
        return Ok(Stored::Bytes(Vec::new().into()));
    }
    let segment = Segment::open_shared(&path, n_bytes).map_err(cannot)?;
    Ok(Stored::Bytes(Bytes::Segment(segment)))
}
