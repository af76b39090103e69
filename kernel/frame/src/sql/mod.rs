//! SQL over frames and DataFrames.
//!
//! Polars parses the query. What it makes of it over a [`Frame`] is a frame, and runs on the cluster; a query over tables
//! of this process alone runs here.

use std::collections::HashMap;

use polars::{
    prelude::{DataFrame, IntoLazy, LazyFrame},
    sql::SQLContext,
};
use skep_render::Message;

use crate::{Error, Frame, Result};

mod joins;
mod refused;

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
    if tables.iter().any(|(_, table)| matches!(table, Table::Frame(_))) {
        return Frame::sql(query, tables)?.collect();
    }
    let lazy = tables.iter().map(|(name, table)| {
        let lazy = match table {
            Table::Frame(_) => unreachable!("invariant: there is none"),
            Table::Data(frame) => (*frame).clone().lazy(),
            Table::Lazy(frame) => (*frame).clone(),
        };
        (*name, lazy)
    });
    plan(query, lazy)?
        .collect()
        .map_err(|error| explain(&error.to_string(), tables))
}

impl Frame {
    /// A query over named tables, as a frame: everything that Polars' SQL can say.
    ///
    /// # Errors
    /// When the query is no SQL, or names what is not there.
    pub fn sql(query: &str, tables: &[(&str, Table<'_>)]) -> Result<Frame> {
        let frames: Vec<(&str, Frame)> = tables
            .iter()
            .map(|(name, table)| {
                let frame = match table {
                    Table::Frame(frame) => (*frame).clone(),
                    Table::Data(frame) => Frame::from((*frame).clone()),
                    Table::Lazy(frame) => Frame::from((*frame).clone()),
                };
                (*name, frame)
            })
            .collect();
        let lazy = frames
            .iter()
            .map(|(name, frame)| Ok((*name, frame.query()?.lazy.clone())))
            .collect::<Result<Vec<_>>>()?;
        let planned = plan(query, lazy)?;
        let all: Vec<&Frame> = frames.iter().map(|(_, frame)| frame).collect();
        Frame::of_many(&all, "sql", planned)
    }
}

fn plan<'a>(query: &str, tables: impl IntoIterator<Item = (&'a str, LazyFrame)>) -> Result<LazyFrame> {
    let mut context = SQLContext::new();
    let mut names = Vec::new();
    let mut columns = HashMap::new();
    for (name, mut table) in tables {
        if let Ok(schema) = table.collect_schema() {
            let of = schema.iter_names().map(ToString::to_string).collect();
            columns.insert(name.to_string(), of);
        }
        context.register(name, table);
        names.push(name.to_string());
    }
    if let Some(why) = refused::why(query) {
        return Err(Error::Unsupported(why));
    }
    let query = joins::with_joins(query, columns);
    context.execute(&query).map_err(|error| {
        let text = error.to_string();
        if text.starts_with("join type 'AsOf") {
            return Error::Unsupported(Message::new("SQL has no as-of join here").hint(
                "`trades.join_asof(&quotes, AsOf::on(\"time\").by([\"ticker\"]))` is one; the result can be a table of the next query",
            ));
        }
        let known = if names.is_empty() {
            "no variable of the notebook is named in the query".to_string()
        } else {
            format!("known tables: {}", names.join(", "))
        };
        Error::Schema(Message::new(without_syntax_tree(&text)).hint(format!(
            "{known}; tables are variables that hold a Frame, a DataFrame or a LazyFrame"
        )))
    })
}

/// What the parser made of a part that Polars does not take is of no use to who wrote it.
fn without_syntax_tree(text: &str) -> String {
    match (text.find(" {"), text.rfind('}')) {
        (Some(from), Some(to)) if text.contains("span: Span(") && from < to => {
            format!("{} …{}", &text[..from], &text[to + 1..])
        }
        _ => text.to_string(),
    }
}

#[test]
fn syntax_trees_are_left_out() {
    let shown = without_syntax_tree("clause 'X { a: Ident { value: \"t\", span: Span(1) } }' not supported");
    assert_eq!(shown, "clause 'X …' not supported");
    assert_eq!(without_syntax_tree("unknown { } column"), "unknown { } column");
}

fn explain(message: &str, tables: &[(&str, Table<'_>)]) -> Error {
    let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    Error::Schema(Message::new(message).hint(format!("known tables: {}", names.join(", "))))
}
