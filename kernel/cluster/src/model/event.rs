//! What happens in the scheduler, as one stream that progress, graphs and reports read.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{
    cluster::ClusterInfo,
    ids::{FunctionId, Key, WorkerId},
};

/// Something that happened in the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Function {
        id: FunctionId,
        name: String,
    },
    Submitted {
        key: Key,
        function: FunctionId,
        /// What it belongs to: the number of a cell, or 0.
        origin: u32,
        /// The tasks whose values it needs.
        inputs: Arc<[Key]>,
    },
    /// It carries these words.
    Tagged {
        key: Key,
        tags: Vec<String>,
    },
    /// The last of its inputs is there; said of tasks that had to wait.
    Ready {
        key: Key,
    },
    Assigned {
        key: Key,
        worker: WorkerId,
        why: Reason,
        /// Bytes of inputs that have to come from other workers.
        moved_bytes: u64,
    },
    /// Inputs of a task that was assigned have to go from one worker to another; said once for each worker that sends.
    Moved {
        key: Key,
        from: WorkerId,
        to: WorkerId,
        n_bytes: u64,
    },
    Done {
        key: Key,
        worker: WorkerId,
        n_bytes: u64,
        start_us: u64,
        duration_us: u64,
    },
    /// Its value is a table, with so many rows.
    Counted {
        key: Key,
        n_rows: u64,
    },
    Failed {
        key: Key,
        /// In a line.
        why: String,
    },
    Cancelled {
        key: Key,
    },
    /// It will run again.
    Retried {
        key: Key,
        /// It failed itself; else its worker died, or a value was lost.
        has_failed: bool,
    },
    Freed {
        key: Key,
    },
    /// A busy worker had not begun it, and another is idle.
    Stolen {
        key: Key,
        from: WorkerId,
    },
    /// A task printed, or something on its worker did.
    Printed {
        key: Option<Key>,
        worker: WorkerId,
        is_stderr: bool,
        text: String,
    },
    /// A task told how far it is.
    Progressed {
        key: Key,
        n_done: u64,
        n_total: u64,
    },
    WorkerJoined {
        worker: WorkerId,
        pid: u32,
    },
    WorkerLost {
        worker: WorkerId,
        cause: String,
    },
    /// Its memory is nearly full: it begins no task until there is room.
    WorkerPaused {
        worker: WorkerId,
    },
    WorkerResumed {
        worker: WorkerId,
    },
    /// It has not been heard of for seconds, or (`is_back`) is heard of again.
    WorkerSilent {
        worker: WorkerId,
        is_back: bool,
    },
    /// Tasks have been waiting for a moment and none runs, and why; or (`None`) it goes on.
    Stalled {
        why: Option<String>,
    },
    /// It was told to go, since fewer are wanted.
    WorkerRetired {
        worker: WorkerId,
    },
}

/// What a program tells of a cluster of another engine than its notebook's, which shows that as its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Elsewhere {
    /// The program uses it from now on; it is shown until a cluster is started here.
    Began(ClusterInfo),
    /// As it is now.
    Is(ClusterInfo),
    Happened(Vec<Event>),
    Gone,
}

/// Why a task got the worker that it got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    OnlyOne,
    /// Elsewhere more bytes would have had to move.
    Inputs,
    #[default]
    LeastBusy,
    /// It was on a dying worker before.
    Alone,
    /// It may run on certain workers only.
    Pinned,
    /// It was the least busy of those with the resources.
    Resources,
    /// The scheduler of another engine chose it, and does not say why.
    Elsewhere,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::OnlyOne => "no other worker had room",
            Reason::Inputs => "it holds the inputs, so that the fewest bytes move",
            Reason::LeastBusy => "it was the least busy",
            Reason::Pinned => "it is one of those that the task may run on",
            Reason::Resources => "it was the least busy of those that have the resources",
            Reason::Elsewhere => "the engine's own scheduler chose it",
            Reason::Alone => "a worker died under this task before, so it got an idle one to itself",
        })
    }
}
