//! Values: who holds them, when they go, and how lost ones come back.

use std::sync::Arc;

use skep_render::Message;

use super::{Comm, DETACHED, MOST_LOSSES, Record, Scheduler, State};
use crate::{
    model::{
        error::{TaskError, TaskErrorKind},
        event::Event,
        ids::{ClientId, HERE, Key, KeyMap, WorkerId},
    },
    wire::protocol::{Finished, ToClient, ToWorker},
};

impl Scheduler {
    pub fn release(&mut self, client: ClientId, keys: &[Key], comm: &mut impl Comm) {
        for key in keys {
            if let Some(record) = self.tasks.get_mut(key)
                && let Some(at) = record.wanted_by.iter().position(|c| *c == client)
            {
                record.wanted_by.swap_remove(at);
            }
            self.let_go(*key, comm);
        }
        self.dispatch(comm);
    }

    pub fn on_client_lost(&mut self, client: ClientId, comm: &mut impl Comm) {
        self.forget_recordings_of(client, comm);
        let keys: Vec<Key> = self
            .tasks
            .iter()
            .filter(|(_, record)| record.wanted_by.contains(&client))
            .map(|(key, _)| *key)
            .collect();
        for key in &keys {
            if let Some(record) = self.tasks.get_mut(key) {
                record.wanted_by.retain(|c| *c != client);
            }
        }
        for key in keys {
            self.let_go(key, comm);
        }
        self.end_coordination_of(client, comm);
        self.dispatch(comm);
    }

    /// Lets a task run to its end although nobody holds it.
    pub fn detach(&mut self, key: Key) {
        if let Some(record) = self
            .tasks
            .get_mut(&key)
            .filter(|record| record.state.is_pending())
        {
            record.wanted_by.push(DETACHED);
        }
    }

    /// Frees the value that nobody needs, stops the task that nobody waits for, and forgets what nothing was
    /// made from.
    pub(super) fn let_go(&mut self, key: Key, comm: &mut impl Comm) {
        let mut stack = vec![key];
        while let Some(key) = stack.pop() {
            let Some(record) = self.tasks.get_mut(&key) else {
                continue;
            };
            if !record.wanted_by.is_empty() || record.n_pending > 0 {
                continue;
            }
            let was_pending = record.state.is_pending();
            match std::mem::replace(&mut record.state, State::Freed) {
                State::Done { holders } => {
                    let n_bytes = std::mem::take(&mut record.n_bytes);
                    record.inline = None;
                    for holder in holders {
                        if let Some(worker) = self.workers.get_mut(&holder)
                            && worker.values.remove(&key)
                        {
                            worker.held_bytes = worker.held_bytes.saturating_sub(n_bytes);
                            comm.to_worker(holder, ToWorker::Free { keys: vec![key] });
                        }
                    }
                    comm.event(Event::Freed { key });
                }
                State::Assigned(worker) => {
                    comm.to_worker(worker, ToWorker::Cancel { keys: vec![key] });
                    self.unassign(worker, key);
                    comm.event(Event::Cancelled { key });
                }
                State::Waiting { .. } | State::Ready => comm.event(Event::Cancelled { key }),
                State::Failed(error) => record_state(&mut self.tasks, key, State::Failed(error)),
                State::Freed => {}
            }
            let inputs = self.tasks[&key].inputs.clone();
            if was_pending {
                for input in &inputs {
                    if let Some(record) = self.tasks.get_mut(input) {
                        record.n_pending = record.n_pending.saturating_sub(1);
                    }
                }
                stack.extend(inputs.iter().copied());
            }
            if self.tasks[&key].n_dependents == 0 {
                self.tasks.remove(&key);
                for input in &inputs {
                    if let Some(record) = self.tasks.get_mut(input) {
                        record.n_dependents = record.n_dependents.saturating_sub(1);
                    }
                }
                stack.extend(inputs.iter().copied());
            }
        }
    }

    /// A worker could not get these inputs: their holders are gone or have lost them.
    pub fn on_missing(
        &mut self,
        worker: WorkerId,
        key: Key,
        inputs: &[(Key, WorkerId)],
        comm: &mut impl Comm,
    ) {
        self.unassign(worker, key);
        for (input, holder) in inputs {
            let holder = if *holder == HERE { worker } else { *holder };
            self.lose_copy(*input, holder, comm);
        }
        if self
            .tasks
            .get(&key)
            .is_some_and(|record| record.state == State::Assigned(worker))
        {
            comm.event(Event::Retried {
                key,
                has_failed: false,
            });
            self.rerun(key, comm);
        }
        self.dispatch(comm);
    }

    /// Sends a task that was assigned back to wait for its inputs.
    pub(super) fn rerun(&mut self, key: Key, comm: &mut impl Comm) {
        self.set_state(key, State::Freed);
        for input in self.tasks[&key].inputs.clone() {
            if let Some(record) = self.tasks.get_mut(&input) {
                record.n_pending = record.n_pending.saturating_sub(1);
            }
        }
        self.revive(key, comm);
    }

    pub(super) fn lose_copy(&mut self, key: Key, holder: WorkerId, comm: &mut impl Comm) {
        let Some(record) = self.tasks.get_mut(&key) else {
            return;
        };
        let State::Done { holders } = &mut record.state else {
            return;
        };
        let n_before = holders.len();
        holders.retain(|h| *h != holder);
        let (is_held, n_bytes) = (!holders.is_empty(), record.n_bytes);
        if is_held && holders.len() == n_before {
            return;
        }
        let wanted_by = record.wanted_by.clone();
        if let Some(worker) = self.workers.get_mut(&holder)
            && worker.values.remove(&key)
        {
            worker.held_bytes = worker.held_bytes.saturating_sub(n_bytes);
            // It may have it after all, if it said otherwise long ago.
            comm.to_worker(holder, ToWorker::Free { keys: vec![key] });
        }
        let record = self.tasks.get_mut(&key).expect("invariant: looked up above");
        if is_held || record.inline.is_some() {
            // Programs know one address only.
            let how = self.finished(key);
            for client in wanted_by {
                comm.to_client(
                    client,
                    ToClient::Finished {
                        key,
                        how: how.clone(),
                    },
                );
            }
            return;
        }
        if record
            .task
            .options
            .as_ref()
            .is_some_and(|options| options.is_actor)
        {
            return self.lose_actor(key, holder, comm);
        }
        if !wanted_by.is_empty() || record.n_pending > 0 {
            record.n_losses += 1;
            if record.n_losses >= MOST_LOSSES {
                let cause = self.losses.last().cloned().unwrap_or_default();
                let message = Message::new(format!(
                    "its value was lost with {MOST_LOSSES} workers, the last one: {cause}"
                ))
                .hint("give the workers more memory, or smaller values");
                let error = TaskError {
                    function: self.name_of(key),
                    worker: Some(holder.to_string()),
                    ..TaskError::new(TaskErrorKind::KilledWorkers, message)
                };
                return self.fail_done(key, error, comm);
            }
        }
        let record = self.tasks.get_mut(&key).expect("invariant: looked up above");
        record.state = State::Freed;
        if !wanted_by.is_empty() || record.n_pending > 0 {
            comm.event(Event::Retried {
                key,
                has_failed: false,
            });
            for client in wanted_by {
                comm.to_client(
                    client,
                    ToClient::Finished {
                        key,
                        how: Finished::Pending,
                    },
                );
            }
            self.mend_dependents(key);
            self.revive(key, comm);
        }
    }

    /// An actor is not made again: what calls have made of it is gone.
    fn lose_actor(&mut self, key: Key, holder: WorkerId, comm: &mut impl Comm) {
        let cause = self.losses.last().cloned().unwrap_or_default();
        let error = TaskError::actor_lost_with(self.name_of(key), holder, &cause);
        self.fail_done(key, error, comm);
    }

    /// Fails a task that had come to an end: as if it were to run again, which is what its inputs and
    /// dependents know of.
    fn fail_done(&mut self, key: Key, error: TaskError, comm: &mut impl Comm) {
        self.set_state(key, State::Freed);
        self.mend_dependents(key);
        self.revive(key, comm);
        self.fail(key, Arc::new(error), comm);
    }

    /// Dependents that counted on a value which is gone wait for it again.
    fn mend_dependents(&mut self, key: Key) {
        let dependents = self.take_dependents(key);
        for dependent in &dependents {
            let Some(record) = self.tasks.get_mut(dependent) else {
                continue;
            };
            record.state = match record.state {
                State::Waiting { n_missing } => State::Waiting {
                    n_missing: n_missing + 1,
                },
                State::Ready => State::Waiting { n_missing: 1 },
                _ => continue,
            };
        }
        self.give_back_dependents(key, dependents);
    }
}

fn record_state(tasks: &mut KeyMap<Record>, key: Key, state: State) {
    if let Some(record) = tasks.get_mut(&key) {
        record.state = state;
    }
}
