//! Steps on rows: most take each by itself, some need all of them.

use std::sync::Arc;

use polars::prelude::{
    DataFrame, DataType, DslPlan, Expr, IntoLazy, JoinArgs, JoinType, MaintainOrderJoin, Operator,
    PlSmallStr, SchemaRef, by_name, col,
};
use polars_plan::{
    dsl::{HConcatOptions, JoinOptions, UnpivotArgsDSL},
    plans::{AExpr, DslFunction, FunctionIR, expr_ir::ExprIR, is_elementwise_rec},
    prelude::{Arena, Node, ProjectionOptions},
};

use super::{
    super::{
        Kind,
        aggregate::{decompose, names},
        pipe::{Pipe, row_bytes},
        windows::{OVER, keys_of_windows, windows},
        words::{short, short_list},
    },
    Cut, Lowering,
    group::{GROUPS, finish},
    whole,
};

/// What the groups of a window may take at most, if each row is one.
const MOST_GROUPS_BYTES: f64 = 512e6;

/// Which part of the rows a condition keeps: a guess, as databases without statistics make it.
fn share_kept(condition: &Expr) -> f64 {
    const LEAST: f64 = 0.01;
    let share = match condition {
        Expr::BinaryExpr { left, op, right } => match op {
            Operator::And | Operator::LogicalAnd => share_kept(left) * share_kept(right),
            Operator::Or | Operator::LogicalOr => (share_kept(left) + share_kept(right)).min(1.0),
            Operator::Eq => 0.1,
            Operator::NotEq => 0.9,
            // One end of a range; of two columns nothing is known.
            _ if matches!(**left, Expr::Literal(_)) || matches!(**right, Expr::Literal(_)) => 0.35,
            _ => 0.5,
        },
        _ => 0.5,
    };
    share.max(LEAST)
}

/// Without the columns that were added for a step alone.
fn only(pipe: Pipe, schema: &SchemaRef) -> Pipe {
    let mut pipe = pipe;
    pipe.plan = DslPlan::Select {
        expr: names(schema).into_iter().map(col).collect(),
        input: Arc::new(pipe.plan),
        options: ProjectionOptions::default(),
    };
    pipe
}

impl Lowering<'_> {
    pub(super) fn filter(&mut self, input: Node, predicate: &ExprIR) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let mut expr = self.expr(predicate);
        let mut before = None;
        if !is_elementwise_rec(predicate.node(), self.arena()) {
            let exprs = std::slice::from_ref(predicate);
            if let Some((with_groups, mut exprs)) = self.with_groups(&pipe, input, exprs)? {
                before = Some(self.schema(input));
                (pipe, expr) = (with_groups, exprs.remove(0));
            } else if let Some(keys) = keys_of_windows(exprs, self.arena()) {
                pipe = self.by_keys(pipe, keys, Kind::Window)?;
            } else {
                pipe = self
                    .closed
                    .gathered(pipe, "the condition looks at all rows", Kind::Rows)?;
            }
        }
        let pipe = pipe
            .then(
                format!("keep rows where {}", short(&self.expr(predicate))),
                |input| DslPlan::Filter {
                    input,
                    predicate: expr,
                },
            )
            .scaled(share_kept(&self.expr(predicate)));
        Ok(match before {
            Some(schema) => only(pipe, &schema),
            None => pipe,
        })
    }

    pub(super) fn select(&mut self, input: Node, exprs: &[ExprIR], options: ProjectionOptions) -> Cut<Pipe> {
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
        if let Some((pipe, exprs)) = self.with_groups(&pipe, input, exprs)? {
            return Ok(step(pipe, exprs, 1.0));
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

    pub(super) fn with_columns(
        &mut self,
        input: Node,
        exprs: &[ExprIR],
        options: ProjectionOptions,
        schema: &SchemaRef,
    ) -> Cut<Pipe> {
        let mut pipe = self.lower(input)?;
        let list = self.exprs(exprs);
        if pipe.n > 1 && !self.are_elementwise(exprs) {
            if let Some((pipe, exprs)) = self.with_groups(&pipe, input, exprs)? {
                let word = format!("add {}", short_list(&list));
                let pipe = pipe.then(word, |input| DslPlan::HStack {
                    input,
                    exprs,
                    options,
                });
                return Ok(only(pipe, schema));
            }
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

    /// The rows, each with what its group has for the expressions, where all of them are windows of aggregations that
    /// combine: the rows stay where they are, and the groups, which are few, come to them. `None` where that does not hold.
    fn with_groups(&mut self, pipe: &Pipe, input: Node, exprs: &[ExprIR]) -> Cut<Option<(Pipe, Vec<Expr>)>> {
        if pipe.n == 1 {
            return Ok(None);
        }
        let Some(windows) = windows(exprs, self.arena()) else {
            return Ok(None);
        };
        let schema = self.schema(input);
        let Some(parts) = decompose(&windows.of_groups, true, self.arena(), &schema) else {
            return Ok(None);
        };
        // Polars groups by structures and lists, but does not join by all of them.
        let is_nested = |name: &PlSmallStr| schema.get(name).is_none_or(DataType::is_nested);
        let is_taken = schema.iter_names().any(|name| name.starts_with(OVER));
        let is_twice = |at: usize| windows.key_names[..at].contains(&windows.key_names[at]);
        if is_taken || (0..windows.key_names.len()).any(is_twice) || windows.key_names.iter().any(is_nested) {
            return Ok(None);
        }
        let aggs = self.exprs(&windows.of_groups);
        // How many groups there are only the rows can tell. Few are guessed; many must still have room on each worker.
        let one = self.schema_of_groups(&schema, &windows.keys, &parts.partial)?;
        let most = pipe.n_rows()? * row_bytes(&one);
        let has_room = most <= MOST_GROUPS_BYTES && most <= self.limits.room / 8.0;
        if parts.partial.is_empty() || !has_room || most * GROUPS > 2.0 * self.limits.broadcast_bytes {
            return Ok(None);
        }
        let why = "its groups are needed for each of its rows";
        let rows = self.for_several(pipe.clone(), &schema, why);
        let keys = (windows.keys.clone(), windows.key_names);
        let groups = self.grouped(rows.clone(), &schema, keys, &aggs, parts, false)?;
        let mut args = JoinArgs::new(JoinType::Left);
        args.nulls_equal = true;
        args.maintain_order = MaintainOrderJoin::Left;
        let options = Arc::new(JoinOptions {
            allow_parallel: true,
            force_parallel: false,
            args,
        });
        let word = format!("the groups of {} for each row", short_list(&windows.keys));
        let left_on = windows.keys;
        let joined = self.broadcast(rows, groups, true, word, |input_left, input_right| {
            DslPlan::Join {
                input_left,
                input_right,
                right_on: left_on.clone(),
                left_on,
                predicates: Vec::new(),
                options,
            }
        })?;
        Ok(Some((joined.kind(Kind::Window), windows.exprs)))
    }

    fn schema_of_groups(&self, schema: &SchemaRef, keys: &[Expr], parts: &[Expr]) -> Cut<SchemaRef> {
        let empty = DataFrame::empty_with_schema(schema).lazy();
        Ok(empty.group_by(keys).agg(parts).collect_schema()?)
    }

    /// Rows with the same keys in one partition.
    pub(super) fn by_keys(&mut self, pipe: Pipe, keys: Vec<Expr>, kind: Kind) -> Cut<Pipe> {
        if pipe.n == 1 {
            return Ok(pipe);
        }
        let why = format!("rows with the same {} must meet", short_list(&keys));
        let n = self.limits.n_tasks(pipe.n_bytes, pipe.n);
        Ok(self.closed.shuffled(pipe, keys, n, &why, kind)?)
    }

    pub(super) fn union(&mut self, inputs: &[Node], node: Node) -> Cut<Pipe> {
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

    pub(super) fn side_by_side(&mut self, inputs: &[Node], options: HConcatOptions) -> Cut<Pipe> {
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
            n_bytes_read: n_bytes,
            may_be_packed: true,
            words: vec!["put frames side by side".to_string()],
            kind: Kind::Rows,
        })
    }

    pub(super) fn function(&mut self, input: Node, function: &FunctionIR) -> Cut<Pipe> {
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
