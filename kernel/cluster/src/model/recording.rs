//! What a block of code had the cluster do, as data: enough to play it again elsewhere.

use serde::{Deserialize, Serialize};

use crate::model::ids::Key;

/// Tasks of a recording, at most. Later ones are counted and left out.
pub const MOST_RECORDED: usize = 500_000;

/// The tasks that were submitted while a block of code ran, and how they went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// In the order in which they were submitted.
    pub tasks: Vec<Recorded>,
    /// Of functions; tasks name them by their place here.
    pub functions: Vec<String>,
    /// The workers that there were: threads and memory limit, in bytes, of each.
    pub workers: Vec<(u32, u64)>,
    /// Tasks that were too many to be kept.
    pub n_left_out: u64,
}

/// A task of a recording. Times are microseconds since the recording began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub key: Key,
    pub function: u32,
    pub priority: u64,
    pub submitted_us: u64,
    /// 0 if it had not ended.
    pub ended_us: u64,
    /// What it needs, and what part of the bytes of each.
    pub inputs: Vec<(Key, f32)>,
    /// Of its value.
    pub n_bytes: u64,
    /// Its value came with the news of its end, so that it never had to be fetched.
    pub is_inline: bool,
    pub duration_us: u64,
    /// Of that, the time that processors worked.
    pub cpu_us: u64,
    /// It asked for certain workers or for resources.
    pub has_demands: bool,
}
