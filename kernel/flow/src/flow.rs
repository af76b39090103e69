//! Flows: functions whose calls of tasks are runs with states.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use skep_cluster::{Error, Result, TaskValue, finished};
use skep_render::{Bundle, Message, Rich, card::Card};

use crate::{
    definition::{Definition, Parameters},
    function::{FlowFn, IntoArgs, Parameter},
    live::Live,
    registry::register,
    report,
    run::{Run, Runs},
    store::{short, store, unknown_run},
    words::{REFUSED, paused},
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
    pub(crate) definition: Arc<Definition>,
    types: PhantomData<fn(Args) -> Out>,
}

impl<Args, Out> Clone for Flow<Args, Out> {
    fn clone(&self) -> Self {
        Flow {
            definition: self.definition.clone(),
            types: PhantomData,
        }
    }
}

impl Flow<(), ()> {
    /// All runs in the store, of all flows, the newest last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn runs() -> Result<Runs> {
        Runs::of(None)
    }

    /// Removes what tasks with a cache gave, so that they run again, and says how many values that were. Runs keep theirs.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn clear_cache() -> Result<usize> {
        store()?.clear_cache()
    }

    /// The newest runs, so many at most; the newest last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest(n: usize) -> Result<Runs> {
        Ok(Runs {
            rows: store()?.newest(n)?,
            flow: None,
        })
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
        report::report_to(server)
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
        let name = &live.approval(name);
        match live.store.approval(&live.root_id(), name)? {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Argument(Message::new(format!("`{name}`{REFUSED}")))),
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
        let body = function.into_body();
        let from_bytes = move |bytes: &[u8]| body(read::<Args>(bytes)?).and_then(|value| finished(&value));
        let fits = |bytes: &[u8]| read::<Args>(bytes).map(drop);
        Flow::of(Definition::new(
            name,
            std::any::type_name::<Out>(),
            Arc::new(from_bytes),
            from_json::<Args>,
            fits,
        ))
    }
}

impl<Args, Out> Flow<Args, Out> {
    fn of(definition: Definition) -> Flow<Args, Out> {
        Flow {
            definition: register(definition),
            types: PhantomData,
        }
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Definition)) -> Flow<Args, Out> {
        let mut definition = (*self.definition).clone();
        change(&mut definition);
        Flow::of(definition)
    }

    /// A run that fails goes on again, up to `n` times: what had completed is not called again.
    #[must_use]
    pub fn retries(&self, n: u32) -> Flow<Args, Out> {
        self.with(|definition| definition.policy.retries = n)
    }

    /// How long a run that failed waits before it goes on again.
    #[must_use]
    pub fn retry_delay(&self, delay: Duration) -> Flow<Args, Out> {
        self.with(|definition| definition.policy.delays = vec![delay])
    }

    /// A run that takes longer is stopped.
    #[must_use]
    pub fn timeout(&self, limit: Duration) -> Flow<Args, Out> {
        self.with(|definition| definition.policy.timeout = Some(limit))
    }

    /// Is called with the reason when a run has failed, crashed or was cancelled, in this process.
    #[must_use]
    pub fn on_failure(&self, hook: impl Fn(&str) + Send + Sync + 'static) -> Flow<Args, Out> {
        self.with(|definition| definition.on_failure = Some(Arc::new(hook)))
    }

    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// The newest run of this flow.
    ///
    /// # Errors
    /// When it never ran, or the store cannot be read.
    pub fn last(&self) -> Result<Run<Out>> {
        self.definition.last().map(Run::of)
    }

    /// The runs of this flow, the newest last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn history(&self) -> Result<Runs> {
        Runs::of(Some(&self.definition.name))
    }

    /// Lets a run of this flow go on: what had completed is taken from the store.
    ///
    /// # Errors
    /// As [`Flow::run`]; when there is no such run, or it is running.
    pub fn resume(&self, id: &str) -> Result<Run<Out>> {
        self.definition.resume(id).map(Run::of)
    }
}

impl<Args: Parameter, Out> Flow<Args, Out> {
    /// Runs it, and shows it meanwhile. `args` is a tuple; one parameter stands alone, and `()` is none.
    ///
    /// Called in another flow, it is a run of its own that belongs to that one.
    ///
    /// # Errors
    /// When it fails. [`Flow::last`] is the run then: it knows what completed, and can go on.
    pub fn run<In: IntoArgs<Args>>(&self, args: In) -> Result<Run<Out>> {
        let parameters = parameters(&args.into_args())?;
        self.definition.run(&parameters).map(Run::of)
    }

    /// Runs it in the background: the run says how it is, and `result` waits for it.
    ///
    /// # Errors
    /// When it could not be begun.
    pub fn start<In: IntoArgs<Args>>(&self, args: In) -> Result<Run<Out>> {
        let parameters = parameters(&args.into_args())?;
        self.definition.start(parameters).map(Run::of)
    }
}

pub(crate) fn parameters<Args: Parameter>(args: &Args) -> Result<Parameters> {
    let bytes = postcard::to_stdvec(args).map_err(|error| unwritable(&error.to_string()))?;
    let json = shown(serde_json::to_value(args).map_err(|error| error.to_string()));
    Ok(Parameters { bytes, json })
}

fn unwritable(why: &str) -> Error {
    Error::Serialisation(Message::new(format!(
        "the parameters cannot be turned into bytes: {why}"
    )))
}

fn read<Args: Parameter>(bytes: &[u8]) -> std::result::Result<Args, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

fn from_json<Args: Parameter>(json: &str) -> std::result::Result<Parameters, String> {
    // One parameter stands alone, here too.
    let parsed = serde_json::from_str::<Args>(json)
        .or_else(|error| serde_json::from_str::<Args>(&format!("[{json}]")).map_err(|_| error));
    let args = parsed.map_err(|error| in_words(&error.to_string()))?;
    parameters(&args).map_err(|error| error.to_string())
}

/// What serde says of lists of another length is about tuples.
fn in_words(error: &str) -> String {
    let n = error
        .split_once("expected a tuple of size ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    match n {
        Some(n) => format!("it takes {}", skep_render::plural(n, "parameter")),
        None => error.to_string(),
    }
}

/// As people read it: one parameter stands alone.
fn shown(json: std::result::Result<serde_json::Value, String>) -> String {
    match json {
        Ok(serde_json::Value::Array(mut all)) if all.len() == 1 => all.remove(0).to_string(),
        Ok(serde_json::Value::Array(all)) if all.is_empty() => String::new(),
        Ok(serde_json::Value::Null) => String::new(),
        Ok(value) => value.to_string(),
        Err(error) => format!("\"cannot be shown: {error}\""),
    }
}

/// The flow, and its newest runs.
impl<Args, Out> Rich for Flow<Args, Out> {
    fn bundle(&self) -> Bundle {
        const MOST_SHOWN: usize = 5;
        let runs = match self.history() {
            Ok(runs) => runs,
            Err(error) => return Bundle::text(format!("Flow {}: {error}", self.name())),
        };
        let mut card = Card::new(format!("Flow {}", self.name()))
            .fact("gives", skep_render::short_type(self.definition.gives))
            .fact("runs", runs.len().to_string());
        if let Some(schedule) = &self.definition.schedule {
            card = card.fact("schedule", schedule.to_string());
        }
        let rows = runs.rows().iter().rev().take(MOST_SHOWN).map(|row| {
            [
                short(&row.id).to_string(),
                row.parameters.clone(),
                row.state.to_string(),
                row.reason.clone(),
            ]
        });
        card.table(["run", "parameters", "state", "reason"], rows)
            .bundle()
    }
}
