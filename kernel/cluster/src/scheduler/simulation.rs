//! The scheduler and the real worker machines on a simulated network: a virtual clock, links that are late
//! and now and then say things twice, workers that die and come, and invariants that are checked at every
//! step. A seed gives the same run.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{tests::*, *};
use crate::model::task::{Arg, Output};
use crate::{
    wire::protocol::{Assignment, Input, ToScheduler},
    worker::{machine, simulated::Simulated},
};

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub seed: u64,
    pub n_workers: u32,
    pub n_tasks: usize,
    pub n_deaths: u32,
    /// Of a thousand messages from workers, so many come twice.
    pub twice: u32,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// Each task needs up to three of those shortly before it.
    Random,
    /// Leaves, and pairs of results until one is left.
    Tree,
}

enum Happening {
    ToWorker(WorkerId, ToWorker),
    ToScheduler(WorkerId, ToScheduler),
    Ran(WorkerId, Key, u32, u64),
    Fetched(WorkerId, Output, WorkerId),
    Death,
    Look,
}

struct Worker {
    simulated: Simulated,
    running: Option<(Key, u32)>,
}

impl Worker {
    fn new() -> Worker {
        Worker {
            simulated: Simulated::default(),
            running: None,
        }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub virtual_us: u64,
    pub n_events: u64,
    pub n_runs: u64,
    pub n_given_up: usize,
    /// Values that were on workers at once, at most.
    pub most_values: usize,
    pub n_stolen: u64,
}

struct Net {
    clock: u64,
    /// Ordered by time, then by number: what is sent first comes first.
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    what: HashMap<u64, Happening>,
    n_sent: u64,
    /// Links keep the order of what they carry.
    link_free: HashMap<(bool, WorkerId), u64>,
    rng: fastrand::Rng,
}

impl Net {
    fn at(&mut self, time: u64, what: Happening) {
        self.n_sent += 1;
        self.what.insert(self.n_sent, what);
        self.heap.push(Reverse((time, self.n_sent)));
    }

    /// Over a link: 50 µs, some slow, one in a hundred very late, never out of order.
    fn carry(&mut self, is_up: bool, worker: WorkerId, what: Happening) {
        let slow = if worker.0.is_multiple_of(17) { 3_000 } else { 0 };
        let late = if self.rng.u32(0..100) == 0 {
            self.rng.u64(0..20_000)
        } else {
            0
        };
        let free = self.link_free.entry((is_up, worker)).or_default();
        let time = (self.clock + 50 + slow + late).max(*free);
        *free = time;
        self.at(time, what);
    }
}

pub(super) fn simulate(setup: Setup) -> Outcome {
    let mut net = Net {
        clock: 0,
        heap: BinaryHeap::new(),
        what: HashMap::new(),
        n_sent: 0,
        link_free: HashMap::new(),
        rng: fastrand::Rng::with_seed(setup.seed),
    };
    let mut world = World::default();
    let mut scheduler = started(0, &mut world);
    let mut workers: BTreeMap<WorkerId, Worker> = BTreeMap::new();
    for id in 1..=setup.n_workers {
        workers.insert(WorkerId(id), Worker::new());
        scheduler.add_worker(WorkerId(id), new_worker(id), &mut world);
    }
    let (tasks, wanted) = graph(setup, &mut net.rng);
    let n_tasks = tasks.len();
    let inputs: KeyMap<Vec<Key>> = tasks.iter().map(|task| (task.key, task.dependencies())).collect();
    scheduler.submit(CLIENT, tasks, &wanted, &mut world);
    let mut deaths: Vec<u64> = (0..setup.n_deaths).map(|_| net.rng.u64(0..2_000_000)).collect();
    deaths.sort_unstable();
    deaths.into_iter().for_each(|time| net.at(time, Happening::Death));
    net.at(1_000, Happening::Look);
    let mut outcome = Outcome::default();
    let mut n_alive_names = setup.n_workers;
    let mut n_values = 0usize;
    loop {
        // What the scheduler said goes onto the links.
        for (worker, queue) in &mut world.to_workers {
            for message in queue.drain(..) {
                net.carry(false, *worker, Happening::ToWorker(*worker, message));
            }
        }
        outcome.n_stolen += world
            .events
            .drain(..)
            .filter(|event| matches!(event, Event::Stolen { .. }))
            .count() as u64;
        let Some(Reverse((time, id))) = net.heap.pop() else {
            break;
        };
        net.clock = time;
        outcome.n_events += 1;
        assert!(
            outcome.n_events < 60 * n_tasks as u64 + 1_000_000,
            "{setup:?}: it does not end"
        );
        scheduler.set_now(time, &mut world);
        let touched = match net
            .what
            .remove(&id)
            .expect("invariant: put there with its number")
        {
            Happening::ToWorker(id, message) => {
                let Some(worker) = workers.get_mut(&id) else {
                    continue;
                };
                let before = worker.simulated.machine.n_values();
                deliver(worker, message, setup);
                n_values = (n_values + worker.simulated.machine.n_values()).saturating_sub(before);
                id
            }
            Happening::ToScheduler(id, message) => {
                hear(&mut scheduler, id, message, &mut world);
                continue;
            }
            Happening::Ran(id, key, attempt, duration_us) => {
                let Some(worker) = workers.get_mut(&id) else {
                    continue;
                };
                if worker.running == Some((key, attempt)) {
                    worker.running = None;
                    outcome.n_runs += 1;
                    let before = worker.simulated.machine.n_values();
                    worker.simulated.ran(Ran {
                        attempt,
                        duration_us,
                        ..ran(key)
                    });
                    n_values = (n_values + worker.simulated.machine.n_values()).saturating_sub(before);
                    outcome.most_values = outcome.most_values.max(n_values);
                }
                id
            }
            Happening::Fetched(id, output, from) => {
                let is_there = workers
                    .get(&from)
                    .is_some_and(|worker| worker.simulated.machine.value(output.task).is_some());
                let Some(worker) = workers.get_mut(&id) else {
                    continue;
                };
                worker.simulated.fetched(output, is_there.then_some(100));
                id
            }
            Happening::Death => {
                let alive: Vec<WorkerId> = workers.keys().copied().collect();
                let victim = alive[net.rng.usize(0..alive.len())];
                let died = workers.remove(&victim).expect("invariant: listed above");
                n_values = n_values.saturating_sub(died.simulated.machine.n_values());
                scheduler.on_worker_lost(victim, "chaos", &mut world);
                n_alive_names += 1;
                let new = WorkerId(n_alive_names);
                workers.insert(new, Worker::new());
                scheduler.add_worker(new, new_worker(n_alive_names), &mut world);
                continue;
            }
            Happening::Look => {
                check(&scheduler, &workers, &inputs, setup);
                let has_ended = |key| {
                    matches!(
                        world.finished.get(key),
                        Some(Finished::Done { .. } | Finished::Failed(_))
                    )
                };
                // Tasks that nobody wants run to their end too.
                if wanted.iter().all(has_ended)
                    && !scheduler.tasks.values().any(|record| record.state.is_pending())
                {
                    break;
                }
                let every = 1_000 * (n_tasks as u64 / 2_000).max(1);
                net.at(time + every, Happening::Look);
                continue;
            }
        };
        // What the worker does about it.
        let worker = workers.get_mut(&touched).expect("invariant: alive above");
        for message in worker.simulated.take_reports() {
            if net.rng.u32(0..1000) < setup.twice {
                net.carry(true, touched, Happening::ToScheduler(touched, message.clone()));
            }
            net.carry(true, touched, Happening::ToScheduler(touched, message));
        }
        for (address, output) in worker.simulated.take_fetches() {
            let from = WorkerId(address[1..].parse().expect("invariant: addresses are made here"));
            let takes = 100 + net.rng.u64(0..200);
            net.at(time + takes, Happening::Fetched(touched, output, from));
        }
        if worker.running.is_none()
            && let Some((key, attempt)) = worker.simulated.next_task()
        {
            worker.running = Some((key, attempt));
            let takes = if net.rng.u32(0..500) == 0 {
                50_000
            } else {
                net.rng.u64(20..400)
            };
            net.at(time + takes, Happening::Ran(touched, key, attempt, takes));
        }
    }
    outcome.virtual_us = net.clock;
    for key in &wanted {
        let how = world.finished.get(key);
        outcome.n_given_up += usize::from(
            matches!(how, Some(Finished::Failed(error)) if error.kind == TaskErrorKind::KilledWorkers),
        );
        let is_right = matches!(how, Some(Finished::Done { .. }))
            || matches!(how, Some(Finished::Failed(error)) if error.kind == TaskErrorKind::KilledWorkers);
        assert!(
            is_right,
            "{setup:?}: {key:?} ended as {how:?}, {:?}",
            scheduler.tasks.get(key).map(|record| &record.state)
        );
    }
    scheduler.release(CLIENT, &wanted, &mut world);
    let left: Vec<(&Key, &State, u32, u32)> = scheduler
        .tasks
        .iter()
        .map(|(key, r)| (key, &r.state, r.n_pending, r.n_dependents))
        .collect();
    assert!(
        left.is_empty(),
        "{setup:?}: records are left for nobody: {left:?}"
    );
    assert!(
        scheduler
            .workers
            .values()
            .all(|worker| worker.held_bytes == 0 && worker.values.is_empty()),
        "{setup:?}: values are left"
    );
    outcome
}

fn graph(setup: Setup, rng: &mut fastrand::Rng) -> (Vec<Task>, Vec<Key>) {
    let n = setup.n_tasks as u128;
    match setup.shape {
        Shape::Tree => {
            // Depth first, as a program numbers them: a pair is joined as soon as both are there.
            let mut tasks = Vec::new();
            let mut open: Vec<(u32, u128)> = Vec::new();
            let mut next = 1u128;
            while (tasks.len() as u128) < n {
                tasks.push(task(next, &[]));
                open.push((0, next));
                next += 1;
                while open.len() >= 2 && open[open.len() - 1].0 == open[open.len() - 2].0 {
                    let ((height, a), (_, b)) = (open.pop().expect("two"), open.pop().expect("two"));
                    tasks.push(task(next, &[b, a]));
                    open.push((height + 1, next));
                    next += 1;
                }
            }
            let wanted = open.iter().map(|(_, key)| Key(*key)).collect();
            (tasks, wanted)
        }
        Shape::Random => {
            let tasks = (1..=n).map(|key| {
                let n_inputs = rng.usize(0..3).min(key as usize - 1);
                let mut inputs: Vec<u128> = (0..n_inputs).map(|_| key - rng.u128(1..200.min(key))).collect();
                inputs.sort_unstable();
                inputs.dedup();
                // Some need only a part of their inputs.
                let mut task = task(key, &inputs);
                for arg in &mut task.args {
                    if let Arg::Task(key) = arg
                        && rng.u32(0..4) == 0
                    {
                        let (task, part) = (*key, rng.u32(0..3));
                        *arg = Arg::Part { task, part, of: 3 };
                    }
                }
                task
            });
            let tasks = tasks.collect();
            let wanted = (1..=n)
                .filter(|key| key % 50 == 0 || *key == n)
                .map(Key)
                .collect();
            (tasks, wanted)
        }
    }
}

fn deliver(worker: &mut Worker, message: ToWorker, setup: Setup) {
    if let ToWorker::Compute(assignment) = &message {
        check_assignment(assignment, &worker.simulated.machine, setup);
    }
    worker.simulated.deliver(message);
}

/// Each input is either named with its holder, or meant to be here.
fn check_assignment(assignment: &Assignment, machine: &machine::Worker<()>, setup: Setup) {
    for input in assignment.task.dependencies() {
        let is_named = assignment
            .inputs
            .iter()
            .any(|(key, source)| *key == input && matches!(source, Input::At { .. }));
        assert!(
            is_named || machine.value(input).is_some(),
            "{setup:?}: {:x} came without {:x}",
            assignment.task.key.0,
            input.0
        );
    }
}

fn hear(scheduler: &mut Scheduler, id: WorkerId, message: ToScheduler, world: &mut World) {
    match message {
        ToScheduler::Done(ran) => scheduler.on_done(id, ran, world),
        ToScheduler::Missing { key, inputs } => scheduler.on_missing(id, key, &inputs, world),
        ToScheduler::GivenBack { keys } => scheduler.on_given_back(id, &keys, world),
        ToScheduler::Acquired { key, is_here } => scheduler.on_acquired(id, key, is_here, world),
        other => panic!("a simulated worker does not say {other:?}"),
    }
}

/// What must hold at any time, over all records.
fn check(
    scheduler: &Scheduler,
    workers: &BTreeMap<WorkerId, Worker>,
    inputs: &KeyMap<Vec<Key>>,
    setup: Setup,
) {
    for (key, record) in &scheduler.tasks {
        let n_pending = |input: &Key| {
            scheduler
                .tasks
                .get(input)
                .is_some_and(|input| input.n_pending > 0)
        };
        match &record.state {
            State::Waiting { n_missing } => {
                let n_open = inputs[key]
                    .iter()
                    .filter(|input| !matches!(scheduler.tasks[*input].state, State::Done { .. }))
                    .count();
                assert_eq!(
                    n_open, *n_missing as usize,
                    "{setup:?}: {key:?} waits for the wrong number of inputs"
                );
            }
            State::Ready => assert!(
                inputs[key]
                    .iter()
                    .all(|input| matches!(scheduler.tasks[input].state, State::Done { .. })),
                "{setup:?}: {key:?} is ready without its inputs"
            ),
            State::Assigned(worker) => assert!(
                scheduler.workers[worker].assigned.contains_key(key),
                "{setup:?}: {key:?} is assigned to nobody"
            ),
            State::Done { holders } => {
                assert!(
                    !record.wanted_by.is_empty() || record.n_pending > 0,
                    "{setup:?}: the value of {key:?} is kept for nobody"
                );
                assert!(
                    holders.iter().all(|holder| workers.contains_key(holder)),
                    "{setup:?}: {key:?} is held by the dead"
                );
            }
            State::Freed => assert!(
                record.wanted_by.is_empty() && record.n_pending == 0,
                "{setup:?}: {key:?} was freed while needed"
            ),
            State::Failed(_) => {}
        }
        if record.state.is_pending() {
            assert!(
                inputs[key].iter().all(n_pending),
                "{setup:?}: {key:?} waits, and an input does not know"
            );
        }
    }
    let n_assigned: usize = scheduler
        .workers
        .values()
        .map(|worker| worker.assigned.len())
        .sum();
    let n_in_state = scheduler
        .tasks
        .values()
        .filter(|record| matches!(record.state, State::Assigned(_)))
        .count();
    assert_eq!(n_assigned, n_in_state, "{setup:?}: workers and tasks disagree");
    for (id, worker) in &scheduler.workers {
        assert_eq!(
            worker.seat.is_some(),
            worker.has_room(),
            "{setup:?}: {id} has another seat than room"
        );
        assert_eq!(
            worker.load_us,
            worker.assigned.values().sum::<u64>(),
            "{setup:?}: the load of {id}"
        );
    }
}

/// `SKEP_SEED` runs one seed again.
fn seeds(n: u64) -> Vec<u64> {
    match std::env::var("SKEP_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..n).collect(),
    }
}

#[test]
fn random_graphs_on_a_bad_day() {
    for seed in seeds(60) {
        let setup = Setup {
            seed,
            n_workers: 1 + seed as u32 % 9,
            n_tasks: 400,
            n_deaths: seed as u32 % 12,
            twice: 30,
            shape: Shape::Random,
        };
        simulate(setup);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let setup = Setup {
        seed: 5,
        n_workers: 7,
        n_tasks: 500,
        n_deaths: 6,
        twice: 20,
        shape: Shape::Random,
    };
    let (a, b) = (simulate(setup), simulate(setup));
    assert_eq!(
        (a.virtual_us, a.n_events, a.n_runs),
        (b.virtual_us, b.n_events, b.n_runs)
    );
}

#[test]
fn a_reduction_keeps_memory_flat() {
    let flat = |n_tasks| {
        simulate(Setup {
            seed: 1,
            n_workers: 8,
            n_tasks,
            n_deaths: 0,
            twice: 0,
            shape: Shape::Tree,
        })
    };
    let (small, large) = (flat(2_000), flat(64_000));
    assert!(
        large.most_values < 2 * small.most_values + 16,
        "{small:?} {large:?}"
    );
    assert!(
        large.most_values < 600,
        "a few for each worker and level: {large:?}"
    );
    assert_eq!(
        large.n_runs,
        64_000.max(large.n_runs),
        "nothing runs twice without need"
    );
}

/// The size that DESIGN names. In a debug build it would take minutes.
#[test]
#[cfg(not(debug_assertions))]
fn a_thousand_workers_and_a_million_tasks() {
    let setup = Setup {
        seed: 42,
        n_workers: 1_000,
        n_tasks: 1_000_000,
        n_deaths: 40,
        twice: 1,
        shape: Shape::Random,
    };
    let outcome = simulate(setup);
    assert!(outcome.n_runs >= 1_000_000, "{outcome:?}");
    assert_eq!(outcome.n_given_up, 0, "{outcome:?}");
}
