//! Executing cells, one after the other, and what can be done meanwhile.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use skep_cell::{Cancel, CellError, Compiled, Compiler, Notebook, Optimise, Variable};
use skep_cluster::host::Host;
use skep_eval::wire::{Location, Outcome, ToEval};

use skep_render::Bundle;

use crate::{
    Evaluator, Face, Home, Output, commands,
    evaluator::Report,
    home::Private,
    progress::{Serial, Tracker},
    scope,
};

/// After an interrupt a cell has this long to reach a safe point; then it is given up and its thread goes on alone.
const GRACE: Duration = Duration::from_millis(900);

/// How a cell ended, and under which number.
#[derive(Debug)]
pub struct Reply {
    pub cell: u32,
    pub result: Result<(), CellError>,
}

/// A notebook in use.
pub struct Session {
    home: Home,
    notebook: Notebook,
    compiler: Arc<Compiler>,
    shared: Arc<Shared>,
    face: Arc<Serial>,
    progress: Arc<Tracker>,
    host: Arc<Host>,
    next_cell: u32,
    next_uncounted: u32,
    /// Last: removed when everything that uses it is gone.
    private: Private,
}

struct Shared {
    evaluator: Mutex<Option<Arc<Evaluator>>>,
    cancel: Cancel,
    phase: Mutex<Phase>,
    n_interrupts: AtomicU32,
    names: Mutex<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Compiling,
    Running(u32),
}

/// What other threads may do with a session while a cell runs.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Starts the evaluation process; the first cell can be executed when this returns.
    ///
    /// # Errors
    /// When the cache folder cannot be written, or the process does not come up; the message has a hint.
    pub fn start(home: Home, face: Arc<dyn Face>) -> io::Result<Session> {
        let private = Private::new()?;
        let compiler = Arc::new(Compiler::new(home.toolchain().clone(), private.path().join("cells"))?);
        let shared = Arc::new(Shared {
            evaluator: Mutex::new(None),
            cancel: compiler.canceller(),
            phase: Mutex::new(Phase::Idle),
            n_interrupts: AtomicU32::new(0),
            names: Mutex::new(Vec::new()),
        });
        let face = Arc::new(Serial { face, lock: Mutex::new(()) });
        let progress = Arc::new(Tracker::new(face.clone())?);
        let subscriber = progress.clone();
        let command = worker_command(&home);
        let host = Arc::new(Host::start(private.path(), command, Box::new(move |events| subscriber.on_events(events)))?);
        let notebook = Notebook::new(scope::PRELUDE, scope::known_names());
        let mut session = Session { home, notebook, compiler, shared, face, progress, host, next_cell: 1, next_uncounted: 1_000_000, private };
        session.start_evaluator()?;
        Ok(session)
    }

    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    fn start_evaluator(&mut self) -> io::Result<Arc<Evaluator>> {
        let (compiler, host) = (self.compiler.clone(), self.host.clone());
        let code_needed = Arc::new(move |library: String| optimise(library, compiler.clone(), host.clone()));
        let evaluator = Evaluator::start(&self.home, self.private.path(), self.face.clone(), code_needed)?;
        let evaluator = Arc::new(evaluator);
        *lock(&self.shared.evaluator) = Some(evaluator.clone());
        Ok(evaluator)
    }

    /// The number that the next cell will have.
    pub fn next_cell(&self) -> u32 {
        self.next_cell
    }

    /// Executes one cell to its end.
    pub fn execute(&mut self, code: &str) -> Reply {
        self.next_cell += 1;
        self.execute_as(self.next_cell - 1, code)
    }

    /// Executes code that is no cell of the notebook: it does not count.
    pub fn execute_uncounted(&mut self, code: &str) -> Reply {
        self.next_uncounted += 1;
        self.execute_as(self.next_uncounted, code)
    }

    fn execute_as(&mut self, cell: u32, code: &str) -> Reply {
        self.shared.n_interrupts.store(0, Ordering::SeqCst);
        self.compiler.arm();
        let result = self.execute_numbered(cell, code);
        *lock(&self.shared.phase) = Phase::Idle;
        *lock(&self.shared.names) = self.notebook.variables().keys().cloned().chain(self.notebook.item_names().map(str::to_string)).collect();
        Reply { cell, result }
    }

    fn execute_numbered(&mut self, cell: u32, code: &str) -> Result<(), CellError> {
        if let Some(line) = commands::command_of(code) {
            let bundle = commands::run(self, line).map_err(|message| session_error("Command", &message))?;
            self.face.output(cell, Output::Result(bundle));
            return Ok(());
        }
        let evaluator = self.live_evaluator()?;
        if code.trim().is_empty() {
            return Ok(());
        }
        *lock(&self.shared.phase) = Phase::Compiling;
        let compiled = self.notebook.compile(&self.compiler, cell, code)?;
        if self.shared.n_interrupts.load(Ordering::SeqCst) > 0 {
            return Err(interrupted("nothing was run; variables are as before"));
        }
        *lock(&self.shared.phase) = Phase::Running(cell);
        self.progress.begin(cell);
        let report = evaluator.run(cell, &compiled.library, &compiled.entry);
        self.progress.end();
        match report {
            Report::Died(reason) => Err(self.on_death(&reason)),
            Report::Ended { outcome, variables, .. } => {
                let held: Vec<_> = variables.into_iter().map(|v| (v.name, v.type_name, v.size)).collect();
                self.commit(&evaluator, compiled, &outcome, &held);
                self.result_of(outcome)
            }
        }
    }

    /// The process may have ended between cells, by a thread of an earlier one.
    fn live_evaluator(&mut self) -> Result<Arc<Evaluator>, CellError> {
        let evaluator = lock(&self.shared.evaluator).clone();
        if let Some(evaluator) = evaluator {
            let Some(reason) = evaluator.died() else { return Ok(evaluator) };
            let error = self.on_death(&reason);
            self.note(&error.message);
        }
        if let Some(evaluator) = lock(&self.shared.evaluator).clone() {
            return Ok(evaluator);
        }
        self.start_evaluator().map_err(|error| session_error("EvaluationProcess", &error.to_string()))
    }

    fn commit(&mut self, evaluator: &Evaluator, compiled: Compiled, outcome: &Outcome, held: &[(String, String, u64)]) {
        let commit = self.notebook.commit(compiled.prepared, *outcome == Outcome::Done, held);
        for notice in commit.notices {
            self.note(&notice);
        }
        if !commit.forget.is_empty() {
            let _ = evaluator.send(&ToEval::Forget { names: commit.forget });
        }
    }

    fn note(&self, text: &str) {
        self.face.output(self.next_cell - 1, Output::Text { is_stderr: true, text: format!("note: {text}\n") });
    }

    fn result_of(&self, outcome: Outcome) -> Result<(), CellError> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed { message, at } => Err(self.failed("Error", &message, at)),
            Outcome::Panicked { message, at } => Err(self.failed("Panic", &message, at)),
            Outcome::Interrupted => Err(interrupted(
                "variables are as they were; code that could not be stopped goes on in the background until it is done, and gives back what it used",
            )),
            Outcome::Refused { message } => Err(session_error("Refused", &message)),
        }
    }

    /// An error at run time, with the user's line.
    fn failed(&self, name: &str, message: &str, at: Option<Location>) -> CellError {
        let message = skep_cell::in_cells(message);
        let place = at.as_ref().and_then(|at| self.notebook.place(&at.file, at.line, at.column));
        let what = if name == "Panic" { "panicked" } else { "failed" };
        let (message, hint) = message.split_once("\nhint: ").map_or((message.as_str(), None), |(message, hint)| (message, Some(hint)));
        let mut plain = match (&place, &at) {
            (Some(place), _) => {
                let line = self.notebook.line(place).unwrap_or_default();
                let caret = " ".repeat(place.column - 1);
                format!("error: {message}\n --> {what} at {place}\n  |\n{:>2}| {line}\n  | {caret}^", place.line)
            }
            (None, Some(at)) => format!("error: {message}\n --> {what} in {}:{}", at.file, at.line),
            (None, None) => format!("error: {message}"),
        };
        if let Some(hint) = hint {
            plain.push_str(&format!("\nhint: {hint}"));
        }
        CellError { name: name.to_string(), message: message.to_string(), styled: red(&plain), plain, place }
    }

    /// The evaluation process is gone: says what went with it and starts a new one.
    fn on_death(&mut self, reason: &str) -> CellError {
        *lock(&self.shared.evaluator) = None;
        let lost = self.notebook.forget_variables();
        let lost = match lost.as_slice() {
            [] => "no variables were lost".to_string(),
            names => format!("lost: {}", names.join(", ")),
        };
        let restarted = match self.start_evaluator() {
            Ok(_) => "a new one is running".to_string(),
            Err(error) => format!("a new one could not be started: {error}"),
        };
        session_error(
            "EvaluationProcess",
            &format!(
                "the evaluation process ended: {reason}; {restarted}; {lost}; functions, types and the cluster are still there\nhint: run the cells that define the lost variables again"
            ),
        )
    }
}

/// Builds a cell's library again as workers want it: at release speed. Its cell runs meanwhile, and its tasks wait.
fn optimise(library: String, compiler: Arc<Compiler>, host: Arc<Host>) {
    thread::spawn(move || {
        let path = PathBuf::from(&library);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_prefix("lib")).unwrap_or_default().to_string();
        let cell = stem.strip_prefix("cell-").and_then(|n| n.parse().ok()).unwrap_or(0);
        let built = match compiler.compile(&format!("{stem}.rs"), cell, Optimise::Release) {
            Ok(built) => built,
            // The plain build runs too, slower.
            Err(_) => path,
        };
        if let Ok(code) = skep_cluster::code_id(&library) {
            host.code_ready(code, &built);
        }
    });
}

/// Workers are this program again; Polars inside them uses the worker's threads, no more.
fn worker_command(home: &Home) -> skep_cluster::host::WorkerCommand {
    let (executable, libraries) = (home.executable(), home.library_folder());
    Box::new(move |spec, socket| {
        let mut command = Command::new(&executable);
        command.arg("worker").arg(socket).env("LD_LIBRARY_PATH", &libraries);
        command.env("SKEP_WORKER_THREADS", spec.threads.to_string()).env("SKEP_WORKER_MEMORY", spec.memory_limit.to_string());
        command.env("POLARS_MAX_THREADS", spec.threads.to_string());
        command
    })
}

impl Handle {
    /// Interrupts the running cell. The first time its variables stay; the second kills the evaluation process.
    pub fn interrupt(&self) {
        let shared = &self.0;
        let phase = *lock(&shared.phase);
        match phase {
            Phase::Idle => {}
            Phase::Compiling => {
                shared.n_interrupts.fetch_add(1, Ordering::SeqCst);
                shared.cancel.cancel();
            }
            Phase::Running(cell) => {
                let Some(evaluator) = lock(&shared.evaluator).clone() else { return };
                if shared.n_interrupts.fetch_add(1, Ordering::SeqCst) > 0 {
                    return evaluator.kill();
                }
                let _ = evaluator.send(&ToEval::Interrupt { cell });
                let shared = shared.clone();
                thread::spawn(move || {
                    thread::sleep(GRACE);
                    if *lock(&shared.phase) == Phase::Running(cell) && shared.n_interrupts.load(Ordering::SeqCst) == 1 {
                        let _ = evaluator.send(&ToEval::Abandon { cell });
                    }
                });
            }
        }
    }

    /// The names of variables and items in scope.
    pub fn names(&self) -> Vec<String> {
        lock(&self.0.names).clone()
    }
}

fn interrupted(detail: &str) -> CellError {
    let plain = format!("interrupted: {detail}");
    CellError { name: "Interrupted".to_string(), message: "interrupted".to_string(), styled: red(&plain), plain, place: None }
}

fn session_error(name: &str, message: &str) -> CellError {
    let plain = format!("error: {message}");
    let message = message.split("\nhint: ").next().unwrap_or(message).to_string();
    CellError { name: name.to_string(), message, styled: red(&plain), plain, place: None }
}

/// The first line in red, as rustc does.
fn red(text: &str) -> String {
    let (first, rest) = text.split_once('\n').map_or((text, String::new()), |(first, rest)| (first, format!("\n{rest}")));
    format!("\u{1b}[1;31m{first}\u{1b}[0m{rest}")
}

/// What commands need.
impl Session {
    pub(crate) fn variables(&self) -> &BTreeMap<String, Variable> {
        self.notebook.variables()
    }

    pub(crate) fn clear_variables(&mut self) -> usize {
        let names = self.notebook.forget_variables();
        let n = names.len();
        if let Some(evaluator) = lock(&self.shared.evaluator).clone() {
            let _ = evaluator.send(&ToEval::Forget { names });
        }
        n
    }

    pub(crate) fn cluster_card(&self) -> Result<Bundle, String> {
        let info = self.host.info().ok_or("the scheduler does not answer")?;
        if info.workers.is_empty() {
            return Err("there is no cluster yet\nhint: run `let cluster = Cluster::local().start()?;`".into());
        }
        Ok(skep_cluster::card(&info).bundle())
    }

    /// Where this session's sockets and compiled cells are.
    pub fn folder(&self) -> &Path {
        self.private.path()
    }
}
