//! How a local cluster is asked for, and where it comes from: the notebook that hosts this program, or the
//! program itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use skep_render::Message;

use crate::{
    api::cluster::Cluster,
    engine::{
        Connect,
        client::{self, Client},
        local::Local,
    },
    host::program,
    model::{
        cluster::ClusterSpec,
        error::{Error, Result},
        task::Resource,
    },
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

    /// Memory of each worker, as bytes or as text like `"2 GB"`. A worker that goes over it is restarted, and
    /// says so.
    pub fn memory_limit(mut self, limit: impl IntoBytes) -> Self {
        self.memory_limit = Some(limit.into_bytes());
        self
    }

    /// What each worker may write to disk of values that its memory has no room for. Without it the disk is
    /// the limit.
    pub fn spill_limit(mut self, limit: impl IntoBytes) -> Self {
        self.spill_limit = Some(limit.into_bytes());
        self
    }

    /// Something that each worker has a number of, by any name. Tasks ask for it with [`Cluster::resource`],
    /// and run only where there is enough left.
    pub fn resource(mut self, name: &str, amount: u32) -> Self {
        self.resources.retain(|resource| resource.name != name);
        self.resources.push(Resource {
            name: name.to_string(),
            amount,
        });
        self.resources.sort();
        self
    }

    /// Workers that have had nothing to do for this long, and hold nothing, end; the next task starts them
    /// again.
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
            return Err(Error::Start(
                Message::new(format!("{workers} workers of {threads} threads"))
                    .hint("ask for 1 to 1024 of each"),
            ));
        }
        let memory_limit = match self.memory_limit {
            Some(u64::MAX) => {
                return Err(Error::Start(
                    Message::new("the memory limit is no size")
                        .hint("write it like `\"512 MB\"` or `\"2 GiB\"`"),
                ));
            }
            Some(limit) if limit < LEAST_MEMORY => {
                return Err(Error::Start(
                    "a worker needs a memory limit of at least 64 MiB".into(),
                ));
            }
            limit => limit.unwrap_or(0),
        };
        let spill_limit = match self.spill_limit {
            Some(u64::MAX) => {
                return Err(Error::Start(
                    Message::new("the spill limit is no size").hint("write it like `\"10 GB\"`"),
                ));
            }
            limit => limit.unwrap_or(0),
        };
        if let Some(resource) = self
            .resources
            .iter()
            .find(|resource| resource.name.is_empty() || resource.name.contains(['=', '\u{1f}']))
        {
            return Err(Error::Start(
                Message::new(format!("`{}` is no name of a resource", resource.name))
                    .hint("a word like `gpu`"),
            ));
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
        let connect = || connect(&socket).map_err(|error| Error::Disconnected(error.to_string()));
        let client = client::current().map_or_else(connect, Ok)?;
        client.workers()?.launch(spec.clone())?;
        client::set_current(client.clone());
        Ok(Cluster::of(client, spec))
    }
}

impl Cluster {
    /// A cluster of worker processes on this machine. By default one worker for each core, with one thread.
    pub fn local() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The cluster that was started last in this program; in a notebook also one that an earlier evaluation
    /// process started.
    ///
    /// # Errors
    /// When there is none.
    pub fn current() -> Result<Cluster> {
        let none = || Error::NoCluster;
        let known = client::current();
        let is_new = known.is_none();
        let client = match known {
            Some(client) => client,
            None => connect(&scheduler_socket().map_err(|_| none())?).map_err(|_| none())?,
        };
        let info = client.workers()?.info()?;
        let first = info.workers.first();
        if is_new {
            first.ok_or_else(none)?;
            client::set_current(client.clone());
        }
        let spec = ClusterSpec {
            workers: info.workers.len() as u32,
            threads: first.map_or(1, |w| w.threads),
            memory_limit: first.map_or(0, |w| w.memory_limit),
            ..ClusterSpec::default()
        };
        Ok(Cluster::of(client, spec))
    }

    /// A cluster of another engine than the local one; see [`crate::engine`].
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub fn with_engine(connect: Connect) -> Result<Cluster> {
        let client = Client::with_engine(connect).map_err(|error| Error::start(error.to_string()))?;
        client::set_current(client.clone());
        Ok(Cluster::of(client, ClusterSpec::default()))
    }
}

/// Connects to the scheduler at a socket.
fn connect(socket: &Path) -> std::io::Result<Arc<Client>> {
    let socket = socket.to_path_buf();
    Client::with_engine(Box::new(move |sink| Local::connect(&socket, sink)))
}

/// The hosting notebook says where its scheduler is; a worker's tasks are told by their host; a plain program
/// has its own.
pub(crate) fn scheduler_socket() -> Result<PathBuf> {
    match std::env::var_os("SKEP_RUN") {
        Some(folder) => Ok(Path::new(&folder).join("scheduler.sock")),
        None => program::scheduler_socket().map_err(|error| Error::start(error.to_string())),
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
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
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
    for (text, expect) in [
        ("512", 512),
        ("2 GB", 2_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("x", u64::MAX),
        ("3 parsecs", u64::MAX),
    ] {
        assert_eq!(text.into_bytes(), expect, "{text}");
    }
}
