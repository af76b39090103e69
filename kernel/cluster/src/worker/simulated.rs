//! A worker without threads and sockets, for whoever plays the world around it: its machine, and what that asks for.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use crate::{
    model::{
        ids::{Key, KeyMap},
        task::{Output, Task},
    },
    wire::protocol::{Ran, ToScheduler, ToWorker},
    worker::machine::{self, Comm},
};

/// Values are nothing but their sizes.
#[derive(Default)]
pub(crate) struct Simulated {
    pub machine: machine::Worker<()>,
    hands: Hands,
}

/// What the machine has asked for.
#[derive(Default)]
struct Hands {
    queue: BinaryHeap<Reverse<(u64, Key)>>,
    waiting: KeyMap<u32>,
    fetches: Vec<(String, Output)>,
    reports: Vec<ToScheduler>,
}

impl Comm<()> for Hands {
    fn execute(&mut self, task: Arc<Task>, attempt: u32, inputs: HashMap<Key, ()>) {
        for (input, _) in task.outputs() {
            debug_assert!(
                inputs.contains_key(&input.key()) || inputs.contains_key(&input.task),
                "{:?} begins without {input:?}",
                task.key
            );
        }
        self.queue.push(Reverse((task.priority, task.key)));
        self.waiting.insert(task.key, attempt);
    }

    fn fetch(&mut self, address: &str, output: Output) {
        self.fetches.push((address.to_string(), output));
    }

    fn report(&mut self, message: ToScheduler) {
        self.reports.push(message);
    }

    fn forget(&mut self, key: Key, attempt: u32) {
        if self.waiting.get(&key) == Some(&attempt) {
            self.waiting.remove(&key);
        }
    }

    fn take_back(&mut self, keys: &[Key], most: usize) -> Vec<Key> {
        let waiting = &mut self.waiting;
        let given = keys.iter().filter(|key| waiting.remove(key).is_some());
        given.take(most).copied().collect()
    }

    fn decode_inline(&mut self, _: &[u8]) {}
}

impl Simulated {
    /// Takes in what the scheduler says.
    pub fn deliver(&mut self, message: ToWorker) {
        let Simulated { machine, hands } = self;
        match message {
            ToWorker::Compute(assignment) => machine.compute(assignment, hands),
            ToWorker::Free { keys } => machine.free(&keys),
            ToWorker::Cancel { keys } => machine.cancel(&keys, hands),
            ToWorker::GiveBack { keys, most } => machine.give_back(&keys, most as usize, hands),
            ToWorker::Acquire { key, source } => machine.acquire(key, source, hands),
            ToWorker::Welcome { .. } | ToWorker::Function { .. } | ToWorker::Timed(_) | ToWorker::Exit => {}
        }
    }

    /// A value has come, of so many bytes, or cannot be had.
    pub fn fetched(&mut self, output: Output, n_bytes: Option<u64>) {
        let value = n_bytes.map(|n_bytes| ((), n_bytes));
        self.machine.on_fetched(output.key(), value, &mut self.hands);
    }

    /// A task has run.
    pub fn ran(&mut self, ran: Ran) {
        if self
            .machine
            .on_finished(ran.key, ran.attempt, Some(((), ran.n_bytes)))
        {
            self.hands.reports.push(ToScheduler::Done(ran));
        }
    }

    /// The most urgent task that could begin, and which attempt it is.
    pub fn next_task(&mut self) -> Option<(Key, u32)> {
        while let Some(Reverse((_, key))) = self.hands.queue.pop() {
            // Others were taken back, or cancelled.
            if let Some(attempt) = self.hands.waiting.remove(&key) {
                return Some((key, attempt));
            }
        }
        None
    }

    pub fn take_reports(&mut self) -> Vec<ToScheduler> {
        std::mem::take(&mut self.hands.reports)
    }

    /// Addresses, and what to fetch there.
    pub fn take_fetches(&mut self) -> Vec<(String, Output)> {
        std::mem::take(&mut self.hands.fetches)
    }
}
