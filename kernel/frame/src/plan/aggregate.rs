//! Aggregations as partial results that combine: each partition is reduced alone, the results are merged in a tree.

use std::collections::HashMap;

use polars::prelude::{
    DataFrame, DataType, Expr, IntoLazy, NULL, PlSmallStr, Schema, SchemaRef, col, cov, len, lit, when,
};
use polars_plan::{
    plans::{
        AExpr, IRAggExpr, IRCorrelationMethod, IRFunctionExpr, expr_ir::ExprIR, is_elementwise,
        is_elementwise_rec, node_to_expr,
    },
    prelude::{Arena, Node},
};

/// Expressions for each partition, for merging partial results (any number of times), and for what people asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Decomposed {
    pub partial: Vec<Expr>,
    /// The partial results of one row alone, for where most groups have one.
    pub each: Vec<Expr>,
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
                self.same(&name, len(), lit(1), Expr::sum);
                self.replace(node, name)
            }
            AExpr::Agg(agg) => {
                self.agg(&name, node, agg)?;
                self.replace(node, name)
            }
            AExpr::Function {
                input,
                function: IRFunctionExpr::NullCount,
                ..
            } if self.is_of_rows(input[0].node()) && !self.is_chosen(input[0].node()) => {
                let each = self.of_one_row(input[0].node()).is_null();
                self.same(&name, node_to_expr(node, self.arena), each, Expr::sum);
                self.replace(node, name)
            }
            AExpr::Function { .. } if self.pair(&name, node)? => self.replace(node, name),
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
            IRAggExpr::Sum(input) if self.is_of_rows(*input) => {
                self.same(name, whole(), self.of_one_row(*input), Expr::sum);
            }
            IRAggExpr::Count { input, include_nulls } if self.is_of_rows(*input) => {
                self.same(
                    name,
                    whole(),
                    self.count_of_one_row(*input, *include_nulls),
                    Expr::sum,
                );
            }
            IRAggExpr::Min {
                input,
                propagate_nans: false,
            } if self.is_of_rows(*input) => self.same(name, whole(), self.of_one_row(*input), Expr::min),
            IRAggExpr::Max {
                input,
                propagate_nans: false,
            } if self.is_of_rows(*input) => self.same(name, whole(), self.of_one_row(*input), Expr::max),
            // Without keys an empty partition would give a first value, of nothing.
            IRAggExpr::First(input) if self.has_keys && is_elementwise_rec(*input, self.arena) => {
                self.same(name, whole(), self.of_one_row(*input), Expr::first);
            }
            IRAggExpr::Last(input) if self.has_keys && is_elementwise_rec(*input, self.arena) => {
                self.same(name, whole(), self.of_one_row(*input), Expr::last);
            }
            IRAggExpr::Mean(input) if self.is_number(*input) => {
                let dtype = self.dtype(whole())?;
                self.mean(name, *input, dtype);
            }
            IRAggExpr::Var(input, ddof) if self.is_number(*input) => {
                let dtype = self.dtype(whole())?;
                self.variance(name, *input, *ddof, false, dtype);
            }
            IRAggExpr::Std(input, ddof) if self.is_number(*input) => {
                let dtype = self.dtype(whole())?;
                self.variance(name, *input, *ddof, true, dtype);
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether it is a function of two columns that has parts that combine.
    fn pair(&mut self, name: &PlSmallStr, node: Node) -> Option<bool> {
        let AExpr::Function {
            input,
            function: IRFunctionExpr::Correlation { method },
            ..
        } = self.arena.get(node)
        else {
            return Some(false);
        };
        let ddof = match method {
            IRCorrelationMethod::Pearson => None,
            IRCorrelationMethod::Covariance(ddof) => Some(*ddof),
            IRCorrelationMethod::SpearmanRank(_) => return None,
        };
        let [x, y] = input.as_slice() else { return None };
        let inputs = [x.node(), y.node()];
        let are_plain = |node: &Node| self.is_number(*node) && is_elementwise_rec(*node, self.arena);
        if !inputs.iter().all(are_plain) {
            return None;
        }
        let dtype = self.dtype(node_to_expr(node, self.arena))?;
        self.correlation(name, inputs, ddof, dtype);
        Some(true)
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

    /// Rows that a condition keeps: of one row alone, what is not kept is null.
    fn is_chosen(&self, node: Node) -> bool {
        matches!(self.arena.get(node), AExpr::Filter { .. })
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

    /// One column of partial results: how a partition makes it, what it is of one row alone, and how several become one.
    fn part(&mut self, name: PlSmallStr, partial: Expr, each: Expr, merge: impl FnOnce(Expr) -> Expr) {
        // Sums of small integers are wider than these, and are summed again: the type must not change on the way.
        let dtype = self.dtype(partial.clone());
        let cast = |expr: Expr| match &dtype {
            Some(dtype) => expr.cast(dtype.clone()),
            None => expr,
        };
        let merged = cast(merge(col(name.clone())));
        self.out.each.push(cast(each).alias(name.clone()));
        self.out.partial.push(partial.alias(name.clone()));
        self.out.merge.push(merged.alias(name));
    }

    fn same(&mut self, name: &PlSmallStr, partial: Expr, each: Expr, merge: fn(Expr) -> Expr) {
        self.part(name.clone(), partial, each, merge);
        self.out.finish.push(col(name.clone()));
    }

    /// The input of an aggregation, of one row: null where the row is not chosen.
    fn of_one_row(&self, node: Node) -> Expr {
        match self.arena.get(node) {
            AExpr::Filter { input, by } => when(node_to_expr(*by, self.arena))
                .then(node_to_expr(*input, self.arena))
                .otherwise(lit(NULL)),
            _ => node_to_expr(node, self.arena),
        }
    }

    /// Whether a row is counted.
    fn count_of_one_row(&self, node: Node, includes_nulls: bool) -> Expr {
        match self.arena.get(node) {
            AExpr::Filter { by, .. } if includes_nulls => {
                when(node_to_expr(*by, self.arena)).then(lit(1)).otherwise(lit(0))
            }
            _ if includes_nulls => lit(1),
            _ => self.of_one_row(node).is_not_null(),
        }
    }

    fn mean(&mut self, name: &PlSmallStr, input: Node, dtype: DataType) {
        let (sum, n) = (named(name, "sum"), named(name, "n"));
        let (rows, row) = (node_to_expr(input, self.arena), self.of_one_row(input));
        let total = rows.clone().cast(DataType::Float64).sum();
        self.part(sum.clone(), total, row.clone(), Expr::sum);
        self.part(n.clone(), rows.count(), row.is_not_null(), Expr::sum);
        let mean = when(col(n.clone()).gt(lit(0)))
            .then(col(sum) / col(n))
            .otherwise(lit(NULL));
        self.out.finish.push(mean.cast(dtype).alias(name.clone()));
    }

    /// Count, mean and sum of squared distances from the mean, merged by Chan's formula: stable where sums of squares are not.
    fn variance(&mut self, name: &PlSmallStr, input: Node, ddof: u8, is_std: bool, dtype: DataType) {
        let (n, mean, m2) = (named(name, "n"), named(name, "mean"), named(name, "m2"));
        let value = node_to_expr(input, self.arena).cast(DataType::Float64);
        let row = self.of_one_row(input).cast(DataType::Float64);
        self.moments(&n, &[(&mean, &value, &row)]);
        self.products(
            &n,
            &m2,
            [&mean, &mean],
            [&row, &row],
            value.clone().var(0) * value.count(),
        );
        let (n, m2) = (|| col(n.clone()), || col(m2.clone()));
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

    /// Covariance or Pearson's correlation of the rows that have both, by the same formula.
    fn correlation(&mut self, name: &PlSmallStr, inputs: [Node; 2], ddof: Option<u8>, dtype: DataType) {
        let n = named(name, "n");
        let [x, y] = inputs.map(|input| node_to_expr(input, self.arena).cast(DataType::Float64));
        let both = |value: &Expr, other: &Expr| {
            when(other.clone().is_not_null())
                .then(value.clone())
                .otherwise(lit(NULL))
        };
        let (x, y) = (both(&x, &y), both(&y, &x));
        let (mean_x, mean_y) = (named(name, "mean_x"), named(name, "mean_y"));
        let product = named(name, "xy");
        self.moments(&n, &[(&mean_x, &x, &x), (&mean_y, &y, &y)]);
        let count = || x.clone().count();
        let together = when(count().gt(lit(0)))
            .then(cov(x.clone(), y.clone(), 0) * count())
            .otherwise(lit(0.0));
        self.products(&n, &product, [&mean_x, &mean_y], [&x, &y], together);
        let (count, product) = (|| col(n.clone()), || col(product.clone()));
        let value = match ddof {
            Some(ddof) => when(count().gt(lit(f64::from(ddof))))
                .then(product() / (count() - lit(f64::from(ddof))))
                .otherwise(lit(NULL)),
            None => {
                let mut squares = Vec::new();
                for (what, mean, value) in [("xx", &mean_x, &x), ("yy", &mean_y, &y)] {
                    let square = named(name, what);
                    let total = value.clone().var(0) * value.clone().count();
                    self.products(&n, &square, [mean, mean], [value, value], total);
                    squares.push(col(square));
                }
                let length = squares.into_iter().map(Expr::sqrt).reduce(|a, b| a * b);
                product() / length.unwrap_or_else(|| lit(f64::NAN))
            }
        };
        self.out.finish.push(value.cast(dtype).alias(name.clone()));
    }

    /// How many values, and their means: of partitions, of rows.
    fn moments(&mut self, n: &PlSmallStr, means: &[(&PlSmallStr, &Expr, &Expr)]) {
        if let Some((_, value, row)) = means.first() {
            let count = (*value).clone().count().cast(DataType::Float64);
            self.part(n.clone(), count, (*row).clone().is_not_null(), Expr::sum);
        }
        for (mean, value, row) in means {
            let (value, row) = ((*value).clone(), (*row).clone());
            let merged = whole_mean(n, mean);
            self.part(
                (*mean).clone(),
                value.mean().fill_null(lit(0.0)),
                row.fill_null(lit(0.0)),
                |_| merged,
            );
        }
    }

    /// The sum of products of two distances from the mean.
    fn products(
        &mut self,
        n: &PlSmallStr,
        name: &PlSmallStr,
        means: [&PlSmallStr; 2],
        rows: [&Expr; 2],
        together: Expr,
    ) {
        let [x, y] = means.map(|mean| col(mean.clone()) - whole_mean(n, mean));
        // Nothing, but of what is no number.
        let [row, other] = rows.map(|row| row.clone() - row.clone());
        let none = (row * other).fill_null(lit(0.0));
        let together = together.fill_null(lit(0.0));
        let n = col(n.clone());
        self.part(name.clone(), together, none, |sum| (sum + n * x * y).sum());
    }
}

fn named(name: &PlSmallStr, what: &str) -> PlSmallStr {
    format!("{name}_{what}").into()
}

/// The mean of all, from means and how many values each is of.
fn whole_mean(n: &PlSmallStr, mean: &PlSmallStr) -> Expr {
    let (n, mean) = (|| col(n.clone()), col(mean.clone()));
    when(n().sum().gt(lit(0.0)))
        .then((n() * mean).sum() / n().sum())
        .otherwise(lit(0.0))
}

/// The types of columns, by name, of a plan over rows like these.
pub(super) fn names(schema: &Schema) -> Vec<PlSmallStr> {
    schema.iter_names().cloned().collect()
}
