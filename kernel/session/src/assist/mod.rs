//! What completion and docs stand on: the analyser, and an index that answers at once.

pub(crate) mod client;
pub(crate) mod members;
mod pages;
