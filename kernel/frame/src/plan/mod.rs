//! What a query becomes: stages of tasks.
//!
//! Polars parses, types and optimises the query; [`lower()`] cuts the optimised plan where rows must meet. A [`Stage`] is
//! one Polars plan that runs on each partition, over placeholders for what the partition is made of. Nothing here runs, and
//! nothing knows how: the planner is a function from plans to plans.

mod aggregate;
mod leaves;
mod lower;
mod pipe;
mod windows;
mod words;

use polars::prelude::{DslPlan, Expr};

pub(crate) use leaves::{map_leaves, mark_of, marked, placeholder};
pub(crate) use lower::lower;
pub use lower::plan_as_if_large;

/// Stages in the order in which they may run, and the partitions of the result.
#[derive(Debug)]
pub(crate) struct Stages {
    pub stages: Vec<Stage>,
    pub result: Vec<Feed>,
}

/// The same plan on each of `n` partitions.
#[derive(Debug)]
pub(crate) struct Stage {
    pub kind: Kind,
    /// Its leaves are placeholders, in the order of the slots.
    pub plan: DslPlan,
    pub slots: Vec<Slot>,
    pub n: usize,
    pub out: Out,
    /// What it does, in words, one line for each step.
    pub words: Vec<String>,
    /// Why it ends where it ends.
    pub why: String,
    /// Of its results together, as far as can be guessed.
    pub n_bytes: f64,
}

/// What tasks of a stage are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scan,
    Rows,
    Partial,
    Group,
    Join,
    Sort,
    Sample,
    Bounds,
    Shuffle,
    Unique,
    Window,
    Slice,
    Whole,
}

/// What a placeholder stands for, by partition of the stage.
pub(crate) type Slot = Vec<Feed>;

/// Where one partition's rows come from; several on top of each other, in order.
pub(crate) type Feed = Vec<From>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A partition of a source.
    Leaf { leaf: usize, part: usize },
    /// The result of a stage's task.
    Task { stage: usize, part: usize },
    /// One piece of it.
    Piece { stage: usize, part: usize, piece: usize },
}

/// What becomes of a task's rows.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Whole,
    /// Rows with equal keys into the same of `n` pieces.
    Hash {
        keys: Vec<Expr>,
        n: usize,
    },
    /// Some rows' places in the order, for choosing the bounds of ranges.
    Sample {
        order: Order,
    },
    /// The bounds of `n` ranges, from samples.
    Bounds {
        n: usize,
    },
    /// Rows between the same bounds into the same of `n` pieces.
    Range {
        order: Order,
        n: usize,
        bounds: From,
    },
}

/// An order of rows.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Order {
    pub by: Vec<Expr>,
    pub descending: Vec<bool>,
    pub nulls_last: Vec<bool>,
}
