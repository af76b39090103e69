//! Everything that happened on a cluster, as files.

use std::{fs, path::Path};

use skep_render::Message;

use crate::{
    api::cluster::Cluster,
    model::{
        error::{Error, Result},
        history::Journey,
        ids::Key,
    },
    observe::report::{page, trace},
};

impl Cluster {
    /// Writes everything that happened so far into one HTML file that needs nothing else: tasks by function,
    /// the task stream, workers with their ends, memory over time.
    ///
    /// # Errors
    /// When the scheduler is gone, or the file cannot be written.
    pub fn report(&self, path: impl AsRef<Path>) -> Result<()> {
        write(path.as_ref(), &page(&self.client.history()?))
    }

    /// The journeys of tasks, in the order of their keys; `None` for those that the scheduler does not know (any more).
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn journeys(&self, keys: &[Key]) -> Result<Vec<Option<Journey>>> {
        keys.iter().map(|key| self.client.journey(*key)).collect()
    }

    /// Writes the newest tasks as a trace, which `chrome://tracing` and <https://ui.perfetto.dev> show: a row
    /// for each thread of each worker.
    ///
    /// # Errors
    /// As [`Cluster::report`].
    pub fn trace(&self, path: impl AsRef<Path>) -> Result<()> {
        write(path.as_ref(), &trace(&self.client.history()?))
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let why = |error: std::io::Error| {
        Error::File(
            Message::new(format!("{} could not be written: {error}", path.display()))
                .hint("does its folder exist, and is there room?"),
        )
    };
    fs::write(path, text).map_err(why)
}
