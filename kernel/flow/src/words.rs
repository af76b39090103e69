//! What is said of runs that have not completed.

use skep_cluster::Error;
use skep_render::Message;

use crate::{
    state::State,
    store::{RunRow, short},
};

/// Before the name of what a paused run waits for.
pub(crate) const WAITS: &str = "it waits for approval: ";

/// Behind the name of what somebody did not approve.
pub(crate) const REFUSED: &str = " was refused";

/// What can be done about a run that failed for this reason.
pub(crate) fn after_failure(reason: &str, run: &str) -> String {
    let run = short(run);
    if reason.contains(REFUSED) {
        return format!("`:flows {run}` shows the run; `flow.run(…)?` begins anew");
    }
    format!(
        "`:flows {run}` shows the run; `Flow::run_of(\"{run}\")?.resume()?` does what had not completed, with the functions that \
         its `Flow::new` was given: after a change of one, run that cell again first"
    )
}

/// The value of a run is of one type, and another one is asked for.
pub(crate) fn another_type(row: &RunRow, wanted: &str) -> Error {
    let hint = if wanted == "()" {
        "ask the flow's own runs: `flow.last()?`, `flow.run(…)?`"
    } else {
        "its function gave another type then: run it anew"
    };
    Error::Argument(
        Message::new(format!(
            "the run {} of `{}` gave a `{}`, not a `{}`",
            short(&row.id),
            row.flow,
            skep_render::short_type(&row.gives),
            skep_render::short_type(wanted)
        ))
        .hint(hint),
    )
}

pub(crate) fn paused(name: &str) -> Message {
    Message::new(format!("{WAITS}{name}")).hint(
        "`run.approve()?` lets it go on, `run.refuse()?` ends it; `skep flow approve FILE RUN` in a shell",
    )
}

/// The error of a run that ended so, for who asks later.
pub(crate) fn error_of(row: &RunRow) -> Error {
    let hint = match row.state {
        _ if row.reason.contains(REFUSED) => "`flow.run(…)?` begins anew",
        State::Paused => "`run.approve()?` lets it go on",
        state if state.is_open() => "`run.wait()?` waits for it, `run.cancel()?` stops it",
        _ => "`run.resume()?` does what had not completed",
    };
    let what = match row.state {
        state if state.is_open() => "has not ended",
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
