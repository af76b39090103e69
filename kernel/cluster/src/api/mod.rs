//! What a program holds: clusters, handles, delayed calls, actors.

pub(crate) mod actor;
pub mod awaiting;
pub(crate) mod builder;
pub(crate) mod call;
pub mod chaos;
pub(crate) mod cluster;
pub(crate) mod compute;
pub(crate) mod connect;
pub mod coordination;
pub(crate) mod dashboard;
pub(crate) mod delayed;
pub(crate) mod futures;
mod history;
pub(crate) mod logs;
pub(crate) mod nested;
mod ops;
pub(crate) mod parts;
pub(crate) mod performance;
pub(crate) mod pool;
mod published;
pub(crate) mod remote;
mod replay;
mod replicate;
pub(crate) mod scope;
pub(crate) mod show;
pub(crate) mod task_run;
pub(crate) mod what_if;
