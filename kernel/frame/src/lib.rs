//! Partitioned Polars frames on a cluster.
//!
//! A [`Frame`] is a lazy query of Polars whose leaves stand for partitions: of files, of tables here, of tables that
//! workers hold. Building it checks names and types against the schema; nothing is read. `collect` and its like have Polars
//! optimise the query; [`plan`] cuts what it gives into stages where rows must meet, [`exec`] makes tasks of these, and
//! [`tasks`] is what the tasks do: run Polars on a partition. What cannot be cut runs whole, in one task.
//!
//! Frames know nothing of transports.

mod asof;
#[doc(hidden)]
pub mod concrete;
mod csv;
mod database;
mod error;
mod exec;
mod explain;
mod files;
mod fit;
mod frame;
mod functions;
mod plan;
mod plot;
mod records;
mod scan;
mod shapes;
mod show;
mod sinks;
mod source;
mod sql;
mod tasks;
mod timeseries;
mod verbs;

pub use asof::{AsOf, Columns, JoinAsof, Tolerance};
pub use error::{Error, Result};
pub use explain::Explained;
pub use frame::Frame;
pub use functions::Tabular;
#[doc(hidden)]
pub use plan::{AsIf, plan_as_if};
pub use plot::{Chart, Plot, Plottable};
pub use polars;
pub use records::ToFrame;
pub use scan::Scan;
pub use show::{ByFrame, HeapOfFrame, HeapOfSerde, LookFrame, ShowFrame, table};
pub use sql::{Table, sql};
pub use timeseries::Timeseries;
pub use verbs::GroupBy;

/// Makes frames travel as Arrow IPC, and arrays as they are in memory. Called once by every process that takes part.
pub fn init() {
    tasks::register();
    skep_collections::init();
}
