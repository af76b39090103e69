//! Where a frame's rows come from, cut into partitions.

use std::{path::Path, sync::Arc};

use polars::prelude::{
    DataFrame, DslPlan, IntoLazy, IpcScanOptions, LazyFileListReader, LazyFrame, LazyJsonLineReader,
    ParquetReader, PlRefPath, PolarsError, PolarsResult, ScanArgsParquet, ScanSources, Schema, SchemaRef,
    SerReader, UnifiedScanArgs,
};
use polars_plan::dsl::PlanSerializationContext;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_cluster::{AnyHandle, Remote};
use skep_render::Message;

use crate::{
    Error, Result,
    csv::{self, CsvPart},
    files::{Stamp, find},
    fit::{Fit, Options},
    timeseries::Timeseries,
};

/// One partition of a source, as a task is given it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    Csv(CsvPart),
    Parquet {
        path: String,
        stamp: Stamp,
        /// The first row and how many, of a large file.
        rows: Option<(i64, u32)>,
    },
    Timeseries {
        spec: Timeseries,
        index: u32,
    },
    /// A scan of one file by Polars, as a plan.
    Scan {
        path: String,
        stamp: Option<Stamp>,
        plan: ByteBuf,
    },
    /// A file that has other columns than all together.
    Fitted {
        part: Box<Part>,
        fit: Fit,
    },
}

impl Part {
    pub fn read(&self) -> PolarsResult<LazyFrame> {
        match self {
            Part::Csv(part) => part.read(),
            Part::Parquet { path, rows, .. } => {
                let whole =
                    LazyFrame::scan_parquet(PlRefPath::from(path.as_str()), ScanArgsParquet::default())?;
                Ok(match rows {
                    // Polars reads the row groups that have them.
                    Some((first, n)) => whole.slice(*first, *n),
                    None => whole,
                })
            }
            Part::Timeseries { spec, index } => spec.partition(*index).map(IntoLazy::lazy),
            Part::Scan { plan, .. } => DslPlan::deserialize_versioned(plan.as_slice()).map(LazyFrame::from),
            Part::Fitted { part, fit } => Ok(fit.of(part.read()?)),
        }
    }

    /// Names the file, and what can be done.
    pub fn explain(&self, error: PolarsError) -> PolarsError {
        match self {
            Part::Csv(part) => part.explain(&error),
            Part::Parquet { path, .. } | Part::Scan { path, .. } => {
                PolarsError::ComputeError(format!("{path}: {error}").into())
            }
            Part::Timeseries { .. } => error,
            Part::Fitted { part, .. } => part.explain(error),
        }
    }

    /// The file that it is read from.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Part::Csv(part) => Some(Path::new(&part.path)),
            Part::Parquet { path, .. } | Part::Scan { path, .. } => Some(Path::new(path)),
            Part::Timeseries { .. } => None,
            Part::Fitted { part, .. } => part.file(),
        }
    }

    fn fitted(self, fit: Option<Fit>) -> Part {
        match fit {
            Some(fit) => Part::Fitted {
                part: Box::new(self),
                fit,
            },
            None => self,
        }
    }

    /// As its file has it.
    fn as_read(&self) -> &Part {
        match self {
            Part::Fitted { part, .. } => part.as_read(),
            part => part,
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
    /// Partitions that calls will make.
    Made(Vec<AnyHandle<DataFrame>>),
}

impl Source {
    pub fn n_partitions(&self) -> usize {
        match &self.kind {
            Kind::Parts(parts) => parts.len(),
            Kind::Local(frames) => frames.len(),
            Kind::Held(handles) => handles.len(),
            Kind::Made(calls) => calls.len(),
        }
    }

    /// Its rows are read or made, rather than there.
    pub fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Parts(_))
    }

    /// Its partitions are tables that workers hold, or will.
    pub fn is_held(&self) -> bool {
        matches!(self.kind, Kind::Held(_) | Kind::Made(_))
    }

    /// Of all rows in memory, as far as can be guessed.
    pub fn n_bytes_in_memory(&self) -> f64 {
        /// What Parquet files grow by, roughly.
        const COMPRESSION: f64 = 4.0;
        match &self.kind {
            Kind::Parts(parts) => match parts.first().map(Part::as_read) {
                Some(Part::Parquet { .. }) => self.n_bytes as f64 * COMPRESSION,
                Some(Part::Timeseries { spec, .. }) => spec.n_rows() as f64 * 48.0,
                _ => self.n_bytes as f64,
            },
            Kind::Local(_) => self.n_bytes as f64,
            // Nobody knows; as much as is not done in one task.
            Kind::Made(calls) => calls.len() as f64 * 16e6,
            Kind::Held(handles) => handles
                .iter()
                .map(|handle| handle.n_bytes().unwrap_or(0) as f64)
                .sum(),
        }
    }

    pub fn where_it_is(&self) -> &'static str {
        match self.kind {
            Kind::Parts(_) if self.n_bytes > 0 => "on disk, not read yet",
            Kind::Parts(_) => "not made yet",
            Kind::Local(_) => "in this process",
            Kind::Held(_) => "on the workers",
            Kind::Made(_) => "not made yet",
        }
    }

    pub fn csv(pattern: &str, options: &Options) -> Result<Source> {
        let (schema, parts, n_bytes) = csv::scan(pattern, options)?;
        let parts = parts
            .into_iter()
            .map(|(part, fit)| Part::Csv(part).fitted(fit))
            .collect();
        Ok(Source {
            name: pattern.to_string(),
            schema,
            kind: Kind::Parts(parts),
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

    /// A table of this process, in so many parts.
    pub fn local(frame: &DataFrame, n_partitions: usize) -> Source {
        let n = n_partitions.clamp(1, frame.height().max(1));
        let at = |i: usize| i * frame.height() / n;
        let parts = (0..n)
            .map(|i| frame.slice(at(i) as i64, at(i + 1) - at(i)))
            .collect();
        Source {
            name: "DataFrame".into(),
            schema: frame.schema().clone(),
            kind: Kind::Local(parts),
            n_bytes: frame.estimated_size() as u64,
        }
    }

    pub fn ipc(pattern: &str, options: &Options) -> Result<Source> {
        Source::files(pattern, options, "an Arrow IPC file", |path, stamp| {
            let lazy = LazyFrame::scan_ipc(
                PlRefPath::from(path),
                IpcScanOptions::default(),
                UnifiedScanArgs::default(),
            )?;
            scanned(path, stamp, lazy)
        })
    }

    pub fn ndjson(pattern: &str, options: &Options) -> Result<Source> {
        Source::files(
            pattern,
            options,
            "a file of one JSON object a line",
            |path, stamp| {
                scanned(
                    path,
                    stamp,
                    LazyJsonLineReader::new(PlRefPath::from(path)).finish()?,
                )
            },
        )
    }

    pub fn parquet(pattern: &str, options: &Options) -> Result<Source> {
        Source::files(pattern, options, "a Parquet file", |path, stamp| {
            let mut lazy = LazyFrame::scan_parquet(PlRefPath::from(path), ScanArgsParquet::default())?;
            Ok((lazy.collect_schema()?, cut_parquet(path, stamp)?))
        })
    }

    /// Files of a pattern; `scan` tells the columns of one, and its parts.
    fn files(
        pattern: &str,
        options: &Options,
        what: &str,
        scan: impl Fn(&str, Stamp) -> PolarsResult<(SchemaRef, Vec<Part>)>,
    ) -> Result<Source> {
        let mut files = Vec::new();
        let mut n_bytes = 0;
        for path in find(pattern)? {
            let stamp = Stamp::of(Path::new(&path))?;
            n_bytes += stamp.n_bytes;
            let (schema, parts) = scan(&path, stamp).map_err(|error| {
                Error::Source(
                    Message::new(format!("{path}: {error}")).hint(format!("is it {what}, and whole?")),
                )
            })?;
            files.push((path, schema, parts));
        }
        let schemas: Vec<&Schema> = files.iter().map(|(_, schema, _)| &**schema).collect();
        let (first, others) = schemas
            .split_first()
            .expect("invariant: `find` gives at least one file");
        let common = options.common(first, others)?;
        let first_path = files[0].0.clone();
        let mut all = Vec::new();
        for (path, schema, parts) in files {
            let fit = options.fit(&path, &schema, &first_path, &common)?;
            all.extend(parts.into_iter().map(|part| part.fitted(fit.clone())));
        }
        Ok(Source {
            name: pattern.to_string(),
            schema: Arc::new(common),
            kind: Kind::Parts(all),
            n_bytes,
        })
    }

    /// What a plan of Polars scans by itself: one partition for each file, where files are independent.
    pub fn scan(leaf: &DslPlan) -> Result<Source> {
        let DslPlan::Scan {
            sources,
            unified_scan_args,
            scan_type,
            ..
        } = leaf
        else {
            unreachable!("invariant: asked for a scan")
        };
        let mut whole = LazyFrame::from(leaf.clone());
        let schema = whole
            .collect_schema()
            .map_err(|error| Error::schema("scan", &error))?;
        let args = unified_scan_args;
        let is_plain = args.row_index.is_none() && args.pre_slice.is_none() && args.deletion_files.is_none();
        let paths: Vec<PlRefPath> = match sources {
            ScanSources::Paths(paths) => paths.iter().cloned().collect(),
            _ => {
                return Err(Error::Unsupported(
                    Message::new("a scan of open files or bytes cannot travel to workers")
                        .hint("scan by path"),
                ));
            }
        };
        let name = paths.first().map_or_else(String::new, |path| path.to_string());
        let is_local = paths.iter().all(|path| !path.to_string().contains("://"));
        let mut files = Vec::new();
        if is_local && is_plain && args.schema.as_ref().is_none_or(|_| true) {
            for path in &paths {
                let text = path.to_string();
                let is_folder = Path::new(&text).is_dir();
                match (is_folder, args.glob && text.contains(['*', '?', '['])) {
                    // A folder may be partitioned by its names, which Polars sees to.
                    (true, _) => {
                        files.clear();
                        break;
                    }
                    (false, true) => files.extend(find(&text)?),
                    (false, false) => files.push(text),
                }
            }
        }
        let mut n_bytes = 0;
        let mut parts = Vec::new();
        for path in &files {
            let stamp = Stamp::of(Path::new(path))?;
            n_bytes += stamp.n_bytes;
            let plan = DslPlan::Scan {
                sources: ScanSources::Paths([PlRefPath::from(path.as_str())].into_iter().collect()),
                unified_scan_args: unified_scan_args.clone(),
                scan_type: scan_type.clone(),
                cached_ir: Default::default(),
            };
            parts.push(Part::Scan {
                path: path.clone(),
                stamp: Some(stamp),
                plan: written(&plan)?,
            });
        }
        if parts.is_empty() {
            parts.push(Part::Scan {
                path: name.clone(),
                stamp: None,
                plan: written(leaf)?,
            });
        }
        Ok(Source {
            name,
            schema,
            kind: Kind::Parts(parts),
            n_bytes,
        })
    }
}

/// Larger Parquet files are cut into partitions of this size, as it is on disk.
const PARQUET_BYTES: u64 = 64 << 20;

/// One partition, or several of a large file, by its rows.
fn cut_parquet(path: &str, stamp: Stamp) -> PolarsResult<Vec<Part>> {
    let part = |rows| Part::Parquet {
        path: path.to_string(),
        stamp,
        rows,
    };
    // A little more than one is one.
    let n = (stamp.n_bytes + PARQUET_BYTES / 2) / PARQUET_BYTES;
    if n <= 1 {
        return Ok(vec![part(None)]);
    }
    let n_rows = ParquetReader::new(std::fs::File::open(path)?).num_rows()? as u64;
    let at = |i: u64| i * n_rows / n;
    Ok((0..n)
        .map(|i| part(Some((at(i) as i64, (at(i + 1) - at(i)) as u32))))
        .collect())
}

/// A file's columns, and the file as one part.
fn scanned(path: &str, stamp: Stamp, mut lazy: LazyFrame) -> PolarsResult<(SchemaRef, Vec<Part>)> {
    let schema = lazy.collect_schema()?;
    let plan =
        written(&lazy.logical_plan).map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
    let part = Part::Scan {
        path: path.to_string(),
        stamp: Some(stamp),
        plan,
    };
    Ok((schema, vec![part]))
}

fn written(plan: &DslPlan) -> Result<ByteBuf> {
    let mut bytes = Vec::new();
    plan.serialize_versioned(&mut bytes, PlanSerializationContext::default())
        .map_err(|error| Error::Unsupported(format!("this scan cannot travel to workers: {error}").into()))?;
    Ok(bytes.into())
}
