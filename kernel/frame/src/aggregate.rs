//! Aggregations as partial results that combine: each partition is reduced alone, then the results are merged
//! in a tree.

use polars::prelude::{AggExpr, DataType, Expr, PlSmallStr, Schema, col, len, lit, when};

use crate::{Error, Result};

/// Three sets of expressions: per partition, merging partial results (any number of times), and finishing.
#[derive(Clone, Debug)]
pub(crate) struct Decomposed {
    pub partial: Vec<Expr>,
    pub merge: Vec<Expr>,
    pub finish: Vec<Expr>,
}

/// Takes aggregations apart. `schema` is that of the result: keys, then aggregations.
pub(crate) fn decompose(aggs: &[Expr], n_keys: usize, schema: &Schema) -> Result<Decomposed> {
    let mut out = Decomposed {
        partial: Vec::new(),
        merge: Vec::new(),
        finish: Vec::new(),
    };
    out.finish
        .extend(schema.iter_names().take(n_keys).map(|name| col(name.clone())));
    for (i, expr) in aggs.iter().enumerate() {
        let (name, dtype) = schema.get_at_index(n_keys + i).ok_or_else(|| {
            Error::unsupported(
                "agg",
                "an expression that makes several columns; write one for each",
            )
        })?;
        out.add(i, expr, name, dtype)?;
    }
    if schema.len() != n_keys + aggs.len() {
        return Err(Error::unsupported(
            "agg",
            "an expression that makes several columns; write one for each",
        ));
    }
    Ok(out)
}

impl Decomposed {
    fn add(&mut self, i: usize, expr: &Expr, name: &PlSmallStr, dtype: &DataType) -> Result<()> {
        let part = |what: &str| PlSmallStr::from(format!("__{i}_{what}"));
        let finish = |expr: Expr| expr.cast(dtype.clone()).alias(name.clone());
        let mut same = |partial: Expr, merge: fn(Expr) -> Expr| {
            self.partial.push(partial.alias(part("v")));
            self.merge.push(merge(col(part("v"))).alias(part("v")));
            self.finish.push(finish(col(part("v"))));
        };
        match strip(expr) {
            Expr::Len => same(len(), Expr::sum),
            Expr::Agg(AggExpr::Sum(_)) => same(strip(expr).clone(), Expr::sum),
            Expr::Agg(AggExpr::Count { .. }) => same(strip(expr).clone(), Expr::sum),
            Expr::Agg(AggExpr::Min { .. }) => same(strip(expr).clone(), Expr::min),
            Expr::Agg(AggExpr::Max { .. }) => same(strip(expr).clone(), Expr::max),
            Expr::Agg(AggExpr::Mean(input)) => {
                let input = (**input).clone();
                self.partial
                    .push(input.clone().cast(DataType::Float64).sum().alias(part("sum")));
                self.partial.push(input.count().alias(part("n")));
                self.merge.extend([
                    col(part("sum")).sum().alias(part("sum")),
                    col(part("n")).sum().alias(part("n")),
                ]);
                self.finish.push(finish(
                    when(col(part("n")).gt(lit(0)))
                        .then(col(part("sum")) / col(part("n")))
                        .otherwise(lit(polars::prelude::NULL)),
                ));
            }
            Expr::Agg(AggExpr::Var(input, ddof)) => self.add_variance(i, input, *ddof, false, &finish),
            Expr::Agg(AggExpr::Std(input, ddof)) => self.add_variance(i, input, *ddof, true, &finish),
            other => {
                return Err(Error::unsupported(
                    &format!("agg({other})"),
                    "sum, mean, min, max, count, len, std and var can be combined from partial results",
                ));
            }
        }
        Ok(())
    }

    /// Count, mean and sum of squared distances from the mean, merged by Chan's formula: stable where sums of
    /// squares are not.
    fn add_variance(
        &mut self,
        i: usize,
        input: &Expr,
        ddof: u8,
        is_std: bool,
        finish: &dyn Fn(Expr) -> Expr,
    ) {
        let part = |what: &str| PlSmallStr::from(format!("__{i}_{what}"));
        let value = input.clone().cast(DataType::Float64);
        self.partial
            .push(value.clone().count().cast(DataType::Float64).alias(part("n")));
        self.partial
            .push(value.clone().mean().fill_null(lit(0.0)).alias(part("mean")));
        self.partial
            .push((value.clone().var(0).fill_null(lit(0.0)) * value.count()).alias(part("m2")));
        let (n, mean, m2) = (|| col(part("n")), || col(part("mean")), || col(part("m2")));
        let total = || n().sum();
        let whole_mean = || {
            when(total().gt(lit(0.0)))
                .then((n() * mean()).sum() / total())
                .otherwise(lit(0.0))
        };
        self.merge.push(total().alias(part("n")));
        self.merge.push(whole_mean().alias(part("mean")));
        let distance = mean() - whole_mean();
        self.merge
            .push((m2() + n() * distance.clone() * distance).sum().alias(part("m2")));
        let variance = when(n().gt(lit(f64::from(ddof))))
            .then(m2() / (n() - lit(f64::from(ddof))))
            .otherwise(lit(polars::prelude::NULL));
        self.finish.push(finish(if is_std {
            variance.cast(DataType::Float64).sqrt()
        } else {
            variance
        }));
    }
}

/// Names are given at the end.
fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(inner, _) => strip(inner),
        Expr::KeepName(inner) => strip(inner),
        other => other,
    }
}
