//! The lazy frame and how it becomes tasks.

use std::{path::Path, sync::Arc};

use polars::prelude::{DataFrame, DataType, Expr, IntoLazy, PlSmallStr, Schema, SchemaRef};
use polars_plan::plans::{IR, is_elementwise_rec};
use skep_cluster::{Cluster, Delayed, Remote};
use skep_render::Message;

use crate::{
    Error, Result, Timeseries,
    aggregate::{Decomposed, decompose},
    source::{Kind, Source},
    stage::{Op, Ops, apply, combine, count_rows, scan, without_rows, write_parquet},
};

/// Partial results that are merged by one task.
const FAN_IN: usize = 16;

/// A partitioned, lazy table: Polars expressions over many files or partitions.
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
/// Names and types are checked as the frame is built; the first error is kept, and comes from whatever runs
/// the frame.
#[derive(Clone)]
pub struct Frame {
    inner: Result<Arc<Plan>>,
    /// Where it runs; without one, on the cluster that was started last.
    cluster: Option<Cluster>,
}

pub(crate) struct Plan {
    pub step: Step,
    pub schema: SchemaRef,
}

pub(crate) enum Step {
    Source(Source),
    /// Steps that need one row at a time.
    Rows {
        input: Arc<Plan>,
        op: Op,
    },
    GroupBy {
        input: Arc<Plan>,
        keys: Vec<Expr>,
        decomposed: Decomposed,
    },
    Sort {
        input: Arc<Plan>,
        op: Op,
    },
    Head {
        input: Arc<Plan>,
        n: u32,
    },
}

/// Groups that wait for their aggregations; see [`Frame::group_by`].
#[must_use = "groups do nothing without `.agg(…)`"]
pub struct GroupBy {
    frame: Frame,
    keys: Vec<Expr>,
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
    /// When no file matches, headers differ, or a sample cannot be read.
    pub fn read_csv(pattern: &str) -> Result<Frame> {
        Source::csv(pattern, &[]).map(Frame::from_source)
    }

    /// As [`Frame::read_csv`], with the types of some columns given.
    ///
    /// # Errors
    /// As [`Frame::read_csv`], and when a given column does not exist.
    pub fn read_csv_typed<'a>(
        pattern: &str,
        types: impl IntoIterator<Item = (&'a str, DataType)>,
    ) -> Result<Frame> {
        let types: Vec<(String, DataType)> = types
            .into_iter()
            .map(|(name, dtype)| (name.to_string(), dtype))
            .collect();
        Source::csv(pattern, &types).map(Frame::from_source)
    }

    /// Parquet files by pattern, one partition each.
    ///
    /// # Errors
    /// When no file matches, one cannot be read, or schemas differ.
    pub fn read_parquet(pattern: &str) -> Result<Frame> {
        Source::parquet(pattern).map(Frame::from_source)
    }

    /// A frame of this process in `n_partitions` parts.
    pub fn from_dataframe(frame: DataFrame, n_partitions: usize) -> Frame {
        let schema = frame.schema().clone();
        let n_bytes = frame.estimated_size() as u64;
        let n = n_partitions.clamp(1, frame.height().max(1));
        let at = |i: usize| i * frame.height() / n;
        let parts = (0..n)
            .map(|i| frame.slice(at(i) as i64, at(i + 1) - at(i)))
            .collect();
        Frame::from_source(Source {
            name: "DataFrame".into(),
            schema,
            kind: Kind::Local(parts),
            n_bytes,
        })
    }

    /// A seeded table for trying things out; see [`Timeseries`].
    pub fn timeseries() -> Timeseries {
        Timeseries::default()
    }

    pub(crate) fn from_source(source: Source) -> Frame {
        let schema = source.schema.clone();
        Frame {
            cluster: None,
            inner: Ok(Arc::new(Plan {
                step: Step::Source(source),
                schema,
            })),
        }
    }

    pub(crate) fn plan(&self) -> Result<&Arc<Plan>> {
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

    fn cluster(&self) -> Result<Cluster> {
        Ok(self.cluster.clone().map_or_else(Cluster::current, Ok)?)
    }

    fn then(&self, build: impl FnOnce(&Arc<Plan>) -> Result<Plan>) -> Frame {
        Frame {
            cluster: self.cluster.clone(),
            inner: self.plan().and_then(|plan| build(plan).map(Arc::new)),
        }
    }

    fn rows(&self, name: &str, op: Op) -> Frame {
        self.then(|input| {
            Ops::new(std::slice::from_ref(&op))?;
            let schema = schema_after(&input.schema, &op).map_err(|error| Error::schema(name, &error))?;
            Ok(Plan {
                step: Step::Rows {
                    input: input.clone(),
                    op,
                },
                schema,
            })
        })
    }

    /// Rows for which the predicate holds.
    #[must_use]
    pub fn filter(&self, predicate: Expr) -> Frame {
        self.check_row_wise("filter", std::slice::from_ref(&predicate))
            .rows("filter", Op::Filter(predicate))
    }

    /// These columns only.
    #[must_use]
    pub fn select(&self, exprs: impl AsRef<[Expr]>) -> Frame {
        self.check_row_wise("select", exprs.as_ref())
            .rows("select", Op::Select(exprs.as_ref().to_vec()))
    }

    /// All columns, and these besides.
    #[must_use]
    pub fn with_columns(&self, exprs: impl AsRef<[Expr]>) -> Frame {
        self.check_row_wise("with_columns", exprs.as_ref())
            .rows("with_columns", Op::WithColumns(exprs.as_ref().to_vec()))
    }

    /// Refuses expressions that look beyond their row: on one partition they would give another answer than
    /// on all.
    fn check_row_wise(&self, operation: &str, exprs: &[Expr]) -> Frame {
        let schema = self.plan().map(|plan| plan.schema.clone());
        let wide = exprs.iter().find(|expr| {
            expr.into_iter().any(looks_beyond_its_row)
                || schema.as_ref().is_ok_and(|schema| !is_row_wise(schema, expr))
        });
        match (self.plan(), wide) {
            (Ok(_), Some(expr)) => Frame {
                cluster: self.cluster.clone(),
                inner: Err(Error::unsupported(
                    &format!("{operation}({expr})"),
                    "it needs all rows at once; use `group_by().agg()` for aggregations",
                )),
            },
            _ => self.clone(),
        }
    }

    /// Groups by keys; `.agg(…)` ends it.
    pub fn group_by(&self, keys: impl AsRef<[Expr]>) -> GroupBy {
        GroupBy {
            frame: self.clone(),
            keys: keys.as_ref().to_vec(),
        }
    }

    /// Sorts by columns, ascending, nulls last.
    #[must_use]
    pub fn sort<'a>(&self, by: impl IntoIterator<Item = &'a str>) -> Frame {
        let by: Vec<PlSmallStr> = by.into_iter().map(PlSmallStr::from).collect();
        let descending = vec![false; by.len()];
        self.sort_with(by, descending, true)
    }

    /// Sorts by columns, the largest first, nulls last.
    #[must_use]
    pub fn sort_descending<'a>(&self, by: impl IntoIterator<Item = &'a str>) -> Frame {
        let by: Vec<PlSmallStr> = by.into_iter().map(PlSmallStr::from).collect();
        let descending = vec![true; by.len()];
        self.sort_with(by, descending, true)
    }

    pub(crate) fn sort_with(&self, by: Vec<PlSmallStr>, descending: Vec<bool>, nulls_last: bool) -> Frame {
        let op = Op::Sort {
            by,
            descending,
            nulls_last,
        };
        self.then(|input| {
            let schema = schema_after(&input.schema, &op).map_err(|error| Error::schema("sort", &error))?;
            Ok(Plan {
                step: Step::Sort {
                    input: input.clone(),
                    op,
                },
                schema,
            })
        })
    }

    /// The first `n` rows, as a frame.
    #[must_use]
    pub fn limit(&self, n: u32) -> Frame {
        self.then(|input| {
            Ok(Plan {
                step: Step::Head {
                    input: input.clone(),
                    n,
                },
                schema: input.schema.clone(),
            })
        })
    }

    /// The first `n` rows, here.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn head(&self, n: u32) -> Result<DataFrame> {
        self.limit(n).collect()
    }

    /// Columns and types of the result.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(self.plan()?.schema.clone())
    }

    /// Partitions of the result.
    pub fn n_partitions(&self) -> usize {
        self.plan().map_or(0, |plan| plan.n_partitions())
    }

    /// Runs the frame on the current cluster and brings the result here.
    ///
    /// # Errors
    /// The first error of building it; when there is no cluster; a partition's error with its file.
    pub fn collect(&self) -> Result<DataFrame> {
        let plan = self.plan()?;
        let parts = plan.lower()?;
        let cluster = self.cluster()?;
        let handles: Vec<Remote<DataFrame>> = parts.iter().map(|part| cluster.compute(part)).collect();
        let frames = cluster.gather(&handles)?;
        let mut frames = frames.into_iter();
        let first = frames
            .next()
            .unwrap_or_else(|| DataFrame::empty_with_schema(&plan.schema));
        let mut whole = first;
        for frame in frames {
            whole
                .vstack_mut(&frame)
                .map_err(|error| Error::Schema(format!("partitions do not fit together: {error}").into()))?;
        }
        Ok(whole)
    }

    /// Runs the frame and leaves its partitions on the workers; what follows starts from there.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn persist(&self) -> Result<Frame> {
        let plan = self.plan()?;
        let parts = plan.lower()?;
        let cluster = self.cluster()?;
        let handles: Vec<Remote<DataFrame>> = parts.iter().map(|part| cluster.compute(part)).collect();
        for handle in &handles {
            handle.wait()?;
        }
        let persisted = Frame::from_source(Source {
            name: "persisted".into(),
            schema: plan.schema.clone(),
            kind: Kind::Held(handles),
            n_bytes: 0,
        });
        Ok(persisted.on(&cluster))
    }

    /// As [`Frame::persist`], under a name: the partitions outlive this frame, and this program.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn publish(&self, name: &str) -> Result<Frame> {
        let frame = self.persist()?;
        if let Step::Source(Source {
            kind: Kind::Held(handles),
            ..
        }) = &frame.plan()?.step
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
            kind: Kind::Held(handles),
            n_bytes: 0,
        }))
    }

    /// Rows of the result.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn len(&self) -> Result<usize> {
        let parts = self.plan()?.lower()?;
        let cluster = self.cluster()?;
        let counts: Vec<Remote<u64>> = parts
            .iter()
            .map(|part| cluster.compute(&Delayed::call(count_rows, part)))
            .collect();
        Ok(cluster.gather(&counts)?.into_iter().sum::<u64>() as usize)
    }

    /// Whether the result has no rows.
    ///
    /// # Errors
    /// As [`Frame::collect`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.limit(1).len()? == 0)
    }

    /// Writes one Parquet file for each partition into `folder`, and returns the number of rows.
    ///
    /// # Errors
    /// As [`Frame::collect`], and when a file cannot be written.
    pub fn write_parquet(&self, folder: impl AsRef<Path>) -> Result<usize> {
        let folder =
            std::path::absolute(folder.as_ref()).map_err(|error| Error::Source(error.to_string().into()))?;
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::Source(
                Message::new(format!("{}: {error}", folder.display()))
                    .hint("choose a folder that can be written"),
            )
        })?;
        let parts = self.plan()?.lower()?;
        let cluster = self.cluster()?.impure();
        let path = |i: usize| {
            folder
                .join(format!("part-{i:05}.parquet"))
                .to_string_lossy()
                .into_owned()
        };
        let written: Vec<Remote<u64>> = parts
            .iter()
            .enumerate()
            .map(|(i, part)| cluster.compute(&Delayed::call(write_parquet, (part, path(i)))))
            .collect();
        Ok(cluster.gather(&written)?.into_iter().sum::<u64>() as usize)
    }

    /// The tasks that the frame will run.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn graph(&self) -> Result<skep_render::graph::Graph> {
        Ok(Delayed::graph_of_all(&self.plan()?.lower()?))
    }

    /// The stages in words, first one first.
    ///
    /// # Errors
    /// When the frame was built wrongly.
    pub fn explain(&self) -> Result<Explained> {
        let mut lines = Vec::new();
        self.plan()?.explain(&mut lines);
        Ok(Explained(lines))
    }
}

/// What [`Frame::explain`] says; a line for each stage.
pub struct Explained(pub(crate) Vec<String>);

impl GroupBy {
    /// One row for each group, with these aggregations: sum, mean, min, max, count, len, std, var.
    #[must_use]
    pub fn agg(self, aggs: impl AsRef<[Expr]>) -> Frame {
        let aggs = aggs.as_ref().to_vec();
        self.frame.then(|input| {
            let whole = Op::GroupBy {
                keys: self.keys.clone(),
                aggs: aggs.clone(),
            };
            Ops::new(std::slice::from_ref(&whole))?;
            let schema = schema_after(&input.schema, &whole)
                .map_err(|error| Error::schema("group_by().agg()", &error))?;
            let decomposed = decompose(&aggs, self.keys.len(), &schema)?;
            Ok(Plan {
                step: Step::GroupBy {
                    input: input.clone(),
                    keys: self.keys.clone(),
                    decomposed,
                },
                schema,
            })
        })
    }
}

/// The schema after a step, by asking Polars with no rows.
fn schema_after(schema: &Schema, op: &Op) -> polars::prelude::PolarsResult<SchemaRef> {
    op.clone()
        .apply(DataFrame::empty_with_schema(schema).lazy())
        .collect_schema()
}

/// Whether Polars computes this expression row by row, and for each row. What does not fit the schema is told
/// elsewhere.
fn is_row_wise(schema: &Schema, expr: &Expr) -> bool {
    let Ok(plan) = DataFrame::empty_with_schema(schema)
        .lazy()
        .select([expr.clone()])
        .to_alp()
    else {
        return true;
    };
    let IR::Select { expr, .. } = plan.lp_arena.get(plan.lp_top) else {
        return true;
    };
    expr.iter()
        .all(|expr| is_elementwise_rec(expr.node(), &plan.expr_arena))
}

fn looks_beyond_its_row(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Agg(_)
            | Expr::Len
            | Expr::Over { .. }
            | Expr::Sort { .. }
            | Expr::SortBy { .. }
            | Expr::Slice { .. }
            | Expr::Gather { .. }
            | Expr::Filter { .. }
            | Expr::Rolling { .. }
    )
}

impl Plan {
    fn n_partitions(&self) -> usize {
        match &self.step {
            Step::Source(source) => source.n_partitions(),
            Step::Rows { input, .. } => input.n_partitions(),
            Step::GroupBy { .. } | Step::Sort { .. } | Step::Head { .. } => 1,
        }
    }

    /// One delayed frame for each partition of the result.
    fn lower(&self) -> Result<Vec<Delayed<DataFrame>>> {
        self.lower_with(Vec::new())
    }

    /// `after` are steps that follow this plan on each of its partitions; they join the task that makes it.
    fn lower_with(&self, mut after: Vec<Op>) -> Result<Vec<Delayed<DataFrame>>> {
        match &self.step {
            Step::Source(source) => {
                let ops = Ops::new(&after)?;
                Ok(match &source.kind {
                    Kind::Parts(parts) => parts
                        .iter()
                        .map(|part| Delayed::call(scan, (part.clone(), ops.clone())))
                        .collect(),
                    Kind::Local(frames) => frames
                        .iter()
                        .map(|frame| Delayed::call(apply, (frame.clone(), ops.clone())))
                        .collect(),
                    Kind::Held(handles) => handles
                        .iter()
                        .map(|handle| Delayed::call(apply, (handle, ops.clone())))
                        .collect(),
                })
            }
            Step::Rows { input, op } => {
                after.insert(0, op.clone());
                input.lower_with(after)
            }
            Step::GroupBy {
                input,
                keys,
                decomposed,
            } => {
                let partial = Op::GroupBy {
                    keys: keys.clone(),
                    aggs: decomposed.partial.clone(),
                };
                let key_names = self
                    .schema
                    .iter_names()
                    .take(keys.len())
                    .map(|name| polars::prelude::col(name.clone()))
                    .collect();
                let merge = Op::GroupBy {
                    keys: key_names,
                    aggs: decomposed.merge.clone(),
                };
                let mut last = vec![merge.clone(), Op::Select(decomposed.finish.clone())];
                last.append(&mut after);
                reduce(input.lower_with(vec![partial])?, &[merge], last)
            }
            Step::Sort { input, op } => {
                after.insert(0, op.clone());
                reduce(input.lower()?, &[], after)
            }
            Step::Head { input, n } => {
                after.insert(0, Op::Head(*n));
                reduce(input.lower_with(vec![Op::Head(*n)])?, &[Op::Head(*n)], after)
            }
        }
    }

    pub(crate) fn explain(&self, lines: &mut Vec<String>) {
        let n = |plan: &Plan| skep_render::plural(plan.n_partitions(), "partition");
        match &self.step {
            Step::Source(source) => lines.push(format!(
                "read {} ({}, {})",
                source.name,
                skep_render::plural(source.n_partitions(), "partition"),
                source.where_it_is()
            )),
            Step::Rows { input, op } => {
                input.explain(lines);
                let text = match op {
                    Op::Filter(predicate) => format!("keep rows where {predicate}"),
                    Op::Select(exprs) => format!("select {}", list(exprs)),
                    Op::WithColumns(exprs) => format!("add {}", list(exprs)),
                    _ => String::new(),
                };
                lines.push(format!("{text} (in each partition, in the same task)"));
            }
            Step::GroupBy { input, keys, .. } => {
                input.explain(lines);
                lines.push(format!(
                    "group by {}: partial results in each of {}, in the same task",
                    list(keys),
                    n(input)
                ));
                lines.push(format!(
                    "merge partial results, {FAN_IN} at a time, into 1 partition"
                ));
            }
            Step::Sort { input, op } => {
                input.explain(lines);
                let by = if let Op::Sort { by, .. } = op {
                    by.join(", ")
                } else {
                    String::new()
                };
                lines.push(format!(
                    "bring {} together and sort by {by} (in one task: the result must fit into one worker)",
                    n(input)
                ));
            }
            Step::Head { input, n } => {
                input.explain(lines);
                lines.push(format!("take the first {n} rows"));
            }
        }
    }
}

fn list(exprs: &[Expr]) -> String {
    exprs
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Combines partitions in a tree; the last task takes the `last` steps instead.
fn reduce(
    mut parts: Vec<Delayed<DataFrame>>,
    merge: &[Op],
    last: Vec<Op>,
) -> Result<Vec<Delayed<DataFrame>>> {
    let merge = Ops::new(merge)?;
    while parts.len() > FAN_IN {
        parts = parts
            .chunks(FAN_IN)
            .map(|chunk| Delayed::call(combine, (chunk.to_vec(), merge.clone())))
            .collect();
    }
    Ok(vec![Delayed::call(combine, (parts, Ops::new(&last)?))])
}
