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
    fit::{Fit, Options},
};

/// Larger files are cut into ranges of this size.
const PARTITION_BYTES: u64 = 64 << 20;
/// Rows of each file that are looked at for types.
const SAMPLE_ROWS: usize = 1000;

/// A CSV file, or a range of its bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CsvPart {
    pub path: String,
    stamp: Stamp,
    /// Rows that begin in this range; `None` is the whole file.
    range: Option<Range>,
    columns: Vec<(PlSmallStr, DataType)>,
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Range {
    start: u64,
    end: u64,
    /// Where the first byte stands: a line break inside quotes ends no row.
    quotes: Quotes,
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
            Some(range) => {
                let bytes = self
                    .read_range(range)
                    .map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
                let sources = ScanSources::Buffers(Arc::from([bytes.into()]));
                LazyCsvReader::new_with_sources(sources)
                    .with_has_header(false)
                    .with_schema(Some(self.schema()))
                    .finish()
            }
        }
    }

    /// The rows that begin in the range: from after the first end of a row before it to the end of its last one.
    fn read_range(&self, range: Range) -> std::io::Result<Vec<u8>> {
        let Range {
            start,
            end,
            mut quotes,
        } = range;
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut skipped = Vec::new();
        let begin = if start == 0 {
            read_row(&mut reader, &mut skipped, &mut quotes)?;
            skipped.len() as u64
        } else {
            reader.seek(SeekFrom::Start(start - 1))?;
            let mut before = [0];
            reader.read_exact(&mut before)?;
            quotes.before = before[0];
            if !quotes.is_at_row() {
                read_row(&mut reader, &mut skipped, &mut quotes)?;
            }
            start + skipped.len() as u64
        };
        let mut bytes = Vec::new();
        reader
            .by_ref()
            .take(end.saturating_sub(begin))
            .read_to_end(&mut bytes)?;
        quotes.pass(&bytes);
        if begin < end && !quotes.is_at_row() {
            read_row(&mut reader, &mut bytes, &mut quotes)?;
        }
        Ok(bytes)
    }

    pub fn explain(&self, error: &PolarsError) -> PolarsError {
        let text = plain(error);
        let line = self
            .line_of(&text)
            .map_or_else(String::new, |line| format!(", line {line}"));
        PolarsError::ComputeError(
            Message::new(format!("{}{line}: {text}", self.path))
                .hint(hint_for(&text))
                .to_string()
                .into(),
        )
    }

    /// The line of the file, by the value that could not be read, or by the number of its fields.
    fn line_of(&self, text: &str) -> Option<u64> {
        let value = text
            .split_once("could not parse `")
            .and_then(|(_, rest)| rest.split_once('`'))
            .map(|(value, _)| value.as_bytes().to_vec());
        let has_too_many = text.contains("more fields");
        if value.is_none() && !has_too_many {
            return None;
        }
        let mut reader = BufReader::new(File::open(&self.path).ok()?);
        let (mut row, mut line, mut at) = (Vec::new(), 1, 0);
        loop {
            row.clear();
            if read_row(&mut reader, &mut row, &mut Quotes::default()).ok()? == 0 {
                return None;
            }
            // Of a range, only what begins there.
            let is_here = line > 1 && self.range.is_none_or(|range| at >= range.start);
            let is_it = match &value {
                Some(value) => fields(&row).any(|field| field == value.as_slice()),
                None => fields(&row).count() > self.columns.len(),
            };
            if is_here && is_it {
                return Some(line);
            }
            at += row.len() as u64;
            line += row.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
}

fn hint_for(text: &str) -> &'static str {
    if text.contains("No such file") {
        "it was there when the frame was made: make the frame again"
    } else if text.contains("utf-8") {
        "it is not in UTF-8: convert it first, for example with `iconv -f latin1 -t utf-8`"
    } else if text.contains("more fields") {
        "every row needs as many fields as the header"
    } else {
        "look at that file; if a type was guessed wrong, give it: `Frame::read_csv_typed(glob, [(\"column\", DataType::Float64)])`"
    }
}

/// Reads up to the end of a row: a line break outside quotes. How many bytes these are.
fn read_row(reader: &mut impl BufRead, bytes: &mut Vec<u8>, quotes: &mut Quotes) -> std::io::Result<usize> {
    /// A quote that nothing closes must not take the rest of the file.
    const LONGEST: usize = 256 << 20;
    let before = bytes.len();
    loop {
        let from = bytes.len();
        if reader.read_until(b'\n', bytes)? == 0 {
            break;
        }
        quotes.pass(&bytes[from..]);
        if quotes.is_at_row() || bytes.len() - before > LONGEST {
            break;
        }
    }
    Ok(bytes.len() - before)
}

/// Whether a place of a file is inside quotes. Quotes are those that begin a field, and what closes them; others are text.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Quotes {
    is_inside: bool,
    /// The byte before closed quotes: another quote opens them again, and both are one in the text.
    is_closed: bool,
    before: u8,
}

impl Default for Quotes {
    /// At the beginning of a row.
    fn default() -> Quotes {
        Quotes {
            is_inside: false,
            is_closed: false,
            before: b'\n',
        }
    }
}

impl Quotes {
    fn is_at_row(self) -> bool {
        !self.is_inside && self.before == b'\n'
    }

    fn pass(&mut self, bytes: &[u8]) {
        if !self.is_inside && !bytes.contains(&b'"') {
            if let Some(last) = bytes.last() {
                self.before = *last;
                self.is_closed = false;
            }
            return;
        }
        for byte in bytes {
            let is_quote = *byte == b'"';
            let opens = is_quote && (self.is_closed || matches!(self.before, b',' | b'\n' | b'\r'));
            let closes = is_quote && self.is_inside;
            self.is_inside = self.is_inside && !closes || !self.is_inside && opens;
            self.is_closed = closes;
            self.before = *byte;
        }
    }
}

/// The fields of a row, without their quotes.
fn fields(row: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    row.trim_ascii_end()
        .split(move |byte| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        })
        .map(|field| {
            field
                .strip_prefix(b"\"")
                .and_then(|field| field.strip_suffix(b"\""))
                .unwrap_or(field)
        })
}

/// The ranges of a file. Where quotes are seen, they are counted through the whole file: a line break inside quotes at a cut
/// would be taken for the end of a row.
fn ranges(path: &str, n_bytes: u64) -> std::io::Result<Vec<Option<Range>>> {
    let n = n_bytes.div_ceil(PARTITION_BYTES).max(1);
    if n == 1 || is_compressed(path)? {
        return Ok(vec![None]);
    }
    let mut quotes = Quotes::default();
    let mut file = File::open(path)?;
    let mut has_quotes = false;
    let mut window = vec![0; 1 << 20];
    for i in 0..n {
        file.seek(SeekFrom::Start(
            (i * PARTITION_BYTES).saturating_sub(window.len() as u64 / 2),
        ))?;
        let mut here = Vec::new();
        file.by_ref().take(window.len() as u64).read_to_end(&mut here)?;
        has_quotes |= here.contains(&b'"');
    }
    file.seek(SeekFrom::Start(0))?;
    let mut ranges = Vec::new();
    for i in 0..n {
        let (start, end) = (i * PARTITION_BYTES, ((i + 1) * PARTITION_BYTES).min(n_bytes));
        ranges.push(Some(Range { start, end, quotes }));
        if has_quotes && i + 1 < n {
            let mut rest = file.by_ref().take(end - start);
            loop {
                let n_read = rest.read(&mut window)?;
                if n_read == 0 {
                    break;
                }
                quotes.pass(&window[..n_read]);
            }
        }
    }
    Ok(ranges)
}

/// By the first bytes: gzip, zlib, zstd.
fn is_compressed(path: &str) -> std::io::Result<bool> {
    let mut first = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut first)?;
    let starts = [
        &[0x1f, 0x8b][..],
        &[0x78, 0x01],
        &[0x78, 0x9c],
        &[0x78, 0xda],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    Ok(starts.iter().any(|start| first.starts_with(start)))
}

/// A part, and how its columns become those of all.
type FittedPart = (CsvPart, Option<Fit>);

/// Reads headers and samples of all files; the rows stay where they are.
pub(crate) fn scan(pattern: &str, options: &Options) -> Result<(SchemaRef, Vec<FittedPart>, u64)> {
    let paths = find(pattern)?;
    let headers = paths
        .iter()
        .map(|path| header(path))
        .collect::<Result<Vec<Vec<String>>>>()?;
    check_separator(pattern, &paths[0], &headers[0])?;
    let mut types = sampled_types(&paths)?;
    types.extend(options.types.iter().cloned());
    let schemas: Vec<Schema> = headers
        .iter()
        .map(|names| {
            // A column that is empty in every sample could be anything; text can hold it.
            let of = |name: &String| types.get(name).cloned().unwrap_or(DataType::String);
            names
                .iter()
                .map(|name| Field::new(name.as_str().into(), of(name)))
                .collect()
        })
        .collect();
    let others: Vec<&Schema> = schemas[1..].iter().collect();
    let common = options.common(&schemas[0], &others)?;
    let mut parts = Vec::new();
    let mut n_bytes = 0;
    for (path, schema) in paths.iter().zip(&schemas) {
        let fit = options.fit(path, schema, &paths[0], &common)?;
        let stamp = Stamp::of(Path::new(path))?;
        n_bytes += stamp.n_bytes;
        let ranges =
            ranges(path, stamp.n_bytes).map_err(|error| Error::Source(format!("{path}: {error}").into()))?;
        for range in ranges {
            let part = CsvPart {
                path: path.clone(),
                stamp,
                range,
                columns: schema
                    .iter()
                    .map(|(name, dtype)| (name.clone(), dtype.clone()))
                    .collect(),
            };
            parts.push((part, fit.clone()));
        }
    }
    Ok((Arc::new(common), parts, n_bytes))
}

/// A header of one column that has another separator in it is none.
fn check_separator(pattern: &str, path: &str, names: &[String]) -> Result<()> {
    let [only] = names else { return Ok(()) };
    let Some(separator) = [';', '\t', '|']
        .into_iter()
        .find(|separator| only.contains(*separator))
    else {
        return Ok(());
    };
    Err(Error::Source(
        Message::new(format!(
            "{path} has one column, `{}`: its fields seem to be separated by {separator:?}",
            only.escape_debug()
        ))
        .hint(format!(
            "`Frame::from(LazyCsvReader::new(PlRefPath::new(\"{pattern}\")).with_separator(b{separator:?}).finish()?)` reads them"
        )),
    ))
}

fn header(path: &str) -> Result<Vec<String>> {
    let explain = |error: &dyn std::fmt::Display| Error::Source(format!("{path}: {error}").into());
    let mut begins = [0; 4];
    if File::open(path).is_ok_and(|mut file| file.read_exact(&mut begins).is_ok()) && &begins == b"PAR1" {
        return Err(Error::Source(
            Message::new(format!("{path} is a Parquet file")).hint("`Frame::read_parquet` reads it"),
        ));
    }
    let mut reader = head(path, 0)?
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
        let read = head(path, SAMPLE_ROWS)?
            .with_infer_schema_length(Some(SAMPLE_ROWS))
            .finish()
            .and_then(LazyFrame::collect);
        let sample = read.map_err(|error| {
            Error::Source(Message::new(format!("{path}: {}", plain(&error))).hint(hint_for(&plain(&error))))
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

/// The header and the first rows, whole ones: what follows is not read at all.
fn head(path: &str, n_rows: usize) -> Result<LazyCsvReader> {
    /// So much of a file tells enough.
    const MOST: usize = 16 << 20;
    let explain = |error: std::io::Error| Error::Source(format!("{path}: {error}").into());
    if is_compressed(path).map_err(explain)? {
        let reader = LazyCsvReader::new(PlRefPath::from(path)).with_glob(false);
        return Ok(reader.with_n_rows(Some(n_rows)));
    }
    let mut reader = BufReader::new(File::open(path).map_err(explain)?);
    let mut bytes = Vec::new();
    for _ in 0..=n_rows {
        if read_row(&mut reader, &mut bytes, &mut Quotes::default()).map_err(explain)? == 0
            || bytes.len() > MOST
        {
            break;
        }
    }
    let sources = ScanSources::Buffers(Arc::from([bytes.into()]));
    Ok(LazyCsvReader::new_with_sources(sources))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> Vec<usize> {
        let mut reader = BufReader::new(text.as_bytes());
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        while read_row(&mut reader, &mut bytes, &mut Quotes::default()).expect("bytes in memory are read") > 0
        {
            ends.push(bytes.len());
        }
        ends
    }

    #[test]
    fn rows_end_outside_quotes() {
        assert_eq!(ends("a,b\n1,2\n"), [4, 8]);
        assert_eq!(ends("\"a\nb\",c\nd,e"), [8, 11]);
        assert_eq!(ends("a,\"say \"\"no\nway\"\"\"\nd"), [19, 20]);
        assert_eq!(
            ends("pipe of 5\",1\nd,2\n"),
            [13, 17],
            "a quote inside a field is text"
        );
    }

    /// Wherever a file is cut, each of its rows is in one range.
    #[test]
    fn a_cut_loses_no_row() {
        let text = "x,y\n1,\"a\nb\"\n2,\"c\"\"\n,d\"\n3,\n4,5\" pipe\n5,\"\"\"\n\"\"\"\n6,e\n";
        let path = std::env::temp_dir().join(format!("skep-cut-{}.csv", std::process::id()));
        std::fs::write(&path, text).expect("the temporary folder takes a file");
        let whole = &text.as_bytes()["x,y\n".len()..];
        for cut in 1..text.len() as u64 {
            // As it is found in a file: some bytes at a time.
            let mut quotes = Quotes::default();
            text.as_bytes()[..cut as usize]
                .chunks(1)
                .for_each(|bytes| quotes.pass(bytes));
            let part = |range| CsvPart {
                path: path.to_string_lossy().into_owned(),
                stamp: Stamp::of(&path).expect("it is there"),
                range: Some(range),
                columns: Vec::new(),
            };
            let read = |start, end, quotes| {
                let range = Range { start, end, quotes };
                part(range).read_range(range).expect("it can be read")
            };
            let both = [
                read(0, cut, Quotes::default()),
                read(cut, text.len() as u64, quotes),
            ];
            assert_eq!(both.concat(), whole, "cut at {cut}");
        }
        std::fs::remove_file(path).expect("it is there");
    }
}
