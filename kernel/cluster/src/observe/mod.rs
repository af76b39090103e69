//! What can be told from events: progress, the story of each task, reports.

pub mod progress;
pub(crate) mod report;
pub mod stories;
