//! The flows of this process, by their names, and what is said of their runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use skep_cluster::{Error, Result};
use skep_render::Message;

use crate::{
    schedule::Schedule,
    state::State,
    store::{RunRow, short},
};

/// What can be done with a flow of which only the name is known.
pub(crate) trait AnyFlow: Send + Sync {
    /// Lets a run of it go on.
    fn resume(&self, run: &RunRow) -> Result<()>;
    /// Runs it with parameters as JSON, and gives the id of the run.
    fn run_json(&self, parameters: &str) -> Result<String>;
    fn schedule(&self) -> Option<&Schedule>;
}

/// The flows of this process, by name: the newest of each.
static FLOWS: Mutex<BTreeMap<String, Arc<dyn AnyFlow>>> = Mutex::new(BTreeMap::new());

pub(crate) fn flow_named(name: &str) -> Result<Arc<dyn AnyFlow>> {
    let flows = FLOWS.lock().unwrap_or_else(PoisonError::into_inner);
    flows.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = flows.keys().map(String::as_str).collect();
        Error::Argument(
            Message::new(format!("the flow `{name}` is not defined here")).hint(if known.is_empty() {
                format!("run the cell with `Flow::new(\"{name}\", …)` first")
            } else {
                format!(
                    "run the cell with `Flow::new(\"{name}\", …)` first; here are: {}",
                    known.join(", ")
                )
            }),
        )
    })
}

pub(crate) fn all_flows() -> Vec<(String, Arc<dyn AnyFlow>)> {
    let flows = FLOWS.lock().unwrap_or_else(PoisonError::into_inner);
    flows
        .iter()
        .map(|(name, flow)| (name.clone(), flow.clone()))
        .collect()
}

/// The newest flow of a name takes the place of those before it.
pub(crate) fn register(name: &str, flow: Arc<dyn AnyFlow>) {
    FLOWS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(name.to_string(), flow);
}

/// Before the name of what a paused run waits for.
pub(crate) const WAITS: &str = "it waits for approval: ";

pub(crate) fn paused(name: &str) -> Message {
    Message::new(format!("{WAITS}{name}"))
        .hint("`run.approve()?` lets it go on, `run.refuse()?` ends it; `flow.last()?` is the run")
}

/// The error of a run that ended so, for who asks later.
pub(crate) fn error_of(row: &RunRow) -> Error {
    let hint = match row.state {
        State::Paused => "`run.approve()?` lets it go on",
        State::Running | State::Pending => "`run.wait()?` waits for it",
        _ => "`run.resume()?` does what had not completed",
    };
    let what = match row.state {
        State::Running | State::Pending => "has not ended",
        State::Paused => "is paused",
        State::Crashed => "crashed",
        State::Cancelled => "was cancelled",
        _ => "failed",
    };
    let reason = match row.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    Error::Argument(
        Message::new(format!(
            "the run {} of `{}` {what}{reason}",
            short(&row.id),
            row.flow
        ))
        .hint(hint),
    )
}
