//! What can be told from events: progress, the story of each task, reports.

mod archive;
pub(crate) mod logs;
pub mod progress;
pub(crate) mod report;
pub mod stories;
