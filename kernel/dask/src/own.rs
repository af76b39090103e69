//! A Dask cluster on this machine.

use skep_cluster::{Cluster, Error, Result};
use skep_render::{Message, plural};

/// Clusters of Dask's that need no scheduler elsewhere.
pub trait OnDask {
    /// A Dask cluster of this notebook's own, on this machine: for trying out what a real one is like. It ends with the
    /// notebook, with [`Cluster::shutdown`], and when its last handle is gone.
    ///
    /// ```no_run
    /// # use skep_dask::OnDask;
    /// # use skep_cluster::Cluster;
    /// let cluster = Cluster::dask().workers(2).start()?;
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    fn dask() -> DaskBuilder;
}

impl OnDask for Cluster {
    fn dask() -> DaskBuilder {
        DaskBuilder::default()
    }
}

/// What a Dask cluster on this machine shall be; see [`OnDask::dask`].
#[derive(Clone, Debug, Default)]
#[must_use = "a cluster starts with `.start()?`"]
pub struct DaskBuilder {
    workers: Option<usize>,
    threads: Option<usize>,
}

impl DaskBuilder {
    /// Worker processes, at least one. Without it one for each core.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// Threads of each worker: tasks it runs at once.
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n);
        self
    }

    /// Starts Dask's scheduler and its workers, and connects to them.
    ///
    /// # Errors
    /// When numbers make no sense, there is no Python with Dask, or the workers do not come up.
    pub fn start(self) -> Result<Cluster> {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.workers.unwrap_or(n_cores);
        let threads = self.threads.unwrap_or_else(|| (n_cores / workers.max(1)).max(1));
        if !(1..=64).contains(&workers) || !(1..=64).contains(&threads) {
            return Err(Error::Start(
                Message::new(format!(
                    "{} of {}",
                    plural(workers, "Dask worker"),
                    plural(threads, "thread")
                ))
                .hint("ask for 1 to 64 of each; each worker is a Python process of 60 MB and more"),
            ));
        }
        Cluster::connect(&format!("dask://?workers={workers}&threads={threads}"))
    }
}
