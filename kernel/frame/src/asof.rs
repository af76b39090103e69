//! As-of joins: each row of one table with the row of another that is nearest to it in time, or in any order.
//!
//! Polars' own is a function for each pair of types of its keys, and three quarters of all the code of its operations. This
//! one is a query over what is compiled anyway: both tables are put on one another, sorted, and each row of the left looks
//! for the next of the right above or below it. So it needs no sorted input, and can be cut like any other query.

use polars::prelude::{
    DataFrame, DataType, Duration, Expr, FillNullStrategy, IntoLazy, LazyFrame, PlSmallStr, PolarsResult,
    Schema, SortMultipleOptions, TimeUnit, UnionArgs, col, concat_lf_diagonal, int_range, len, lit,
    polars_bail, polars_ensure, polars_err, when,
};

use crate::Frame;

/// How the columns begin that stand only between the steps of a join.
const OWN: &str = "__asof_";
const KEY: &str = "__asof_key";
const IS_LEFT: &str = "__asof_is_left";
const ROW: &str = "__asof_row";

/// Which row of the right side is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Before,
    After,
    Either,
}

/// How far a match may be away.
#[derive(Clone, Debug)]
pub struct Tolerance(Within);

#[derive(Clone, Debug)]
enum Within {
    Whole(i64),
    Real(f64),
    Time(String),
    Micros(i64),
}

impl From<i32> for Tolerance {
    fn from(n: i32) -> Self {
        Tolerance(Within::Whole(n.into()))
    }
}

impl From<i64> for Tolerance {
    fn from(n: i64) -> Self {
        Tolerance(Within::Whole(n))
    }
}

impl From<f64> for Tolerance {
    fn from(n: f64) -> Self {
        Tolerance(Within::Real(n))
    }
}

/// A span of time as Polars writes it: `2m30s`, `250ms`, `1d`.
impl From<&str> for Tolerance {
    fn from(text: &str) -> Self {
        Tolerance(Within::Time(text.to_owned()))
    }
}

impl From<std::time::Duration> for Tolerance {
    fn from(duration: std::time::Duration) -> Self {
        Tolerance(Within::Micros(duration.as_micros() as i64))
    }
}

impl Tolerance {
    /// As an expression of what differences of the column are.
    fn expr(&self, on: &str, dtype: &DataType) -> PolarsResult<Expr> {
        match &self.0 {
            Within::Whole(n) => Tolerance::number(lit(*n), *n >= 0, on, dtype),
            Within::Real(n) => Tolerance::number(lit(*n), *n >= 0.0, on, dtype),
            Within::Time(text) => Tolerance::span(|| micros(text), on, dtype),
            Within::Micros(micros) => Tolerance::span(|| Ok(*micros), on, dtype),
        }
    }

    fn number(number: Expr, is_distance: bool, on: &str, dtype: &DataType) -> PolarsResult<Expr> {
        polars_ensure!(
            !dtype.is_temporal(),
            InvalidOperation: "`{on}` is {dtype}, so `within` takes a span of time: \"2s\", \"1d\""
        );
        polars_ensure!(
            dtype.is_numeric(),
            InvalidOperation: "`{on}` is {dtype}, and `within` is for numbers and times"
        );
        polars_ensure!(is_distance, InvalidOperation: "`within` takes a distance: zero or more");
        Ok(number)
    }

    fn span(micros: impl FnOnce() -> PolarsResult<i64>, on: &str, dtype: &DataType) -> PolarsResult<Expr> {
        polars_ensure!(
            *dtype != DataType::String,
            InvalidOperation: "`{on}` is text: make times of it first, as `col(\"{on}\").cast(DataType::Datetime(TimeUnit::Microseconds, None))` does"
        );
        polars_ensure!(
            dtype.is_temporal(),
            InvalidOperation: "`{on}` is {dtype}, so `within` takes a number, and no span of time"
        );
        Ok(lit(micros()?).cast(DataType::Duration(TimeUnit::Microseconds)))
    }
}

/// What a span of time is in microseconds.
fn micros(text: &str) -> PolarsResult<i64> {
    let duration = Duration::try_parse(text).map_err(
        |error| polars_err!(InvalidOperation: "`{text}` is no span of time, as `2m30s` is: {error}"),
    )?;
    polars_ensure!(
        duration.is_constant_duration(None),
        InvalidOperation: "`{text}` is not the same span of time every month: say it in days, hours or less"
    );
    polars_ensure!(
        !text.is_empty() && !duration.negative(),
        InvalidOperation: "`{text}` is no span of time, as `2m30s` is"
    );
    Ok(duration.duration_us())
}

/// Names of columns: one, or several.
#[derive(Clone, Debug)]
pub struct Columns(Vec<PlSmallStr>);

impl From<&str> for Columns {
    fn from(name: &str) -> Self {
        Columns(vec![name.into()])
    }
}

impl<const N: usize> From<[&str; N]> for Columns {
    fn from(names: [&str; N]) -> Self {
        Columns(names.into_iter().map(PlSmallStr::from).collect())
    }
}

impl From<&[&str]> for Columns {
    fn from(names: &[&str]) -> Self {
        Columns(names.iter().copied().map(PlSmallStr::from).collect())
    }
}

impl From<Vec<&str>> for Columns {
    fn from(names: Vec<&str>) -> Self {
        Columns(names.into_iter().map(PlSmallStr::from).collect())
    }
}

impl From<Vec<String>> for Columns {
    fn from(names: Vec<String>) -> Self {
        Columns(names.into_iter().map(PlSmallStr::from).collect())
    }
}

/// Whether values of both types can be put into one order, without one being read as something that it is not.
fn are_comparable(left: &DataType, right: &DataType) -> bool {
    use DataType::{Categorical, Date, Datetime, Duration, Enum, Null, String};
    let is_text = |dtype: &DataType| matches!(dtype, String | Categorical(..) | Enum(..));
    let is_plain_time = |dtype: &DataType| matches!(dtype, Date | Datetime(_, None));
    match (left, right) {
        (Null, _) | (_, Null) | (Duration(_), Duration(_)) => true,
        (Datetime(_, left), Datetime(_, right)) => left == right,
        _ => {
            left == right
                || left.is_numeric() && right.is_numeric()
                || is_text(left) && is_text(right)
                || is_plain_time(left) && is_plain_time(right)
        }
    }
}

/// How rows of one table meet those of another that are not equal to them but next to them: each row of the left with the
/// last one of the right that is not after it, or the first that is not before it, or the nearer of the two.
///
/// ```
/// use polars::prelude::*;
/// use skep_frame::{AsOf, JoinAsof, polars};
///
/// let trades = df!("time" => [3, 7, 9], "ticker" => ["A", "B", "A"], "price" => [10.0, 20.0, 11.0])?;
/// let quotes = df!("time" => [1, 4, 8], "ticker" => ["A", "B", "A"], "bid" => [9.5, 19.0, 10.5])?;
/// let both = trades.join_asof(&quotes, AsOf::on("time").by(["ticker"]))?;
/// assert_eq!(both.column("bid")?.f64()?.to_vec(), [Some(9.5), Some(19.0), Some(10.5)]);
/// # PolarsResult::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct AsOf {
    on: [PlSmallStr; 2],
    by: [Vec<PlSmallStr>; 2],
    side: Side,
    within: Option<Tolerance>,
    takes_equal: bool,
    suffix: PlSmallStr,
}

impl AsOf {
    /// By a column that both tables have. They need not be sorted.
    pub fn on(column: &str) -> AsOf {
        AsOf {
            on: [column.into(), column.into()],
            by: [vec![], vec![]],
            side: Side::Before,
            within: None,
            takes_equal: true,
            suffix: "_right".into(),
        }
    }

    /// The column of the right side, where its name is another.
    pub fn right_on(mut self, column: &str) -> AsOf {
        self.on[1] = column.into();
        self
    }

    /// Only rows with the same values here meet: `"ticker"`, or `["ticker", "venue"]`.
    pub fn by(mut self, columns: impl Into<Columns>) -> AsOf {
        let Columns(columns) = columns.into();
        self.by = [columns.clone(), columns];
        self
    }

    /// The same columns on the right side, where their names are others.
    pub fn right_by(mut self, columns: impl Into<Columns>) -> AsOf {
        self.by[1] = columns.into().0;
        self
    }

    /// The first row of the right side that is not before; by default the last that is not after.
    pub fn forward(mut self) -> AsOf {
        self.side = Side::After;
        self
    }

    /// The nearer row, before or after; the one after, if both are as near.
    pub fn nearest(mut self) -> AsOf {
        self.side = Side::Either;
        self
    }

    /// No match that is farther away: a number, or for times a span like `"2m30s"`.
    pub fn within(mut self, tolerance: impl Into<Tolerance>) -> AsOf {
        self.within = Some(tolerance.into());
        self
    }

    /// Rows with an equal key do not match.
    pub fn strict(mut self) -> AsOf {
        self.takes_equal = false;
        self
    }

    /// What is put behind names that both sides have; `_right` by default.
    pub fn suffix(mut self, suffix: &str) -> AsOf {
        self.suffix = suffix.into();
        self
    }

    /// Names of the right side that come into the result, and what they are called there.
    fn brought(&self, left: &Schema, right: &Schema) -> PolarsResult<Vec<(PlSmallStr, PlSmallStr)>> {
        for (side, schema, on, by) in [
            ("left", left, &self.on[0], &self.by[0]),
            ("right", right, &self.on[1], &self.by[1]),
        ] {
            for name in by.iter().chain([on]) {
                let names: Vec<&str> = schema.iter_names().map(PlSmallStr::as_str).collect();
                polars_ensure!(
                    schema.contains(name),
                    ColumnNotFound: "`{name}` is no column of the {side} table; it has {}", names.join(", ")
                );
            }
            if let Some(name) = schema.iter_names().find(|name| name.starts_with(OWN)) {
                polars_bail!(
                    Duplicate: "the {side} table's column `{name}` begins as those that an as-of join makes for itself: rename it"
                );
            }
        }
        polars_ensure!(
            self.by[0].len() == self.by[1].len(),
            InvalidOperation: "`by` names {} columns of the left side, and `right_by` {} of the right", self.by[0].len(), self.by[1].len()
        );
        let pairs = self.by[0].iter().zip(&self.by[1]);
        for (of_left, of_right) in pairs.chain([(&self.on[0], &self.on[1])]) {
            let (a, b) = (left.try_get(of_left)?, right.try_get(of_right)?);
            polars_ensure!(
                are_comparable(a, b),
                SchemaMismatch: "`{of_left}` of the left table is {a}, and `{of_right}` of the right is {b}: cast one of them, as in `.with_column(col(\"{of_right}\").cast(…))`"
            );
        }
        let on = left.try_get(&self.on[0])?;
        polars_ensure!(
            self.side != Side::Either || on.is_numeric() || on.is_temporal(),
            InvalidOperation: "`{}` is {on}, and `nearest` is for numbers and times", self.on[0]
        );
        polars_ensure!(
            self.takes_equal || self.side != Side::Either,
            InvalidOperation: "`nearest` takes equal keys: leave out `strict`, or say `forward`"
        );
        let goes =
            |name: &PlSmallStr| self.by[1].contains(name) || *name == self.on[1] && self.on[0] == self.on[1];
        let mut brought = Vec::new();
        for name in right.iter_names().filter(|name| !goes(name)) {
            let called = match left.contains(name) {
                true => PlSmallStr::from(format!("{name}{}", self.suffix)),
                false => name.clone(),
            };
            if left.contains(&called) {
                polars_bail!(Duplicate: "the left side has a column `{called}`: give another `suffix`");
            }
            brought.push((name.clone(), called));
        }
        Ok(brought)
    }

    /// Within one group, sorted: where the row of the right side is that belongs to each row; null if there is none.
    fn place(&self, dtype: &DataType) -> PolarsResult<Expr> {
        let at = |place: Expr| col(KEY).gather(place, false);
        let of_right = when(col(IS_LEFT).not()).then(int_range(lit(0), len(), 1, DataType::Int64));
        let of_right = of_right.otherwise(lit(polars::prelude::NULL));
        let before = || {
            of_right
                .clone()
                .fill_null_with_strategy(FillNullStrategy::Forward(None))
        };
        let after = || {
            of_right
                .clone()
                .fill_null_with_strategy(FillNullStrategy::Backward(None))
        };
        let place = match self.side {
            Side::Before => before(),
            Side::After => after(),
            Side::Either => {
                let is_nearer = (col(KEY) - at(before())).lt(at(after()) - col(KEY));
                when(after().is_null().or(before().is_not_null().and(is_nearer)))
                    .then(before())
                    .otherwise(after())
            }
        };
        let mut fits = col(KEY).is_not_null();
        if let Some(within) = &self.within {
            let (here, there) = (col(KEY), at(place.clone()));
            // Unsigned numbers have no negative differences.
            let distance = when(here.clone().gt_eq(there.clone()))
                .then(here.clone() - there.clone())
                .otherwise(there - here);
            fits = fits.and(distance.lt_eq(within.expr(&self.on[0], dtype)?));
        }
        Ok(when(fits).then(place).otherwise(lit(polars::prelude::NULL)))
    }

    fn query(&self, left: LazyFrame, right: LazyFrame) -> PolarsResult<LazyFrame> {
        let (left_schema, right_schema) = (left.clone().collect_schema()?, right.clone().collect_schema()?);
        let brought = self.brought(&left_schema, &right_schema)?;
        let groups: Vec<PlSmallStr> = (0..self.by[0].len())
            .map(|i| format!("__asof_by{i}").into())
            .collect();
        let keys = |side: usize| {
            let by = self.by[side].iter().zip(&groups);
            let mut keys: Vec<Expr> = by
                .map(|(name, group)| col(name.clone()).alias(group.clone()))
                .collect();
            keys.push(col(self.on[side].clone()).alias(KEY));
            keys.push(lit(side == 0).alias(IS_LEFT));
            keys
        };
        let mut of_right = keys(1);
        of_right.extend(
            brought
                .iter()
                .map(|(name, called)| col(name.clone()).alias(called.clone())),
        );
        let has_keys = self.by[1].iter().chain([&self.on[1]]);
        let has_keys = has_keys
            .map(|name| col(name.clone()).is_not_null())
            .reduce(Expr::and);
        let right = right.filter(has_keys.unwrap_or(lit(true))).select(of_right);
        let left = left.with_row_index(ROW, None).with_columns(keys(0));
        let stacked = concat_lf_diagonal(
            [left, right],
            UnionArgs {
                to_supertypes: true,
                ..Default::default()
            },
        )?;
        // Of rows with the same key, those come first that the others are to see.
        let left_first = (self.side == Side::After) == self.takes_equal;
        let order = SortMultipleOptions::default()
            .with_order_descending_multi([false, left_first])
            .with_maintain_order(true);
        let place = self.place(left_schema.try_get(&self.on[0])?)?;
        let matched: PolarsResult<Vec<Expr>> = brought
            .iter()
            .map(|(_, called)| {
                let value = col(called.clone()).gather(place.clone(), false);
                match groups.is_empty() {
                    true => Ok(value),
                    false => value.over(groups.iter().cloned().map(col).collect::<Vec<_>>()),
                }
            })
            .collect();
        let names = left_schema
            .iter_names()
            .chain(brought.iter().map(|(_, called)| called));
        Ok(stacked
            .sort([KEY, IS_LEFT], order)
            .with_columns(matched?)
            .filter(col(IS_LEFT))
            .sort([ROW], Default::default())
            .select(names.map(|name| col(name.clone())).collect::<Vec<_>>()))
    }
}

/// As-of joins of tables and of queries of Polars.
pub trait JoinAsof: Sized {
    /// The other table, as this one takes it.
    type Other<'a>;
    type Out;

    /// Each row, with that of `other` which is next to it; null where there is none. Rows stay in their order.
    ///
    /// # Errors
    /// When a column is not there, keys cannot be compared, or names would come twice.
    fn join_asof(self, other: Self::Other<'_>, how: AsOf) -> PolarsResult<Self::Out>;
}

impl JoinAsof for LazyFrame {
    type Other<'a> = LazyFrame;
    type Out = LazyFrame;

    fn join_asof(self, other: LazyFrame, how: AsOf) -> PolarsResult<LazyFrame> {
        how.query(self, other)
    }
}

impl JoinAsof for &DataFrame {
    type Other<'a> = &'a DataFrame;
    type Out = DataFrame;

    fn join_asof(self, other: &DataFrame, how: AsOf) -> PolarsResult<DataFrame> {
        how.query(self.clone().lazy(), other.clone().lazy())?.collect()
    }
}

impl Frame {
    /// Each row, with that of `other` which is next to it: trades with the quotes before them.
    #[must_use]
    pub fn join_asof(&self, other: &Frame, how: AsOf) -> Frame {
        self.step_with(other, "join_asof", |left, right| how.query(left, right))
    }
}
