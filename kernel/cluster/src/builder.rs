//! How a local cluster is asked for, and where it comes from: the notebook that hosts this program, or the program itself.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Cluster, Error, Result,
    client::{self, Client},
    message::{ClusterSpec, Resource},
    program,
};

/// A worker cannot do with less.
const LEAST_MEMORY: u64 = 64 << 20;

/// What a local cluster shall be; see [`Cluster::local`].
#[derive(Clone, Debug, Default)]
#[must_use = "a cluster starts with `.start()?`"]
pub struct ClusterBuilder {
    workers: Option<usize>,
    threads: Option<usize>,
    memory_limit: Option<u64>,
    spill_limit: Option<u64>,
    resources: Vec<Resource>,
    idle_timeout: Option<Duration>,
}

impl ClusterBuilder {
    /// Worker processes, at least one.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// Threads of each worker: tasks it runs at once.
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n);
        self
    }

    /// Memory of each worker, as bytes or as text like `"2 GB"`. A worker that goes over it is restarted, and says so.
    pub fn memory_limit(mut self, limit: impl IntoBytes) -> Self {
        self.memory_limit = Some(limit.into_bytes());
        self
    }

    /// What each worker may write to disk of values that its memory has no room for. Without it the disk is the limit.
    pub fn spill_limit(mut self, limit: impl IntoBytes) -> Self {
        self.spill_limit = Some(limit.into_bytes());
        self
    }

    /// Something that each worker has a number of, by any name. Tasks ask for it with [`Cluster::resource`], and run only
    /// where there is enough left.
    pub fn resource(mut self, name: &str, amount: u32) -> Self {
        self.resources.retain(|resource| resource.name != name);
        self.resources.push(Resource { name: name.to_string(), amount });
        self.resources.sort();
        self
    }

    /// Workers that have had nothing to do for this long, and hold nothing, end; the next task starts them again.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.idle_timeout = Some(after);
        self
    }

    /// Starts the workers. Run again with the same numbers, it finds the cluster as it is.
    ///
    /// # Errors
    /// When numbers make no sense, or the workers do not come up.
    pub fn start(self) -> Result<Cluster> {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.workers.unwrap_or(n_cores);
        let threads = self.threads.unwrap_or_else(|| (n_cores / workers.max(1)).max(1));
        if workers == 0 || threads == 0 || workers > 1024 || threads > 1024 {
            return Err(Error::Start(format!("{workers} workers of {threads} threads\nhint: ask for 1 to 1024 of each")));
        }
        let memory_limit = match self.memory_limit {
            Some(u64::MAX) => return Err(Error::Start("the memory limit is no size\nhint: write it like `\"512 MB\"` or `\"2 GiB\"`".into())),
            Some(limit) if limit < LEAST_MEMORY => return Err(Error::Start("a worker needs a memory limit of at least 64 MiB".into())),
            limit => limit.unwrap_or(0),
        };
        let spill_limit = match self.spill_limit {
            Some(u64::MAX) => return Err(Error::Start("the spill limit is no size\nhint: write it like `\"10 GB\"`".into())),
            limit => limit.unwrap_or(0),
        };
        if let Some(resource) = self.resources.iter().find(|resource| resource.name.is_empty() || resource.name.contains(['=', '\u{1f}'])) {
            return Err(Error::Start(format!("`{}` is no name of a resource\nhint: a word like `gpu`", resource.name)));
        }
        let spec = ClusterSpec {
            workers: workers as u32,
            threads: threads as u32,
            memory_limit,
            resources: self.resources,
            idle_timeout_us: self.idle_timeout.map_or(0, |after| after.as_micros() as u64),
            spill_limit,
        };
        let socket = scheduler_socket()?;
        let connect = |socket: &Path| Client::connect(socket).map_err(|error| Error::Disconnected(error.to_string()));
        let client = client::current().map_or_else(|| connect(&socket), Ok)?;
        client.launch(spec.clone())?;
        client::set_current(client.clone());
        Ok(Cluster::of(client, spec))
    }
}

/// The hosting notebook says where its scheduler is; a worker's tasks are told by their host; a plain program has its own.
pub(crate) fn scheduler_socket() -> Result<PathBuf> {
    match std::env::var_os("SKEP_RUN") {
        Some(folder) => Ok(Path::new(&folder).join("scheduler.sock")),
        None => program::scheduler_socket().map_err(|error| Error::Start(error.to_string())),
    }
}

/// A size in bytes, or as text with a unit.
pub trait IntoBytes {
    #[doc(hidden)]
    fn into_bytes(self) -> u64;
}

impl IntoBytes for u64 {
    fn into_bytes(self) -> u64 {
        self
    }
}

impl IntoBytes for i32 {
    fn into_bytes(self) -> u64 {
        u64::try_from(self).unwrap_or(0)
    }
}

impl IntoBytes for &str {
    /// `u64::MAX` for what cannot be read; `start` refuses it.
    fn into_bytes(self) -> u64 {
        let text = self.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return u64::MAX,
        };
        number.parse::<f64>().map_or(u64::MAX, |n| (n * factor) as u64)
    }
}

#[test]
fn sizes_are_read_with_units() {
    for (text, expect) in [("512", 512), ("2 GB", 2_000_000_000), ("1.5GiB", 1_610_612_736), ("x", u64::MAX), ("3 parsecs", u64::MAX)] {
        assert_eq!(text.into_bytes(), expect, "{text}");
    }
}
