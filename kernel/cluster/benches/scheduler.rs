//! What the scheduler costs by itself: microseconds and bytes a task, for a thousand workers that answer at
//! once.
//!
//! Capture one JSON line for each size and shape; `tests/bench/run cluster` shows them.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use skep_cluster::{
    ClientId, CodeId, Event, FunctionId, Key, Stories, WorkerId,
    model::task::{Arg, CodePlace, Function, Task},
    scheduler::{Comm, NewWorker, Scheduler},
    wire::protocol::{Ran, ToClient, ToWorker},
};

const WORKERS: u32 = 1_000;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's pointer and layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Where messages to workers go.
#[derive(Default)]
struct World {
    to_do: VecDeque<(WorkerId, Key)>,
    stories: Option<Stories>,
}

impl Comm for World {
    fn to_worker(&mut self, worker: WorkerId, message: ToWorker) {
        if let ToWorker::Compute(assignment) = message {
            self.to_do.push_back((worker, assignment.task.key));
        }
    }

    fn to_client(&mut self, _: ClientId, _: ToClient) {}

    fn event(&mut self, event: Event) {
        if let Some(stories) = &mut self.stories {
            stories.apply(&event, 0);
        }
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let sizes: &[usize] = if std::env::args().any(|arg| arg == "--bench") {
        &[10_000, 100_000, 1_000_000]
    } else {
        &[1_000]
    };
    for n in sizes {
        for shape in ["flat", "tree"] {
            run(*n, shape, false);
            run(*n, shape, true);
        }
    }
}

fn run(n_tasks: usize, shape: &str, has_stories: bool) {
    let (tasks, wanted) = graph(n_tasks, shape);
    let mut world = World {
        stories: has_stories.then(Stories::default),
        ..World::default()
    };
    let mut scheduler = Scheduler::default();
    let (function, code, client) = (FunctionId(1), CodeId(1), ClientId(1));
    scheduler.add_function(
        Function {
            id: function,
            name: "f".into(),
            code,
            place: CodePlace::Offset(0),
        },
        &mut world,
    );
    scheduler.code_ready(code, "lib".into(), &mut world);
    for id in 1..=WORKERS {
        scheduler.add_worker(
            WorkerId(id),
            NewWorker {
                pid: id,
                address: format!("w{id}"),
                threads: 1,
                ..NewWorker::default()
            },
            &mut world,
        );
    }
    let before = HELD.load(Ordering::Relaxed);
    let task_bytes: usize = tasks
        .iter()
        .map(|task| size_of::<Task>() + task.args.len() * size_of::<Arg>())
        .sum();
    let started = Instant::now();
    scheduler.submit(client, tasks, &wanted, &mut world);
    let mut most = HELD.load(Ordering::Relaxed);
    let mut n_run = 0usize;
    while let Some((worker, key)) = world.to_do.pop_front() {
        scheduler.on_done(
            worker,
            Ran {
                key,
                attempt: 1,
                n_bytes: 100,
                n_rows: None,
                inline: None,
                start_us: 0,
                duration_us: 100,
                cpu_us: 100,
            },
            &mut world,
        );
        n_run += 1;
        if n_run.is_multiple_of(1_000) {
            most = most.max(HELD.load(Ordering::Relaxed));
        }
    }
    let us = started.elapsed().as_secs_f64() * 1e6 / n_run as f64;
    assert!(n_run >= n_tasks, "{n_run} of {n_tasks} tasks ran");
    // The tasks themselves came from outside, and were counted before.
    let bytes = (most + task_bytes).saturating_sub(before) as f64 / n_tasks as f64;
    println!(
        "{{\"shape\": \"{shape}\", \"tasks\": {n_run}, \"workers\": {WORKERS}, \"stories\": {has_stories}, \"us_per_task\": {us:.3}, \"bytes_per_task\": {bytes:.0}}}"
    );
}

fn graph(n_tasks: usize, shape: &str) -> (Vec<Task>, Vec<Key>) {
    let task = |key: u128, inputs: &[u128]| {
        let args = inputs.iter().map(|key| Arg::Task(hashed(*key))).collect();
        Task {
            key: hashed(key),
            function: FunctionId(1),
            args,
            priority: key as u64,
            origin: 0,
            options: None,
        }
    };
    if shape == "flat" {
        return (
            (1..=n_tasks as u128).map(|key| task(key, &[])).collect(),
            (1..=n_tasks as u128).map(hashed).collect(),
        );
    }
    let mut tasks = Vec::with_capacity(n_tasks + 1);
    let mut open: Vec<(u32, u128)> = Vec::new();
    let mut next = 1u128;
    while tasks.len() < n_tasks {
        tasks.push(task(next, &[]));
        open.push((0, next));
        next += 1;
        while open.len() >= 2 && open[open.len() - 1].0 == open[open.len() - 2].0 {
            let (Some((height, b)), Some((_, a))) = (open.pop(), open.pop()) else {
                unreachable!("there are two")
            };
            tasks.push(task(next, &[a, b]));
            open.push((height + 1, next));
            next += 1;
        }
    }
    let wanted = open.iter().map(|(_, key)| hashed(*key)).collect();
    (tasks, wanted)
}

/// Keys are hashes.
fn hashed(n: u128) -> Key {
    Key(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ^ (n << 64))
}
