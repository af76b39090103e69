//! A cluster on one machine: a scheduler, worker processes, and the handles that a program holds.
//!
//! Scheduler ([`scheduler`]) and worker ([`worker`]) are pure state machines: events in, messages out through a trait; no
//! clock, no I/O. Sockets, threads and processes are around them, in [`host`] and [`serve`]. The client half is
//! [`Cluster`], [`Remote`] and [`Delayed`]. Nothing here knows Polars or Jupyter.

mod actor;
mod builder;
mod client;
mod cluster;
mod code;
pub mod conformance;
mod delayed;
pub mod engine;
mod error;
mod event;
mod function;
mod futures;
pub mod host;
mod hub;
mod ids;
mod local;
mod memory;
pub mod message;
mod named;
mod ops;
mod pool;
mod prints;
pub mod program;
mod report;
pub mod scheduler;
mod segment;
pub mod serve;
mod show;
mod size;
mod spread;
mod story;
mod task;
mod value;
pub mod worker;

pub use actor::{Actor, Method, NewActor};
pub use builder::{ClusterBuilder, IntoBytes};
pub use client::{Hooks, set_hooks, wake_waits};
pub use cluster::{Cluster, Computed, Remote, Root};
pub use code::code_id;
pub use delayed::Delayed;
pub use error::{Error, TaskError, TaskErrorKind};
pub use event::{Event, Progress, ProgressRow, Reason};
pub use function::{IntoArg, TaskFn, register_list, set_versions};
pub use futures::AsCompleted;
pub use ids::{ClientId, CodeId, FunctionId, Key, Token, WorkerId};
pub use scheduler::Explanation;
pub use segment::{Bytes, Segment};
pub use show::{card, remotes_card, workers_card};
pub use size::heap_bytes;
pub use story::{Attempt, Bar, End, History, Journey, Stories};
pub use task::progress;
pub use value::{Codec, TaskValue, register_codec};

pub type Result<T, E = Error> = std::result::Result<T, E>;
