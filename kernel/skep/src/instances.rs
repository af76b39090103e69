//! Code that cells would compile again and again: the cluster's generic functions with types whose way through serde is
//! long. Numbers, text and lists of them were tried too, and made no cell faster.
//!
//! This crate is built at `opt-level` 1, at which rustc lets the crates above use the instances that are here. A cell is
//! built at 0 and does so: a cell that gathers a `DataFrame` would else hold a thousand functions of Polars' reader.

use ndarray::{Ix1, Ix2};
#[cfg(feature = "frames")]
use skep_cluster::Remote;
use skep_cluster::{Cluster, Result, TaskValue};
use skep_collections::{Axes, Bag, Blocked, Lengths, ndarray};
#[cfg(feature = "frames")]
use skep_frame::polars::prelude::{DataFrame, DataFrameJoinOps, PolarsResult, Series};
use skep_render::Rich;

/// Never called. What stands here is compiled, and so there for cells.
#[doc(hidden)]
pub fn instances(cluster: &Cluster) -> Result<()> {
    #[cfg(feature = "frames")]
    frames(cluster)?;
    #[cfg(not(feature = "frames"))]
    let _ = cluster;
    blocked::<Ix1, _>(2)?;
    blocked::<Ix2, _>((2, 2))?;
    bag::<String>()?;
    bag::<i64>()?;
    bag::<f64>()?;
    words(Bag::read_text(""))
}

#[cfg(feature = "frames")]
fn frames(cluster: &Cluster) -> Result<()> {
    of::<DataFrame>(cluster)?;
    of::<Vec<DataFrame>>(cluster)?;
    of::<Series>(cluster)?;
    let _ = joins(&DataFrame::default());
    Ok(())
}

/// Methods of a trait that Polars compiles wherever they are called.
#[cfg(feature = "frames")]
fn joins(table: &DataFrame) -> PolarsResult<DataFrame> {
    table
        .inner_join(table, ["a"], ["a"])?
        .left_join(table, ["a"], ["a"])?
        .full_join(table, ["a"], ["a"])
}

fn blocked<D: Axes, L: Lengths<D>>(some: L) -> Result<()> {
    let x = Blocked::ones(some, some) + Blocked::zeros(some, some) * Blocked::random(some, some, 1);
    let y = (&x - Blocked::random_normal(some, some, 1)) / Blocked::full(some, some, 2.0);
    let z = (2.0 - &y * 2.0 + 1.0) / 2.0;
    let z = (-z).rechunk(some).persist()?;
    Blocked::from_array(&z.compute()?, some);
    let _ = (x.graph()?, x.bundle(), format!("{x:?}"), x.shape()?, x.n_bytes()?);
    let _ = (x.sum(), x.mean(), x.std(), x.min(), x.max());
    Ok(())
}

fn bag<T: TaskValue + Clone + PartialOrd>() -> Result<()> {
    let bag = Bag::<T>::from_items([], 1).persist()?;
    bag.collect()?;
    bag.take(5)?;
    let _ = (bag.count(), bag.min(), bag.max(), bag.repartition(2));
    let _ = (bag.graph()?, bag.bundle());
    Ok(())
}

fn words(words: Bag<String>) -> Result<()> {
    let counted = words.distinct().frequencies();
    counted.take(5)?;
    counted.collect()?;
    let _ = (counted.bundle(), counted.count());
    Ok(())
}

#[cfg(feature = "frames")]
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
