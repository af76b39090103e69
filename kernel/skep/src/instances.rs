//! Code that cells would compile again and again: the cluster's generic functions with types whose way through serde is
//! long. Numbers, text and lists of them were tried too, and made no cell faster.
//!
//! This crate is built at `opt-level` 1, at which rustc lets the crates above use the instances that are here. A cell is
//! built at 0 and does so: a cell that gathers a `DataFrame` would else hold a thousand functions of Polars' reader.

use skep_cluster::{Cluster, Remote, Result, TaskValue};
use skep_frame::polars::prelude::{DataFrame, Series};

/// Never called. What stands here is compiled, and so there for cells.
#[doc(hidden)]
pub fn instances(cluster: &Cluster) -> Result<()> {
    of::<DataFrame>(cluster)?;
    of::<Vec<DataFrame>>(cluster)?;
    of::<Series>(cluster)
}

fn of<T: TaskValue + Clone>(cluster: &Cluster) -> Result<()> {
    fn same<T>(value: T) -> T {
        value
    }
    fn look<T>(_: &T) {}
    let value: Remote<T> = cluster.lookup("")?;
    let again = cluster.submit(same::<T>, &value);
    cluster.submit(look::<T>, &again).gather()?;
    let all = cluster.gather([&value])?;
    cluster.map(same::<T>, all);
    let here = value.gather()?;
    cluster.scatter(here);
    Ok(())
}
