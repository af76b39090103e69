//! Frames and SQLite: tables of a database in one file.
//!
//! SQLite has one writer, so rows are written where the program runs, partition by partition, in one transaction: another
//! program sees the table as it was before, or whole. Dates and times are text as SQLite's own functions read it; dates
//! come back as dates, times as text.

use std::path::Path;

use polars::prelude::{AnyValue, Column, DataFrame, DataType, NamedFrom, Series, TimeUnit};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params_from_iter,
    types::{Value, ValueRef},
};
use skep_render::Message;

use crate::{Error, Frame, Result};

/// How long to wait for another program that writes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

impl Frame {
    /// Makes this the table of that name in a SQLite database, in place of what was there, and returns the number of rows. The
    /// file is made if it is not there. Written twice it is the same.
    ///
    /// ```no_run
    /// # use skep_frame::Frame;
    /// # fn main() -> skep_frame::Result<()> {
    /// let flights = Frame::read_csv("data/flights/*.csv")?;
    /// flights.write_sqlite("flights.db", "flights")?;
    /// let busy = Frame::read_sqlite("flights.db", "select Origin, count(*) as n from flights group by Origin")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Frame::collect`]; when the database cannot be written, or has been busy for 30 s. The table is then as it was.
    pub fn write_sqlite(&self, database: impl AsRef<Path>, table: &str) -> Result<usize> {
        self.write_database(database.as_ref(), table, &Mode::Replace)
    }

    /// As [`Frame::write_sqlite`], but of what is there only the rows go that have the keys of new ones: the day that is
    /// loaded again. The table is made if it is not there.
    ///
    /// # Errors
    /// As [`Frame::write_sqlite`], and when the columns are others than those of the table.
    pub fn write_sqlite_by<'a>(
        &self,
        database: impl AsRef<Path>,
        table: &str,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<usize> {
        let keys: Vec<String> = keys.into_iter().map(str::to_string).collect();
        let schema = self.schema()?;
        if let Some(unknown) = keys.iter().find(|key| !schema.contains(key)) {
            return Err(Error::Schema(Message::new(format!(
                "there is no column `{unknown}` to write by"
            ))));
        }
        self.write_database(database.as_ref(), table, &Mode::By(keys))
    }

    /// What a query of a SQLite database gives, as a frame of one partition.
    ///
    /// # Errors
    /// When there is no such database, or the query is refused.
    pub fn read_sqlite(database: impl AsRef<Path>, query: &str) -> Result<Frame> {
        let path = database.as_ref();
        let failed = |error| failed(path, &error);
        if !path.is_file() {
            return Err(Error::Source(Message::new(format!(
                "there is no database {}",
                path.display()
            ))));
        }
        // Reading a frame changes nothing.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        let read = read(&db, query).map_err(failed)?;
        Ok(Frame::from_dataframe(read, 1))
    }

    fn write_database(&self, path: &Path, table: &str, mode: &Mode) -> Result<usize> {
        let failed = |error| failed(path, &error);
        if table.trim().is_empty() {
            return Err(Error::Source(Message::new(
                "a table without a name cannot be written",
            )));
        }
        let schema = self.schema()?;
        let parts = self.delayed()?;
        let cluster = self.cluster()?;
        let parts = cluster.compute_all(&parts)?;
        let mut db = Connection::open(path).map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let name = quoted(table);
        if matches!(mode, Mode::Replace) {
            transaction
                .execute(&format!("drop table if exists {name}"), [])
                .map_err(failed)?;
        }
        let columns: Vec<String> = schema
            .iter()
            .map(|(column, dtype)| format!("{} {}", quoted(column), declared(dtype)))
            .collect();
        transaction
            .execute(
                &format!("create table if not exists {name} ({})", columns.join(", ")),
                [],
            )
            .map_err(failed)?;
        let names: Vec<String> = schema.iter_names().map(|column| quoted(column)).collect();
        let insert = format!(
            "insert into {name} ({}) values ({})",
            names.join(", "),
            vec!["?"; names.len()].join(", ")
        );
        let (mut n_rows, mut frames) = (0, Vec::new());
        for part in parts {
            let frame: DataFrame = part.gather()?;
            match mode {
                Mode::Replace => n_rows += add(&transaction, &insert, &frame).map_err(failed)?,
                // Two partitions may have one key: all old rows go before the first new one comes.
                Mode::By(keys) => {
                    remove(&transaction, &name, keys, &frame).map_err(failed)?;
                    frames.push(frame);
                }
            }
        }
        for frame in frames {
            n_rows += add(&transaction, &insert, &frame).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(n_rows)
    }
}

enum Mode {
    Replace,
    By(Vec<String>),
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let message = Message::new(format!("the database {}: {error}", path.display()));
    Error::Source(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            message.hint("another program has been writing to it for 30 s: try again when it has ended")
        }
        Some(ErrorCode::ReadOnly) => {
            message.hint("`read_sqlite` reads: `skep::rusqlite::Connection` is for statements that write")
        }
        Some(ErrorCode::DiskFull) => message.hint("free some space; the table is as it was"),
        Some(ErrorCode::NotADatabase) => message.hint("the file is something else: choose another name"),
        Some(ErrorCode::CannotOpen) => message.hint("is the folder there, and can it be written?"),
        _ => message,
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The type that a column is declared with, by which it is read back.
fn declared(dtype: &DataType) -> &'static str {
    match dtype {
        DataType::Boolean => "BOOLEAN",
        DataType::Date => "DATE",
        DataType::Datetime(..) => "TIMESTAMP",
        DataType::Binary => "BLOB",
        dtype if dtype.is_integer() => "INTEGER",
        dtype if dtype.is_float() => "REAL",
        _ => "TEXT",
    }
}

fn add(db: &Transaction<'_>, insert: &str, frame: &DataFrame) -> rusqlite::Result<usize> {
    let mut statement = db.prepare_cached(insert)?;
    let columns = frame.columns();
    for row in 0..frame.height() {
        let values = columns
            .iter()
            .map(|column| value_at(column, row))
            .collect::<rusqlite::Result<Vec<Value>>>()?;
        statement.execute(params_from_iter(values))?;
    }
    Ok(frame.height())
}

/// Removes the rows that have the keys of these.
fn remove(db: &Transaction<'_>, table: &str, keys: &[String], frame: &DataFrame) -> rusqlite::Result<()> {
    let conditions: Vec<String> = keys.iter().map(|key| format!("{} is ?", quoted(key))).collect();
    let mut statement = db.prepare(&format!("delete from {table} where {}", conditions.join(" and ")))?;
    let columns: Vec<&Column> = frame
        .columns()
        .iter()
        .filter(|column| keys.iter().any(|key| key == column.name().as_str()))
        .collect();
    let mut gone = std::collections::HashSet::new();
    for row in 0..frame.height() {
        let values = keys
            .iter()
            .filter_map(|key| columns.iter().find(|column| column.name().as_str() == key))
            .map(|column| value_at(column, row))
            .collect::<rusqlite::Result<Vec<Value>>>()?;
        if gone.insert(format!("{values:?}")) {
            statement.execute(params_from_iter(values))?;
        }
    }
    Ok(())
}

fn value_at(column: &Column, row: usize) -> rusqlite::Result<Value> {
    let value = column
        .get(row)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.to_string().into()))?;
    Ok(match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(is_so) => Value::Integer(is_so.into()),
        AnyValue::Binary(bytes) => Value::Blob(bytes.to_vec()),
        AnyValue::BinaryOwned(bytes) => Value::Blob(bytes),
        AnyValue::Float32(number) => Value::Real(number.into()),
        AnyValue::Float64(number) => Value::Real(number),
        value if value.is_integer() => {
            let number = value.try_extract::<i64>();
            Value::Integer(number.map_err(|_| {
                let what = format!(
                    "{value} in `{}` is larger than SQLite's whole numbers",
                    column.name()
                );
                rusqlite::Error::ToSqlConversionFailure(what.into())
            })?)
        }
        value => Value::Text(value.str_value().into_owned()),
    })
}

fn read(db: &Connection, query: &str) -> rusqlite::Result<DataFrame> {
    let mut statement = db.prepare(query)?;
    let described: Vec<(String, String)> = statement
        .columns()
        .iter()
        .map(|column| {
            let declared = column.decl_type().unwrap_or_default().to_uppercase();
            (column.name().to_string(), declared)
        })
        .collect();
    let mut values: Vec<Vec<AnyValue<'static>>> = vec![Vec::new(); described.len()];
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for (at, column) in values.iter_mut().enumerate() {
            column.push(match row.get_ref(at)? {
                ValueRef::Null => AnyValue::Null,
                ValueRef::Integer(number) => AnyValue::Int64(number),
                ValueRef::Real(number) => AnyValue::Float64(number),
                ValueRef::Text(text) => AnyValue::StringOwned(String::from_utf8_lossy(text).as_ref().into()),
                ValueRef::Blob(bytes) => AnyValue::BinaryOwned(bytes.to_vec()),
            });
        }
    }
    let other = |error: polars::prelude::PolarsError| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Null, error.to_string().into())
    };
    let columns = described
        .into_iter()
        .zip(values)
        .map(|((name, declared), values)| {
            let series = if values.iter().all(|value| matches!(value, AnyValue::Null)) {
                Series::new(name.as_str().into(), vec![None::<String>; values.len()])
            } else {
                Series::from_any_values(name.as_str().into(), &values, false)?
            };
            // What does not read as it was declared stays as it is.
            let wanted = match declared.as_str() {
                "BOOLEAN" => DataType::Boolean,
                "DATE" => DataType::Date,
                "TIMESTAMP" | "DATETIME" => DataType::Datetime(TimeUnit::Microseconds, None),
                "REAL" => DataType::Float64,
                "INTEGER" => DataType::Int64,
                _ => return Ok(Column::from(series)),
            };
            Ok(Column::from(series.strict_cast(&wanted).unwrap_or(series)))
        })
        .collect::<polars::prelude::PolarsResult<Vec<Column>>>()
        .map_err(other)?;
    let height = columns.first().map_or(0, Column::len);
    DataFrame::new(height, columns).map_err(other)
}
