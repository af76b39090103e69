//! What travels between client, scheduler and workers. One frame is a batch: a `Vec` of messages, encoded with postcard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{ClientId, CodeId, FunctionId, Journey, Key, TaskError, WorkerId};

/// Where a function is in its library.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CodePlace {
    /// By symbol: the optimised build of a cell has it elsewhere.
    Symbol(String),
    /// Bytes from the library's base: for libraries that are the same file everywhere.
    Offset(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    pub id: FunctionId,
    pub name: String,
    pub code: CodeId,
    pub place: CodePlace,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arg {
    /// A value by content.
    Value(ByteBuf),
    /// The result of another task.
    Task(Key),
    /// A `Vec` of either.
    List(Vec<Arg>),
}

impl Arg {
    /// Calls `f` for each task this argument needs.
    pub fn for_each_key(&self, f: &mut impl FnMut(Key)) {
        match self {
            Arg::Value(_) => {}
            Arg::Task(key) => f(*key),
            Arg::List(items) => items.iter().for_each(|item| item.for_each_key(f)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub key: Key,
    pub function: FunctionId,
    pub args: Vec<Arg>,
    /// Lower runs first: the order of the graph, so that reductions keep memory flat.
    pub priority: u64,
    /// Most tasks have none.
    pub options: Option<Arc<TaskOptions>>,
}

/// How a task shall be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOptions {
    /// A task that fails runs again, this often.
    pub retries: u32,
    /// And not before this time has passed.
    pub retry_delay_us: u64,
    /// A worker has this long for it; 0 is no limit.
    pub timeout_us: u64,
    /// The workers it may run on; empty: all.
    pub workers: Vec<WorkerId>,
}

impl Task {
    pub fn dependencies(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.args.iter().for_each(|arg| arg.for_each_key(&mut |key| keys.push(key)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// What a local cluster is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    pub workers: u32,
    pub threads: u32,
    /// Bytes for each worker; 0 is no limit.
    pub memory_limit: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub id: WorkerId,
    pub pid: u32,
    pub threads: u32,
    pub memory_limit: u64,
    /// Resident bytes at the last heartbeat.
    pub resident: u64,
    /// Tasks that it has been given and not finished.
    pub n_assigned: u64,
    /// Results that it holds.
    pub n_values: u64,
    pub held_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterInfo {
    pub workers: Vec<WorkerInfo>,
    pub n_tasks: u64,
    pub n_done: u64,
    pub n_failed: u64,
    /// Deaths of workers, newest last, in words.
    pub losses: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToScheduler {
    // From a client.
    Hello,
    Launch(ClusterSpec),
    Shutdown,
    Code {
        id: CodeId,
        path: Option<String>,
    },
    Function(Function),
    Submit {
        tasks: Vec<Task>,
        wanted: Vec<Key>,
    },
    Release {
        keys: Vec<Key>,
    },
    Cancel {
        keys: Vec<Key>,
    },
    Info,
    /// What happened to a task.
    Journey {
        key: Key,
    },
    KillWorker {
        worker: WorkerId,
    },
    /// Keep values under a name, also without handles.
    Publish {
        name: String,
        keys: Vec<Key>,
        type_name: String,
    },
    Unpublish {
        name: String,
    },
    /// Which names there are.
    Lookup,
    /// Run this task to its end, whoever holds it.
    Detach {
        key: Key,
    },
    /// Between so many workers from now on.
    Scale {
        least: u32,
        most: u32,
    },
    // From a worker.
    Register {
        pid: u32,
        address: String,
        threads: u32,
        memory_limit: u64,
    },
    Done(Ran),
    Failed {
        key: Key,
        error: TaskError,
    },
    /// These inputs of a task could not be fetched.
    Missing {
        key: Key,
        inputs: Vec<(Key, WorkerId)>,
    },
    Heartbeat {
        resident: u64,
    },
    /// The worker is about to end, and why.
    Dying {
        cause: String,
    },
}

/// Values that are kept under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub name: String,
    /// One for a value, several for the partitions of a frame.
    pub keys: Vec<Key>,
    pub type_name: String,
    /// The function that made the first one.
    pub task: String,
}

/// A task that has ended with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    pub key: Key,
    /// Size of the value in memory.
    pub n_bytes: u64,
    /// The value itself, where it is small and plain.
    pub inline: Option<ByteBuf>,
    /// Microseconds since 1970, by the worker's clock.
    pub start_us: u64,
    pub duration_us: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub task: Arc<Task>,
    /// For each input that is elsewhere: who has it.
    pub inputs: Vec<(Key, Input)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    Inline(ByteBuf),
    At { worker: WorkerId, address: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    Welcome { id: WorkerId },
    Function { function: Function, library: String },
    Compute(Assignment),
    Free { keys: Vec<Key> },
    Cancel { keys: Vec<Key> },
    Exit,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Finished {
    Done {
        n_bytes: u64,
        inline: Option<ByteBuf>,
        worker: WorkerId,
        address: String,
        duration_us: u64,
    },
    Failed(Arc<TaskError>),
    /// The value was lost with its worker and is being made again.
    Pending,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    Welcome { id: ClientId },
    Launched(Result<ClusterInfo, String>),
    Finished { key: Key, how: Finished },
    Info(ClusterInfo),
    Journey { key: Key, journey: Option<Journey> },
    Published(Vec<Published>),
}

/// To a worker's own socket, from another worker or a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetValue {
    pub key: Key,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueReply {
    pub key: Key,
    /// `None`: it is not here (any more).
    pub value: Option<Result<ByteBuf, String>>,
}
