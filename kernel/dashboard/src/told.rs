//! What the page is told, as it reads it.

use serde::Serialize;
use skep_cluster::{
    Key, Reason,
    model::{cluster::ClusterInfo, history::Total},
};

use crate::frames::Stage;

/// A task that ran, or neighbours of the same function that are too short to be told apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub worker: u32,
    /// Threads run at once: of a worker, which row.
    pub lane: u32,
    pub function: u32,
    pub start_us: u64,
    pub duration_us: u64,
    pub n: u32,
    pub moved: u64,
    pub why: &'static str,
    pub key: Key,
}

/// As the page reads it, an array to be short.
impl Serialize for Bar {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = format!("{:032x}", self.key.0);
        (
            self.worker,
            self.lane,
            self.function,
            self.start_us,
            self.duration_us,
            self.n,
            self.moved,
            self.why,
            key,
        )
            .serialize(serializer)
    }
}

/// Something that happened to a worker or was printed: when, what kind, the text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line(pub u64, pub &'static str, pub String);

/// One function's tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Row {
    pub waiting: u64,
    pub running: u64,
    pub cancelled: u64,
    /// Its name, and what ended, took, and gave.
    pub total: Total,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Worker {
    pub id: u32,
    pub name: String,
    pub pid: u32,
    pub threads: u32,
    pub limit: u64,
    pub resident: u64,
    pub managed: u64,
    pub spilled: u64,
    pub is_paused: bool,
    pub is_silent: bool,
    pub n_assigned: u64,
    pub n_values: u64,
}

/// What the page is told: all that is, or what is new since the update before.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Told {
    pub seq: u64,
    pub now_us: u64,
    /// It replaces what the page knew.
    pub is_whole: bool,
    /// Events that were too many to follow; what they did is not in the picture.
    pub missed: u64,
    pub has_ended: bool,
    /// By number.
    pub functions: Vec<(u32, String)>,
    pub bars: Vec<Bar>,
    pub rows: Vec<Row>,
    pub workers: Vec<Worker>,
    pub lines: Vec<Line>,
    /// Bytes that went from one worker to another, the most first; nothing if that has not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<Vec<(u32, u32, u64)>>,
    /// Stages of frames, the newest frame first; nothing if they have not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<Vec<Stage>>,
}

pub(crate) fn workers(info: &ClusterInfo) -> Vec<Worker> {
    info.workers
        .iter()
        .map(|worker| Worker {
            id: worker.id.0,
            name: worker.id.to_string(),
            pid: worker.pid,
            threads: worker.threads,
            limit: worker.memory_limit,
            resident: worker.memory.resident,
            managed: worker.memory.managed,
            spilled: worker.memory.spilled,
            is_paused: worker.memory.is_paused,
            is_silent: worker.is_silent,
            n_assigned: worker.n_assigned,
            n_values: worker.n_values,
        })
        .collect()
}

pub(crate) fn reason(why: Reason) -> &'static str {
    match why {
        Reason::OnlyOne => "no other worker had room",
        Reason::Inputs => "it holds the inputs",
        Reason::LeastBusy => "it was the least busy",
        Reason::Pinned => "the task may run there only",
        Reason::Resources => "it has the resources",
        Reason::Alone => "a worker died under this task before",
        Reason::Elsewhere => "its engine chose it",
    }
}

/// At most about so many bars: neighbours of one function in one row become one where they stand closer than can be seen.
pub(crate) fn together(mut bars: Vec<Bar>, most: usize) -> Vec<Bar> {
    if bars.len() <= most {
        return bars;
    }
    bars.sort_by_key(|bar| (bar.worker, bar.lane, bar.start_us));
    let first = bars.iter().map(|bar| bar.start_us).min().unwrap_or(0);
    let last = bars
        .iter()
        .map(|bar| bar.start_us + bar.duration_us)
        .max()
        .unwrap_or(0);
    let n_rows = bars
        .chunk_by(|a, b| (a.worker, a.lane) == (b.worker, b.lane))
        .count();
    // So wide that all of them fit, whatever functions take turns.
    let mut gap = (last - first) * n_rows as u64 / most as u64 + 1;
    loop {
        let mut merged: Vec<Bar> = Vec::with_capacity(most);
        for bar in &bars {
            match merged.last_mut() {
                Some(before)
                    if (before.worker, before.lane) == (bar.worker, bar.lane)
                        && bar.start_us < before.start_us + before.duration_us.max(gap)
                        && (before.function == bar.function || before.duration_us < gap) =>
                {
                    let end = (before.start_us + before.duration_us).max(bar.start_us + bar.duration_us);
                    before.duration_us = end - before.start_us;
                    before.n += bar.n;
                    before.moved += bar.moved;
                }
                _ => merged.push(bar.clone()),
            }
        }
        if merged.len() <= most || gap > last - first {
            return merged;
        }
        gap *= 2;
    }
}
