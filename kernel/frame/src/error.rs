use std::fmt;

use polars::prelude::PolarsError;
use skep_render::Message;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a frame.
#[derive(Clone)]
pub enum Error {
    /// Files that are not there, cannot be read, or do not fit together.
    Source(Message),
    /// Names or types that do not fit the schema; found before anything runs.
    Schema(Message),
    /// An operation that frames do not have yet.
    Unsupported(Message),
    /// While it ran on the cluster.
    Run(skep_cluster::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Source(text) | Error::Schema(text) | Error::Unsupported(text) => text.fmt(f),
            Error::Run(error) => error.fmt(f),
        }
    }
}

/// As people read it, like that of clusters: `unwrap` and a value that nobody took apart show this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<skep_cluster::Error> for Error {
    fn from(error: skep_cluster::Error) -> Self {
        Error::Run(error)
    }
}

/// So that a function whose error is that of clusters may work with frames.
impl From<Error> for skep_cluster::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Run(error) => error,
            Error::Source(why) | Error::Schema(why) | Error::Unsupported(why) => {
                skep_cluster::Error::Other(why)
            }
        }
    }
}

impl Error {
    pub(crate) fn schema(operation: &str, error: &PolarsError) -> Error {
        // Polars appends the plan that it could not resolve, which says nothing to who wrote one step.
        let text = error.to_string();
        let text = text.split("\n\nResolved plan").next().unwrap_or(&text);
        Error::Schema(
            Message::new(format!("`{operation}`: {text}"))
                .hint(if text.contains("unable to find column") {
                    "the frame itself shows its columns; text to compare with is `lit(\"…\")`, since a bare one names a column"
                } else {
                    "the frame's columns and types are shown by the frame itself"
                }),
        )
    }
}
