//! Cuts an optimised query into stages.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use polars::prelude::{DataFrame, DslPlan, Expr, LazyFrame, OptFlags, PolarsResult, SchemaRef, col};
use polars_plan::{
    dsl::DistinctOptionsDSL,
    plans::{AExpr, IR, IRPlan, expr_ir::ExprIR, is_elementwise_rec},
    prelude::{Arena, Node, SinkTypeIR},
};

use super::{
    Feed, From, Kind, Limits, Out, Slot, Stages,
    aggregate::names,
    leaves::map_leaves,
    pipe::{Closed, Pipe, narrowed},
    words::name_of,
};
use crate::source::Source;

mod group;
mod join;
mod order;
mod rows;

/// Partial results that are merged by one task.
const FAN_IN: usize = 16;

/// Why a query, or a part of it, cannot be cut.
enum Stop {
    /// It runs whole.
    Whole(String),
    Failed(polars::prelude::PolarsError),
}

impl std::convert::From<polars::prelude::PolarsError> for Stop {
    fn from(error: polars::prelude::PolarsError) -> Stop {
        Stop::Failed(error)
    }
}

type Cut<T> = Result<T, Stop>;

fn whole<T>(why: &str) -> Cut<T> {
    Err(Stop::Whole(why.to_string()))
}

/// Plans a query. `leaf_of` tells the source that a leaf stands for, by the leaf's table.
///
/// # Errors
/// When Polars finds the query wrong.
pub(crate) fn lower(
    query: &LazyFrame,
    leaf_of: &dyn Fn(&DataFrame) -> usize,
    sources: &dyn Fn(usize) -> Arc<Source>,
    limits: Limits,
) -> PolarsResult<Stages> {
    // A limit that was pushed into a leaf would be lost with it; limits are planned here. And a leaf says of itself that it is in
    // order, as all columns of one value do, so that a sort by its first columns would be left out.
    let ours = OptFlags::SLICE_PUSHDOWN | OptFlags::SORT_COLLAPSE;
    let flags = query.get_current_optimizations() - ours;
    let plan = query.clone().with_optimizations(flags).to_alp_optimized()?;
    let mut lowering = Lowering {
        plan: &plan,
        leaf_of,
        sources,
        closed: Closed::new(limits),
        limits,
        known: HashMap::new(),
    };
    // Polars' way back from its optimised expressions is not complete, and says so by a panic.
    let cut = catch_unwind(AssertUnwindSafe(|| lowering.result()))
        .unwrap_or_else(|_| whole("it has an expression that cannot be taken apart"));
    match cut {
        Ok(result) => Ok(Stages {
            stages: lowering.closed.stages,
            result,
            notes: lowering.closed.notes,
        }),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Whole(why)) => in_one_task(query, leaf_of, sources, limits, &why),
    }
}

/// The query as it is, where all its rows are.
fn in_one_task(
    query: &LazyFrame,
    leaf_of: &dyn Fn(&DataFrame) -> usize,
    sources: &dyn Fn(usize) -> Arc<Source>,
    limits: Limits,
    why: &str,
) -> PolarsResult<Stages> {
    let mut slots = Vec::new();
    let mut n_bytes = 0.0;
    let plan = map_leaves(&query.logical_plan, &mut |leaf| {
        if let DslPlan::DataFrameScan { df, schema } = leaf {
            let at = leaf_of(df);
            let source = sources(at);
            n_bytes += source.n_bytes as f64;
            slots.push(Slot::Same(
                (0..source.n_partitions())
                    .map(|part| From::Leaf { leaf: at, part })
                    .collect(),
            ));
            return super::placeholder(schema);
        }
        leaf.clone()
    });
    let mut closed = Closed::new(limits);
    let pipe = Pipe {
        plan,
        slots,
        n: 1,
        n_bytes,
        n_bytes_read: n_bytes,
        may_be_packed: true,
        words: vec![format!("run the whole query in one task: {why}")],
        kind: Kind::Whole,
    };
    let result = closed.partitions(pipe, "it is the result");
    Ok(Stages {
        stages: closed.stages,
        result,
        notes: closed.notes,
    })
}

struct Lowering<'a> {
    plan: &'a IRPlan,
    leaf_of: &'a dyn Fn(&DataFrame) -> usize,
    sources: &'a dyn Fn(usize) -> Arc<Source>,
    closed: Closed,
    limits: Limits,
    /// Parts of the plan that are used more than once.
    known: HashMap<u128, Pipe>,
}

impl Lowering<'_> {
    fn result(&mut self) -> Cut<Vec<Feed>> {
        let pipe = self.lower(self.plan.lp_top)?;
        // Also rows that need nothing done to them are read by a task.
        if pipe.words.is_empty() {
            let n = pipe.n;
            let stage = self.closed.close(pipe, Out::Whole, "it is the result");
            return Ok((0..n).map(|part| vec![From::Task { stage, part }]).collect());
        }
        Ok(self.closed.partitions(pipe, "it is the result"))
    }

    fn exprs(&self, exprs: &[ExprIR]) -> Vec<Expr> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn expr(&self, expr: &ExprIR) -> Expr {
        expr.to_expr(self.arena())
    }

    fn arena(&self) -> &Arena<AExpr> {
        &self.plan.expr_arena
    }

    fn schema(&self, node: Node) -> SchemaRef {
        self.plan
            .lp_arena
            .get(node)
            .schema(&self.plan.lp_arena)
            .into_owned()
    }

    fn are_elementwise(&self, exprs: &[ExprIR]) -> bool {
        exprs
            .iter()
            .all(|expr| is_elementwise_rec(expr.node(), self.arena()))
    }

    fn lower(&mut self, node: Node) -> Cut<Pipe> {
        let plan = self.plan;
        let IR::Cache { input, id } = plan.lp_arena.get(node) else {
            return self.lower_node(node);
        };
        if let Some(pipe) = self.known.get(&id.as_u128()) {
            return Ok(pipe.clone());
        }
        let pipe = self.lower_node(*input)?;
        let pipe = self.for_several(pipe, &self.schema(*input), "it is used more than once");
        self.known.insert(id.as_u128(), pipe.clone());
        Ok(pipe)
    }

    /// What may be used more than once. Rows that are only read and chosen are so again, where they are needed: to keep them
    /// would take more.
    fn for_several(&mut self, pipe: Pipe, schema: &SchemaRef, why: &str) -> Pipe {
        if pipe.is_of_leaves() {
            return pipe;
        }
        let (n_bytes, kind) = (pipe.n_bytes, pipe.kind);
        let feeds = self.closed.partitions(pipe, why);
        Pipe::of(feeds, schema, n_bytes, kind)
    }

    fn lower_node(&mut self, node: Node) -> Cut<Pipe> {
        let plan = self.plan;
        match plan.lp_arena.get(node) {
            IR::DataFrameScan {
                df, output_schema, ..
            } => self.leaf(df, output_schema.as_ref()),
            IR::Filter { input, predicate } => self.filter(*input, predicate),
            IR::SimpleProjection { input, columns } => {
                let exprs: Vec<Expr> = names(columns).into_iter().map(col).collect();
                let pipe = self.lower(*input)?;
                Ok(narrowed(pipe, &self.schema(*input), exprs))
            }
            IR::Select {
                input, expr, options, ..
            } => self.select(*input, expr, *options),
            IR::HStack {
                input,
                exprs,
                options,
                schema,
            } => self.with_columns(*input, exprs, *options, schema),
            IR::GroupBy { .. } => self.group_by(node),
            IR::Join { .. } => self.join(node),
            IR::Sort {
                input,
                by_column,
                slice: None,
                sort_options,
            } => self.sort(*input, by_column, sort_options, None),
            IR::Sort { .. } => whole("a sort with a limit that Polars has put into it"),
            IR::Slice { input, offset, len } => self.slice(*input, *offset, *len as usize),
            IR::Distinct { input, options } => {
                let slice = options.slice;
                let options = DistinctOptionsDSL {
                    subset: options
                        .subset
                        .as_ref()
                        .map(|names| names.iter().cloned().map(col).collect()),
                    maintain_order: options.maintain_order,
                    keep_strategy: options.keep_strategy,
                };
                let pipe = self.distinct(*input, options)?;
                self.sliced_by(pipe, slice)
            }
            IR::Union { inputs, options } => {
                let slice = options.slice;
                let pipe = self.union(inputs, node)?;
                self.sliced_by(pipe, slice)
            }
            IR::HConcat { inputs, options, .. } => self.side_by_side(inputs, *options),
            IR::MapFunction { input, function } => self.function(*input, function),
            IR::Sink {
                input,
                payload: SinkTypeIR::Memory,
            } => self.lower(*input),
            IR::MergeSorted {
                input_left,
                input_right,
                key,
                maintain_order,
            } => {
                let (key, maintain_order) = (key.clone(), *maintain_order);
                self.two_in_one(
                    *input_left,
                    *input_right,
                    "merge two sorted frames",
                    |left, right| DslPlan::MergeSorted {
                        input_left: left,
                        input_right: right,
                        key,
                        maintain_order,
                    },
                )
            }
            IR::Gather {
                input,
                idxs,
                null_on_oob,
            } => {
                let null_on_oob = *null_on_oob;
                self.two_in_one(*input, *idxs, "gather rows by index", |input, idxs| {
                    DslPlan::Gather {
                        input,
                        idxs,
                        null_on_oob,
                    }
                })
            }
            IR::Scan { .. } => whole("it reads files by itself"),
            other => whole(&format!("there is no way yet to cut {}", name_of(other))),
        }
    }

    fn leaf(&mut self, df: &DataFrame, output: Option<&SchemaRef>) -> Cut<Pipe> {
        let leaf = (self.leaf_of)(df);
        let source = (self.sources)(leaf);
        let feeds = (0..source.n_partitions())
            .map(|part| vec![From::Leaf { leaf, part }])
            .collect();
        let kind = if source.is_read() { Kind::Scan } else { Kind::Rows };
        let mut pipe = Pipe::of(feeds, &source.schema, source.n_bytes_in_memory(), kind);
        if pipe.n >= 1_000 && source.is_read() && pipe.n_bytes < 1e6 * pipe.n as f64 {
            self.closed.notes.push(format!(
                "{} is in {} partitions of {} each: few and larger ones are read faster",
                source.name,
                pipe.n,
                skep_render::bytes((pipe.n_bytes / pipe.n as f64) as u64)
            ));
        }
        // Rows that are held are worked on where they are, but for very small partitions.
        pipe.may_be_packed = !source.is_held() || pipe.n_bytes < 4e6 * pipe.n as f64;
        Ok(match output {
            // Of no columns nothing would be left to count.
            Some(schema) if !schema.is_empty() => {
                narrowed(pipe, &source.schema, names(schema).into_iter().map(col).collect())
            }
            _ => pipe,
        })
    }
}
