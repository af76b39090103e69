//! Functions of a program in frames: on each partition, and as a source of partitions.

use std::fmt::Display;

use polars::prelude::DataFrame;
use skep_cluster::{Cluster, Delayed, TaskFn, TaskValue};

use crate::{
    Error, Frame, Result,
    source::{Kind, Source},
    tasks::without_rows,
};

/// What a function on partitions returns: a table, or a table or an error.
pub trait Tabular {
    #[doc(hidden)]
    fn table(self) -> std::result::Result<DataFrame, String>;
}

impl Tabular for DataFrame {
    fn table(self) -> std::result::Result<DataFrame, String> {
        Ok(self)
    }
}

impl<E: Display> Tabular for std::result::Result<DataFrame, E> {
    fn table(self) -> std::result::Result<DataFrame, String> {
        self.map_err(|error| error.to_string())
    }
}

impl Frame {
    /// `f` of each partition, as a table. What columns come of it is found by trying it here, on a table without rows.
    ///
    /// ```no_run
    /// # use skep_frame::{Frame, polars::prelude::*};
    /// fn clean(part: DataFrame) -> PolarsResult<DataFrame> {
    ///     part.lazy().filter(col("x").is_not_null()).collect()
    /// }
    /// let frame = Frame::read_csv("data/*.csv")?.map_partitions(clean);
    /// # Ok::<(), skep_frame::Error>(())
    /// ```
    #[must_use]
    pub fn map_partitions<F, R, Kind>(&self, f: F) -> Frame
    where
        F: Fn(DataFrame) -> R + TaskFn<Kind, Delayed<DataFrame>, Output = DataFrame>,
        R: Tabular,
    {
        let tried = self.schema().and_then(|schema| {
            f(DataFrame::empty_with_schema(&schema))
                .table()
                .map_err(|error| no_columns(&error))
        });
        let mut parts = Vec::new();
        let delayed = self.delayed();
        for part in delayed.iter().flatten() {
            parts.push(Delayed::call(f, part.clone()));
        }
        let parts = numbered(parts);
        self.of_parts(
            "map_partitions",
            tried.and_then(|tried| delayed.map(|_| tried)),
            parts,
        )
    }

    fn of_parts(&self, name: &str, tried: Result<DataFrame>, parts: Vec<Delayed<DataFrame>>) -> Frame {
        let made = tried.map(|tried| {
            Frame::from_source(Source {
                name: name.to_string(),
                schema: tried.schema().clone(),
                n_bytes: 0,
                kind: Kind::Made(parts.into_iter().map(Into::into).collect()),
            })
        });
        self.replaced_by(made)
    }

    /// A frame whose partitions are `f` of each item. What columns there are is found by making the first one.
    ///
    /// ```no_run
    /// # use skep_frame::{Frame, polars::prelude::*};
    /// fn day(day: i64) -> PolarsResult<DataFrame> {
    ///     df!("day" => [day, day], "n" => [1, 2])
    /// }
    /// let frame = Frame::from_fn(0..30i64, day)?;
    /// # Ok::<(), skep_frame::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there are no items, no cluster, or the first partition cannot be made.
    pub fn from_fn<A, F, Kind>(items: impl IntoIterator<Item = A>, f: F) -> Result<Frame>
    where
        A: TaskValue + Clone,
        F: TaskFn<Kind, A, Output = DataFrame>,
    {
        let mut parts = Vec::new();
        for item in items {
            parts.push(Delayed::call(f, item));
        }
        made(numbered(parts))
    }
}

/// So that an error names the partition.
fn numbered(parts: Vec<Delayed<DataFrame>>) -> Vec<Delayed<DataFrame>> {
    let n = parts.len();
    (1..)
        .zip(parts)
        .map(|(i, part)| part.tag(format!("partition {i} of {n}")))
        .collect()
}

fn made(parts: Vec<Delayed<DataFrame>>) -> Result<Frame> {
    let first = parts.first().ok_or_else(|| {
        Error::Source(
            skep_render::Message::new("`from_fn` of no items has no columns")
                .hint("give it one item at least"),
        )
    })?;
    let cluster = Cluster::current()?;
    let head = cluster.compute(&Delayed::call(without_rows, first)).gather()?;
    Ok(Frame::from_source(Source {
        name: "a function".into(),
        schema: head.schema().clone(),
        n_bytes: 0,
        kind: Kind::Made(parts.into_iter().map(Into::into).collect()),
    }))
}

fn no_columns(error: &str) -> Error {
    Error::Schema(
        skep_render::Message::new(format!(
            "`map_partitions`: what columns its function makes was tried on a table without rows, and failed: {error}"
        ))
        .hint("let the function return a table with the same columns also for a table without rows"),
    )
}
