//! What is in the store, and what is written to it.

use std::sync::Arc;

use crate::state::State;

/// A value that was kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub hash: u128,
    pub n_bytes: u64,
    /// `None`: it is in a file.
    pub inline: Option<Arc<[u8]>>,
}

/// Something to be written.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Task {
        run: Arc<str>,
        no: u32,
        name: Arc<str>,
        arguments: String,
        identity: u128,
        nth: u32,
        inputs: Vec<u32>,
        tags: Vec<String>,
        at_us: u64,
    },
    TaskState {
        run: Arc<str>,
        no: u32,
        state: State,
        reason: String,
        attempt: u32,
        at_us: u64,
    },
    /// When its worker began its call, and when that ended.
    Ran {
        run: Arc<str>,
        no: u32,
        from_us: u64,
        to_us: u64,
    },
    /// The value of a task.
    Kept { run: Arc<str>, no: u32, kept: Kept },
    /// A value for later runs with the same key.
    Cached {
        key: u128,
        name: Arc<str>,
        kept: Kept,
        at_us: u64,
    },
    RunState {
        run: Arc<str>,
        state: State,
        reason: String,
        result: Option<Vec<u8>>,
        at_us: u64,
    },
    Log {
        run: Arc<str>,
        no: u32,
        worker: String,
        is_stderr: bool,
        text: String,
        at_us: u64,
    },
}

/// A run, as it is in the store.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub id: String,
    pub flow: String,
    /// The run that called it.
    pub parent: Option<String>,
    pub state: State,
    pub reason: String,
    /// As JSON.
    pub parameters: String,
    /// Microseconds since 1970, as all times here.
    pub created_us: u64,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    pub(crate) args: Vec<u8>,
    pub(crate) result: Option<Vec<u8>>,
    pub(crate) process: String,
    pub(crate) gives: String,
}

/// A task of a run, as it is in the store.
#[derive(Clone, Debug)]
pub struct TaskRow {
    pub no: u32,
    pub name: String,
    pub arguments: String,
    /// Numbers of the tasks whose values it needs.
    pub inputs: Vec<u32>,
    pub tags: Vec<String>,
    pub state: State,
    pub reason: String,
    pub attempt: u32,
    pub created_us: u64,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    pub(crate) identity: u128,
    pub(crate) nth: u32,
    pub(crate) kept: Option<Kept>,
}

/// A line that a task printed.
#[derive(Clone, Debug)]
pub struct FlowLog {
    pub task: String,
    pub worker: String,
    pub is_stderr: bool,
    pub text: String,
    pub at_us: u64,
}

/// What a run went through.
#[derive(Clone, Debug)]
pub struct StateRow {
    /// Number of the task; 0 is the run itself.
    pub no: u32,
    pub at_us: u64,
    pub state: State,
    pub reason: String,
    pub attempt: u32,
}
