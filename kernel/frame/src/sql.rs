//! SQL over frames and DataFrames.
//!
//! Polars parses the query. What it makes of it over a [`Frame`] is turned back into steps of the frame where
//! the frame has them (filter, select, group by, order by, limit), so that the work runs on the cluster
//! partition by partition. A query that needs more (a join, a window, `distinct`) runs here, over the tables
//! as a whole.

use polars::{
    prelude::{DataFrame, DslPlan, Expr, IntoLazy, LazyFrame},
    sql::SQLContext,
};
use skep_render::Message;

use crate::{Error, Frame, Result};

/// What a query can read.
#[derive(Clone, Copy)]
pub enum Table<'a> {
    Frame(&'a Frame),
    Data(&'a DataFrame),
    Lazy(&'a LazyFrame),
}

impl<'a> From<&'a Frame> for Table<'a> {
    fn from(frame: &'a Frame) -> Self {
        Table::Frame(frame)
    }
}

impl<'a> From<&'a DataFrame> for Table<'a> {
    fn from(frame: &'a DataFrame) -> Self {
        Table::Data(frame)
    }
}

impl<'a> From<&'a LazyFrame> for Table<'a> {
    fn from(frame: &'a LazyFrame) -> Self {
        Table::Lazy(frame)
    }
}

/// Runs a query over named tables. In a notebook, `%%sql` calls this with the variables that the query names.
///
/// ```
/// use polars::prelude::df;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bees = df!("hive" => ["a", "b", "a"], "n" => [1, 2, 3])?;
/// let sums = skep_frame::sql("select hive, sum(n) as n from bees group by hive order by hive", &[("bees", (&bees).into())])?;
/// assert_eq!(sums, df!("hive" => ["a", "b"], "n" => [4, 2])?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the query is no SQL or names what is not there; and as [`Frame::collect`].
pub fn sql(query: &str, tables: &[(&str, Table<'_>)]) -> Result<DataFrame> {
    if let [(name, Table::Frame(frame))] = tables {
        let empty = DataFrame::empty_with_schema(&*frame.schema()?).lazy();
        let planned = plan(query, [(*name, empty)])?;
        if let Some(lowered) = lower(&planned.logical_plan, frame).filter(|lowered| lowered.schema().is_ok())
        {
            return lowered.collect();
        }
    }
    let mut whole = Vec::new();
    for (name, table) in tables {
        let lazy = match table {
            Table::Frame(frame) => frame.collect()?.lazy(),
            Table::Data(frame) => (*frame).clone().lazy(),
            Table::Lazy(frame) => (*frame).clone(),
        };
        whole.push((*name, lazy));
    }
    plan(query, whole)?
        .collect()
        .map_err(|error| explain(&error.to_string(), tables))
}

fn plan<'a>(query: &str, tables: impl IntoIterator<Item = (&'a str, LazyFrame)>) -> Result<LazyFrame> {
    let mut context = SQLContext::new();
    let mut names = Vec::new();
    for (name, table) in tables {
        context.register(name, table);
        names.push(name.to_string());
    }
    context.execute(query).map_err(|error| {
        let known = if names.is_empty() {
            "no variable of the notebook is named in the query".to_string()
        } else {
            format!("known tables: {}", names.join(", "))
        };
        Error::Schema(Message::new(error.to_string()).hint(format!(
            "{known}; tables are variables that hold a Frame, a DataFrame or a LazyFrame"
        )))
    })
}

fn explain(message: &str, tables: &[(&str, Table<'_>)]) -> Error {
    let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    Error::Schema(Message::new(message).hint(format!("known tables: {}", names.join(", "))))
}

/// The same steps on a frame; `None` if the frame lacks one of them.
fn lower(plan: &DslPlan, frame: &Frame) -> Option<Frame> {
    Some(match plan {
        DslPlan::DataFrameScan { .. } => frame.clone(),
        DslPlan::Filter { input, predicate } => lower(input, frame)?.filter(predicate.clone()),
        DslPlan::Select { expr, input, .. } => lower(input, frame)?.select(expr),
        DslPlan::HStack { input, exprs, .. } => lower(input, frame)?.with_columns(exprs),
        DslPlan::GroupBy {
            input,
            keys,
            predicates,
            aggs,
            apply: None,
            ..
        } if predicates.is_empty() => lower(input, frame)?.group_by(keys).agg(aggs),
        DslPlan::Sort {
            input,
            by_column,
            slice: None,
            sort_options,
        } => {
            let by = by_column
                .iter()
                .map(|by| {
                    if let Expr::Column(name) = by {
                        Some(name.clone())
                    } else {
                        None
                    }
                })
                .collect::<Option<Vec<_>>>()?;
            let spread = |flags: &[bool]| {
                if flags.len() == 1 {
                    vec![flags[0]; by.len()]
                } else {
                    flags.to_vec()
                }
            };
            let nulls_last = spread(&sort_options.nulls_last);
            let uniform = *nulls_last.first()?;
            let descending = spread(&sort_options.descending);
            (nulls_last.iter().all(|last| *last == uniform))
                .then(|| lower(input, frame).map(|input| input.sort_with(by, descending, uniform)))??
        }
        DslPlan::Slice {
            input,
            offset: 0,
            len,
        } => lower(input, frame)?.limit(*len),
        _ => return None,
    })
}
