//! What goes to the bridge and comes from it: MessagePack, each message behind its length.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_cluster::Key;

#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Order {
    Hello {
        address: String,
    },
    Code {
        code: u64,
        path: String,
        /// Others stand on it: it is loaded as soon as it is there.
        is_base: bool,
    },
    Submit {
        tasks: Vec<TaskOrder>,
        wanted: Vec<String>,
    },
    Fetch {
        id: u64,
        key: String,
        part: Option<u32>,
    },
    Release {
        keys: Vec<String>,
    },
    Cancel {
        keys: Vec<String>,
    },
    Detach {
        key: String,
    },
    Follow {
        is_on: bool,
    },
    Info {
        id: u64,
    },
    Close,
}

#[derive(Debug, Serialize)]
pub(crate) struct TaskOrder {
    pub key: String,
    pub name: String,
    pub code: u64,
    /// A [`skep_cluster::worker::foreign::Request`].
    pub request: ByteBuf,
    /// Keys, and parts of their values, in the order in which the request wants them.
    pub inputs: Vec<(String, Option<u32>)>,
    pub retries: u32,
    /// By number; empty: all.
    pub workers: Vec<u32>,
    pub resources: Vec<(String, u32)>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
pub(crate) enum Word {
    Ready,
    Refused {
        what: String,
        hint: String,
    },
    Ended {
        ended: Vec<EndedWord>,
    },
    Value {
        id: u64,
        value: Option<ByteBuf>,
        why: Option<String>,
    },
    Info {
        id: u64,
        workers: Vec<WorkerWord>,
        why: Option<String>,
    },
    Events {
        events: Vec<EventWord>,
    },
    /// An order could not be obeyed.
    Trouble {
        what: String,
        hint: Option<String>,
        keys: Vec<String>,
    },
    Gone {
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) struct EndedWord {
    pub key: String,
    pub n_bytes: u64,
    pub inline: Option<ByteBuf>,
    pub worker: u32,
    /// `told`, with a task's own error; or what Dask says happened.
    pub failed: Option<String>,
    pub why: Option<ByteBuf>,
}

/// What Dask's scheduler did, or a task said. It travels as a list.
#[derive(Debug, Deserialize)]
pub(crate) struct EventWord {
    pub what: String,
    pub key: String,
    pub worker: u32,
    pub n_bytes: u64,
    pub start_us: u64,
    pub duration_us: u64,
    pub why: String,
    /// A [`skep_cluster::worker::foreign::Said`].
    pub said: Option<ByteBuf>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WorkerWord {
    pub id: u32,
    pub pid: u32,
    pub threads: u32,
    pub memory_limit: u64,
    pub resident: u64,
    pub spilled: u64,
    pub n_assigned: u64,
    pub n_values: u64,
    pub held: u64,
}

/// As the bridge writes keys.
pub(crate) fn hex(key: Key) -> String {
    format!("{:032x}", key.0)
}

pub(crate) fn key_of(hex: &str) -> Option<Key> {
    u128::from_str_radix(hex, 16).ok().map(Key)
}

pub(crate) fn write(out: &mut impl Write, order: &Order) -> io::Result<()> {
    let body = rmp_serde::to_vec_named(order).map_err(io::Error::other)?;
    let n = u32::try_from(body.len()).map_err(|_| io::Error::other("more than 4 GB at once"))?;
    out.write_all(&n.to_le_bytes())?;
    out.write_all(&body)?;
    out.flush()
}

pub(crate) fn read(from: &mut impl Read) -> io::Result<Word> {
    let mut n = [0; 4];
    from.read_exact(&mut n)?;
    let mut body = vec![0; u32::from_le_bytes(n) as usize];
    from.read_exact(&mut body)?;
    rmp_serde::from_slice(&body).map_err(io::Error::other)
}
