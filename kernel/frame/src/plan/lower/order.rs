//! Orders, limits, and rows that come once.

use polars::prelude::{DslPlan, Expr, SortMultipleOptions, UniqueKeepStrategy, col};
use polars_plan::{
    dsl::DistinctOptionsDSL,
    plans::{IR, expr_ir::ExprIR},
    prelude::Node,
};

use super::{
    super::{
        From, Kind, Order, Out,
        aggregate::names,
        pipe::{Pipe, pieces},
        words::short_list,
    },
    Cut, Lowering,
};

impl Lowering<'_> {
    pub(super) fn sort(
        &mut self,
        input: Node,
        by: &[ExprIR],
        options: &SortMultipleOptions,
        most: Option<(i64, usize)>,
    ) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let exprs = self.exprs(by);
        let sorted = |pipe: Pipe| {
            let (by_column, sort_options) = (exprs.clone(), options.clone());
            let word = match most {
                Some((_, n)) => format!("the first {n} by {}", short_list(&exprs)),
                None => format!("sort by {}", short_list(&exprs)),
            };
            pipe.then(word, move |input| DslPlan::Sort {
                input,
                by_column,
                slice: most,
                sort_options,
            })
        };
        if pipe.n == 1 {
            return Ok(sorted(pipe));
        }
        if let Some((0, _)) = most {
            // The first rows of all are among the first of each.
            let pipe = sorted(pipe).scaled(0.01);
            let pipe = self
                .closed
                .gathered(pipe, "the first rows of all must meet", Kind::Sort)?;
            return Ok(sorted(pipe));
        }
        if pipe.n_bytes <= self.limits.one_task_bytes || !self.are_elementwise(by) || most.is_some() {
            pipe = self
                .closed
                .gathered(pipe, "all rows are put into order in one task", Kind::Sort)?;
            return Ok(sorted(pipe));
        }
        let spread = |flags: &[bool]| -> Vec<bool> {
            (0..exprs.len())
                .map(|i| *flags.get(i).or(flags.first()).unwrap_or(&false))
                .collect()
        };
        let order = Order {
            by: exprs.clone(),
            descending: spread(&options.descending),
            nulls_last: spread(&options.nulls_last),
        };
        Ok(sorted(self.by_ranges(pipe, order)?))
    }

    /// Rows in ranges of an order, range after range.
    pub(super) fn by_ranges(&mut self, pipe: Pipe, order: Order) -> Cut<Pipe> {
        let (schema, n_bytes) = (pipe.schema()?, pipe.n_bytes);
        let feeds = self
            .closed
            .packed_partitions(pipe, "samples of all partitions tell the bounds of ranges");
        let n = feeds.len();
        let sample = self.closed.close(
            Pipe::of(feeds.clone(), &schema, n_bytes * 0.01, Kind::Sample),
            Out::Sample { order: order.clone() },
            "bounds are chosen from all samples",
        );
        let samples = (0..n).map(|part| From::Task { stage: sample, part }).collect();
        let bounds = self.closed.close(
            Pipe::of(vec![samples], &Default::default(), 0.0, Kind::Bounds),
            Out::Bounds { n },
            "every partition is cut at the same bounds",
        );
        let cut = self.closed.close(
            Pipe::of(feeds, &schema, n_bytes, Kind::Shuffle),
            Out::Range {
                order,
                n,
                bounds: From::Task {
                    stage: bounds,
                    part: 0,
                },
            },
            "rows of the same range must meet",
        );
        Ok(Pipe::of(pieces(cut, n, n), &schema, n_bytes, Kind::Sort))
    }

    pub(super) fn slice(&mut self, input: Node, offset: i64, len: usize) -> Cut<Pipe> {
        let plan = self.plan;
        if let IR::Sort {
            input,
            by_column,
            slice: None,
            sort_options,
        } = plan.lp_arena.get(input)
            && offset == 0
        {
            return self.sort(*input, by_column, sort_options, Some((0, len)));
        }
        let pipe = self.lower(input)?;
        self.sliced(pipe, offset, len)
    }

    pub(super) fn sliced_by(&mut self, pipe: Pipe, slice: Option<(i64, usize)>) -> Cut<Pipe> {
        match slice {
            Some((offset, len)) => self.sliced(pipe, offset, len),
            None => Ok(pipe),
        }
    }

    pub(super) fn sliced(&mut self, mut pipe: Pipe, offset: i64, len: usize) -> Cut<Pipe> {
        let slice = |pipe: Pipe, offset: i64, len: usize| {
            let word = match offset {
                0 => format!("the first {len} rows"),
                _ if offset < 0 && len as u64 >= offset.unsigned_abs() => {
                    format!("the last {} rows", -offset)
                }
                _ => format!("{len} rows from {offset}"),
            };
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            pipe.then(word, move |input| DslPlan::Slice { input, offset, len })
        };
        if pipe.n > 1 {
            // What each partition can add to them.
            let most = if offset >= 0 {
                len.saturating_add(offset as usize)
            } else {
                offset.unsigned_abs() as usize
            };
            let from = if offset >= 0 { 0 } else { offset };
            pipe = slice(pipe, from, most).scaled(0.01);
            pipe = self.closed.gathered(
                pipe,
                "which rows these are is known when all are there",
                Kind::Slice,
            )?;
        }
        Ok(slice(pipe, offset, len))
    }

    pub(super) fn distinct(&mut self, input: Node, options: DistinctOptionsDSL) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let keys: Vec<Expr> = match &options.subset {
            Some(subset) => subset.clone(),
            None => names(&self.schema(input)).into_iter().map(col).collect(),
        };
        let unique = |pipe: Pipe| {
            let options = options.clone();
            let word = match &options.subset {
                Some(_) => format!("unique by {}", short_list(&keys)),
                None => "unique rows".to_string(),
            };
            pipe.then(word, move |input| DslPlan::Distinct { input, options })
        };
        if pipe.n > 1 {
            let n_bytes = pipe.n_bytes;
            // Rows that come twice in all may come once in each partition.
            if options.keep_strategy != UniqueKeepStrategy::None {
                pipe = unique(pipe).scaled(0.5);
            }
            pipe = if n_bytes <= self.limits.one_task_bytes || options.maintain_order || keys.is_empty() {
                self.closed.gathered(pipe, "equal rows must meet", Kind::Unique)?
            } else {
                let n = self.limits.n_tasks(n_bytes, pipe.n);
                self.closed
                    .shuffled(pipe, keys.clone(), n, "equal rows must meet", Kind::Unique)?
            };
        }
        Ok(unique(pipe))
    }
}
