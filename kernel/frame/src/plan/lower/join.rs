//! Joins: by bringing rows with the same keys together, or a small side to each partition of the other.

use std::sync::Arc;

use polars::prelude::{DslPlan, Expr, InequalityOperator, JoinArgs, JoinType, PolarsError};
use polars_plan::{
    dsl::{JoinOptions, JoinTypeOptionsIR},
    plans::IR,
    prelude::Node,
};

use super::{
    super::{
        Feed, Kind, Slot,
        pipe::{Pipe, both},
        words::short_list,
    },
    Cut, Lowering, Stop, whole,
};

impl Lowering<'_> {
    /// What needs two frames as a whole.
    pub(super) fn two_in_one(
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

    pub(super) fn join(&mut self, node: Node) -> Cut<Pipe> {
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
        let (mut left_keys, mut right_keys) = (self.exprs(left_on), self.exprs(right_on));
        let (mut predicates, mut conditions) = (Vec::new(), Vec::new());
        match &options.options {
            None => {}
            Some(JoinTypeOptionsIR::CrossAndFilter { predicate }) => predicates.push(self.expr(predicate)),
            Some(JoinTypeOptionsIR::IEJoin(options)) => {
                let operators = [Some(options.operator1), options.operator2];
                if left_keys.len() != right_keys.len() {
                    return whole("it joins by a range");
                }
                // Polars makes this join of a cross join with conditions, in which columns of the right side that the left
                // one has too have other names.
                let schema = self.schema(*input_left);
                let renamed = |expr: Expr| {
                    expr.map_expr(|expr| match expr {
                        Expr::Column(name) if schema.contains(&name) => {
                            Expr::Column(format!("{name}{}", args.suffix()).into())
                        }
                        other => other,
                    })
                };
                for ((left, right), operator) in left_keys
                    .drain(..)
                    .zip(right_keys.drain(..))
                    .zip(operators.into_iter().flatten())
                {
                    let right = renamed(right);
                    conditions.push(match operator {
                        InequalityOperator::Lt => left.lt(right),
                        InequalityOperator::LtEq => left.lt_eq(right),
                        InequalityOperator::Gt => left.gt(right),
                        InequalityOperator::GtEq => left.gt_eq(right),
                    });
                }
                args.how = JoinType::Cross;
            }
        }
        let has_condition = !predicates.is_empty() || !conditions.is_empty();
        let mut left = self.lower(*input_left)?;
        let mut right = self.lower(*input_right)?;
        if matches!(args.how, JoinType::Semi | JoinType::Anti)
            && !left_keys.is_empty()
            && self.is_worth_reducing(&left, &right)
        {
            (left, right) = self.reduced(left, right, &args, &left_keys, &right_keys)?;
        }
        let join_options = Arc::new(JoinOptions {
            allow_parallel: true,
            force_parallel: false,
            args: args.clone(),
        });
        let word = if !conditions.is_empty() {
            format!("join where {}", short_list(&conditions))
        } else if left_keys.is_empty() {
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
                predicates: conditions,
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
            has_condition,
            &args.how,
            args.maintain_order,
            [keys_of_left, keys_of_right],
            word,
            step,
        )?;
        self.sliced_by(joined, slice)
    }

    /// Whether the right side of a semi or an anti join is small enough to go everywhere, and still so much larger than the
    /// left one that it is better to look there first for which of its rows are of use.
    fn is_worth_reducing(&self, left: &Pipe, right: &Pipe) -> bool {
        let most = self.limits.broadcast_bytes;
        let pays = right.n_bytes <= most && right.n_bytes >= self.limits.reduced_bytes;
        right.n > 1 && (self.limits.reduced_bytes < 0.0 || pays && left.n_bytes * 4.0 <= right.n_bytes)
    }

    /// The left side as it is, and of the right one the rows whose keys the left one has: they are found where they are, and
    /// each task then builds its table of keys of these alone.
    fn reduced(
        &mut self,
        left: Pipe,
        right: Pipe,
        args: &JoinArgs,
        left_keys: &[Expr],
        right_keys: &[Expr],
    ) -> Cut<(Pipe, Pipe)> {
        let why = "it is used twice: to find which rows of the right side are of use, and to join them";
        let (schema, n_bytes) = (left.schema()?, left.n_bytes);
        let feeds = self.closed.packed_partitions(left, why);
        let left = || Pipe::of(feeds.clone(), &schema, n_bytes, Kind::Join);
        let options = Arc::new(JoinOptions {
            allow_parallel: true,
            force_parallel: false,
            args: JoinArgs {
                how: JoinType::Semi,
                ..args.clone()
            },
        });
        let (left_on, right_on) = (right_keys.to_vec(), left_keys.to_vec());
        let word = format!("keep rows whose {} the left side has", short_list(right_keys));
        let step = move |input_left: Arc<DslPlan>, input_right: Arc<DslPlan>| DslPlan::Join {
            input_left,
            input_right,
            left_on,
            right_on,
            predicates: Vec::new(),
            options,
        };
        let mut right = self.broadcast(right, left(), true, word, step)?;
        right.n_bytes = n_bytes;
        Ok((left(), right))
    }

    /// Refuses what would take days or more memory than there is, and notes what is large.
    fn check_size(&mut self, left: &Pipe, right: &Pipe, has_condition: bool) -> Cut<()> {
        const REFUSED: f64 = 1e10;
        const NOTED: f64 = 1e8;
        let (n_left, n_right) = (left.n_rows()?, right.n_rows()?);
        let n = n_left * n_right;
        let text = format!("a cross join of about {n_left:.0} and {n_right:.0} rows has {n:.1e} rows");
        if n > REFUSED && !has_condition {
            return Err(Stop::Failed(PolarsError::ComputeError(
                format!("{text}: join on a column, or keep fewer rows of both first").into(),
            )));
        }
        if n > NOTED {
            self.closed.notes.push(text);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what a join is made of")]
    pub(super) fn joined(
        &mut self,
        left: Pipe,
        right: Pipe,
        has_condition: bool,
        how: &JoinType,
        order: polars::prelude::MaintainOrderJoin,
        [left_keys, right_keys]: [Vec<Expr>; 2],
        word: String,
        step: impl FnOnce(Arc<DslPlan>, Arc<DslPlan>) -> DslPlan,
    ) -> Cut<Pipe> {
        if left.n == 1 && right.n == 1 {
            return Ok(both(left, right, word, Kind::Join, step));
        }
        if left_keys.is_empty() && matches!(how, JoinType::Cross) {
            self.check_size(&left, &right, has_condition)?;
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
        if is_cross && !orders && left.n_bytes.min(right.n_bytes) > self.limits.one_task_bytes {
            return self.pairs(left, right, &word, step);
        }
        if keeps_left && (is_small(&right) || is_cross && right_is_better) {
            return self.broadcast(left, right, true, word, step);
        }
        if keeps_right && !orders && (is_small(&left) || is_cross) {
            return self.broadcast(left, right, false, word, step);
        }
        let keys = match how {
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
        let n_bytes = left.n_bytes.max(right.n_bytes);
        let n = self.limits.n_tasks(n_bytes, left.n.max(right.n));
        let why = format!("rows with the same {} must meet", short_list(&left_keys));
        let left = self.closed.shuffled(left, left_keys, n, &why, Kind::Join)?;
        let right = self.closed.shuffled(right, right_keys, n, &why, Kind::Join)?;
        Ok(both(left, right, word, Kind::Join, step))
    }

    /// Each partition of one side meets each of the other.
    fn pairs(
        &mut self,
        left: Pipe,
        right: Pipe,
        word: &str,
        step: impl FnOnce(Arc<DslPlan>, Arc<DslPlan>) -> DslPlan,
    ) -> Cut<Pipe> {
        let why = "each row must meet each of the other side";
        let (left_schema, left_bytes) = (left.schema()?, left.n_bytes);
        let (right_schema, right_bytes) = (right.schema()?, right.n_bytes);
        let left = self.closed.packed_partitions(left, why);
        let right = self.closed.packed_partitions(right, why);
        // Few and large pairs: each partition is read for each of the other side.
        let n_left = self.limits.n_tasks(left_bytes, left.len());
        let n_right = self.limits.n_full(right_bytes, right.len());
        let (left, right) = (together(&left, n_left), together(&right, n_right));
        let pairs = left
            .iter()
            .flat_map(|left| right.iter().map(move |right| (left.clone(), right.clone())));
        let (left, right) = pairs.unzip();
        let left = Pipe::of(left, &left_schema, left_bytes, Kind::Join);
        let right = Pipe::of(right, &right_schema, right_bytes, Kind::Join);
        let word = format!("{word}: each partition of one side with each of the other");
        // To take several together would be other pairs.
        let mut pipe = both(left, right, word, Kind::Join, step);
        pipe.may_be_packed = false;
        Ok(pipe)
    }

    /// One side goes whole to each partition of the other.
    pub(super) fn broadcast(
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
            *slot = Slot::Same(slot.at(0).clone());
        }
        small.n = n;
        let (left, right) = if is_right { (large, small) } else { (small, large) };
        Ok(both(left, right, word, Kind::Join, step))
    }
}

/// Neighbours together, so that there are so many.
fn together(feeds: &[Feed], n: usize) -> Vec<Feed> {
    let at = |i: usize| i * feeds.len() / n;
    (0..n).map(|i| feeds[at(i)..at(i + 1)].concat()).collect()
}
