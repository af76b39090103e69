//! Groups: by partial results that are merged, or by bringing the rows of a group together.

use std::sync::Arc;

use polars::prelude::{DslPlan, Expr, PlSmallStr, SchemaRef, col};
use polars_plan::{
    plans::IR,
    prelude::{Node, ProjectionOptions},
};

use super::{
    super::{
        Feed, Kind, Ungrouped,
        aggregate::{Decomposed, decompose},
        pipe::{Pipe, row_bytes},
        words::{name_of_result, short_list},
    },
    Cut, FAN_IN, Lowering, whole,
};

impl Lowering<'_> {
    pub(super) fn group_by(&mut self, node: Node) -> Cut<Pipe> {
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
                .scaled(GROUPS)
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
            let n = self.limits.n_tasks(pipe.n_bytes, pipe.n);
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
            let n = self.limits.n_tasks(pipe.n_bytes, pipe.n);
            let pipe = self
                .closed
                .shuffled(pipe, key_exprs.clone(), n, &why, Kind::Group)?;
            return Ok(by_itself(pipe, Kind::Group));
        };
        let key_names = keys.iter().map(|key| key.output_name().clone()).collect();
        self.grouped(
            pipe,
            &schema,
            (key_exprs, key_names),
            &agg_exprs,
            parts,
            *maintain_order,
        )
    }

    /// Groups by partial results of each partition.
    pub(super) fn grouped(
        &mut self,
        pipe: Pipe,
        schema: &SchemaRef,
        (key_exprs, key_names): (Vec<Expr>, Vec<PlSmallStr>),
        agg_exprs: &[Expr],
        parts: Decomposed,
        maintain_order: bool,
    ) -> Cut<Pipe> {
        let names: Vec<Expr> = key_names.iter().cloned().map(col).collect();
        let n_bytes = pipe.n_bytes;
        let grouped = |keys: Vec<Expr>, aggs: Vec<Expr>| {
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
            short_list(agg_exprs)
        );
        let rows = pipe.clone();
        let partial = pipe
            .then(word, grouped(key_exprs.clone(), parts.partial.clone()))
            .kind(Kind::Partial)
            .scaled(GROUPS);
        let merge = grouped(names.clone(), parts.merge.clone());
        let merged = if n_bytes <= self.limits.one_task_bytes || maintain_order {
            self.tree(partial, "merge partial results", &merge)?
        } else {
            // How many groups there are only the rows can tell: one task could have too much to do.
            let n = self.limits.n_tasks(n_bytes / 4.0, partial.n);
            let why = format!("partial results of the same {} must meet", short_list(&names));
            let select = |expr: Vec<Expr>| DslPlan::Select {
                expr,
                input: Arc::new(rows.plan.clone()),
                options: ProjectionOptions::default(),
            };
            let unless = |n_tasks: usize| Ungrouped {
                probe: DslPlan::Slice {
                    input: Arc::new(select(key_exprs.clone())),
                    offset: 0,
                    len: PROBED,
                },
                plan: select([key_exprs.clone(), parts.each.clone()].concat()),
                rows_per_group: self.limits.rows_per_group,
                n_rows: n_bytes / row_bytes(schema) / n_tasks as f64,
            };
            self.closed
                .shuffled_groups(partial, names.clone(), n, &why, unless)?
                .then("merge partial results".into(), &merge)
        };
        Ok(finish(merged, &names, &parts.finish, &parts.last))
    }

    /// Brings partitions together, so many at a time, and merges them on the way.
    pub(super) fn tree(
        &mut self,
        mut pipe: Pipe,
        word: &str,
        merge: &dyn Fn(Arc<DslPlan>) -> DslPlan,
    ) -> Cut<Pipe> {
        loop {
            let (schema, n_bytes) = (pipe.schema()?, pipe.n_bytes);
            let feeds = self.closed.packed_partitions(pipe, "partial results must meet");
            let feeds: Vec<Feed> = feeds.chunks(FAN_IN).map(<[Feed]>::concat).collect();
            pipe = Pipe::of(feeds, &schema, n_bytes, Kind::Group).then(word.to_string(), merge);
            if pipe.n == 1 {
                return Ok(pipe);
            }
        }
    }
}

/// Groups, as a share of the rows, where nobody knows.
pub(super) const GROUPS: f64 = 0.1;

/// Rows whose keys tell how many groups there are.
const PROBED: u32 = 32_768;

/// Aggregations from their merged parts, then what is made of them.
pub(super) fn finish(pipe: Pipe, keys: &[Expr], aggs: &[Expr], last: &[Expr]) -> Pipe {
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
