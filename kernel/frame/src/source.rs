//! Where a frame's rows come from, cut into partitions.

use std::{fs, path::Path, time::UNIX_EPOCH};

use polars::prelude::{DataFrame, IntoLazy, LazyFrame, PlRefPath, PolarsError, PolarsResult, ScanArgsParquet, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use skep_cluster::Remote;

use crate::{Error, Result, csv::CsvPart, timeseries::Timeseries};

/// One partition of a source, as a task is given it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    Csv(CsvPart),
    Parquet { path: String, stamp: Stamp },
    Timeseries { spec: Timeseries, index: u32 },
}

/// Length and date of a file: a file that changed is another input, so that no old result is taken for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub n_bytes: u64,
    modified_ns: u64,
}

impl Stamp {
    pub fn of(path: &Path) -> Result<Stamp> {
        let meta = fs::metadata(path).map_err(|error| Error::Source(format!("{}: {error}", path.display())))?;
        let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Stamp { n_bytes: meta.len(), modified_ns: modified.map_or(0, |since| since.as_nanos() as u64) })
    }
}

impl Part {
    pub fn read(&self) -> PolarsResult<LazyFrame> {
        match self {
            Part::Csv(part) => part.read(),
            Part::Parquet { path, .. } => LazyFrame::scan_parquet(PlRefPath::from(path.as_str()), ScanArgsParquet::default()),
            Part::Timeseries { spec, index } => spec.partition(*index).map(IntoLazy::lazy),
        }
    }

    /// Names the file, and what can be done.
    pub fn explain(&self, error: PolarsError) -> PolarsError {
        match self {
            Part::Csv(part) => part.explain(&error),
            Part::Parquet { path, .. } => PolarsError::ComputeError(format!("{path}: {error}").into()),
            Part::Timeseries { .. } => error,
        }
    }
}

/// A source with its schema.
#[derive(Clone)]
pub(crate) struct Source {
    pub name: String,
    pub schema: SchemaRef,
    pub kind: Kind,
    /// Bytes on disk, or in memory.
    pub n_bytes: u64,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Parts(Vec<Part>),
    /// Partitions of a frame that is in this process.
    Local(Vec<DataFrame>),
    /// Partitions that workers hold.
    Held(Vec<Remote<DataFrame>>),
}

impl Source {
    pub fn n_partitions(&self) -> usize {
        match &self.kind {
            Kind::Parts(parts) => parts.len(),
            Kind::Local(frames) => frames.len(),
            Kind::Held(handles) => handles.len(),
        }
    }

    pub fn where_it_is(&self) -> &'static str {
        match self.kind {
            Kind::Parts(_) if self.n_bytes > 0 => "on disk, not read yet",
            Kind::Parts(_) => "not made yet",
            Kind::Local(_) => "in this process",
            Kind::Held(_) => "on the workers",
        }
    }

    pub fn parquet(pattern: &str) -> Result<Source> {
        let paths = find(pattern)?;
        let mut parts = Vec::new();
        let mut schema: Option<(SchemaRef, String)> = None;
        let mut n_bytes = 0;
        for path in paths {
            let stamp = Stamp::of(Path::new(&path))?;
            n_bytes += stamp.n_bytes;
            let read = LazyFrame::scan_parquet(PlRefPath::from(path.as_str()), ScanArgsParquet::default()).and_then(|mut frame| frame.collect_schema());
            let found = read.map_err(|error| Error::Source(format!("{path}: {error}\nhint: is it a Parquet file, and whole?")))?;
            match &schema {
                Some((first, first_path)) if **first != *found => {
                    return Err(Error::Source(format!("{path} has other columns than {first_path}: {}\nhint: read them apart", difference(first, &found))));
                }
                Some(_) => {}
                None => schema = Some((found, path.clone())),
            }
            parts.push(Part::Parquet { path, stamp });
        }
        let (schema, _) = schema.expect("invariant: `find` gives at least one file");
        Ok(Source { name: pattern.to_string(), schema, kind: Kind::Parts(parts), n_bytes })
    }
}

/// The files of a pattern, in order.
pub(crate) fn find(pattern: &str) -> Result<Vec<String>> {
    let matches = glob::glob(pattern).map_err(|error| Error::Source(format!("`{pattern}` is no pattern: {error}")))?;
    let mut paths: Vec<String> =
        matches.flatten().filter(|path| path.is_file()).map(|path| fs::canonicalize(&path).unwrap_or(path).to_string_lossy().into_owned()).collect();
    paths.sort();
    if paths.is_empty() {
        let here = std::env::current_dir().map_or_else(|_| String::new(), |here| format!(" (paths begin at {})", here.display()));
        return Err(Error::Source(format!("no file matches `{pattern}`{here}\nhint: look at the path; `*` matches within one folder, `**` across folders")));
    }
    Ok(paths)
}

/// The first thing in which two schemas differ.
pub(crate) fn difference(a: &Schema, b: &Schema) -> String {
    for (name, dtype) in a.iter() {
        match b.get(name) {
            None => return format!("`{name}` is missing"),
            Some(other) if other != dtype => return format!("`{name}` is {other} instead of {dtype}"),
            Some(_) => {}
        }
    }
    b.iter_names().find(|name| a.get(name).is_none()).map_or_else(|| "the order of columns".to_string(), |name| format!("`{name}` is new"))
}
