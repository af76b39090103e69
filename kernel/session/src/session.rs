//! Executing cells, one after the other, and what can be done meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use skep_cell::{Cancel, CellError, Compiled, Compiler, Notebook, Purpose, Request};
use skep_cluster::host::Host;
use skep_eval::wire::{Location, Outcome, ToEval};
use skep_render::Bundle;

use crate::{
    Evaluator, Face, Home, Output,
    assist::Assist,
    commands::{self, Call, Step},
    dep::Dependencies,
    evaluator::{Hooks, Report},
    history::History,
    home::Private,
    members::Index,
    notes,
    progress::{Serial, Tracker},
    scope, script,
};

/// After an interrupt a cell has this long to reach a safe point; then it is given up and its thread goes on alone.
const GRACE: Duration = Duration::from_millis(900);
/// A second interrupt before this belongs to the first: the cell is about to stop, or to be given up.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// So many values of earlier cells `Out[n]` knows.
const MOST_OUTPUTS: usize = 20;

/// A cell to execute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Execute<'c> {
    pub code: &'c str,
    /// The front end's own name for the cell, which stays when the cell runs again.
    pub cell_id: Option<&'c str>,
    /// Whether it is a cell of the notebook: it has a number of its own, and history.
    pub counts: bool,
}

/// How a cell ended, and under which number.
#[derive(Debug)]
pub struct Reply {
    pub cell: u32,
    pub result: Result<(), CellError>,
    /// Text for the pager: what `?name` found.
    pub page: Option<Bundle>,
}

/// A notebook in use.
pub struct Session {
    pub(crate) home: Home,
    notebook: Notebook,
    pub(crate) compiler: Arc<Compiler>,
    shared: Arc<Shared>,
    pub(crate) face: Arc<Serial>,
    progress: Arc<Tracker>,
    pub(crate) dependencies: Dependencies,
    /// rustc's `opt-level` for cells.
    pub(crate) level: u8,
    /// Whether a person's terminal is there, for an editor.
    pub(crate) has_terminal: bool,
    next_uncounted: u32,
    /// Cells whose value was kept, oldest first.
    outputs: Vec<u32>,
    /// Last: removed when everything that uses it is gone.
    private: Private,
}

struct Shared {
    evaluator: Mutex<Option<Arc<Evaluator>>>,
    cancel: Cancel,
    phase: Mutex<Phase>,
    n_interrupts: AtomicU32,
    interrupted_at: Mutex<Option<Instant>>,
    /// The person at the keyboard ended the evaluation process.
    was_killed: AtomicBool,
    next_cell: AtomicU32,
    scope: Mutex<Arc<Scope>>,
    assist: Assist,
    members: Index,
    history: History,
    host: Arc<Host>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Compiling,
    Running(u32),
}

/// What is in scope after the last cell.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// The text of each item.
    pub items: Vec<String>,
    pub names: Vec<String>,
    pub variables: Vec<View>,
}

/// A variable as others see it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub name: String,
    pub type_name: String,
    pub size: u64,
    pub cell: u32,
    /// How people call that cell.
    pub from: String,
    pub is_mutable: bool,
    pub path: Option<String>,
    /// For a type that has no name: the statements that made the variable.
    pub body: Option<String>,
}

/// How long a cell took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub compile: Duration,
    /// `None` if it did not get to run.
    pub run: Option<Duration>,
}

/// Rust to run as (part of) a cell.
#[derive(Clone, Copy)]
pub(crate) struct RustCell<'c> {
    pub cell: u32,
    pub cell_id: Option<&'c str>,
    pub title: Option<&'c str>,
    pub source: &'c str,
    /// Whether the value of its last expression is kept, for `_` and `Out[n]`.
    pub keeps_value: bool,
}

impl<'c> Call<'c> {
    pub fn rust(&self, source: &'c str) -> RustCell<'c> {
        RustCell { cell: self.cell, cell_id: self.cell_id, title: self.title, source, keeps_value: false }
    }
}

/// What other threads may do with a session while a cell runs.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        let face = Arc::new(Serial::new(face));
        let progress = Arc::new(Tracker::new(face.clone())?);
        let subscriber = progress.clone();
        let command = worker_command(&home);
        let host = Arc::new(Host::start(private.path(), command, Box::new(move |events| subscriber.on_events(events)))?);
        let shared = Arc::new(Shared {
            evaluator: Mutex::new(None),
            cancel: compiler.canceller(),
            phase: Mutex::new(Phase::Idle),
            n_interrupts: AtomicU32::new(0),
            interrupted_at: Mutex::default(),
            was_killed: AtomicBool::new(false),
            next_cell: AtomicU32::new(1),
            scope: Mutex::default(),
            assist: Assist::new(&home),
            members: Index::new(home.root()),
            history: History::open(),
            host,
        });
        let notebook = Notebook::new(scope::PRELUDE, scope::known_names());
        let dependencies = Dependencies::new(&home);
        let mut session = Session {
            home,
            notebook,
            compiler,
            shared,
            face,
            progress,
            dependencies,
            level: 0,
            has_terminal: false,
            next_uncounted: 1_000_000,
            outputs: Vec::new(),
            private,
        };
        session.start_evaluator()?;
        Ok(session)
    }

    /// A person sits at a terminal that this process owns.
    #[must_use]
    pub fn with_terminal(mut self) -> Session {
        self.has_terminal = true;
        self
    }

    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    fn start_evaluator(&mut self) -> io::Result<Arc<Evaluator>> {
        let (compiler, host, progress) = (self.compiler.clone(), self.shared.host.clone(), self.progress.clone());
        let code_needed = Arc::new(move |library: String| optimise(library, compiler.clone(), host.clone(), progress.clone()));
        let progress = self.progress.clone();
        let (shown, host) = (self.progress.clone(), self.shared.host.clone());
        let before_result = Arc::new(move || finish(&shown, &host));
        let hooks = Hooks { code_needed, before_output: Arc::new(move || progress.catch_up()), before_result };
        let evaluator = Evaluator::start(&self.home, self.private.path(), self.face.clone(), hooks)?;
        let evaluator = Arc::new(evaluator);
        *lock(&self.shared.evaluator) = Some(evaluator.clone());
        Ok(evaluator)
    }

    /// The number that the next cell will have.
    pub fn next_cell(&self) -> u32 {
        self.shared.next_cell.load(Ordering::SeqCst)
    }

    /// Executes a cell of the notebook to its end.
    pub fn execute(&mut self, code: &str) -> Reply {
        let cell = self.handle().take_number();
        self.execute_as(cell, Execute { code, cell_id: None, counts: true })
    }

    /// Executes code under a number that [`Handle::take_number`] gave; 0 for code that is no cell of the notebook.
    pub fn execute_as(&mut self, cell: u32, execute: Execute<'_>) -> Reply {
        self.shared.n_interrupts.store(0, Ordering::SeqCst);
        self.compiler.arm();
        let cell = if cell == 0 { self.take_uncounted() } else { cell };
        let mut page = None;
        let shown = Arc::new(Mutex::new(None));
        *lock(&self.face.last_result) = Some(shown.clone());
        let result = self.execute_titled(cell, None, execute, &mut page);
        *lock(&self.shared.phase) = Phase::Idle;
        *lock(&self.face.last_result) = None;
        self.publish_scope();
        if execute.counts && !execute.code.trim().is_empty() {
            let output = lock(&shown).take();
            if let Err(error) = self.shared.history.add(cell, execute.code, output.as_deref(), result.is_ok()) {
                self.note(&error.to_string());
            }
        }
        Reply { cell, result, page }
    }

    fn take_uncounted(&mut self) -> u32 {
        self.next_uncounted += 1;
        self.next_uncounted
    }

    /// One cell of a script that a command runs.
    pub(crate) fn execute_script_cell(&mut self, cell: &script::Cell) -> Result<(), CellError> {
        let number = self.take_uncounted();
        let execute = Execute { code: &cell.text, cell_id: None, counts: false };
        self.execute_titled(number, cell.title.as_deref(), execute, &mut None)
    }

    /// A cell of a script, under the script's name.
    pub fn execute_script(&mut self, cell: &script::Cell) -> Reply {
        let number = self.handle().take_number();
        self.compiler.arm();
        self.shared.n_interrupts.store(0, Ordering::SeqCst);
        let result = self.execute_titled(number, cell.title.as_deref(), Execute { code: &cell.text, cell_id: None, counts: true }, &mut None);
        *lock(&self.shared.phase) = Phase::Idle;
        self.publish_scope();
        Reply { cell: number, result, page: None }
    }

    fn execute_titled(&mut self, cell: u32, title: Option<&str>, execute: Execute<'_>, page: &mut Option<Bundle>) -> Result<(), CellError> {
        for step in commands::steps(execute.code, &|name| self.handle().knows(name)).map_err(|message| commands::failed(&message))? {
            match &step {
                Step::Describe(_) => {
                    let ask = || step.answer_now(&self.handle()).expect("invariant: a question needs no turn");
                    let mut found = ask();
                    if found.is_err() && self.shared.assist.is_coming().is_some() {
                        self.wait_for_assist(cell);
                        found = ask();
                    }
                    *page = Some(found.map_err(|message| commands::failed(&message))?);
                }
                Step::Shell(line) => commands::shell::run(self, cell, line)?,
                Step::Instead(text) => self.face.output(cell, notes::note(text)),
                Step::Command { command, args, text } => {
                    let call = Call { cell, cell_id: execute.cell_id, title, args, text };
                    if let Some(bundle) = commands::run(self, command, &call)? {
                        self.face.output(cell, Output::Result(bundle));
                    }
                }
                Step::Rust(source) => {
                    let level = self.level;
                    let source = &self.with_outputs(source)?;
                    let keeps_value = self.has_terminal && execute.counts;
                    self.run_rust(RustCell { cell, cell_id: execute.cell_id, title, source, keeps_value }, Purpose::Run, level).0?;
                }
            }
        }
        Ok(())
    }

    /// At a terminal `_` and `Out[n]` stand for the values of earlier cells.
    fn with_outputs(&self, source: &str) -> Result<String, CellError> {
        if !self.has_terminal {
            return Ok(source.to_string());
        }
        let last = self.outputs.last().copied();
        skep_cell::with_outputs(source, last, &|cell| self.outputs.contains(&cell)).map_err(|cell| {
            let most = MOST_OUTPUTS;
            commands::failed(&format!(
                "cell {cell} has no value that was kept\nhint: `Out[n]` is there for the last {most} cells that end with a value of their own, not with a variable or a borrow"
            ))
        })
    }

    /// Remembers that a cell's value was kept, and lets go of old ones: they may be large.
    fn note_output(&mut self, cell: u32, evaluator: &Evaluator) {
        let name = skep_cell::output_name(cell);
        let Some(variable) = self.notebook.variables().get(&name) else { return };
        if variable.type_name != "()" {
            self.outputs.push(cell);
        }
        let n_old = self.outputs.len().saturating_sub(MOST_OUTPUTS);
        let mut old: Vec<String> = self.outputs.drain(..n_old).map(skep_cell::output_name).collect();
        if !self.outputs.contains(&cell) {
            old.push(name);
        }
        if !old.is_empty() {
            self.notebook.forget(&old.iter().map(String::as_str).collect::<Vec<_>>());
            let _ = evaluator.send(&ToEval::Forget { names: old });
        }
    }

    /// A question is worth the wait; an interrupt ends it.
    fn wait_for_assist(&self, cell: u32) {
        *lock(&self.shared.phase) = Phase::Compiling;
        let handle = self.handle();
        let so_far = move |_| handle.assist().is_coming().map_or_else(String::new, |reading| format!("the analyser is {reading}; an interrupt stops the wait"));
        let _ticker = crate::progress::Ticker::saying(self.face.clone(), cell, "reading the sources of std, Polars and Skep", so_far);
        while self.shared.assist.is_coming().is_some() && !self.compiler.is_cancelled() {
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Compiles and runs Rust as a cell, or as a part of one.
    pub(crate) fn run_rust(&mut self, rust: RustCell<'_>, purpose: Purpose, level: u8) -> (Result<(), CellError>, Timing) {
        let mut timing = Timing::default();
        let result = self.compile_and_run(rust, purpose, level, &mut timing);
        (result, timing)
    }

    fn compile_and_run(&mut self, rust: RustCell<'_>, purpose: Purpose, level: u8, timing: &mut Timing) -> Result<(), CellError> {
        let RustCell { cell, cell_id, title, source, keeps_value } = rust;
        // Each compiled part is a program of its own; people know all of them under the cell's number.
        let shown_as = format!("cell {cell}");
        let (cell, title) = if self.notebook.has(cell) { (self.take_uncounted(), title.or(Some(shown_as.as_str()))) } else { (cell, title) };
        let evaluator = self.live_evaluator()?;
        if let Some(held) = evaluator.returned() {
            self.notebook.take_back(held.iter().map(|variable| variable.name.as_str()));
        }
        *lock(&self.shared.phase) = Phase::Compiling;
        let started = Instant::now();
        let ticker = self.progress.compiling(cell);
        let compiled = self.notebook.compile(&self.compiler, Request { cell, cell_id, title, source, purpose, level, keeps_value });
        drop(ticker);
        lock(&self.face.titles).clone_from(self.notebook.titles());
        timing.compile = started.elapsed();
        let compiled = compiled?;
        {
            let mut phase = lock(&self.shared.phase);
            if self.shared.n_interrupts.load(Ordering::SeqCst) > 0 {
                return Err(interrupted("nothing was run; variables are as before"));
            }
            *phase = Phase::Running(cell);
        }
        self.progress.begin(cell);
        let started = Instant::now();
        let report = evaluator.run(cell, &compiled.library, &compiled.entry, compiled.epoch);
        timing.run = Some(started.elapsed());
        if matches!(&report, Report::Ended { outcome: Outcome::Interrupted, .. }) {
            self.progress.settle(Duration::from_millis(500));
        } else {
            finish(&self.progress, &self.shared.host);
        }
        self.progress.end();
        match report {
            Report::Died(reason) => Err(self.on_death(&reason)),
            Report::Ended { outcome, variables, lost, .. } => {
                self.notebook.lose(&lost);
                let held: Vec<_> = variables.into_iter().map(|v| (v.name, v.type_name, v.size)).collect();
                if purpose == Purpose::Run {
                    self.commit(&evaluator, compiled, &outcome, &held);
                }
                self.result_of(outcome)
            }
        }
    }

    fn publish_scope(&self) {
        let view = |(name, variable): (&String, &skep_cell::Variable)| View {
            name: name.clone(),
            type_name: variable.type_name.clone(),
            size: variable.size,
            cell: variable.cell,
            from: self.notebook.title(variable.cell),
            is_mutable: variable.is_mutable,
            path: variable.path.clone(),
            body: if variable.path.is_none() { self.notebook.body_of(variable).map(str::to_string) } else { None },
        };
        let is_named = |(name, _): &(&String, &skep_cell::Variable)| skep_cell::cell_of_output(name).is_none();
        let mut variables: Vec<View> = self.notebook.variables().iter().filter(is_named).map(view).collect();
        variables.sort_by(|a, b| a.cell.cmp(&b.cell).then_with(|| a.name.cmp(&b.name)));
        let scope = Scope { items: self.notebook.items_text(), names: self.notebook.item_names().map(str::to_string).collect(), variables };
        *lock(&self.shared.scope) = Arc::new(scope);
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
        let cell = compiled.prepared.cell;
        let commit = self.notebook.commit(compiled.prepared, *outcome == Outcome::Done, held);
        for notice in commit.notices {
            self.note(&notice);
        }
        if !commit.forget.is_empty() {
            let _ = evaluator.send(&ToEval::Forget { names: commit.forget });
        }
        let known = self.notebook.variables();
        self.outputs.retain(|cell| known.contains_key(&skep_cell::output_name(*cell)));
        self.note_output(cell, evaluator);
    }

    /// A line beside the results of a cell.
    pub(crate) fn say(&self, cell: u32, text: &str) {
        self.face.output(cell, notes::line(text));
    }

    fn note(&self, text: &str) {
        self.face.output(self.next_cell() - 1, notes::note(text));
    }

    fn result_of(&self, outcome: Outcome) -> Result<(), CellError> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed { message, at } => Err(self.failed("Error", &message, at)),
            Outcome::Panicked { message, at } => Err(self.failed("Panic", &message, at)),
            Outcome::Interrupted => Err(interrupted("variables keep what the cell did so far")),
            Outcome::Abandoned => Err(interrupted(
                "the code that runs could not be stopped; it goes on in the background until it is done, and gives back the variables that it uses",
            )),
            Outcome::Refused { message } => Err(session_error("Refused", &message)),
        }
    }

    /// An error at run time, with the user's line.
    fn failed(&self, name: &str, message: &str, at: Option<Location>) -> CellError {
        let message = self.notebook.in_cells(message);
        let place = at.as_ref().and_then(|at| self.notebook.place(&at.file, at.line, at.column));
        let what = if name == "Panic" { "panicked" } else { "failed" };
        let (message, hint) = message.split_once("\nhint: ").map_or((message.as_str(), None), |(message, hint)| (message, Some(hint)));
        let mut plain = match (&place, &at) {
            (Some(place), _) => {
                let line = self.notebook.line(place).unwrap_or_default();
                let caret = " ".repeat(place.column - 1);
                format!("error: {message}\n --> {what} at {place}\n  |\n{:>2}| {line}\n  | {caret}^", place.line)
            }
            (None, Some(at)) => match self.notebook.cell_of(&at.file) {
                Some(title) => format!("error: {message}\n --> {what} in {title}"),
                None => format!("error: {message}\n --> {what} in {}:{}", at.file, at.line),
            },
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
        let restarted = match self.start_evaluator() {
            Ok(_) => "a new one is running".to_string(),
            Err(error) => format!("a new one could not be started: {error}"),
        };
        let by_user = self.shared.was_killed.swap(false, Ordering::SeqCst);
        let reason = &self.notebook.in_cells(reason);
        let reason = if by_user { "you interrupted it again after it had not stopped" } else { reason };
        let message = format!("the evaluation process ended: {reason}; {restarted}; functions, types and the cluster are still there");
        session_error(
            "EvaluationProcess",
            &match lost.as_slice() {
                [] => format!("{message}; there were no variables to lose"),
                names => format!("{message}; these variables are lost: {}\nhint: run the cells that define them again", names.join(", ")),
            },
        )
    }
}

/// Shows how the tasks have ended that are known to have.
fn finish(progress: &Tracker, host: &Host) {
    if progress.shows_open_tasks() {
        // The scheduler gives a value to whoever waits for it, and then tells that its task is done. Once it answers, it has.
        let _ = host.info();
    }
    progress.finish();
}

/// Builds a cell's library again as workers want it: at release speed. Its cell runs meanwhile, and its tasks wait.
fn optimise(library: String, compiler: Arc<Compiler>, host: Arc<Host>, progress: Arc<Tracker>) {
    progress.compiling_for_workers(&library, false);
    thread::spawn(move || {
        // The plain build runs too, slower.
        let built = compiler.compile_for_workers(Path::new(&library)).unwrap_or_else(|_| PathBuf::from(&library));
        progress.compiling_for_workers(&library, true);
        if let Ok(code) = skep_cluster::code_id(&library) {
            host.code_ready(code, &built);
        }
    });
}

/// Workers are this program again.
fn worker_command(home: &Home) -> skep_cluster::host::WorkerCommand {
    let (executable, libraries) = (home.executable(), home.library_folder());
    Box::new(move |spec, socket| {
        let mut command = Command::new(&executable);
        command.arg("worker").arg(socket).env("LD_LIBRARY_PATH", &libraries);
        skep_cluster::host::set_worker_env(&mut command, spec, socket);
        command
    })
}

impl Handle {
    /// Interrupts the running cell; its variables stay. A cell that does not stop is given up after a moment. Only if that does not
    /// help within two seconds, another interrupt ends the evaluation process.
    pub fn interrupt(&self) {
        let shared = &self.0;
        let phase = lock(&shared.phase);
        match *phase {
            Phase::Idle => {}
            Phase::Compiling => {
                shared.n_interrupts.fetch_add(1, Ordering::SeqCst);
                shared.cancel.cancel();
            }
            Phase::Running(cell) => {
                let Some(evaluator) = lock(&shared.evaluator).clone() else { return };
                drop(phase);
                if shared.n_interrupts.fetch_add(1, Ordering::SeqCst) > 0 {
                    if lock(&shared.interrupted_at).is_some_and(|at| at.elapsed() > KILL_AFTER) {
                        shared.was_killed.store(true, Ordering::SeqCst);
                        evaluator.kill();
                    }
                    return;
                }
                *lock(&shared.interrupted_at) = Some(Instant::now());
                let _ = evaluator.send(&ToEval::Interrupt { cell });
                let shared = shared.clone();
                thread::spawn(move || {
                    thread::sleep(GRACE);
                    if *lock(&shared.phase) == Phase::Running(cell) && shared.n_interrupts.load(Ordering::SeqCst) > 0 {
                        let _ = evaluator.send(&ToEval::Abandon { cell });
                    }
                });
            }
        }
    }

    /// The number of the next cell, which is then taken.
    pub fn take_number(&self) -> u32 {
        self.0.next_cell.fetch_add(1, Ordering::SeqCst)
    }

    /// The number of the last cell that was given one.
    pub fn last_number(&self) -> u32 {
        self.0.next_cell.load(Ordering::SeqCst) - 1
    }

    pub fn is_idle(&self) -> bool {
        *lock(&self.0.phase) == Phase::Idle
    }

    /// Answers a cell that needs no turn, such as `:vars`; `None` for all others.
    pub fn answer_now(&self, code: &str) -> Option<Result<Bundle, CellError>> {
        let steps = commands::steps(code, &|name| self.knows(name)).ok()?;
        let [step] = steps.as_slice() else { return None };
        Some(step.answer_now(self)?.map_err(|message| commands::failed(&message)))
    }

    /// Whether a cell of just this code is a question with a page for an answer.
    pub fn is_question(code: &str) -> bool {
        code.trim_start().starts_with('?')
    }

    pub(crate) fn scope(&self) -> Arc<Scope> {
        lock(&self.0.scope).clone()
    }

    /// Whether a name is one of the notebook's.
    fn knows(&self, name: &str) -> bool {
        let scope = self.scope();
        scope.names.iter().any(|known| known == name) || scope.variables.iter().any(|view| view.name == name)
    }

    pub(crate) fn assist(&self) -> &Assist {
        &self.0.assist
    }

    pub(crate) fn members(&self) -> &Index {
        &self.0.members
    }

    pub fn history(&self) -> &History {
        &self.0.history
    }

    pub(crate) fn host(&self) -> &Host {
        &self.0.host
    }

    /// The task stream so far; `None` before the first task.
    pub(crate) fn stream(&self) -> Option<Bundle> {
        let bar = |(bar, name): (skep_cluster::Bar, String)| skep_render::stream::Bar {
            worker: bar.worker.to_string(),
            name,
            start_us: bar.start_us,
            duration_us: bar.duration_us,
        };
        let bars: Vec<_> = self.0.host.stream().into_iter().map(bar).collect();
        (!bars.is_empty()).then(|| skep_render::stream::bundle(&bars))
    }
}

pub(crate) fn interrupted(detail: &str) -> CellError {
    let plain = format!("interrupted: {detail}");
    CellError { name: "Interrupted".to_string(), message: "interrupted".to_string(), styled: red(&plain), plain, place: None }
}

pub(crate) fn session_error(name: &str, message: &str) -> CellError {
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
    /// Forgets these variables, or all.
    pub(crate) fn clear_variables(&mut self, only: &[&str]) -> usize {
        let names = if only.is_empty() { self.notebook.forget_variables() } else { self.notebook.forget(only) };
        let n = names.len();
        if let Some(evaluator) = lock(&self.shared.evaluator).clone() {
            let _ = evaluator.send(&ToEval::Forget { names });
        }
        n
    }

    /// Begins anew, with a fresh evaluation process and without a cluster.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        *lock(&self.shared.evaluator) = None;
        self.shared.host.reset();
        self.notebook.reset();
        self.dependencies = Dependencies::new(&self.home);
        self.compiler.set_extra(skep_cell::Extra::default());
        self.level = 0;
        self.outputs.clear();
        self.start_evaluator().map(drop)
    }

    /// An interrupt from here on is one of a compilation.
    pub(crate) fn begin_compiling(&self) {
        *lock(&self.shared.phase) = Phase::Compiling;
    }

    /// Where this session's sockets and compiled cells are.
    pub fn folder(&self) -> &Path {
        self.private.path()
    }
}
