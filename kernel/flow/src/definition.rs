//! A flow without its types: what is generic is compiled anew in every cell, so nearly all is here.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use skep_cluster::{Error, Result};
use skep_render::Message;

use crate::{
    driver::{self, Done, Driven, Message as ToDriver},
    live::Live,
    policy::Policy,
    report,
    schedule::Schedule,
    show::Picture,
    state::State,
    store::{self, NewRun, Record, RunRow, Store, now_us, short, store, unknown_run},
    words::{after_failure, another_type, paused, run_as_argument},
};

/// Hears why a run did not complete.
pub(crate) type Hook = dyn Fn(&str) + Send + Sync;

/// A flow's function, from its parameters as bytes to its value as bytes.
pub(crate) type Body = Arc<dyn Fn(&[u8]) -> std::result::Result<Vec<u8>, String> + Send + Sync>;

/// Parameters as a run has them: as bytes, and as people read them.
#[derive(Clone)]
pub(crate) struct Parameters {
    pub bytes: Vec<u8>,
    pub json: String,
}

/// A flow without its types: what is generic is compiled anew in every cell, so it is little.
#[derive(Clone)]
pub(crate) struct Definition {
    pub name: Arc<str>,
    /// The type of its value.
    pub gives: &'static str,
    pub body: Body,
    /// Reads parameters from JSON.
    pub read: fn(&str) -> std::result::Result<Parameters, String>,
    /// Whether bytes are parameters of this flow.
    pub fits: fn(&[u8]) -> std::result::Result<(), String>,
    pub policy: Policy,
    pub on_failure: Option<Arc<Hook>>,
    pub schedule: Option<Schedule>,
}

/// Why a run ended whose cell was interrupted.
const INTERRUPTED: &str = "it was interrupted";

/// How long a run that has ended waits for a Prefect server to hear of it.
const LAST_REPORT: Duration = Duration::from_secs(2);

impl Definition {
    pub fn new(
        name: &str,
        gives: &'static str,
        body: Body,
        read: fn(&str) -> std::result::Result<Parameters, String>,
        fits: fn(&[u8]) -> std::result::Result<(), String>,
    ) -> Definition {
        Definition {
            name: name.into(),
            gives,
            body,
            read,
            fits,
            policy: Policy::default(),
            on_failure: None,
            schedule: None,
        }
    }

    /// Runs it, as a part of the run that this thread is in if there is one, and gives the id of the run.
    pub fn run(&self, parameters: &Parameters) -> Result<Arc<str>> {
        let live = self.begin(parameters)?;
        self.ended(live.id.clone(), self.execute(&live, &parameters.bytes))
    }

    /// Runs it on a thread of its own.
    pub fn start(self: &Arc<Self>, parameters: Parameters) -> Result<Arc<str>> {
        let store = store()?;
        let id = self.note_begin(&store, &parameters, None)?;
        let live = self.live(&id, None, store, Vec::new(), None);
        let (flow, running) = (self.clone(), live.clone());
        thread::Builder::new()
            .name(format!("flow {}", self.name))
            .spawn(move || {
                // How it ended is in the store.
                let _ = flow.execute(&running, &parameters.bytes);
            })
            .map_err(|error| Error::Start(Message::new(format!("no thread for the flow: {error}"))))?;
        Ok(live.id.clone())
    }

    /// Runs it with parameters as JSON.
    pub fn run_json(&self, json: &str) -> Result<Arc<str>> {
        self.run(&self.parameters(json)?)
    }

    /// Notes a run with these parameters, as JSON, that begins later: when it is resumed.
    pub fn schedule(&self, json: &str, when: &str) -> Result<Arc<str>> {
        let store = store()?;
        let id = self.note(&store, &self.parameters(json)?, None, State::Scheduled)?;
        store.put_off(&id, when)?;
        Ok(id)
    }

    fn parameters(&self, json: &str) -> Result<Parameters> {
        (self.read)(json).map_err(|why| {
            Error::Argument(
                Message::new(format!(
                    "`{json}` are no parameters of the flow `{}`: {why}",
                    self.name
                ))
                .hint("they are JSON: one value, or a list of several"),
            )
        })
    }

    /// The id of its newest run.
    pub fn last(&self) -> Result<String> {
        let newest = store()?.newest_of(&self.name)?;
        newest
            .map(|row| row.id)
            .ok_or_else(|| Error::Argument(Message::new(format!("the flow `{}` never ran", self.name))))
    }

    /// Lets the run whose id begins so go on.
    pub fn resume(&self, id: &str) -> Result<Arc<str>> {
        let store = store()?;
        let row = store.run(id)?.ok_or_else(|| unknown_run(id))?;
        if *row.flow != *self.name {
            return Err(Error::Argument(Message::new(format!(
                "the run {} is one of the flow `{}`, not of `{}`",
                short(&row.id),
                row.flow,
                self.name
            ))));
        }
        let id: Arc<str> = row.id.as_str().into();
        if row.gives != self.gives {
            return Err(another_type(&row, self.gives));
        }
        if row.state.is_good() {
            return Ok(id);
        }
        (self.fits)(&row.args).map_err(|why| {
            Error::Serialisation(
                Message::new(format!(
                    "the parameters of the run {} do not fit this flow: {why}",
                    short(&row.id)
                ))
                .hint("its function takes others now: run it anew"),
            )
        })?;
        if let Some(parent) = &row.parent {
            return Err(run_as_argument(&row, parent));
        }
        store.take_over(&row.id)?;
        let recorded = store.tasks(&row.id)?;
        let live = self.live(&id, None, store, recorded, Some(Picture::new()));
        self.ended(id, self.execute(&live, &row.args))
    }

    /// A run that waits for approval has not failed.
    fn ended(&self, id: Arc<str>, result: Result<()>) -> Result<Arc<str>> {
        let Err(error) = result else { return Ok(id) };
        let is_paused = store()?.run(&id)?.is_some_and(|row| row.state == State::Paused);
        if is_paused && Live::current_if_any().is_none() {
            Ok(id)
        } else {
            Err(error)
        }
    }

    fn begin(&self, parameters: &Parameters) -> Result<Arc<Live>> {
        let Some(parent) = Live::current_if_any() else {
            let store = store()?;
            let id = self.note_begin(&store, parameters, None)?;
            return Ok(self.live(&id, None, store, Vec::new(), Some(Picture::new())));
        };
        let store = parent.store.clone();
        // The same call in an earlier attempt at the parent is the same run.
        let code = store::hash_of(&[self.name.as_bytes(), b"\0", &parameters.bytes].concat());
        let nth = parent.nth_flow(code);
        let identity = store::hash_of(&[&code.to_le_bytes()[..], &nth.to_le_bytes()].concat());
        let known: Option<RunRow> = store.run_called(&parent.id, identity)?;
        let (id, recorded): (Arc<str>, _) = match known {
            Some(row) => {
                if !row.state.is_good() {
                    store.take_over(&row.id)?;
                }
                (row.id.as_str().into(), store.tasks(&row.id)?)
            }
            None => (
                self.note_begin(&store, parameters, Some((&parent, identity)))?,
                Vec::new(),
            ),
        };
        Ok(self.live(&id, Some(parent), store, recorded, None))
    }

    fn live(
        &self,
        id: &Arc<str>,
        parent: Option<Arc<Live>>,
        store: Arc<Store>,
        recorded: Vec<store::TaskRow>,
        picture: Option<Picture>,
    ) -> Arc<Live> {
        let driver = Arc::new(Driven);
        Live::new(
            id.clone(),
            self.name.clone(),
            parent,
            store,
            driver,
            recorded,
            picture,
        )
    }

    fn note_begin(
        &self,
        store: &Store,
        parameters: &Parameters,
        parent: Option<(&Live, u128)>,
    ) -> Result<Arc<str>> {
        self.note(store, parameters, parent, State::Running)
    }

    /// Makes a run known.
    fn note(
        &self,
        store: &Store,
        parameters: &Parameters,
        parent: Option<(&Live, u128)>,
        state: State,
    ) -> Result<Arc<str>> {
        if self.name.trim().is_empty() || self.name.contains('\n') {
            return Err(Error::Argument(
                Message::new(format!("a flow cannot be called {:?}", self.name))
                    .hint("its name is one line of text, by which its runs are found"),
            ));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        store.begin(&NewRun {
            id: &id,
            flow: &self.name,
            gives: self.gives,
            parent: parent.map(|(live, _)| &*live.id),
            identity: parent.map(|(_, identity)| identity),
            parameters: &parameters.json,
            args: &parameters.bytes,
            state,
        })?;
        Ok(id.into())
    }

    /// Runs the function to its end, as often as its retries allow, and notes how it ended.
    fn execute(&self, live: &Arc<Live>, args: &[u8]) -> Result<()> {
        let mut live = live.clone();
        let is_known = live.store.run(&live.id)?.is_some_and(|row| row.state.is_good());
        if is_known {
            return Ok(());
        }
        if let Some(server) = report::server() {
            live.store.report(&server, &live.id)?;
        }
        let mut attempt = 1;
        loop {
            let ended = self.attempt(&live, args);
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
            if matches!(state, State::Failed | State::Crashed) && attempt <= self.policy.retries {
                let delay = self.policy.delay(attempt, fastrand::f64());
                attempt += 1;
                let wait = format!("again in {}: {reason}", skep_render::duration(delay));
                self.close(&live, State::AwaitingRetry, &wait, None);
                let recorded = live.store.tasks(&live.id)?;
                let picture = live.is_shown().then(Picture::new);
                live = self.live(
                    &live.id,
                    live.parent.clone(),
                    live.store.clone(),
                    recorded,
                    picture,
                );
                // The wait is the next attempt's: this one has been stopped.
                match catch_unwind(AssertUnwindSafe(|| live.pause(delay))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        self.close(&live, State::Cancelled, &error.message().what, None);
                        return Err(error);
                    }
                    Err(payload) => {
                        self.close(&live, State::Cancelled, INTERRUPTED, None);
                        resume_unwind(payload);
                    }
                }
                let running = self.end(&live, State::Running, "", None);
                live.store.write(&[running])?;
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
        if let Some(hook) = &self.on_failure {
            // What it does is not the run's.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(reason))) {
                skep_eval::note(&format!(
                    "the `on_failure` of the flow `{}` panicked: {}",
                    self.name,
                    skep_eval::panic_message(&*payload)
                ));
            }
        }
    }

    fn attempt(&self, live: &Arc<Live>, args: &[u8]) -> Ended {
        let timer = self.policy.timeout.map(|limit| Timer::start(live, limit));
        let called = catch_unwind(AssertUnwindSafe(|| {
            live.inside(|| {
                let returned = (self.body)(args);
                // One that failed stops what is left; nobody waits for that.
                let waited = match &returned {
                    Ok(_) => live.wait_for_all(),
                    Err(_) => Ok(()),
                };
                (returned, waited)
            })
        }));
        drop(timer);
        let failed = |reason: &str| {
            let what = format!("the flow `{}` failed: {reason}", self.name);
            Error::Argument(Message::new(what).hint(after_failure(reason, &live.root_id())))
        };
        match called {
            Err(payload) => {
                let is_interrupt = payload.is::<skep_eval::Interrupted>();
                let reason = if is_interrupt {
                    INTERRUPTED.to_string()
                } else {
                    format!("its function panicked: {}", skep_eval::panic_message(&*payload))
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
                    Ok(bytes) => match waited.err().or_else(|| live.unheard()) {
                        Some(error) => Ended::Bad(State::Failed, failed(&error.to_string())),
                        None => Ended::Good(bytes),
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
            end: self.end(live, state, reason, result),
            done: done.clone(),
        });
        done.wait();
        if let Some(trouble) = live.trouble() {
            skep_eval::note(&format!(
                "the journal of the run {} of `{}` is not whole: {trouble}; it is written as soon as that is possible, for as long \
                 as this process lives",
                short(&live.id),
                self.name
            ));
        }
        live.draw_last(state, reason);
        live.close();
        if live.parent.is_none() {
            report::catch_up(LAST_REPORT);
        }
    }

    fn end(&self, live: &Live, state: State, reason: &str, result: Option<Vec<u8>>) -> Record {
        Record::RunState {
            run: live.id.clone(),
            state,
            reason: reason.lines().next().unwrap_or_default().to_string(),
            result,
            at_us: now_us(),
        }
    }
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
