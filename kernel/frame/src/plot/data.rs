//! What charts need of the rows.

use polars::prelude::{
    Column, DataFrame, DataType, Expr, IdxCa, IntoLazy, LazyFrame, PlSmallStr, TimeUnit, col,
};
use skep_render::Message;

use crate::{Error, Frame, Result};

/// Points that a chart draws: of more rows a sample is drawn, and the chart says so.
const MOST_POINTS: usize = 5_000;

#[derive(Clone)]
pub(super) enum Data {
    Frame(Box<Frame>),
    Table(DataFrame),
}

impl Data {
    /// A query over the rows, where they are.
    pub fn query(&self, query: impl FnOnce(LazyFrame) -> LazyFrame) -> Result<DataFrame> {
        match self {
            Data::Frame(frame) => frame.lazy(query).collect(),
            Data::Table(table) => query(table.clone().lazy())
                .collect()
                .map_err(|error| Error::schema("plot", &error)),
        }
    }

    pub fn n_rows(&self) -> Result<usize> {
        match self {
            Data::Frame(frame) => frame.len(),
            Data::Table(table) => Ok(table.height()),
        }
    }

    /// These columns: all rows, or some of them, and how many there are.
    pub fn rows(&self, columns: &[PlSmallStr]) -> Result<(DataFrame, usize)> {
        let n_rows = self.n_rows()?;
        let columns: Vec<Expr> = columns.iter().cloned().map(col).collect();
        if n_rows <= MOST_POINTS {
            return Ok((self.query(|rows| rows.select(columns))?, n_rows));
        }
        let table = match self {
            Data::Frame(frame) => {
                let share = MOST_POINTS as f64 / n_rows as f64;
                frame.select(columns).sample(share, 1).collect()?
            }
            Data::Table(_) => {
                let mut rng = fastrand::Rng::with_seed(1);
                let chosen = (0..n_rows as u32).filter(|_| rng.usize(..n_rows) < MOST_POINTS);
                let chosen = IdxCa::from_vec(PlSmallStr::EMPTY, chosen.collect());
                self.query(|rows| rows.select(columns))?
                    .take(&chosen)
                    .map_err(|error| Error::schema("plot", &error))?
            }
        };
        Ok((table, n_rows))
    }
}

/// The numbers of a column; of dates and times, milliseconds. What is no number is nothing.
pub(super) fn numbers(table: &DataFrame, name: &str, kind: &str) -> Result<Vec<Option<f64>>> {
    let column = table.column(name).map_err(|error| Error::schema(kind, &error))?;
    let column: Column = match column.dtype() {
        DataType::Date | DataType::Datetime(..) => column
            .cast(&DataType::Datetime(TimeUnit::Milliseconds, None))
            .and_then(|column| column.cast(&DataType::Int64)),
        DataType::Time => column
            .cast(&DataType::Int64)
            .map(|nanoseconds| nanoseconds / 1_000_000),
        DataType::Duration(_) => column.cast(&DataType::Int64),
        dtype if dtype.is_numeric() || *dtype == DataType::Boolean => Ok(column.clone()),
        DataType::Null => Ok(column.clone()),
        dtype => {
            return Err(wrong(
                &format!("`{name}` is {dtype}, and a {kind} needs numbers"),
                "cast it, or count it first: `.value_counts(…)`",
            ));
        }
    }
    .and_then(|column| column.cast(&DataType::Float64))
    .map_err(|error| Error::schema(kind, &error))?;
    let values = column.f64().map_err(|error| Error::schema(kind, &error))?;
    Ok(values
        .iter()
        .map(|value| value.filter(|value| value.is_finite()))
        .collect())
}

pub(super) fn wrong(what: &str, hint: &str) -> Error {
    Error::Schema(Message::new(what).hint(hint))
}

pub(super) fn nothing() -> Error {
    wrong(
        "there is nothing to draw: no row has a number in these columns",
        "look at the rows first: `.head(5)`",
    )
}
