//! A cluster on one machine: a scheduler, worker processes, and the handles that a program holds.
//!
//! Scheduler ([`scheduler`]) and worker ([`worker`]) are pure state machines: events in, messages out through a trait; no
//! clock, no I/O. Sockets, threads and processes are around them, in [`host`] and [`serve`]. The client half is
//! [`Cluster`], [`Remote`] and [`Delayed`]. Nothing here knows Polars or Jupyter.

mod client;
mod cluster;
mod code;
mod delayed;
mod error;
mod event;
mod function;
mod futures;
pub mod host;
mod hub;
mod ids;
pub mod message;
mod named;
pub mod scheduler;
pub mod serve;
mod show;
mod story;
mod value;
pub mod worker;

pub use client::{Hooks, set_hooks, wake_waits};
pub use cluster::{Cluster, ClusterBuilder, Computed, Remote, Root};
pub use code::code_id;
pub use delayed::Delayed;
pub use error::{Error, TaskError, TaskErrorKind};
pub use event::{Event, Progress, ProgressRow, Reason};
pub use function::{IntoArg, TaskFn, register_list};
pub use futures::AsCompleted;
pub use ids::{ClientId, CodeId, FunctionId, Key, WorkerId};
pub use show::{card, workers_card};
pub use story::{Attempt, Bar, End, Journey, Stories};
pub use value::{Codec, TaskValue, register_codec};

pub type Result<T, E = Error> = std::result::Result<T, E>;
