//! Tasks that fail, take too long, or are cancelled; and those that get another chance.

use std::sync::Arc;

use super::{Comm, DETACHED, Scheduler, State};
use crate::{
    model::{
        error::{TaskError, TaskErrorKind},
        event::Event,
        ids::{Key, WorkerId},
    },
    wire::protocol::{Finished, ToClient, ToWorker},
};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Retry,
    Timeout {
        attempt: u32,
    },
    /// Look whether an idle worker could take over from a busy one; of no task.
    Balance,
}

/// Of an error so many characters go into stories.
const MOST_TOLD: usize = 160;

impl Scheduler {
    pub fn on_failed(&mut self, worker: WorkerId, key: Key, error: TaskError, comm: &mut impl Comm) {
        self.unassign(worker, key);
        if self
            .tasks
            .get(&key)
            .is_some_and(|record| record.state == State::Assigned(worker))
        {
            self.fail_or_retry(key, error, comm);
        }
        self.dispatch(comm);
    }

    /// A task that may be retried runs again, after its delay; its inputs are kept meanwhile.
    pub(super) fn fail_or_retry(&mut self, key: Key, error: TaskError, comm: &mut impl Comm) {
        let Some(record) = self.tasks.get_mut(&key) else {
            return;
        };
        let options = record.task.options.clone().unwrap_or_default();
        if record.n_failures >= options.retries || error.kind == TaskErrorKind::Cancelled {
            let n = record.n_failures;
            let message = if n > 0 {
                format!("{} (the last of {} attempts)", error.message, n + 1)
            } else {
                error.message
            };
            return self.fail(key, Arc::new(TaskError { message, ..error }), comm);
        }
        record.n_failures += 1;
        comm.event(Event::Retried {
            key,
            has_failed: true,
        });
        if options.retry_delay_us == 0 {
            return self.rerun(key, comm);
        }
        // Waits for the timer as it would for an input.
        record.state = State::Waiting { n_missing: 1 };
        self.timers
            .insert((self.now_us + options.retry_delay_us, key, Timer::Retry));
    }

    /// Tells the time, in microseconds of any steady clock, and does what is due.
    pub fn set_now(&mut self, now_us: u64, comm: &mut impl Comm) {
        self.now_us = now_us;
        while let Some((at, key, timer)) = self.timers.first().copied().filter(|(at, _, _)| *at <= now_us) {
            self.timers.remove(&(at, key, timer));
            if timer == Timer::Balance {
                self.is_balance_due = false;
                self.dispatch(comm);
                continue;
            }
            let Some(record) = self.tasks.get(&key) else {
                continue;
            };
            match (timer, &record.state) {
                (Timer::Retry, State::Waiting { .. }) => {
                    self.rerun(key, comm);
                    self.dispatch(comm);
                }
                (Timer::Timeout { attempt }, State::Assigned(worker)) if record.n_attempts == attempt => {
                    let (worker, limit) = (
                        *worker,
                        record
                            .task
                            .options
                            .as_ref()
                            .map_or(0, |options| options.timeout_us),
                    );
                    comm.to_worker(worker, ToWorker::Cancel { keys: vec![key] });
                    self.unassign(worker, key);
                    let message = format!(
                        "it was stopped after {}",
                        skep_render::duration(std::time::Duration::from_micros(limit))
                    );
                    let error = TaskError {
                        function: self.name_of(key),
                        worker: Some(worker.to_string()),
                        ..TaskError::new(TaskErrorKind::TimedOut, message)
                    };
                    self.fail_or_retry(key, error, comm);
                    self.dispatch(comm);
                }
                _ => {}
            }
        }
    }

    /// When [`Scheduler::set_now`] is next wanted.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    /// Fails a task and everything that needs its value.
    pub(super) fn fail(&mut self, key: Key, error: Arc<TaskError>, comm: &mut impl Comm) {
        let mut error = error;
        let options = self
            .tasks
            .get(&key)
            .and_then(|record| record.task.options.as_ref());
        if let Some(options) = options.filter(|options| !options.tags.is_empty()) {
            Arc::make_mut(&mut error).tags.clone_from(&options.tags);
        }
        let mut stack = vec![key];
        while let Some(key) = stack.pop() {
            let Some(record) = self.tasks.get_mut(&key) else {
                continue;
            };
            if !record.state.is_pending() {
                continue;
            }
            if let State::Assigned(worker) = record.state {
                comm.to_worker(worker, ToWorker::Cancel { keys: vec![key] });
                self.unassign(worker, key);
            }
            let record = self.tasks.get_mut(&key).expect("invariant: looked up above");
            record.state = State::Failed(error.clone());
            record.wanted_by.retain(|client| *client != DETACHED);
            let wanted_by = record.wanted_by.clone();
            self.n_failed += u64::from(error.kind != TaskErrorKind::Cancelled);
            comm.event(if error.kind == TaskErrorKind::Cancelled {
                Event::Cancelled { key }
            } else {
                let why = error.message.lines().next().unwrap_or_default();
                Event::Failed {
                    key,
                    why: why.chars().take(MOST_TOLD).collect(),
                }
            });
            for client in wanted_by {
                comm.to_client(
                    client,
                    ToClient::Finished {
                        key,
                        how: Finished::Failed(error.clone()),
                    },
                );
            }
            let dependents = self.take_dependents(key);
            stack.extend(&dependents);
            self.give_back_dependents(key, dependents);
            self.settle_inputs(key, comm);
            self.let_go(key, comm);
        }
    }

    pub fn cancel(&mut self, keys: &[Key], comm: &mut impl Comm) {
        for key in keys {
            let function = self.name_of(*key);
            let error = TaskError {
                function,
                ..TaskError::new(TaskErrorKind::Cancelled, String::new())
            };
            self.fail(*key, Arc::new(error), comm);
        }
        self.dispatch(comm);
    }
}
