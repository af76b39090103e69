//! Progress that appears by itself: for any cell that keeps the cluster busy for over a quarter of a second.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use skep_cluster::{Event, Progress};
use skep_render::progress::{Row, bundle};

use crate::{
    frontend::{Frontend, Output},
    output::{serial::Serial, throttle::Throttle, ticker::Ticker},
};

/// Work shorter than this shows nothing; with the time to the next look it is on the page within a quarter of
/// a second.
const PATIENCE: Duration = Duration::from_millis(140);

/// At most ten updates a second.
const EVERY: Duration = Duration::from_millis(100);

/// Follows the cluster's events, and shows them while a cell runs.
///
/// The scheduler's thread only puts events into a queue: a front end that stops reading holds up the thread
/// that shows them, and nobody else.
pub struct Tracker {
    state: Arc<Mutex<State>>,
    queue: Arc<Queue>,
}

/// Events on their way from the scheduler to the page.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    n_added: u64,
    n_applied: u64,
    n_left_out: u64,
    is_closed: bool,
}

/// So many events wait at most; the oldest prints and reports go first, and the page says so.
const MOST_WAITING: usize = 500_000;

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, events: &[Event]) {
        let mut waiting = self.lock();
        waiting.n_added += events.len() as u64;
        let is_vital = |event: &Event| !matches!(event, Event::Printed { .. } | Event::Progressed { .. });
        let is_full = waiting.events.len() + events.len() > MOST_WAITING;
        let before = waiting.events.len();
        waiting
            .events
            .extend(events.iter().filter(|event| !is_full || is_vital(event)).cloned());
        let left_out = events.len() - (waiting.events.len() - before);
        waiting.n_left_out += left_out as u64;
        waiting.n_applied += left_out as u64;
        drop(waiting);
        self.changed.notify_all();
    }

    /// The events so far; waits for some, for as long as `patience`. `None` when there will be no more.
    fn take(&self, patience: Duration) -> Option<Vec<Event>> {
        let is_empty = |waiting: &mut Waiting| waiting.events.is_empty() && !waiting.is_closed;
        let mut waiting = self
            .changed
            .wait_timeout_while(self.lock(), patience, is_empty)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if waiting.is_closed {
            None
        } else {
            // With its room: many events at once are rare.
            Some(std::mem::take(&mut waiting.events))
        }
    }

    fn applied(&self, n: usize) {
        self.lock().n_applied += n as u64;
        self.changed.notify_all();
    }

    /// Waits until all events that were added before this call are applied, but not for ever.
    fn catch_up(&self, patience: Duration) {
        let waiting = self.lock();
        let until = waiting.n_added;
        let is_behind = |waiting: &mut Waiting| waiting.n_applied < until && !waiting.is_closed;
        drop(self.changed.wait_timeout_while(waiting, patience, is_behind));
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

struct State {
    frontend: Arc<Serial>,
    progress: Progress,
    /// The cell that began last: what is printed outside all tasks is shown there.
    newest: u32,
    cell: Option<Running>,
    /// The last cell, whose tasks went on when it had ended.
    after: Option<Running>,
    /// What tasks print, on its way to the cells that launched them.
    prints: Throttle,
    /// Libraries that are being compiled for the workers.
    compiling: Vec<(String, Instant)>,
}

struct Running {
    cell: u32,
    /// When tasks were first under way.
    busy_since: Option<Instant>,
    id: Option<String>,
    has_changed: bool,
    /// What was shown last, but for the time.
    last: Option<String>,
}

impl Tracker {
    pub fn new(frontend: Arc<Serial>) -> io::Result<Tracker> {
        let prints = Throttle::new(frontend.clone());
        let state = Arc::new(Mutex::new(State {
            prints,
            frontend,
            progress: Progress::default(),
            newest: 0,
            cell: None,
            after: None,
            compiling: Vec::new(),
        }));
        let queue = Arc::new(Queue::default());
        let (shown, events) = (state.clone(), queue.clone());
        thread::Builder::new().name("progress".into()).spawn(move || {
            let mut ticked = Instant::now();
            while let Some(batch) = events.take(EVERY) {
                if !batch.is_empty() {
                    lock(&shown).apply(&batch);
                    events.applied(batch.len());
                }
                if ticked.elapsed() >= EVERY {
                    lock(&shown).tick();
                    ticked = Instant::now();
                }
            }
        })?;
        Ok(Tracker { state, queue })
    }

    /// Takes in events; returns at once.
    pub fn on_events(&self, events: &[Event]) {
        self.queue.add(events);
    }

    /// Waits until what the scheduler has told so far is taken in: what tasks printed comes before what the
    /// cell prints next.
    pub fn catch_up(&self) {
        self.queue.catch_up(Duration::from_millis(200));
        if let Ok(mut state) = self.state.try_lock() {
            state.prints.flush();
        }
    }

    pub fn begin(&self, cell: u32) {
        let mut state = lock(&self.state);
        state.leave();
        state.progress.begin();
        state.newest = cell;
        let busy_since = (state.progress.n_open() > 0).then(Instant::now);
        state.cell = Some(Running {
            cell,
            busy_since,
            id: None,
            has_changed: true,
            last: None,
        });
    }

    /// Shows that `cell` is being compiled, while that takes long.
    pub fn compiling(&self, cell: u32) -> Ticker {
        Ticker::start(lock(&self.state).frontend.clone(), cell, "compiling")
    }

    /// A library is being compiled for the workers, until this is told of it again with `is_done`.
    pub fn compiling_for_workers(&self, library: &str, is_done: bool) {
        let mut state = lock(&self.state);
        if is_done {
            state.compiling.retain(|(known, _)| known != library);
        } else {
            state.compiling.push((library.to_string(), Instant::now()));
        }
        if let Some(running) = &mut state.cell {
            running.has_changed = true;
        }
    }

    /// An interrupted cell cancels its tasks: their end belongs to what is shown last, and is a moment
    /// behind.
    pub fn settle(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let is_open = || {
            let state = lock(&self.state);
            state.progress.n_open_of(state.newest) > 0
        };
        while is_open() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether tasks are shown that have not ended, as far as is known here.
    pub fn shows_open_tasks(&self) -> bool {
        let state = lock(&self.state);
        state.progress.n_open() > 0 && state.cell.as_ref().is_some_and(|running| running.id.is_some())
    }

    /// Shows the state of now, as far as anything is shown.
    pub fn finish(&self) {
        self.queue.catch_up(Duration::from_millis(200));
        let mut state = lock(&self.state);
        state.prints.flush();
        state.show(true);
    }

    /// The cell has ended. What is shown becomes final, or goes on until the tasks that are left have ended.
    pub fn end(&self) {
        self.queue.catch_up(Duration::from_millis(200));
        let mut state = lock(&self.state);
        state.prints.flush();
        state.show(true);
        let is_open = state.progress.n_open() > 0;
        state.after = state
            .cell
            .take()
            .filter(|running| is_open && running.id.is_some());
    }
}

/// What becomes of tasks and workers, in the log.
fn log(event: &Event) {
    match event {
        Event::WorkerJoined { worker, pid } => tracing::info!(target: "skep::worker", %worker, pid, "joined"),
        Event::WorkerLost { worker, cause } => {
            tracing::warn!(target: "skep::worker", %worker, "lost: {cause}")
        }
        Event::WorkerSilent {
            worker,
            is_back: false,
        } => tracing::warn!(target: "skep::worker", %worker, "silent"),
        Event::WorkerPaused { worker } => {
            tracing::info!(target: "skep::worker", %worker, "paused: its memory is nearly full");
        }
        Event::Assigned { key, worker, .. } => {
            tracing::debug!(target: "skep::task", task = %key, %worker, "assigned");
        }
        Event::Done {
            key,
            worker,
            n_bytes,
            duration_us,
            ..
        } => {
            tracing::debug!(target: "skep::task", task = %key, %worker, n_bytes, duration_us, "done");
        }
        Event::Failed { key, why } => tracing::info!(target: "skep::task", task = %key, "failed: {why}"),
        Event::Cancelled { key } => tracing::debug!(target: "skep::task", task = %key, "cancelled"),
        Event::Retried { key, .. } => tracing::info!(target: "skep::task", task = %key, "runs again"),
        _ => {}
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn apply(&mut self, events: &[Event]) {
        for event in events {
            log(event);
            self.progress.apply(event);
            if let Event::Printed {
                key, is_stderr, text, ..
            } = event
            {
                let cell = key
                    .and_then(|key| self.progress.origin_of(key))
                    .filter(|cell| *cell != 0)
                    .unwrap_or(self.newest);
                self.prints.add(cell, *is_stderr, text);
            }
        }
        let n_open = self.progress.n_open();
        for running in self.cell.iter_mut().chain(&mut self.after) {
            running.has_changed = true;
            if n_open > 0 && running.busy_since.is_none() {
                running.busy_since = Some(Instant::now());
            }
        }
    }

    /// Another cell begins: what went on after the last one is shown there from now on.
    fn leave(&mut self) {
        if self.after.is_some() {
            self.show_after(true);
            self.after = None;
        }
    }

    fn show_after(&mut self, is_left: bool) {
        let Some(running) = &mut self.after else { return };
        running.has_changed |= is_left;
        let before = std::mem::replace(&mut self.cell, self.after.take());
        let notes = if is_left && self.progress.n_open() > 0 {
            vec!["these tasks go on behind the next cell, which counts them from here".to_string()]
        } else {
            Vec::new()
        };
        self.show_with(true, notes);
        let is_open = self.progress.n_open() > 0;
        self.after = std::mem::replace(&mut self.cell, before).filter(|_| is_open);
    }

    fn tick(&mut self) {
        self.prints.flush();
        if self.after.as_ref().is_some_and(|running| running.has_changed) {
            self.show_after(false);
        }
        let is_due = self.cell.as_ref().is_some_and(|running| {
            running
                .busy_since
                .is_some_and(|since| since.elapsed() >= PATIENCE)
        });
        let is_open = self.progress.n_open() > 0;
        let is_shown = self.cell.as_ref().is_some_and(|running| running.id.is_some());
        if is_due && (is_open || is_shown) {
            self.show(false);
        }
    }

    fn show(&mut self, is_final: bool) {
        self.show_with(is_final, Vec::new());
    }

    /// What is being waited for while no task runs: code.
    fn compile_note(&self) -> Option<String> {
        let (_, since) = self.compiling.first()?;
        let waiting: Vec<String> = self
            .progress
            .rows()
            .filter(|row| row.n_waiting > 0 && row.n_running == 0 && row.n_done == 0)
            .map(|row| format!("`{}`", row.name))
            .take(3)
            .collect();
        (!waiting.is_empty()).then(|| {
            format!(
                "compiling {} for the workers, {:.1} s",
                waiting.join(", "),
                since.elapsed().as_secs_f64()
            )
        })
    }

    fn show_with(&mut self, is_final: bool, notes: Vec<String>) {
        let compiling = self.compile_note();
        let Some(running) = &mut self.cell else { return };
        let Some(since) = running.busy_since else { return };
        // Its tasks are those of a flow, whose picture shows them.
        if running.id.is_none() && self.frontend.shows_flow(running.cell) {
            return;
        }
        if (is_final && running.id.is_none()) || !(running.has_changed || compiling.is_some()) {
            return;
        }
        let told = self.progress.parts_done();
        let rows: Vec<Row> = self
            .progress
            .rows()
            .map(|shown| Row {
                told: told.get(&shown.name).copied().unwrap_or(0.0),
                ..row(shown)
            })
            .collect();
        if self.progress.n_open() == 0 {
            running.has_changed = false;
        }
        let notes: Vec<String> = self
            .progress
            .notes()
            .into_iter()
            .chain(compiling)
            .chain(notes)
            .collect();
        let bundle = bundle(&rows, since.elapsed(), &notes);
        // What only the clock has changed is not shown again when nothing is under way.
        let said = format!(
            "{}{notes:?}",
            skep_render::progress::bundle(&rows, Duration::ZERO, &notes).plain()
        );
        let is_over = self.progress.n_open() == 0;
        if is_over && running.last.as_ref() == Some(&said) {
            return;
        }
        running.last = Some(said);
        let output = match &running.id {
            Some(id) => Output::UpdateDisplay {
                id: id.clone(),
                bundle,
            },
            None => {
                let id = format!("skep-progress-{}-{}", std::process::id(), running.cell);
                running.id = Some(id.clone());
                Output::Display { id: Some(id), bundle }
            }
        };
        self.frontend.output(running.cell, output);
    }
}

fn row(row: &skep_cluster::ProgressRow) -> Row {
    Row {
        name: row.name.clone(),
        n_waiting: row.n_waiting,
        n_running: row.n_running,
        n_done: row.n_done,
        n_failed: row.n_failed,
        n_cancelled: row.n_cancelled,
        told: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use skep_cluster::{FunctionId, Key, WorkerId};

    use super::*;

    /// A page whose front end can stop reading.
    #[derive(Default)]
    struct Page {
        shown: Mutex<Vec<(u32, String)>>,
        stuck: Mutex<()>,
    }

    impl Frontend for Page {
        fn output(&self, cell: u32, output: Output) {
            drop(self.stuck.lock().unwrap());
            let text = match output {
                Output::Text { text, .. } => text,
                Output::Display { bundle, .. }
                | Output::UpdateDisplay { bundle, .. }
                | Output::Result(bundle) => bundle.plain().to_string(),
                Output::ClearOutput { .. } | Output::Control { .. } | Output::ControlsGone => String::new(),
            };
            self.shown.lock().unwrap().push((cell, text));
        }

        fn ask(&self, _: u32, _: &str, _: bool) -> Option<String> {
            None
        }
    }

    fn submitted(n: u128) -> [Event; 2] {
        [
            Event::Function {
                id: FunctionId(1),
                name: "inc".into(),
            },
            Event::Submitted {
                key: Key(n),
                function: FunctionId(1),
                origin: 1,
                inputs: [].into(),
            },
        ]
    }

    fn done(n: u128) -> Event {
        Event::Done {
            key: Key(n),
            worker: WorkerId(1),
            n_bytes: 8,
            start_us: 1,
            duration_us: 1,
        }
    }

    fn wait_for(page: &Page, found: impl Fn(&[(u32, String)]) -> bool) {
        for _ in 0..1_000 {
            if found(&page.shown.lock().unwrap()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("not shown: {:?}", page.shown.lock().unwrap());
    }

    #[test]
    fn a_front_end_that_stops_reading_holds_up_no_scheduler() {
        let page = Arc::new(Page::default());
        let tracker = Tracker::new(Arc::new(Serial::new(page.clone()))).unwrap();
        tracker.begin(1);
        let stuck = page.stuck.lock().unwrap();
        let print = |text: String| Event::Printed {
            key: None,
            worker: WorkerId(1),
            is_stderr: false,
            text,
        };
        for n in 0..2_000u128 {
            tracker.on_events(&submitted(n));
            tracker.on_events(&[print(format!("{n}\n"))]);
        }
        // All of these calls returned although nothing can be shown.
        drop(stuck);
        wait_for(&page, |shown| shown.iter().any(|(_, text)| text.contains("1999")));
    }

    #[test]
    fn what_is_shown_last_is_final_also_for_tasks_that_outlive_their_cell() {
        let page = Arc::new(Page::default());
        let tracker = Tracker::new(Arc::new(Serial::new(page.clone()))).unwrap();
        tracker.begin(1);
        tracker.on_events(&submitted(1));
        wait_for(&page, |shown| {
            shown
                .iter()
                .any(|(cell, text)| *cell == 1 && text.contains("0 of 1"))
        });
        tracker.end();
        tracker.on_events(&[done(1)]);
        wait_for(&page, |shown| {
            shown
                .last()
                .is_some_and(|(cell, text)| *cell == 1 && text.starts_with("done: 1 of 1"))
        });
        tracker.begin(2);
        tracker.on_events(&submitted(2));
        wait_for(&page, |shown| {
            shown
                .iter()
                .any(|(cell, text)| *cell == 2 && text.contains("0 of 1"))
        });
        tracker.end();
        tracker.begin(3);
        wait_for(&page, |shown| {
            shown
                .iter()
                .any(|(cell, text)| *cell == 2 && text.contains("go on behind the next cell"))
        });
    }

    #[test]
    fn compiling_for_the_workers_is_said() {
        let page = Arc::new(Page::default());
        let tracker = Tracker::new(Arc::new(Serial::new(page.clone()))).unwrap();
        tracker.begin(1);
        tracker.compiling_for_workers("libcell-1.so", false);
        tracker.on_events(&submitted(1));
        wait_for(&page, |shown| {
            shown
                .iter()
                .any(|(_, text)| text.contains("compiling `inc` for the workers, 0."))
        });
        tracker.compiling_for_workers("libcell-1.so", true);
        tracker.on_events(&[done(1)]);
        tracker.end();
        assert!(
            page.shown
                .lock()
                .unwrap()
                .last()
                .is_some_and(|(_, text)| text.starts_with("done: 1 of 1") && !text.contains("compiling"))
        );
    }
}
