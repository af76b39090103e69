//! The functions that run as tasks, and what they are given.

use std::io::{Cursor, Write};

use polars::prelude::{
    AllowedOptimizations, DataFrame, Expr, IntoLazy, IpcReader, IpcWriter, LazyFrame, ParquetWriter,
    PlSmallStr, PolarsError, PolarsResult, SerReader, SerWriter, SortMultipleOptions, UnionArgs, concat,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_cluster::register_codec;
use skep_render::Message;

use crate::{Error, source::Part};

/// One step on a partition, in Polars' own terms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Filter(Expr),
    Select(Vec<Expr>),
    WithColumns(Vec<Expr>),
    GroupBy {
        keys: Vec<Expr>,
        aggs: Vec<Expr>,
    },
    Sort {
        by: Vec<PlSmallStr>,
        descending: Vec<bool>,
        nulls_last: bool,
    },
    Head(u32),
}

impl Op {
    pub fn apply(self, frame: LazyFrame) -> LazyFrame {
        match self {
            Op::Filter(predicate) => frame.filter(predicate),
            Op::Select(exprs) => frame.select(exprs),
            Op::WithColumns(exprs) => frame.with_columns(exprs),
            Op::GroupBy { keys, aggs } => frame.group_by(keys).agg(aggs),
            Op::Sort {
                by,
                descending,
                nulls_last,
            } => {
                let options = SortMultipleOptions::default()
                    .with_order_descending_multi(descending)
                    .with_nulls_last(nulls_last)
                    .with_maintain_order(true);
                frame.sort(by, options)
            }
            Op::Head(n) => frame.limit(n),
        }
    }
}

/// Steps as bytes: expressions need a self-describing format, which task arguments are not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ops(ByteBuf);

impl Ops {
    /// # Errors
    /// For expressions that cannot travel: those with closures in them.
    pub fn new(ops: &[Op]) -> crate::Result<Ops> {
        let bytes = rmp_serde::to_vec_named(ops).map_err(|error| {
            Error::Unsupported(Message::new(format!("an expression cannot travel to workers: {error}")).hint("expressions with closures (`map`, `apply`) are not there yet; write them with Polars' own operations"))
        })?;
        Ok(Ops(bytes.into()))
    }

    fn apply(&self, frame: LazyFrame) -> PolarsResult<DataFrame> {
        let ops: Vec<Op> = rmp_serde::from_slice(&self.0).map_err(|error| {
            PolarsError::ComputeError(format!("the steps cannot be read: {error}").into())
        })?;
        ops.into_iter()
            .fold(frame, |frame, op| op.apply(frame))
            .with_optimizations(AllowedOptimizations::default())
            .collect()
    }
}

/// Reads a partition and takes the first steps on it: Polars pushes them into the reader.
pub(crate) fn scan(part: Part, ops: Ops) -> PolarsResult<DataFrame> {
    let explain = |error: PolarsError| part.explain(error);
    let frame = part.read().map_err(explain)?;
    ops.apply(frame).map_err(explain)
}

/// Steps on a partition that is in memory.
pub(crate) fn apply(frame: DataFrame, ops: Ops) -> PolarsResult<DataFrame> {
    ops.apply(frame.lazy())
}

/// Partitions on top of each other, and steps on the whole.
pub(crate) fn combine(frames: Vec<DataFrame>, ops: Ops) -> PolarsResult<DataFrame> {
    let frames: Vec<LazyFrame> = frames.into_iter().map(IntoLazy::lazy).collect();
    ops.apply(concat(frames, UnionArgs::default())?)
}

/// A partition without its rows: what tells the schema of a frame that was found by name.
pub(crate) fn without_rows(frame: DataFrame) -> DataFrame {
    frame.clear()
}

/// Rows of a partition.
pub(crate) fn count_rows(frame: DataFrame) -> u64 {
    frame.height() as u64
}

/// Writes a partition beside its final name and moves it there, so that no reader sees half a file.
pub(crate) fn write_parquet(mut frame: DataFrame, path: String) -> PolarsResult<u64> {
    let unfinished = format!("{path}.unfinished");
    let file = std::fs::File::create(&unfinished)
        .map_err(|error| PolarsError::ComputeError(format!("{unfinished}: {error}").into()))?;
    ParquetWriter::new(file).finish(&mut frame)?;
    std::fs::rename(&unfinished, &path)
        .map_err(|error| PolarsError::ComputeError(format!("{path}: {error}").into()))?;
    Ok(frame.height() as u64)
}

/// A frame travels in pieces of about this size.
const BATCH_BYTES: usize = 32 << 20;

fn write(frame: &DataFrame, out: &mut dyn Write) -> Result<(), String> {
    // Polars copies a batch before it writes it. In one piece that is as much new memory as the frame has; in pieces it is
    // the same memory again.
    let n_batches = frame.estimated_size().div_ceil(BATCH_BYTES).max(1);
    let n_rows = frame.height().div_ceil(n_batches).max(1);
    let mut pieces = frame.slice(0, n_rows);
    for start in (n_rows..frame.height()).step_by(n_rows) {
        pieces
            .vstack_mut(&frame.slice(start as i64, n_rows))
            .map_err(|error| error.to_string())?;
    }
    IpcWriter::new(out)
        .finish(&mut pieces)
        .map_err(|error| error.to_string())
}

pub(crate) fn register() {
    register_codec(skep_cluster::Codec::<Vec<DataFrame>> {
        write: |frames, out| {
            let encode = |frame: &DataFrame| {
                let mut bytes = Vec::new();
                write(frame, &mut bytes)?;
                Ok::<_, String>(ByteBuf::from(bytes))
            };
            let frames = frames
                .iter()
                .map(encode)
                .collect::<Result<Vec<ByteBuf>, String>>()?;
            postcard::to_io(&frames, out)
                .map(drop)
                .map_err(|error| error.to_string())
        },
        read: |bytes| {
            let frames: Vec<ByteBuf> =
                postcard::from_bytes(bytes.as_slice()).map_err(|error| error.to_string())?;
            let read = |bytes: ByteBuf| {
                IpcReader::new(Cursor::new(bytes.as_slice()))
                    .finish()
                    .map_err(|error| error.to_string())
            };
            frames.into_iter().map(read).collect()
        },
        size: |frames| frames.iter().map(|frame| frame.estimated_size() as u64).sum(),
    });
    register_codec(skep_cluster::Codec::<DataFrame> {
        write: |frame, out| write(frame, out),
        read: |bytes| {
            let Some(segment) = bytes.segment() else {
                return IpcReader::new(Cursor::new(bytes.as_slice()))
                    .finish()
                    .map_err(|error| error.to_string());
            };
            let file = segment.file().try_clone().map_err(|error| error.to_string())?;
            // Without a path Polars reads the file all the same, and copies it; which path it is does not
            // matter.
            let path = Some(segment.path().to_path_buf());
            // SAFETY: a segment is written once, before anybody else can name it. So its columns may be where
            // they are.
            unsafe { IpcReader::new(file).memory_mapped(path) }
                .set_rechunk(false)
                .finish()
                .map_err(|error| error.to_string())
        },
        size: |frame| frame.estimated_size() as u64,
    });
    skep_cluster::register_list::<DataFrame>();
}
