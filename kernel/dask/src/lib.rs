//! Dask as an engine: the same program on workers that a Dask scheduler has, on other machines too.
//!
//! From the bottom up, each part knowing only those before it:
//!
//! | part | holds |
//! |---|---|
//! | `words` | what goes to the bridge and comes from it |
//! | `bridge` | the bridge: a Python process that is a client of Dask's |
//! | `code` | libraries of a notebook's cells, as they are made |
//! | `reader` | what the bridge says: answers, how tasks ended, and what happened |
//! | `engine` | the engine: orders for the bridge |
//! | `own` | a Dask cluster on this machine, for trying it out |
//!
//! Dask's workers get two things from here: `skep_worker.py`, a page of Python, and libraries by their content. Nothing has to be
//! installed there beside Dask itself.

use std::{io, path::PathBuf, sync::Arc};

use skep_cluster::{
    Result,
    engine::{Engine, Sink, register},
};
use tempfile::TempDir;

mod bridge;
mod code;
mod engine;
mod own;
mod reader;
mod words;

pub use own::{DaskBuilder, OnDask};

/// Makes `Cluster::connect("tcp://…")` find Dask.
pub fn init() {
    for scheme in ["tcp", "tls", "python", "dask"] {
        register(scheme, connect);
    }
}

/// A folder that goes with this process: in the notebook's own, which the notebook removes however this ends.
fn folder(prefix: &str) -> io::Result<TempDir> {
    let run = std::env::var_os("SKEP_RUN").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix(prefix).tempdir_in(run)
}

fn connect(address: &str, sink: Arc<dyn Sink>) -> Result<Arc<dyn Engine>> {
    engine::Dask::connect(address, sink)
}
