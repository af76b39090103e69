//! A worker as a pure state machine: which inputs to fetch, what can run, what is held.
//!
//! Running and fetching happen outside; this only decides. Values are whatever the runtime says they are (`V`).

use std::{collections::HashMap, sync::Arc};

use crate::{
    Key, WorkerId,
    ids::{KeyMap, KeySet},
    message::{Assignment, Input, Task, ToScheduler},
    scheduler::HERE,
};

/// What a worker asks of the world.
pub trait Comm<V> {
    fn execute(&mut self, task: Arc<Task>, inputs: HashMap<Key, V>);
    fn fetch(&mut self, address: &str, key: Key);
    fn report(&mut self, message: ToScheduler);
    /// Drops a task from the queue if it has not begun.
    fn forget(&mut self, key: Key);
    fn decode_inline(&mut self, bytes: &[u8]) -> V;
}

pub struct Worker<V> {
    values: KeyMap<V>,
    /// Copies made for a task here; dropped when no task needs them.
    copies: KeyMap<u32>,
    waiting: KeyMap<Waiting>,
    fetches: KeyMap<Fetch>,
    running: KeyMap<Vec<Key>>,
    cancelled: KeySet,
}

struct Waiting {
    task: Arc<Task>,
    inputs: Vec<Key>,
    missing: KeySet,
}

struct Fetch {
    from: WorkerId,
    tasks: Vec<Key>,
}

impl<V> Default for Worker<V> {
    fn default() -> Self {
        Worker {
            values: KeyMap::default(),
            copies: KeyMap::default(),
            waiting: KeyMap::default(),
            fetches: KeyMap::default(),
            running: KeyMap::default(),
            cancelled: KeySet::default(),
        }
    }
}

impl<V: Clone> Worker<V> {
    pub fn compute(&mut self, assignment: Assignment, comm: &mut impl Comm<V>) {
        let Assignment { task, inputs } = assignment;
        let key = task.key;
        self.cancelled.remove(&key);
        let needed = task.dependencies();
        let mut missing = KeySet::default();
        for (input, source) in inputs {
            if self.values.contains_key(&input) {
                continue;
            }
            match source {
                Input::Inline(bytes) => {
                    let value = comm.decode_inline(&bytes);
                    self.values.insert(input, value);
                    self.copies.entry(input).or_insert(0);
                }
                Input::At { worker, address } => {
                    missing.insert(input);
                    let fetch = self.fetches.entry(input).or_insert_with(|| {
                        comm.fetch(&address, input);
                        Fetch { from: worker, tasks: Vec::new() }
                    });
                    fetch.tasks.push(key);
                }
            }
        }
        for input in &needed {
            if let Some(n_users) = self.copies.get_mut(input) {
                *n_users += 1;
            }
        }
        self.waiting.insert(key, Waiting { task, inputs: needed, missing });
        self.start_if_ready(key, comm);
    }

    fn start_if_ready(&mut self, key: Key, comm: &mut impl Comm<V>) {
        if !self.waiting.get(&key).is_some_and(|waiting| waiting.missing.is_empty()) {
            return;
        }
        let Some(Waiting { task, inputs, .. }) = self.waiting.remove(&key) else { return };
        let mut values = HashMap::with_capacity(inputs.len());
        for input in &inputs {
            let Some(value) = self.values.get(input) else {
                // The scheduler took it to be here; it is not.
                self.release_copies(&inputs);
                comm.report(ToScheduler::Missing { key, inputs: vec![(*input, HERE)] });
                return;
            };
            values.insert(*input, value.clone());
        }
        self.running.insert(key, inputs);
        comm.execute(task, values);
    }

    pub fn on_fetched(&mut self, key: Key, value: Option<V>, comm: &mut impl Comm<V>) {
        let Some(fetch) = self.fetches.remove(&key) else { return };
        match value {
            Some(value) => {
                self.values.insert(key, value);
                let n_users = fetch.tasks.iter().filter(|task| self.waiting.contains_key(task)).count() as u32;
                self.copies.insert(key, n_users);
                if n_users == 0 {
                    self.drop_copy(key);
                }
                for task in fetch.tasks {
                    if let Some(waiting) = self.waiting.get_mut(&task) {
                        waiting.missing.remove(&key);
                        self.start_if_ready(task, comm);
                    }
                }
            }
            None => {
                for task in fetch.tasks {
                    if let Some(waiting) = self.waiting.remove(&task) {
                        self.release_copies(&waiting.inputs);
                        comm.report(ToScheduler::Missing { key: task, inputs: vec![(key, fetch.from)] });
                    }
                }
            }
        }
    }

    /// A task has ended with a value, or without one. Returns whether anybody still waits for it.
    pub fn on_finished(&mut self, key: Key, value: Option<V>) -> bool {
        if let Some(inputs) = self.running.remove(&key) {
            self.release_copies(&inputs);
        }
        if self.cancelled.remove(&key) {
            return false;
        }
        if let Some(value) = value {
            self.values.insert(key, value);
        }
        true
    }

    fn release_copies(&mut self, inputs: &[Key]) {
        for input in inputs {
            if let Some(n_users) = self.copies.get_mut(input) {
                *n_users = n_users.saturating_sub(1);
                if *n_users == 0 {
                    self.drop_copy(*input);
                }
            }
        }
    }

    fn drop_copy(&mut self, key: Key) {
        self.copies.remove(&key);
        self.values.remove(&key);
    }

    pub fn free(&mut self, keys: &[Key]) {
        for key in keys {
            if !self.copies.contains_key(key) {
                self.values.remove(key);
            }
        }
    }

    pub fn cancel(&mut self, keys: &[Key], comm: &mut impl Comm<V>) {
        for key in keys {
            if let Some(waiting) = self.waiting.remove(key) {
                self.release_copies(&waiting.inputs);
            } else if self.running.contains_key(key) {
                self.cancelled.insert(*key);
                comm.forget(*key);
            }
        }
    }

    /// A task that had not begun was dropped from the queue.
    pub fn on_forgotten(&mut self, key: Key) {
        self.on_finished(key, None);
    }

    pub fn value(&self, key: Key) -> Option<&V> {
        self.values.get(&key)
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::{FunctionId, message::Arg};

    #[derive(Default)]
    struct World {
        executed: Vec<Key>,
        fetched: Vec<(String, Key)>,
        reports: Vec<ToScheduler>,
    }

    impl Comm<u8> for World {
        fn execute(&mut self, task: Arc<Task>, _: HashMap<Key, u8>) {
            self.executed.push(task.key);
        }
        fn fetch(&mut self, address: &str, key: Key) {
            self.fetched.push((address.to_string(), key));
        }
        fn report(&mut self, message: ToScheduler) {
            self.reports.push(message);
        }
        fn forget(&mut self, _: Key) {}
        fn decode_inline(&mut self, bytes: &[u8]) -> u8 {
            bytes[0]
        }
    }

    fn assignment(key: u128, inputs: &[(u128, Input)]) -> Assignment {
        let args = inputs.iter().map(|(key, _)| Arg::Task(Key(*key))).collect();
        let task = Task { key: Key(key), function: FunctionId(1), args, priority: 0, options: None };
        Assignment { task: Arc::new(task), inputs: inputs.iter().map(|(key, input)| (Key(*key), input.clone())).collect() }
    }

    fn remote() -> Input {
        Input::At { worker: WorkerId(2), address: "peer".into() }
    }

    #[test]
    fn an_input_is_fetched_once_for_all_its_tasks_and_dropped_after_the_last() {
        let (mut worker, mut world) = (Worker::default(), World::default());
        worker.compute(assignment(1, &[(9, remote())]), &mut world);
        worker.compute(assignment(2, &[(9, remote())]), &mut world);
        assert_eq!(world.fetched, [("peer".to_string(), Key(9))]);
        assert!(world.executed.is_empty());
        worker.on_fetched(Key(9), Some(5), &mut world);
        assert_eq!(world.executed, [Key(1), Key(2)]);
        assert!(worker.on_finished(Key(1), Some(1)));
        assert_eq!(worker.value(Key(9)), Some(&5), "task 2 still uses it");
        worker.on_finished(Key(2), Some(2));
        assert_eq!(worker.value(Key(9)), None);
        assert_eq!(worker.value(Key(1)), Some(&1));
    }

    #[test]
    fn a_failed_fetch_is_reported_with_its_holder() {
        let (mut worker, mut world) = (Worker::<u8>::default(), World::default());
        worker.compute(assignment(1, &[(9, remote())]), &mut world);
        worker.on_fetched(Key(9), None, &mut world);
        assert_eq!(world.reports, [ToScheduler::Missing { key: Key(1), inputs: vec![(Key(9), WorkerId(2))] }]);
    }

    #[test]
    fn inline_inputs_need_no_fetch_and_cancelled_results_are_dropped() {
        let (mut worker, mut world) = (Worker::default(), World::default());
        worker.compute(assignment(1, &[(9, Input::Inline(ByteBuf::from(vec![7])))]), &mut world);
        assert_eq!(world.executed, [Key(1)]);
        worker.cancel(&[Key(1)], &mut world);
        assert!(!worker.on_finished(Key(1), Some(3)));
        assert_eq!(worker.value(Key(1)), None);
    }
}
