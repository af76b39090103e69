//! What happened, as data: to one task, to all, to the workers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_render::{Bundle, Rich, bytes, card::Card, duration, plural, stream};

use crate::model::{
    event::Reason,
    ids::{FunctionId, Key, WorkerId},
};

/// A wait in the queue that is worth a word.
const LONG_WAIT_US: u64 = 20_000;

/// All tasks of a function together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    pub function: String,
    pub n_done: u64,
    pub n_failed: u64,
    /// Runs that were lost with a worker, or failed and were tried again.
    pub n_repeated: u64,
    pub total_us: u64,
    pub longest_us: u64,
    /// Bytes of all results together.
    pub n_bytes: u64,
    /// Rows of all results together, of those that are tables.
    pub n_rows: u64,
    /// Bytes of inputs that came from other workers.
    pub moved_bytes: u64,
}

/// When a worker was there. Times are microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Life {
    pub worker: String,
    pub pid: u32,
    pub joined_us: u64,
    /// 0 if it is still there.
    pub left_us: u64,
    pub why: String,
}

/// A worker's memory at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub at_us: u64,
    pub worker: WorkerId,
    pub resident: u64,
    pub spilled: u64,
}

/// Everything that happened on a cluster, for reports and traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The newest tasks that ran, at most 100,000, oldest first.
    pub bars: Vec<(Bar, u32)>,
    /// Of functions; `bars` name them by their place here.
    pub totals: Vec<Total>,
    pub workers: Vec<Life>,
    pub memory: Vec<Sample>,
    pub losses: Vec<String>,
}

/// A task stream shows this many tasks: more bars could not be told apart.
const MOST_STREAMED: usize = 4_000;

impl History {
    /// The newest tasks, as a task stream draws them.
    pub fn newest(&self) -> Vec<stream::Bar> {
        let skipped = self.bars.len().saturating_sub(MOST_STREAMED);
        let name = |function: u32| {
            self.totals
                .get(function as usize)
                .map_or("", |total| &total.function)
        };
        self.bars
            .iter()
            .skip(skipped)
            .map(|(bar, function)| stream::Bar {
                worker: bar.worker.to_string(),
                name: name(*function).to_string(),
                start_us: bar.start_us,
                duration_us: bar.duration_us,
            })
            .collect()
    }
}

/// One time that a task was given to a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub assigned_us: u64,
    pub worker: Option<WorkerId>,
    pub why: Reason,
    /// Bytes that had to come from other workers.
    pub moved_bytes: u64,
    /// By the worker's clock.
    pub start_us: u64,
    pub duration_us: u64,
    pub ended_us: u64,
    pub end: End,
    pub n_bytes: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    #[default]
    Open,
    Done,
    Failed,
    Cancelled,
    /// Its worker died, or an input was lost.
    Lost,
    /// Its worker had not begun it, and another was idle.
    Stolen,
}

/// A bar of the task stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub key: Key,
    pub worker: WorkerId,
    pub function: FunctionId,
    pub start_us: u64,
    pub duration_us: u64,
}

/// The stages of one task. Times are microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journey {
    pub name: String,
    pub key: String,
    pub tags: Vec<String>,
    pub submitted_us: u64,
    /// When its inputs were there.
    pub ready_us: u64,
    /// Why it failed, if it did.
    pub why_failed: String,
    /// Of its value, if that is a table.
    pub n_rows: Option<u64>,
    pub attempts: Vec<Attempt>,
    /// When a program fetched the value; 0 if none did.
    pub gathered_us: u64,
    /// When the value was let go; 0 if it is still held.
    pub freed_us: u64,
}

impl Journey {
    fn rows(&self) -> Vec<[String; 3]> {
        let zero = self.submitted_us;
        let at = |us: u64| duration(Duration::from_micros(us.saturating_sub(zero)));
        let took = |us: u64| duration(Duration::from_micros(us));
        let tags = match self.tags.as_slice() {
            [] => String::new(),
            tags => format!("tagged `{}`", tags.join("`, `")),
        };
        let mut rows = vec![["submitted".to_string(), at(zero), tags]];
        if self.ready_us > self.submitted_us {
            rows.push([
                "inputs ready".to_string(),
                at(self.ready_us),
                format!("waited {} for the tasks it needs", took(self.ready_us - zero)),
            ]);
        }
        for (i, attempt) in self.attempts.iter().enumerate() {
            let is_last = i + 1 == self.attempts.len();
            let worker = attempt
                .worker
                .map_or_else(|| "no worker".to_string(), |worker| worker.to_string());
            if attempt.worker.is_some() {
                let moved = if attempt.moved_bytes > 0 {
                    format!("; {} to move there", bytes(attempt.moved_bytes))
                } else {
                    String::new()
                };
                let queued = attempt.assigned_us.saturating_sub(self.ready_us);
                // Only the first time: later attempts waited for other things.
                let wait = if queued > LONG_WAIT_US && rows.iter().all(|row| row[0] != "assigned") {
                    format!(
                        "; before that {} in the queue, for its code to be compiled at release speed or for room on a worker",
                        took(queued)
                    )
                } else {
                    String::new()
                };
                rows.push([
                    "assigned".to_string(),
                    at(attempt.assigned_us),
                    format!("to {worker}: {}{moved}{wait}", attempt.why),
                ]);
            }
            if attempt.end == End::Done {
                let wait = attempt.start_us.saturating_sub(attempt.assigned_us);
                rows.push([
                    "started".to_string(),
                    at(attempt.start_us),
                    format!(
                        "after {} on the way, for inputs, and in the worker's queue",
                        took(wait)
                    ),
                ]);
            }
            let ended = match attempt.end {
                End::Open => continue,
                End::Done => [
                    "done".to_string(),
                    at(attempt.ended_us),
                    format!(
                        "ran {}; {}{} kept on {worker}",
                        took(attempt.duration_us),
                        self.n_rows
                            .map_or_else(String::new, |n| format!("{}, ", plural(n as usize, "row"))),
                        bytes(attempt.n_bytes)
                    ),
                ],
                End::Failed => [
                    "failed".to_string(),
                    at(attempt.ended_us),
                    if self.why_failed.is_empty() || !is_last {
                        format!("on {worker}")
                    } else {
                        format!("on {worker}: {}", self.why_failed)
                    },
                ],
                End::Cancelled => [
                    "cancelled".to_string(),
                    at(attempt.ended_us),
                    "nobody waits for it, or cancel was called".to_string(),
                ],
                End::Stolen => [
                    "taken back".to_string(),
                    at(attempt.ended_us),
                    format!("{worker} had not begun it, and another worker was idle"),
                ],
                End::Lost => [
                    "lost".to_string(),
                    at(attempt.ended_us),
                    format!("{worker} died, or an input was lost with another; it runs again"),
                ],
            };
            rows.push(ended);
        }
        if self.gathered_us > 0 {
            rows.push([
                "gathered".to_string(),
                at(self.gathered_us),
                "the value was fetched by the program".to_string(),
            ]);
        }
        if self.freed_us > 0 {
            rows.push([
                "freed".to_string(),
                at(self.freed_us),
                "no handle and no task needed the value any more".to_string(),
            ]);
        }
        rows
    }

    /// Whether it is not over, as far as this knows.
    pub(crate) fn is_open(&self) -> bool {
        self.attempts.last().is_none_or(|last| last.end == End::Open)
    }

    /// What its last attempt has come to.
    fn state(&self) -> &'static str {
        match self.attempts.last().map(|attempt| attempt.end) {
            Some(End::Done) => "done",
            Some(End::Failed | End::Cancelled) => "failed",
            Some(End::Open) => "running",
            Some(End::Lost | End::Stolen) | None => "pending",
        }
    }
}

impl Rich for Journey {
    fn bundle(&self) -> Bundle {
        let n = self.attempts.len();
        let title = format!(
            "Journey of {} ({}): {}{}",
            self.name,
            self.key,
            self.state(),
            if n > 1 {
                format!(", {n} attempts")
            } else {
                String::new()
            }
        );
        Card::new(title)
            .state(self.state())
            .table(["stage", "at", "what happened"], self.rows())
            .bundle()
    }
}

/// An answer to "why does this task not run?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub function: String,
    pub key: String,
    /// One word: waiting, queued, assigned, done, failed, freed.
    pub state: String,
    /// The reasons, most important first.
    pub reasons: Vec<String>,
}

/// A line of the log: what a task printed, or what befell it or its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Since 1970, in microseconds.
    pub at_us: u64,
    pub worker: Option<WorkerId>,
    pub task: Option<Key>,
    pub function: Option<FunctionId>,
    /// Of the function.
    pub name: String,
    pub kind: LogKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogKind {
    Stdout,
    Stderr,
    /// A task's last error.
    Failed,
    /// A worker came, went, or could not go on.
    Worker,
}
