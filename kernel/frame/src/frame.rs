//! The lazy frame: a query of Polars over partitions.

use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::{DataFrame, DataType, DslPlan, LazyFrame, PolarsResult, SchemaRef, len};
use skep_cluster::{Cluster, Delayed, Key, Remote};

use crate::{
    Error, Result, Timeseries, exec,
    explain::{Explained, Measured},
    plan::{Limits, Stages, lower, map_leaves, mark_of, marked},
    source::{Kind, Source},
    tasks::without_rows,
};

/// A partitioned, lazy table: a Polars query over many files or partitions.
///
/// ```no_run
/// # use skep_frame::{Frame, polars::prelude::*};
/// let flights = Frame::read_csv("data/flights/*.csv")?;
/// let delays = flights.filter(col("Cancelled").eq(lit(0)))
///     .group_by([col("Origin")]).agg([col("DepDelay").mean()])
///     .sort(["Origin"]).collect()?;
/// # Ok::<(), skep_frame::Error>(())
/// ```
///
/// Its methods are those of [`LazyFrame`], by the same names. Polars parses, types and optimises the query; what is cut into
/// stages of tasks, and why, says [`Frame::explain`]. Names and types are checked as the frame is built; the first error is
/// kept, and comes from whatever runs the frame.
///
/// The rows of a result are in the order that Polars gives them where it promises one: after a sort, and after steps that take
/// each row by itself. A group-by, a join, a window or unique rows come in any order, as with Polars' streaming engine.
#[derive(Clone)]
pub struct Frame {
    inner: Result<Arc<Query>>,
    /// Where it runs; without one, on the cluster that was started last.
    cluster: Option<Cluster>,
}

/// A query, and what its leaves stand for.
pub(crate) struct Query {
    pub lazy: LazyFrame,
    pub leaves: Vec<Leaf>,
    pub schema: SchemaRef,
    /// The tasks of the last run, by stage, and where they ran.
    pub ran: Mutex<Option<(Cluster, Vec<Vec<Key>>)>>,
}

/// A leaf is told by its mark; see [`marked`].
#[derive(Clone)]
pub(crate) struct Leaf {
    pub mark: usize,
    pub source: Arc<Source>,
}

impl Timeseries {
    /// The frame: `timestamp`, `id` (Poisson around 1000), `name`, `x` and `y` in [-1, 1).
    pub fn build(self) -> Frame {
        Frame::from_source(Source::timeseries(&self))
    }
}

impl Frame {
    /// CSV files by pattern, with a header each and the same columns. Types come from samples of all files.
    ///
    /// # Errors
    /// When no file matches, files have different columns (see [`Frame::scan_csv`]), or a sample cannot be read.
    pub fn read_csv(pattern: &str) -> Result<Frame> {
        Frame::scan_csv(pattern).finish()
    }

    /// As [`Frame::read_csv`], with the types of some columns given.
    ///
    /// # Errors
    /// As [`Frame::read_csv`], and when a given column does not exist.
    pub fn read_csv_typed<'a>(
        pattern: &str,
        types: impl IntoIterator<Item = (&'a str, DataType)>,
    ) -> Result<Frame> {
        Frame::scan_csv(pattern).schema_overrides(types).finish()
    }

    /// Parquet files by pattern, one partition each.
    ///
    /// # Errors
    /// When no file matches, one cannot be read, or schemas differ.
    pub fn read_parquet(pattern: &str) -> Result<Frame> {
        Frame::scan_parquet(pattern).finish()
    }

    /// Arrow IPC (Feather) files by pattern, one partition each.
    ///
    /// # Errors
    /// As [`Frame::read_parquet`].
    pub fn read_ipc(pattern: &str) -> Result<Frame> {
        Frame::scan_ipc(pattern).finish()
    }

    /// Files of one JSON object a line, by pattern, one partition each. Types come from samples of all files.
    ///
    /// # Errors
    /// As [`Frame::read_parquet`].
    pub fn read_ndjson(pattern: &str) -> Result<Frame> {
        Frame::scan_ndjson(pattern).finish()
    }

    /// A frame of this process in `n_partitions` parts.
    pub fn from_dataframe(frame: DataFrame, n_partitions: usize) -> Frame {
        Frame::from_source(Source::local(&frame, n_partitions))
    }

    /// Rows of several frames on top of each other.
    ///
    /// # Errors
    /// When their columns do not fit; also kept by the frame.
    pub fn concat(frames: impl AsRef<[Frame]>) -> Frame {
        let frames = frames.as_ref();
        let queries: Result<Vec<&Arc<Query>>> = frames.iter().map(Frame::query).collect();
        let build = queries.and_then(|queries| {
            let lazy = queries.iter().map(|query| query.lazy.clone()).collect::<Vec<_>>();
            let whole = polars::prelude::concat(lazy, Default::default());
            let leaves = queries.iter().flat_map(|query| query.leaves.clone()).collect();
            built("concat", whole, leaves)
        });
        Frame {
            inner: build,
            cluster: frames.iter().find_map(|frame| frame.cluster.clone()),
        }
    }

    /// A seeded table for trying things out; see [`Timeseries`].
    pub fn timeseries() -> Timeseries {
        Timeseries::default()
    }

    pub(crate) fn from_source(source: Source) -> Frame {
        let schema = source.schema.clone();
        let (plan, mark) = marked(&schema);
        let leaf = Leaf {
            mark,
            source: Arc::new(source),
        };
        Frame {
            cluster: None,
            inner: Ok(Arc::new(Query {
                lazy: LazyFrame::from(plan),
                leaves: vec![leaf],
                schema,
                ran: Mutex::default(),
            })),
        }
    }

    pub(crate) fn query(&self) -> Result<&Arc<Query>> {
        self.inner.as_ref().map_err(Clone::clone)
    }

    /// The same frame, but it runs on this cluster, and so does what is made of it. Without it a frame runs on the
    /// cluster that was started last.
    #[must_use]
    pub fn on(&self, cluster: &Cluster) -> Frame {
        Frame {
            cluster: Some(cluster.clone()),
            ..self.clone()
        }
    }

    pub(crate) fn cluster(&self) -> Result<Cluster> {
        Ok(self.cluster.clone().map_or_else(Cluster::current, Ok)?)
    }

    /// How much its tasks may take on the cluster on which it runs; without one, on this machine.
    fn limits(&self) -> Limits {
        let workers = self
            .cluster()
            .and_then(|cluster| Ok(cluster.info()?.workers))
            .unwrap_or_default();
        let n_threads: u32 = workers.iter().map(|worker| worker.threads).sum();
        match workers
            .iter()
            .map(|worker| worker.memory_limit / u64::from(worker.threads.max(1)))
            .min()
        {
            Some(n_bytes_each) => Limits::new(n_threads as usize, n_bytes_each),
            None => Limits::new(std::thread::available_parallelism().map_or(2, usize::from), 0),
        }
    }

    /// Any step of Polars: `frame.lazy(|lf| lf.with_row_index("n", None))`. Tables and files that the step brings with it
    /// become partitions of their own.
    #[must_use]
    pub fn lazy(&self, step: impl FnOnce(LazyFrame) -> LazyFrame) -> Frame {
        self.step("lazy", |lazy| Ok(step(lazy)))
    }

    /// The query, whose leaves only this frame can fill: for [`Frame::lazy`], which takes it back.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn lazy_frame(&self) -> Result<LazyFrame> {
        Ok(self.query()?.lazy.clone())
    }

    /// A step, by the name that errors give it.
    pub(crate) fn step(&self, name: &str, step: impl FnOnce(LazyFrame) -> PolarsResult<LazyFrame>) -> Frame {
        let build = |query: &Arc<Query>| built(name, step(query.lazy.clone()), query.leaves.clone());
        Frame {
            cluster: self.cluster.clone(),
            inner: self.query().and_then(build),
        }
    }

    /// A step with another frame.
    pub(crate) fn step_with(
        &self,
        other: &Frame,
        name: &str,
        step: impl FnOnce(LazyFrame, LazyFrame) -> PolarsResult<LazyFrame>,
    ) -> Frame {
        let build = || {
            let (left, right) = (self.query()?, other.query()?);
            let leaves = left.leaves.iter().chain(&right.leaves).cloned().collect();
            built(name, step(left.lazy.clone(), right.lazy.clone()), leaves)
        };
        Frame {
            cluster: self.cluster.clone().or_else(|| other.cluster.clone()),
            inner: build(),
        }
    }

    /// Another frame in its place, on the same cluster.
    pub(crate) fn replaced_by(&self, frame: Result<Frame>) -> Frame {
        Frame {
            inner: frame.and_then(|frame| frame.inner),
            cluster: self.cluster.clone(),
        }
    }

    /// A query of Polars over this frame and another one.
    #[must_use]
    pub fn of_both(&self, other: &Frame, query: impl FnOnce(LazyFrame, LazyFrame) -> LazyFrame) -> Frame {
        self.step_with(other, "of_both", |left, right| Ok(query(left, right)))
    }

    /// What a query over several frames is.
    pub(crate) fn of_many(frames: &[&Frame], name: &str, lazy: LazyFrame) -> Result<Frame> {
        let mut leaves = Vec::new();
        for frame in frames {
            leaves.extend(frame.query()?.leaves.iter().cloned());
        }
        Ok(Frame {
            inner: Ok(built(name, Ok(lazy), leaves)?),
            cluster: frames.iter().find_map(|frame| frame.cluster.clone()),
        })
    }

    /// Columns and types of the result.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(self.query()?.schema.clone())
    }

    /// Partitions of the result; 0 of a frame that was built wrongly.
    pub fn n_partitions(&self) -> usize {
        self.query()
            .and_then(|query| query.stages(self.limits()))
            .map_or(0, |(stages, _)| stages.result.len())
    }

    fn tasks(&self) -> Result<exec::Tasks> {
        let (stages, sources) = self.query()?.stages(self.limits())?;
        exec::graph(&stages, &sources)
    }

    /// Submits the frame's tasks, one handle for each partition of the result, and remembers them for [`Frame::explain`].
    fn submit(&self) -> Result<Vec<Remote<DataFrame>>> {
        let cluster = self.cluster()?;
        let tasks = self.tasks()?;
        let handles = cluster.compute_all(&tasks.result)?;
        let mut ran = self.query()?.ran.lock().unwrap_or_else(PoisonError::into_inner);
        *ran = Some((cluster, tasks.keys));
        Ok(handles)
    }

    pub(crate) fn delayed(&self) -> Result<Vec<Delayed<DataFrame>>> {
        Ok(self.tasks()?.result)
    }

    /// Runs the frame on the current cluster and brings the result here.
    ///
    /// # Errors
    /// The first error of building it; when there is no cluster; a partition's error with its file.
    pub fn collect(&self) -> Result<DataFrame> {
        let schema = self.schema()?;
        let handles = self.submit()?;
        let frames = self.cluster()?.gather(&handles)?;
        stacked(frames.into_iter(), &schema)
    }

    /// Runs several frames as one graph, so that what they share runs once, and brings their results here.
    ///
    /// ```no_run
    /// # use skep_frame::{Frame, polars::prelude::*};
    /// let flights = Frame::read_parquet("flights/*.parquet")?.filter(col("Cancelled").eq(lit(0)));
    /// let tables = Frame::collect_all(&[flights.group_by(["Dest"]).agg([len()]), flights.select([col("Distance").sum()])])?;
    /// assert_eq!(tables.len(), 2);
    /// # Ok::<(), skep_frame::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Frame::collect`], the first one.
    pub fn collect_all(frames: &[Frame]) -> Result<Vec<DataFrame>> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let named = frames.iter().find_map(|frame| frame.cluster.clone());
        let cluster = named.map_or_else(Cluster::current, Ok)?;
        let mut all = Vec::new();
        let mut ends = Vec::new();
        for frame in frames {
            all.extend(frame.on(&cluster).delayed()?);
            ends.push(all.len());
        }
        let handles = cluster.compute_all(&all)?;
        let mut parts = cluster.gather(&handles)?.into_iter();
        let mut begin = 0;
        let mut tables = Vec::new();
        for (frame, end) in frames.iter().zip(ends) {
            tables.push(stacked(parts.by_ref().take(end - begin), &frame.schema()?)?);
            begin = end;
        }
        Ok(tables)
    }

    /// The first `n` rows, here.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn head(&self, n: u32) -> Result<DataFrame> {
        self.limit(n).collect()
    }

    /// The last `n` rows, here.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn tail(&self, n: u32) -> Result<DataFrame> {
        self.step("tail", |lazy| Ok(lazy.tail(n))).collect()
    }

    /// Runs the frame and leaves its partitions on the workers; what follows starts from there.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn persist(&self) -> Result<Frame> {
        let schema = self.schema()?;
        let cluster = self.cluster()?;
        let handles = self.submit()?;
        for handle in &handles {
            handle.wait()?;
        }
        Ok(Frame::from_source(Source {
            name: "persisted".into(),
            schema,
            n_bytes: handles.iter().filter_map(Remote::n_bytes).sum(),
            kind: Kind::Held(handles),
        })
        .on(&cluster))
    }

    /// As [`Frame::persist`], under a name: the partitions outlive this frame, and this program.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn publish(&self, name: &str) -> Result<Frame> {
        let frame = self.persist()?;
        if let [Leaf { source, .. }] = frame.query()?.leaves.as_slice()
            && let Kind::Held(handles) = &source.kind
        {
            self.cluster()?.publish_all(name, handles)?;
        }
        Ok(frame)
    }

    /// The frame that was published under a name.
    ///
    /// # Errors
    /// When there is none, or the name stands for something else; when there is no cluster.
    pub fn lookup(name: &str) -> Result<Frame> {
        let cluster = Cluster::current()?;
        let handles: Vec<Remote<DataFrame>> = cluster.lookup_all(name)?;
        let first = handles
            .first()
            .ok_or_else(|| Error::Source(format!("`{name}` has no partitions").into()))?;
        let schema = cluster.submit(without_rows, first).gather()?.schema().clone();
        Ok(Frame::from_source(Source {
            name: name.to_string(),
            schema,
            n_bytes: handles.iter().filter_map(Remote::n_bytes).sum(),
            kind: Kind::Held(handles),
        }))
    }

    /// Rows of the result.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn len(&self) -> Result<usize> {
        let counted = self.select([len().alias("len")]).collect()?;
        let n = counted.column("len").ok().and_then(|column| column.get(0).ok());
        Ok(n.and_then(|n| n.extract::<usize>()).unwrap_or(0))
    }

    /// Whether the result has no rows.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.limit(1).len()? == 0)
    }

    /// Polars' own plan of the query, as it was written.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn describe_plan(&self) -> Result<String> {
        let described = self.query()?.lazy.describe_plan();
        described.map_err(|error| Error::schema("describe_plan", &error))
    }

    /// Polars' own plan of the query, once it is optimised: what [`Frame::explain`] cuts into stages. Its leaves are tables
    /// without rows, which stand for the frame's partitions.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn describe_optimized_plan(&self) -> Result<String> {
        let described = self.query()?.lazy.describe_optimized_plan();
        described.map_err(|error| Error::schema("describe_optimized_plan", &error))
    }

    /// The tasks that the frame will run.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn graph(&self) -> Result<skep_render::graph::Graph> {
        Ok(Delayed::graph_of_all(&self.delayed()?))
    }

    /// The stages in words, first one first: what each does, on how many partitions, and why it ends where it ends; then what
    /// may become trouble. Once the frame has run, also what each stage took: its results, its time on all threads together,
    /// and its slowest task beside the median.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn explain(&self) -> Result<Explained> {
        let (stages, sources) = self.query()?.stages(self.limits())?;
        let ran = self.query()?.ran.lock().unwrap_or_else(PoisonError::into_inner);
        let measured = match &*ran {
            // Planned for another cluster it may have other stages.
            Some((cluster, keys)) if keys.len() == stages.stages.len() => measured(cluster, keys),
            _ => Vec::new(),
        };
        Ok(Explained::new(&stages, &sources, &measured))
    }
}

impl Query {
    /// The stages, and the sources that their leaves stand for.
    pub fn stages(&self, limits: Limits) -> Result<(Stages, Vec<Arc<Source>>)> {
        let sources: Vec<Arc<Source>> = self.leaves.iter().map(|leaf| leaf.source.clone()).collect();
        // The optimiser makes empty tables, of what is filtered by `false`.
        let others = std::cell::RefCell::new(sources);
        let leaf_of = |df: &DataFrame| {
            let known = self.leaves.iter().position(|leaf| mark_of(df) == Some(leaf.mark));
            known.unwrap_or_else(|| {
                let mut sources = others.borrow_mut();
                sources.push(Arc::new(Source::local(df, 1)));
                sources.len() - 1
            })
        };
        let source = |at: usize| others.borrow()[at].clone();
        let stages = lower(&self.lazy, &leaf_of, &source, limits)
            .map_err(|error| Error::schema("this query", &error))?;
        Ok((stages, others.into_inner()))
    }

    /// The source, of a query that does nothing to it.
    pub fn bare(&self) -> Option<&Source> {
        match (&self.lazy.logical_plan, self.leaves.as_slice()) {
            (DslPlan::DataFrameScan { .. }, [leaf]) => Some(&leaf.source),
            _ => None,
        }
    }
}

/// Partitions on top of each other.
fn stacked(frames: impl Iterator<Item = DataFrame>, schema: &SchemaRef) -> Result<DataFrame> {
    let mut frames = frames.filter(|frame| frame.height() > 0);
    let mut whole = frames
        .next()
        .unwrap_or_else(|| DataFrame::empty_with_schema(schema));
    for frame in frames {
        whole
            .vstack_mut(&frame)
            .map_err(|error| Error::Schema(format!("partitions do not fit together: {error}").into()))?;
    }
    Ok(whole)
}

/// What the tasks of each stage took, as far as the cluster still knows.
fn measured(cluster: &Cluster, keys: &[Vec<Key>]) -> Vec<Option<Measured>> {
    /// Journeys that are asked for: each is a question to the scheduler.
    const MOST: usize = 1_000;
    let mut left = MOST;
    keys.iter()
        .map(|keys| {
            left = left.checked_sub(keys.len())?;
            Measured::of(&cluster.journeys(keys).ok()?)
        })
        .collect()
}

/// A query with its schema, whose leaves are all known.
fn built(name: &str, lazy: PolarsResult<LazyFrame>, mut leaves: Vec<Leaf>) -> Result<Arc<Query>> {
    let wrong = |error| Error::schema(name, &error);
    let lazy = lazy.map_err(wrong)?;
    let mut failed = None;
    let mut is_new = false;
    // Files that it scans and tables that it brings with it become sources as the others.
    let plan = map_leaves(&lazy.logical_plan, &mut |leaf| {
        let source = match leaf {
            DslPlan::DataFrameScan { df, .. } if mark_of(df).is_some() => return leaf.clone(),
            DslPlan::DataFrameScan { df, .. } => Ok(Source::local(df, 1)),
            leaf => Source::scan(leaf),
        };
        is_new = true;
        match source {
            Ok(source) => {
                let (plan, mark) = marked(&source.schema);
                leaves.push(Leaf {
                    mark,
                    source: Arc::new(source),
                });
                plan
            }
            Err(error) => {
                failed = Some(error);
                leaf.clone()
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let mut lazy = if is_new { LazyFrame::from(plan) } else { lazy };
    let schema = lazy.collect_schema().map_err(wrong)?;
    Ok(Arc::new(Query {
        lazy,
        leaves,
        schema,
        ran: Mutex::default(),
    }))
}

impl std::convert::From<LazyFrame> for Frame {
    /// Files that it scans become partitions, one each.
    fn from(lazy: LazyFrame) -> Frame {
        Frame {
            inner: built("from", Ok(lazy), Vec::new()),
            cluster: None,
        }
    }
}

impl std::convert::From<DataFrame> for Frame {
    fn from(frame: DataFrame) -> Frame {
        Frame::from_dataframe(frame, 1)
    }
}
