//! The workers that there are: what each has, how they come and go, and what is known of all of them
//! together.

use std::sync::Arc;

use super::{AHEAD_US, Comm, MOST_AHEAD, MOST_DEATHS, SET_UP, Scheduler, State, placement};
use crate::{
    model::{
        cluster::{ClusterInfo, Memory, WorkerInfo},
        error::{TaskError, TaskErrorKind},
        event::Event,
        ids::{FunctionId, IdSet, Key, KeyMap, KeySet, WorkerId},
        task::{Resource, Task},
    },
    wire::protocol::ToWorker,
};

/// A worker that joins.
#[derive(Clone, Debug, Default)]
pub struct NewWorker {
    pub pid: u32,
    pub address: String,
    pub threads: u32,
    /// Bytes; 0 is no limit.
    pub memory_limit: u64,
    pub resources: Vec<Resource>,
}

pub(super) struct Worker {
    pub(super) new: NewWorker,
    pub(super) memory: Memory,
    /// What it was given, each with its guessed time.
    pub(super) assigned: KeyMap<u64>,
    /// Guessed time of what is assigned.
    pub(super) load_us: u64,
    pub(super) values: KeySet,
    pub(super) held_bytes: u64,
    pub(super) functions: IdSet<FunctionId>,
    /// Resources that no task uses up now.
    pub(super) free: Vec<Resource>,
    /// Runs a task that was on a dying worker before; nothing else is put at risk beside it.
    pub(super) is_quarantined: bool,
    /// Tasks that wait for tasks of their own, and have given their thread away meanwhile.
    pub(super) seceded: KeySet,
    /// It was asked to give tasks back.
    pub(super) is_being_robbed: bool,
    /// Tasks that it has begun, or at least kept when it was asked.
    pub(super) n_kept: usize,
    pub(super) last_heard_us: u64,
    /// The last heartbeat; they come five times a second, whatever its tasks do.
    pub(super) last_beat_us: u64,
    pub(super) is_silent: bool,
    /// The task that sets it up, and whether that is still to end: nothing else begins before.
    pub(super) set_up: Option<(Key, bool)>,
    /// Its places in [`Scheduler::room`] and [`Scheduler::crowded`].
    pub(super) seat: Option<(u64, usize)>,
    pub(super) excess: usize,
}

impl Worker {
    pub(super) fn threads(&self) -> usize {
        self.new.threads as usize + self.seceded.len()
    }

    /// What it has waits for other tasks, and those may need it.
    pub(super) fn has_only_seceded(&self) -> bool {
        self.assigned.len() == self.seceded.len()
    }

    pub(super) fn may_begin(&self) -> bool {
        (!self.is_quarantined || self.has_only_seceded())
            && !self.memory.is_paused
            && !self.is_silent
            && !self.set_up.is_some_and(|(_, is_open)| is_open)
    }

    pub(super) fn has_room(&self) -> bool {
        let n = self.assigned.len();
        self.may_begin()
            && (n <= self.threads()
                || (self.load_us < AHEAD_US * u64::from(self.new.threads) && n < MOST_AHEAD))
    }

    /// Tasks that it has not begun, as far as is known.
    pub(super) fn n_excess(&self) -> usize {
        if self.is_being_robbed {
            return 0;
        }
        let n_begun = if self.memory.is_paused { 0 } else { self.threads() };
        self.assigned.len().saturating_sub(n_begun.max(self.n_kept))
    }
}

impl Scheduler {
    /// What each worker that joins from now on runs before anything else.
    pub fn set_up_with(&mut self, task: Option<Task>) {
        self.set_up = task;
    }

    pub fn add_worker(&mut self, id: WorkerId, new: NewWorker, comm: &mut impl Comm) {
        comm.to_worker(id, ToWorker::Welcome { id });
        if self.recorder.is_some() {
            comm.to_worker(id, ToWorker::Timed(true));
        }
        comm.event(Event::WorkerJoined {
            worker: id,
            pid: new.pid,
        });
        let set_up = self.set_up.as_ref().map(|task| task.for_worker(id));
        let worker = Worker {
            free: new.resources.clone(),
            new: NewWorker {
                threads: new.threads.max(1),
                ..new
            },
            memory: Memory::default(),
            assigned: KeyMap::default(),
            load_us: 0,
            values: KeySet::default(),
            held_bytes: 0,
            functions: IdSet::default(),
            is_quarantined: false,
            seceded: KeySet::default(),
            is_being_robbed: false,
            n_kept: 0,
            last_heard_us: self.now_us,
            last_beat_us: self.now_us,
            is_silent: false,
            set_up: set_up.as_ref().map(|task| (task.key, true)),
            seat: None,
            excess: 0,
        };
        self.workers.insert(id, worker);
        self.touch(id);
        if let Some(task) = set_up {
            let key = task.key;
            self.submit(SET_UP, vec![task], &[key], comm);
        }
        self.dispatch(comm);
    }

    /// Brings a worker's places among those with room, and those with too much, up to date.
    pub(super) fn touch(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let seat = worker
            .has_room()
            .then(|| (worker.load_us / worker.threads() as u64, worker.assigned.len()));
        if seat != worker.seat {
            if let Some((load, n)) = std::mem::replace(&mut worker.seat, seat) {
                self.room.remove(&(load, n, id));
            }
            if let Some((load, n)) = seat {
                self.room.insert((load, n, id));
            }
        }
        let excess = worker.n_excess();
        if excess != worker.excess {
            self.crowded
                .remove(&(std::mem::replace(&mut worker.excess, excess), id));
            if excess > 0 {
                self.crowded.insert((excess, id));
            }
        }
    }

    pub fn n_workers(&self) -> usize {
        self.workers.len()
    }

    pub fn worker_ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    pub(super) fn unassign(&mut self, id: WorkerId, key: Key) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Some(guess_us) = worker.assigned.remove(&key) else {
            return;
        };
        worker.load_us = worker.load_us.saturating_sub(guess_us);
        if let Some((_, is_open)) = worker.set_up.as_mut().filter(|(set_up, _)| *set_up == key) {
            *is_open = false;
        }
        worker.seceded.remove(&key);
        worker.n_kept = worker.n_kept.min(worker.assigned.len());
        if worker.assigned.is_empty() {
            worker.is_quarantined = false;
        }
        if let Some(options) = self
            .tasks
            .get(&key)
            .and_then(|record| record.task.options.as_ref())
        {
            placement::give_back(&mut worker.free, &options.resources);
        }
        self.touch(id);
    }

    pub(super) fn heard_from(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.last_heard_us = self.now_us;
        }
    }

    /// Tasks that wait for a worker.
    pub fn n_queued(&self) -> usize {
        self.queue.len()
    }

    /// The workers that would be missed least: idle ones, with the fewest bytes.
    pub fn idle_workers(&self) -> Vec<WorkerId> {
        let mut idle: Vec<(u64, WorkerId)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.assigned.is_empty())
            .map(|(id, worker)| (worker.held_bytes, *id))
            .collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, id)| id).collect()
    }

    /// Workers that hold values.
    pub fn holders(&self) -> Vec<WorkerId> {
        self.workers
            .iter()
            .filter(|(_, worker)| !worker.values.is_empty())
            .map(|(id, _)| *id)
            .collect()
    }

    /// A worker goes because fewer are wanted: nothing to be sorry for.
    pub fn retire(&mut self, id: WorkerId, comm: &mut impl Comm) {
        comm.to_worker(id, ToWorker::Exit);
        comm.event(Event::WorkerRetired { worker: id });
        self.remove_worker(id, "fewer workers are wanted", comm);
    }

    /// A worker that was told to go is gone: nothing that anybody has to be warned of.
    pub fn on_worker_left(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        if self.workers.contains_key(&id) {
            comm.event(Event::WorkerRetired { worker: id });
            self.remove_worker(id, cause, comm);
        }
    }

    pub fn on_worker_lost(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        self.losses
            .push(format!("{id} (pid {}): {cause}", worker.new.pid));
        comm.event(Event::WorkerLost {
            worker: id,
            cause: cause.to_string(),
        });
        self.remove_worker(id, cause, comm);
    }

    pub(super) fn remove_worker(&mut self, id: WorkerId, cause: &str, comm: &mut impl Comm) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        if let Some((load, n)) = worker.seat {
            self.room.remove(&(load, n, id));
        }
        self.crowded.remove(&(worker.excess, id));
        if let Some((set_up, _)) = worker.set_up {
            self.release(SET_UP, &[set_up], comm);
        }
        self.close_transfers_of(id, comm);
        for key in &worker.values {
            self.lose_copy(*key, id, comm);
        }
        // Only what can have been running is to blame, not what was queued behind it; which of it ran is not
        // known.
        let is_to_blame = worker.assigned.len() <= worker.threads() + 1;
        let mut assigned: Vec<Key> = worker.assigned.keys().copied().collect();
        assigned.sort_by_key(|key| self.tasks.get(key).map(|record| record.task.priority));
        for (i, key) in assigned.into_iter().enumerate() {
            let Some(record) = self.tasks.get_mut(&key) else {
                continue;
            };
            if record.state != State::Assigned(id) {
                continue;
            }
            if is_to_blame || i < worker.threads() {
                record.deaths += 1;
                record.last_death = Some(cause.into());
            }
            if record.deaths >= MOST_DEATHS {
                let last = record.last_death.as_deref().unwrap_or_default();
                let message = format!("{MOST_DEATHS} workers died while it ran, the last one: {last}");
                let error = TaskError {
                    function: self.name_of(key),
                    worker: Some(id.to_string()),
                    ..TaskError::new(TaskErrorKind::KilledWorkers, message)
                };
                self.fail(key, Arc::new(error), comm);
                continue;
            }
            comm.event(Event::Retried {
                key,
                has_failed: false,
            });
            self.rerun(key, comm);
        }
        self.dispatch(comm);
    }

    pub fn info(&self) -> ClusterInfo {
        let workers = self.workers.iter().map(|(id, worker)| WorkerInfo {
            id: *id,
            pid: worker.new.pid,
            threads: worker.new.threads,
            memory_limit: worker.new.memory_limit,
            resources: worker.new.resources.clone(),
            memory: worker.memory,
            is_silent: worker.is_silent,
            n_assigned: worker.assigned.len() as u64,
            n_values: worker.values.len() as u64,
            held_bytes: worker.held_bytes,
        });
        ClusterInfo {
            workers: workers.collect(),
            n_tasks: self.tasks.len() as u64,
            n_done: self.n_done,
            n_failed: self.n_failed,
            losses: self.losses.clone(),
        }
    }
}
