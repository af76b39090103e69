//! A notebook in use: its parts, how they are started, and what other threads may do with it meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use skep_cell::{Cancel, CellError, Compiler, Notebook, TaskLibrary};
use skep_cluster::host::Host;
use skep_dashboard::Dashboard;
use skep_eval::wire::ToEval;
use skep_render::{Bundle, Message};

use crate::{
    assist::{client::Assist, members::Index},
    controls::Controls,
    deps::Dependencies,
    errors::session_error,
    evaluator::{Evaluator, Hooks},
    frontend::Frontend,
    history::History,
    home::{Home, Private},
    output::{notes, progress::Tracker, serial::Serial},
    scope,
    view::{Scope, View},
};

/// After an interrupt a cell has this long to reach a safe point; then it is given up and its thread goes on
/// alone.
pub(crate) const GRACE: Duration = Duration::from_millis(900);

/// A second interrupt before this belongs to the first: the cell is about to stop, or to be given up.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(2);

/// So many values of earlier cells `Out[n]` knows.
pub(crate) const MOST_OUTPUTS: usize = 20;

/// A cell that has run to its end.
#[derive(Clone, Debug)]
pub(crate) struct Executed {
    pub number: u32,
    pub cell_id: Option<String>,
    pub text: String,
}

/// A notebook in use.
pub struct Session {
    pub(crate) home: Home,
    pub(crate) notebook: Notebook,
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) frontend: Arc<Serial>,
    pub(crate) progress: Arc<Tracker>,
    pub(crate) dependencies: Dependencies,
    /// rustc's `opt-level` for cells.
    pub(crate) level: u8,
    /// Whether a person's terminal is there, for an editor.
    pub(crate) has_terminal: bool,
    pub(crate) next_uncounted: u32,
    /// Cells that ran to their end since the session began, oldest first.
    pub(crate) executed: Vec<Executed>,
    /// Cells whose value was kept, oldest first.
    pub(crate) outputs: Vec<u32>,
    /// A cell that the front end is asked to put below this one.
    pub(crate) next_input: Option<String>,
    /// Whether there were workers when the last cell ended.
    pub(crate) had_workers: bool,
    /// Polars is not compiled yet, and it has not been said that it is.
    pub(crate) waits_for_frames: bool,
    /// Last: removed when everything that uses it is gone.
    pub(crate) private: Private,
}

pub(crate) struct Shared {
    pub(crate) evaluator: Mutex<Option<Arc<Evaluator>>>,
    pub(crate) cancel: Cancel,
    pub(crate) phase: Mutex<Phase>,
    pub(crate) n_interrupts: AtomicU32,
    pub(crate) interrupted_at: Mutex<Option<Instant>>,
    /// The person at the keyboard ended the evaluation process.
    pub(crate) was_killed: AtomicBool,
    pub(crate) next_cell: AtomicU32,
    pub(crate) scope: Mutex<Arc<Scope>>,
    pub(crate) assist: Assist,
    pub(crate) members: Index,
    pub(crate) history: History,
    pub(crate) host: Arc<Host>,
    pub(crate) page: Arc<Page>,
    pub(crate) controls: Arc<Controls>,
    /// The home, where it is one without frames.
    pub(crate) first: Option<Home>,
}

/// The page that shows the cluster, once somebody has asked for it.
pub(crate) struct Page {
    host: Weak<Host>,
    open: Mutex<Option<Dashboard>>,
}

impl Page {
    fn of(host: Weak<Host>) -> Page {
        Page {
            host,
            open: Mutex::default(),
        }
    }

    /// Its address; opens it the first time.
    pub fn url(&self) -> Result<String, Message> {
        let mut open = lock(&self.open);
        if let Some(dashboard) = &*open {
            return Ok(dashboard.url());
        }
        let gone = || Message::new("the scheduler does not answer").hint("`:restart` begins anew");
        let host = self.host.upgrade().ok_or_else(gone)?;
        let dashboard = Dashboard::start(&host)
            .map_err(|error| Message::new(format!("the page could not be opened: {error}")))?;
        Ok(open.insert(dashboard).url())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    /// A cell was taken up, and does not compile or run yet.
    Begun,
    Compiling,
    Running(u32),
}

/// What other threads may do with a session while a cell runs.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Starts the evaluation process; the first cell can be executed when this returns.
    ///
    /// # Errors
    /// When the cache folder cannot be written, or the process does not come up; the message has a hint.
    pub fn start(home: Home, frontend: Arc<dyn Frontend>) -> io::Result<Session> {
        let private = Private::new()?;
        let compiler = Arc::new(Compiler::new(
            home.toolchain().clone(),
            private.path().join("cells"),
        )?);
        let frontend = Arc::new(Serial::new(frontend));
        let progress = Arc::new(Tracker::new(frontend.clone())?);
        let subscriber = progress.clone();
        let command = worker_command(&home);
        let host = Arc::new(Host::start(
            private.path(),
            command,
            Arc::new(move |events: &[_]| subscriber.on_events(events)),
        )?);
        let page = Arc::new(Page::of(Arc::downgrade(&host)));
        let offered = (Arc::downgrade(&host), page.clone());
        host.offer_dashboards(Arc::new(move |of| {
            // `:dashboard` and `cluster.dashboard()` open the same one.
            let page = if of.ptr_eq(&offered.0) {
                offered.1.clone()
            } else {
                Arc::new(Page::of(of))
            };
            Arc::new(move || page.url())
        }));
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
            page,
            controls: Arc::default(),
            first: (!home.has_frames()).then(|| home.clone()),
        });
        let notebook = Notebook::new(scope::PRELUDE, scope::known_names());
        let dependencies = Dependencies::new(&home);
        let mut session = Session {
            waits_for_frames: !home.has_frames(),
            home,
            notebook,
            compiler,
            shared,
            frontend,
            progress,
            dependencies,
            level: 0,
            has_terminal: false,
            next_uncounted: 1_000_000,
            executed: Vec::new(),
            outputs: Vec::new(),
            next_input: None,
            had_workers: false,
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

    pub(crate) fn start_evaluator(&mut self) -> io::Result<Arc<Evaluator>> {
        let (compiler, host, progress) = (
            self.compiler.clone(),
            self.shared.host.clone(),
            self.progress.clone(),
        );
        let code_needed = Arc::new(move |library: String| {
            optimise(library, compiler.clone(), host.clone(), progress.clone())
        });
        let progress = self.progress.clone();
        let (shown, host) = (self.progress.clone(), self.shared.host.clone());
        let before_result = Arc::new(move || finish(&shown, &host));
        let (frontend, controls) = (self.frontend.clone(), self.shared.controls.clone());
        let hooks = Hooks {
            code_needed,
            on_control: Arc::new(move |report| controls.on_report(report, &frontend)),
            before_output: Arc::new(move || progress.catch_up()),
            before_result,
        };
        let evaluator = Evaluator::start(&self.home, self.private.path(), self.frontend.clone(), hooks)?;
        let evaluator = Arc::new(evaluator);
        *lock(&self.shared.evaluator) = Some(evaluator.clone());
        Ok(evaluator)
    }

    /// The number that the next cell will have.
    pub fn next_cell(&self) -> u32 {
        self.shared.next_cell.load(Ordering::SeqCst)
    }

    pub(crate) fn take_uncounted(&mut self) -> u32 {
        self.next_uncounted += 1;
        self.next_uncounted
    }

    pub(crate) fn publish_scope(&self) {
        let view = |(name, variable): (&String, &skep_cell::Variable)| View {
            name: name.clone(),
            type_name: variable.type_name.clone(),
            size: variable.size,
            cell: variable.cell,
            from: self.notebook.title(variable.cell),
            is_mutable: variable.is_mutable,
            path: variable.path.clone(),
            body: if variable.path.is_none() {
                self.notebook.body_of(variable).map(str::to_string)
            } else {
                None
            },
        };
        let is_named =
            |(name, _): &(&String, &skep_cell::Variable)| skep_cell::cell_of_output(name).is_none();
        let mut variables: Vec<View> = self
            .notebook
            .variables()
            .iter()
            .filter(is_named)
            .map(view)
            .collect();
        variables.sort_by(|a, b| a.cell.cmp(&b.cell).then_with(|| a.name.cmp(&b.name)));
        let scope = Scope {
            items: self.notebook.items_text(),
            names: self.notebook.item_names().map(str::to_string).collect(),
            variables,
        };
        *lock(&self.shared.scope) = Arc::new(scope);
    }

    /// The process may have ended between cells, by a thread of an earlier one.
    pub(crate) fn live_evaluator(&mut self) -> Result<Arc<Evaluator>, CellError> {
        let evaluator = lock(&self.shared.evaluator).clone();
        if let Some(evaluator) = evaluator {
            let Some(reason) = evaluator.died() else {
                return Ok(evaluator);
            };
            let error = self.on_death(&reason);
            self.note(&error.message);
        }
        if let Some(evaluator) = lock(&self.shared.evaluator).clone() {
            return Ok(evaluator);
        }
        self.start_evaluator()
            .map_err(|error| session_error("EvaluationProcess", &error))
    }

    /// A line beside the results of a cell.
    pub(crate) fn say(&self, cell: u32, text: &str) {
        self.frontend.output(cell, notes::line(text));
    }

    pub(crate) fn note(&self, text: &str) {
        self.frontend.output(self.next_cell() - 1, notes::note(text));
    }

    /// The evaluation process is gone: says what went with it and starts a new one.
    pub(crate) fn on_death(&mut self, reason: &str) -> CellError {
        *lock(&self.shared.evaluator) = None;
        self.forget_controls();
        let lost = self.notebook.forget_variables();
        let restarted = match self.start_evaluator() {
            Ok(_) => "a new one is running".to_string(),
            Err(error) => format!("a new one could not be started: {error}"),
        };
        let by_user = self.shared.was_killed.swap(false, Ordering::SeqCst);
        let reason = &self.notebook.in_cells(reason);
        let reason = if by_user {
            "you interrupted it again after it had not stopped"
        } else {
            reason
        };
        let message = format!(
            "the evaluation process ended: {reason}; {restarted}; functions, types and the cluster are still there"
        );
        session_error(
            "EvaluationProcess",
            match lost.as_slice() {
                [] => Message::new(format!("{message}; there were no variables to lose")),
                names => Message::new(format!(
                    "{message}; these variables are lost: {}",
                    names.join(", ")
                ))
                .hint("run the cells that define them again"),
            },
        )
    }
}

/// Builds a cell's library again as workers want it: at release speed. Its cell runs meanwhile, and its tasks
/// wait.
pub(crate) fn optimise(library: String, compiler: Arc<Compiler>, host: Arc<Host>, progress: Arc<Tracker>) {
    progress.compiling_for_workers(&library, false);
    thread::spawn(move || {
        // The plain build runs too, slower.
        let built = compiler
            .compile_for_workers(Path::new(&library))
            .unwrap_or_else(|_| PathBuf::from(&library));
        progress.compiling_for_workers(&library, true);
        if let Ok(code) = skep_cluster::code_id(&library) {
            host.code_ready(code, &built);
        }
    });
}

impl Session {
    /// What builds functions for workers; tasks that call them meanwhile wait.
    pub(crate) fn builder(&self) -> impl Fn(TaskLibrary) + use<> {
        let (compiler, host, progress) = (
            self.compiler.clone(),
            self.shared.host.clone(),
            self.progress.clone(),
        );
        move |tasks| {
            let (compiler, host, progress) = (compiler.clone(), host.clone(), progress.clone());
            let name = format!("tasks-{}", tasks.code);
            progress.compiling_for_workers(&name, false);
            thread::spawn(move || {
                let code = skep_cluster::CodeId(tasks.code);
                let began = Instant::now();
                let built = tasks.build(&compiler);
                progress.compiling_for_workers(&name, true);
                tracing::info!(target: "skep", took = ?began.elapsed(), is_built = built.is_ok(), "functions for workers");
                // Without a library tasks that wait for it fail, and say that it is not there; the next cell brings its
                // own.
                let built = built.unwrap_or_else(|_| PathBuf::from("the library of the cell's functions"));
                host.code_ready(code, &built);
            });
        }
    }
}

/// Workers are this program again.
pub(crate) fn worker_command(home: &Home) -> skep_cluster::host::WorkerCommand {
    // Not as it was given: another home may have taken that place meanwhile.
    let (root, executable, libraries) = (
        home.root().to_path_buf(),
        home.executable(),
        home.library_folder(),
    );
    Arc::new(move |spec, socket| {
        let mut command = Command::new(&executable);
        command
            .arg("worker")
            .arg(socket)
            .env("SKEP_HOME", &root)
            .env("LD_LIBRARY_PATH", &libraries);
        skep_cluster::host::set_worker_env(&mut command, spec, socket);
        command
    })
}

impl Handle {
    /// Interrupts the running cell; its variables stay. A cell that does not stop is given up after a moment.
    /// Only if that does not help within two seconds, another interrupt ends the evaluation process.
    pub fn interrupt(&self) {
        let shared = &self.0;
        let phase = lock(&shared.phase);
        match *phase {
            Phase::Idle => {}
            Phase::Begun | Phase::Compiling => {
                shared.n_interrupts.fetch_add(1, Ordering::SeqCst);
                shared.cancel.cancel();
            }
            Phase::Running(cell) => {
                let Some(evaluator) = lock(&shared.evaluator).clone() else {
                    return;
                };
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
                    if *lock(&shared.phase) == Phase::Running(cell)
                        && shared.n_interrupts.load(Ordering::SeqCst) > 0
                    {
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
        matches!(*lock(&self.0.phase), Phase::Idle | Phase::Begun)
    }

    pub(crate) fn scope(&self) -> Arc<Scope> {
        lock(&self.0.scope).clone()
    }

    /// Whether a name is one of the notebook's.
    pub(crate) fn knows(&self, name: &str) -> bool {
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

    pub(crate) fn page(&self) -> &Page {
        &self.0.page
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

/// What commands need.
impl Session {
    /// Forgets these variables, or all.
    pub(crate) fn clear_variables(&mut self, only: &[&str]) -> usize {
        let names = if only.is_empty() {
            self.notebook.forget_variables()
        } else {
            self.notebook.forget(only)
        };
        let n = names.len();
        if let Some(evaluator) = lock(&self.shared.evaluator).clone() {
            let _ = evaluator.send(&ToEval::Forget { names });
        }
        n
    }

    /// Begins anew, with a fresh evaluation process and without a cluster.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        *lock(&self.shared.evaluator) = None;
        self.forget_controls();
        self.shared.host.reset();
        self.notebook.reset();
        self.dependencies = Dependencies::new(&self.home);
        self.compiler.set_extra(skep_cell::Extra::default());
        self.level = 0;
        self.executed.clear();
        self.outputs.clear();
        self.start_evaluator().map(drop)
    }

    /// A cell begins: an interrupt from here on is one of it. Executing one does this too, but who tells others before that a cell
    /// was taken up says it here first.
    pub fn take_up(&mut self) {
        let mut phase = lock(&self.shared.phase);
        if *phase == Phase::Idle {
            self.shared.n_interrupts.store(0, Ordering::SeqCst);
            self.compiler.arm();
            *phase = Phase::Begun;
        }
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

/// Shows how the tasks have ended that are known to have.
pub(crate) fn finish(progress: &Tracker, host: &Host) {
    if progress.shows_open_tasks() {
        // The scheduler gives a value to whoever waits for it, and then tells that its task is done. Once it
        // answers, it has.
        let _ = host.info();
    }
    progress.finish();
}
