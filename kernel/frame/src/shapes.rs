//! Frames cut anew, sampled, described, turned.

use std::sync::Arc;

use polars::prelude::{
    AnyValue, Column, DataFrame, DataType, Expr, IdxCa, NULL, NamedFrom, PlSmallStr, PolarsResult,
    QuantileMethod, Selector, Series, SortMultipleOptions, UniqueKeepStrategy, by_name, col, lit,
};
use skep_cluster::{AnyHandle, Delayed, Part};

use crate::{
    Error, Frame, Result,
    source::{Kind, Source},
    tasks::{Keys, by_keys},
};

impl Frame {
    /// The same rows in so many partitions: neighbours are put together, or each is cut into equal parts. Rows keep their order.
    #[must_use]
    pub fn repartition(&self, n: usize) -> Frame {
        let n = n.max(1);
        let cut = self.delayed().map(|parts| {
            if parts.is_empty() || parts.len() == n {
                return parts.into_iter().map(AnyHandle::from).collect();
            }
            if n < parts.len() {
                let at = |i: usize| i * parts.len() / n;
                return (0..n)
                    .map(|i| Delayed::call(stacked, &parts[at(i)..at(i + 1)]).into())
                    .collect();
            }
            let mut pieces: Vec<AnyHandle<DataFrame>> = Vec::new();
            let before = parts.len();
            for (i, part) in parts.into_iter().enumerate() {
                let k = (i + 1) * n / before - i * n / before;
                pieces.extend(
                    Part::delayed(cut_up, (part, k as u64), k)
                        .into_iter()
                        .map(AnyHandle::from),
                );
            }
            pieces
        });
        self.of_handles("repartition", cut)
    }

    /// The same rows in `n` partitions, those with equal keys together: what is grouped or joined by these keys again and again
    /// is so cut once, and kept by `persist`. Rows come in any order.
    #[must_use]
    pub fn repartition_by(&self, keys: impl AsRef<[Expr]>, n: usize) -> Frame {
        let n = n.max(1);
        let keys = keys.as_ref();
        // Wrong names are told now.
        let checked = self.select(keys).schema();
        let cut = checked.and_then(|_| {
            let keys = Keys::new(keys)?;
            let parts: Vec<Vec<Part<DataFrame>>> = self
                .delayed()?
                .into_iter()
                .map(|part| Part::delayed(by_keys, (part, keys.clone(), n as u64), n))
                .collect();
            let piece = |i: usize| parts.iter().map(|pieces| pieces[i].clone()).collect::<Vec<_>>();
            Ok((0..n).map(|i| Delayed::call(stacked, piece(i)).into()).collect())
        });
        self.of_handles("repartition_by", cut)
    }

    /// The same rows in partitions of about `n_bytes` each, as they are in memory. Runs the frame, whose size is then known, and
    /// leaves its partitions on the workers.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn repartition_by_size(&self, n_bytes: u64) -> Result<Frame> {
        let held = self.persist()?;
        let total: u64 = held.query()?.leaves.iter().map(|leaf| leaf.source.n_bytes).sum();
        Ok(held.repartition(total.div_ceil(n_bytes.max(1)) as usize))
    }

    /// A part of the rows, each with the same chance: about `fraction` of all. The same rows for the same seed and partitions.
    #[must_use]
    pub fn sample(&self, fraction: f64, seed: u64) -> Frame {
        let sampled = self.delayed().map(|parts| {
            (0..)
                .zip(parts)
                .map(|(i, part)| Delayed::call(sampled, (part, fraction, seed.wrapping_add(i))).into())
                .collect()
        });
        self.of_handles("sample", sampled)
    }

    fn of_handles(&self, name: &str, handles: Result<Vec<AnyHandle<DataFrame>>>) -> Frame {
        let made = self.schema().and_then(|schema| {
            Ok(Frame::from_source(Source {
                name: name.to_string(),
                schema,
                n_bytes: 0,
                kind: Kind::Made(handles?),
            }))
        });
        self.replaced_by(made)
    }

    /// Statistics of each column: count, nulls, mean, standard deviation, least, quartiles, greatest. Runs the frame.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn describe(&self) -> Result<DataFrame> {
        const NAMES: [&str; 9] = [
            "count",
            "null_count",
            "mean",
            "std",
            "min",
            "25%",
            "50%",
            "75%",
            "max",
        ];
        let schema = self.schema()?;
        let mut exprs = Vec::new();
        for (i, (name, dtype)) in schema.iter().enumerate() {
            let column = || col(name.clone());
            let is_number = dtype.is_primitive_numeric();
            let has_order = !dtype.is_nested();
            let none = || lit(NULL).cast(DataType::Float64).first();
            let quantile = |q: f64| {
                if is_number {
                    column().quantile(lit(q), QuantileMethod::Nearest)
                } else {
                    none()
                }
            };
            let all = [
                column().count(),
                column().null_count(),
                if is_number || *dtype == DataType::Boolean {
                    column().mean()
                } else {
                    none()
                },
                if is_number { column().std(1) } else { none() },
                if has_order { column().min() } else { none() },
                quantile(0.25),
                quantile(0.5),
                quantile(0.75),
                if has_order { column().max() } else { none() },
            ];
            exprs.extend(
                all.into_iter()
                    .zip(NAMES)
                    .map(|(expr, what)| expr.alias(format!("{i} {what}"))),
            );
        }
        let row = self.select(exprs).collect()?;
        let failed = |error| Error::schema("describe", &error);
        let mut columns = vec![Column::new("statistic".into(), NAMES.as_slice())];
        for (i, (name, dtype)) in schema.iter().enumerate() {
            let values: PolarsResult<Vec<AnyValue<'static>>> = NAMES
                .iter()
                .map(|what| Ok(row.column(&format!("{i} {what}"))?.get(0)?.into_static()))
                .collect();
            let values = values.map_err(failed)?;
            let series = if dtype.is_primitive_numeric() {
                let numbers: Vec<Option<f64>> = values.iter().map(AnyValue::extract::<f64>).collect();
                Series::new(name.clone(), numbers)
            } else {
                let texts: Vec<Option<String>> = values
                    .iter()
                    .map(|value| (!value.is_null()).then(|| value.str_value().into_owned()))
                    .collect();
                Series::new(name.clone(), texts)
            };
            columns.push(series.into());
        }
        DataFrame::new(NAMES.len(), columns).map_err(failed)
    }

    /// Values of a column become columns: for each group of `index`, `agg` of `values` for each value of `on` (of `element()`, as
    /// `element().sum()`). Which values there are is found by running that much of the frame.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn pivot(
        &self,
        on: &str,
        index: impl polars::prelude::IntoVec<PlSmallStr>,
        values: &str,
        agg: Expr,
    ) -> Result<Frame> {
        let names = self
            .select([col(on)])
            .unique(None, UniqueKeepStrategy::Any)
            .sort_by_exprs([col(on)], SortMultipleOptions::default())
            .collect()?;
        let by = |names: Vec<PlSmallStr>| -> Selector { by_name(names, true, false) };
        let (on, index, values) = (by(vec![on.into()]), by(index.into_vec()), by(vec![values.into()]));
        Ok(self.step("pivot", |lazy| {
            Ok(lazy.pivot(
                on,
                Arc::new(names),
                index,
                values,
                agg,
                false,
                "_".into(),
                Default::default(),
            ))
        }))
    }
}

fn stacked(parts: Vec<DataFrame>) -> PolarsResult<DataFrame> {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        whole.vstack_mut(&part)?;
    }
    Ok(whole)
}

fn cut_up(frame: DataFrame, n: u64) -> Vec<DataFrame> {
    let (n, height) = (n as usize, frame.height());
    let at = |i: usize| i * height / n;
    (0..n)
        .map(|i| frame.slice(at(i) as i64, at(i + 1) - at(i)))
        .collect()
}

fn sampled(frame: DataFrame, fraction: f64, seed: u64) -> PolarsResult<DataFrame> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let rows: Vec<u32> = (0..frame.height() as u32)
        .filter(|_| rng.f64() < fraction)
        .collect();
    frame.take(&IdxCa::new(PlSmallStr::EMPTY, rows))
}
