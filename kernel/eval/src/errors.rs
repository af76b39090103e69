//! What a cell's body fails with: whatever `?` meets, and where.

use std::panic::Location as Caller;

use crate::wire::Location;

/// The error type of a cell's body: whatever `?` meets, with the place of the `?`.
pub struct Error {
    message: String,
    at: Location,
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Error {
    #[track_caller]
    fn from(error: E) -> Self {
        let error = error.into();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}\ncaused by: {text}");
            }
            source = cause.source();
        }
        Error {
            message,
            at: Caller::caller().into(),
        }
    }
}

/// The same for errors that `Error` does not take: those that borrow, and those that have `Debug` alone.
pub struct DebugError {
    message: String,
    at: Location,
}

impl<E: std::fmt::Debug> From<E> for DebugError {
    #[track_caller]
    fn from(error: E) -> Self {
        DebugError {
            message: format!("{error:?}"),
            at: Caller::caller().into(),
        }
    }
}

/// What a cell's body fails with.
pub trait Failure {
    fn into_parts(self) -> (String, Location);
}

impl Failure for Error {
    fn into_parts(self) -> (String, Location) {
        (self.message, self.at)
    }
}

impl Failure for DebugError {
    fn into_parts(self) -> (String, Location) {
        (self.message, self.at)
    }
}

impl From<&Caller<'_>> for Location {
    fn from(at: &Caller<'_>) -> Self {
        Location {
            file: at.file().to_string(),
            line: at.line(),
            column: at.column(),
        }
    }
}
