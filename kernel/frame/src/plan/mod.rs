//! What a query becomes: stages of tasks.
//!
//! Polars parses, types and optimises the query; [`lower()`] cuts the optimised plan where rows must meet. A [`Stage`] is
//! one Polars plan that runs on each partition, over placeholders for what the partition is made of. Nothing here runs, and
//! nothing knows how: the planner is a function from plans to plans.

mod aggregate;
mod leaves;
mod limits;
mod lower;
mod pipe;
mod windows;
mod words;

use polars::prelude::{DslPlan, Expr};

pub(crate) use leaves::{map_leaves, mark_of, marked, placeholder};
pub(crate) use limits::Limits;
pub use limits::{AsIf, plan_as_if};
pub(crate) use lower::lower;

/// Stages in the order in which they may run, and the partitions of the result.
#[derive(Debug)]
pub(crate) struct Stages {
    pub stages: Vec<Stage>,
    pub result: Vec<Feed>,
    /// What may become trouble, in words.
    pub notes: Vec<String>,
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

impl Stage {
    /// What it does, in a line.
    pub fn in_short(&self) -> String {
        let kind = format!("{:?}", self.kind).to_lowercase();
        if self.words.is_empty() {
            return kind;
        }
        format!("{kind}: {}", self.words.join(", "))
    }
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

/// What a placeholder stands for.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// By partition of the stage.
    Each(Vec<Feed>),
    /// The same rows on every partition.
    Same(Feed),
}

impl Slot {
    pub fn at(&self, partition: usize) -> &Feed {
        match self {
            Slot::Each(feeds) => &feeds[partition],
            Slot::Same(feed) => feed,
        }
    }

    pub fn feeds(&self) -> &[Feed] {
        match self {
            Slot::Each(feeds) => feeds,
            Slot::Same(feed) => std::slice::from_ref(feed),
        }
    }
}

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
        /// What to do where partial results would be as many as the rows.
        unless: Option<Box<Ungrouped>>,
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

/// Rows as they are, in place of partial results, which would be as many.
#[derive(Clone, Debug)]
pub(crate) struct Ungrouped {
    /// The keys of some of the rows.
    pub probe: DslPlan,
    /// The partial results of each row.
    pub plan: DslPlan,
    /// Rows of a partition, as far as can be guessed.
    pub n_rows: f64,
    pub rows_per_group: f64,
}

/// An order of rows.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub by: Vec<Expr>,
    pub descending: Vec<bool>,
    pub nulls_last: Vec<bool>,
}
