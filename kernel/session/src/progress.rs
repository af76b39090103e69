//! Progress that appears by itself: for any cell that keeps the cluster busy for over a quarter of a second.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use skep_cluster::{Event, Progress};
use skep_render::{
    Bundle, duration,
    progress::{Row, bundle},
};

use crate::{Face, Output, flow::Flow};

/// Work shorter than this shows nothing; with the time to the next look it is on the page within a quarter of a second.
const PATIENCE: Duration = Duration::from_millis(140);
/// At most ten updates a second.
const EVERY: Duration = Duration::from_millis(100);

/// One call of the face at a time, whoever speaks.
pub struct Serial {
    pub face: Arc<dyn Face>,
    pub lock: Mutex<()>,
    /// Where the text of the running cell's result goes, for the history.
    pub last_result: Mutex<Option<Arc<Mutex<Option<String>>>>>,
}

impl Face for Serial {
    fn output(&self, cell: u32, output: Output) {
        if let Output::Result(bundle) = &output
            && let Some(last) = &*self.last_result.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(bundle.plain().to_string());
        }
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.face.output(cell, output);
    }

    fn ask(&self, cell: u32, prompt: &str, password: bool) -> Option<String> {
        self.face.ask(cell, prompt, password)
    }
}

/// A compilation shorter than this is not worth a line.
const COMPILE_PATIENCE: Duration = Duration::from_secs(1);

/// Says that a cell is being compiled, and for how long, until it is dropped.
pub struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// `what` is in front of the time: `compiling`.
    pub fn start(face: Arc<Serial>, cell: u32, what: &'static str) -> Ticker {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let started = Instant::now();
            let id = format!("skep-progress-compile-{}-{cell}", std::process::id());
            let mut wait = COMPILE_PATIENCE;
            let mut is_shown = false;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                let bundle = Bundle::text(format!("{what}, {} so far; an interrupt stops it", duration(Duration::from_secs(started.elapsed().as_secs()))));
                let output = if is_shown { Output::UpdateDisplay { id: id.clone(), bundle } } else { Output::Display { id: Some(id.clone()), bundle } };
                face.output(cell, output);
                (is_shown, wait) = (true, Duration::from_secs(1));
            }
            if is_shown {
                let bundle = Bundle::text(format!("{what} took {}", duration(started.elapsed())));
                face.output(cell, Output::UpdateDisplay { id, bundle });
            }
        });
        Ticker { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Follows the cluster's events, and shows them while a cell runs.
pub struct Tracker {
    state: Arc<Mutex<State>>,
}

struct State {
    face: Arc<Serial>,
    progress: Progress,
    cell: Option<Running>,
    /// What tasks print, on its way to the cells that launched them.
    prints: Flow,
}

struct Running {
    cell: u32,
    /// When tasks were first under way.
    busy_since: Option<Instant>,
    id: Option<String>,
    has_changed: bool,
}

impl Tracker {
    pub fn new(face: Arc<Serial>) -> io::Result<Tracker> {
        let state = Arc::new(Mutex::new(State { prints: Flow::new(face.clone()), face, progress: Progress::default(), cell: None }));
        let weak = Arc::downgrade(&state);
        thread::Builder::new().name("progress".into()).spawn(move || {
            while let Some(state) = weak.upgrade() {
                lock(&state).tick();
                drop(state);
                thread::sleep(EVERY);
            }
        })?;
        Ok(Tracker { state })
    }

    pub fn on_events(&self, events: &[Event]) {
        let mut state = lock(&self.state);
        for event in events {
            state.progress.apply(event);
            if let Event::Printed { key, is_stderr, text, .. } = event {
                let cell = key.and_then(|key| state.progress.origin_of(key)).unwrap_or(state.progress.origin);
                state.prints.add(cell, *is_stderr, text);
            }
        }
        let n_open = state.progress.n_open();
        if let Some(running) = &mut state.cell {
            running.has_changed = true;
            if n_open > 0 && running.busy_since.is_none() {
                running.busy_since = Some(Instant::now());
            }
        }
    }

    pub fn begin(&self, cell: u32) {
        let mut state = lock(&self.state);
        state.progress.begin();
        state.progress.origin = cell;
        let busy_since = (state.progress.n_open() > 0).then(Instant::now);
        state.cell = Some(Running { cell, busy_since, id: None, has_changed: true });
    }

    /// Shows that `cell` is being compiled, while that takes long.
    pub fn compiling(&self, cell: u32) -> Ticker {
        Ticker::start(lock(&self.state).face.clone(), cell, "compiling")
    }

    /// An interrupted cell cancels its tasks: their end belongs to what is shown last, and is a moment behind.
    pub fn settle(&self) {
        let until = Instant::now() + Duration::from_millis(500);
        while lock(&self.state).progress.n_open() > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The cell has ended: what is shown becomes final.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.prints.flush();
        state.show(true);
        state.cell = None;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn tick(&mut self) {
        self.prints.flush();
        let is_due = self.cell.as_ref().is_some_and(|running| running.busy_since.is_some_and(|since| since.elapsed() >= PATIENCE));
        let is_open = self.progress.n_open() > 0;
        let is_shown = self.cell.as_ref().is_some_and(|running| running.id.is_some());
        if is_due && (is_open || is_shown) {
            self.show(false);
        }
    }

    fn show(&mut self, is_final: bool) {
        let Some(running) = &mut self.cell else { return };
        let Some(since) = running.busy_since else { return };
        if (is_final && running.id.is_none()) || !running.has_changed {
            return;
        }
        let told = self.progress.parts_done();
        let rows: Vec<Row> = self.progress.rows().map(|shown| Row { told: told.get(&shown.name).copied().unwrap_or(0.0), ..row(shown) }).collect();
        if self.progress.n_open() == 0 {
            running.has_changed = false;
        }
        let bundle = bundle(&rows, since.elapsed(), &self.progress.notes());
        let output = match &running.id {
            Some(id) => Output::UpdateDisplay { id: id.clone(), bundle },
            None => {
                let id = format!("skep-progress-{}-{}", std::process::id(), running.cell);
                running.id = Some(id.clone());
                Output::Display { id: Some(id), bundle }
            }
        };
        self.face.output(running.cell, output);
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
