//! A cluster on one machine: a scheduler, worker processes, and the handles that a program holds.
//!
//! From the bottom up, each part knowing only those before it:
//!
//! | part | holds |
//! |---|---|
//! | [`hooks`] | how a notebook takes part: interrupts, code that is being compiled |
//! | [`model`] | names, tasks, events, errors, as plain data |
//! | [`data`] | values, their sizes, and the memory that they travel in |
//! | [`wire`] | frames over sockets, and the messages in them |
//! | [`call`] | what makes a function callable in another process |
//! | [`graph`] | calls that have not run |
//! | [`engine`] | what runs graphs for a program: the trait, a program's half, the local one |
//! | [`scheduler`] | which task runs where, as a pure state machine |
//! | [`observe`] | progress, the story of each task, reports |
//! | [`worker`] | a worker: a pure machine, its threads, its server |
//! | [`forecast`] | a recorded run played again on other workers, by a virtual clock |
//! | [`host`] | the scheduler's thread and the processes of workers |
//! | [`api`] | what a program holds: [`Cluster`], [`Remote`], [`Delayed`], [`Actor`] |
//!
//! Nothing here knows Polars or Jupyter.

pub mod api;
pub mod call;
pub mod conformance;
pub mod data;
pub mod engine;
pub mod forecast;
pub mod graph;
pub mod hooks;
pub mod host;
pub mod model;
pub mod observe;
pub mod scheduler;
pub mod wire;
pub mod worker;

pub use api::{
    actor::{Actor, Reply},
    builder::{ClusterBuilder, Size},
    call::{Call, Ended, Listening, Started},
    chaos,
    cluster::Cluster,
    compute::{Computed, Root},
    coordination,
    dashboard::Dashboard,
    delayed::Delayed,
    futures::AsCompleted,
    logs::Logs,
    nested::{AnyHandle, Nested},
    parts::Part,
    performance::Performance,
    pool::ActorPool,
    remote::Remote,
    show::{card, remotes_card, workers_card},
    task_run::{Managed, TaskRun},
    what_if::{Forecast, WhatIf},
};
pub use call::{
    code::code_id,
    context::progress,
    locate::{set_tasks, set_versions},
    thunk::{Inputs, function_of},
};
pub use data::{
    lists::register_list,
    segment::{Bytes, Segment},
    size::heap_bytes,
    value::{Codec, Shared, TaskValue, decoded, finished, register_codec, registered},
};
#[doc(hidden)]
pub use graph::concrete;
pub use graph::{
    method::{Method, NewActor},
    task_fn::{Fails, IntoArg, TaskFn},
};
pub use hooks::{Hooks, join_host, set_hooks, wake_waits};
pub use model::{
    error::{Error, Result, TaskError, TaskErrorKind},
    event::{Event, Reason},
    history::{Attempt, Bar, End, Explanation, History, Journey, LogKind, LogLine},
    ids::{ClientId, CodeId, FunctionId, Key, Token, WorkerId},
};
pub use observe::{
    progress::{Progress, ProgressRow},
    stories::Stories,
};
