//! What runs look like: a card, the graph of their tasks, who ran when.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use skep_eval::Moving;
use skep_render::{
    Bundle,
    card::Card,
    count, duration,
    graph::Graph,
    plural,
    progress::{self, Row},
    stream::{self, Bar},
};

use crate::{
    state::State,
    store::{RunRow, Store, now_us, short},
};

/// Runs with more tasks have a line for each function, not for each task.
const MOST_ROWS: usize = 20;

/// Of more tasks the newest are drawn in the stream.
const MOST_BARS: usize = 2000;

/// A run and its tasks, to be drawn.
pub(crate) struct View {
    pub id: String,
    pub flow: String,
    pub state: State,
    pub reason: String,
    pub parameters: String,
    pub begun_us: Option<u64>,
    pub ended_us: Option<u64>,
    pub tasks: Vec<TaskView>,
    pub trouble: Option<String>,
    /// Runs that it called: their flows, ids and states.
    pub called: Vec<(String, String, State)>,
}

pub(crate) struct TaskView {
    pub no: u32,
    pub name: String,
    pub arguments: String,
    pub inputs: Vec<u32>,
    pub state: State,
    pub reason: String,
    pub attempt: u32,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    pub worker: Option<String>,
    pub is_restored: bool,
}

impl TaskView {
    fn took(&self) -> Option<Duration> {
        let ended = self.ended_us.unwrap_or_else(now_us);
        Some(Duration::from_micros(ended.saturating_sub(self.started_us?)))
    }

    fn what(&self) -> String {
        match (self.is_restored, self.reason.as_str()) {
            (true, _) => "from before: it was not run again".into(),
            (false, reason) => reason.into(),
        }
    }
}

impl View {
    /// A run as it is in the store.
    pub fn stored(store: &Store, row: &RunRow) -> skep_cluster::Result<View> {
        let mut workers: BTreeMap<u32, String> = BTreeMap::new();
        for state in store.states(&row.id)? {
            if state.state == State::Running && state.no > 0 {
                workers.insert(state.no, state.reason);
            }
        }
        let is_over = !row.state.is_open();
        let tasks = store.tasks(&row.id)?;
        Ok(View {
            id: row.id.clone(),
            flow: row.flow.clone(),
            state: row.state,
            reason: row.reason.clone(),
            parameters: row.parameters.clone(),
            begun_us: row.started_us,
            ended_us: row.ended_us,
            trouble: None,
            called: View::called_by(store, &row.id)?,
            tasks: tasks
                .into_iter()
                .map(|task| TaskView {
                    // What ran when its process died has crashed with it.
                    state: match task.state {
                        State::Running | State::AwaitingRetry if is_over => State::Crashed,
                        state => state,
                    },
                    worker: workers.remove(&task.no),
                    no: task.no,
                    name: task.name,
                    arguments: task.arguments,
                    inputs: task.inputs,
                    reason: task.reason,
                    attempt: task.attempt,
                    started_us: task.started_us,
                    ended_us: task.ended_us,
                    is_restored: false,
                })
                .collect(),
        })
    }

    /// The runs that a run called: their flows, ids and states.
    pub fn called_by(store: &Store, run: &str) -> skep_cluster::Result<Vec<(String, String, State)>> {
        let called = store.called_by(run)?.into_iter();
        Ok(called.map(|run| (run.flow, run.id, run.state)).collect())
    }

    fn took(&self) -> Option<Duration> {
        let ended = self.ended_us.unwrap_or_else(now_us);
        Some(Duration::from_micros(ended.saturating_sub(self.begun_us?)))
    }

    fn counts(&self) -> String {
        let mut by_state: BTreeMap<State, u64> = BTreeMap::new();
        for task in &self.tasks {
            *by_state.entry(task.state).or_default() += 1;
        }
        let words: Vec<String> = by_state
            .iter()
            .map(|(state, n)| format!("{} {state}", count(*n)))
            .collect();
        words.join(", ")
    }

    fn headline(&self) -> String {
        let took = self
            .took()
            .map(|took| format!(", {}", duration(took)))
            .unwrap_or_default();
        format!("Flow {}: {}{took}", self.flow, self.state)
    }

    fn card(&self) -> Card {
        let mut card = Card::new(self.headline())
            .state(match self.state.colour() {
                "cached" => "done",
                colour => colour,
            })
            .fact("run", short(&self.id));
        if !self.parameters.is_empty() {
            card = card.fact("parameters", cut(&self.parameters, 200));
        }
        if !self.reason.is_empty() {
            card = card.fact("reason", &self.reason);
        }
        if let Some(trouble) = &self.trouble {
            card = card.fact(
                "journal",
                format!("not written, so that this run cannot go on later: {trouble}; it is tried again"),
            );
        }
        const MOST_CALLED: usize = 8;
        for (flow, id, state) in self.called.iter().take(MOST_CALLED) {
            card = card.fact("called", format!("{flow}, run {}: {state}", short(id)));
        }
        if self.called.len() > MOST_CALLED {
            card = card.fact(
                "",
                format!("and {} more", count((self.called.len() - MOST_CALLED) as u64)),
            );
        }
        if self.tasks.is_empty() {
            return card;
        }
        card = card.fact(
            "tasks",
            format!("{}: {}", plural(self.tasks.len(), "run"), self.counts()),
        );
        if self.tasks.len() <= MOST_ROWS {
            let rows = self.tasks.iter().map(|task| {
                [
                    call_of(task),
                    task.state.to_string(),
                    attempts(task.attempt),
                    task.took().map(duration).unwrap_or_default(),
                    task.what(),
                ]
            });
            return card.table(["task", "state", "attempts", "time", "why"], rows);
        }
        let mut by_name: BTreeMap<&str, Vec<&TaskView>> = BTreeMap::new();
        let mut order: Vec<&str> = Vec::new();
        for task in &self.tasks {
            let of_name = by_name.entry(&task.name).or_default();
            if of_name.is_empty() {
                order.push(&task.name);
            }
            of_name.push(task);
        }
        let rows = order.into_iter().map(|name| {
            let tasks = &by_name[name];
            let n_in = |of: &dyn Fn(State) -> bool| tasks.iter().filter(|task| of(task.state)).count() as u64;
            let total: Duration = tasks.iter().filter_map(|task| task.took()).sum();
            let n_again: u64 = tasks
                .iter()
                .map(|task| u64::from(task.attempt.saturating_sub(1)))
                .sum();
            [
                format!("{name} ×{}", count(tasks.len() as u64)),
                count(n_in(&|state| state.is_good())),
                count(n_in(&|state| !state.is_final())),
                count(n_in(&|state| state.is_final() && !state.is_good())),
                count(n_again),
                duration(total),
            ]
        });
        card.table(["task", "good", "open", "bad", "retries", "time"], rows)
    }

    pub fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        let mut at: BTreeMap<u32, usize> = BTreeMap::new();
        for task in &self.tasks {
            let node = graph.add_node(&task.name, task.state.colour());
            graph.set_detail(node, task.arguments.clone());
            at.insert(task.no, node);
        }
        for task in &self.tasks {
            for input in &task.inputs {
                if let (Some(from), Some(to)) = (at.get(input), at.get(&task.no)) {
                    graph.add_edge(*from, *to);
                }
            }
        }
        graph
    }

    fn bars(&self) -> Vec<Bar> {
        let bar = |task: &TaskView| {
            (!task.is_restored).then_some(())?;
            Some(Bar {
                worker: task.worker.clone()?,
                name: task.name.clone(),
                start_us: task.started_us?,
                duration_us: task.took()?.as_micros() as u64,
            })
        };
        let newest = &self.tasks[self.tasks.len().saturating_sub(MOST_BARS)..];
        newest.iter().filter_map(bar).collect()
    }

    fn html(&self) -> String {
        let card = self.card().bundle();
        let mut html = card.get("text/html").unwrap_or_default().to_string();
        if self.tasks.len() > 1 {
            html.push_str(&below(&self.graph().to_svg()));
        }
        let bars = self.bars();
        if bars.len() > 1 {
            let stream = stream::bundle(&bars);
            html.push_str(&below(stream.get("image/svg+xml").unwrap_or_default()));
        }
        html
    }

    /// In the cell whose picture of this run stays, a page has it already.
    pub fn bundle(&self) -> Bundle {
        let html = match is_shown_here(&self.id) {
            true => {
                let brief =
                    Card::new(self.headline()).fact("run", format!("{}, shown above", short(&self.id)));
                brief.bundle().get("text/html").unwrap_or_default().to_string()
            }
            false => self.html(),
        };
        Bundle::text(self.card().bundle().plain()).with_html(html)
    }

    /// While it runs: in the terminal a bar for each task.
    fn moving(&self) -> Bundle {
        let mut rows: Vec<Row> = Vec::new();
        for task in &self.tasks {
            let at = rows
                .iter()
                .position(|row| row.name == task.name)
                .unwrap_or_else(|| {
                    rows.push(Row {
                        name: task.name.clone(),
                        ..Row::default()
                    });
                    rows.len() - 1
                });
            let row = &mut rows[at];
            let n = match task.state {
                State::Scheduled | State::Pending | State::Paused | State::AwaitingRetry => {
                    &mut row.n_waiting
                }
                State::Running => &mut row.n_running,
                State::Cached | State::Completed => &mut row.n_done,
                State::Failed | State::Crashed => &mut row.n_failed,
                State::Cancelled => &mut row.n_cancelled,
            };
            *n += 1;
        }
        let mut notes: Vec<String> = self.trouble.iter().cloned().collect();
        let waiting = self
            .tasks
            .iter()
            .filter(|task| task.state == State::AwaitingRetry);
        if let Some(first) = waiting.clone().next() {
            let n_more = match waiting.count() - 1 {
                0 => String::new(),
                n => format!(", and {} more", count(n as u64)),
            };
            notes.push(format!(
                "{} waits for its retry{n_more}: {}",
                call_of(first),
                first.reason
            ));
        }
        let bars = progress::bundle(&rows, self.took().unwrap_or_default(), &notes);
        Bundle::text(format!("{}\n{}", self.headline(), bars.plain())).with_html(self.html())
    }
}

fn below(picture: &str) -> String {
    format!("<div style=\"margin-top:8px\">{picture}</div>")
}

fn call_of(task: &TaskView) -> String {
    match task.arguments.chars().count() {
        0 => task.name.clone(),
        1..=40 => format!("{}({})", task.name, task.arguments),
        _ => format!("{}({})", task.name, cut(&task.arguments, 40)),
    }
}

fn attempts(n: u32) -> String {
    match n {
        0 => String::new(),
        n => n.to_string(),
    }
}

pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// The cell that has shown a run last, and that run.
static SHOWN: Mutex<(u32, String)> = Mutex::new((0, String::new()));

fn is_shown_here(run: &str) -> bool {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.0 != 0 && shown.0 == skep_eval::current_cell() && shown.1 == run
}

/// The picture of a run while a cell waits for it.
pub(crate) struct Picture {
    shown: Moving,
    drawn_at: Option<Instant>,
    n_drawn: u64,
    began: Instant,
}

impl Picture {
    pub fn new() -> Picture {
        Picture {
            shown: Moving::default(),
            drawn_at: None,
            n_drawn: 0,
            began: Instant::now(),
        }
    }

    /// Draws it if it has changed, or runs, and was not drawn for so long.
    pub fn draw_if_due(&mut self, n_changes: u64, every: Duration, view: impl FnOnce() -> View) {
        // The first one comes before the bars that a cell shows by itself.
        let (last, every) = match self.drawn_at {
            Some(at) => (at, every),
            None => (self.began, every / 3),
        };
        if last.elapsed() < every || (n_changes == self.n_drawn && last.elapsed() < 4 * every) {
            return;
        }
        self.n_drawn = n_changes;
        self.shown.show(view().moving());
        self.drawn_at = Some(Instant::now());
    }

    pub fn draw_last(&mut self, view: &View) {
        self.shown.show(view.moving());
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = (skep_eval::current_cell(), view.id.clone());
    }
}

/// How long ago, in one unit.
pub(crate) fn ago(at_us: u64) -> String {
    let seconds = now_us().saturating_sub(at_us) / 1_000_000;
    let (n, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "min"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{n} {unit} ago")
}
