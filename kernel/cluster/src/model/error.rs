use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use skep_render::Message;

use crate::model::ids::{Key, WorkerId};

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    pub kind: TaskErrorKind,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The function's name.
    pub function: String,
    /// Source file, line and column, where known.
    pub at: Option<(String, u32, u32)>,
    /// The worker where it happened, where there was one.
    pub worker: Option<String>,
    /// The words that the task carried; see [`Cluster::tag`](crate::Cluster::tag).
    pub tags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskErrorKind {
    /// The function panicked.
    Panicked,
    /// The function returned an error.
    Failed,
    /// The workers that ran it died, time after time.
    KilledWorkers,
    /// Its arguments or result could not be turned into bytes, or back.
    Serialisation,
    /// Its code could not be loaded.
    Code,
    Cancelled,
    /// An actor whose worker is gone.
    ActorLost,
    /// It took longer than it was allowed to.
    TimedOut,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            TaskErrorKind::Panicked => "panicked",
            TaskErrorKind::Failed => "failed",
            TaskErrorKind::KilledWorkers => "was given up",
            TaskErrorKind::Serialisation => "has a value that cannot travel",
            TaskErrorKind::Code => "could not be loaded",
            TaskErrorKind::Cancelled => "was cancelled",
            TaskErrorKind::ActorLost => "is an actor, and gone",
            TaskErrorKind::TimedOut => "took too long",
        };
        write!(f, "task `{}`", self.function)?;
        if !self.tags.is_empty() {
            write!(f, " ({})", self.tags.join(", "))?;
        }
        write!(f, " {what}")?;
        if let Some((file, line, column)) = &self.at {
            write!(f, " at {file}:{line}:{column}")?;
        }
        if let Some(worker) = &self.worker {
            write!(f, " on {worker}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// What can go wrong between a program and its cluster.
#[derive(Clone)]
pub enum Error {
    /// A task failed; look at the function.
    Task(Arc<TaskError>),
    /// The scheduler or a worker cannot be reached; start the cluster again.
    Disconnected(String),
    /// No cluster was started yet.
    NoCluster,
    /// The cluster could not be started as asked.
    Start(Message),
    /// A value could not be turned into bytes, or back.
    Serialisation(Message),
    /// A file could not be written.
    File(Message),
    /// A published name is not known, or stands for something else.
    Name(Message),
    /// Arrays whose shapes do not go together.
    Shape(Message),
    /// An argument with which nothing can be done.
    Argument(Message),
    /// It took longer than it was allowed to.
    TimedOut(Message),
    /// This engine does not do that.
    Unsupported(Message),
    /// The cell was interrupted while it waited.
    Interrupted,
    /// What went wrong in the program's own functions: another library's error, or words.
    Other(Message),
}

impl Error {
    /// What happened, and what to do about it.
    pub fn message(&self) -> Message {
        match self {
            Error::Task(task) => Message {
                what: TaskError {
                    hint: None,
                    ..(**task).clone()
                }
                .to_string(),
                hint: task.hint.clone(),
            },
            Error::Disconnected(why) => Message::new(format!("the cluster is not reachable: {why}"))
                .hint("run `Cluster::local().start()?` again"),
            Error::NoCluster => Message::new("there is no cluster yet")
                .hint("run `let cluster = Cluster::local().start()?;` first"),
            Error::Start(why) => Message {
                what: format!("the cluster could not be started: {}", why.what),
                hint: why.hint.clone(),
            },
            Error::Serialisation(why)
            | Error::File(why)
            | Error::Name(why)
            | Error::Shape(why)
            | Error::Argument(why)
            | Error::TimedOut(why)
            | Error::Unsupported(why)
            | Error::Other(why) => why.clone(),
            Error::Interrupted => Message::new("interrupted"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// As people read it: this is what `unwrap` and a value that nobody took apart show.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// So that a function whose error this is may read files and numbers with `?`, and fail in its own words.
macro_rules! from_others {
    ($($other:ty),+) => {
        $(impl From<$other> for Error {
            fn from(error: $other) -> Error {
                Error::Other(Message::new(error.to_string()))
            }
        })+
    };
}

from_others!(
    &str,
    String,
    serde_json::Error,
    std::char::ParseCharError,
    std::env::VarError,
    std::fmt::Error,
    std::io::Error,
    std::net::AddrParseError,
    std::num::ParseFloatError,
    std::num::ParseIntError,
    std::num::TryFromIntError,
    std::str::ParseBoolError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::time::SystemTimeError
);

impl Error {
    pub(crate) fn start(why: impl Into<Message>) -> Error {
        Error::Start(why.into())
    }

    pub(crate) fn serialisation(why: impl Into<Message>) -> Error {
        Error::Serialisation(why.into())
    }

    pub(crate) fn decode(key: Key, error: &impl fmt::Display) -> Error {
        Error::Serialisation(
            Message::new(format!("the value {key} could not be read back: {error}"))
                .hint("was its type redefined? Run the cell that makes it again"),
        )
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl TaskError {
    /// An error that knows neither its function nor its place yet.
    pub(crate) fn new(kind: TaskErrorKind, message: impl Into<Message>) -> TaskError {
        let message = message.into();
        TaskError {
            kind,
            message: message.what,
            hint: message.hint,
            function: String::new(),
            at: None,
            worker: None,
            tags: Vec::new(),
        }
    }

    /// The error of everything that needs an actor whose worker is gone.
    pub(crate) fn actor_lost(message: impl Into<Message>) -> TaskError {
        TaskError::new(TaskErrorKind::ActorLost, message)
    }

    /// As [`TaskError::actor_lost`], with the worker.
    pub(crate) fn actor_lost_with(function: String, worker: WorkerId, cause: &str) -> TaskError {
        let message = Message::new(format!("its worker is gone: {cause}; what it knew is lost"))
            .hint("make it again with `cluster.actor(…)`");
        TaskError {
            function,
            worker: Some(worker.to_string()),
            ..TaskError::actor_lost(message)
        }
    }
}

#[test]
fn functions_take_the_errors_of_others() {
    fn read(path: &str) -> Result<i64> {
        let number = std::fs::read_to_string(path)?.trim().parse()?;
        if number < 0 {
            Err("too small".into())
        } else {
            Ok(number)
        }
    }
    let file = std::env::temp_dir().join(format!("skep-error-{}", std::process::id()));
    let path = file.display().to_string();
    assert!(read(&path).unwrap_err().to_string().contains("No such file"));
    for (text, said) in [("x", "invalid digit found in string"), ("-1", "too small")] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), said);
    }
    std::fs::remove_file(&file).unwrap();
}
