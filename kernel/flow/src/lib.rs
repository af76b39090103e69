//! Workflows on a cluster: functions that call tasks, whose runs have states, survive, and can go on.
//!
//! From the bottom up, each part knowing only those before it:
//!
//! | part | holds |
//! |---|---|
//! | `state`, `policy`, `schedule` | the states by their names; how a task shall run; when a flow runs by itself |
//! | `machine` | which task is in which state, and what is to be done, as a pure state machine |
//! | [`store`] | the journal on disk |
//! | `show` | what runs look like |
//! | `live`, `driver` | runs in this process: what waits for them, what runs their tasks |
//! | `definition`, `registry` | a flow without its types, and how it runs; those of this process by their names |
//! | [`task()`], [`Flow`], [`Run`] | what a program holds |
//! | `report` | runs on the page of a Prefect server |
//! | `backfill`, `serve` | many runs of a flow; runs at their times |
//!
//! A run is its function, run in the process that asked for it: there is no graph but what the function calls. So a run goes
//! on after a crash by running the function again, with the values of the calls that had completed taken from the journal.
//!
//! Flows know the cluster by its public face only, and nothing of Jupyter.

mod backfill;
mod definition;
mod driver;
mod flow;
mod function;
mod live;
mod machine;
mod policy;
mod registry;
mod report;
mod run;
mod schedule;
mod serve;
mod show;
mod state;
pub mod store;
mod task;
mod words;

pub use backfill::{Backfill, Backfilled, Reprocess};
pub use flow::Flow;
pub use function::{FlowFn, FlowResult, IntoArgs, IntoParameter, Parameter};
pub use run::{Run, Runs};
pub use skep_cluster::TaskRun;
pub use state::State;
pub use store::{FlowLog, RunRow, StateRow, Store, TaskRow};
pub use task::{Chain, Group, Task, task};
