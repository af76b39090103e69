//! The steps of a query, by Polars' own names.

use polars::prelude::{
    DataType, DynamicGroupOptions, Expr, IdxSize, IntoVec, JoinArgs, JoinType, LazyFrame, LazyGroupBy,
    PlHashMap, PlSmallStr, PolarsResult, QuantileMethod, RollingGroupOptions, Selector, SortMultipleOptions,
    UniqueKeepStrategy, by_name, col,
};

use crate::Frame;

impl Frame {
    /// Rows for which the predicate holds.
    #[must_use]
    pub fn filter(&self, predicate: Expr) -> Frame {
        self.step("filter", |lazy| Ok(lazy.filter(predicate)))
    }

    /// Rows for which the predicate does not hold.
    #[must_use]
    pub fn remove(&self, predicate: Expr) -> Frame {
        self.step("remove", |lazy| Ok(lazy.remove(predicate)))
    }

    /// These columns only.
    #[must_use]
    pub fn select(&self, exprs: impl AsRef<[Expr]>) -> Frame {
        self.step("select", |lazy| Ok(lazy.select(exprs)))
    }

    /// All columns, and this one besides.
    #[must_use]
    pub fn with_column(&self, expr: Expr) -> Frame {
        self.step("with_column", |lazy| Ok(lazy.with_column(expr)))
    }

    /// All columns, and these besides.
    #[must_use]
    pub fn with_columns(&self, exprs: impl AsRef<[Expr]>) -> Frame {
        self.step("with_columns", |lazy| Ok(lazy.with_columns(exprs)))
    }

    /// Numbers the rows, through all partitions.
    #[must_use]
    pub fn with_row_index(&self, name: impl Into<PlSmallStr>, offset: Option<IdxSize>) -> Frame {
        self.step("with_row_index", |lazy| Ok(lazy.with_row_index(name, offset)))
    }

    /// The first `n` rows, as a frame.
    #[must_use]
    pub fn limit(&self, n: IdxSize) -> Frame {
        self.step("limit", |lazy| Ok(lazy.limit(n)))
    }

    /// `len` rows from `offset` on; from the end if that is negative.
    #[must_use]
    pub fn slice(&self, offset: i64, len: IdxSize) -> Frame {
        self.step("slice", |lazy| Ok(lazy.slice(offset, len)))
    }

    /// Rows in the opposite order.
    #[must_use]
    pub fn reverse(&self) -> Frame {
        self.step("reverse", |lazy| Ok(lazy.reverse()))
    }

    /// The `k` largest rows.
    #[must_use]
    pub fn top_k(&self, k: IdxSize, by: impl AsRef<[Expr]>, options: SortMultipleOptions) -> Frame {
        self.step("top_k", |lazy| Ok(lazy.top_k(k, by, options)))
    }

    /// The `k` smallest rows.
    #[must_use]
    pub fn bottom_k(&self, k: IdxSize, by: impl AsRef<[Expr]>, options: SortMultipleOptions) -> Frame {
        self.step("bottom_k", |lazy| Ok(lazy.bottom_k(k, by, options)))
    }

    /// Sorts by expressions, with Polars' options.
    #[must_use]
    pub fn sort_by_exprs(&self, by: impl AsRef<[Expr]>, options: SortMultipleOptions) -> Frame {
        self.step("sort_by_exprs", |lazy| Ok(lazy.sort_by_exprs(by, options)))
    }

    /// Values move down by `n` rows.
    #[must_use]
    pub fn shift(&self, n: impl Into<Expr>) -> Frame {
        self.step("shift", |lazy| Ok(lazy.shift(n)))
    }

    /// Values move down by `n` rows; this takes the free places.
    #[must_use]
    pub fn shift_and_fill(&self, n: impl Into<Expr>, fill_value: impl Into<Expr>) -> Frame {
        self.step("shift_and_fill", |lazy| Ok(lazy.shift_and_fill(n, fill_value)))
    }

    /// Polars' [`LazyFrame::fill_null`].
    #[must_use]
    pub fn fill_null(&self, fill_value: impl Into<Expr>) -> Frame {
        self.step("fill_null", |lazy| Ok(lazy.fill_null(fill_value)))
    }

    /// Polars' [`LazyFrame::fill_nan`].
    #[must_use]
    pub fn fill_nan(&self, fill_value: impl Into<Expr>) -> Frame {
        self.step("fill_nan", |lazy| Ok(lazy.fill_nan(fill_value)))
    }

    /// Polars' [`LazyFrame::cast`].
    #[must_use]
    pub fn cast(&self, dtypes: PlHashMap<&str, DataType>, strict: bool) -> Frame {
        self.step("cast", |lazy| Ok(lazy.cast(dtypes, strict)))
    }

    /// Polars' [`LazyFrame::cast_all`].
    #[must_use]
    pub fn cast_all(&self, dtype: DataType, strict: bool) -> Frame {
        self.step("cast_all", |lazy| Ok(lazy.cast_all(dtype, strict)))
    }

    /// Polars' [`LazyFrame::rename`].
    #[must_use]
    pub fn rename(
        &self,
        existing: impl IntoIterator<Item = impl AsRef<str>>,
        new: impl IntoIterator<Item = impl AsRef<str>>,
        strict: bool,
    ) -> Frame {
        self.step("rename", |lazy| Ok(lazy.rename(existing, new, strict)))
    }

    /// Polars' [`LazyFrame::max`].
    #[must_use]
    pub fn max(&self) -> Frame {
        self.step("max", |lazy| Ok(lazy.max()))
    }

    /// Polars' [`LazyFrame::min`].
    #[must_use]
    pub fn min(&self) -> Frame {
        self.step("min", |lazy| Ok(lazy.min()))
    }

    /// Polars' [`LazyFrame::sum`].
    #[must_use]
    pub fn sum(&self) -> Frame {
        self.step("sum", |lazy| Ok(lazy.sum()))
    }

    /// Polars' [`LazyFrame::mean`].
    #[must_use]
    pub fn mean(&self) -> Frame {
        self.step("mean", |lazy| Ok(lazy.mean()))
    }

    /// Polars' [`LazyFrame::median`].
    #[must_use]
    pub fn median(&self) -> Frame {
        self.step("median", |lazy| Ok(lazy.median()))
    }

    /// Polars' [`LazyFrame::quantile`].
    #[must_use]
    pub fn quantile(&self, quantile: Expr, method: QuantileMethod) -> Frame {
        self.step("quantile", |lazy| Ok(lazy.quantile(quantile, method)))
    }

    /// Polars' [`LazyFrame::std`].
    #[must_use]
    pub fn std(&self, ddof: u8) -> Frame {
        self.step("std", |lazy| Ok(lazy.std(ddof)))
    }

    /// Polars' [`LazyFrame::var`].
    #[must_use]
    pub fn var(&self, ddof: u8) -> Frame {
        self.step("var", |lazy| Ok(lazy.var(ddof)))
    }

    /// Polars' [`LazyFrame::count`].
    #[must_use]
    pub fn count(&self) -> Frame {
        self.step("count", |lazy| Ok(lazy.count()))
    }

    /// Polars' [`LazyFrame::null_count`].
    #[must_use]
    pub fn null_count(&self) -> Frame {
        self.step("null_count", |lazy| Ok(lazy.null_count()))
    }

    /// The first row.
    #[must_use]
    pub fn first(&self) -> Frame {
        self.step("first", |lazy| Ok(lazy.first()))
    }

    /// The last row.
    #[must_use]
    pub fn last(&self) -> Frame {
        self.step("last", |lazy| Ok(lazy.last()))
    }

    /// No rows, the same columns.
    #[must_use]
    pub fn clear(&self) -> Frame {
        self.step("clear", |lazy| Ok(lazy.clear()))
    }

    /// One row of each kind; which one is `keep_strategy`'s.
    #[must_use]
    pub fn unique(&self, subset: Option<Selector>, keep_strategy: UniqueKeepStrategy) -> Frame {
        self.step("unique", |lazy| Ok(lazy.unique(subset, keep_strategy)))
    }

    /// As `unique`, in the order of the rows.
    #[must_use]
    pub fn unique_stable(&self, subset: Option<Selector>, keep_strategy: UniqueKeepStrategy) -> Frame {
        self.step("unique_stable", |lazy| {
            Ok(lazy.unique_stable(subset, keep_strategy))
        })
    }

    /// Polars' [`LazyFrame::drop_nulls`].
    #[must_use]
    pub fn drop_nulls(&self, subset: Option<Selector>) -> Frame {
        self.step("drop_nulls", |lazy| Ok(lazy.drop_nulls(subset)))
    }

    /// Polars' [`LazyFrame::drop_nans`].
    #[must_use]
    pub fn drop_nans(&self, subset: Option<Selector>) -> Frame {
        self.step("drop_nans", |lazy| Ok(lazy.drop_nans(subset)))
    }

    /// Polars' [`LazyFrame::unnest`].
    #[must_use]
    pub fn unnest(&self, columns: Selector, separator: Option<PlSmallStr>) -> Frame {
        self.step("unnest", |lazy| Ok(lazy.unnest(columns, separator)))
    }

    /// Without these columns.
    #[must_use]
    pub fn drop(&self, columns: impl IntoVec<PlSmallStr>) -> Frame {
        let names = columns.into_vec();
        self.step("drop", |lazy| Ok(lazy.drop(by_name(names, true, true))))
    }

    /// Each item of these list columns in a row of its own.
    #[must_use]
    pub fn explode(&self, columns: impl IntoVec<PlSmallStr>) -> Frame {
        let names = columns.into_vec();
        let options = polars::prelude::ExplodeOptions {
            empty_as_null: true,
            keep_nulls: true,
        };
        self.step("explode", |lazy| {
            Ok(lazy.explode(by_name(names, true, true), options))
        })
    }

    /// Sorts by columns, ascending, nulls last; with options by [`Frame::sort_with`].
    #[must_use]
    pub fn sort(&self, by: impl IntoVec<PlSmallStr>) -> Frame {
        self.sort_with(by, SortMultipleOptions::default().with_nulls_last(true))
    }

    /// Sorts by columns, the largest first, nulls last.
    #[must_use]
    pub fn sort_descending(&self, by: impl IntoVec<PlSmallStr>) -> Frame {
        let options = SortMultipleOptions::default()
            .with_nulls_last(true)
            .with_order_descending(true);
        self.sort_with(by, options)
    }

    /// Polars' `sort`, with its options.
    #[must_use]
    pub fn sort_with(&self, by: impl IntoVec<PlSmallStr>, options: SortMultipleOptions) -> Frame {
        let by: Vec<PlSmallStr> = by.into_vec();
        self.step("sort", |lazy| Ok(lazy.sort(by, options)))
    }

    /// Columns become rows of their names and values.
    #[must_use]
    pub fn unpivot(&self, on: impl IntoVec<PlSmallStr>, index: impl IntoVec<PlSmallStr>) -> Frame {
        let (on, index) = (on.into_vec(), index.into_vec());
        self.step("unpivot", |lazy| {
            Ok(lazy.unpivot(polars::prelude::UnpivotArgsDSL {
                on: Some(by_name(on, true, true)),
                index: by_name(index, true, true),
                variable_name: None,
                value_name: None,
            }))
        })
    }

    /// Groups by keys; `.agg(…)` ends it.
    pub fn group_by<E: Into<Expr> + Clone>(&self, keys: impl AsRef<[E]>) -> GroupBy {
        self.grouped("group_by", |lazy| lazy.group_by(keys))
    }

    /// As [`Frame::group_by`], the groups in the order of their first rows.
    pub fn group_by_stable<E: Into<Expr> + Clone>(&self, keys: impl AsRef<[E]>) -> GroupBy {
        self.grouped("group_by_stable", |lazy| lazy.group_by_stable(keys))
    }

    /// Groups by windows of time, of a column that is sorted.
    pub fn group_by_dynamic(
        &self,
        index_column: Expr,
        keys: impl AsRef<[Expr]>,
        options: DynamicGroupOptions,
    ) -> GroupBy {
        self.grouped("group_by_dynamic", |lazy| {
            lazy.group_by_dynamic(index_column, keys, options)
        })
    }

    /// Groups by windows that end at each row, of a column that is sorted.
    pub fn rolling(
        &self,
        index_column: Expr,
        keys: impl AsRef<[Expr]>,
        options: RollingGroupOptions,
    ) -> GroupBy {
        self.grouped("rolling", |lazy| lazy.rolling(index_column, keys, options))
    }

    fn grouped(&self, name: &'static str, group: impl FnOnce(LazyFrame) -> LazyGroupBy) -> GroupBy {
        GroupBy {
            frame: self.clone(),
            name,
            groups: self.query().ok().map(|query| group(query.lazy.clone())),
        }
    }

    /// Joins with another frame, on expressions of both; Polars' arguments.
    #[must_use]
    pub fn join(
        &self,
        other: &Frame,
        left_on: impl AsRef<[Expr]>,
        right_on: impl AsRef<[Expr]>,
        args: JoinArgs,
    ) -> Frame {
        self.step_with(other, "join", |left, right| {
            Ok(left.join(right, left_on.as_ref(), right_on.as_ref(), args))
        })
    }

    fn join_on(&self, other: &Frame, left_on: Expr, right_on: Expr, how: JoinType) -> Frame {
        self.join(other, [left_on], [right_on], JoinArgs::new(how))
    }

    #[must_use]
    pub fn inner_join(&self, other: &Frame, left_on: impl Into<Expr>, right_on: impl Into<Expr>) -> Frame {
        self.join_on(other, left_on.into(), right_on.into(), JoinType::Inner)
    }

    #[must_use]
    pub fn left_join(&self, other: &Frame, left_on: impl Into<Expr>, right_on: impl Into<Expr>) -> Frame {
        self.join_on(other, left_on.into(), right_on.into(), JoinType::Left)
    }

    #[must_use]
    pub fn full_join(&self, other: &Frame, left_on: impl Into<Expr>, right_on: impl Into<Expr>) -> Frame {
        self.join_on(other, left_on.into(), right_on.into(), JoinType::Full)
    }

    #[must_use]
    pub fn semi_join(&self, other: &Frame, left_on: impl Into<Expr>, right_on: impl Into<Expr>) -> Frame {
        self.join_on(other, left_on.into(), right_on.into(), JoinType::Semi)
    }

    #[must_use]
    pub fn anti_join(&self, other: &Frame, left_on: impl Into<Expr>, right_on: impl Into<Expr>) -> Frame {
        self.join_on(other, left_on.into(), right_on.into(), JoinType::Anti)
    }

    /// Each row of the one with each row of the other.
    #[must_use]
    pub fn cross_join(&self, other: &Frame, suffix: Option<PlSmallStr>) -> Frame {
        self.step_with(other, "cross_join", |left, right| {
            Ok(left.cross_join(right, suffix))
        })
    }

    /// Rows of which all predicates hold, of all pairs.
    #[must_use]
    pub fn join_where(&self, other: &Frame, predicates: impl AsRef<[Expr]>) -> Frame {
        let predicates = predicates.as_ref().to_vec();
        self.step_with(other, "join_where", |left, right| {
            Ok(left.join_builder().with(right).join_where(predicates))
        })
    }

    /// How often each value of a column comes, the most frequent first.
    #[must_use]
    pub fn value_counts(&self, column: &str) -> Frame {
        self.group_by([col(column)])
            .agg([polars::prelude::len().alias("count")])
            .sort_descending(["count"])
    }
}

/// Groups that wait for their aggregations; see [`Frame::group_by`].
#[must_use = "groups do nothing without `.agg(…)`"]
pub struct GroupBy {
    frame: Frame,
    name: &'static str,
    groups: Option<LazyGroupBy>,
}

impl GroupBy {
    fn end(self, end: impl FnOnce(LazyGroupBy) -> PolarsResult<LazyFrame>) -> Frame {
        let groups = self.groups;
        self.frame
            .step(&format!("{}().agg()", self.name), |lazy| match groups {
                Some(groups) => end(groups),
                None => Ok(lazy),
            })
    }

    /// One row for each group, with these aggregations.
    #[must_use]
    pub fn agg(self, aggs: impl AsRef<[Expr]>) -> Frame {
        self.end(|groups| Ok(groups.agg(aggs)))
    }

    /// Only groups for which the predicate holds.
    pub fn having(self, predicate: Expr) -> GroupBy {
        GroupBy {
            groups: self.groups.map(|groups| groups.having(predicate)),
            ..self
        }
    }

    /// The first rows of each group.
    #[must_use]
    pub fn head(self, n: usize) -> Frame {
        self.end(|groups| Ok(groups.head(Some(n))))
    }

    /// The last rows of each group.
    #[must_use]
    pub fn tail(self, n: usize) -> Frame {
        self.end(|groups| Ok(groups.tail(Some(n))))
    }
}
