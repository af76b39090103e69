//! A cluster as it was asked for, and as it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{Key, WorkerId},
    task::{Resource, Task},
};

/// What a local cluster is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Empty for the notebook's own cluster.
    pub name: String,
    pub workers: u32,
    pub threads: u32,
    /// Bytes for each worker; 0 is no limit.
    pub memory_limit: u64,
    /// What each worker has.
    pub resources: Vec<Resource>,
    /// Workers that hold nothing end after this time without work; 0 is never.
    pub idle_timeout_us: u64,
    /// Bytes that each worker may write to disk; 0 is no limit.
    pub spill_limit: u64,
    /// What each worker runs before anything else; see [`Task::for_worker`].
    pub set_up: Option<Task>,
}

/// A worker's memory at a heartbeat, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Of the process, as the system counts it.
    pub resident: u64,
    /// Of values that it holds in memory.
    pub managed: u64,
    /// Of values that it has written to disk.
    pub spilled: u64,
    /// It is over its limit's 80 %, and begins no task.
    pub is_paused: bool,
    /// Times that a value could not be written to disk.
    pub n_spill_failures: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub id: WorkerId,
    pub pid: u32,
    pub threads: u32,
    pub memory_limit: u64,
    pub resources: Vec<Resource>,
    /// At the last heartbeat.
    pub memory: Memory,
    /// It has not answered for seconds.
    pub is_silent: bool,
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

/// A value that the cluster holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub key: Key,
    /// The function that made it.
    pub function: String,
    /// In memory.
    pub n_bytes: u64,
    pub workers: Vec<WorkerId>,
}

/// In one line: there are many.
impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers: Vec<String> = self.workers.iter().map(WorkerId::to_string).collect();
        let size = skep_render::bytes(self.n_bytes);
        write!(
            f,
            "{} {}: {size} on {}",
            self.function,
            self.key,
            workers.join(", ")
        )
    }
}

/// Values that are kept under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub name: String,
    /// One for a value, several for the partitions of a frame.
    pub keys: Vec<Key>,
    pub type_name: String,
    /// What the layout of a cell's type stands on; it changes when the type is defined anew.
    pub layout: u64,
    /// The function that made the first one; the engine knows it.
    pub task: String,
}
