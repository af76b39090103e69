//! Partitions under way through one stage.

use std::sync::Arc;

use polars::prelude::{DataType, DslPlan, Expr, LazyFrame, PolarsResult, SchemaRef};

use polars_plan::prelude::ProjectionOptions;

use super::{Feed, From, Kind, Limits, Out, Slot, Stage, Ungrouped, placeholder, words::short_list};

/// A stage that is open: what comes next on each partition joins it.
#[derive(Clone)]
pub(super) struct Pipe {
    pub plan: DslPlan,
    pub slots: Vec<Slot>,
    pub n: usize,
    /// Of all partitions together, as far as can be guessed.
    pub n_bytes: f64,
    /// Of the rows that its tasks begin with.
    pub n_bytes_read: f64,
    /// Rows that workers hold already are worked on where they are.
    pub may_be_packed: bool,
    pub words: Vec<String>,
    pub kind: Kind,
}

/// The stages that are closed.
pub(super) struct Closed {
    pub stages: Vec<Stage>,
    pub notes: Vec<String>,
    limits: Limits,
}

impl Pipe {
    /// Partitions as they are.
    pub fn of(feeds: Vec<Feed>, schema: &SchemaRef, n_bytes: f64, kind: Kind) -> Pipe {
        Pipe {
            plan: placeholder(schema),
            n: feeds.len(),
            slots: vec![Slot::Each(feeds)],
            n_bytes_read: n_bytes,
            may_be_packed: true,
            n_bytes,
            words: Vec::new(),
            kind,
        }
    }

    /// A step on each partition.
    pub fn then(mut self, word: String, step: impl FnOnce(Arc<DslPlan>) -> DslPlan) -> Pipe {
        self.plan = step(Arc::new(self.plan));
        self.words.push(word);
        self
    }

    pub fn kind(mut self, kind: Kind) -> Pipe {
        self.kind = kind;
        self
    }

    pub fn scaled(mut self, factor: f64) -> Pipe {
        self.n_bytes *= factor;
        self
    }

    pub fn schema(&self) -> PolarsResult<SchemaRef> {
        LazyFrame::from(self.plan.clone()).collect_schema()
    }

    /// Of all partitions together, as far as can be guessed.
    pub fn n_rows(&self) -> PolarsResult<f64> {
        Ok(self.n_bytes / row_bytes(&self.schema()?))
    }

    /// Whether it takes rows from sources alone, and not from stages.
    pub fn is_of_leaves(&self) -> bool {
        let mut feeds = self.slots.iter().flat_map(Slot::feeds).flatten();
        feeds.all(|from| matches!(from, From::Leaf { .. }))
    }

    /// Where its partitions are, if nothing is to be done to them.
    fn bare(&self) -> Option<&[Feed]> {
        match self.slots.as_slice() {
            [Slot::Each(feeds)]
                if self.words.is_empty() && matches!(self.plan, DslPlan::DataFrameScan { .. }) =>
            {
                Some(feeds)
            }
            _ => None,
        }
    }

    /// The same in fewer tasks, each of which takes neighbours together: what is done to partitions may be done to several at
    /// once, and what rows of several have in common is then found earlier.
    fn packed(mut self, limits: &Limits) -> Pipe {
        let n = limits.n_tasks(self.n_bytes_read, self.n);
        if n >= self.n || !self.may_be_packed {
            return self;
        }
        let at = |i: usize| i * self.n / n;
        for slot in &mut self.slots {
            if let Slot::Each(feeds) = slot {
                *feeds = (0..n).map(|i| feeds[at(i)..at(i + 1)].concat()).collect();
            }
        }
        self.n = n;
        self
    }
}

impl Closed {
    pub fn new(limits: Limits) -> Closed {
        Closed {
            stages: Vec::new(),
            notes: Vec::new(),
            limits,
        }
    }

    /// Ends a stage; its number.
    pub fn close(&mut self, pipe: Pipe, out: Out, why: &str) -> usize {
        self.stages.push(Stage {
            kind: pipe.kind,
            plan: pipe.plan,
            slots: pipe.slots,
            n: pipe.n,
            out,
            words: pipe.words,
            why: why.to_string(),
            n_bytes: pipe.n_bytes,
        });
        self.stages.len() - 1
    }

    /// The partitions, each made by a task of its own.
    pub fn partitions(&mut self, pipe: Pipe, why: &str) -> Vec<Feed> {
        if let Some(feeds) = pipe.bare() {
            return feeds.to_vec();
        }
        let n = pipe.n;
        let stage = self.close(pipe, Out::Whole, why);
        (0..n).map(|part| vec![From::Task { stage, part }]).collect()
    }

    /// As [`Closed::partitions`], of rows that meet others next: no task more than is of use.
    pub fn packed_partitions(&mut self, pipe: Pipe, why: &str) -> Vec<Feed> {
        if pipe.bare().is_some() {
            return self.partitions(pipe, why);
        }
        let pipe = pipe.packed(&self.limits);
        self.partitions(pipe, why)
    }

    /// The same rows in one partition.
    pub fn gathered(&mut self, pipe: Pipe, why: &str, kind: Kind) -> PolarsResult<Pipe> {
        if pipe.n == 1 {
            return Ok(pipe);
        }
        let (schema, n_bytes) = (pipe.schema()?, pipe.n_bytes);
        if n_bytes > self.limits.room {
            self.notes.push(format!(
                "about {} meet in one task ({why}), and a worker has {} for each of its threads",
                skep_render::bytes(n_bytes as u64),
                skep_render::bytes(self.limits.room as u64)
            ));
        }
        let feeds = self.packed_partitions(pipe, why);
        Ok(Pipe::of(vec![feeds.concat()], &schema, n_bytes, kind))
    }

    /// Partial results of groups, those of the same group together; `unless` is made for so many tasks.
    pub fn shuffled_groups(
        &mut self,
        pipe: Pipe,
        keys: Vec<Expr>,
        n: usize,
        why: &str,
        unless: impl FnOnce(usize) -> Ungrouped,
    ) -> PolarsResult<Pipe> {
        if n <= 1 {
            return self.gathered(pipe, why, Kind::Group);
        }
        let pipe = pipe.packed(&self.limits);
        let (schema, n_bytes, n_before) = (pipe.schema()?, pipe.n_bytes, pipe.n);
        let unless = Some(Box::new(unless(n_before)));
        let stage = self.close(pipe, Out::Hash { keys, n, unless }, why);
        Ok(Pipe::of(
            pieces(stage, n_before, n),
            &schema,
            n_bytes,
            Kind::Group,
        ))
    }

    /// The same rows, those with equal keys together.
    pub fn shuffled(
        &mut self,
        pipe: Pipe,
        keys: Vec<Expr>,
        n: usize,
        why: &str,
        kind: Kind,
    ) -> PolarsResult<Pipe> {
        if n <= 1 {
            return self.gathered(pipe, why, kind);
        }
        let pipe = pipe.packed(&self.limits);
        let (schema, n_bytes, n_before) = (pipe.schema()?, pipe.n_bytes, pipe.n);
        let stage = self.close(
            pipe,
            Out::Hash {
                keys,
                n,
                unless: None,
            },
            why,
        );
        Ok(Pipe::of(pieces(stage, n_before, n), &schema, n_bytes, kind))
    }
}

/// Bytes of a row, roughly.
pub(super) fn row_bytes(schema: &SchemaRef) -> f64 {
    let of = |dtype: &DataType| match dtype {
        DataType::Boolean | DataType::Int8 | DataType::UInt8 => 1.0,
        DataType::Int16 | DataType::UInt16 => 2.0,
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date => 4.0,
        DataType::String | DataType::Binary => 24.0,
        dtype if dtype.is_nested() => 64.0,
        _ => 8.0,
    };
    schema.iter_values().map(of).sum::<f64>().max(1.0)
}

/// Of each piece its parts, in the order of the partitions that they come from.
pub(super) fn pieces(stage: usize, n_parts: usize, n: usize) -> Vec<Feed> {
    (0..n)
        .map(|piece| {
            (0..n_parts)
                .map(|part| From::Piece { stage, part, piece })
                .collect()
        })
        .collect()
}

/// Two open stages as one.
pub(super) fn both(
    left: Pipe,
    right: Pipe,
    word: String,
    kind: Kind,
    step: impl FnOnce(Arc<DslPlan>, Arc<DslPlan>) -> DslPlan,
) -> Pipe {
    let mut words = left.words;
    words.extend(right.words);
    words.push(word);
    let mut slots = left.slots;
    slots.extend(right.slots);
    Pipe {
        plan: step(Arc::new(left.plan), Arc::new(right.plan)),
        slots,
        n: left.n,
        n_bytes: left.n_bytes.max(right.n_bytes),
        n_bytes_read: left.n_bytes_read + right.n_bytes_read,
        may_be_packed: left.may_be_packed && right.may_be_packed,
        words,
        kind,
    }
}

/// Fewer columns are fewer bytes.
pub(super) fn narrowed(pipe: Pipe, before: &SchemaRef, columns: Vec<Expr>) -> Pipe {
    let share = columns.len() as f64 / before.len().max(1) as f64;
    let word = format!("columns {}", short_list(&columns));
    let mut pipe = pipe;
    if pipe.words.is_empty() {
        // Others are not read at all.
        pipe.n_bytes_read *= share.min(1.0);
    }
    pipe.then(word, |input| DslPlan::Select {
        expr: columns,
        input,
        options: ProjectionOptions::default(),
    })
    .scaled(share.min(1.0))
}
