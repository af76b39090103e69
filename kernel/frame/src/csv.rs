//! CSV files: one schema for all of them, and byte ranges of large ones.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use polars::prelude::{
    DataType, Field, LazyCsvReader, LazyFileListReader, LazyFrame, PlRefPath, PlSmallStr, PolarsError,
    PolarsResult, ScanSources, Schema, SchemaRef,
};
use serde::{Deserialize, Serialize};
use skep_render::Message;

use crate::{
    Error, Result,
    files::{Stamp, find},
};

/// Larger files are cut into ranges of this size.
const PARTITION_BYTES: u64 = 64 << 20;
/// Rows of each file that are looked at for types.
const SAMPLE_ROWS: usize = 1000;

/// A CSV file, or a range of its bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CsvPart {
    path: String,
    stamp: Stamp,
    /// Rows that begin in this range; `None` is the whole file.
    range: Option<(u64, u64)>,
    columns: Vec<(PlSmallStr, DataType)>,
}

impl CsvPart {
    fn schema(&self) -> SchemaRef {
        Arc::new(
            self.columns
                .iter()
                .map(|(name, dtype)| Field::new(name.clone(), dtype.clone()))
                .collect::<Schema>(),
        )
    }

    pub fn read(&self) -> PolarsResult<LazyFrame> {
        match self.range {
            None => LazyCsvReader::new(PlRefPath::from(self.path.as_str()))
                .with_glob(false)
                .with_schema(Some(self.schema()))
                .finish(),
            Some((start, end)) => {
                let bytes = self
                    .read_range(start, end)
                    .map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
                let sources = ScanSources::Buffers(Arc::from([bytes.into()]));
                LazyCsvReader::new_with_sources(sources)
                    .with_has_header(false)
                    .with_schema(Some(self.schema()))
                    .finish()
            }
        }
    }

    /// The rows that begin in the range: from after the first line break before `start` to the one that ends
    /// the last row. A line break inside quotes would be taken for the end of a row; that is why only large
    /// files are cut.
    fn read_range(&self, start: u64, end: u64) -> std::io::Result<Vec<u8>> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut skipped = Vec::new();
        let begin = match start {
            0 => reader.read_until(b'\n', &mut skipped)? as u64,
            _ => {
                reader.seek(SeekFrom::Start(start - 1))?;
                start - 1 + reader.read_until(b'\n', &mut skipped)? as u64
            }
        };
        let mut bytes = Vec::new();
        reader
            .by_ref()
            .take(end.saturating_sub(begin))
            .read_to_end(&mut bytes)?;
        if begin < end && !bytes.ends_with(b"\n") {
            reader.read_until(b'\n', &mut bytes)?;
        }
        Ok(bytes)
    }

    pub fn explain(&self, error: &PolarsError) -> PolarsError {
        PolarsError::ComputeError(
            Message::new(format!("{}: {}", self.path, plain(error))).hint("look at that file; if a type was guessed wrong, give it: `Frame::read_csv_typed(glob, [(\"column\", DataType::Float64)])`")
            .to_string()
            .into(),
        )
    }
}

/// Reads headers and samples of all files; the rows stay where they are.
pub(crate) fn scan(pattern: &str, given: &[(String, DataType)]) -> Result<(SchemaRef, Vec<CsvPart>, u64)> {
    let paths = find(pattern)?;
    let names = header(&paths[0])?;
    for path in &paths[1..] {
        let other = header(path)?;
        if other != names {
            let differs = names
                .iter()
                .zip(&other)
                .position(|(a, b)| a != b)
                .unwrap_or(names.len().min(other.len()));
            let at = |names: &[String]| {
                names
                    .get(differs)
                    .map_or_else(|| "nothing".to_string(), |name| format!("`{name}`"))
            };
            return Err(Error::Source(
                Message::new(format!(
                    "{path} has other columns than {}: column {} is {} instead of {}",
                    paths[0],
                    differs + 1,
                    at(&other),
                    at(&names)
                ))
                .hint("read files with different columns apart, and select what they share"),
            ));
        }
    }
    let mut types = sampled_types(&paths)?;
    for (name, dtype) in given {
        if !names.contains(name) {
            return Err(Error::Schema(
                Message::new(format!(
                    "a type is given for `{name}`, but the files have no such column"
                ))
                .hint(format!("they have {}", names.join(", "))),
            ));
        }
        types.insert(name.clone(), dtype.clone());
    }
    // A column that is empty in every sample could be anything; text can hold it.
    let columns: Vec<(PlSmallStr, DataType)> = names
        .iter()
        .map(|name| {
            (
                name.as_str().into(),
                types.get(name).cloned().unwrap_or(DataType::String),
            )
        })
        .collect();
    let schema = columns
        .iter()
        .map(|(name, dtype)| Field::new(name.clone(), dtype.clone()))
        .collect::<Schema>();
    let mut parts = Vec::new();
    let mut n_bytes = 0;
    for path in paths {
        let stamp = Stamp::of(Path::new(&path))?;
        n_bytes += stamp.n_bytes;
        let n_ranges = stamp.n_bytes.div_ceil(PARTITION_BYTES).max(1);
        for i in 0..n_ranges {
            let range = (n_ranges > 1).then_some((
                i * PARTITION_BYTES,
                ((i + 1) * PARTITION_BYTES).min(stamp.n_bytes),
            ));
            parts.push(CsvPart {
                path: path.clone(),
                stamp,
                range,
                columns: columns.clone(),
            });
        }
    }
    Ok((Arc::new(schema), parts, n_bytes))
}

fn header(path: &str) -> Result<Vec<String>> {
    let explain = |error: &dyn std::fmt::Display| Error::Source(format!("{path}: {error}").into());
    let mut reader = LazyCsvReader::new(PlRefPath::from(path))
        .with_glob(false)
        .with_n_rows(Some(0))
        .with_infer_schema_length(Some(0))
        .finish()
        .map_err(|error| explain(&error))?;
    let schema = reader.collect_schema().map_err(|error| match error {
        PolarsError::NoData(_) => Error::Source(
            Message::new(format!("{path}: the file is empty"))
                .hint("remove it, or leave it out of the pattern"),
        ),
        error => explain(&error),
    })?;
    Ok(schema.iter_names().map(ToString::to_string).collect())
}

/// A type for each column that has a value in some sample. Columns that are empty at the start of one file
/// get their type from another: guessing from the first file alone is the classic trap.
fn sampled_types(paths: &[String]) -> Result<BTreeMap<String, DataType>> {
    let mut types: BTreeMap<String, DataType> = BTreeMap::new();
    for path in paths {
        let sources = ScanSources::Buffers(Arc::from([head(path)?.into()]));
        let read = LazyCsvReader::new_with_sources(sources)
            .with_infer_schema_length(Some(SAMPLE_ROWS))
            .finish()
            .and_then(LazyFrame::collect);
        let sample = read.map_err(|error| {
            Error::Source(
                Message::new(format!("{path}: {}", plain(&error)))
                    .hint("every row needs as many fields as the header"),
            )
        })?;
        for column in sample.columns() {
            if column.null_count() == column.len() {
                continue;
            }
            let dtype = column.dtype().clone();
            types
                .entry(column.name().to_string())
                .and_modify(|known| *known = wider(known, &dtype))
                .or_insert(dtype);
        }
    }
    Ok(types)
}

/// The header and the first rows. Only whole lines: what follows is not read at all.
fn head(path: &str) -> Result<Vec<u8>> {
    let explain = |error: std::io::Error| Error::Source(format!("{path}: {error}").into());
    let mut reader = BufReader::new(File::open(path).map_err(explain)?);
    let mut bytes = Vec::new();
    for _ in 0..=SAMPLE_ROWS {
        if reader.read_until(b'\n', &mut bytes).map_err(explain)? == 0 || bytes.len() > 16 << 20 {
            break;
        }
    }
    Ok(bytes)
}

/// What Polars says went wrong, without the advice that names its own options.
fn plain(error: &PolarsError) -> String {
    let text = error.to_string();
    text.split("\n\n").next().unwrap_or(&text).trim().to_string()
}

/// The type that holds values of both.
fn wider(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::String,
    }
}
