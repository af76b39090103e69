//! Cuts an optimised query into stages.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use polars::prelude::{
    DataFrame, DslPlan, Expr, JoinType, LazyFrame, PlSmallStr, PolarsResult, SchemaRef, SortMultipleOptions,
    UniqueKeepStrategy, by_name, col,
};
use polars_plan::{
    dsl::{DistinctOptionsDSL, HConcatOptions, JoinOptions, UnpivotArgsDSL},
    plans::{AExpr, DslFunction, FunctionIR, IR, IRPlan, expr_ir::ExprIR, is_elementwise_rec},
    prelude::{Arena, Node, ProjectionOptions, SinkTypeIR},
};

use super::{
    Feed, From, Kind, Order, Out, Stages,
    aggregate::{decompose, names},
    leaves::map_leaves,
    pipe::{Closed, Pipe, pieces},
    windows::keys_of_windows,
};
use crate::source::Source;

/// Partial results that are merged by one task.
const FAN_IN: usize = 16;

/// Up to where one task does the whole.
#[derive(Clone, Copy)]
struct Limits {
    /// A side of a join that is no larger goes whole to every partition of the other.
    broadcast_bytes: f64,
    /// So much is sorted, made unique or grouped in one task.
    one_task_bytes: f64,
}

static IS_EVERYTHING_LARGE: AtomicBool = AtomicBool::new(false);

impl Limits {
    fn get() -> Limits {
        if IS_EVERYTHING_LARGE.load(Ordering::Relaxed) {
            return Limits {
                broadcast_bytes: -1.0,
                one_task_bytes: -1.0,
            };
        }
        Limits {
            broadcast_bytes: 32e6,
            one_task_bytes: 64e6,
        }
    }
}

/// Plans as if all tables were too large for one task, for tests of what only large ones take.
#[doc(hidden)]
pub fn plan_as_if_large(is_so: bool) {
    IS_EVERYTHING_LARGE.store(is_so, Ordering::Relaxed);
}

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
) -> PolarsResult<Stages> {
    // A limit that was pushed into a leaf would be lost with it; limits are planned here.
    let plan = query.clone().with_slice_pushdown(false).to_alp_optimized()?;
    let mut lowering = Lowering {
        plan: &plan,
        leaf_of,
        sources,
        closed: Closed::default(),
        limits: Limits::get(),
        known: HashMap::new(),
    };
    // Polars' way back from its optimised expressions is not complete, and says so by a panic.
    let cut = catch_unwind(AssertUnwindSafe(|| lowering.result()))
        .unwrap_or_else(|_| whole("it has an expression that cannot be taken apart"));
    match cut {
        Ok(result) => Ok(Stages {
            stages: lowering.closed.0,
            result,
        }),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Whole(why)) => in_one_task(query, leaf_of, sources, &why),
    }
}

/// The query as it is, where all its rows are.
fn in_one_task(
    query: &LazyFrame,
    leaf_of: &dyn Fn(&DataFrame) -> usize,
    sources: &dyn Fn(usize) -> Arc<Source>,
    why: &str,
) -> PolarsResult<Stages> {
    let mut slots = Vec::new();
    let mut n_bytes = 0.0;
    let plan = map_leaves(&query.logical_plan, &mut |leaf| {
        if let DslPlan::DataFrameScan { df, schema } = leaf {
            let at = leaf_of(df);
            let source = sources(at);
            n_bytes += source.n_bytes as f64;
            slots.push(vec![
                (0..source.n_partitions())
                    .map(|part| From::Leaf { leaf: at, part })
                    .collect(),
            ]);
            return super::placeholder(schema);
        }
        leaf.clone()
    });
    let mut closed = Closed::default();
    let pipe = Pipe {
        plan,
        slots,
        n: 1,
        n_bytes,
        words: vec![format!("run the whole query in one task: {why}")],
        kind: Kind::Whole,
    };
    let result = closed.partitions(pipe, "it is the result");
    Ok(Stages {
        stages: closed.0,
        result,
    })
}

struct Lowering<'a> {
    plan: &'a IRPlan,
    leaf_of: &'a dyn Fn(&DataFrame) -> usize,
    sources: &'a dyn Fn(usize) -> Arc<Source>,
    closed: Closed,
    limits: Limits,
    /// Parts of the plan that are used more than once.
    known: HashMap<Node, Pipe>,
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
        if let Some(pipe) = self.known.get(&node) {
            return Ok(pipe.clone());
        }
        let pipe = self.lower_node(node)?;
        if let IR::Cache { .. } = self.plan.lp_arena.get(node) {
            self.known.insert(node, pipe.clone());
        }
        Ok(pipe)
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
                ..
            } => self.with_columns(*input, exprs, *options),
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
            IR::Cache { input, .. } => self.lower(*input),
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
        let pipe = Pipe::of(feeds, &source.schema, source.n_bytes_in_memory(), kind);
        Ok(match output {
            // Of no columns nothing would be left to count.
            Some(schema) if !schema.is_empty() => {
                narrowed(pipe, &source.schema, names(schema).into_iter().map(col).collect())
            }
            _ => pipe,
        })
    }

    fn filter(&mut self, input: Node, predicate: &ExprIR) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let expr = self.expr(predicate);
        if !is_elementwise_rec(predicate.node(), self.arena()) {
            if let Some(keys) = keys_of_windows(std::slice::from_ref(predicate), self.arena()) {
                pipe = self.by_keys(pipe, keys, Kind::Window)?;
            } else {
                pipe = self
                    .closed
                    .gathered(pipe, "the condition looks at all rows", Kind::Rows)?;
            }
        }
        Ok(pipe
            .then(format!("keep rows where {}", short(&expr)), |input| {
                DslPlan::Filter {
                    input,
                    predicate: expr,
                }
            })
            .scaled(0.5))
    }

    fn select(&mut self, input: Node, exprs: &[ExprIR], options: ProjectionOptions) -> Cut<Pipe> {
        let pipe = self.lower(input)?;
        let list = self.exprs(exprs);
        let step = |pipe: Pipe, list: Vec<Expr>, factor: f64| {
            pipe.then(format!("select {}", short_list(&list)), |input| DslPlan::Select {
                expr: list,
                input,
                options,
            })
            .scaled(factor)
        };
        if pipe.n == 1 || self.are_elementwise(exprs) && has_columns(exprs, self.arena()) {
            return Ok(step(pipe, list, 1.0));
        }
        let schema = self.schema(input);
        if let Some(parts) = decompose(exprs, false, self.arena(), &schema) {
            let partial = pipe
                .then(format!("aggregate: partial {}", short_list(&list)), |input| {
                    DslPlan::Select {
                        expr: parts.partial.clone(),
                        input,
                        options: ProjectionOptions::default(),
                    }
                })
                .kind(Kind::Partial)
                .scaled(0.0);
            let merge = |input: Arc<DslPlan>| DslPlan::Select {
                expr: parts.merge.clone(),
                input,
                options: ProjectionOptions::default(),
            };
            let merged = self.tree(partial, "merge partial results", &merge)?;
            return Ok(finish(merged, &[], &parts.finish, &parts.last));
        }
        if let Some(keys) = keys_of_windows(exprs, self.arena()) {
            let pipe = self.by_keys(pipe, keys, Kind::Window)?;
            return Ok(step(pipe, list, 1.0));
        }
        let pipe = self
            .closed
            .gathered(pipe, "the expressions look at all rows", Kind::Rows)?;
        Ok(step(pipe, list, 1.0))
    }

    fn with_columns(&mut self, input: Node, exprs: &[ExprIR], options: ProjectionOptions) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let list = self.exprs(exprs);
        if pipe.n > 1 && !self.are_elementwise(exprs) {
            pipe = match keys_of_windows(exprs, self.arena()) {
                Some(keys) => self.by_keys(pipe, keys, Kind::Window)?,
                None => self
                    .closed
                    .gathered(pipe, "the expressions look at all rows", Kind::Rows)?,
            };
        }
        Ok(
            pipe.then(format!("add {}", short_list(&list)), |input| DslPlan::HStack {
                input,
                exprs: list,
                options,
            }),
        )
    }

    /// Rows with the same keys in one partition.
    fn by_keys(&mut self, pipe: Pipe, keys: Vec<Expr>, kind: Kind) -> Cut<Pipe> {
        if pipe.n == 1 {
            return Ok(pipe);
        }
        let why = format!("rows with the same {} must meet", short_list(&keys));
        let n = pipe.n;
        Ok(self.closed.shuffled(pipe, keys, n, &why, kind)?)
    }

    fn group_by(&mut self, node: Node) -> Cut<Pipe> {
        let plan = self.plan;
        let IR::GroupBy {
            input,
            keys,
            aggs,
            maintain_order,
            options,
            apply,
            ..
        } = plan.lp_arena.get(node)
        else {
            unreachable!("invariant: asked for a group-by")
        };
        if apply.is_some() {
            return whole("it groups with a function of the program");
        }
        let (key_exprs, agg_exprs) = (self.exprs(keys), self.exprs(aggs));
        let pipe = self.lower(*input)?;
        let schema = self.schema(*input);
        let is_plain = options.dynamic.is_none() && options.rolling.is_none();
        let by_itself = |pipe: Pipe, kind: Kind| {
            let (keys, aggs) = (key_exprs.clone(), agg_exprs.clone());
            let word = format!("group by {}: {}", short_list(&keys), short_list(&aggs));
            pipe.kind(kind)
                .then(word, |input| DslPlan::GroupBy {
                    input,
                    keys,
                    predicates: Vec::new(),
                    aggs,
                    maintain_order: *maintain_order,
                    options: options.clone(),
                    apply: None,
                })
                .scaled(0.1)
        };
        if pipe.n == 1 {
            let kind = pipe.kind;
            return Ok(by_itself(
                pipe,
                if kind == Kind::Scan { kind } else { Kind::Group },
            ));
        }
        if !self.are_elementwise(keys) || options.slice.is_some() {
            let pipe = self
                .closed
                .gathered(pipe, "the keys look at all rows", Kind::Group)?;
            return Ok(by_itself(pipe, Kind::Group));
        }
        if !is_plain {
            if key_exprs.is_empty() {
                let pipe = self.closed.gathered(
                    pipe,
                    "windows over time reach beyond their partition",
                    Kind::Group,
                )?;
                return Ok(by_itself(pipe, Kind::Group));
            }
            let why = format!("rows with the same {} must meet", short_list(&key_exprs));
            let n = pipe.n;
            let pipe = self
                .closed
                .shuffled(pipe, key_exprs.clone(), n, &why, Kind::Group)?;
            return Ok(by_itself(pipe, Kind::Group));
        }
        let decomposed = decompose(aggs, true, self.arena(), &schema);
        let Some(parts) = decomposed else {
            if *maintain_order {
                let pipe = self
                    .closed
                    .gathered(pipe, "the groups keep their order", Kind::Group)?;
                return Ok(by_itself(pipe, Kind::Group));
            }
            let why = format!(
                "{} needs all rows of a group, so rows with the same {} must meet",
                short_list(&agg_exprs),
                short_list(&key_exprs)
            );
            let n = pipe.n;
            let pipe = self
                .closed
                .shuffled(pipe, key_exprs.clone(), n, &why, Kind::Group)?;
            return Ok(by_itself(pipe, Kind::Group));
        };
        let key_names: Vec<PlSmallStr> = keys.iter().map(|key| key.output_name().clone()).collect();
        let names: Vec<Expr> = key_names.iter().cloned().map(col).collect();
        let n_bytes = pipe.n_bytes;
        let grouped = |keys: Vec<Expr>, aggs: Vec<Expr>| {
            let maintain_order = *maintain_order;
            move |input: Arc<DslPlan>| DslPlan::GroupBy {
                input,
                keys: keys.clone(),
                predicates: Vec::new(),
                aggs: aggs.clone(),
                maintain_order,
                options: Arc::default(),
                apply: None,
            }
        };
        let word = format!(
            "group by {}: partial {}",
            short_list(&key_exprs),
            short_list(&agg_exprs)
        );
        let partial = pipe
            .then(word, grouped(key_exprs, parts.partial.clone()))
            .kind(Kind::Partial)
            .scaled(0.1);
        let merge = grouped(names.clone(), parts.merge.clone());
        let merged = if n_bytes <= self.limits.one_task_bytes * FAN_IN as f64 || *maintain_order {
            self.tree(partial, "merge partial results", &merge)?
        } else {
            // Many groups would not fit into one task.
            let n = ((n_bytes / 256e6).ceil() as usize).clamp(partial.n.min(2), partial.n);
            let why = format!("partial results of the same {} must meet", short_list(&names));
            self.closed
                .shuffled(partial, names.clone(), n, &why, Kind::Group)?
                .then("merge partial results".into(), &merge)
        };
        Ok(finish(merged, &names, &parts.finish, &parts.last))
    }

    /// Brings partitions together, so many at a time, and merges them on the way.
    fn tree(&mut self, mut pipe: Pipe, word: &str, merge: &dyn Fn(Arc<DslPlan>) -> DslPlan) -> Cut<Pipe> {
        loop {
            let (schema, n_bytes) = (pipe.schema()?, pipe.n_bytes);
            let feeds = self.closed.partitions(pipe, "partial results must meet");
            let feeds: Vec<Feed> = feeds.chunks(FAN_IN).map(<[Feed]>::concat).collect();
            pipe = Pipe::of(feeds, &schema, n_bytes, Kind::Group).then(word.to_string(), merge);
            if pipe.n == 1 {
                return Ok(pipe);
            }
        }
    }

    fn sort(
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
    fn by_ranges(&mut self, pipe: Pipe, order: Order) -> Cut<Pipe> {
        let (schema, n, n_bytes) = (pipe.schema()?, pipe.n, pipe.n_bytes);
        let feeds = self
            .closed
            .partitions(pipe, "samples of all partitions tell the bounds of ranges");
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

    fn slice(&mut self, input: Node, offset: i64, len: usize) -> Cut<Pipe> {
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

    fn sliced_by(&mut self, pipe: Pipe, slice: Option<(i64, usize)>) -> Cut<Pipe> {
        match slice {
            Some((offset, len)) => self.sliced(pipe, offset, len),
            None => Ok(pipe),
        }
    }

    fn sliced(&mut self, mut pipe: Pipe, offset: i64, len: usize) -> Cut<Pipe> {
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

    fn distinct(&mut self, input: Node, options: DistinctOptionsDSL) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let keys: Vec<Expr> = match &options.subset {
            Some(subset) => subset.clone(),
            None => names(&*self.schema(input)).into_iter().map(col).collect(),
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
                let n = pipe.n;
                self.closed
                    .shuffled(pipe, keys.clone(), n, "equal rows must meet", Kind::Unique)?
            };
        }
        Ok(unique(pipe))
    }

    fn union(&mut self, inputs: &[Node], node: Node) -> Cut<Pipe> {
        let (mut feeds, mut n_bytes) = (Vec::new(), 0.0);
        let mut kind = None;
        for input in inputs {
            let pipe = self.lower(*input)?;
            n_bytes += pipe.n_bytes;
            kind = Some(if kind.is_none_or(|kind| kind == pipe.kind) {
                pipe.kind
            } else {
                Kind::Rows
            });
            feeds.extend(
                self.closed
                    .partitions(pipe, "frames are put on top of each other"),
            );
        }
        let schema = self.schema(node);
        Ok(Pipe::of(feeds, &schema, n_bytes, kind.unwrap_or(Kind::Rows)))
    }

    fn side_by_side(&mut self, inputs: &[Node], options: HConcatOptions) -> Cut<Pipe> {
        let (mut plans, mut slots, mut n_bytes) = (Vec::new(), Vec::new(), 0.0);
        for input in inputs {
            let pipe = self.lower(*input)?;
            let pipe = self
                .closed
                .gathered(pipe, "frames are put side by side, row by row", Kind::Rows)?;
            n_bytes += pipe.n_bytes;
            plans.push(pipe.plan);
            slots.extend(pipe.slots);
        }
        Ok(Pipe {
            plan: DslPlan::HConcat {
                inputs: plans,
                options,
            },
            slots,
            n: 1,
            n_bytes,
            words: vec!["put frames side by side".to_string()],
            kind: Kind::Rows,
        })
    }

    fn function(&mut self, input: Node, function: &FunctionIR) -> Cut<Pipe> {
        let columns = |columns: &[PlSmallStr]| by_name(columns.iter().cloned(), true, false);
        let (word, function) = match function {
            FunctionIR::Rechunk | FunctionIR::Hint(_) => return self.lower(input),
            FunctionIR::Explode {
                columns: names,
                options,
                ..
            } => (
                format!("explode {}", names.join(", ")),
                DslFunction::Explode {
                    columns: columns(names),
                    options: *options,
                    allow_empty: true,
                },
            ),
            FunctionIR::Unnest {
                columns: names,
                separator,
            } => (
                format!("unnest {}", names.join(", ")),
                DslFunction::Unnest {
                    columns: columns(names),
                    separator: separator.clone(),
                },
            ),
            FunctionIR::Unpivot { args, .. } => (
                "unpivot".to_string(),
                DslFunction::Unpivot {
                    args: UnpivotArgsDSL {
                        on: Some(columns(&args.on)),
                        index: columns(&args.index),
                        variable_name: Some(args.variable_name.clone()),
                        value_name: Some(args.value_name.clone()),
                    },
                },
            ),
            FunctionIR::RowIndex { name, offset, .. } => {
                let pipe = self.lower(input)?;
                let pipe =
                    self.closed
                        .gathered(pipe, "rows are numbered through all partitions", Kind::Rows)?;
                let function = DslFunction::RowIndex {
                    name: name.clone(),
                    offset: *offset,
                };
                return Ok(pipe.then(format!("number the rows as {name}"), |input| {
                    DslPlan::MapFunction { input, function }
                }));
            }
            FunctionIR::Opaque { fmt_str, .. } => {
                return whole(&format!("it has a function of the program: {fmt_str}"));
            }
            FunctionIR::FastCount { .. } => return whole("it counts rows of files by itself"),
        };
        // Unpivot puts the columns on top of each other: another order in each partition than in all.
        let pipe = self.lower(input)?;
        Ok(pipe.then(word, |input| DslPlan::MapFunction { input, function }))
    }

    /// What needs two frames as a whole.
    fn two_in_one(
        &mut self,
        left: Node,
        right: Node,
        word: &str,
        step: impl FnOnce(Arc<DslPlan>, Arc<DslPlan>) -> DslPlan,
    ) -> Cut<Pipe> {
        let why = format!("to {word}, both must be there as a whole");
        let left = self.lower(left)?;
        let left = self.closed.gathered(left, &why, Kind::Rows)?;
        let right = self.lower(right)?;
        let right = self.closed.gathered(right, &why, Kind::Rows)?;
        Ok(both(left, right, word.to_string(), Kind::Rows, step))
    }

    fn join(&mut self, node: Node) -> Cut<Pipe> {
        let plan = self.plan;
        let IR::Join {
            input_left,
            input_right,
            left_on,
            right_on,
            options,
            ..
        } = plan.lp_arena.get(node)
        else {
            unreachable!("invariant: asked for a join")
        };
        let mut args = options.args.clone();
        let slice = args.slice.take();
        args.build_side = None;
        let predicates = match &options.options {
            None => Vec::new(),
            Some(polars_plan::dsl::JoinTypeOptionsIR::CrossAndFilter { predicate }) => {
                vec![self.expr(predicate)]
            }
            Some(_) => return whole("it joins by an inequality"),
        };
        let (left_keys, right_keys) = (self.exprs(left_on), self.exprs(right_on));
        let left = self.lower(*input_left)?;
        let right = self.lower(*input_right)?;
        let join_options = Arc::new(JoinOptions {
            allow_parallel: true,
            force_parallel: false,
            args: args.clone(),
        });
        let word = if left_keys.is_empty() {
            format!("{} join", args.how).to_lowercase()
        } else {
            format!("{} join on {}", args.how, short_list(&left_keys)).to_lowercase()
        };
        let (keys_of_left, keys_of_right) = (left_keys.clone(), right_keys.clone());
        let step = move |input_left: Arc<DslPlan>, input_right: Arc<DslPlan>| {
            let joined = DslPlan::Join {
                input_left,
                input_right,
                left_on: left_keys,
                right_on: right_keys,
                predicates: Vec::new(),
                options: join_options,
            };
            predicates
                .into_iter()
                .fold(joined, |input, predicate| DslPlan::Filter {
                    input: Arc::new(input),
                    predicate,
                })
        };
        let joined = self.joined(
            left,
            right,
            &args.how,
            args.maintain_order,
            [keys_of_left, keys_of_right],
            word,
            step,
        )?;
        self.sliced_by(joined, slice)
    }

    #[expect(clippy::too_many_arguments, reason = "what a join is made of")]
    fn joined(
        &mut self,
        left: Pipe,
        right: Pipe,
        how: &JoinType,
        order: polars::prelude::MaintainOrderJoin,
        [left_keys, right_keys]: [Vec<Expr>; 2],
        word: String,
        step: impl FnOnce(Arc<DslPlan>, Arc<DslPlan>) -> DslPlan,
    ) -> Cut<Pipe> {
        if left.n == 1 && right.n == 1 {
            return Ok(both(left, right, word, Kind::Join, step));
        }
        let is_small = |pipe: &Pipe| pipe.n_bytes <= self.limits.broadcast_bytes;
        let is_cross = left_keys.is_empty();
        let keeps_left = matches!(
            how,
            JoinType::Inner | JoinType::Left | JoinType::Semi | JoinType::Anti | JoinType::Cross
        );
        let keeps_right = matches!(how, JoinType::Inner | JoinType::Right | JoinType::Cross);
        let orders = order != polars::prelude::MaintainOrderJoin::None;
        let right_is_better = right.n_bytes <= left.n_bytes || left.n == 1;
        if keeps_left && (is_small(&right) || is_cross && right_is_better) {
            return self.broadcast(left, right, true, word, step);
        }
        if keeps_right && !orders && (is_small(&left) || is_cross) {
            return self.broadcast(left, right, false, word, step);
        }
        let keys = match how {
            JoinType::AsOf(options) => {
                options
                    .left_by
                    .as_ref()
                    .zip(options.right_by.as_ref())
                    .map(|(left, right)| {
                        let cols = |names: &[PlSmallStr]| names.iter().cloned().map(col).collect();
                        [cols(left), cols(right)]
                    })
            }
            JoinType::Inner
            | JoinType::Left
            | JoinType::Right
            | JoinType::Full
            | JoinType::Semi
            | JoinType::Anti
                if !is_cross && !orders =>
            {
                Some([left_keys, right_keys])
            }
            _ => None,
        };
        let Some([left_keys, right_keys]) = keys else {
            let why = "both sides must be there as a whole";
            let left = self.closed.gathered(left, why, Kind::Join)?;
            let right = self.closed.gathered(right, why, Kind::Join)?;
            return Ok(both(left, right, word, Kind::Join, step));
        };
        let n = left.n.max(right.n);
        let why = format!("rows with the same {} must meet", short_list(&left_keys));
        let left = self.closed.shuffled(left, left_keys, n, &why, Kind::Join)?;
        let right = self.closed.shuffled(right, right_keys, n, &why, Kind::Join)?;
        Ok(both(left, right, word, Kind::Join, step))
    }

    /// One side goes whole to each partition of the other.
    fn broadcast(
        &mut self,
        left: Pipe,
        right: Pipe,
        is_right: bool,
        word: String,
        step: impl FnOnce(Arc<DslPlan>, Arc<DslPlan>) -> DslPlan,
    ) -> Cut<Pipe> {
        let (small, large) = if is_right { (right, left) } else { (left, right) };
        let n = large.n;
        let why = format!(
            "it is small enough ({}) to go whole to each partition of the other side",
            skep_render::bytes(small.n_bytes as u64)
        );
        let word = format!(
            "{word}: the {} side goes to each partition",
            if is_right { "right" } else { "left" }
        );
        let mut small = self.closed.gathered(small, &why, Kind::Rows)?;
        if !small.words.is_empty() {
            // Made once, not once for each partition.
            let (schema, n_bytes) = (small.schema()?, small.n_bytes);
            let feeds = self.closed.partitions(small, &why);
            small = Pipe::of(feeds, &schema, n_bytes, Kind::Rows);
        }
        for slot in &mut small.slots {
            *slot = vec![slot[0].clone(); n];
        }
        small.n = n;
        let (left, right) = if is_right { (large, small) } else { (small, large) };
        Ok(both(left, right, word, Kind::Join, step))
    }
}

/// Two open stages as one.
fn both(
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
        words,
        kind,
    }
}

/// Aggregations from their merged parts, then what is made of them.
fn finish(pipe: Pipe, keys: &[Expr], aggs: &[Expr], last: &[Expr]) -> Pipe {
    let select = |list: Vec<Expr>| {
        move |input: Arc<DslPlan>| DslPlan::Select {
            expr: list,
            input,
            options: ProjectionOptions::default(),
        }
    };
    let names: Vec<String> = last.iter().map(name_of_result).collect();
    let word = format!("finish {}", names.join(", "));
    let mut pipe = pipe;
    pipe.plan = select([keys, aggs].concat())(Arc::new(pipe.plan));
    pipe.then(word, select([keys, last].concat()))
}

/// Fewer columns are fewer bytes.
fn narrowed(pipe: Pipe, before: &SchemaRef, columns: Vec<Expr>) -> Pipe {
    let share = columns.len() as f64 / before.len().max(1) as f64;
    let word = format!("columns {}", short_list(&columns));
    pipe.then(word, |input| DslPlan::Select {
        expr: columns,
        input,
        options: ProjectionOptions::default(),
    })
    .scaled(share.min(1.0))
}

/// Literals alone have one row, in each partition.
fn has_columns(exprs: &[ExprIR], arena: &Arena<AExpr>) -> bool {
    let mut stack: Vec<Node> = exprs.iter().map(ExprIR::node).collect();
    while let Some(node) = stack.pop() {
        let expr = arena.get(node);
        if matches!(expr, AExpr::Column(_)) {
            return true;
        }
        expr.inputs_rev(&mut stack);
    }
    false
}

/// Columns by their names alone. Longer ones are cut: a stage is a line.
fn short(expr: &Expr) -> String {
    let text = expr.to_string();
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("col(\"") {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 5..];
        match after.find("\")") {
            Some(end) => {
                plain.push_str(&after[..end]);
                rest = &after[end + 2..];
            }
            None => {
                rest = &rest[at..];
                break;
            }
        }
    }
    plain.push_str(rest);
    skep_render::text::cut(&plain, 60)
}

fn short_list(exprs: &[Expr]) -> String {
    const MOST: usize = 4;
    let mut texts: Vec<String> = exprs.iter().take(MOST).map(short).collect();
    if exprs.len() > MOST {
        texts.push(format!("and {} more", exprs.len() - MOST));
    }
    texts.join(", ")
}

/// The name under which an expression comes.
fn name_of_result(expr: &Expr) -> String {
    match expr {
        Expr::Alias(_, name) => name.to_string(),
        other => short(other),
    }
}

fn name_of(node: &IR) -> String {
    let text = format!("{node:?}");
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    format!("`{}`", &text[..end])
}
