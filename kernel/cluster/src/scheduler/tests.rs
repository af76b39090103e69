//! The scheduler against simulated workers: random graphs, deaths, releases and cancellations from a seed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::*;
use crate::model::ids::HERE;
use crate::{
    model::{
        cluster::Memory,
        ids::KeySet,
        task::{Arg, CodePlace, TaskOptions},
    },
    wire::protocol::{Assignment, Input},
};

pub(super) const FUNCTION: FunctionId = FunctionId(1);
pub(super) const CODE: CodeId = CodeId(1);
pub(super) const CLIENT: ClientId = ClientId(1);

#[derive(Default)]
pub(super) struct World {
    pub to_workers: BTreeMap<WorkerId, VecDeque<ToWorker>>,
    pub finished: HashMap<Key, Finished>,
    pub events: Vec<Event>,
}

impl Comm for World {
    fn to_worker(&mut self, worker: WorkerId, message: ToWorker) {
        self.to_workers.entry(worker).or_default().push_back(message);
    }
    fn to_client(&mut self, _: ClientId, message: ToClient) {
        if let ToClient::Finished { key, how } = message {
            self.finished.insert(key, how);
        }
    }
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

pub(super) fn task(key: u128, inputs: &[u128]) -> Task {
    Task {
        key: Key(key),
        function: FUNCTION,
        args: inputs.iter().map(|key| Arg::Task(Key(*key))).collect(),
        priority: key as u64,
        origin: 0,
        options: None,
    }
}

pub(super) fn ran(key: Key) -> Ran {
    Ran {
        key,
        attempt: 1,
        n_bytes: 100,
        n_rows: None,
        inline: None,
        start_us: 0,
        duration_us: 10,
        cpu_us: 10,
    }
}

pub(super) fn new_worker(id: u32) -> NewWorker {
    NewWorker {
        pid: id,
        address: format!("w{id}"),
        threads: 1,
        ..NewWorker::default()
    }
}

pub(super) fn started(n_workers: u32, world: &mut World) -> Scheduler {
    let mut scheduler = Scheduler::default();
    scheduler.add_function(
        Function {
            id: FUNCTION,
            name: "f".into(),
            code: CODE,
            place: CodePlace::Offset(0),
        },
        world,
    );
    scheduler.code_ready(CODE, "lib".into(), world);
    for id in 1..=n_workers {
        scheduler.add_worker(WorkerId(id), new_worker(id), world);
    }
    scheduler
}

/// Assignments that a worker was sent, oldest first.
fn assignments(world: &mut World, worker: u32) -> Vec<Assignment> {
    let queue = world.to_workers.entry(WorkerId(worker)).or_default();
    queue
        .drain(..)
        .filter_map(|message| {
            if let ToWorker::Compute(assignment) = message {
                Some(assignment)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_chain_runs_in_order_and_frees_what_nobody_needs() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[]), task(2, &[1])], &[Key(2)], &mut world);
    let first = assignments(&mut world, 1);
    assert_eq!(first.iter().map(|a| a.task.key).collect::<Vec<_>>(), [Key(1)]);
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    assert_eq!(assignments(&mut world, 1)[0].task.key, Key(2));
    scheduler.on_done(WorkerId(1), ran(Key(2)), &mut world);
    assert!(matches!(world.finished[&Key(2)], Finished::Done { .. }));
    assert!(world.to_workers[&WorkerId(1)].contains(&ToWorker::Free { keys: vec![Key(1)] }));
    scheduler.release(CLIENT, &[Key(2)], &mut world);
    assert_eq!(scheduler.tasks.len(), 0, "nothing is kept for nobody");
}

#[test]
fn nothing_waits_for_workers_that_will_not_come() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    scheduler.submit(CLIENT, vec![task(2, &[]), task(3, &[2])], &[Key(3)], &mut world);
    scheduler.on_worker_left(WorkerId(1), "the cluster was shut down", &mut world);
    assert!(!matches!(world.finished.get(&Key(3)), Some(Finished::Failed(_))));
    scheduler.close(&mut world);
    let is_told = |world: &World, key: u128| match &world.finished[&Key(key)] {
        Finished::Failed(error) => error.message.contains("shut down") && error.hint.is_some(),
        _ => false,
    };
    assert!(is_told(&world, 3), "what waited");
    assert!(is_told(&world, 1), "the value is lost, and cannot be made again");
    scheduler.submit(CLIENT, vec![task(4, &[])], &[Key(4)], &mut world);
    assert!(is_told(&world, 4), "what comes later");
    scheduler.open();
    scheduler.add_worker(WorkerId(2), new_worker(2), &mut world);
    scheduler.submit(CLIENT, vec![task(4, &[])], &[Key(4)], &mut world);
    assert_eq!(
        assignments(&mut world, 2)[0].task.key,
        Key(4),
        "and it is tried again"
    );
}

#[test]
fn a_wait_that_nothing_ends_is_told_with_its_reason() {
    let mut world = World::default();
    let mut scheduler = started(0, &mut world);
    let told = |world: &mut World| -> Vec<Option<String>> {
        let events = std::mem::take(&mut world.events).into_iter();
        let stalls = events.filter_map(|event| match event {
            Event::Stalled { why } => Some(why),
            _ => None,
        });
        stalls.collect()
    };
    scheduler.check_stall(&mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    scheduler.check_stall(&mut world);
    assert_eq!(told(&mut world), [], "a moment is nothing");
    for _ in 0..5 {
        scheduler.check_stall(&mut world);
    }
    assert_eq!(told(&mut world), [Some("there is no worker".to_string())]);
    scheduler.add_worker(WorkerId(1), new_worker(1), &mut world);
    scheduler.check_stall(&mut world);
    scheduler.check_stall(&mut world);
    assert_eq!(told(&mut world), [None]);
}

#[test]
fn only_the_parts_that_are_needed_count_as_moved() {
    let mut world = World::default();
    let mut scheduler = started(2, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    let maker = *world
        .to_workers
        .iter()
        .find(|(_, sent)| !sent.is_empty())
        .unwrap()
        .0;
    let ran = Ran {
        n_bytes: 1_000,
        n_rows: None,
        inline: None,
        ..ran(Key(1))
    };
    scheduler.on_done(maker, ran, &mut world);
    let other = WorkerId(3 - maker.0);
    let needs = |key: u128, parts: &[u32]| Task {
        args: parts
            .iter()
            .map(|part| Arg::Part {
                task: Key(1),
                part: *part,
                of: 4,
            })
            .collect(),
        ..task_with(
            key,
            &[],
            TaskOptions {
                workers: vec![other],
                ..TaskOptions::default()
            },
        )
    };
    let tasks = vec![needs(2, &[0]), needs(3, &[1, 3, 1])];
    scheduler.submit(CLIENT, tasks, &[Key(2), Key(3)], &mut world);
    let moved: Vec<u64> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Assigned { key, moved_bytes, .. } if *key != Key(1) => Some(*moved_bytes),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [250, 500]);
}

#[test]
fn a_published_value_outlives_the_program_that_made_it() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    scheduler.publish(asker(CLIENT), published("x", 1), &mut world);
    scheduler.on_client_lost(CLIENT, &mut world);
    assert_eq!(scheduler.tasks.len(), 1, "kept for its name");
    scheduler.submit(ClientId(2), Vec::new(), &[Key(1)], &mut world);
    scheduler.publish(asker(ClientId(2)), published("y", 9), &mut world);
    assert_eq!(
        scheduler.published.keys().collect::<Vec<_>>(),
        ["x"],
        "what is not there gets no name"
    );
    scheduler.unpublish(asker(ClientId(2)), "x", &mut world);
    assert_eq!(scheduler.tasks.len(), 1, "kept for the handle");
    scheduler.release(ClientId(2), &[Key(1)], &mut world);
    assert_eq!(scheduler.tasks.len(), 0);
}

fn published(name: &str, key: u128) -> Published {
    Published {
        name: name.into(),
        keys: vec![Key(key)],
        type_name: "i64".into(),
        layout: 0,
        task: String::new(),
    }
}

fn asker(client: ClientId) -> Asker {
    Asker {
        client,
        id: crate::wire::protocol::AskId(1),
    }
}

fn failure() -> TaskError {
    TaskError {
        function: "f".into(),
        ..TaskError::new(TaskErrorKind::Failed, "no")
    }
}

fn task_with(key: u128, inputs: &[u128], options: TaskOptions) -> Task {
    Task {
        options: Some(Arc::new(options)),
        ..task(key, inputs)
    }
}

#[test]
fn a_failed_task_is_retried_after_its_delay_and_given_up_after_its_retries() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    let options = TaskOptions {
        retries: 2,
        retry_delay_us: 1_000,
        ..TaskOptions::default()
    };
    scheduler.submit(
        CLIENT,
        vec![task(1, &[]), task_with(2, &[1], options)],
        &[Key(2)],
        &mut world,
    );
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    for attempt in 1..=2 {
        assert_eq!(assignments(&mut world, 1).last().unwrap().task.key, Key(2));
        scheduler.on_failed(WorkerId(1), Key(2), failure(), &mut world);
        assert_eq!(scheduler.next_timer(), Some(attempt * 1_000));
        scheduler.set_now(attempt * 1_000 - 1, &mut world);
        assert!(assignments(&mut world, 1).is_empty(), "not before its time");
        assert!(
            !world.to_workers[&WorkerId(1)].contains(&ToWorker::Free { keys: vec![Key(1)] }),
            "its input is kept"
        );
        scheduler.set_now(attempt * 1_000, &mut world);
    }
    scheduler.on_failed(WorkerId(1), Key(2), failure(), &mut world);
    let Finished::Failed(error) = &world.finished[&Key(2)] else {
        panic!("it has failed")
    };
    assert_eq!(error.message, "no (the last of 3 attempts)");
    assert_eq!(scheduler.next_timer(), None);
}

#[test]
fn a_task_that_takes_too_long_is_stopped() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(
        CLIENT,
        vec![task_with(
            1,
            &[],
            TaskOptions {
                timeout_us: 500,
                ..TaskOptions::default()
            },
        )],
        &[Key(1)],
        &mut world,
    );
    scheduler.set_now(499, &mut world);
    assert!(!world.finished.contains_key(&Key(1)));
    scheduler.set_now(500, &mut world);
    assert!(world.to_workers[&WorkerId(1)].contains(&ToWorker::Cancel { keys: vec![Key(1)] }));
    let Finished::Failed(error) = &world.finished[&Key(1)] else {
        panic!("it has failed")
    };
    assert_eq!(error.kind, TaskErrorKind::TimedOut);
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    assert!(
        matches!(world.finished[&Key(1)], Finished::Failed(_)),
        "a late result changes nothing"
    );
}

#[test]
fn a_pinned_task_waits_for_its_worker_and_fails_without_one() {
    let mut world = World::default();
    let mut scheduler = started(2, &mut world);
    let on = |id| TaskOptions {
        workers: vec![WorkerId(id)],
        ..TaskOptions::default()
    };
    scheduler.submit(
        CLIENT,
        (1..=8).map(|key| task_with(key, &[], on(2))).collect(),
        &(1..=8).map(Key).collect::<Vec<_>>(),
        &mut world,
    );
    scheduler.submit(CLIENT, vec![task(9, &[])], &[Key(9)], &mut world);
    assert_eq!(
        assignments(&mut world, 1)
            .iter()
            .map(|a| a.task.key)
            .collect::<Vec<_>>(),
        [Key(9)],
        "others go ahead"
    );
    assert!(assignments(&mut world, 2).iter().all(|a| a.task.key != Key(9)));
    scheduler.submit(CLIENT, vec![task_with(20, &[], on(7))], &[Key(20)], &mut world);
    assert!(matches!(&world.finished[&Key(20)], Finished::Failed(error) if error.hint.is_some()));
}

#[test]
fn a_detached_task_runs_to_its_end_and_leaves_nothing() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    scheduler.detach(Key(1));
    scheduler.release(CLIENT, &[Key(1)], &mut world);
    assert_eq!(assignments(&mut world, 1).len(), 1, "nobody cancelled it");
    assert_eq!(scheduler.tasks.len(), 1);
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    assert_eq!(scheduler.tasks.len(), 0);
}

#[test]
fn a_retired_worker_is_no_loss_and_its_values_are_made_again() {
    let mut world = World::default();
    let mut scheduler = started(2, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    scheduler.on_done(WorkerId(1), ran(Key(1)), &mut world);
    assert_eq!(
        scheduler.idle_workers(),
        [WorkerId(2), WorkerId(1)],
        "the one that holds nothing goes first"
    );
    scheduler.retire(WorkerId(1), &mut world);
    assert!(scheduler.info().losses.is_empty());
    assert_eq!(assignments(&mut world, 2)[0].task.key, Key(1));
}

#[test]
fn tasks_wait_for_their_code() {
    let mut world = World::default();
    let mut scheduler = Scheduler::default();
    scheduler.add_function(
        Function {
            id: FUNCTION,
            name: "f".into(),
            code: CODE,
            place: CodePlace::Offset(0),
        },
        &mut world,
    );
    scheduler.add_worker(WorkerId(1), new_worker(1), &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    assert!(assignments(&mut world, 1).is_empty());
    scheduler.code_ready(CODE, "lib".into(), &mut world);
    assert_eq!(assignments(&mut world, 1).len(), 1);
}

#[test]
fn a_lost_value_is_made_again_with_what_it_needs() {
    let mut world = World::default();
    let mut scheduler = started(2, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[]), task(2, &[1])], &[Key(2)], &mut world);
    let holder = if assignments(&mut world, 1).is_empty() {
        2
    } else {
        1
    };
    scheduler.on_done(WorkerId(holder), ran(Key(1)), &mut world);
    let second = if assignments(&mut world, 1).is_empty() {
        2
    } else {
        1
    };
    scheduler.on_done(WorkerId(second), ran(Key(2)), &mut world);
    scheduler.on_worker_lost(WorkerId(second), "killed", &mut world);
    assert_eq!(world.finished[&Key(2)], Finished::Pending);
    let other = 3 - second;
    let again: Vec<Key> = assignments(&mut world, other)
        .iter()
        .map(|a| a.task.key)
        .collect();
    assert_eq!(again, [Key(1)], "its input was freed, so that runs first");
    scheduler.on_done(WorkerId(other), ran(Key(1)), &mut world);
    assert!(
        assignments(&mut world, other).is_empty(),
        "late news of the first attempt"
    );
    scheduler.on_done(
        WorkerId(other),
        Ran {
            attempt: 2,
            ..ran(Key(1))
        },
        &mut world,
    );
    assert_eq!(assignments(&mut world, other)[0].task.key, Key(2));
}

#[test]
fn a_task_that_kills_three_workers_fails_with_the_cause_and_spares_the_rest() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(
        CLIENT,
        vec![task(1, &[]), task(2, &[])],
        &[Key(1), Key(2)],
        &mut world,
    );
    for id in 1..=20 {
        let runs: Vec<(Key, u32)> = assignments(&mut world, id)
            .iter()
            .map(|a| (a.task.key, a.attempt))
            .collect();
        let next = WorkerId(id + 1);
        if runs.first().is_some_and(|(key, _)| *key == Key(1)) {
            scheduler.on_worker_lost(WorkerId(id), "SIGABRT", &mut world);
        } else {
            runs.iter().for_each(|(key, attempt)| {
                scheduler.on_done(
                    WorkerId(id),
                    Ran {
                        attempt: *attempt,
                        ..ran(*key)
                    },
                    &mut world,
                )
            });
            scheduler.on_worker_lost(WorkerId(id), "tidy", &mut world);
        }
        scheduler.add_worker(next, new_worker(id + 1), &mut world);
    }
    let Finished::Failed(error) = &world.finished[&Key(1)] else {
        panic!("{:?}", world.finished)
    };
    assert_eq!(error.kind, TaskErrorKind::KilledWorkers);
    assert!(error.message.contains("SIGABRT"), "{error}");
    assert!(
        !matches!(world.finished[&Key(2)], Finished::Failed(_)),
        "an innocent task is not blamed"
    );
}

#[test]
fn an_error_reaches_everything_that_needed_the_value() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(
        CLIENT,
        vec![task(1, &[]), task(2, &[1]), task(3, &[2])],
        &[Key(3)],
        &mut world,
    );
    let error = TaskError {
        function: "f".into(),
        ..TaskError::new(TaskErrorKind::Panicked, "boom")
    };
    scheduler.on_failed(WorkerId(1), Key(1), error.clone(), &mut world);
    assert_eq!(world.finished[&Key(3)], Finished::Failed(Arc::new(error)));
}

#[test]
fn a_task_whose_input_has_failed_already_is_told_of() {
    let mut world = World::default();
    let mut scheduler = started(1, &mut world);
    scheduler.submit(CLIENT, vec![task(1, &[])], &[Key(1)], &mut world);
    scheduler.on_failed(WorkerId(1), Key(1), failure(), &mut world);
    scheduler.submit(CLIENT, vec![task(2, &[1])], &[Key(2)], &mut world);
    assert_eq!(
        world.finished.get(&Key(2)),
        Some(&Finished::Failed(Arc::new(failure())))
    );
}

#[test]
fn silence_is_noticed_and_a_sleeping_laptop_is_not_silence() {
    const SECOND: u64 = 1_000_000;
    let mut world = World::default();
    let mut scheduler = started(2, &mut world);
    let beat = |scheduler: &mut Scheduler, id: u32, world: &mut World| {
        scheduler.on_heartbeat(WorkerId(id), Memory::default(), world)
    };
    let silent = |scheduler: &Scheduler| {
        scheduler
            .info()
            .workers
            .iter()
            .filter(|worker| worker.is_silent)
            .map(|worker| worker.id.0)
            .collect::<Vec<_>>()
    };
    for second in 1..=5 {
        scheduler.set_now(second * SECOND, &mut world);
        beat(&mut scheduler, 1, &mut world);
        assert!(scheduler.check_silence(&mut world).is_empty());
    }
    assert_eq!(
        silent(&scheduler),
        [2],
        "the other has not been heard of since it came"
    );
    scheduler.submit(
        CLIENT,
        (1..=4).map(|key| task(key, &[])).collect(),
        &[],
        &mut world,
    );
    assert!(assignments(&mut world, 2).is_empty(), "it gets nothing");
    beat(&mut scheduler, 2, &mut world);
    assert!(
        silent(&scheduler).is_empty() && !assignments(&mut world, 2).is_empty(),
        "it is back, and gets its part"
    );
    // An hour during which nothing ran here either.
    scheduler.set_now(3_605 * SECOND, &mut world);
    assert!(
        scheduler.check_silence(&mut world).is_empty() && silent(&scheduler).is_empty(),
        "no false death"
    );
    // Two minutes of looks, every second, without a word.
    let mut given_up = Vec::new();
    for second in 1..=121 {
        scheduler.set_now((3_605 + second) * SECOND, &mut world);
        beat(&mut scheduler, 1, &mut world);
        given_up.extend(scheduler.check_silence(&mut world));
    }
    assert_eq!(given_up.first(), Some(&WorkerId(2)));
    assert!(!given_up.contains(&WorkerId(1)));
}

/// Workers that may hold, fetch, finish, die; and the invariants that hold at every step.
fn chaos(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::default();
    let mut scheduler = started(3, &mut world);
    let mut next_worker = 4;
    let n_tasks: u128 = 60;
    let mut tasks = Vec::new();
    for key in 1..=n_tasks {
        let n_inputs = rng.usize(0..3).min(key as usize - 1);
        let mut inputs: Vec<u128> = (0..n_inputs).map(|_| rng.u128(1..key)).collect();
        inputs.sort_unstable();
        inputs.dedup();
        tasks.push(task(key, &inputs));
    }
    let wanted: Vec<Key> = (1..=n_tasks)
        .filter(|_| rng.u8(0..3) == 0)
        .chain([n_tasks])
        .map(Key)
        .collect();
    let all: Vec<Task> = tasks.clone();
    scheduler.submit(CLIENT, tasks, &wanted, &mut world);
    let mut running: BTreeMap<WorkerId, Vec<Assignment>> = BTreeMap::new();
    let mut values: BTreeMap<WorkerId, KeySet> = BTreeMap::new();
    let mut n_deaths = 0;
    for step in 0..20_000 {
        for (worker, queue) in &mut world.to_workers {
            for message in queue.drain(..) {
                match message {
                    ToWorker::Compute(assignment) => running.entry(*worker).or_default().push(assignment),
                    ToWorker::Free { keys } => keys.iter().for_each(|key| {
                        values.entry(*worker).or_default().remove(key);
                    }),
                    ToWorker::Cancel { keys } => running
                        .entry(*worker)
                        .or_default()
                        .retain(|a| !keys.contains(&a.task.key)),
                    _ => {}
                }
            }
        }
        if wanted
            .iter()
            .all(|key| matches!(world.finished.get(key), Some(Finished::Done { .. })))
            && running.values().all(Vec::is_empty)
        {
            break;
        }
        let alive = scheduler.worker_ids();
        let id = alive[rng.usize(0..alive.len())];
        if n_deaths < 12 && rng.u32(0..40) == 0 {
            n_deaths += 1;
            running.remove(&id);
            values.remove(&id);
            scheduler.on_worker_lost(id, "chaos", &mut world);
            world.to_workers.remove(&id);
            scheduler.add_worker(WorkerId(next_worker), new_worker(next_worker), &mut world);
            next_worker += 1;
            continue;
        }
        let Some(assignment) = running
            .get_mut(&id)
            .filter(|queue| !queue.is_empty())
            .map(|queue| queue.remove(0))
        else {
            continue;
        };
        let key = assignment.task.key;
        let mut missing = Vec::new();
        for input in assignment.task.dependencies() {
            let here = values.get(&id).is_some_and(|held| held.contains(&input));
            match assignment.inputs.iter().find(|(key, _)| *key == input) {
                None => assert!(
                    here || assignment.inputs.is_empty(),
                    "seed {seed}, step {step}: {key:?} was sent without its input {input:?}"
                ),
                Some((_, Input::At { worker, .. }))
                    if !values.get(worker).is_some_and(|held| held.contains(&input)) =>
                {
                    missing.push((input, *worker))
                }
                Some(_) => {}
            }
            if !here && !assignment.inputs.iter().any(|(key, _)| *key == input) {
                missing.push((input, HERE));
            }
        }
        if missing.is_empty() {
            values.entry(id).or_default().insert(key);
            scheduler.on_done(
                id,
                Ran {
                    attempt: assignment.attempt,
                    ..ran(key)
                },
                &mut world,
            );
        } else {
            scheduler.on_missing(id, key, &missing, &mut world);
        }
    }
    for key in &wanted {
        let how = world.finished.get(key);
        let failed_for_deaths =
            matches!(how, Some(Finished::Failed(error)) if error.kind == TaskErrorKind::KilledWorkers);
        assert!(
            matches!(how, Some(Finished::Done { .. })) || failed_for_deaths,
            "seed {seed}: {key:?} ended as {how:?}, state {:?}",
            scheduler.tasks.get(key).map(|r| &r.state)
        );
    }
    assert_eq!(all.len(), n_tasks as usize);
    scheduler.release(CLIENT, &wanted, &mut world);
    assert_eq!(
        scheduler.tasks.len(),
        0,
        "seed {seed}: records are left for nobody"
    );
}

#[test]
fn chaos_from_seeds() {
    for seed in 0..300 {
        chaos(seed);
    }
}
