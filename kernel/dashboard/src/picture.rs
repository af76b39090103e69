//! What the page shows, as events make it: pure, and bounded however long a cluster works.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use skep_cluster::{
    Event, FunctionId, Key, Progress, Reason,
    host::{Snapshot, Update},
    model::{cluster::ClusterInfo, history::Total},
};
use skep_render::graph::Graph;

use crate::{
    frames::Frames,
    moves::Moves,
    told::{Bar, Line, Row, Told, reason, together, workers},
};

/// Tasks that a page may look back at.
const MOST_BARS: usize = 500_000;
/// Bars in one update; more are put together.
const MOST_AT_ONCE: usize = 1_500;
/// Tasks in the graph, the newest.
const MOST_NODES: usize = 10_000;
/// Lines of the log.
const MOST_LINES: usize = 1_000;

/// A task of the graph.
struct Node {
    function: FunctionId,
    state: &'static str,
    inputs: Arc<[Key]>,
}

#[derive(Default)]
pub(crate) struct Picture {
    /// Where functions are among the totals; those of one name are one.
    names: HashMap<FunctionId, u32>,
    totals: Vec<Total>,
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
    moves: Moves,
    frames: Frames,
    missed: u64,
    has_ended: bool,
    /// Of the last news.
    seq: u64,
    /// What was told already: functions, bars, lines.
    told: (usize, u64, u64),
    /// What was told before holds no more.
    is_anew: bool,
}

impl Picture {
    pub fn new(snapshot: &Snapshot, now_us: u64) -> Picture {
        let mut picture = Picture::default();
        let history = &snapshot.history;
        let mut places = Vec::new();
        for before in &history.totals {
            let at = picture.function(&before.function);
            let total = &mut picture.totals[at as usize];
            total.n_done += before.n_done;
            total.n_failed += before.n_failed;
            total.n_repeated += before.n_repeated;
            total.total_us += before.total_us;
            total.longest_us = total.longest_us.max(before.longest_us);
            total.n_bytes += before.n_bytes;
            total.n_rows += before.n_rows;
            total.moved_bytes += before.moved_bytes;
            places.push(at);
        }
        for (bar, total) in &history.bars {
            let Some(function) = places.get(*total as usize) else {
                continue;
            };
            picture.add(Bar {
                worker: bar.worker.0,
                lane: 0,
                function: *function,
                start_us: bar.start_us,
                duration_us: bar.duration_us,
                n: 1,
                moved: 0,
                why: "",
                key: bar.key,
            });
        }
        for event in &snapshot.open {
            picture.apply(event, now_us);
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

    /// Whether events were lost: counts lack them.
    pub fn has_holes(&self) -> bool {
        self.missed > 0
    }

    /// The cluster as it is, in place of a picture with holes; tasks that are further back than the snapshot are kept.
    pub fn renew(&mut self, snapshot: &Snapshot, now_us: u64) {
        let mut new = Picture::new(snapshot, now_us);
        let first = new.bars.front().map_or(u64::MAX, |bar| bar.start_us);
        let old = std::mem::take(self);
        for bar in old.bars.into_iter().rev().filter(|bar| bar.start_us < first) {
            if new.bars.len() >= MOST_BARS {
                break;
            }
            let function = new.function(&old.totals[bar.function as usize].function);
            new.bars.push_front(Bar { function, ..bar });
            new.n_bars += 1;
        }
        let lines = std::mem::replace(&mut new.lines, old.lines);
        new.n_lines = old.n_lines;
        let known = new.lines.back().map_or(0, |line| line.0);
        for Line(at_us, kind, text) in lines.into_iter().filter(|line| line.0 > known) {
            new.line(at_us, kind, text);
        }
        *self = Picture {
            seq: old.seq,
            is_anew: true,
            // A snapshot does not say who sent what to whom.
            moves: old.moves,
            frames: old.frames,
            ..new
        };
    }

    fn function(&mut self, name: &str) -> u32 {
        let at = self.totals.iter().position(|known| known.function == name);
        let at = at.unwrap_or_else(|| {
            self.totals.push(Total {
                function: name.to_string(),
                ..Total::default()
            });
            self.totals.len() - 1
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

    /// Puts a bar into a row of its worker.
    fn add(&mut self, mut bar: Bar) {
        let lanes = self.lanes.entry(bar.worker).or_default();
        // The row that was free for the shortest time: they come in the order of their ends, and a thread that waits keeps its
        // row. Two clocks measure begin and length.
        let slack_us = (bar.duration_us / 10).min(50);
        let free = (0..lanes.len()).filter(|lane| lanes[*lane] <= bar.start_us + slack_us);
        let lane = free.max_by_key(|lane| lanes[*lane]).unwrap_or(lanes.len());
        let end = bar.start_us + bar.duration_us;
        match lanes.get_mut(lane) {
            Some(free) => *free = end,
            None => lanes.push(end),
        }
        bar.lane = lane as u32;
        self.bars.push_back(bar);
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
                    seq: self.seq,
                    ..Picture::default()
                };
                self.line(now_us, "reset", "the cluster began anew".into());
            }
            Update::Ended => self.has_ended = true,
        }
    }

    fn apply(&mut self, event: &Event, now_us: u64) {
        self.progress.apply(event);
        self.frames.apply(event);
        match event {
            Event::Function { id, name } => {
                let at = self.function(name);
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
            Event::Moved {
                from, to, n_bytes, ..
            } => self.moves.add(*from, *to, *n_bytes),
            Event::Done {
                key,
                worker,
                n_bytes,
                start_us,
                duration_us,
            } => {
                self.mark(*key, "done");
                let Some((function, why, moved)) = self.assigned.remove(key) else {
                    return;
                };
                let Some(function) = self.names.get(&function).copied() else {
                    return;
                };
                let total = &mut self.totals[function as usize];
                total.n_done += 1;
                total.total_us += duration_us;
                total.longest_us = total.longest_us.max(*duration_us);
                total.n_bytes += n_bytes;
                total.moved_bytes += moved;
                self.add(Bar {
                    worker: worker.0,
                    lane: 0,
                    function,
                    start_us: *start_us,
                    duration_us: *duration_us,
                    n: 1,
                    moved,
                    why: reason(why),
                    key: *key,
                });
            }
            Event::Counted { key, n_rows } => {
                if let Some(total) = self.total_of(*key) {
                    total.n_rows += n_rows;
                }
            }
            Event::Freed { key } => {
                self.functions_of.remove(key);
                self.assigned.remove(key);
            }
            Event::Failed { key, why } => {
                self.mark(*key, "failed");
                self.assigned.remove(key);
                if let Some(total) = self.total_of(*key) {
                    total.n_failed += 1;
                }
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
                self.lanes.remove(&worker.0);
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
            let name = function.map_or("?", |at| self.totals[*at as usize].function.as_str());
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

    fn total_of(&mut self, key: Key) -> Option<&mut Total> {
        let at = self.names.get(self.functions_of.get(&key)?)?;
        self.totals.get_mut(*at as usize)
    }

    fn name_of(&self, key: Key) -> String {
        let function = self.functions_of.get(&key).and_then(|id| self.names.get(id));
        function.map_or_else(
            || "a task".to_string(),
            |at| self.totals[*at as usize].function.clone(),
        )
    }

    /// Functions that have any task, as they came.
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .totals
            .iter()
            .map(|total| Row {
                total: total.clone(),
                ..Row::default()
            })
            .collect();
        for known in self.progress.rows() {
            if let Some(row) = rows.iter_mut().find(|row| row.total.function == known.name) {
                row.waiting += known.n_waiting;
                row.running += known.n_running;
                row.cancelled += known.n_cancelled;
            }
        }
        rows.retain(|row| {
            row.waiting + row.running + row.cancelled + row.total.n_done + row.total.n_failed > 0
        });
        rows
    }

    fn functions_from(&self, first: usize) -> Vec<(u32, String)> {
        let names = self.totals.iter().map(|total| total.function.clone());
        (0..).zip(names).skip(first).collect()
    }

    /// Everything, for a viewer that begins: it goes on with the news that come next.
    pub fn whole(&self, info: &ClusterInfo, now_us: u64) -> Told {
        let newest = self.bars.iter().skip(self.bars.len().saturating_sub(20_000));
        Told {
            is_whole: true,
            functions: self.functions_from(0),
            bars: together(newest.cloned().collect(), 4 * MOST_AT_ONCE),
            lines: self.lines.iter().cloned().collect(),
            moves: Some(self.moves.all()),
            frames: Some(self.frames.all()),
            ..self.now(info, now_us)
        }
    }

    /// What is new since this was called last.
    pub fn news(&mut self, info: &ClusterInfo, now_us: u64) -> Told {
        self.seq += 1;
        let moves = self
            .moves
            .news()
            .or_else(|| self.is_anew.then(|| self.moves.all()));
        let frames = self
            .frames
            .news()
            .or_else(|| self.is_anew.then(|| self.frames.all()));
        let (functions, n_bars, n_lines) = self.told;
        let old = |n_told: u64, n: u64, len: usize| len - ((n - n_told) as usize).min(len);
        let bars = self.bars.iter().skip(old(n_bars, self.n_bars, self.bars.len()));
        let lines = self
            .lines
            .iter()
            .skip(old(n_lines, self.n_lines, self.lines.len()));
        let told = Told {
            is_whole: self.is_anew,
            functions: self.functions_from(functions),
            bars: together(bars.cloned().collect(), MOST_AT_ONCE),
            lines: lines.cloned().collect(),
            moves,
            frames,
            ..self.now(info, now_us)
        };
        self.told = (self.totals.len(), self.n_bars, self.n_lines);
        self.is_anew = false;
        told
    }

    /// How things stand.
    fn now(&self, info: &ClusterInfo, now_us: u64) -> Told {
        Told {
            seq: self.seq,
            now_us,
            missed: self.missed,
            has_ended: self.has_ended,
            rows: self.rows(),
            workers: workers(info),
            ..Told::default()
        }
    }

    /// The tasks between two times, for looking back.
    pub fn between(&self, from_us: u64, to_us: u64) -> Vec<Bar> {
        let here = |bar: &&Bar| bar.start_us <= to_us && bar.start_us + bar.duration_us >= from_us;
        together(self.bars.iter().filter(here).cloned().collect(), 4 * MOST_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use skep_cluster::WorkerId;

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
        let told = picture.news(&ClusterInfo::default(), 200);
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
        let total = Total {
            function: "inc".into(),
            n_done: 3,
            total_us: 105,
            longest_us: 50,
            n_bytes: 24,
            moved_bytes: 21,
            ..Total::default()
        };
        assert_eq!(told.rows.len(), 1);
        assert_eq!((told.rows[0].waiting, &told.rows[0].total), (0, &total));
        assert_eq!(picture.news(&ClusterInfo::default(), 300).bars.len(), 4);
        let next = picture.news(&ClusterInfo::default(), 300);
        assert!(next.bars.is_empty() && next.functions.is_empty());
        assert_eq!(picture.whole(&ClusterInfo::default(), 300).bars.len(), 7);
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

    /// The page may be opened while a long cell runs.
    #[test]
    fn what_was_under_way_before_is_part_of_the_picture() {
        let (function, key) = (FunctionId(7), Key(9));
        let before = Total {
            function: "early".into(),
            n_done: 4,
            ..Total::default()
        };
        let mut snapshot = Snapshot::default();
        snapshot.history.totals = vec![before];
        snapshot.open = vec![
            Event::Function {
                id: function,
                name: "long".into(),
            },
            Event::Submitted {
                key,
                function,
                origin: 0,
                inputs: [].into(),
            },
            Event::Assigned {
                key,
                worker: WorkerId(1),
                why: Reason::LeastBusy,
                moved_bytes: 0,
            },
        ];
        let mut picture = Picture::new(&snapshot, 0);
        let rows = picture.whole(&ClusterInfo::default(), 0).rows;
        assert_eq!((rows[0].total.n_done, rows[1].running), (4, 1));
        picture.apply(
            &Event::Done {
                key,
                worker: WorkerId(1),
                n_bytes: 8,
                start_us: 5,
                duration_us: 6,
            },
            11,
        );
        let told = picture.news(&ClusterInfo::default(), 11);
        assert_eq!((told.bars.len(), told.rows[1].total.n_done), (1, 1));
        assert_eq!(told.functions[told.bars[0].function as usize].1, "long");
    }

    /// What a viewer was told as a whole does not come again.
    #[test]
    fn news_begin_where_the_whole_ends() {
        let mut picture = Picture::default();
        ran(&mut picture, 1, 1, 100, 50);
        let news = picture.news(&ClusterInfo::default(), 200);
        let whole = picture.whole(&ClusterInfo::default(), 200);
        assert_eq!((whole.seq, whole.bars.len()), (news.seq, 1));
        assert!(picture.news(&ClusterInfo::default(), 300).bars.is_empty());
    }

    #[test]
    fn many_short_tasks_are_few_bars_and_none_is_lost() {
        let mut picture = Picture::default();
        for i in 0..100_000u64 {
            ran(&mut picture, i.into(), (i % 4) as u32, i * 10, 9);
        }
        let told = picture.news(&ClusterInfo::default(), 0);
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
        picture.news(&ClusterInfo::default(), 200);
        picture.update(Update::Reset, 300);
        ran(&mut picture, 2, 1, 400, 50);
        let told = picture.news(&ClusterInfo::default(), 300);
        assert_eq!(
            (told.is_whole, told.rows[0].total.n_done, told.bars.len()),
            (true, 1, 1)
        );
        assert!(!picture.news(&ClusterInfo::default(), 300).is_whole);
        picture.update(Update::Lagged { missed: 9 }, 400);
        assert_eq!(picture.news(&ClusterInfo::default(), 400).missed, 9);
    }

    #[test]
    fn what_was_missed_is_made_up_for() {
        let mut picture = Picture::default();
        ran(&mut picture, 1, 1, 100, 50);
        picture.line(120, "joined", "worker-1".into());
        picture.update(Update::Lagged { missed: 7 }, 300);
        assert!(picture.has_holes());
        picture.news(&ClusterInfo::default(), 300);
        let bar = skep_cluster::Bar {
            key: Key(9),
            worker: skep_cluster::WorkerId(1),
            function: FunctionId(5),
            start_us: 250,
            duration_us: 10,
        };
        let mut fresh = Snapshot::default();
        fresh.history.bars.push((bar, 0));
        fresh.history.totals.push(Total {
            function: "later".into(),
            n_done: 4,
            ..Total::default()
        });
        picture.renew(&fresh, 400);
        let told = picture.news(&ClusterInfo::default(), 400);
        assert_eq!((told.is_whole, told.missed, told.bars.len()), (true, 0, 2));
        let done = |told: &Told| told.rows.iter().map(|row| row.total.n_done).sum::<u64>();
        assert_eq!((done(&told), told.lines.len()), (4, 1));
        let functions: Vec<&str> = told.functions.iter().map(|(_, name)| name.as_str()).collect();
        let names: Vec<&str> = told
            .bars
            .iter()
            .map(|bar| functions[bar.function as usize])
            .collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&"later"), "{names:?}");
        assert!(picture.news(&ClusterInfo::default(), 500).bars.is_empty());
    }
}
