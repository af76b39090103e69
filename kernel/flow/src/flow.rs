//! Flows: functions whose calls of tasks are runs with states.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use skep_cluster::{Error, Result, TaskValue};
use skep_render::Message;

use crate::{
    driver::{self, Done, Driven, Message as ToDriver},
    function::{Body, FlowFn, IntoArgs, Parameter},
    live::Live,
    policy::Policy,
    registry::{AnyFlow, paused, register},
    report::{self, report_to},
    run::{Run, Runs},
    schedule::Schedule,
    show::Picture,
    state::State,
    store::{self, NewRun, Record, RunRow, Store, now_us, short, store, unknown_run},
};

/// A function that calls tasks, under a name: [`Flow::run`] runs it and remembers how it went.
///
/// The function is ordinary Rust and runs where it is called; the tasks that it calls run on the cluster. Parameters and result
/// derive `Serialize` and `Deserialize`. A run, its tasks, their states and values are written to a store on disk as they
/// come, so that a run which ended badly, or whose process died, can [go on](Run::resume) later: the function then runs
/// again, and what had completed is not called again but taken from the store. So it should call the same tasks with the same
/// arguments when it runs again.
///
/// ```no_run
/// # use skep_flow::{Flow, task};
/// # fn extract(day: u32) -> Vec<f64> { vec![day as f64] }
/// # fn total(days: Vec<Vec<f64>>) -> f64 { days.concat().iter().sum() }
/// fn sales(n_days: u32) -> skep_cluster::Result<f64> {
///     let days = task(extract).retries(3).map(0..n_days);
///     task(total).call(&days)
/// }
/// let sales = Flow::new("sales", sales);
/// let run = sales.run(7)?;
/// println!("{}", run.result()?);
/// # Ok::<(), skep_cluster::Error>(())
/// ```
pub struct Flow<Args, Out> {
    pub(crate) inner: Arc<Inner<Args, Out>>,
}

impl<Args, Out> Clone for Flow<Args, Out> {
    fn clone(&self) -> Self {
        Flow {
            inner: self.inner.clone(),
        }
    }
}

/// Hears why a run did not complete.
type Hook = dyn Fn(&str) + Send + Sync;

pub(crate) struct Inner<Args, Out> {
    pub name: Arc<str>,
    body: Body<Args, Out>,
    policy: Policy,
    on_failure: Option<Arc<Hook>>,
    pub schedule: Option<Schedule>,
}

impl<Args, Out> Clone for Inner<Args, Out> {
    fn clone(&self) -> Self {
        Inner {
            name: self.name.clone(),
            body: self.body.clone(),
            policy: self.policy.clone(),
            on_failure: self.on_failure.clone(),
            schedule: self.schedule.clone(),
        }
    }
}

/// How long a run that has ended waits for a Prefect server to hear of it.
const LAST_REPORT: Duration = Duration::from_secs(2);

impl Flow<(), ()> {
    /// All runs in the store, of all flows, the newest last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn runs() -> Result<Runs> {
        Runs::of(None)
    }

    /// The runs of the flow of this name, the newest last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn runs_of(flow: &str) -> Result<Runs> {
        Runs::of(Some(flow))
    }

    /// The run whose id begins so.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub fn run_of(id: &str) -> Result<Run<()>> {
        let row = store()?.run(id)?.ok_or_else(|| unknown_run(id))?;
        Ok(Run::of(row.id))
    }

    /// Runs that begin from now on are shown by a Prefect server too, whose API is at this address: states, tasks, what they
    /// print, and as artifacts the tasks as a table and their graph. A server that is away holds up nothing: what it missed is
    /// sent when it is back, also by a later notebook that reports to it.
    ///
    /// ```no_run
    /// # use skep_flow::Flow;
    /// Flow::report_to("http://127.0.0.1:4200/api")?;
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    ///
    /// # Errors
    /// When it is no address of one: `http://`, and no `https`.
    pub fn report_to(server: &str) -> Result<()> {
        report_to(server)
    }

    /// Waits for somebody's approval: the run is `Paused` until [`Run::approve`] lets it go on, and then goes on from here.
    /// `name` tells the approvals of a run apart.
    ///
    /// In the function of a flow, with a `?` behind it:
    ///
    /// ```no_run
    /// # use skep_flow::Flow;
    /// # fn load() -> skep_cluster::Result<()> {
    /// Flow::pause("load into production")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// While nobody has approved it, or when somebody has refused.
    pub fn pause(name: &str) -> Result<()> {
        let live = Live::current()?;
        match live.store.approval(&live.root_id(), name)? {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Argument(Message::new(format!("`{name}` was refused")))),
            None => {
                live.wait_for_all()?;
                live.set_paused(name);
                Err(Error::Argument(paused(name)))
            }
        }
    }
}

impl<Args: Parameter, Out: TaskValue> Flow<Args, Out> {
    /// A flow of this name. A newer one of the same name takes its place.
    pub fn new<F, Kind>(name: &str, function: F) -> Flow<Args, Out>
    where
        F: FlowFn<Kind, Args = Args, Out = Out>,
    {
        Flow::made(name, function.into_body())
    }

    fn made(name: &str, body: Body<Args, Out>) -> Flow<Args, Out> {
        Flow {
            inner: Arc::new(Inner {
                name: name.into(),
                body,
                policy: Policy::default(),
                on_failure: None,
                schedule: None,
            }),
        }
        .registered()
    }

    fn registered(self) -> Flow<Args, Out> {
        register(&self.inner.name, Arc::new(self.clone()));
        self
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut Inner<Args, Out>)) -> Flow<Args, Out> {
        let mut inner = (*self.inner).clone();
        change(&mut inner);
        Flow {
            inner: Arc::new(inner),
        }
        .registered()
    }

    /// A run that fails goes on again, up to `n` times: what had completed is not called again.
    #[must_use]
    pub fn retries(self, n: u32) -> Flow<Args, Out> {
        self.with(|inner| inner.policy.retries = n)
    }

    /// How long a run that failed waits before it goes on again.
    #[must_use]
    pub fn retry_delay(self, delay: Duration) -> Flow<Args, Out> {
        self.with(|inner| inner.policy.delays = vec![delay])
    }

    /// A run that takes longer is stopped.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Flow<Args, Out> {
        self.with(|inner| inner.policy.timeout = Some(limit))
    }

    /// Is called with the reason when a run has failed, crashed or was cancelled, in this process.
    #[must_use]
    pub fn on_failure(self, hook: impl Fn(&str) + Send + Sync + 'static) -> Flow<Args, Out> {
        self.with(|inner| inner.on_failure = Some(Arc::new(hook)))
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs it, and shows it meanwhile. `args` is a tuple; one parameter stands alone, and `()` is none.
    ///
    /// Called in another flow, it is a run of its own that belongs to that one.
    ///
    /// # Errors
    /// When it fails. [`Flow::last`] is the run then: it knows what completed, and can go on.
    pub fn run<In: IntoArgs<Args>>(&self, args: In) -> Result<Run<Out>> {
        self.run_args(args.into_args())
    }

    pub(crate) fn run_args(&self, args: Args) -> Result<Run<Out>> {
        let (begun, args) = self.begin(args)?;
        self.ended(begun.live.id.clone(), self.execute(&begun, args))
    }

    /// Runs it in the background: the run says how it is, and `result` waits for it.
    ///
    /// # Errors
    /// When it could not be begun.
    pub fn start<In: IntoArgs<Args>>(&self, args: In) -> Result<Run<Out>> {
        self.start_args(args.into_args())
    }

    pub(crate) fn start_args(&self, args: Args) -> Result<Run<Out>> {
        let store = store()?;
        let id = self.note_begin(&store, &args, None)?;
        self.in_background(store, id, Vec::new(), args)
    }

    fn in_background(
        &self,
        store: Arc<Store>,
        id: Arc<str>,
        recorded: Vec<store::TaskRow>,
        args: Args,
    ) -> Result<Run<Out>> {
        let live = Live::new(
            id.clone(),
            self.inner.name.clone(),
            None,
            store,
            Arc::new(Driven),
            recorded,
            None,
        );
        let begun = Begun { live: live.clone() };
        let flow = self.clone();
        thread::Builder::new()
            .name(format!("flow {}", self.inner.name))
            .spawn(move || {
                let _ = flow.execute(&begun, args);
            })
            .map_err(|error| Error::Start(Message::new(format!("no thread for the flow: {error}"))))?;
        Ok(Run::live(live))
    }

    /// The newest run of this flow.
    ///
    /// # Errors
    /// When it never ran, or the store cannot be read.
    pub fn last(&self) -> Result<Run<Out>> {
        let rows = store()?.runs(Some(&self.inner.name))?;
        let row = rows.into_iter().next_back().ok_or_else(|| {
            Error::Argument(Message::new(format!("the flow `{}` never ran", self.inner.name)))
        })?;
        Ok(Run::of(row.id))
    }

    /// The runs of this flow, the newest last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn history(&self) -> Result<Runs> {
        Runs::of(Some(&self.inner.name))
    }

    /// Lets a run of this flow go on: what had completed is taken from the store.
    ///
    /// # Errors
    /// As [`Flow::run`]; when there is no such run, or it is running.
    pub fn resume(&self, id: &str) -> Result<Run<Out>> {
        let store = store()?;
        let row = store.run(id)?.ok_or_else(|| unknown_run(id))?;
        self.resume_row(&store, &row)
    }

    pub(crate) fn resume_row(&self, store: &Arc<Store>, row: &RunRow) -> Result<Run<Out>> {
        if *row.flow != *self.inner.name {
            return Err(Error::Argument(Message::new(format!(
                "the run {} is one of the flow `{}`, not of `{}`",
                short(&row.id),
                row.flow,
                self.inner.name
            ))));
        }
        if row.state.is_good() {
            return Ok(Run::of(row.id.clone()));
        }
        let args: Args = postcard::from_bytes(&row.args).map_err(|error| {
            Error::Serialisation(
                Message::new(format!(
                    "the parameters of the run {} do not fit this flow: {error}",
                    short(&row.id)
                ))
                .hint("its function takes others now: run it anew"),
            )
        })?;
        store.take_over(&row.id)?;
        let id: Arc<str> = row.id.as_str().into();
        let begun = Begun {
            live: self.live(&id, None, store.clone(), store.tasks(&row.id)?),
        };
        self.ended(id, self.execute(&begun, args))
    }

    fn ended(&self, id: Arc<str>, result: Result<()>) -> Result<Run<Out>> {
        match result {
            Ok(()) => Ok(Run::of(id.to_string())),
            Err(error) => {
                let is_paused = store()?.run(&id)?.is_some_and(|row| row.state == State::Paused);
                if is_paused && Live::current_if_any().is_none() {
                    return Ok(Run::of(id.to_string()));
                }
                Err(error)
            }
        }
    }

    fn begin(&self, args: Args) -> Result<(Begun, Args)> {
        let parent = Live::current_if_any();
        let store = match &parent {
            Some(parent) => parent.store.clone(),
            None => store()?,
        };
        let Some(parent) = parent else {
            let id = self.note_begin(&store, &args, None)?;
            let live = self.live(&id, None, store, Vec::new());
            return Ok((Begun { live }, args));
        };
        // The same call in an earlier attempt at the parent is the same run.
        let bytes = encoded(&args)?;
        let code = store::hash_of(&[self.inner.name.as_bytes(), b"\0", &bytes].concat());
        let nth = parent.nth_flow(code);
        let identity = store::hash_of(&[&code.to_le_bytes()[..], &nth.to_le_bytes()].concat());
        let known = store.run_called(&parent.id, identity)?;
        let (id, recorded): (Arc<str>, _) = match known {
            Some(row) => {
                if !row.state.is_good() {
                    store.take_over(&row.id)?;
                }
                (row.id.as_str().into(), store.tasks(&row.id)?)
            }
            None => (
                self.note_begin(&store, &args, Some((&parent, identity)))?,
                Vec::new(),
            ),
        };
        let live = self.live(&id, Some(parent), store, recorded);
        Ok((Begun { live }, args))
    }

    fn live(
        &self,
        id: &Arc<str>,
        parent: Option<Arc<Live>>,
        store: Arc<Store>,
        recorded: Vec<store::TaskRow>,
    ) -> Arc<Live> {
        let picture = parent.is_none().then(Picture::new);
        Live::new(
            id.clone(),
            self.inner.name.clone(),
            parent,
            store,
            Arc::new(Driven),
            recorded,
            picture,
        )
    }

    /// Makes a run known.
    fn note_begin(&self, store: &Store, args: &Args, parent: Option<(&Live, u128)>) -> Result<Arc<str>> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        store.begin(&NewRun {
            id: &id,
            flow: &self.inner.name,
            parent: parent.map(|(live, _)| &*live.id),
            identity: parent.map(|(_, identity)| identity),
            parameters: &json(args),
            args: &encoded(args)?,
            state: State::Running,
        })?;
        Ok(id.into())
    }

    /// Runs the function to its end, as often as its retries allow, and notes how it ended.
    fn execute(&self, begun: &Begun, args: Args) -> Result<()> {
        let mut live = begun.live.clone();
        let is_known = live.store.run(&live.id)?.is_some_and(|row| row.state.is_good());
        if is_known {
            return Ok(());
        }
        if let Some(server) = report::server() {
            live.store.report(&server, &live.id)?;
        }
        let mut attempt = 1;
        loop {
            let ended = self.attempt(&live, args.clone());
            let (state, error, result) = match ended {
                Ended::Good(bytes) => (State::Completed, None, Some(bytes)),
                Ended::Bad(state, error) => (state, Some(error), None),
                Ended::Unwound(payload, reason) => {
                    self.close(&live, State::Cancelled, &reason, None);
                    self.tell(&reason);
                    resume_unwind(payload);
                }
            };
            let reason = error
                .as_ref()
                .map_or(String::new(), |error| error.message().what.to_string());
            if matches!(state, State::Failed | State::Crashed) && attempt <= self.inner.policy.retries {
                let delay = self.inner.policy.delay(attempt, fastrand::f64());
                attempt += 1;
                let wait = format!("again in {}: {reason}", skep_render::duration(delay));
                self.close(&live, State::AwaitingRetry, &wait, None);
                live.pause(delay)?;
                let recorded = live.store.tasks(&live.id)?;
                live = self.live(&live.id, live.parent.clone(), live.store.clone(), recorded);
                self.note(&live, State::Running, "", None);
                continue;
            }
            self.close(&live, state, &reason, result);
            let Some(error) = error else { return Ok(()) };
            if state != State::Paused {
                self.tell(&reason);
            }
            return Err(error);
        }
    }

    fn tell(&self, reason: &str) {
        if let Some(hook) = &self.inner.on_failure {
            // What it does is not the run's.
            let _ = catch_unwind(AssertUnwindSafe(|| hook(reason)));
        }
    }

    fn attempt(&self, live: &Arc<Live>, args: Args) -> Ended {
        let timer = self.inner.policy.timeout.map(|limit| Timer::start(live, limit));
        let called = catch_unwind(AssertUnwindSafe(|| {
            live.inside(|| {
                let returned = (self.inner.body)(args);
                let waited = live.wait_for_all();
                (returned, waited)
            })
        }));
        drop(timer);
        let failed = |reason: &str| {
            let what = format!("the flow `{}` failed: {reason}", self.inner.name);
            Error::Argument(Message::new(what).hint(format!(
                "run {}: `flow.last()?` shows it, and `.resume()?` on that does what had not completed",
                short(&live.id)
            )))
        };
        match called {
            Err(payload) => {
                let is_interrupt = payload.is::<skep_eval::Interrupted>();
                let reason = if is_interrupt {
                    "it was interrupted".to_string()
                } else {
                    format!("its function panicked: {}", panic_text(&*payload))
                };
                live.cancel(&reason);
                if is_interrupt {
                    return Ended::Unwound(payload, reason);
                }
                Ended::Bad(State::Failed, failed(&reason))
            }
            Ok(Err(error)) => Ended::Bad(State::Failed, error),
            Ok(Ok((returned, waited))) => {
                if let Some(error) = live.cancelled() {
                    return Ended::Bad(State::Cancelled, error);
                }
                match returned {
                    Err(text) => {
                        if let Some(name) = live.paused_at() {
                            return Ended::Bad(State::Paused, Error::Argument(paused(&name)));
                        }
                        live.cancel("the flow failed");
                        Ended::Bad(State::Failed, failed(&text))
                    }
                    Ok(value) => match waited.err().or_else(|| live.unheard()) {
                        Some(error) => Ended::Bad(State::Failed, failed(&error.to_string())),
                        None => match finished(&value) {
                            Ok(bytes) => Ended::Good(bytes),
                            Err(reason) => Ended::Bad(State::Failed, failed(&reason)),
                        },
                    },
                }
            }
        }
    }

    /// Ends this attempt: all that its tasks have to say is written, and then its own state.
    fn close(&self, live: &Arc<Live>, state: State, reason: &str, result: Option<Vec<u8>>) {
        let done = Arc::new(Done::default());
        driver::send(ToDriver::Over {
            run: live.clone(),
            done: done.clone(),
        });
        done.wait();
        self.note(live, state, reason, result);
        live.draw_last(state, reason);
        live.close();
        if live.parent.is_none() {
            report::catch_up(LAST_REPORT);
        }
    }

    fn note(&self, live: &Live, state: State, reason: &str, result: Option<Vec<u8>>) {
        let record = Record::RunState {
            run: live.id.clone(),
            state,
            reason: reason.lines().next().unwrap_or_default().to_string(),
            result,
            at_us: now_us(),
        };
        if let Err(error) = live.store.write(&[record]) {
            skep_eval::note(&format!(
                "how the run {} of `{}` ended could not be noted: {error}",
                short(&live.id),
                self.inner.name
            ));
        }
    }
}

impl<Args: Parameter, Out: TaskValue> AnyFlow for Flow<Args, Out> {
    fn resume(&self, run: &RunRow) -> Result<()> {
        self.resume_row(&store()?, run).map(drop)
    }

    fn run_json(&self, parameters: &str) -> Result<String> {
        // One parameter stands alone, here too.
        let parsed = serde_json::from_str::<Args>(parameters)
            .or_else(|error| serde_json::from_str::<Args>(&format!("[{parameters}]")).map_err(|_| error));
        let args = parsed.map_err(|error| {
            Error::Argument(
                Message::new(format!(
                    "`{parameters}` are no parameters of the flow `{}`: {error}",
                    self.inner.name
                ))
                .hint("they are JSON: one value, or a list of several"),
            )
        })?;
        Ok(self.run_args(args)?.id().to_string())
    }

    fn schedule(&self) -> Option<&Schedule> {
        self.inner.schedule.as_ref()
    }
}

struct Begun {
    live: Arc<Live>,
}

enum Ended {
    Good(Vec<u8>),
    Bad(State, Error),
    /// The cell was interrupted.
    Unwound(Box<dyn Any + Send>, String),
}

/// Stops a run after its time.
struct Timer(Arc<Done>);

impl Timer {
    fn start(live: &Arc<Live>, limit: Duration) -> Timer {
        let done: Arc<Done> = Arc::default();
        let (of_thread, live) = (done.clone(), live.clone());
        let spawned = thread::Builder::new().name("flow timeout".into()).spawn(move || {
            if !of_thread.wait_for(limit) {
                live.cancel(&format!("it took longer than {}", skep_render::duration(limit)));
            }
        });
        if let Err(error) = spawned {
            skep_eval::note(&format!("the timeout does not hold: no thread for it: {error}"));
        }
        Timer(done)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn encoded<Args: Parameter>(args: &Args) -> Result<Vec<u8>> {
    postcard::to_stdvec(args).map_err(|error| {
        Error::Serialisation(Message::new(format!(
            "the parameters cannot be turned into bytes: {error}"
        )))
    })
}

/// The value of a run as bytes; the `Err` of a `Result` that is a value is a failure too.
fn finished<Out: TaskValue>(value: &Out) -> std::result::Result<Vec<u8>, String> {
    skep_cluster::finished(value)
}

/// As people read it: one parameter stands alone.
pub(crate) fn json<Args: Parameter>(args: &Args) -> String {
    match serde_json::to_value(args) {
        Ok(serde_json::Value::Array(mut all)) if all.len() == 1 => all.remove(0).to_string(),
        Ok(serde_json::Value::Array(all)) if all.is_empty() => String::new(),
        Ok(serde_json::Value::Null) => String::new(),
        Ok(value) => value.to_string(),
        Err(error) => format!("\"cannot be shown: {error}\""),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_string()))
        .unwrap_or_else(|| "without a message".into())
}
