//! What the page shows, as events make it: pure, and bounded however long a cluster works.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use skep_cluster::{
    Event, FunctionId, Key, Progress, Reason, WorkerId,
    host::{Snapshot, Update},
    model::cluster::ClusterInfo,
};
use skep_render::graph::Graph;

/// Tasks that a page may look back at.
const MOST_BARS: usize = 500_000;
/// Bars in one update; more are put together.
const MOST_AT_ONCE: usize = 1_500;
/// Tasks in the graph, the newest.
const MOST_NODES: usize = 10_000;
/// Lines of the log.
const MOST_LINES: usize = 1_000;

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

/// One function's tasks: name, waiting, running, done, failed, cancelled; and what they took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row(pub String, pub u64, pub u64, pub u64, pub u64, pub u64, pub Spent);

/// What the tasks of a function took, and gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spent {
    pub total_us: u64,
    pub longest_us: u64,
    pub n_bytes: u64,
    /// Of tables.
    pub n_rows: u64,
    /// Bytes of inputs that came from other workers.
    pub moved: u64,
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
}

/// A task of the graph.
struct Node {
    function: FunctionId,
    state: &'static str,
    inputs: Arc<[Key]>,
}

#[derive(Default)]
pub(crate) struct Picture {
    names: HashMap<FunctionId, u32>,
    functions: Vec<String>,
    /// By function.
    spent: HashMap<u32, Spent>,
    progress: Progress,
    bars: VecDeque<Bar>,
    /// Of bars that were ever added.
    n_bars: u64,
    lines: VecDeque<Line>,
    n_lines: u64,
    /// Tasks under way: why they got their worker, and bytes that had to move.
    assigned: HashMap<Key, (FunctionId, Reason, u64)>,
    functions_of: HashMap<Key, FunctionId>,
    nodes: HashMap<Key, Node>,
    /// Of the graph, as they were submitted.
    order: VecDeque<Key>,
    /// When each row of a worker is free again.
    lanes: BTreeMap<u32, Vec<u64>>,
    missed: u64,
    has_ended: bool,
    /// What was told already: functions, bars, lines.
    told: (usize, u64, u64),
    /// What was told before holds no more.
    is_anew: bool,
}

impl Picture {
    pub fn new(snapshot: &Snapshot) -> Picture {
        let mut picture = Picture::default();
        let history = &snapshot.history;
        let names: Vec<u32> = history
            .totals
            .iter()
            .map(|total| {
                let function = picture.function(total.function.clone());
                picture.spent.insert(
                    function,
                    Spent {
                        total_us: total.total_us,
                        longest_us: total.longest_us,
                        n_bytes: total.n_bytes,
                        n_rows: 0,
                        moved: total.moved_bytes,
                    },
                );
                function
            })
            .collect();
        for (bar, total) in &history.bars {
            let function = names.get(*total as usize).copied().unwrap_or_default();
            picture.names.entry(bar.function).or_insert(function);
            picture.add(
                function,
                bar.key,
                bar.worker,
                bar.start_us,
                bar.duration_us,
                0,
                "",
            );
        }
        for life in &history.workers {
            picture.line(
                life.joined_us,
                "joined",
                format!("{} (pid {})", life.worker, life.pid),
            );
            if life.left_us > 0 {
                picture.line(life.left_us, "lost", format!("{}: {}", life.worker, life.why));
            }
        }
        picture
    }

    fn function(&mut self, name: String) -> u32 {
        let at = self.functions.iter().position(|known| *known == name);
        let at = at.unwrap_or_else(|| {
            self.functions.push(name);
            self.functions.len() - 1
        });
        at as u32
    }

    fn line(&mut self, at_us: u64, kind: &'static str, text: String) {
        self.lines.push_back(Line(at_us, kind, text));
        self.n_lines += 1;
        if self.lines.len() > MOST_LINES {
            self.lines.pop_front();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a bar is made of")]
    fn add(
        &mut self,
        function: u32,
        key: Key,
        worker: WorkerId,
        start_us: u64,
        duration_us: u64,
        moved: u64,
        why: &'static str,
    ) {
        let lanes = self.lanes.entry(worker.0).or_default();
        // The row that was free for the shortest time: they come in the order of their ends, and a thread that waits keeps its
        // row. Two clocks measure begin and length.
        let slack_us = (duration_us / 10).min(50);
        let free = (0..lanes.len()).filter(|lane| lanes[*lane] <= start_us + slack_us);
        let lane = free.max_by_key(|lane| lanes[*lane]).unwrap_or(lanes.len());
        match lanes.get_mut(lane) {
            Some(free) => *free = start_us + duration_us,
            None => lanes.push(start_us + duration_us),
        }
        self.bars.push_back(Bar {
            worker: worker.0,
            lane: lane as u32,
            function,
            start_us,
            duration_us,
            n: 1,
            moved,
            why,
            key,
        });
        self.n_bars += 1;
        if self.bars.len() > MOST_BARS {
            self.bars.pop_front();
        }
    }

    pub fn update(&mut self, update: Update, now_us: u64) {
        match update {
            Update::Events { events, .. } => {
                for event in &events {
                    self.apply(event, now_us);
                }
            }
            Update::Lagged { missed } => self.missed += missed,
            Update::Reset => {
                *self = Picture {
                    is_anew: true,
                    ..Picture::default()
                };
                self.line(now_us, "reset", "the cluster began anew".into());
            }
            Update::Ended => self.has_ended = true,
        }
    }

    fn apply(&mut self, event: &Event, now_us: u64) {
        self.progress.apply(event);
        match event {
            Event::Function { id, name } => {
                let at = self.function(name.clone());
                self.names.insert(*id, at);
            }
            Event::Submitted {
                key,
                function,
                inputs,
                ..
            } => {
                self.functions_of.insert(*key, *function);
                let node = Node {
                    function: *function,
                    state: "pending",
                    inputs: inputs.clone(),
                };
                if self.nodes.insert(*key, node).is_none() {
                    self.order.push_back(*key);
                }
                if self.order.len() > MOST_NODES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.nodes.remove(&oldest);
                }
            }
            Event::Assigned {
                key,
                why,
                moved_bytes,
                ..
            } => {
                self.mark(*key, "running");
                if let Some(function) = self.functions_of.get(key) {
                    self.assigned.insert(*key, (*function, *why, *moved_bytes));
                }
            }
            Event::Done {
                key,
                worker,
                n_bytes,
                start_us,
                duration_us,
            } => {
                self.mark(*key, "done");
                if let Some((function, why, moved)) = self.assigned.remove(key) {
                    let function = self.names.get(&function).copied().unwrap_or_default();
                    let spent = self.spent.entry(function).or_default();
                    spent.total_us += duration_us;
                    spent.longest_us = spent.longest_us.max(*duration_us);
                    spent.n_bytes += n_bytes;
                    spent.moved += moved;
                    self.add(
                        function,
                        *key,
                        *worker,
                        *start_us,
                        *duration_us,
                        moved,
                        reason(why),
                    );
                }
            }
            Event::Counted { key, n_rows } => {
                let function = self.functions_of.get(key).and_then(|id| self.names.get(id));
                if let Some(function) = function {
                    self.spent.entry(*function).or_default().n_rows += n_rows;
                }
            }
            Event::Freed { key } => {
                self.functions_of.remove(key);
                self.assigned.remove(key);
            }
            Event::Failed { key, why } => {
                self.mark(*key, "failed");
                self.assigned.remove(key);
                let name = self.name_of(*key);
                self.line(now_us, "failed", format!("{name}: {why}"));
            }
            Event::Retried { key, has_failed } => {
                self.mark(*key, "pending");
                let name = self.name_of(*key);
                let why = if *has_failed {
                    "it failed"
                } else {
                    "its worker or an input was lost"
                };
                self.line(now_us, "again", format!("{name} runs again: {why}"));
            }
            Event::Printed {
                key,
                worker,
                is_stderr,
                text,
            } => {
                let of = key.map_or_else(|| worker.to_string(), |key| self.name_of(key));
                let kind = if *is_stderr { "stderr" } else { "stdout" };
                self.line(now_us, kind, format!("{of}: {}", text.trim_end()));
            }
            Event::WorkerJoined { worker, pid } => {
                self.line(now_us, "joined", format!("{worker} (pid {pid})"));
            }
            Event::WorkerLost { worker, cause } => {
                self.lanes.remove(&worker.0);
                self.line(now_us, "lost", format!("{worker}: {cause}"));
            }
            Event::WorkerRetired { worker } => {
                self.line(now_us, "left", format!("{worker}: fewer were wanted"));
            }
            Event::WorkerPaused { worker } => {
                self.line(
                    now_us,
                    "paused",
                    format!("{worker}: its memory is over 80 % of the limit"),
                );
            }
            Event::WorkerResumed { worker } => self.line(now_us, "resumed", worker.to_string()),
            Event::WorkerSilent { worker, is_back } => {
                let text = if *is_back {
                    "is heard of again"
                } else {
                    "has not answered for seconds"
                };
                self.line(now_us, "silent", format!("{worker} {text}"));
            }
            Event::Stalled { why: Some(why) } => self.line(now_us, "waiting", why.clone()),
            Event::Cancelled { key } => {
                self.mark(*key, "failed");
                self.assigned.remove(key);
            }
            Event::Stolen { key, .. } => self.mark(*key, "pending"),
            Event::Ready { .. }
            | Event::Tagged { .. }
            | Event::Progressed { .. }
            | Event::Stalled { why: None } => {}
        }
    }

    fn mark(&mut self, key: Key, state: &'static str) {
        if let Some(node) = self.nodes.get_mut(&key) {
            node.state = state;
        }
    }

    /// The newest tasks and what they need of each other.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        let mut places = HashMap::with_capacity(self.order.len());
        for key in &self.order {
            let Some(node) = self.nodes.get(key) else { continue };
            let function = self.names.get(&node.function);
            let name = function.map_or("?", |at| self.functions[*at as usize].as_str());
            places.insert(*key, graph.add_node(name, node.state));
        }
        for key in &self.order {
            let inputs = self.nodes.get(key).map_or(&[][..], |node| &node.inputs);
            for input in inputs.iter().filter_map(|input| places.get(input)) {
                graph.add_edge(*input, places[key]);
            }
        }
        graph
    }

    fn name_of(&self, key: Key) -> String {
        let function = self.functions_of.get(&key).and_then(|id| self.names.get(id));
        function.map_or_else(|| "a task".to_string(), |at| self.functions[*at as usize].clone())
    }

    fn rows(&self) -> Vec<Row> {
        self.progress
            .rows()
            .map(|row| {
                Row(
                    row.name.clone(),
                    row.n_waiting,
                    row.n_running,
                    row.n_done,
                    row.n_failed,
                    row.n_cancelled,
                    self.spent_by(&row.name),
                )
            })
            .collect()
    }

    fn spent_by(&self, name: &str) -> Spent {
        let function = self.functions.iter().position(|known| known == name);
        let spent = function.and_then(|at| self.spent.get(&(at as u32)));
        spent.copied().unwrap_or_default()
    }

    /// Everything, for a viewer that begins.
    pub fn whole(&self, info: &ClusterInfo, seq: u64, now_us: u64) -> Told {
        let newest = self.bars.iter().skip(self.bars.len().saturating_sub(20_000));
        Told {
            seq,
            now_us,
            is_whole: true,
            missed: self.missed,
            has_ended: self.has_ended,
            functions: (0..).zip(self.functions.iter().cloned()).collect(),
            bars: together(newest.cloned().collect(), 4 * MOST_AT_ONCE),
            rows: self.rows(),
            workers: workers(info),
            lines: self.lines.iter().cloned().collect(),
        }
    }

    /// What is new.
    pub fn news(&mut self, info: &ClusterInfo, seq: u64, now_us: u64) -> Told {
        let (functions, n_bars, n_lines) = self.told;
        let old = |n_told: u64, n: u64, len: usize| len - ((n - n_told) as usize).min(len);
        let bars = self.bars.iter().skip(old(n_bars, self.n_bars, self.bars.len()));
        let lines = self
            .lines
            .iter()
            .skip(old(n_lines, self.n_lines, self.lines.len()));
        let told = Told {
            seq,
            now_us,
            is_whole: self.is_anew,
            missed: self.missed,
            has_ended: self.has_ended,
            functions: (functions as u32..)
                .zip(self.functions.iter().skip(functions).cloned())
                .collect(),
            bars: together(bars.cloned().collect(), MOST_AT_ONCE),
            rows: self.rows(),
            workers: workers(info),
            lines: lines.cloned().collect(),
        };
        self.told = (self.functions.len(), self.n_bars, self.n_lines);
        self.is_anew = false;
        told
    }

    /// The tasks between two times, for looking back.
    pub fn between(&self, from_us: u64, to_us: u64) -> Vec<Bar> {
        let here = |bar: &&Bar| bar.start_us <= to_us && bar.start_us + bar.duration_us >= from_us;
        together(self.bars.iter().filter(here).cloned().collect(), 4 * MOST_AT_ONCE)
    }
}

fn workers(info: &ClusterInfo) -> Vec<Worker> {
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

fn reason(why: Reason) -> &'static str {
    match why {
        Reason::OnlyOne => "no other worker had room",
        Reason::Inputs => "it holds the inputs",
        Reason::LeastBusy => "it was the least busy",
        Reason::Pinned => "the task may run there only",
        Reason::Resources => "it has the resources",
        Reason::Alone => "a worker died under this task before",
    }
}

/// At most about so many bars: neighbours of one function in one row become one where they stand closer than can be seen.
fn together(mut bars: Vec<Bar>, most: usize) -> Vec<Bar> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(picture: &mut Picture, key: u128, worker: u32, start_us: u64, duration_us: u64) {
        let (key, worker, function) = (Key(key), WorkerId(worker), FunctionId(1));
        for event in [
            Event::Function {
                id: function,
                name: "inc".into(),
            },
            Event::Submitted {
                key,
                function,
                origin: 1,
                inputs: [].into(),
            },
            Event::Assigned {
                key,
                worker,
                why: Reason::Inputs,
                moved_bytes: 7,
            },
            Event::Done {
                key,
                worker,
                n_bytes: 8,
                start_us,
                duration_us,
            },
        ] {
            picture.apply(&event, start_us);
        }
    }

    #[test]
    fn tasks_become_bars_in_rows_that_do_not_overlap() {
        let mut picture = Picture::default();
        ran(&mut picture, 1, 1, 100, 50);
        ran(&mut picture, 2, 1, 120, 50);
        ran(&mut picture, 3, 1, 160, 5);
        let told = picture.news(&ClusterInfo::default(), 1, 200);
        let lanes: Vec<u32> = told.bars.iter().map(|bar| bar.lane).collect();
        assert_eq!(lanes, [0, 1, 0]);
        // One thread goes on while the other waits: it keeps its row, and the other one finds its own free.
        for (key, start, took) in [(4, 1_000, 300), (5, 1_000, 400), (6, 1_400, 50), (7, 1_310, 290)] {
            ran(&mut picture, key, 2, start, took);
        }
        let lanes: Vec<u32> = picture.bars.iter().skip(3).map(|bar| bar.lane).collect();
        assert_eq!(lanes, [0, 1, 1, 0]);
        assert_eq!((told.bars[0].moved, told.bars[0].why), (7, "it holds the inputs"));
        assert_eq!(told.functions, [(0, "inc".to_string())]);
        let spent = Spent {
            total_us: 105,
            longest_us: 50,
            n_bytes: 24,
            n_rows: 0,
            moved: 21,
        };
        assert_eq!(told.rows, [Row("inc".into(), 0, 0, 3, 0, 0, spent)]);
        assert_eq!(picture.news(&ClusterInfo::default(), 2, 300).bars.len(), 4);
        let next = picture.news(&ClusterInfo::default(), 3, 300);
        assert!(next.bars.is_empty() && next.functions.is_empty());
        assert_eq!(picture.whole(&ClusterInfo::default(), 3, 300).bars.len(), 7);
        assert_eq!(picture.between(155, 158).len(), 1, "those that ran then");
    }

    #[test]
    fn the_graph_has_the_newest_tasks_and_what_they_need() {
        let mut picture = Picture::default();
        ran(&mut picture, 1, 1, 100, 50);
        let sum = FunctionId(2);
        picture.apply(
            &Event::Function {
                id: sum,
                name: "sum".into(),
            },
            0,
        );
        picture.apply(
            &Event::Submitted {
                key: Key(2),
                function: sum,
                origin: 1,
                inputs: [Key(1)].into(),
            },
            0,
        );
        let text = picture.graph().to_text();
        assert!(text.contains("inc") && text.contains("sum"), "{text}");
        for i in 0..MOST_NODES as u128 {
            ran(&mut picture, 100 + i, 1, 100, 1);
        }
        assert_eq!(picture.graph().n_nodes(), MOST_NODES);
        assert!(picture.graph().to_svg().len() < 100_000, "it is grouped");
    }

    #[test]
    fn many_short_tasks_are_few_bars_and_none_is_lost() {
        let mut picture = Picture::default();
        for i in 0..100_000u64 {
            ran(&mut picture, i.into(), (i % 4) as u32, i * 10, 9);
        }
        let told = picture.news(&ClusterInfo::default(), 1, 0);
        assert!(
            (100..=MOST_AT_ONCE).contains(&told.bars.len()),
            "{}",
            told.bars.len()
        );
        assert_eq!(told.bars.iter().map(|bar| u64::from(bar.n)).sum::<u64>(), 100_000);
    }

    #[test]
    fn a_cluster_that_begins_anew_is_another_picture() {
        let mut picture = Picture::default();
        ran(&mut picture, 1, 1, 100, 50);
        picture.news(&ClusterInfo::default(), 1, 200);
        picture.update(Update::Reset, 300);
        ran(&mut picture, 2, 1, 400, 50);
        let told = picture.news(&ClusterInfo::default(), 2, 300);
        assert_eq!((told.is_whole, told.rows[0].3, told.bars.len()), (true, 1, 1));
        assert!(!picture.news(&ClusterInfo::default(), 3, 300).is_whole);
        picture.update(Update::Lagged { missed: 9 }, 400);
        assert_eq!(picture.news(&ClusterInfo::default(), 4, 400).missed, 9);
    }
}
