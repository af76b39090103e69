//! Bags of records as frames.

use std::io::Cursor;

use polars::prelude::{
    Column, DataFrame, DataType, IntoLazy, JsonFormat, JsonReader, LazyFrame, PolarsError, PolarsResult,
    SchemaRef, SerReader, UnionArgs, concat_lf_diagonal,
};
use serde::Serialize;
use serde_json::{Map, Value};
use skep_cluster::{Cluster, Delayed, Remote, TaskValue};
use skep_collections::Bag;

use crate::{
    Frame, Result,
    source::{Kind, Source},
    tasks::without_rows,
};

/// Items as rows: `bag.to_frame()?`.
pub trait ToFrame {
    /// Runs the bag, and makes a frame of its items, whose partitions stay on the workers. A struct gives a column for each of
    /// its fields, a tuple the columns `column_0`, `column_1`, anything else one column, `value`.
    ///
    /// ```no_run
    /// # use skep_frame::ToFrame;
    /// # use skep_collections::Bag;
    /// let words = Bag::read_text("data/*.txt").flat_map(|line: String| line.split(' ').map(String::from).collect::<Vec<_>>());
    /// let frame = words.frequencies().to_frame()?;
    /// # Ok::<(), skep_frame::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the bag was built wrongly, there is no cluster, a task fails, or partitions have columns of types that do not go
    /// together.
    fn to_frame(&self) -> Result<Frame>;
}

impl<T: TaskValue + Clone> ToFrame for Bag<T> {
    fn to_frame(&self) -> Result<Frame> {
        let mut records = Vec::new();
        for items in self.to_delayed()? {
            records.push(Delayed::call(as_json::<T>, items));
        }
        of_records(&records)
    }
}

/// Not generic, as all that has to do with tables here: a cell would compile it again.
fn of_records(records: &[Delayed<Vec<u8>>]) -> Result<Frame> {
    let cluster = Cluster::current()?;
    let tables: Vec<Delayed<DataFrame>> = records
        .iter()
        .map(|records| Delayed::call(table, records))
        .collect();
    let held = cluster.compute_all(&tables)?;
    let heads: Vec<Remote<DataFrame>> = held
        .iter()
        .map(|table| cluster.submit(without_rows, table))
        .collect();
    let heads = cluster.gather(&heads)?;
    let schema = common(&heads).map_err(|error| crate::Error::schema("to_frame", &error))?;
    let whole = DataFrame::empty_with_schema(&schema);
    let held = held
        .into_iter()
        .zip(&heads)
        .map(|(table, head)| {
            if *head.schema() == schema {
                table
            } else {
                cluster.submit(conform, (table, whole.clone()))
            }
        })
        .collect();
    Ok(Frame::from_source(Source {
        name: "a bag".into(),
        schema,
        kind: Kind::Held(held),
        n_bytes: 0,
    })
    .on(&cluster))
}

/// Items as JSON, by what serde says of them; nothing of none.
fn as_json<T: Serialize>(items: Vec<T>) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::to_vec(&items).map_err(|error| format!("an item is no record: {error}").into())
}

/// Rows of items.
fn table(json: &[u8]) -> PolarsResult<DataFrame> {
    if json.is_empty() {
        return Ok(DataFrame::empty());
    }
    let unreadable =
        |error: serde_json::Error| PolarsError::ComputeError(format!("an item is no record: {error}").into());
    let items: Vec<Value> = serde_json::from_slice(json).map_err(unreadable)?;
    let rows: Vec<Map<String, Value>> = items
        .into_iter()
        .map(|item| match item {
            Value::Object(fields) => fields,
            Value::Array(values) => (0..)
                .zip(values)
                .map(|(at, value)| (format!("column_{at}"), value))
                .collect(),
            value => Map::from_iter([("value".to_string(), value)]),
        })
        .collect();
    let text = serde_json::to_vec(&rows).map_err(unreadable)?;
    JsonReader::new(Cursor::new(text))
        .with_json_format(JsonFormat::Json)
        .infer_schema_len(None)
        .finish()
}

/// The columns of all, each of the type that holds what each of them has.
fn common(heads: &[DataFrame]) -> PolarsResult<SchemaRef> {
    let some: Vec<LazyFrame> = heads
        .iter()
        .filter(|head| head.width() > 0)
        .map(|head| head.clone().lazy())
        .collect();
    if some.is_empty() {
        return Ok(SchemaRef::default());
    }
    let args = UnionArgs {
        to_supertypes: true,
        ..UnionArgs::default()
    };
    concat_lf_diagonal(some, args)?.collect_schema()
}

/// The same rows with the columns of another table.
fn conform(frame: DataFrame, like: DataFrame) -> PolarsResult<DataFrame> {
    let columns: PolarsResult<Vec<Column>> = like
        .schema()
        .iter()
        .map(|(name, dtype): (_, &DataType)| match frame.column(name) {
            Ok(column) => column.cast(dtype),
            Err(_) => Ok(Column::full_null(name.clone(), frame.height(), dtype)),
        })
        .collect();
    DataFrame::new(frame.height(), columns?)
}
