//! Partitioned Polars frames on a cluster.
//!
//! A [`Frame`] is lazy: a source and Polars expressions. Building it checks names and types against the
//! schema; nothing is read. `collect` and its like turn it into tasks, one chain a partition, and meet only
//! where data must: aggregations run as partial results combined in a tree. Frames know nothing of
//! transports; tasks are the functions of [`stage`].

mod aggregate;
#[doc(hidden)]
pub mod concrete;
mod csv;
mod error;
mod files;
mod frame;
mod records;
mod show;
mod source;
mod sql;
mod stage;
mod timeseries;

pub use error::{Error, Result};
pub use frame::{Frame, GroupBy};
pub use polars;
pub use records::ToFrame;
pub use show::{ByFrame, HeapOfFrame, HeapOfSerde, LookFrame, ShowFrame, table};
pub use sql::{Table, sql};
pub use timeseries::Timeseries;

/// Makes frames travel as Arrow IPC, and arrays as they are in memory. Called once by every process that takes part.
pub fn init() {
    stage::register();
    skep_collections::init();
}
