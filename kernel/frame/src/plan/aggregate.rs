//! Aggregations as partial results that combine: each partition is reduced alone, the results are merged in a tree.

use std::collections::HashMap;

use polars::prelude::{
    DataFrame, DataType, Expr, IntoLazy, NULL, PlSmallStr, Schema, SchemaRef, col, len, lit, when,
};
use polars_plan::{
    plans::{AExpr, IRAggExpr, expr_ir::ExprIR, is_elementwise, is_elementwise_rec, node_to_expr},
    prelude::{Arena, Node},
};

/// Expressions for each partition, for merging partial results (any number of times), and for what people asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Decomposed {
    pub partial: Vec<Expr>,
    pub merge: Vec<Expr>,
    /// The aggregations by themselves.
    pub finish: Vec<Expr>,
    /// What is made of them.
    pub last: Vec<Expr>,
}

/// Takes aggregations apart; `None` if one of them needs all rows of its group at once.
pub(super) fn decompose(
    exprs: &[ExprIR],
    has_keys: bool,
    arena: &Arena<AExpr>,
    input: &SchemaRef,
) -> Option<Decomposed> {
    let mut taker = Taker {
        out: Decomposed::default(),
        replaced: arena.clone(),
        arena,
        input,
        has_keys,
        known: HashMap::new(),
    };
    for expr in exprs {
        taker.walk(expr.node())?;
    }
    let mut out = taker.out;
    for expr in exprs {
        let last = node_to_expr(expr.node(), &taker.replaced).alias(expr.output_name().clone());
        out.last.push(last);
    }
    Some(out)
}

struct Taker<'a> {
    out: Decomposed,
    arena: &'a Arena<AExpr>,
    /// The same expressions, whose aggregations are columns.
    replaced: Arena<AExpr>,
    input: &'a SchemaRef,
    has_keys: bool,
    known: HashMap<Node, ()>,
}

impl Taker<'_> {
    fn walk(&mut self, node: Node) -> Option<()> {
        if self.known.contains_key(&node) {
            return Some(());
        }
        let expr = self.arena.get(node);
        let name = PlSmallStr::from(format!("__agg{}", self.known.len()));
        match expr {
            AExpr::Len => {
                self.same(&name, len(), Expr::sum);
                self.replace(node, name)
            }
            AExpr::Agg(agg) => {
                self.agg(&name, node, agg)?;
                self.replace(node, name)
            }
            // Beside aggregations it would be a list, or be made as long as the group.
            AExpr::Column(_) => None,
            other => {
                let mut children = Default::default();
                if !is_elementwise(&mut children, other, self.arena) {
                    return None;
                }
                children.into_iter().try_for_each(|child| self.walk(child))
            }
        }
    }

    fn replace(&mut self, node: Node, name: PlSmallStr) -> Option<()> {
        self.known.insert(node, ());
        self.replaced.replace(node, AExpr::Column(name));
        Some(())
    }

    fn agg(&mut self, name: &PlSmallStr, node: Node, agg: &IRAggExpr) -> Option<()> {
        let whole = || node_to_expr(node, self.arena);
        match agg {
            IRAggExpr::Sum(input) if self.is_of_rows(*input) => self.same(name, whole(), Expr::sum),
            IRAggExpr::Count { input, .. } if self.is_of_rows(*input) => self.same(name, whole(), Expr::sum),
            IRAggExpr::Min {
                input,
                propagate_nans: false,
            } if self.is_of_rows(*input) => self.same(name, whole(), Expr::min),
            IRAggExpr::Max {
                input,
                propagate_nans: false,
            } if self.is_of_rows(*input) => self.same(name, whole(), Expr::max),
            // Without keys an empty partition would give a first value, of nothing.
            IRAggExpr::First(input) if self.has_keys && is_elementwise_rec(*input, self.arena) => {
                self.same(name, whole(), Expr::first)
            }
            IRAggExpr::Last(input) if self.has_keys && is_elementwise_rec(*input, self.arena) => {
                self.same(name, whole(), Expr::last)
            }
            IRAggExpr::Mean(input) if self.is_number(*input) => {
                let dtype = self.dtype(whole())?;
                self.mean(name, node_to_expr(*input, self.arena), dtype);
            }
            IRAggExpr::Var(input, ddof) if self.is_number(*input) => {
                let dtype = self.dtype(whole())?;
                self.variance(name, node_to_expr(*input, self.arena), *ddof, false, dtype);
            }
            IRAggExpr::Std(input, ddof) if self.is_number(*input) => {
                let dtype = self.dtype(whole())?;
                self.variance(name, node_to_expr(*input, self.arena), *ddof, true, dtype);
            }
            _ => return None,
        }
        Some(())
    }

    /// Row by row, of all rows or of some that are chosen row by row.
    fn is_of_rows(&self, node: Node) -> bool {
        match self.arena.get(node) {
            AExpr::Filter { input, by } => {
                is_elementwise_rec(*input, self.arena) && is_elementwise_rec(*by, self.arena)
            }
            // A literal by itself has one row, however many there are.
            AExpr::Literal(_) => false,
            _ => is_elementwise_rec(node, self.arena),
        }
    }

    fn is_number(&self, node: Node) -> bool {
        let is_so = |dtype: DataType| dtype.is_primitive_numeric() || dtype == DataType::Boolean;
        self.is_of_rows(node) && self.dtype(node_to_expr(node, self.arena)).is_some_and(is_so)
    }

    fn dtype(&self, expr: Expr) -> Option<DataType> {
        let schema = DataFrame::empty_with_schema(self.input)
            .lazy()
            .select([expr.alias("x")])
            .collect_schema()
            .ok()?;
        schema.get("x").cloned()
    }

    fn same(&mut self, name: &PlSmallStr, partial: Expr, merge: fn(Expr) -> Expr) {
        // Sums of small integers are wider than these, and are summed again: the type must not change on the way.
        let dtype = self.dtype(partial.clone());
        let merged = merge(col(name.clone()));
        let merged = match dtype {
            Some(dtype) => merged.cast(dtype),
            None => merged,
        };
        self.out.partial.push(partial.alias(name.clone()));
        self.out.merge.push(merged.alias(name.clone()));
        self.out.finish.push(col(name.clone()));
    }

    fn mean(&mut self, name: &PlSmallStr, input: Expr, dtype: DataType) {
        let part = |what: &str| PlSmallStr::from(format!("{name}_{what}"));
        let sum = || col(part("sum"));
        let n = || col(part("n"));
        self.out
            .partial
            .push(input.clone().cast(DataType::Float64).sum().alias(part("sum")));
        self.out.partial.push(input.count().alias(part("n")));
        self.out
            .merge
            .extend([sum().sum().alias(part("sum")), n().sum().alias(part("n"))]);
        let mean = when(n().gt(lit(0))).then(sum() / n()).otherwise(lit(NULL));
        self.out.finish.push(mean.cast(dtype).alias(name.clone()));
    }

    /// Count, mean and sum of squared distances from the mean, merged by Chan's formula: stable where sums of squares are not.
    fn variance(&mut self, name: &PlSmallStr, input: Expr, ddof: u8, is_std: bool, dtype: DataType) {
        let part = |what: &str| PlSmallStr::from(format!("{name}_{what}"));
        let value = input.cast(DataType::Float64);
        self.out.partial.extend([
            value.clone().count().cast(DataType::Float64).alias(part("n")),
            value.clone().mean().fill_null(lit(0.0)).alias(part("mean")),
            (value.clone().var(0).fill_null(lit(0.0)) * value.count()).alias(part("m2")),
        ]);
        let (n, mean, m2) = (|| col(part("n")), || col(part("mean")), || col(part("m2")));
        let total = || n().sum();
        let whole_mean = || {
            when(total().gt(lit(0.0)))
                .then((n() * mean()).sum() / total())
                .otherwise(lit(0.0))
        };
        let distance = mean() - whole_mean();
        self.out.merge.extend([
            total().alias(part("n")),
            whole_mean().alias(part("mean")),
            (m2() + n() * distance.clone() * distance).sum().alias(part("m2")),
        ]);
        let variance = when(n().gt(lit(f64::from(ddof))))
            .then(m2() / (n() - lit(f64::from(ddof))))
            .otherwise(lit(NULL));
        let value = if is_std {
            variance.cast(DataType::Float64).sqrt()
        } else {
            variance
        };
        self.out.finish.push(value.cast(dtype).alias(name.clone()));
    }
}

/// The types of columns, by name, of a plan over rows like these.
pub(super) fn names(schema: &Schema) -> Vec<PlSmallStr> {
    schema.iter_names().cloned().collect()
}
