//! The states of flow runs and task runs, by Prefect's names.

use std::fmt;

/// Where a run of a flow, or of one of its tasks, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It will begin at a time that has not come.
    Scheduled,
    /// It waits: for inputs, or for room.
    Pending,
    Running,
    /// It failed, and will run again.
    AwaitingRetry,
    /// Its value was there from an earlier run, so that it did not run.
    Cached,
    Completed,
    /// Its function failed, and it has no retries left.
    Failed,
    /// What it ran on was lost: a worker, or the whole process.
    Crashed,
    /// It was stopped, or never ran since something that it needs failed.
    Cancelled,
    /// It waits for somebody's approval.
    Paused,
}

impl State {
    pub const ALL: [State; 10] = [
        State::Scheduled,
        State::Pending,
        State::Running,
        State::AwaitingRetry,
        State::Cached,
        State::Completed,
        State::Failed,
        State::Crashed,
        State::Cancelled,
        State::Paused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::Scheduled => "Scheduled",
            State::Pending => "Pending",
            State::Running => "Running",
            State::AwaitingRetry => "AwaitingRetry",
            State::Cached => "Cached",
            State::Completed => "Completed",
            State::Failed => "Failed",
            State::Crashed => "Crashed",
            State::Cancelled => "Cancelled",
            State::Paused => "Paused",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Nothing comes after it by itself.
    pub fn is_final(self) -> bool {
        self.is_good() || matches!(self, State::Failed | State::Crashed | State::Cancelled)
    }

    /// It goes on by itself, for as long as its process lives.
    pub fn is_open(self) -> bool {
        matches!(self, State::Pending | State::Running | State::AwaitingRetry)
    }

    /// Its value is there.
    pub fn is_good(self) -> bool {
        matches!(self, State::Cached | State::Completed)
    }

    /// As graphs and their colours call it: `pending`, `running`, `cached`, `done` or `failed`.
    pub fn colour(self) -> &'static str {
        match self {
            State::Scheduled | State::Pending | State::Paused | State::Cancelled => "pending",
            State::Running | State::AwaitingRetry => "running",
            State::Cached => "cached",
            State::Completed => "done",
            State::Failed | State::Crashed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
