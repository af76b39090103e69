//! How a worker process is started.

use std::path::PathBuf;

use crate::model::task::Resource;

/// How a worker process is started.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    pub scheduler: PathBuf,
    pub threads: u32,
    /// Bytes; 0 is no limit.
    pub memory_limit: u64,
    /// Where values go that memory has no room for; it is made, and removed at the end.
    pub spill_folder: PathBuf,
    /// Bytes; 0 is no limit.
    pub spill_limit: u64,
    pub resources: Vec<Resource>,
}

impl WorkerOptions {
    /// What the host put into the environment, for the scheduler at `socket`.
    pub fn from_env(socket: PathBuf) -> WorkerOptions {
        let number = |name: &str| {
            std::env::var(name)
                .ok()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let resources = std::env::var("SKEP_WORKER_RESOURCES").unwrap_or_default();
        let resource = |pair: &str| {
            let (name, amount) = pair.rsplit_once('=')?;
            Some(Resource {
                name: name.to_string(),
                amount: amount.parse().ok()?,
            })
        };
        let folder = std::env::var_os("SKEP_WORKER_SPILL")
            .map_or_else(|| socket.with_file_name("spill"), PathBuf::from);
        WorkerOptions {
            scheduler: socket,
            threads: number("SKEP_WORKER_THREADS").max(1) as u32,
            memory_limit: number("SKEP_WORKER_MEMORY"),
            spill_folder: folder.join(format!("worker-{}", std::process::id())),
            spill_limit: number("SKEP_WORKER_SPILL_LIMIT"),
            resources: resources.split('\u{1f}').filter_map(resource).collect(),
        }
    }
}
