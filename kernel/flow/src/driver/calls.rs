//! The calls of tasks: how they begin, what comes of them, and which of their values are there already.

use std::{collections::HashMap, sync::Arc, task::Waker};

use skep_cluster::{Error, Key, TaskErrorKind};

use super::{Driver, Message, Turn, Woken, note_ran, send};
use crate::{
    live::Entry,
    machine::{Outcome, TaskId},
    show::cut,
    state::State,
    store::{Kept, Record, hash_of, now_us},
};

/// Larger values are kept only where a task says so: writing them would take longer than most tasks do.
const MOST_KEPT: u64 = 64 << 20;

impl Driver {
    /// A call has ended, or its value was lost and came again.
    pub(super) fn on_woken(&mut self, id: TaskId, attempt: u32, turn: &mut Turn) {
        let Some(entry) = self.entries.get(&id).cloned() else {
            return;
        };
        if self.machine.state(id).is_none_or(State::is_final) {
            return;
        }
        let started = {
            let now = entry.now();
            if now.attempt != attempt {
                return;
            }
            now.started.clone()
        };
        let Some(started) = started else { return };
        let waker = Waker::from(Arc::new(Woken { id, attempt }));
        match started.ended(&waker) {
            None => {}
            Some(Err(error)) => self.on_failed(id, attempt, error, turn),
            Some(Ok(ended)) => {
                let worker = ended.worker.to_string();
                self.step(turn, |machine, out| machine.started(id, &worker, out));
                let is_kept = entry.policy.keep.unwrap_or(ended.n_bytes <= MOST_KEPT);
                if is_kept {
                    self.keep(&entry, turn);
                }
                let now = self.now();
                self.step(turn, |machine, out| {
                    machine.ended(id, attempt, &Outcome::Done, now, out);
                });
                let to_us = now_us();
                let from_us = to_us.saturating_sub(ended.took.as_micros() as u64);
                let ran = entry.now().ran.unwrap_or((from_us, to_us));
                note_ran(&entry, ran, turn);
            }
        }
    }

    /// Writes the value of a task that has ended.
    fn keep(&mut self, entry: &Arc<Entry>, turn: &mut Turn) {
        let started = entry.now().started.clone();
        let Some(bytes) = started.and_then(|started| started.bytes().ok()) else {
            return;
        };
        match entry.run.store.keep(bytes.as_slice()) {
            Ok(kept) => self.note_kept(entry, kept, turn),
            Err(error) => entry.run.set_trouble(Some(error.to_string())),
        }
    }

    fn note_kept(&mut self, entry: &Arc<Entry>, kept: Kept, turn: &mut Turn) {
        entry.now().kept = Some(kept.clone());
        let (run, no) = (entry.run.id.clone(), entry.id.no);
        if let Some(key) = self.cache_key(entry) {
            let cached = Record::Cached {
                key,
                name: entry.name.clone(),
                kept: kept.clone(),
                at_us: now_us(),
            };
            turn.records.push((entry.run.clone(), cached));
        }
        turn.records
            .push((entry.run.clone(), Record::Kept { run, no, kept }));
    }

    /// Under which the value of a call is cached: its code, its arguments, and the values of its inputs. `None` if it is not.
    fn cache_key(&self, entry: &Arc<Entry>) -> Option<u128> {
        entry.policy.cache?;
        let call = entry.now().call.clone()?;
        let mut is_known = true;
        let inputs: HashMap<Key, u128> = entry
            .inputs
            .iter()
            .filter_map(|no| {
                let input = self.entries.get(&TaskId { no: *no, ..entry.id })?;
                let (kept, started) = {
                    let now = input.now();
                    (now.kept.as_ref().map(|kept| kept.hash), now.started.clone())
                };
                // What was too large to be kept is read for its hash.
                let hash = kept.or_else(|| {
                    let bytes = started?.bytes().ok()?;
                    Some(hash_of(bytes.as_slice()))
                });
                is_known &= hash.is_some();
                Some((input.key, hash?))
            })
            .collect();
        is_known.then(|| call.fingerprint(true, |key| inputs.get(&key).copied()))
    }

    pub(super) fn on_failed(&mut self, id: TaskId, attempt: u32, error: Error, turn: &mut Turn) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let outcome = match &error {
            Error::Task(task) => match task.kind {
                TaskErrorKind::KilledWorkers | TaskErrorKind::Code | TaskErrorKind::ActorLost => {
                    Outcome::Crashed(one_line(&task.message))
                }
                TaskErrorKind::TimedOut => {
                    Outcome::Failed(one_line(&format!("it took too long: {}", task.message)))
                }
                TaskErrorKind::Cancelled => Outcome::Failed("its call was cancelled".into()),
                _ => Outcome::Failed(one_line(&task.message)),
            },
            _ => Outcome::Crashed(one_line(&error.message().what)),
        };
        entry.now().error = Some(error);
        let now = self.now();
        self.step(turn, |machine, out| {
            machine.ended(id, attempt, &outcome, now, out)
        });
    }

    pub(super) fn look_up(&mut self, id: TaskId, turn: &mut Turn) -> bool {
        let Some(entry) = self.entries.get(&id).cloned() else {
            return false;
        };
        let expires = entry.policy.cache.and_then(|cache| cache.expires);
        let Some(key) = self.cache_key(&entry) else {
            return false;
        };
        let Ok(Some(kept)) = entry.run.store.cached(key, expires) else {
            return false;
        };
        entry.now().kept = Some(kept.clone());
        let (run, no) = (entry.run.id.clone(), id.no);
        turn.records
            .push((entry.run.clone(), Record::Kept { run, no, kept }));
        true
    }

    pub(super) fn launch(&mut self, launches: Vec<(TaskId, u32)>) {
        // Those that shall run alike go together.
        let mut batches: Vec<Vec<(Arc<Entry>, u32)>> = Vec::new();
        for (id, attempt) in launches {
            let Some(entry) = self.entries.get(&id).cloned() else {
                continue;
            };
            // It may have been cancelled in the very turn in which it was to begin.
            if self.machine.state(id).is_none_or(State::is_final) {
                continue;
            }
            {
                let mut now = entry.now();
                (now.attempt, now.is_told) = (attempt, false);
            }
            if let Err(error) = self.bring_inputs(&entry) {
                send(Message::NotBegun { id, attempt, error });
                continue;
            }
            self.by_key.insert(entry.key, id);
            match batches.last_mut() {
                Some(batch)
                    if Arc::ptr_eq(&batch[0].0.policy, &entry.policy)
                        && batch[0].0.id.run == entry.id.run =>
                {
                    batch.push((entry, attempt));
                }
                _ => batches.push(vec![(entry, attempt)]),
            }
        }
        for batch in batches {
            if let Err(error) = begin(&batch) {
                for (entry, attempt) in batch {
                    send(Message::NotBegun {
                        id: entry.id,
                        attempt,
                        error: error.clone(),
                    });
                }
            }
        }
    }

    /// Puts values that a call needs on the cluster, where they are only in the store.
    fn bring_inputs(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        for no in &entry.inputs {
            let Some(input) = self.entries.get(&TaskId { no: *no, ..entry.id }) else {
                continue;
            };
            let (call, kept) = {
                let now = input.now();
                match (&now.started, &now.call, &now.kept) {
                    (None, Some(call), Some(kept)) => (call.clone(), kept.clone()),
                    _ => continue,
                }
            };
            let cluster = entry.run.cluster()?;
            let started = match &kept.inline {
                Some(bytes) => cluster.restore(&call, bytes)?,
                None => cluster.restore_file(&call, &entry.run.store.path_of(kept.hash))?,
            };
            input.now().started = Some(started);
        }
        Ok(())
    }
}

fn begin(batch: &[(Arc<Entry>, u32)]) -> Result<(), Error> {
    let first = &batch[0].0;
    let mut cluster = first.run.cluster()?;
    if let Some(limit) = first.policy.timeout {
        cluster = cluster.timeout(limit);
    }
    for tag in &first.policy.tags {
        cluster = cluster.tag(tag);
    }
    let calls: Vec<skep_cluster::Call> = batch
        .iter()
        .filter_map(|(entry, _)| entry.now().call.clone())
        .collect();
    let started = cluster.begin(&calls.iter().collect::<Vec<_>>())?;
    for ((entry, attempt), started) in batch.iter().zip(started) {
        let id = entry.id;
        entry.now().started = Some(started.clone());
        let waker = Waker::from(Arc::new(Woken {
            id,
            attempt: *attempt,
        }));
        if started.ended(&waker).is_some() {
            waker.wake();
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    cut(text.lines().next().unwrap_or_default(), 300)
}
