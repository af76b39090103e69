//! A run of a flow in this process: its tasks as those see them who wait for them.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use skep_cluster::{Bytes, Call, Cluster, Error, Key, Managed, Result, Started, TaskError, TaskErrorKind};
use skep_render::Message;

use crate::{
    machine::TaskId,
    policy::Policy,
    show::{Picture, TaskView, View},
    state::State,
    store::{Kept, Record, Store, TaskRow, now_us},
};

/// An interrupt is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The picture of a run is drawn anew at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// Flows in flows in flows: no deeper.
const MOST_NESTED: usize = 32;

/// The runs of this process.
static HERE: Mutex<Vec<Weak<Live>>> = Mutex::new(Vec::new());

thread_local! {
    /// The runs whose functions this thread is in, the innermost last.
    static RUNNING: RefCell<Vec<Arc<Live>>> = const { RefCell::new(Vec::new()) };
}

/// What runs the tasks of runs, as those know it who call them.
pub(crate) trait Drive: Send + Sync {
    /// A task was called. `record` makes it known; `restored` is its state if its value is there from before.
    fn submit(&self, entry: Arc<Entry>, record: Option<Record>, restored: Option<State>);
    /// All tasks of a run end.
    fn cancel(&self, run: u32, reason: String);
    /// Nobody can ask for the value of a task any more.
    fn let_go(&self, id: TaskId);
}

/// A run in this process.
pub(crate) struct Live {
    /// Its number in this process.
    pub no: u32,
    pub id: Arc<str>,
    pub flow: Arc<str>,
    pub parent: Option<Arc<Live>>,
    pub store: Arc<Store>,
    driver: Arc<dyn Drive>,
    /// When it began, or went on, in microseconds since 1970.
    pub begun_us: u64,
    state: Mutex<LiveState>,
    changed: Condvar,
    /// What is known of its tasks from before.
    recorded: HashMap<(u128, u32), TaskRow>,
    picture: Option<Mutex<Picture>>,
}

#[derive(Default)]
struct LiveState {
    /// By number, from 1 on; what was recorded and has not been called again yet is not there.
    tasks: Vec<Arc<Entry>>,
    by_key: HashMap<Key, Arc<Entry>>,
    n_calls: HashMap<u128, u32>,
    n_flows: HashMap<u128, u32>,
    /// How often each approval was asked for, by its name.
    n_pauses: HashMap<String, u32>,
    next_no: u32,
    cluster: Option<Cluster>,
    /// The approval that it waits for.
    paused_at: Option<String>,
    is_closed: bool,
    /// Why it was stopped.
    cancelled: Option<String>,
    /// What is wrong with the store.
    trouble: Option<String>,
    n_changes: u64,
}

/// A task of a run.
pub(crate) struct Entry {
    pub id: TaskId,
    pub run: Arc<Live>,
    pub key: Key,
    pub name: Arc<str>,
    pub arguments: String,
    pub policy: Arc<Policy>,
    pub identity: u128,
    pub inputs: Vec<u32>,
    now: Mutex<Now>,
}

/// What a task is like now.
pub(crate) struct Now {
    pub state: State,
    pub reason: String,
    pub attempt: u32,
    /// Until the value is there, and nobody can ask for it again.
    pub call: Option<Call>,
    pub started: Option<Started>,
    pub kept: Option<Kept>,
    pub error: Option<Error>,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    /// When its worker began its call and ended it, in microseconds since 1970.
    pub ran: Option<(u64, u64)>,
    /// The cluster has told all that there is to tell of its call.
    pub is_told: bool,
    pub worker: Option<String>,
    /// Its value was restored from an earlier attempt at the run.
    pub is_restored: bool,
    /// Somebody has heard how it ended.
    pub is_observed: bool,
    /// Nobody can ask for its value any more.
    pub is_dropped: bool,
}

impl Entry {
    pub fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> TaskView {
        let now = self.now();
        TaskView {
            no: self.id.no,
            name: self.name.to_string(),
            arguments: self.arguments.clone(),
            inputs: self.inputs.clone(),
            state: now.state,
            reason: now.reason.clone(),
            attempt: now.attempt,
            started_us: now.ran.map(|(from, _)| from).or(now.started_us),
            ended_us: now.ran.map(|(_, to)| to).or(now.ended_us),
            worker: now.worker.clone(),
            is_restored: now.is_restored,
        }
    }

    /// What it failed with, or what it needs did.
    fn error(&self) -> Error {
        let (state, reason, error) = {
            let mut now = self.now();
            now.is_observed = true;
            (now.state, now.reason.clone(), now.error.clone())
        };
        if let Some(error) = error {
            return error;
        }
        let cause = self.inputs.iter().find_map(|no| {
            let input = self.run.task(*no)?;
            let state = input.now().state;
            (state.is_final() && !state.is_good()).then(|| input.error())
        });
        cause.unwrap_or_else(|| {
            Error::Task(Arc::new(TaskError {
                kind: match state {
                    State::Cancelled => TaskErrorKind::Cancelled,
                    State::Crashed => TaskErrorKind::KilledWorkers,
                    _ => TaskErrorKind::Failed,
                },
                message: reason,
                hint: None,
                function: self.name.to_string(),
                at: None,
                worker: None,
                tags: Vec::new(),
            }))
        })
    }

    /// The bytes of a value that is there.
    fn value(&self) -> Result<Bytes> {
        let (started, kept) = {
            let mut now = self.now();
            now.is_observed = true;
            (now.started.clone(), now.kept.clone())
        };
        if let Some(bytes) = kept.as_ref().and_then(|kept| kept.inline.clone()) {
            return Ok(Bytes::Heap(bytes));
        }
        if let Some(started) = started {
            return started.bytes();
        }
        let bytes = kept.and_then(|kept| self.run.store.value(&kept));
        bytes.map(Bytes::Heap).ok_or_else(|| {
            Error::File(
                Message::new(format!(
                    "the value of `{}` is not in the store any more",
                    self.name
                ))
                .hint("run the flow again"),
            )
        })
    }
}

/// What a [`skep_cluster::TaskRun`] asks. When the last of its clones goes, the value may too.
pub(crate) struct Handle(pub Arc<Entry>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.run.driver.let_go(self.0.id);
    }
}

impl Managed for Handle {
    fn key(&self) -> Result<Key> {
        Ok(self.0.key)
    }

    fn name(&self) -> String {
        self.0.name.to_string()
    }

    fn state(&self) -> (&'static str, String) {
        let now = self.0.now();
        (now.state.name(), now.reason.clone())
    }

    fn wait(&self) -> Result<()> {
        self.0.run.wait_for(&self.0)
    }

    fn bytes(&self) -> Result<Bytes> {
        self.wait()?;
        self.0.value()
    }
}

/// A call that was refused: whoever asks for its value hears why.
pub(crate) struct Refused {
    pub name: String,
    pub error: Error,
}

impl Managed for Refused {
    fn key(&self) -> Result<Key> {
        Err(self.error.clone())
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn state(&self) -> (&'static str, String) {
        (State::Failed.name(), self.error.to_string())
    }

    fn wait(&self) -> Result<()> {
        Err(self.error.clone())
    }

    fn bytes(&self) -> Result<Bytes> {
        Err(self.error.clone())
    }
}

impl Live {
    pub fn new(
        id: Arc<str>,
        flow: Arc<str>,
        parent: Option<Arc<Live>>,
        store: Arc<Store>,
        driver: Arc<dyn Drive>,
        recorded: Vec<TaskRow>,
        picture: Option<Picture>,
    ) -> Arc<Live> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let next_no = recorded.iter().map(|task| task.no).max().unwrap_or(0) + 1;
        let live = Arc::new(Live {
            no: NEXT.fetch_add(1, Ordering::Relaxed),
            id,
            flow,
            parent,
            store,
            driver,
            begun_us: now_us(),
            state: Mutex::new(LiveState {
                next_no,
                ..LiveState::default()
            }),
            changed: Condvar::new(),
            recorded: recorded
                .into_iter()
                .map(|task| ((task.identity, task.nth), task))
                .collect(),
            picture: picture.map(Mutex::new),
        });
        HERE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&live));
        live
    }

    fn lock(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The innermost run whose function this thread is in.
    pub fn current() -> Result<Arc<Live>> {
        RUNNING
            .with_borrow(|running| running.last().cloned())
            .ok_or_else(|| {
                Error::Argument(
                    Message::new(
                        "no flow runs here: tasks are called in the function of a flow, on its own thread",
                    )
                    .hint("`Flow::new(\"name\", f).run(…)?` runs one"),
                )
            })
    }

    pub fn current_if_any() -> Option<Arc<Live>> {
        RUNNING.with_borrow(|running| running.last().cloned())
    }

    /// Runs the function of this run: what it calls belongs to it.
    ///
    /// # Errors
    /// When flows call each other without end.
    pub fn inside<R>(self: &Arc<Live>, block: impl FnOnce() -> R) -> Result<R> {
        struct Leaves;
        impl Drop for Leaves {
            fn drop(&mut self) {
                RUNNING.with_borrow_mut(Vec::pop);
            }
        }
        let mut ancestors = std::iter::successors(self.parent.as_ref(), |live| live.parent.as_ref());
        if ancestors.clone().count() >= MOST_NESTED {
            let is_itself = ancestors.any(|live| live.flow == self.flow);
            let what = if is_itself { "calls itself" } else { "is called" };
            return Err(Error::Argument(
                Message::new(format!(
                    "the flow `{}` {what}, {MOST_NESTED} flows deep",
                    self.flow
                ))
                .hint("a flow that calls itself must end; a loop in one flow needs no depth"),
            ));
        }
        RUNNING.with_borrow_mut(|running| running.push(self.clone()));
        let _leaves = Leaves;
        Ok(block())
    }

    /// The cluster that its tasks run on: the current one when the first was called.
    pub fn cluster(&self) -> Result<Cluster> {
        let mut state = self.lock();
        if state.cluster.is_none() {
            state.cluster = Some(Cluster::current()?);
        }
        Ok(state.cluster.clone().expect("invariant: set above"))
    }

    pub fn task(&self, no: u32) -> Option<Arc<Entry>> {
        let state = self.lock();
        state.tasks.iter().find(|task| task.id.no == no).cloned()
    }

    pub fn tasks(&self) -> Vec<Arc<Entry>> {
        let mut tasks = self.lock().tasks.clone();
        tasks.sort_by_key(|task| task.id.no);
        tasks
    }

    /// A name for the next call that no other one has, also if the run goes on later in the same process.
    pub fn next_call_id(&self) -> String {
        let mut state = self.lock();
        state.n_changes += 1;
        format!("{}/{}/{}", self.id, self.no, state.n_changes)
    }

    pub fn is_shown(&self) -> bool {
        self.picture.is_some()
    }

    /// The run that nobody called.
    fn root(&self) -> &Live {
        let mut live = self;
        while let Some(parent) = &live.parent {
            live = parent;
        }
        live
    }

    pub fn root_id(&self) -> Arc<str> {
        self.root().id.clone()
    }

    /// What tells this approval from others of the same name, in the order in which they are asked for.
    pub fn approval(&self, name: &str) -> String {
        let mut state = self.root().lock();
        let n = state.n_pauses.entry(name.to_string()).or_default();
        *n += 1;
        match *n {
            1 => name.to_string(),
            n => format!("{name} ({n})"),
        }
    }

    /// It waits for this approval, and so does what called it.
    pub fn set_paused(&self, name: &str) {
        for live in std::iter::successors(Some(self), |live| live.parent.as_deref()) {
            live.lock().paused_at = Some(name.to_string());
        }
    }

    pub fn paused_at(&self) -> Option<String> {
        self.lock().paused_at.clone()
    }

    /// Its function has returned, and everything is written.
    pub fn close(&self) {
        let closed = {
            let mut state = self.lock();
            state.is_closed = true;
            (
                std::mem::take(&mut state.tasks),
                std::mem::take(&mut state.by_key),
                state.cluster.take(),
            )
        };
        drop(closed);
    }

    /// A call of a task: one of before, if the run had made it, or a new one. `policy` says how it shall run.
    pub fn call(self: &Arc<Live>, call: Call, name: Arc<str>, policy: Arc<Policy>) -> Result<Arc<Entry>> {
        self.cluster()?;
        let keys = call.inputs();
        let mut state = self.lock();
        if let Some(reason) = &state.cancelled {
            return Err(self.stopped(reason));
        }
        let inputs: Vec<Arc<Entry>> = keys
            .iter()
            .filter_map(|key| state.by_key.get(key).cloned())
            .collect();
        let code = call.fingerprint(false, |key| state.by_key.get(&key).map(|task| task.identity));
        // A task that was given another name is another one.
        let identity = code ^ crate::store::hash_of(name.as_bytes());
        let nth = state.n_calls.entry(identity).or_default();
        *nth += 1;
        let nth = *nth;
        let recorded = self.recorded.get(&(identity, nth));
        let no = recorded.map_or(state.next_no, |task| task.no);
        state.next_no = state.next_no.max(no + 1);
        let restored = recorded
            .filter(|task| task.state.is_good())
            .filter(|task| task.kept.as_ref().is_some_and(|kept| self.store.has(kept)));
        let names: HashMap<Key, String> = inputs
            .iter()
            .map(|input| (input.key, input.name.to_string()))
            .collect();
        let at_us = now_us();
        let entry = Arc::new(Entry {
            id: TaskId { run: self.no, no },
            run: self.clone(),
            key: call.key(),
            arguments: call.arguments(|key| names.get(&key).cloned()),
            name,
            policy,
            identity,
            inputs: inputs.iter().map(|input| input.id.no).collect(),
            now: Mutex::new(Now {
                state: restored.map_or(State::Pending, |task| task.state),
                reason: restored.map_or(String::new(), |task| task.reason.clone()),
                attempt: restored.map_or(0, |task| task.attempt),
                call: Some(call),
                started: None,
                kept: restored.and_then(|task| task.kept.clone()),
                error: None,
                started_us: restored.and_then(|task| task.started_us),
                ended_us: restored.and_then(|task| task.ended_us),
                ran: None,
                is_told: false,
                worker: None,
                is_restored: restored.is_some(),
                is_observed: false,
                is_dropped: false,
            }),
        });
        state.tasks.push(entry.clone());
        state.by_key.insert(entry.key, entry.clone());
        state.n_changes += 1;
        drop(state);
        let record = recorded.is_none().then(|| Record::Task {
            run: self.id.clone(),
            no,
            name: entry.name.clone(),
            arguments: entry.arguments.clone(),
            identity,
            nth,
            inputs: entry.inputs.clone(),
            tags: entry.policy.tags.clone(),
            at_us,
        });
        let restored = restored.map(|task| task.state);
        self.driver.submit(entry.clone(), record, restored);
        Ok(entry)
    }

    /// Which of the same calls of another flow this is.
    pub fn nth_flow(&self, identity: u128) -> u32 {
        let mut state = self.lock();
        let nth = state.n_flows.entry(identity).or_default();
        *nth += 1;
        *nth
    }

    pub fn cancelled(&self) -> Option<Error> {
        let reason = self.lock().cancelled.clone()?;
        Some(self.stopped(&reason))
    }

    fn stopped(&self, reason: &str) -> Error {
        Error::Argument(Message::new(format!(
            "the run of `{}` was stopped: {reason}",
            self.flow
        )))
    }

    /// The run of this id, if it runs here.
    pub fn of(id: &str) -> Option<Arc<Live>> {
        let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
        here.retain(|live| live.strong_count() > 0);
        here.iter()
            .filter_map(Weak::upgrade)
            .find(|live| *live.id == *id && !live.lock().is_closed)
    }

    /// Stops it: its tasks end, and whoever waits for one hears so.
    pub fn cancel(&self, reason: &str) {
        self.lock().cancelled.get_or_insert_with(|| reason.to_string());
        self.driver.cancel(self.no, reason.to_string());
        self.changed.notify_all();
    }

    /// What is wrong with the store, in words; it is tried again.
    pub fn set_trouble(&self, trouble: Option<String>) {
        self.lock().trouble = trouble;
    }

    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Something about its tasks has changed.
    pub fn on_change(&self) {
        self.lock().n_changes += 1;
        self.changed.notify_all();
    }

    fn wait_for(self: &Arc<Live>, entry: &Arc<Entry>) -> Result<()> {
        self.wait_until(|| entry.now().state.is_final())?;
        if entry.now().state.is_good() {
            Ok(())
        } else {
            Err(entry.error())
        }
    }

    /// Waits until all tasks that were called have ended.
    pub fn wait_for_all(self: &Arc<Live>) -> Result<()> {
        for task in self.tasks() {
            self.wait_until(|| task.now().state.is_final())?;
        }
        Ok(())
    }

    /// The first task that ended badly, and of which nobody has heard.
    pub fn unheard(&self) -> Option<Error> {
        let tasks = self.tasks();
        let is_bad = |task: &&Arc<Entry>| {
            let now = task.now();
            now.state.is_final() && !now.state.is_good() && !now.is_observed
        };
        // What was not run stands on something that failed, of which somebody may have heard.
        let mut bad = tasks
            .iter()
            .filter(is_bad)
            .filter(|task| task.now().state != State::Cancelled);
        bad.next().map(|task| task.error())
    }

    /// Waits; shows the run meanwhile where it is to be shown. An interrupt ends the cell.
    fn wait_until(&self, mut is_so: impl FnMut() -> bool) -> Result<()> {
        loop {
            skep_eval::poll();
            let state = self.lock();
            if is_so() {
                return Ok(());
            }
            if let Some(reason) = &state.cancelled {
                return Err(self.stopped(reason));
            }
            let (state, _) = self
                .changed
                .wait_timeout(state, LOOK_EVERY)
                .unwrap_or_else(PoisonError::into_inner);
            drop(state);
            self.draw_if_due();
        }
    }

    /// Sleeps for as long as nothing is to be done, as between retries of a flow.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        self.wait_until(|| Instant::now() >= until)
    }

    fn draw_if_due(&self) {
        let shown = std::iter::successors(Some(self), |live| live.parent.as_deref())
            .find_map(|live| live.picture.as_ref().map(|picture| (live, picture)));
        let Some((live, picture)) = shown else { return };
        // One after the other: they may be one run.
        let mut n_changes = live.lock().n_changes;
        n_changes += self.lock().n_changes;
        let mut picture = picture.lock().unwrap_or_else(PoisonError::into_inner);
        picture.draw_if_due(n_changes, DRAW_EVERY, || live.view(State::Running, ""));
    }

    /// The last picture, which the notebook keeps.
    pub fn draw_last(&self, state: State, reason: &str) {
        if let Some(picture) = &self.picture {
            let mut picture = picture.lock().unwrap_or_else(PoisonError::into_inner);
            let mut view = self.view(state, reason.lines().next().unwrap_or_default());
            // What stays the same is not asked for with every picture.
            if let Ok(Some(row)) = self.store.run(&self.id) {
                view.called = View::called_by(&self.store, &row.id).unwrap_or_default();
                view.parameters = row.parameters;
            }
            picture.draw_last(&view);
        }
    }

    fn view(&self, state: State, reason: &str) -> View {
        View {
            id: self.id.to_string(),
            flow: self.flow.to_string(),
            state,
            reason: reason.to_string(),
            parameters: String::new(),
            begun_us: Some(self.begun_us),
            ended_us: state.is_final().then(now_us),
            trouble: self.trouble(),
            called: Vec::new(),
            tasks: self.tasks().iter().map(|task| task.view()).collect(),
        }
    }
}
