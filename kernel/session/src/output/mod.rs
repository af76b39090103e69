//! What a session shows: in order, at a bearable rate, with progress.

pub(crate) mod content;
pub(crate) mod notes;
pub(crate) mod progress;
pub(crate) mod serial;
pub(crate) mod throttle;
pub(crate) mod ticker;
