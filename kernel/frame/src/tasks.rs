//! What runs as tasks: the functions, and what they are given.

use std::io::{Cursor, Write};

use polars::prelude::row_encode::{_get_rows_encoded_ca, _get_rows_encoded_ca_unordered};
use polars::prelude::{
    BinaryOffsetChunked, Column, DataFrame, DataType, DslPlan, Engine, Expr, IdxCa, IntoColumn, IntoLazy,
    IpcReader, IpcWriter, LazyFrame, NewChunkedArray, PlSmallStr, PolarsError, PolarsResult, SerReader,
    SerWriter, SortMultipleOptions, UnionArgs, UniqueKeepStrategy, concat,
};
use polars_plan::dsl::PlanSerializationContext;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_cluster::register_codec;
use skep_render::Message;

use crate::{
    Error,
    plan::{Order, Ungrouped, map_leaves},
    source::Part,
};

/// A stage's plan, as its tasks are given it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    plan: ByteBuf,
    /// Polars' other engine runs it.
    in_memory: bool,
}

impl Work {
    /// # Errors
    /// For plans that cannot travel: those with functions of the program in them.
    pub fn new(plan: &DslPlan) -> crate::Result<Work> {
        let mut bytes = Vec::new();
        plan.serialize_versioned(&mut bytes, PlanSerializationContext::default())
            .map_err(|error| {
                Error::Unsupported(
                    Message::new(format!("this query cannot travel to workers: {error}")).hint(
                        "a function of the program cannot be in an expression (`map`, `apply`): use `map_partitions(f)`, or Polars' own operations",
                    ),
                )
            })?;
        Ok(Work {
            plan: bytes.into(),
            in_memory: has_slice_before_the_end(plan),
        })
    }

    fn plan(&self) -> PolarsResult<DslPlan> {
        DslPlan::deserialize_versioned(self.plan.as_slice())
    }
}

/// Of rows that come in several pieces Polars' streaming engine gives all from `slice(-50, 30)` on.
fn has_slice_before_the_end(plan: &DslPlan) -> bool {
    const SLICE: &str = "SLICE[offset: -";
    let text = LazyFrame::from(plan.clone()).describe_plan().unwrap_or_default();
    text.split(SLICE).skip(1).any(|slice| {
        let mut numbers = slice
            .split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty());
        let mut next = || numbers.next().and_then(|n| n.parse::<u64>().ok());
        matches!((next(), next()), (Some(offset), Some(len)) if len < offset)
    })
}

/// The plan to run where groups would be as many as rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Instead {
    probe: Work,
    work: Work,
    n_rows: f64,
    rows_per_group: f64,
}

impl Instead {
    pub fn new(ungrouped: &Ungrouped) -> crate::Result<Instead> {
        Ok(Instead {
            probe: Work::new(&ungrouped.probe)?,
            work: Work::new(&ungrouped.plan)?,
            n_rows: ungrouped.n_rows,
            rows_per_group: ungrouped.rows_per_group,
        })
    }

    /// Whether most groups have about one row here, by some rows' keys.
    fn is_better(&self, fillings: &[Filling], tables: &[DataFrame]) -> PolarsResult<bool> {
        let keys = run(&self.probe, fillings, tables.to_vec())?;
        if keys.height() == 0 {
            return Ok(false);
        }
        let distinct = keys
            .clone()
            .lazy()
            .unique(None, UniqueKeepStrategy::Any)
            .collect()?;
        let n_groups = n_groups(keys.height() as f64, distinct.height() as f64);
        Ok(n_groups * self.rows_per_group > self.n_rows.max(keys.height() as f64))
    }
}

/// Groups of equal size of which so many drawn rows show so many.
fn n_groups(n_rows: f64, n_distinct: f64) -> f64 {
    let shown = |n: f64| n * (1.0 - (-n_rows / n).exp());
    let (mut low, mut high) = (n_distinct.max(1.0), 1e12);
    for _ in 0..80 {
        let middle = (low * high).sqrt();
        if shown(middle) < n_distinct {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// What fills one placeholder of a partition's plan: parts of sources, then tables from other tasks, on top of each other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Filling {
    pub parts: Vec<Part>,
    pub n_tables: usize,
}

/// The plan on one partition.
fn run(work: &Work, fillings: &[Filling], tables: Vec<DataFrame>) -> PolarsResult<DataFrame> {
    let mut tables = tables.into_iter();
    let mut parts: Vec<&Part> = Vec::new();
    let mut leaves = Vec::with_capacity(fillings.len());
    for filling in fillings {
        let mut frames = Vec::new();
        for part in &filling.parts {
            frames.push(part.read().map_err(|error| part.explain(error))?);
            parts.push(part);
        }
        for table in tables.by_ref().take(filling.n_tables) {
            // Pieces of nothing are the rule where there are many.
            if table.height() > 0 || filling.n_tables == 1 {
                frames.push(table.lazy());
            }
        }
        leaves.push(frames);
    }
    let n_inputs: usize = leaves.iter().map(|frames| frames.len().max(1)).sum();
    let mut failed = None;
    let mut leaves = leaves.into_iter();
    let plan = map_leaves(&work.plan()?, &mut |placeholder| {
        let mut frames = leaves.next().unwrap_or_default();
        match frames.len() {
            0 => placeholder.clone(),
            1 => frames.remove(0).logical_plan,
            _ => match concat(frames, UnionArgs::default()) {
                Ok(frame) => frame.logical_plan,
                Err(error) => {
                    failed = Some(error);
                    placeholder.clone()
                }
            },
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    // This engine takes rows as they are read, and groups them as they come: it needs less memory and less time.
    let explain = |error: PolarsError| match parts.as_slice() {
        [] => error,
        [part] => part.explain(error),
        _ => first_wrong(work, fillings).unwrap_or(error),
    };
    // Polars limits each input of a union, and then counts all of them as if that were the limit of the union.
    let is_one = n_inputs == 1;
    let query = LazyFrame::from(plan).with_slice_pushdown(is_one);
    if work.in_memory {
        return query.collect().map_err(explain);
    }
    let streamed = query.clone().collect_with_engine(Engine::Streaming);
    streamed
        .map(|result| result.unwrap_single())
        // It cannot do everything yet. What the data are to blame for fails again.
        .or_else(|_| query.collect())
        .map_err(explain)
}

/// Of several parts that a task reads together, the error of the first that fails alone: it can name its file.
fn first_wrong(work: &Work, fillings: &[Filling]) -> Option<PolarsError> {
    for (slot, filling) in fillings.iter().enumerate() {
        for part in &filling.parts {
            let mut alone = vec![Filling::default(); fillings.len()];
            alone[slot].parts.push(part.clone());
            if let Err(error) = run(work, &alone, Vec::new()) {
                return Some(error);
            }
        }
    }
    None
}

macro_rules! tasks {
    ($($name:ident)*) => { $(
        pub(crate) fn $name(work: Work, fillings: Vec<Filling>, tables: Vec<DataFrame>) -> PolarsResult<DataFrame> {
            run(&work, &fillings, tables)
        }
    )* };
}

// What progress calls them.
tasks!(scan rows partial group join sort unique window slice whole);

/// Rows with equal keys go to the same piece.
pub(crate) fn shuffle(
    work: Work,
    fillings: Vec<Filling>,
    tables: Vec<DataFrame>,
    unless: Option<Instead>,
    keys: Keys,
    n: u64,
) -> PolarsResult<Vec<DataFrame>> {
    let work = match unless {
        Some(instead) if instead.is_better(&fillings, &tables)? => instead.work,
        _ => work,
    };
    by_keys(run(&work, &fillings, tables)?, keys, n)
}

pub(crate) fn by_keys(frame: DataFrame, keys: Keys, n: u64) -> PolarsResult<Vec<DataFrame>> {
    let columns = columns_of(&frame, keys.read()?)?;
    let columns: PolarsResult<Vec<Column>> = columns.into_iter().map(comparable).collect();
    let rows = _get_rows_encoded_ca_unordered(PlSmallStr::EMPTY, &columns?)?;
    let piece_of: Vec<usize> = (0..frame.height())
        .map(|row| (hash(rows.get(row).unwrap_or_default()) % n) as usize)
        .collect();
    split(&frame, &piece_of, n as usize)
}

/// Some rows' places in the order.
pub(crate) fn sample(
    work: Work,
    fillings: Vec<Filling>,
    tables: Vec<DataFrame>,
    order: Keys,
) -> PolarsResult<DataFrame> {
    /// Of each partition: enough for pieces that differ by a tenth or so.
    const ROWS: usize = 1_000;
    let frame = run(&work, &fillings, tables)?;
    let places = places(&frame, &order.read_order()?)?;
    let step = (places.len() / ROWS).max(1);
    let some = (0..places.len())
        .step_by(step)
        .map(|row| places.get(row).unwrap_or_default());
    let some: Vec<&[u8]> = some.collect();
    let column = polars::prelude::BinaryChunked::from_slice("place".into(), &some).into_column();
    DataFrame::new(some.len(), vec![column])
}

/// The bounds of `n` ranges with about as many rows each.
pub(crate) fn bounds(samples: Vec<DataFrame>, n: u64) -> PolarsResult<DataFrame> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for sample in &samples {
        let places = sample.column("place")?.binary()?;
        all.extend(places.iter().map(|place| place.unwrap_or_default().to_vec()));
    }
    all.sort_unstable();
    let n = n as usize;
    let chosen: Vec<&[u8]> = (1..n)
        .filter_map(|i| all.get(i * all.len() / n).map(Vec::as_slice))
        .collect();
    let column = polars::prelude::BinaryChunked::from_slice("place".into(), &chosen).into_column();
    DataFrame::new(chosen.len(), vec![column])
}

/// Rows between the same bounds go to the same piece.
pub(crate) fn ranges(
    work: Work,
    fillings: Vec<Filling>,
    tables: Vec<DataFrame>,
    bounds: DataFrame,
    order: Keys,
    n: u64,
) -> PolarsResult<Vec<DataFrame>> {
    let frame = run(&work, &fillings, tables)?;
    let places = places(&frame, &order.read_order()?)?;
    let bounds = bounds.column("place")?.binary()?.clone();
    let bounds: Vec<&[u8]> = bounds.iter().map(Option::unwrap_or_default).collect();
    let piece_of: Vec<usize> = (0..frame.height())
        .map(|row| {
            let place = places.get(row).unwrap_or_default();
            bounds.partition_point(|bound| *bound <= place)
        })
        .collect();
    split(&frame, &piece_of, n as usize)
}

/// Expressions, as a plan over no rows: all that carries them is compiled for plans, and would be once more for anything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Keys(Work);

impl Keys {
    pub fn new(keys: &[Expr]) -> crate::Result<Keys> {
        Work::new(&DataFrame::empty().lazy().select(keys).logical_plan).map(Keys)
    }

    pub fn of_order(order: &Order) -> crate::Result<Keys> {
        let options = SortMultipleOptions::default()
            .with_order_descending_multi(order.descending.clone())
            .with_nulls_last_multi(order.nulls_last.clone());
        let sorted = DataFrame::empty().lazy().sort_by_exprs(&order.by, options);
        Work::new(&sorted.logical_plan).map(Keys)
    }

    fn read(&self) -> PolarsResult<Vec<Expr>> {
        match self.0.plan()? {
            DslPlan::Select { expr, .. } => Ok(expr),
            other => Err(PolarsError::ComputeError(format!("no keys: {other:?}").into())),
        }
    }

    fn read_order(&self) -> PolarsResult<Order> {
        match self.0.plan()? {
            DslPlan::Sort {
                by_column,
                sort_options,
                ..
            } => Ok(Order {
                by: by_column,
                descending: sort_options.descending,
                nulls_last: sort_options.nulls_last,
            }),
            other => Err(PolarsError::ComputeError(format!("no order: {other:?}").into())),
        }
    }
}

fn columns_of(frame: &DataFrame, exprs: Vec<Expr>) -> PolarsResult<Vec<Column>> {
    let exprs: Vec<Expr> = (0..)
        .zip(exprs)
        .map(|(i, expr)| expr.alias(format!("key{i}")))
        .collect();
    let keys = frame.clone().lazy().select(exprs).collect()?;
    Ok(keys.columns().to_vec())
}

/// Categories have other numbers in every process; their words are the same.
fn comparable(column: Column) -> PolarsResult<Column> {
    match column.dtype() {
        DataType::Categorical(..) => column.cast(&DataType::String),
        // 0.0 and -0.0 are equal, and so are all that are no number: Polars' own encoding sees to it.
        _ => Ok(column),
    }
}

fn places(frame: &DataFrame, order: &Order) -> PolarsResult<BinaryOffsetChunked> {
    let columns = columns_of(frame, order.by.clone())?;
    let columns: PolarsResult<Vec<Column>> = columns.into_iter().map(comparable_in_order).collect();
    _get_rows_encoded_ca(
        PlSmallStr::EMPTY,
        &columns?,
        &order.descending,
        &order.nulls_last,
        false,
    )
}

/// Categories are in order of their words.
fn comparable_in_order(column: Column) -> PolarsResult<Column> {
    comparable(column)
}

/// Eight bytes at a time, each mixed by a product of 128 bits: the low bits must be good, and keys may be long.
fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15_u128;
        (product >> 64) as u64 ^ product as u64
    };
    let mut words = bytes.chunks_exact(8);
    let mut hash = 0x2545_f491_4f6c_dd1d ^ bytes.len() as u64;
    for word in words.by_ref() {
        hash = mix(hash, u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(hash, u64::from_le_bytes(last))
}

/// The rows of each piece, in their order.
fn split(frame: &DataFrame, piece_of: &[usize], n: usize) -> PolarsResult<Vec<DataFrame>> {
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); n];
    for (row, piece) in piece_of.iter().enumerate() {
        rows[*piece].push(row as u32);
    }
    rows.into_iter()
        .map(|rows| frame.take(&IdxCa::from_vec(PlSmallStr::EMPTY, rows)))
        .collect()
}

/// A partition without its rows: what tells the schema of a frame that was found by name.
pub(crate) fn without_rows(frame: DataFrame) -> DataFrame {
    frame.clear()
}

/// A frame travels in pieces of about this size.
const BATCH_BYTES: usize = 32 << 20;

fn write(frame: &DataFrame, out: &mut dyn Write) -> Result<(), String> {
    // Polars copies a batch before it writes it. In one piece that is as much new memory as the frame has; in pieces it is
    // the same memory again.
    let n_batches = frame.estimated_size().div_ceil(BATCH_BYTES).max(1);
    // Categories have one dictionary for the whole file.
    if frame.dtypes().iter().any(has_categories) {
        let mut whole = frame.clone();
        whole.rechunk_mut();
        return IpcWriter::new(out)
            .finish(&mut whole)
            .map_err(|error| error.to_string());
    }
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

fn has_categories(dtype: &DataType) -> bool {
    match dtype {
        DataType::Categorical(..) | DataType::Enum(..) => true,
        DataType::List(inner) | DataType::Array(inner, _) => has_categories(inner),
        DataType::Struct(fields) => fields.iter().any(|field| has_categories(field.dtype())),
        _ => false,
    }
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
        rows: Some(|frames| frames.iter().map(|frame| frame.height() as u64).sum()),
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
        rows: Some(|frame| frame.height() as u64),
    });
    skep_cluster::register_list::<DataFrame>();
}
