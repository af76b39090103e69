//! The worker processes: how many there are, how they are started, and how they end.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use skep_render::Message;

use super::{Elastic, Launch, Server};
use crate::{
    model::{cluster::ClusterSpec, ids::WorkerId},
    scheduler::Comm,
    wire::protocol::{Answer, Asker, ToWorker},
    worker::process::give_memory_back,
};

/// How long new workers may take to report.
const LAUNCH_TIME: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With `adapt`, workers that have had nothing to do for this long go.
pub(super) const ADAPT_AFTER: Duration = Duration::from_secs(2);
/// A worker that dies is replaced, but not more often than this in a minute.
const MOST_RESTARTS: usize = 60;

/// Nobody is stopped for longer: they would be given up.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Server {
    /// Stops a worker's process for a while.
    pub(super) fn pause(&mut self, worker: WorkerId, time: Duration) {
        let Some(pid) = self.pids.get(&worker).copied() else {
            return;
        };
        if self.signal(pid, Signal::STOP) {
            self.paused.push((Instant::now() + time.min(LONGEST_PAUSE), pid));
        }
    }

    /// Lets those go on whose time has come; how long until the next.
    pub(super) fn resume(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let (due, paused) = std::mem::take(&mut self.paused)
            .into_iter()
            .partition(|(until, _)| *until <= now);
        self.paused = paused;
        let due: Vec<(Instant, u32)> = due;
        for (_, pid) in due {
            // Another pause of it may have begun meanwhile.
            if !self.paused.iter().any(|(_, other)| *other == pid) {
                self.signal(pid, Signal::CONT);
            }
        }
        self.paused.iter().map(|(until, _)| *until - now).min()
    }

    /// By its handle: the number of a process that has been waited for may be another's.
    fn signal(&self, pid: u32, signal: Signal) -> bool {
        let child = self.children.iter().find(|child| child.id() == pid);
        child.is_some_and(|child| kill_process(Pid::from_child(child), signal).is_ok())
    }

    /// A worker that was killed could not clear up after itself.
    pub(super) fn clear_spill_of(&mut self, worker: WorkerId) {
        if let Some(pid) = self.pids.remove(&worker) {
            let _ = std::fs::remove_dir_all(spill_folder(&self.socket).join(format!("worker-{pid}")));
            let _ = std::fs::remove_file(self.socket.with_file_name(format!("worker-{pid}.sock")));
        }
    }

    /// Workers that are stopped, or hang, are told of; and given up when they have been silent for very long.
    pub(super) fn look_for_silence(&mut self) {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked_at = Instant::now();
        if self.scheduler.shrink() {
            give_memory_back();
        }
        self.scheduler.check_stall(&mut self.outbox);
        for worker in self.scheduler.check_silence(&mut self.outbox) {
            self.causes
                .insert(worker, "it did not answer for two minutes".into());
            self.kill(worker);
        }
    }

    /// How the process ended. It has closed its socket, so its end is near if not here.
    pub(super) fn cause_of(&mut self, worker: WorkerId) -> String {
        let Some(pid) = self.pids.get(&worker).copied() else {
            return "it is gone".into();
        };
        if let Some(status) = self.ended.remove(&pid) {
            return describe(status);
        }
        let Some(at) = self.children.iter().position(|child| child.id() == pid) else {
            return "it is gone".into();
        };
        for _ in 0..50 {
            if let Ok(Some(status)) = self.children[at].try_wait() {
                let _ = self.children.swap_remove(at).wait();
                return describe(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        // It no longer listens, so it is of no use: the cluster gets another.
        let mut child = self.children.swap_remove(at);
        let _ = child.kill();
        let _ = child.wait();
        "it closed its connection and did not end".into()
    }

    /// More workers while tasks wait, fewer when they have been idle for a while.
    pub(super) fn fit(&mut self) {
        let (Some(elastic), Some(spec)) = (&mut self.elastic, &mut self.spec) else {
            return;
        };
        let n = self.scheduler.n_workers() as u32;
        let idle = self.scheduler.idle_workers();
        let is_idle = idle.len() as u32 == n && self.scheduler.n_queued() == 0;
        elastic.idle_since = if is_idle {
            elastic.idle_since.or(Some(Instant::now()))
        } else {
            None
        };
        let has_been_idle = elastic
            .idle_since
            .is_some_and(|since| since.elapsed() >= elastic.patience);
        spec.workers = match () {
            () if self.scheduler.n_queued() > 0 => elastic.most,
            () if has_been_idle => elastic.least,
            () => spec.workers,
        }
        .clamp(elastic.least, elastic.most);
        let n_extra = n.saturating_sub(spec.workers) as usize;
        let is_gentle = elastic.is_gentle;
        let spared: Vec<WorkerId> = if is_gentle {
            self.scheduler.holders()
        } else {
            Vec::new()
        };
        for worker in idle
            .into_iter()
            .filter(|worker| !spared.contains(worker))
            .take(n_extra)
        {
            self.scheduler.retire(worker, &mut self.outbox);
            self.dismiss(worker);
        }
    }

    /// A cluster of four stays one of four.
    pub(super) fn restart(&mut self) {
        let Some(spec) = self
            .spec
            .clone()
            .filter(|spec| self.launching.is_none() && self.scheduler.n_workers() < spec.workers as usize)
        else {
            return;
        };
        self.restarts.retain(|at| at.elapsed() < Duration::from_secs(60));
        let n_missing =
            (spec.workers as usize).saturating_sub(self.scheduler.n_workers() + self.n_starting());
        for _ in 0..n_missing {
            if self.restarts.len() < MOST_RESTARTS {
                self.restarts.push(Instant::now());
                let _ = self.spawn(&spec);
            }
        }
    }

    pub(super) fn n_starting(&mut self) -> usize {
        let known: Vec<u32> = self
            .scheduler
            .info()
            .workers
            .iter()
            .map(|info| info.pid)
            .collect();
        let ended = &mut self.ended;
        self.children.retain_mut(|child| match child.try_wait() {
            Ok(Some(status)) => {
                ended.insert(child.id(), status);
                false
            }
            _ => true,
        });
        let leaving = &mut self.leaving;
        leaving.retain(|pid| self.children.iter().any(|child| child.id() == *pid));
        self.children
            .iter()
            .filter(|child| !known.contains(&child.id()) && !leaving.contains(&child.id()))
            .count()
    }

    pub(super) fn spawn(&mut self, spec: &ClusterSpec) -> io::Result<()> {
        let mut command = (self.command)(spec, &self.socket);
        self.children
            .push(command.stdin(Stdio::null()).process_group(0).spawn()?);
        Ok(())
    }

    /// The same request again finds the cluster as it is; another one replaces it.
    pub(super) fn launch(&mut self, asker: Asker, spec: ClusterSpec) {
        if self.asked.as_ref() != Some(&spec) || self.spec.is_none() {
            self.exit_workers();
            self.elastic = (spec.idle_timeout_us > 0).then(|| Elastic {
                least: 0,
                most: spec.workers,
                patience: Duration::from_micros(spec.idle_timeout_us),
                is_gentle: true,
                idle_since: None,
            });
            self.scheduler.open();
            self.scheduler.set_up_with(spec.set_up.clone());
            self.spec = Some(spec.clone());
            self.asked = Some(spec.clone());
        }
        let n_missing =
            (spec.workers as usize).saturating_sub(self.scheduler.n_workers() + self.n_starting());
        for _ in 0..n_missing {
            if let Err(error) = self.spawn(&spec) {
                return self.outbox.answer(
                    asker,
                    Answer::Launched(Err(
                        format!("a worker process could not be started: {error}").into()
                    )),
                );
            }
        }
        let launch = self.launching.get_or_insert_with(|| Launch {
            askers: Vec::new(),
            until: Instant::now() + LAUNCH_TIME,
        });
        launch.askers.push(asker);
    }

    pub(super) fn check_launch(&mut self) {
        let (Some(launch), Some(spec)) = (&self.launching, &self.spec) else {
            return;
        };
        let (is_late, n_wanted) = (Instant::now() > launch.until, spec.workers as usize);
        let n_workers = self.scheduler.n_workers();
        let result = if n_workers >= n_wanted {
            Ok(self.scheduler.info())
        } else if is_late || self.n_starting() == 0 {
            Err(Message::new(format!("{n_workers} of {n_wanted} workers came up"))
                .hint("their messages are on the kernel's standard error; is there memory left?"))
        } else {
            return;
        };
        for asker in self
            .launching
            .take()
            .map(|launch| launch.askers)
            .unwrap_or_default()
        {
            self.outbox.answer(asker, Answer::Launched(result.clone()));
        }
    }

    pub(super) fn exit_workers(&mut self) {
        // Stopped, they would not hear that they shall go.
        self.paused
            .iter_mut()
            .for_each(|(until, _)| *until = Instant::now());
        self.resume();
        for worker in self.scheduler.worker_ids() {
            self.outbox.to_worker(worker, ToWorker::Exit);
            self.dismiss(worker);
            self.scheduler
                .on_worker_left(worker, "the cluster was shut down", &mut self.outbox);
        }
        self.transport.flush();
        // Those that have not said yet who they are belong to the cluster that ends.
        let known: Vec<u32> = self.pids.values().copied().collect();
        for child in self
            .children
            .iter_mut()
            .filter(|child| !known.contains(&child.id()))
        {
            if self.leaving.insert(child.id()) {
                let _ = child.kill();
            }
        }
    }

    pub(super) fn stop_workers(mut self) {
        self.spec = None;
        self.end_named();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Where workers write what memory has no room for: `SKEP_SPILL`, else beside the socket.
fn spill_folder(socket: &Path) -> PathBuf {
    std::env::var_os("SKEP_SPILL")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| socket.with_file_name("spill"), PathBuf::from)
}

/// Tells a worker process, by its environment, what it shall be.
pub fn set_worker_env(command: &mut Command, spec: &ClusterSpec, socket: &Path) {
    let resources: Vec<String> = spec
        .resources
        .iter()
        .map(|resource| format!("{}={}", resource.name, resource.amount))
        .collect();
    command
        .env("SKEP_RUN", socket.parent().unwrap_or(Path::new("/")))
        .env("SKEP_WORKER_THREADS", spec.threads.to_string())
        .env("SKEP_WORKER_MEMORY", spec.memory_limit.to_string())
        .env("SKEP_WORKER_RESOURCES", resources.join("\u{1f}"))
        .env("SKEP_WORKER_SPILL", spill_folder(socket))
        .env("SKEP_WORKER_SPILL_LIMIT", spec.spill_limit.to_string())
        // Large values in large pages: a gigabyte of new memory is filled in 0.15 s rather than 0.41. Other
        // allocators do not know this variable.
        .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
        // Polars inside a worker uses the worker's threads, no more.
        .env("POLARS_MAX_THREADS", spec.threads.to_string());
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "killed by SIGKILL (by hand, or by the system when memory ran out)".into(),
        (Some(11), _) => "it crashed (SIGSEGV)".into(),
        (Some(6), _) => "it aborted (SIGABRT)".into(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, code) => format!("it exited with code {}", code.unwrap_or(-1)),
    }
}
