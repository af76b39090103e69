//! Stages as graphs of tasks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use polars::prelude::DataFrame;
use skep_cluster::{AnyHandle, Delayed, Key, Part as Piece, model::stage::Stage as StageTag};
use skep_render::text;

use crate::{
    Result,
    plan::{Feed, From, Kind, Out, Stage, Stages},
    source::{Kind as SourceKind, Source},
    tasks::{self, Filling, Instead, Keys, Work},
};

/// What a stage's tasks give.
enum Outputs {
    Tables(Vec<Delayed<DataFrame>>),
    /// Of each task its pieces.
    Pieces(Vec<Vec<Piece<DataFrame>>>),
}

/// A graph of tasks.
pub(crate) struct Tasks {
    /// One delayed table for each partition of the result.
    pub result: Vec<Delayed<DataFrame>>,
    /// What each stage's tasks will be known by.
    pub keys: Vec<Vec<Key>>,
}

/// # Errors
/// For plans that cannot travel.
pub(crate) fn graph(stages: &Stages, sources: &[Arc<Source>]) -> Result<Tasks> {
    static QUERIES: AtomicU64 = AtomicU64::new(1);
    let mut run = Run {
        sources,
        outputs: Vec::new(),
    };
    let query = QUERIES.fetch_add(1, Ordering::Relaxed);
    for (number, stage) in (1..).zip(&stages.stages) {
        let outputs = run.stage(stage)?;
        outputs.tag(&StageTag {
            query,
            number,
            what: text::cut(&stage.in_short(), 100),
        });
        run.outputs.push(outputs);
    }
    let result = stages
        .result
        .iter()
        .map(|feed| run.one(feed))
        .collect::<Result<_>>()?;
    Ok(Tasks {
        result,
        keys: run.outputs.iter().map(Outputs::keys).collect(),
    })
}

impl Outputs {
    /// The cluster's page shows what becomes of the tasks of a stage.
    fn tag(&self, stage: &StageTag) {
        match self {
            Outputs::Tables(tables) => {
                for table in tables {
                    drop(table.clone().tag(stage.to_string()));
                }
            }
            Outputs::Pieces(pieces) => {
                for piece in pieces.iter().filter_map(|pieces| pieces.first()) {
                    piece.set_tag(stage.to_string());
                }
            }
        }
    }

    fn keys(&self) -> Vec<Key> {
        match self {
            Outputs::Tables(tables) => tables.iter().filter_map(Delayed::key).collect(),
            Outputs::Pieces(pieces) => pieces.iter().filter_map(|pieces| pieces.first()?.key()).collect(),
        }
    }
}

struct Run<'a> {
    sources: &'a [Arc<Source>],
    outputs: Vec<Outputs>,
}

impl Run<'_> {
    fn stage(&self, stage: &Stage) -> Result<Outputs> {
        let mut tables = Vec::new();
        let mut pieces = Vec::new();
        let work = Work::new(&stage.plan)?;
        for partition in 0..stage.n {
            let (mut fillings, mut handles) = (Vec::new(), Vec::new());
            for slot in &stage.slots {
                fillings.push(self.fill(slot.at(partition), &mut handles));
            }
            let args = (work.clone(), fillings, handles);
            match &stage.out {
                Out::Whole => tables.push(call(stage.kind, args)),
                Out::Hash { keys, n, unless } => {
                    let (work, fillings, handles) = args;
                    let unless = unless.as_deref().map(Instead::new).transpose()?;
                    let args = (work, fillings, handles, unless, Keys::new(keys)?, *n as u64);
                    pieces.push(Piece::delayed(tasks::shuffle, args, *n));
                }
                Out::Sample { order } => {
                    let (work, fillings, handles) = args;
                    tables.push(Delayed::call(
                        tasks::sample,
                        (work, fillings, handles, Keys::of_order(order)?),
                    ));
                }
                Out::Bounds { n } => {
                    let (_, _, handles) = args;
                    tables.push(Delayed::call(tasks::bounds, (handles, *n as u64)));
                }
                Out::Range { order, n, bounds } => {
                    let (work, fillings, handles) = args;
                    let bounds = self.one(&vec![*bounds])?;
                    let args = (work, fillings, handles, bounds, Keys::of_order(order)?, *n as u64);
                    pieces.push(Piece::delayed(tasks::ranges, args, *n));
                }
            }
        }
        Ok(if pieces.is_empty() {
            Outputs::Tables(tables)
        } else {
            Outputs::Pieces(pieces)
        })
    }

    fn fill(&self, feed: &Feed, handles: &mut Vec<AnyHandle<DataFrame>>) -> Filling {
        let mut filling = Filling::default();
        for from in feed {
            match *from {
                From::Leaf { leaf, part } => match &self.sources[leaf].kind {
                    SourceKind::Parts(parts) => {
                        filling.parts.push(parts[part].clone());
                        continue;
                    }
                    SourceKind::Local(frames) => {
                        handles.push(Delayed::call(given, frames[part].clone()).into());
                    }
                    SourceKind::Held(held) => handles.push(held[part].clone().into()),
                    SourceKind::Made(calls) => handles.push(calls[part].clone()),
                },
                From::Task { stage, part } => handles.push(self.table(stage, part).into()),
                From::Piece { stage, part, piece } => match &self.outputs[stage] {
                    Outputs::Pieces(pieces) => handles.push(pieces[part][piece].clone().into()),
                    Outputs::Tables(_) => unreachable!("invariant: only a shuffle has pieces"),
                },
            }
            filling.n_tables += 1;
        }
        filling
    }

    fn table(&self, stage: usize, part: usize) -> Delayed<DataFrame> {
        match &self.outputs[stage] {
            Outputs::Tables(tables) => tables[part].clone(),
            Outputs::Pieces(_) => unreachable!("invariant: pieces are asked for as such"),
        }
    }

    fn one(&self, feed: &Feed) -> Result<Delayed<DataFrame>> {
        match feed.as_slice() {
            [From::Task { stage, part }] => Ok(self.table(*stage, *part)),
            other => unreachable!("invariant: a result is a task's: {other:?}"),
        }
    }
}

fn given(frame: DataFrame) -> DataFrame {
    frame
}

fn call(kind: Kind, args: (Work, Vec<Filling>, Vec<AnyHandle<DataFrame>>)) -> Delayed<DataFrame> {
    match kind {
        Kind::Scan => Delayed::call(tasks::scan, args),
        Kind::Rows | Kind::Sample | Kind::Bounds | Kind::Shuffle => Delayed::call(tasks::rows, args),
        Kind::Partial => Delayed::call(tasks::partial, args),
        Kind::Group => Delayed::call(tasks::group, args),
        Kind::Join => Delayed::call(tasks::join, args),
        Kind::Sort => Delayed::call(tasks::sort, args),
        Kind::Unique => Delayed::call(tasks::unique, args),
        Kind::Window => Delayed::call(tasks::window, args),
        Kind::Slice => Delayed::call(tasks::slice, args),
        Kind::Whole => Delayed::call(tasks::whole, args),
    }
}
