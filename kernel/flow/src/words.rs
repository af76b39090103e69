//! What is said of runs that have not completed.

use skep_cluster::Error;
use skep_render::Message;

use crate::{
    state::State,
    store::{RunRow, short},
};

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

/// The run of a flow that another one called goes on with that one.
pub(crate) fn run_as_argument(row: &RunRow, parent: &str) -> Error {
    Error::Argument(
        Message::new(format!(
            "the run {} of `{}` belongs to the run {}",
            short(&row.id),
            row.flow,
            short(parent)
        ))
        .hint(format!(
            "`Flow::run_of(\"{}\")?.resume()?` lets both go on",
            short(parent)
        )),
    )
}
