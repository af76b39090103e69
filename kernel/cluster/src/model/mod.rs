//! What a cluster is about, as plain data: names of things, tasks, events, errors. No I/O, no threads,
//! nothing from above.

pub mod cluster;
pub mod coordination;
pub mod error;
pub mod event;
pub mod history;
pub mod ids;
pub mod recording;
pub mod stage;
pub mod task;
