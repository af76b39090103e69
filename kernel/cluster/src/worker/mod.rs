//! A worker: its decisions as a pure machine, the threads that run tasks, and the server around them.

pub(crate) mod actors;
pub(crate) mod capture;
pub mod foreign;
pub mod machine;
pub mod memory;
pub mod options;
pub(crate) mod pool;
pub(crate) mod process;
pub mod server;
pub(crate) mod simulated;
pub(crate) mod writer;
