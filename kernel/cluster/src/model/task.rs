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
    /// One of the parts of another task's result, of which there are so many.
    Part { task: Key, part: u32, of: u32 },
    /// A `Vec` of these.
    List(Vec<Arg>),
}

/// What can be fetched: the result of a task, or one of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Output {
    pub task: Key,
    pub part: Option<u32>,
}

impl Output {
    pub fn whole(task: Key) -> Output {
        Output { task, part: None }
    }

    /// Under which it is held where it was fetched to: a part has a key of its own.
    pub fn key(self) -> Key {
        /// Odd, so that no two parts of a task share a key.
        const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        match self.part {
            None => self.task,
            Some(part) => Key(self.task.0 ^ (u128::from(part) + 1).wrapping_mul(SPREAD)),
        }
    }
}

impl Arg {
    /// Calls `f` for each task this argument needs.
    pub fn for_each_key(&self, f: &mut impl FnMut(Key)) {
        match self {
            Arg::Value(_) => {}
            Arg::Task(key) => f(*key),
            Arg::Part { task, .. } => f(*task),
            Arg::List(items) => items.iter().for_each(|item| item.for_each_key(f)),
        }
    }

    /// Calls `f` for each output this argument needs, with the number of parts that there are.
    pub fn for_each_output(&self, f: &mut impl FnMut(Output, u32)) {
        match self {
            Arg::Value(_) => {}
            Arg::Task(key) => f(Output::whole(*key), 1),
            Arg::Part { task, part, of } => f(
                Output {
                    task: *task,
                    part: Some(*part),
                },
                *of,
            ),
            Arg::List(items) => items.iter().for_each(|item| item.for_each_output(f)),
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
    /// What it belongs to: the number of a cell, or 0.
    pub origin: u32,
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
    /// Words by which people tell tasks apart.
    pub tags: Vec<String>,
}

/// Something that workers have a number of, by any name: `gpu`, `licence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    pub name: String,
    pub amount: u32,
}

impl Task {
    /// The same call for one worker, before anything else runs there: what sets it up.
    pub fn for_worker(&self, worker: WorkerId) -> Task {
        let mut options = self.options.as_deref().cloned().unwrap_or_default();
        options.workers = vec![worker];
        Task {
            key: Key(self.key.0
                ^ (u128::from(worker.0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
            priority: 0,
            options: Some(Arc::new(options)),
            ..self.clone()
        }
    }

    pub fn dependencies(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.args
            .iter()
            .for_each(|arg| arg.for_each_key(&mut |key| keys.push(key)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The outputs that this task needs, each once, in the order of their tasks; with the number of parts that there
    /// are. Parts of a result that is needed whole are not listed apart.
    pub fn outputs(&self) -> Vec<(Output, u32)> {
        let mut outputs = Vec::new();
        self.args
            .iter()
            .for_each(|arg| arg.for_each_output(&mut |output, of| outputs.push((output, of))));
        outputs.sort_unstable();
        // `None` is first: after a whole, parts of the same task go too.
        outputs.dedup_by(|(later, _), (first, _)| {
            later.task == first.task && (first.part.is_none() || later.part == first.part)
        });
        outputs
    }

    /// What share of each dependency's bytes is needed, in the order of [`Task::dependencies`]; `None` if all of all.
    pub fn shares(&self) -> Option<Vec<f32>> {
        let mut has_parts = false;
        self.args
            .iter()
            .for_each(|arg| arg.for_each_output(&mut |output, _| has_parts |= output.part.is_some()));
        if !has_parts {
            return None;
        }
        let mut shares: Vec<f32> = Vec::new();
        let mut last = None;
        for (output, of) in self.outputs() {
            let share = if output.part.is_none() {
                1.0
            } else {
                1.0 / of.max(1) as f32
            };
            match shares.last_mut() {
                Some(so_far) if last == Some(output.task) => *so_far += share,
                _ => shares.push(share),
            }
            last = Some(output.task);
        }
        Some(shares)
    }
}
