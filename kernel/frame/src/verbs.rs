//! The steps of a query, by Polars' own names.

use polars::prelude::{
    DataType, DynamicGroupOptions, Expr, IdxSize, IntoVec, JoinArgs, JoinType, LazyFrame, LazyGroupBy,
    PlHashMap, PlSmallStr, PolarsResult, QuantileMethod, RollingGroupOptions, Selector, SortMultipleOptions,
    UniqueKeepStrategy, by_name, col,
};

use crate::Frame;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl Frame { $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self, $($arg: $type),*) -> Frame {
                self.step(stringify!($name), |lazy| Ok(lazy.$name($($arg),*)))
            }
        )* }
    };
}

steps! {
    /// Rows for which the predicate holds.
    filter(predicate: Expr);
    /// Rows for which the predicate does not hold.
    remove(predicate: Expr);
    /// These columns only.
    select(exprs: impl AsRef<[Expr]>);
    /// All columns, and this one besides.
    with_column(expr: Expr);
    /// All columns, and these besides.
    with_columns(exprs: impl AsRef<[Expr]>);
    /// Numbers the rows, through all partitions.
    with_row_index(name: impl Into<PlSmallStr>, offset: Option<IdxSize>);
    /// The first `n` rows, as a frame.
    limit(n: IdxSize);
    /// `len` rows from `offset` on; from the end if that is negative.
    slice(offset: i64, len: IdxSize);
    /// Rows in the opposite order.
    reverse();
    /// The `k` largest rows.
    top_k(k: IdxSize, by: impl AsRef<[Expr]>, options: SortMultipleOptions);
    /// The `k` smallest rows.
    bottom_k(k: IdxSize, by: impl AsRef<[Expr]>, options: SortMultipleOptions);
    /// Sorts by expressions, with Polars' options.
    sort_by_exprs(by: impl AsRef<[Expr]>, options: SortMultipleOptions);
    /// Values move down by `n` rows.
    shift(n: impl Into<Expr>);
    /// Values move down by `n` rows; this takes the free places.
    shift_and_fill(n: impl Into<Expr>, fill_value: impl Into<Expr>);
    fill_null(fill_value: impl Into<Expr>);
    fill_nan(fill_value: impl Into<Expr>);
    cast(dtypes: PlHashMap<&str, DataType>, strict: bool);
    cast_all(dtype: DataType, strict: bool);
    rename(existing: impl IntoIterator<Item = impl AsRef<str>>, new: impl IntoIterator<Item = impl AsRef<str>>, strict: bool);
    max();
    min();
    sum();
    mean();
    median();
    quantile(quantile: Expr, method: QuantileMethod);
    std(ddof: u8);
    var(ddof: u8);
    count();
    null_count();
    /// The first row.
    first();
    /// The last row.
    last();
    /// No rows, the same columns.
    clear();
    /// One row of each kind; which one is `keep_strategy`'s.
    unique(subset: Option<Selector>, keep_strategy: UniqueKeepStrategy);
    /// As `unique`, in the order of the rows.
    unique_stable(subset: Option<Selector>, keep_strategy: UniqueKeepStrategy);
    drop_nulls(subset: Option<Selector>);
    drop_nans(subset: Option<Selector>);
    unnest(columns: Selector, separator: Option<PlSmallStr>);
}

impl Frame {
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
            left.join(right, left_on.as_ref(), right_on.as_ref(), args)
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
        self.step_with(other, "cross_join", |left, right| left.cross_join(right, suffix))
    }

    /// Rows of which all predicates hold, of all pairs.
    #[must_use]
    pub fn join_where(&self, other: &Frame, predicates: impl AsRef<[Expr]>) -> Frame {
        let predicates = predicates.as_ref().to_vec();
        self.step_with(other, "join_where", |left, right| {
            left.join_builder().with(right).join_where(predicates)
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
