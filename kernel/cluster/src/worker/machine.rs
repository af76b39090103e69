//! A worker as a pure state machine: which inputs to fetch, what can run, what is held.
//!
//! Running and fetching happen outside; this only decides. Values are whatever the runtime says they are
//! (`V`).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    model::{
        error::{TaskError, TaskErrorKind},
        ids::{HERE, Key, KeyMap, KeySet, WorkerId},
        task::{Output, Task},
    },
    wire::protocol::{Assignment, Input, ToScheduler},
    worker::memory::Candidate,
};

/// Bytes that may be on their way here at once: more would only wait in memory, at both ends.
const MOST_INCOMING: u64 = 256 << 20;

/// Of copies that no task needs any more, so much is kept for the next one that does: a table that a thousand
/// tasks look into is fetched once, not each time that none of them happens to be here.
const MOST_SPARE: u64 = 64 << 20;

/// And so many: they are looked for one by one.
const MOST_SPARE_VALUES: usize = 64;

/// What a worker asks of the world.
pub trait Comm<V> {
    fn execute(&mut self, task: Arc<Task>, attempt: u32, inputs: HashMap<Key, V>);
    fn fetch(&mut self, address: &str, output: Output);
    fn report(&mut self, message: ToScheduler);
    /// Drops a task from the queue if it has not begun, and stops it if it has.
    fn forget(&mut self, key: Key, attempt: u32);
    /// Drops up to `most` of these tasks from the queue, and says which.
    fn take_back(&mut self, keys: &[Key], most: usize) -> Vec<Key>;
    fn decode_inline(&mut self, bytes: &[u8]) -> V;
}

pub struct Worker<V> {
    values: KeyMap<Held<V>>,
    /// Copies made for a task here; dropped when no task needs them.
    copies: KeyMap<u32>,
    /// Copies that no task needs now, oldest first, and their bytes.
    spare: VecDeque<Key>,
    spare_bytes: u64,
    waiting: KeyMap<Waiting>,
    fetches: KeyMap<Fetch>,
    /// Fetches that wait for room, the most urgent first.
    postponed: BTreeMap<(u64, Key), String>,
    incoming: u64,
    running: KeyMap<Running>,
    /// Bytes of the values that are in memory, and on disk.
    managed: u64,
    spilled: u64,
    /// Counts looks at the memory, for the age of values.
    look: u64,
}

struct Held<V> {
    value: V,
    n_bytes: u64,
    used_at: u64,
    is_spilled: bool,
}

struct Running {
    inputs: Box<[Output]>,
    attempt: u32,
}

struct Waiting {
    task: Arc<Task>,
    attempt: u32,
    /// As they are held here: a result that is here whole serves for its parts.
    inputs: Box<[Output]>,
    missing: KeySet,
}

struct Fetch {
    output: Output,
    from: WorkerId,
    tasks: KeySet,
    n_bytes: u64,
    has_begun: bool,
    /// The value shall stay here, whoever needs it.
    is_to_hold: bool,
}

impl<V> Default for Worker<V> {
    fn default() -> Self {
        Worker {
            values: KeyMap::default(),
            copies: KeyMap::default(),
            spare: VecDeque::new(),
            spare_bytes: 0,
            waiting: KeyMap::default(),
            fetches: KeyMap::default(),
            postponed: BTreeMap::new(),
            incoming: 0,
            running: KeyMap::default(),
            managed: 0,
            spilled: 0,
            look: 0,
        }
    }
}

impl<V: Clone> Worker<V> {
    pub fn compute(&mut self, assignment: Assignment, comm: &mut impl Comm<V>) {
        let Assignment {
            task,
            attempt,
            inputs,
        } = assignment;
        let key = task.key;
        let outputs = task.outputs();
        let mut missing = KeySet::default();
        let mut whole = KeySet::default();
        for (input, source) in inputs {
            if self.is_here(input) {
                whole.insert(input);
                continue;
            }
            match source {
                Input::Inline(bytes) => {
                    let value = comm.decode_inline(&bytes);
                    self.insert(input, value, bytes.len() as u64);
                    self.copies.entry(input).or_insert(0);
                    whole.insert(input);
                }
                Input::At {
                    worker,
                    address,
                    n_bytes,
                } => {
                    let first = outputs.partition_point(|(output, _)| output.task < input);
                    let of_it = outputs[first..]
                        .iter()
                        .take_while(|(output, _)| output.task == input);
                    for (output, of) in of_it {
                        if self.is_here(output.key()) {
                            continue;
                        }
                        missing.insert(output.key());
                        let n_bytes = n_bytes / u64::from(*of).max(1);
                        self.fetch_of(*output, worker, address.clone(), n_bytes, task.priority)
                            .tasks
                            .insert(key);
                    }
                }
            }
        }
        let mut needed: Vec<Output> = outputs
            .into_iter()
            .map(|(output, _)| {
                let is_whole = whole.contains(&output.task) || self.values.contains_key(&output.task);
                if is_whole {
                    Output::whole(output.task)
                } else {
                    output
                }
            })
            .collect();
        needed.dedup();
        let needed: Box<[Output]> = needed.into();
        for input in &needed {
            if let Some(n_users) = self.copies.get_mut(&input.key()) {
                *n_users += 1;
            }
        }
        self.waiting.insert(
            key,
            Waiting {
                task,
                attempt,
                inputs: needed,
                missing,
            },
        );
        self.start_if_ready(key, comm);
        self.begin_fetches(comm);
    }

    /// Whether a value is here; a copy that nobody needed is needed from now on.
    fn is_here(&mut self, key: Key) -> bool {
        let is_here = self.values.contains_key(&key);
        if is_here && self.take_spare(key) {
            self.copies.insert(key, 0);
        }
        is_here
    }

    fn fetch_of(
        &mut self,
        output: Output,
        from: WorkerId,
        address: String,
        n_bytes: u64,
        priority: u64,
    ) -> &mut Fetch {
        let key = output.key();
        self.fetches.entry(key).or_insert_with(|| {
            self.postponed.insert((priority, key), address);
            Fetch {
                output,
                from,
                tasks: KeySet::default(),
                n_bytes,
                has_begun: false,
                is_to_hold: false,
            }
        })
    }

    /// Asks for what there is room for.
    fn begin_fetches(&mut self, comm: &mut impl Comm<V>) {
        while self.incoming < MOST_INCOMING
            && let Some(((_, key), address)) = self.postponed.pop_first()
        {
            let Some(fetch) = self.fetches.get_mut(&key) else {
                continue;
            };
            if !fetch.is_to_hold && !fetch.tasks.iter().any(|task| self.waiting.contains_key(task)) {
                // Everything that needed it was cancelled meanwhile.
                self.fetches.remove(&key);
                continue;
            }
            fetch.has_begun = true;
            self.incoming += fetch.n_bytes;
            comm.fetch(&address, fetch.output);
        }
    }

    fn start_if_ready(&mut self, key: Key, comm: &mut impl Comm<V>) {
        if !self
            .waiting
            .get(&key)
            .is_some_and(|waiting| waiting.missing.is_empty())
        {
            return;
        }
        let Some(Waiting {
            task,
            attempt,
            inputs,
            ..
        }) = self.waiting.remove(&key)
        else {
            return;
        };
        let mut values = HashMap::with_capacity(inputs.len());
        for input in &inputs {
            let Some(held) = self.values.get_mut(&input.key()) else {
                // The scheduler took it to be here; it is not.
                self.release_copies(&inputs);
                comm.report(ToScheduler::Missing {
                    key,
                    inputs: vec![(input.task, HERE)],
                });
                return;
            };
            held.used_at = self.look;
            values.insert(input.key(), held.value.clone());
        }
        self.running.insert(key, Running { inputs, attempt });
        comm.execute(task, attempt, values);
    }

    pub fn on_fetched(&mut self, key: Key, value: Option<(V, u64)>, comm: &mut impl Comm<V>) {
        let Some(fetch) = self.fetches.remove(&key) else {
            return;
        };
        if fetch.has_begun {
            self.incoming = self.incoming.saturating_sub(fetch.n_bytes);
        }
        match value {
            // It was made here meanwhile: then it is this worker's own, and stays.
            Some(_)
                if self.values.contains_key(&key) && !self.copies.contains_key(&key) && !fetch.is_to_hold =>
            {
                if self.take_spare(key) {
                    self.copies.insert(
                        key,
                        fetch
                            .tasks
                            .iter()
                            .filter(|task| self.waiting.contains_key(task))
                            .count() as u32,
                    );
                }
                self.start_waiting_for(key, fetch.tasks, comm);
            }
            Some((value, n_bytes)) => {
                self.insert(key, value, n_bytes);
                if fetch.is_to_hold {
                    comm.report(ToScheduler::Acquired { key, is_here: true });
                } else {
                    let n_users = fetch
                        .tasks
                        .iter()
                        .filter(|task| self.waiting.contains_key(task))
                        .count() as u32;
                    self.copies.insert(key, n_users);
                    if n_users == 0 {
                        self.drop_copy(key);
                    }
                }
                self.start_waiting_for(key, fetch.tasks, comm);
            }
            None => {
                if fetch.is_to_hold {
                    comm.report(ToScheduler::Acquired { key, is_here: false });
                }
                for task in fetch.tasks {
                    if let Some(waiting) = self.waiting.remove(&task) {
                        self.release_copies(&waiting.inputs);
                        comm.report(ToScheduler::Missing {
                            key: task,
                            inputs: vec![(fetch.output.task, fetch.from)],
                        });
                    }
                }
            }
        }
        self.begin_fetches(comm);
    }

    /// A value is where it should be, and cannot be sent: what needs it here fails with the reason.
    pub fn on_unfetchable(&mut self, key: Key, why: &str, comm: &mut impl Comm<V>) {
        let Some(fetch) = self.fetches.remove(&key) else {
            return;
        };
        self.incoming = self
            .incoming
            .saturating_sub(if fetch.has_begun { fetch.n_bytes } else { 0 });
        if fetch.is_to_hold {
            comm.report(ToScheduler::Acquired { key, is_here: false });
        }
        for task in fetch.tasks {
            if let Some(waiting) = self.waiting.remove(&task) {
                self.release_copies(&waiting.inputs);
                let message = format!("its input {} could not be sent to it: {why}", fetch.output.task);
                let error = TaskError::new(TaskErrorKind::Serialisation, message);
                comm.report(ToScheduler::Failed { key: task, error });
            }
        }
        self.begin_fetches(comm);
    }

    fn start_waiting_for(&mut self, key: Key, tasks: KeySet, comm: &mut impl Comm<V>) {
        for task in tasks {
            if let Some(waiting) = self.waiting.get_mut(&task) {
                waiting.missing.remove(&key);
                self.start_if_ready(task, comm);
            }
        }
    }

    /// Fetches a value that shall stay here.
    pub fn acquire(&mut self, key: Key, source: Input, comm: &mut impl Comm<V>) {
        if self.values.contains_key(&key) {
            // A copy for tasks becomes one to keep.
            self.copies.remove(&key);
            self.take_spare(key);
            return comm.report(ToScheduler::Acquired { key, is_here: true });
        }
        match source {
            Input::Inline(bytes) => {
                let value = comm.decode_inline(&bytes);
                self.insert(key, value, bytes.len() as u64);
                comm.report(ToScheduler::Acquired { key, is_here: true });
            }
            Input::At {
                worker,
                address,
                n_bytes,
            } => {
                self.fetch_of(Output::whole(key), worker, address, n_bytes, u64::MAX)
                    .is_to_hold = true;
                self.begin_fetches(comm);
            }
        }
    }

    /// A task has ended with a value of so many bytes, or without one. Returns whether anybody still waits
    /// for it: not for one that was cancelled, also if the same task is here again by now.
    pub fn on_finished(&mut self, key: Key, attempt: u32, value: Option<(V, u64)>) -> bool {
        if self
            .running
            .get(&key)
            .is_none_or(|running| running.attempt != attempt)
        {
            return false;
        }
        if let Some(running) = self.running.remove(&key) {
            self.release_copies(&running.inputs);
        }
        if let Some((value, n_bytes)) = value {
            // Where there was a copy, there is now the value itself, which stays when tasks are done with it.
            self.copies.remove(&key);
            self.insert(key, value, n_bytes);
        }
        true
    }

    fn insert(&mut self, key: Key, value: V, n_bytes: u64) {
        self.remove(key);
        self.managed += n_bytes;
        self.values.insert(
            key,
            Held {
                value,
                n_bytes,
                used_at: self.look,
                is_spilled: false,
            },
        );
    }

    fn remove(&mut self, key: Key) {
        self.take_spare(key);
        if let Some(held) = self.values.remove(&key) {
            let total = if held.is_spilled {
                &mut self.spilled
            } else {
                &mut self.managed
            };
            *total = total.saturating_sub(held.n_bytes);
        }
    }

    fn release_copies(&mut self, inputs: &[Output]) {
        for input in inputs {
            let key = input.key();
            if let Some(n_users) = self.copies.get_mut(&key) {
                *n_users = n_users.saturating_sub(1);
                if *n_users == 0 {
                    self.drop_copy(key);
                }
            }
        }
    }

    fn drop_copy(&mut self, key: Key) {
        self.copies.remove(&key);
        let n_bytes = self.n_bytes_of(key);
        if n_bytes > MOST_SPARE / 2 {
            return self.remove(key);
        }
        self.spare.push_back(key);
        self.spare_bytes += n_bytes;
        self.shrink_spare(MOST_SPARE);
    }

    /// Whether it was a spare copy; it is none from here on.
    fn take_spare(&mut self, key: Key) -> bool {
        let Some(at) = self.spare.iter().position(|spare| *spare == key) else {
            return false;
        };
        self.spare.remove(at);
        self.spare_bytes = self.spare_bytes.saturating_sub(self.n_bytes_of(key));
        true
    }

    fn shrink_spare(&mut self, most: u64) {
        while self.spare_bytes > most || self.spare.len() > MOST_SPARE_VALUES {
            let Some(oldest) = self.spare.front().copied() else {
                break;
            };
            self.remove(oldest);
        }
    }

    /// Memory is short: spare copies go first.
    pub fn drop_spare(&mut self) {
        self.shrink_spare(0);
        while let Some(oldest) = self.spare.front().copied() {
            self.remove(oldest);
        }
    }

    pub fn free(&mut self, keys: &[Key]) {
        for key in keys {
            if !self.copies.contains_key(key) {
                self.remove(*key);
            }
        }
    }

    pub fn cancel(&mut self, keys: &[Key], comm: &mut impl Comm<V>) {
        for key in keys {
            if let Some(waiting) = self.waiting.remove(key) {
                self.release_copies(&waiting.inputs);
            } else if let Some(running) = self.running.remove(key) {
                // If it has begun it goes on for a while, with inputs of its own, and its end is nobody's.
                self.release_copies(&running.inputs);
                comm.forget(*key, running.attempt);
            }
        }
    }

    /// Gives back up to `most` of these tasks: those that have not begun.
    pub fn give_back(&mut self, keys: &[Key], most: usize, comm: &mut impl Comm<V>) {
        let mut given = Vec::new();
        let mut queued = Vec::new();
        for key in keys {
            if given.len() >= most {
                break;
            }
            if let Some(waiting) = self.waiting.remove(key) {
                self.release_copies(&waiting.inputs);
                given.push(*key);
            } else if self.running.contains_key(key) {
                queued.push(*key);
            }
        }
        for key in comm.take_back(&queued, most - given.len()) {
            if let Some(running) = self.running.remove(&key) {
                self.release_copies(&running.inputs);
            }
            given.push(key);
        }
        comm.report(ToScheduler::GivenBack { keys: given });
    }

    /// The same value, held in another form.
    pub fn replace(&mut self, key: Key, value: V) {
        if let Some(held) = self.values.get_mut(&key).filter(|held| !held.is_spilled) {
            held.value = value;
        }
    }

    pub fn value(&self, key: Key) -> Option<&V> {
        self.values.get(&key).map(|held| &held.value)
    }

    pub fn has(&self, is_such: impl Fn(&V) -> bool) -> bool {
        self.values.values().any(|held| is_such(&held.value))
    }

    /// Values that are here, copies among them.
    pub fn n_values(&self) -> usize {
        self.values.len()
    }

    /// Bytes of values in memory, and on disk.
    pub fn bytes(&self) -> (u64, u64) {
        (self.managed, self.spilled)
    }

    pub fn n_bytes_of(&self, key: Key) -> u64 {
        self.values.get(&key).map_or(0, |held| held.n_bytes)
    }

    /// Time passes, as far as the age of values goes.
    pub fn age(&mut self) {
        self.look += 1;
    }

    /// Values of this worker's own that are in memory.
    pub fn candidates(&self) -> Vec<Candidate> {
        let own = self.values.iter().filter(|(key, held)| {
            !held.is_spilled && !self.copies.contains_key(key) && !self.spare.contains(key)
        });
        own.map(|(key, held)| Candidate {
            key: *key,
            n_bytes: held.n_bytes,
            age: self.look - held.used_at,
        })
        .collect()
    }

    /// A value was written to disk: `value` is what is held in its place. False if nobody wants it any more.
    pub fn on_spilled(&mut self, key: Key, value: V) -> bool {
        let Some(held) = self.values.get_mut(&key).filter(|held| !held.is_spilled) else {
            return false;
        };
        held.value = value;
        held.is_spilled = true;
        self.managed = self.managed.saturating_sub(held.n_bytes);
        self.spilled += held.n_bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::model::{ids::FunctionId, task::Arg};

    #[derive(Default)]
    struct World {
        executed: Vec<Key>,
        fetched: Vec<(String, Key)>,
        reports: Vec<ToScheduler>,
    }

    impl Comm<u8> for World {
        fn execute(&mut self, task: Arc<Task>, _: u32, _: HashMap<Key, u8>) {
            self.executed.push(task.key);
        }
        fn fetch(&mut self, address: &str, output: Output) {
            self.fetched.push((address.to_string(), output.key()));
        }
        fn report(&mut self, message: ToScheduler) {
            self.reports.push(message);
        }
        fn forget(&mut self, _: Key, _: u32) {}
        fn take_back(&mut self, keys: &[Key], most: usize) -> Vec<Key> {
            keys.iter()
                .filter(|key| key.0 % 2 == 0)
                .take(most)
                .copied()
                .collect()
        }
        fn decode_inline(&mut self, bytes: &[u8]) -> u8 {
            bytes[0]
        }
    }

    fn assignment(key: u128, inputs: &[(u128, Input)]) -> Assignment {
        let args = inputs.iter().map(|(key, _)| Arg::Task(Key(*key))).collect();
        let task = Task {
            key: Key(key),
            function: FunctionId(1),
            args,
            priority: 0,
            origin: 0,
            options: None,
        };
        Assignment {
            task: Arc::new(task),
            attempt: 1,
            inputs: inputs
                .iter()
                .map(|(key, input)| (Key(*key), input.clone()))
                .collect(),
        }
    }

    fn remote() -> Input {
        Input::At {
            worker: WorkerId(2),
            address: "peer".into(),
            n_bytes: 1,
        }
    }

    #[test]
    fn an_input_is_fetched_once_for_all_its_tasks_and_kept_a_while() {
        let (mut worker, mut world) = (Worker::default(), World::default());
        worker.compute(assignment(1, &[(9, remote())]), &mut world);
        worker.compute(assignment(2, &[(9, remote())]), &mut world);
        assert_eq!(world.fetched, [("peer".to_string(), Key(9))]);
        assert!(world.executed.is_empty());
        worker.on_fetched(Key(9), Some((5, 1)), &mut world);
        assert_eq!(world.executed, [Key(1), Key(2)]);
        assert!(worker.on_finished(Key(1), 1, Some((1, 1))));
        assert_eq!(worker.value(Key(9)), Some(&5), "task 2 still uses it");
        worker.on_finished(Key(2), 1, Some((2, 1)));
        assert_eq!(worker.value(Key(1)), Some(&1));
        worker.compute(assignment(3, &[(9, remote())]), &mut world);
        assert_eq!(world.fetched.len(), 1, "small copies are kept for the next task");
        worker.on_finished(Key(3), 1, None);
        worker.drop_spare();
        assert_eq!(
            (worker.value(Key(9)), worker.bytes().0),
            (None, 2),
            "but not for ever"
        );
    }

    #[test]
    fn parts_are_fetched_one_by_one_and_a_whole_serves_for_all() {
        let part = |task: u128, part: u32| Arg::Part {
            task: Key(task),
            part,
            of: 4,
        };
        let output = |part: u32| Output {
            task: Key(9),
            part: Some(part),
        };
        let needs = |key: u128, args: Vec<Arg>| {
            let mut assignment = assignment(key, &[(9, remote())]);
            Arc::make_mut(&mut assignment.task).args = args;
            assignment
        };
        let (mut worker, mut world) = (Worker::default(), World::default());
        worker.compute(needs(1, vec![part(9, 2), part(9, 0), part(9, 2)]), &mut world);
        let fetched: Vec<Key> = world.fetched.iter().map(|(_, key)| *key).collect();
        assert_eq!(fetched, [output(0).key(), output(2).key()]);
        worker.on_fetched(output(0).key(), Some((5, 1)), &mut world);
        assert!(world.executed.is_empty());
        worker.on_fetched(output(2).key(), None, &mut world);
        let inputs = vec![(Key(9), WorkerId(2))];
        assert_eq!(
            world.reports,
            [ToScheduler::Missing { key: Key(1), inputs }],
            "the scheduler knows tasks, not parts"
        );
        // Whole, and a part of it: one fetch.
        worker.compute(needs(2, vec![part(9, 1), Arg::Task(Key(9))]), &mut world);
        assert_eq!(world.fetched.last(), Some(&("peer".to_string(), Key(9))));
        assert_eq!(world.fetched.len(), 3);
        worker.on_fetched(Key(9), Some((7, 4)), &mut world);
        worker.compute(needs(3, vec![part(9, 3)]), &mut world);
        assert_eq!(
            (world.executed.len(), world.fetched.len()),
            (2, 3),
            "the whole is here"
        );
    }

    #[test]
    fn a_failed_fetch_is_reported_with_its_holder() {
        let (mut worker, mut world) = (Worker::<u8>::default(), World::default());
        worker.compute(assignment(1, &[(9, remote())]), &mut world);
        worker.on_fetched(Key(9), None, &mut world);
        assert_eq!(
            world.reports,
            [ToScheduler::Missing {
                key: Key(1),
                inputs: vec![(Key(9), WorkerId(2))]
            }]
        );
    }

    #[test]
    fn inline_inputs_need_no_fetch_and_cancelled_results_are_dropped() {
        let (mut worker, mut world) = (Worker::default(), World::default());
        worker.compute(
            assignment(1, &[(9, Input::Inline(ByteBuf::from(vec![7])))]),
            &mut world,
        );
        assert_eq!(world.executed, [Key(1)]);
        worker.cancel(&[Key(1)], &mut world);
        assert!(!worker.on_finished(Key(1), 1, Some((3, 1))));
        assert_eq!(worker.value(Key(1)), None);
    }

    #[test]
    fn a_cancelled_task_that_comes_again_is_another_one() {
        let (mut worker, mut world) = (Worker::<u8>::default(), World::default());
        worker.compute(assignment(1, &[]), &mut world);
        worker.cancel(&[Key(1)], &mut world);
        worker.compute(
            Assignment {
                attempt: 2,
                ..assignment(1, &[])
            },
            &mut world,
        );
        assert!(
            !worker.on_finished(Key(1), 1, None),
            "the end of the first is nobody's"
        );
        assert!(worker.on_finished(Key(1), 2, Some((4, 1))));
        assert_eq!(worker.value(Key(1)), Some(&4));
    }

    #[test]
    fn fetches_wait_for_room_and_go_by_urgency() {
        let (mut worker, mut world) = (Worker::<u8>::default(), World::default());
        let large = |n: u64| Input::At {
            worker: WorkerId(2),
            address: "peer".into(),
            n_bytes: n,
        };
        worker.compute(assignment(1, &[(11, large(MOST_INCOMING))]), &mut world);
        worker.compute(assignment(2, &[(12, large(9))]), &mut world);
        worker.compute(assignment(4, &[(14, large(9))]), &mut world);
        assert_eq!(world.fetched.len(), 1, "the rest would only wait in memory");
        worker.cancel(&[Key(2)], &mut world);
        worker.on_fetched(Key(11), Some((0, MOST_INCOMING)), &mut world);
        let fetched: Vec<Key> = world.fetched.iter().map(|(_, key)| *key).collect();
        assert_eq!(
            fetched,
            [Key(11), Key(14)],
            "and what nobody waits for is not fetched"
        );
    }

    #[test]
    fn tasks_that_have_not_begun_are_given_back() {
        let (mut worker, mut world) = (Worker::<u8>::default(), World::default());
        for key in 1..=4 {
            worker.compute(assignment(key, &[]), &mut world);
        }
        worker.compute(assignment(5, &[(9, remote())]), &mut world);
        worker.give_back(&[1, 2, 3, 4, 5].map(Key), 2, &mut world);
        assert_eq!(
            world.reports,
            [ToScheduler::GivenBack {
                keys: vec![Key(5), Key(2)]
            }]
        );
    }

    #[test]
    fn what_is_held_is_counted_in_memory_and_on_disk() {
        let (mut worker, mut world) = (Worker::default(), World::default());
        worker.compute(assignment(1, &[]), &mut world);
        worker.on_finished(Key(1), 1, Some((1, 100)));
        worker.acquire(Key(9), remote(), &mut world);
        worker.on_fetched(Key(9), Some((2, 50)), &mut world);
        assert_eq!(
            world.reports,
            [ToScheduler::Acquired {
                key: Key(9),
                is_here: true
            }]
        );
        assert_eq!(worker.bytes(), (150, 0));
        assert!(worker.on_spilled(Key(1), 7));
        assert_eq!((worker.bytes(), worker.candidates().len()), ((50, 100), 1));
        worker.free(&[Key(1), Key(9)]);
        assert_eq!(worker.bytes(), (0, 0));
        assert!(!worker.on_spilled(Key(1), 7), "nobody wants it any more");
    }
}
