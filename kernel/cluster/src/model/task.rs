//! A task: a function, its arguments, and how it shall run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::model::ids::{CodeId, FunctionId, Key, WorkerId};

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
    /// Its value stays on its worker, and is not made again: calls have changed it.
    pub is_actor: bool,
    /// What of a worker's resources it uses up while it runs.
    pub resources: Vec<Resource>,
}

/// Something that workers have a number of, by any name: `gpu`, `licence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    pub name: String,
    pub amount: u32,
}

impl Task {
    pub fn dependencies(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.args
            .iter()
            .for_each(|arg| arg.for_each_key(&mut |key| keys.push(key)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
