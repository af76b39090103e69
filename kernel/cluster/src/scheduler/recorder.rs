//! Keeps what is needed to play a block of code again, while somebody asks for it.

use std::collections::HashMap;

use super::{ClientId, Comm, FunctionId, IdMap, Key, KeyMap, Scheduler};
use crate::{
    model::{
        recording::{MOST_RECORDED, Recorded, Recording},
        task::Task,
    },
    wire::protocol::{Ran, ToWorker},
};

#[derive(Default)]
pub(super) struct Recorder {
    begun: Vec<Begun>,
    began_us: u64,
    tasks: Vec<Recorded>,
    at: KeyMap<usize>,
    /// Calls that came again, since nobody held their value: by which name each is recorded.
    names: KeyMap<Key>,
    functions: IdMap<FunctionId, u32>,
    n_left_out: u64,
}

/// Where a recording began among the tasks.
struct Begun {
    client: ClientId,
    n_tasks: usize,
    n_left_out: u64,
    at_us: u64,
}

impl Recorder {
    pub(super) fn note_task(&mut self, task: &Task, inputs: &[Key], shares: Option<&[f32]>, now_us: u64) {
        if self.tasks.len() >= MOST_RECORDED {
            self.n_left_out += 1;
            return;
        }
        let n_functions = self.functions.len() as u32;
        let function = *self.functions.entry(task.function).or_insert(n_functions);
        let share = |i: usize| shares.map_or(1.0, |shares| shares[i]);
        let options = task.options.as_deref();
        /// Odd, so that no two of them are alike.
        const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let mut name = task.key;
        if self.at.insert(task.key, self.tasks.len()).is_some() {
            name = Key(task.key.0 ^ (self.tasks.len() as u128 + 1).wrapping_mul(SPREAD));
            self.names.insert(task.key, name);
        }
        let names = &self.names;
        let named = |key: &Key| names.get(key).copied().unwrap_or(*key);
        self.tasks.push(Recorded {
            key: name,
            function,
            priority: task.priority,
            submitted_us: now_us.saturating_sub(self.began_us),
            ended_us: 0,
            inputs: inputs
                .iter()
                .enumerate()
                .map(|(i, key)| (named(key), share(i)))
                .collect(),
            n_bytes: 0,
            is_inline: false,
            duration_us: 0,
            cpu_us: 0,
            has_demands: options
                .is_some_and(|options| !options.workers.is_empty() || !options.resources.is_empty()),
        });
    }

    pub(super) fn note_done(&mut self, ran: &Ran, now_us: u64) {
        let Some(task) = self.at.get(&ran.key).map(|at| &mut self.tasks[*at]) else {
            return;
        };
        task.ended_us = now_us.saturating_sub(self.began_us).max(1);
        task.n_bytes = ran.n_bytes;
        task.is_inline = ran.inline.is_some();
        (task.duration_us, task.cpu_us) = (ran.duration_us, ran.cpu_us);
    }
}

impl Scheduler {
    /// From now on, tasks that are submitted are noted, for this program; also when it asks again, for a part of that.
    pub fn begin_recording(&mut self, client: ClientId, comm: &mut impl Comm) {
        let now_us = self.now_us;
        if self.recorder.is_none() {
            self.time_tasks(true, comm);
        }
        let recorder = self.recorder.get_or_insert_with(|| {
            Box::new(Recorder {
                began_us: now_us,
                ..Recorder::default()
            })
        });
        let begun = Begun {
            client,
            n_tasks: recorder.tasks.len(),
            n_left_out: recorder.n_left_out,
            at_us: now_us - recorder.began_us,
        };
        recorder.begun.push(begun);
    }

    /// What was noted since the program asked last.
    pub fn end_recording(&mut self, client: ClientId, comm: &mut impl Comm) -> Recording {
        let Some(recorder) = &mut self.recorder else {
            return Recording::default();
        };
        let Some(at) = recorder.begun.iter().rposition(|begun| begun.client == client) else {
            return Recording::default();
        };
        let begun = recorder.begun.remove(at);
        let mut tasks = recorder.tasks[begun.n_tasks..].to_vec();
        for task in &mut tasks {
            task.submitted_us = task.submitted_us.saturating_sub(begun.at_us);
            task.ended_us = task.ended_us.saturating_sub(begun.at_us);
        }
        let n_left_out = recorder.n_left_out - begun.n_left_out;
        let places: HashMap<u32, FunctionId> = recorder
            .functions
            .iter()
            .map(|(id, place)| (*place, *id))
            .collect();
        let functions = (0..places.len() as u32)
            .map(|place| {
                let function = places.get(&place).and_then(|id| self.functions.get(id));
                function.map_or_else(String::new, |function| function.name.clone())
            })
            .collect();
        self.end_unused_recorder(comm);
        Recording {
            tasks,
            functions,
            workers: self
                .workers
                .values()
                .map(|worker| (worker.new.threads, worker.new.memory_limit))
                .collect(),
            n_left_out,
        }
    }

    /// The program is gone.
    pub(super) fn forget_recordings_of(&mut self, client: ClientId, comm: &mut impl Comm) {
        if let Some(recorder) = &mut self.recorder {
            recorder.begun.retain(|begun| begun.client != client);
        }
        self.end_unused_recorder(comm);
    }

    fn end_unused_recorder(&mut self, comm: &mut impl Comm) {
        let is_unused = self
            .recorder
            .as_ref()
            .is_some_and(|recorder| recorder.begun.is_empty());
        if is_unused {
            self.recorder = None;
            self.time_tasks(false, comm);
        }
    }

    fn time_tasks(&self, is_timed: bool, comm: &mut impl Comm) {
        for id in self.workers.keys() {
            comm.to_worker(*id, ToWorker::Timed(is_timed));
        }
    }
}
