//! Files of a pattern whose columns differ, or have other types than they seem to have.

use polars::prelude::{DataType, ExtraColumnsPolicy, MissingColumnsPolicy};

use crate::{Frame, Result, fit::Options, source::Source};

/// Files that become a frame: [`Frame::scan_csv`], [`Frame::scan_parquet`], [`Frame::scan_ipc`], [`Frame::scan_ndjson`].
///
/// ```no_run
/// # use skep_frame::{Frame, polars::prelude::*};
/// let years = Frame::scan_csv("years/*.csv")
///     .schema_overrides([("TailNum", DataType::String)])
///     .missing_columns(MissingColumnsPolicy::Insert)
///     .extra_columns(ExtraColumnsPolicy::Ignore)
///     .finish()?;
/// # Ok::<(), skep_frame::Error>(())
/// ```
#[must_use = "files are read by `.finish()?`"]
#[derive(Clone, Debug)]
pub struct Scan {
    format: Format,
    pattern: String,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Csv,
    Parquet,
    Ipc,
    Ndjson,
}

impl Scan {
    fn new(format: Format, pattern: &str) -> Scan {
        Scan {
            format,
            pattern: pattern.to_string(),
            options: Options::default(),
        }
    }

    /// The types of these columns, whatever samples or files say. With [`Scan::missing_columns`] it may name columns that the
    /// first file lacks.
    pub fn schema_overrides<'a>(mut self, types: impl IntoIterator<Item = (&'a str, DataType)>) -> Scan {
        let types = types.into_iter().map(|(name, dtype)| (name.to_string(), dtype));
        self.options.types.extend(types);
        self
    }

    /// What becomes of a column that the first file has and another one lacks: an error, or nulls.
    pub fn missing_columns(mut self, policy: MissingColumnsPolicy) -> Scan {
        self.options.missing = policy;
        self
    }

    /// What becomes of a column that the first file lacks: an error, or it is left out.
    pub fn extra_columns(mut self, policy: ExtraColumnsPolicy) -> Scan {
        self.options.extra = policy;
        self
    }

    /// The frame. Headers and samples are read now, rows when the frame runs.
    ///
    /// # Errors
    /// When no file matches, one cannot be read, or columns do not fit.
    pub fn finish(self) -> Result<Frame> {
        let (pattern, options) = (self.pattern.as_str(), &self.options);
        let source = match self.format {
            Format::Csv => Source::csv(pattern, options),
            Format::Parquet => Source::parquet(pattern, options),
            Format::Ipc => Source::ipc(pattern, options),
            Format::Ndjson => Source::ndjson(pattern, options),
        };
        source.map(Frame::from_source)
    }
}

impl Frame {
    /// CSV files by pattern, with options; [`Frame::read_csv`] without.
    pub fn scan_csv(pattern: &str) -> Scan {
        Scan::new(Format::Csv, pattern)
    }

    /// Parquet files by pattern, with options; [`Frame::read_parquet`] without.
    pub fn scan_parquet(pattern: &str) -> Scan {
        Scan::new(Format::Parquet, pattern)
    }

    /// Arrow IPC (Feather) files by pattern, with options; [`Frame::read_ipc`] without.
    pub fn scan_ipc(pattern: &str) -> Scan {
        Scan::new(Format::Ipc, pattern)
    }

    /// Files of one JSON object a line by pattern, with options; [`Frame::read_ndjson`] without.
    pub fn scan_ndjson(pattern: &str) -> Scan {
        Scan::new(Format::Ndjson, pattern)
    }
}
