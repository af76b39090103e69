//! Evening things out: tasks taken from busy workers, workers whose memory is full, values on more than one
//! worker.

use std::collections::HashMap;

use super::{Comm, Key, Scheduler, State, Timer, WorkerId};
use crate::{
    model::{cluster::Holding, cluster::Memory, event::Event},
    wire::protocol::{Answer, Asker, ToWorker},
};

/// Work shorter than this is not worth taking from a worker: asking for it takes a tenth of that.
const WORTH_STEALING_US: u64 = 1_000;
/// A worker that has said nothing for this long may be busy for longer than was guessed.
const SILENCE_US: u64 = 2_000;

/// A worker that has not been heard of for this long gets no more tasks, and people are told.
const SILENT_US: u64 = 3_000_000;
/// And after this it is given up: long enough for one that was stopped by hand.
const GIVEN_UP_US: u64 = 120_000_000;
/// Looks at silence come every second; one that comes so late was not the workers' fault.
const SLEPT_US: u64 = 2_500_000;

/// Values on their way to a worker that shall hold them.
#[derive(Default)]
pub(super) struct Transfers {
    /// By target: the request it belongs to, and, if the value moves, from where.
    open: HashMap<(WorkerId, Key), (u32, Option<WorkerId>)>,
    requests: HashMap<u32, Request>,
    next: u32,
}

struct Request {
    asker: Asker,
    n_open: usize,
    n_done: u64,
    n_bytes: u64,
}

impl Scheduler {
    /// Lets an idle worker take over what a busy one has not begun.
    pub(super) fn steal(&mut self, comm: &mut impl Comm) {
        if self.crowded.is_empty() || !self.queue.is_plain_empty() {
            return;
        }
        let Some((_, n, thief)) = self.room.first().copied() else {
            return;
        };
        if n >= self.workers[&thief].threads() {
            return;
        }
        let Some((excess, victim)) = self
            .crowded
            .last()
            .copied()
            .filter(|(_, victim)| *victim != thief)
        else {
            return;
        };
        let worker = &self.workers[&victim];
        let guess_us = worker.load_us / worker.assigned.len().max(1) as u64 * excess as u64;
        let silence_us = self.now_us.saturating_sub(worker.last_heard_us);
        let is_silent = silence_us >= SILENCE_US;
        if guess_us < WORTH_STEALING_US && !is_silent && !worker.memory.is_paused {
            if !self.is_balance_due {
                self.is_balance_due = true;
                self.timers
                    .insert((self.now_us + SILENCE_US, Key(0), Timer::Balance));
            }
            return;
        }
        let n_wanted = if worker.memory.is_paused {
            excess
        } else {
            excess.div_ceil(2)
        };
        // The least urgent ones are those it would begin last.
        let wait_us = worker.load_us + silence_us;
        let is_free = |key: &&Key| {
            let Some(record) = self.tasks.get(*key) else {
                return false;
            };
            let is_pinned = record
                .task
                .options
                .as_ref()
                .is_some_and(|options| !options.workers.is_empty());
            // Bringing its inputs must not take longer than waiting does; what has been silent for long may
            // be so for longer.
            !is_pinned && self.to_move(record, thief) < wait_us / 2
        };
        let mut keys: Vec<Key> = worker.assigned.keys().filter(is_free).copied().collect();
        keys.sort_by_key(|key| std::cmp::Reverse(self.tasks[key].task.priority));
        // Some of the least urgent may have begun all the same.
        keys.truncate(n_wanted + worker.threads());
        let worker = self.workers.get_mut(&victim).expect("invariant: looked up above");
        if keys.is_empty() {
            worker.n_kept = worker.assigned.len();
        } else {
            worker.is_being_robbed = true;
            comm.to_worker(
                victim,
                ToWorker::GiveBack {
                    keys,
                    most: n_wanted as u32,
                },
            );
        }
        self.touch(victim);
    }

    /// A worker gives back tasks that it had not begun.
    pub fn on_given_back(&mut self, id: WorkerId, keys: &[Key], comm: &mut impl Comm) {
        self.heard_from(id);
        for key in keys {
            if self
                .tasks
                .get(key)
                .is_none_or(|record| record.state != State::Assigned(id))
            {
                continue;
            }
            self.unassign(id, *key);
            comm.event(Event::Stolen { key: *key, from: id });
            if let Some(record) = self.tasks.get_mut(key) {
                record.is_stolen = true;
            }
            // Not straight into the queue: an input may have been lost since it was assigned.
            self.rerun(*key, comm);
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_being_robbed = false;
            worker.n_kept = if keys.is_empty() { worker.assigned.len() } else { 0 };
        }
        self.touch(id);
        self.dispatch(comm);
    }

    /// A task waits for tasks of its own; its worker can take another meanwhile.
    pub fn on_seceded(&mut self, id: WorkerId, key: Key, comm: &mut impl Comm) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.assigned.contains_key(&key)
        {
            worker.seceded.insert(key);
            self.touch(id);
            self.dispatch(comm);
        }
    }

    pub fn on_heartbeat(&mut self, id: WorkerId, memory: Memory, comm: &mut impl Comm) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut worker.memory, memory);
        worker.last_beat_us = self.now_us;
        let was_silent = std::mem::take(&mut worker.is_silent);
        if was_silent {
            comm.event(Event::WorkerSilent {
                worker: id,
                is_back: true,
            });
        }
        if before.is_paused == memory.is_paused {
            if was_silent {
                self.touch(id);
                self.dispatch(comm);
            }
            return;
        }
        comm.event(if memory.is_paused {
            Event::WorkerPaused { worker: id }
        } else {
            Event::WorkerResumed { worker: id }
        });
        worker.n_kept = 0;
        self.touch(id);
        self.dispatch(comm);
    }

    /// Notes which workers have not been heard of, and says which of them are to be given up.
    ///
    /// When this process itself did not run for a while (a laptop slept, a debugger held it), nobody was
    /// silent but we.
    pub fn check_silence(&mut self, comm: &mut impl Comm) -> Vec<WorkerId> {
        let now = self.now_us;
        let slept = now.saturating_sub(std::mem::replace(&mut self.checked_us, now));
        if slept > SLEPT_US {
            self.workers
                .values_mut()
                .for_each(|worker| worker.last_beat_us = now);
        }
        let mut given_up = Vec::new();
        let mut silent = Vec::new();
        for (id, worker) in &mut self.workers {
            let silence = now.saturating_sub(worker.last_beat_us);
            if silence >= SILENT_US && !worker.is_silent {
                worker.is_silent = true;
                silent.push(*id);
            }
            given_up.extend((silence >= GIVEN_UP_US).then_some(*id));
        }
        for id in silent {
            comm.event(Event::WorkerSilent {
                worker: id,
                is_back: false,
            });
            self.touch(id);
        }
        given_up
    }

    /// The values that are there, and which workers have them.
    pub fn holdings(&self) -> Vec<Holding> {
        let mut holdings: Vec<Holding> = self
            .tasks
            .iter()
            .filter_map(|(key, record)| match &record.state {
                State::Done { holders } => Some(Holding {
                    key: *key,
                    function: self.name_of(*key),
                    n_bytes: record.n_bytes,
                    workers: holders.clone(),
                }),
                _ => None,
            })
            .collect();
        holdings.sort_unstable_by_key(|holding| holding.key);
        holdings
    }

    /// Copies values to every worker. The client is told when all copies are there.
    pub fn broadcast(&mut self, asker: Asker, keys: &[Key], comm: &mut impl Comm) {
        let targets = self.worker_ids();
        let wanted: Vec<(Key, WorkerId, Option<WorkerId>)> = keys
            .iter()
            .flat_map(|key| targets.iter().map(|target| (*key, *target, None)))
            .collect();
        self.transfer(asker, &wanted, comm);
    }

    /// Moves values from workers that hold much to those that hold little.
    pub fn rebalance(&mut self, asker: Asker, comm: &mut impl Comm) {
        let mut held: HashMap<WorkerId, u64> = self
            .workers
            .iter()
            .map(|(id, worker)| (*id, worker.held_bytes))
            .collect();
        let mean = held.values().sum::<u64>() / held.len().max(1) as u64;
        let mut moves = Vec::new();
        let mut sources: Vec<WorkerId> = self.worker_ids();
        sources.sort_by_key(|id| std::cmp::Reverse(held[id]));
        for source in sources {
            let mut values: Vec<(u64, Key)> = self.workers[&source]
                .values
                .iter()
                .filter_map(|key| Some((self.tasks.get(key)?.n_bytes, *key)))
                .collect();
            values.sort_unstable_by_key(|value| std::cmp::Reverse(*value));
            for (n_bytes, key) in values {
                let Some((target, n_there)) = held
                    .iter()
                    .min_by_key(|(id, n)| (**n, **id))
                    .map(|(id, n)| (*id, *n))
                else {
                    break;
                };
                // Only what makes both sides more equal.
                if n_bytes == 0
                    || held[&source] < mean + n_bytes / 2
                    || n_there + n_bytes > held[&source] - n_bytes
                {
                    continue;
                }
                moves.push((key, target, Some(source)));
                *held.entry(source).or_default() -= n_bytes;
                *held.entry(target).or_default() += n_bytes;
            }
        }
        self.transfer(asker, &moves, comm);
    }

    fn transfer(&mut self, asker: Asker, wanted: &[(Key, WorkerId, Option<WorkerId>)], comm: &mut impl Comm) {
        let id = self.transfers.next;
        self.transfers.next += 1;
        let mut request = Request {
            asker,
            n_open: 0,
            n_done: 0,
            n_bytes: 0,
        };
        for (key, target, from) in wanted {
            if self.transfers.open.contains_key(&(*target, *key)) {
                continue;
            }
            let Some((source, _)) = self.source_of(*key, *target) else {
                continue;
            };
            self.transfers.open.insert((*target, *key), (id, *from));
            request.n_open += 1;
            comm.to_worker(*target, ToWorker::Acquire { key: *key, source });
        }
        self.transfers.requests.insert(id, request);
        self.close_if_done(id, comm);
    }

    /// A worker has got a value that it shall hold, or could not get it.
    pub fn on_acquired(&mut self, id: WorkerId, key: Key, is_here: bool, comm: &mut impl Comm) {
        let Some((request, from)) = self.transfers.open.remove(&(id, key)) else {
            return;
        };
        let mut n_bytes = 0;
        if is_here {
            match self.tasks.get_mut(&key) {
                Some(record) if matches!(record.state, State::Done { .. }) => {
                    let State::Done { holders } = &mut record.state else {
                        unreachable!("checked above")
                    };
                    n_bytes = record.n_bytes;
                    if !holders.contains(&id) {
                        holders.push(id);
                        if let Some(worker) = self.workers.get_mut(&id) {
                            worker.values.insert(key);
                            worker.held_bytes += n_bytes;
                        }
                    }
                    if let Some(from) = from {
                        self.lose_copy(key, from, comm);
                    }
                }
                // Nobody wants it any more.
                _ => comm.to_worker(id, ToWorker::Free { keys: vec![key] }),
            }
        }
        if let Some(open) = self.transfers.requests.get_mut(&request) {
            open.n_open -= 1;
            open.n_done += u64::from(is_here);
            open.n_bytes += n_bytes;
        }
        self.close_if_done(request, comm);
    }

    fn close_if_done(&mut self, request: u32, comm: &mut impl Comm) {
        if self
            .transfers
            .requests
            .get(&request)
            .is_some_and(|open| open.n_open == 0)
            && let Some(Request {
                asker,
                n_done,
                n_bytes,
                ..
            }) = self.transfers.requests.remove(&request)
        {
            comm.answer(
                asker,
                Answer::Transferred {
                    n_values: n_done,
                    n_bytes,
                },
            );
        }
    }

    pub(super) fn close_transfers_of(&mut self, worker: WorkerId, comm: &mut impl Comm) {
        let gone: Vec<(WorkerId, Key)> = self
            .transfers
            .open
            .keys()
            .filter(|(target, _)| *target == worker)
            .copied()
            .collect();
        for (target, key) in gone {
            self.on_acquired(target, key, false, comm);
        }
    }
}
