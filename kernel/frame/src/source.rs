//! Where a frame's rows come from, cut into partitions.

use std::path::Path;

use polars::prelude::{
    DataFrame, DataType, IntoLazy, LazyFrame, PlRefPath, PolarsError, PolarsResult, ScanArgsParquet,
    SchemaRef,
};
use serde::{Deserialize, Serialize};
use skep_cluster::Remote;
use skep_render::Message;

use crate::{
    Error, Result,
    csv::{self, CsvPart},
    files::{Stamp, difference, find},
    timeseries::Timeseries,
};

/// One partition of a source, as a task is given it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    Csv(CsvPart),
    Parquet { path: String, stamp: Stamp },
    Timeseries { spec: Timeseries, index: u32 },
}

impl Part {
    pub fn read(&self) -> PolarsResult<LazyFrame> {
        match self {
            Part::Csv(part) => part.read(),
            Part::Parquet { path, .. } => {
                LazyFrame::scan_parquet(PlRefPath::from(path.as_str()), ScanArgsParquet::default())
            }
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

    pub fn csv(pattern: &str, given: &[(String, DataType)]) -> Result<Source> {
        let (schema, parts, n_bytes) = csv::scan(pattern, given)?;
        Ok(Source {
            name: pattern.to_string(),
            schema,
            kind: Kind::Parts(parts.into_iter().map(Part::Csv).collect()),
            n_bytes,
        })
    }

    /// Rows that are made where they are needed.
    pub fn timeseries(spec: &Timeseries) -> Source {
        let parts = (0..spec.n_partitions())
            .map(|index| Part::Timeseries {
                spec: spec.clone(),
                index,
            })
            .collect();
        Source {
            name: format!("timeseries, seed {}", spec.seed_of()),
            schema: spec.schema(),
            kind: Kind::Parts(parts),
            n_bytes: 0,
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
            let read = LazyFrame::scan_parquet(PlRefPath::from(path.as_str()), ScanArgsParquet::default())
                .and_then(|mut frame| frame.collect_schema());
            let found = read.map_err(|error| {
                Error::Source(
                    Message::new(format!("{path}: {error}")).hint("is it a Parquet file, and whole?"),
                )
            })?;
            match &schema {
                Some((first, first_path)) if **first != *found => {
                    return Err(Error::Source(
                        Message::new(format!(
                            "{path} has other columns than {first_path}: {}",
                            difference(first, &found)
                        ))
                        .hint("read them apart"),
                    ));
                }
                Some(_) => {}
                None => schema = Some((found, path.clone())),
            }
            parts.push(Part::Parquet { path, stamp });
        }
        let (schema, _) = schema.expect("invariant: `find` gives at least one file");
        Ok(Source {
            name: pattern.to_string(),
            schema,
            kind: Kind::Parts(parts),
            n_bytes,
        })
    }
}
