//! Completion, hover and docs by rust-analyzer, in a process of its own.
//!
//! The library is only the way to ask; the process is the binary `skep-assist`, built with the feature
//! `analyzer`. Nothing here is needed to run a cell: absent, slow or dead, it is left out of the answer.

pub mod wire;
