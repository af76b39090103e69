//! What every engine must do, as checks to point at one: see [`crate::engine::Engine`].
//!
//! A check gets a cluster of two workers with one thread each, and panics with what went wrong. The functions
//! that it runs are of this crate, so an engine's workers need this crate's code, as they need a cell's.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::{
    api::{
        actor::{Actor, Reply},
        cluster::Cluster,
        coordination::{Event as Flag, Lock, Queue, Topic, Variable},
        delayed::Delayed,
        parts::Part,
        remote::Remote,
    },
    model::{
        error::{Error, TaskErrorKind},
        event::Event,
        ids::Key,
    },
};

/// What a check may do to the machines behind an engine.
pub trait Control {
    /// Ends some worker that is alive, without a word. The engine, or who runs it, may replace it.
    fn kill_a_worker(&self);
    /// Lets one more worker join.
    fn add_a_worker(&self);
}

/// A check by name.
pub struct Check {
    pub name: &'static str,
    pub run: fn(&Cluster, &dyn Control),
}

/// All checks, in an order from simple to hard.
pub const CHECKS: &[Check] = &[
    Check {
        name: "graphs",
        run: graphs,
    },
    Check {
        name: "values",
        run: values,
    },
    Check {
        name: "large_values",
        run: large_values,
    },
    Check {
        name: "parts",
        run: parts,
    },
    Check {
        name: "origins",
        run: origins,
    },
    Check {
        name: "errors",
        run: errors,
    },
    Check {
        name: "panics",
        run: panics,
    },
    Check {
        name: "same_call_same_task",
        run: same_call_same_task,
    },
    Check {
        name: "retries",
        run: retries,
    },
    Check {
        name: "cancellation",
        run: cancellation,
    },
    Check {
        name: "release",
        run: release,
    },
    Check {
        name: "events",
        run: events,
    },
    Check {
        name: "lost_workers",
        run: lost_workers,
    },
    Check {
        name: "late_joiners",
        run: late_joiners,
    },
    Check {
        name: "coordination",
        run: coordination,
    },
    Check {
        name: "actors",
        run: actors,
    },
    Check {
        name: "awaiting",
        run: awaiting,
    },
    Check {
        name: "whereabouts",
        run: whereabouts,
    },
    Check {
        name: "many_at_once",
        run: many_at_once,
    },
];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn plus(a: u64, b: u64) -> u64 {
    a + b
}

fn sum(all: Vec<i64>) -> i64 {
    all.iter().sum()
}

fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn fails(x: i64) -> Result<i64, std::num::ParseIntError> {
    format!("{x} is no number").parse::<i64>()
}

fn fails_if_odd(x: i64) -> Result<i64, std::io::Error> {
    if x % 2 == 1 {
        Err(std::io::Error::other("odd"))
    } else {
        Ok(x)
    }
}

fn panics_at(x: i64) -> i64 {
    panic!("no {x} here")
}

fn process(_: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(20));
    std::process::id()
}

/// Appends to a file and gives how often it has been called.
fn count_calls(file: String) -> Result<u64, std::io::Error> {
    use std::io::Write;

    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)?
        .write_all(b"x")?;
    Ok(std::fs::read(&file)?.len() as u64)
}

/// Fails until it has been called so often.
fn fails_until(file: String, n: u64) -> Result<u64, std::io::Error> {
    let called = count_calls(file)?;
    if called < n {
        Err(std::io::Error::other(format!("call {called} of {n}")))
    } else {
        Ok(called)
    }
}

fn ones(n: usize) -> Vec<u8> {
    vec![1; n]
}

#[expect(clippy::ptr_arg, reason = "a task's argument is the value itself")]
fn length(bytes: &Vec<u8>) -> usize {
    assert!(
        bytes.iter().all(|byte| *byte == 1),
        "the bytes have changed on the way"
    );
    bytes.len()
}

/// A file that no other check has, and that goes with it.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        Scratch(std::env::temp_dir().join(format!("skep-check-{name}-{}-{nanos}", std::process::id())))
    }

    fn path(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn task_error<T: crate::TaskValue + std::fmt::Debug>(remote: &Remote<T>) -> std::sync::Arc<crate::TaskError> {
    match remote.gather() {
        Err(Error::Task(error)) => error,
        other => panic!("expected the task to fail, and got {other:?}"),
    }
}

fn graphs(cluster: &Cluster, _: &dyn Control) {
    let a = cluster.submit(inc, 1);
    let b = cluster.submit(inc, 2);
    assert_eq!(cluster.submit(add, (&a, &b)).gather().unwrap(), 5);
    assert_eq!(
        cluster
            .gather(cluster.map(inc, 0..2_000))
            .unwrap()
            .iter()
            .sum::<i64>(),
        (1..=2_000).sum::<i64>()
    );
    let chain = (0..500).fold(Delayed::call(inc, 0), |last, _| Delayed::call(inc, last));
    assert!(chain.graph().to_text().starts_with("501 tasks: 501 pending"));
    assert_eq!(chain.compute().unwrap(), 501);
    let drawn = chain.graph().to_text();
    assert!(
        drawn.starts_with("501 tasks: 501 done"),
        "also when nobody holds the value: {drawn}"
    );
    let on_a_short_stack = std::thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let chain = (0..100_000).fold(Delayed::call(inc, 0), |last, _| Delayed::call(inc, last));
        chain.n_tasks()
    });
    assert_eq!(on_a_short_stack.unwrap().join().unwrap(), 100_001);
    let parts: Vec<Delayed<i64>> = (0..100).map(|i| Delayed::call(inc, i)).collect();
    assert_eq!(
        cluster.compute(&Delayed::chord(&parts, sum)).gather().unwrap(),
        (1..=100).sum::<i64>()
    );
    assert_eq!(
        cluster
            .compute(&(Delayed::call(inc, 1) * 10 + Delayed::call(inc, 2)))
            .gather()
            .unwrap(),
        23
    );
    // What several results share runs once, and each has a handle of its own.
    let file = Scratch::new("shared");
    let shared = Delayed::call(count_calls, file.path());
    let several: Vec<Delayed<u64>> = (0..3).map(|n| Delayed::call(plus, (&shared, n))).collect();
    let results = cluster.gather(cluster.compute_all(&several).unwrap()).unwrap();
    assert_eq!(results, [1, 2, 3]);
}

fn values(cluster: &Cluster, _: &dyn Control) {
    fn same<T>(x: T) -> T {
        x
    }
    fn nothing() {}
    let text = "ein Bienenkorb 🐝".to_string();
    assert_eq!(
        cluster.submit(same::<String>, text.clone()).gather().unwrap(),
        text
    );
    cluster.submit(nothing, ()).gather().unwrap();
    assert_eq!(
        cluster.submit(same::<Option<f64>>, Some(-0.5)).gather().unwrap(),
        Some(-0.5)
    );
    assert_eq!(
        cluster
            .submit(same::<Vec<(u8, String)>>, vec![(1, "a".to_string())])
            .gather()
            .unwrap(),
        [(1, "a".to_string())]
    );
    fn both(a: &String, b: &i64) -> String {
        format!("{a}{b}")
    }
    let a = cluster.submit(same::<String>, "n = ");
    assert_eq!(
        cluster.submit(both, (&a, 7)).gather().unwrap(),
        "n = 7",
        "arguments by reference"
    );
    fn shout(text: &str, times: &u8) -> String {
        text.to_uppercase().repeat((*times).into())
    }
    fn total(numbers: &[i64]) -> Result<i64, std::io::Error> {
        Ok(numbers.iter().sum())
    }
    #[expect(clippy::too_many_arguments, reason = "as many as people write")]
    fn many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> String {
        format!("{a}{b}{c}{d}{e}{f}{g}{h}")
    }
    assert_eq!(cluster.submit(shout, (&a, 2u8)).gather().unwrap(), "N = N = ");
    assert_eq!(
        cluster.submit(shout, ("a".to_string(), 1u8)).gather().unwrap(),
        "A"
    );
    let ones = cluster.map(inc, vec![0; 3]);
    assert_eq!(
        cluster.submit(total, &ones).gather().unwrap(),
        3,
        "a list of handles is a slice"
    );
    assert_eq!(cluster.submit(total, vec![4, 5]).gather().unwrap(), 9);
    assert_eq!(
        cluster.submit(many, (1, 2, 3, 4, 5, 6, 7, 8)).gather().unwrap(),
        "12345678"
    );
    assert_eq!(
        cluster.gather(ones).unwrap(),
        [1; 3],
        "handles that are not needed any more"
    );
    let pids: HashSet<u32> = cluster
        .run_on_all(std::process::id)
        .unwrap()
        .into_iter()
        .map(|(_, pid)| pid)
        .collect();
    assert!(
        pids.len() >= 2 && !pids.contains(&std::process::id()),
        "each worker for itself: {pids:?}"
    );
    let empty: Vec<i64> = Vec::new();
    assert_eq!(cluster.submit(sum, empty).gather().unwrap(), 0);
}

fn large_values(cluster: &Cluster, _: &dyn Control) {
    const N: usize = 50_000_000;
    let made = cluster.submit(ones, N);
    // Whoever has it: one of these has to fetch it.
    let lengths: Vec<Remote<usize>> = (0..4).map(|_| cluster.impure().submit(length, &made)).collect();
    assert_eq!(cluster.gather(&lengths).unwrap(), [N; 4]);
    assert_eq!(made.gather().unwrap().len(), N);
}

/// Cuts numbers into so many lists, by their remainders.
fn deal(from: u64, n: u64) -> Vec<Vec<u64>> {
    let mut hands = vec![Vec::new(); n as usize];
    (from..from + 40_000).for_each(|i| hands[(i % n) as usize].push(i));
    hands
}

fn all(hands: Vec<Vec<u64>>) -> Vec<u64> {
    hands.concat()
}

/// As [`fails_until`], with an error that could travel as a value.
fn fails_with_text(file: String, n: u64) -> Result<u64, String> {
    fails_until(file, n).map_err(|error| error.to_string())
}

fn parts(cluster: &Cluster, control: &dyn Control) {
    const N: u64 = 6;
    let dealt: Vec<Vec<Part<Vec<u64>>>> = (0..N)
        .map(|i| cluster.submit_parts(deal, (i * 40_000, N), N as usize))
        .collect();
    assert_eq!(dealt[0][1].gather().unwrap()[..2], [1, 7], "a part by itself");
    // Each hand from every dealer: most parts have to move, some of them large.
    let hand = |j: usize| dealt.iter().map(|parts| parts[j].clone()).collect::<Vec<_>>();
    let hands: Vec<Remote<Vec<u64>>> = (0..N as usize).map(|j| cluster.submit(all, hand(j))).collect();
    control.kill_a_worker();
    for (j, hand) in cluster.gather(&hands).unwrap().iter().enumerate() {
        assert_eq!(hand.len() as u64, N * 40_000 / N);
        assert!(
            hand.iter().all(|i| i % N == j as u64),
            "hand {j} has others' cards"
        );
    }
    let too_few = cluster.submit_parts(deal, (7, 2), 3);
    let text = too_few[2].gather().unwrap_err().to_string();
    assert!(text.contains("made 2"), "{text}");
    let error = task_error(&cluster.submit(length_of, &too_few[2]));
    assert!(error.message.contains("made 2"), "{error}");
    let delayed = Part::delayed(deal, (1, 2), 2);
    let joined = Delayed::call(all, vec![delayed[1].clone(), delayed[0].clone()]);
    assert_eq!(cluster.compute(&joined).gather().unwrap()[0], 1, "odd ones first");
    let one = cluster.submit_parts(fails_in_parts, 1, 2);
    let error = match one[0].gather() {
        Err(Error::Task(error)) => error,
        other => panic!("expected the task to fail, and got {other:?}"),
    };
    assert_eq!((error.kind, &*error.message), (TaskErrorKind::Failed, "no 1"));
}

fn length_of(hand: Vec<u64>) -> usize {
    hand.len()
}

fn fails_in_parts(x: i64) -> Result<Vec<i64>, std::io::Error> {
    Err(std::io::Error::other(format!("no {x}")))
}

/// A task's own tasks belong to what it belongs to.
fn origins(cluster: &Cluster, _: &dyn Control) {
    cluster.follow().unwrap();
    let tagged = cluster.tag("first").tag("second").submit(inc, 71);
    let key = tagged.key().unwrap();
    tagged.gather().unwrap();
    let mut origin = None;
    let mut tags = Vec::new();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && (origin.is_none() || tags.is_empty()) {
        for event in cluster.next_events(Duration::from_millis(100)).unwrap() {
            match event {
                Event::Submitted {
                    key: of, origin: is, ..
                } if of == key => origin = Some(is),
                Event::Tagged { key: of, tags: are } if of == key => tags = are,
                _ => {}
            }
        }
    }
    assert_eq!(origin, Some(0), "this program is no notebook");
    assert_eq!(tags, ["first", "second"]);
}

fn errors(cluster: &Cluster, _: &dyn Control) {
    let mixed = [
        cluster.submit(fails_if_odd, 1),
        cluster.submit(fails_if_odd, 2),
        cluster.submit(fails_if_odd, 3),
    ];
    let each = cluster.try_gather(&mixed).unwrap();
    assert_eq!(
        each.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(each.into_iter().flatten().collect::<Vec<_>>(), [2]);
    let slow = cluster.impure().submit(nap, 3_000u64);
    match cluster.gather_within([&slow], Duration::from_millis(50)) {
        Err(Error::TimedOut(why)) => assert!(why.what.contains("the task has not ended"), "{why}"),
        other => panic!("expected a timeout, and got {other:?}"),
    }
    slow.cancel().unwrap();
    if let Ok(journey) = mixed[0].journey() {
        assert_eq!(
            journey.why_failed, "odd",
            "a journey that failed names its reason"
        );
    }
    assert_eq!(cluster.submit(inc, 5).gather_within(PATIENCE).unwrap(), 6);
    let bad = cluster.submit(fails, 7);
    let after = cluster.submit(add, (&bad, 1));
    for failed in [&bad, &after] {
        let error = task_error(failed);
        assert_eq!(
            (error.kind, error.function.as_str()),
            (TaskErrorKind::Failed, "fails"),
            "{error}"
        );
        assert!(error.message.contains("invalid digit"), "{error}");
    }
    assert_eq!(cluster.submit(inc, 1).gather().unwrap(), 2, "the others go on");
}

fn panics(cluster: &Cluster, _: &dyn Control) {
    let error = task_error(&cluster.submit(panics_at, 7));
    assert_eq!(
        (error.kind, error.message.as_str()),
        (TaskErrorKind::Panicked, "no 7 here")
    );
    let (file, line, _) = error.at.clone().expect("the place of a panic is known");
    assert!(file.ends_with("conformance.rs") && line > 0, "{file}:{line}");
}

fn same_call_same_task(cluster: &Cluster, _: &dyn Control) {
    let file = Scratch::new("calls");
    let first = cluster.submit(count_calls, file.path());
    let again = cluster.submit(count_calls, file.path());
    assert_eq!(
        (first.gather().unwrap(), again.gather().unwrap(), first.key()),
        (1, 1, again.key())
    );
    assert_eq!(
        cluster
            .impure()
            .submit(count_calls, file.path())
            .gather()
            .unwrap(),
        2
    );
    let file = Scratch::new("shared");
    let shared = Delayed::call(count_calls, file.path());
    let both = Delayed::call(|a: u64, b: u64| a + b, (shared.clone(), shared));
    assert_eq!(
        cluster.compute(&both).gather().unwrap(),
        2,
        "shared work is done once"
    );
}

fn retries(cluster: &Cluster, _: &dyn Control) {
    let file = Scratch::new("retries");
    assert_eq!(
        cluster
            .retries(3)
            .submit(fails_until, (file.path(), 3u64))
            .gather()
            .unwrap(),
        3
    );
    let file = Scratch::new("retries");
    let text = cluster.retries(3).submit(fails_with_text, (file.path(), 3u64));
    assert_eq!(
        text.gather().unwrap(),
        Ok(3),
        "an error that is a `String` is one too"
    );
    let file = Scratch::new("retries");
    let error = task_error(&cluster.submit(fails_with_text, (file.path(), 2u64)));
    assert_eq!(
        (error.kind, &*error.message),
        (TaskErrorKind::Failed, "call 1 of 2")
    );
    let file = Scratch::new("retries");
    let error = task_error(&cluster.retries(1).submit(fails_until, (file.path(), 5u64)));
    assert!(error.message.contains("call 2 of 5"), "{error}");
}

fn cancellation(cluster: &Cluster, _: &dyn Control) {
    let started = Instant::now();
    let handles = cluster.impure().map(nap, vec![20_000u64; 6]);
    std::thread::sleep(Duration::from_millis(200));
    for handle in &handles {
        handle.cancel().unwrap();
    }
    for handle in &handles {
        assert_eq!(task_error(handle).kind, TaskErrorKind::Cancelled);
    }
    assert_eq!(
        cluster.submit(inc, 5).gather().unwrap(),
        6,
        "the workers are free again"
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

/// Waits for an event that `is_it`.
fn wait_for_event(cluster: &Cluster, is_it: impl Fn(&Event) -> bool, what: &str) -> Vec<Event> {
    let until = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while Instant::now() < until {
        let new = cluster.next_events(Duration::from_millis(100)).unwrap();
        let found = new.iter().any(&is_it);
        seen.extend(new);
        if found {
            return seen;
        }
    }
    panic!("{what}: it did not come within {PATIENCE:?}");
}

fn release(cluster: &Cluster, _: &dyn Control) {
    cluster.follow().unwrap();
    let made = cluster.impure().submit(ones, 1_000_000usize);
    made.wait().unwrap();
    let key = made.key().expect("it was submitted");
    drop(made);
    wait_for_event(
        cluster,
        |event| matches!(event, Event::Freed { key: freed } if *freed == key),
        "the value is freed with its last handle",
    );
}

fn events(cluster: &Cluster, _: &dyn Control) {
    cluster.follow().unwrap();
    let remote = cluster.impure().submit(add, (1, 2));
    remote.wait().unwrap();
    let key = remote.key().expect("it was submitted");
    let is_done = |event: &Event| matches!(event, Event::Done { key: done, .. } if *done == key);
    let seen = wait_for_event(cluster, is_done, "a task's end is told");
    let about = |event: &Event, of: Key| match event {
        Event::Submitted { key, .. } if *key == of => Some("submitted"),
        Event::Assigned { key, .. } if *key == of => Some("assigned"),
        Event::Done { key, .. } if *key == of => Some("done"),
        _ => None,
    };
    let stages: Vec<&str> = seen.iter().filter_map(|event| about(event, key)).collect();
    assert_eq!(stages, ["submitted", "assigned", "done"]);
}

fn lost_workers(cluster: &Cluster, control: &dyn Control) {
    let handles = cluster.impure().map(nap, vec![40u64; 60]);
    let kept = cluster.map(inc, 0..50);
    cluster.wait(&kept).unwrap();
    control.kill_a_worker();
    assert_eq!(cluster.gather(&handles).unwrap(), [40; 60]);
    assert_eq!(cluster.gather(&kept).unwrap(), (1..=50).collect::<Vec<i64>>());
    let total = cluster.submit(sum, &kept);
    control.kill_a_worker();
    assert_eq!(total.gather().unwrap(), (1..=50).sum::<i64>());
}

fn late_joiners(cluster: &Cluster, control: &dyn Control) {
    let before: HashSet<u32> = cluster
        .gather(cluster.impure().map(process, 0..20))
        .unwrap()
        .into_iter()
        .collect();
    control.add_a_worker();
    let until = Instant::now() + PATIENCE;
    loop {
        let now: HashSet<u32> = cluster
            .gather(cluster.impure().map(process, 0..20))
            .unwrap()
            .into_iter()
            .collect();
        if !now.is_subset(&before) {
            return;
        }
        assert!(
            Instant::now() < until,
            "the worker that joined gets no task, or has not the code for it"
        );
    }
}

/// What tasks and programs agree by, where the engine says that it has it.
fn coordination(cluster: &Cluster, _: &dyn Control) {
    fn add_one(lock: Lock, total: Variable<u64>) -> crate::Result<u64> {
        let _held = lock.acquire()?;
        let before = total.get()?;
        std::thread::sleep(Duration::from_millis(1));
        total.set(before + 1)?;
        Ok(before)
    }
    fn answer(asked: Queue<u64>, answers: Topic<String>) -> crate::Result<u64> {
        let n = asked.get()?;
        answers.publish(format!("{n} squared is {}", n * n))?;
        Ok(n)
    }
    if cluster.client.coordination().is_err() {
        return;
    }
    let (lock, total) = (cluster.lock("total").unwrap(), cluster.variable("total").unwrap());
    assert_eq!(total.try_get().unwrap(), None);
    total.set(0).unwrap();
    let added = cluster
        .impure()
        .map(add_one, (0..40).map(|_| (lock.clone(), total.clone())));
    let mut seen = cluster.gather(&added).unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<u64>>(), "no two were there at once");

    let (asked, answers) = (
        cluster.bounded_queue("asked", 2).unwrap(),
        cluster.topic("answers").unwrap(),
    );
    let mut heard = answers.subscribe().unwrap();
    let answering = cluster
        .impure()
        .map(answer, (0..6).map(|_| (asked.clone(), answers.clone())));
    for n in 0..6 {
        asked.put(n).unwrap();
    }
    let mut all: Vec<String> = (0..6).map(|_| heard.recv().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all[5], "5 squared is 25");
    cluster.wait(&answering).unwrap();
    assert_eq!(heard.recv_within(Duration::from_millis(20)).unwrap(), None);
    assert!(asked.try_put(1).unwrap() && asked.try_put(2).unwrap() && !asked.try_put(3).unwrap());
    assert_eq!(asked.len().unwrap(), 2);

    let event = cluster.event("go").unwrap();
    assert!(!event.is_set().unwrap() && !event.wait_within(Duration::from_millis(10)).unwrap());
    let waiting = cluster.submit(|event: Flag, n: u64| event.wait().map(|()| n), (event.clone(), 7));
    event.set().unwrap();
    assert_eq!(waiting.gather().unwrap(), 7);

    let two = cluster.semaphore("two", 2).unwrap();
    let held = (
        two.acquire().unwrap(),
        two.try_acquire().unwrap().expect("there are two"),
    );
    assert!(two.try_acquire().unwrap().is_none() && two.n_free().unwrap() == 0);
    drop(held);
    assert!(two.acquire_within(PATIENCE).unwrap().is_some());
    let other = cluster.semaphore("two", 3).unwrap_err().message();
    assert_eq!(other.what, "the semaphore `two` has 2 permits, not 3 permits");
    let other = cluster.queue::<String>("asked").unwrap_err().message();
    assert_eq!(other.what, "the queue `asked` holds `u64`, not `String`");
    asked.delete().unwrap();
    let waits = cluster.submit(|never: Queue<u8>| never.get(), cluster.queue("never").unwrap());
    cluster.queue::<u8>("never").unwrap().delete().unwrap();
    assert!(
        task_error(&waits).message.contains("never"),
        "it was deleted under it"
    );
}

/// Handles are futures: several are waited for on one thread.
fn awaiting(cluster: &Cluster, _: &dyn Control) {
    struct Unpark(std::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
        let mut future = std::pin::pin!(future);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let std::task::Poll::Ready(value) =
                future.as_mut().poll(&mut std::task::Context::from_waker(&waker))
            {
                return value;
            }
            let left = deadline.checked_duration_since(Instant::now());
            std::thread::park_timeout(left.expect("nobody woke it"));
        }
    }

    let (slow, quick) = (cluster.submit(nap, 200), cluster.submit(inc, 1));
    let (b, a) = block_on(async { (quick.await, (&slow).await) });
    assert_eq!((a.unwrap(), b.unwrap()), (200, 2));
    assert_eq!(
        block_on(slow.into_future()).unwrap(),
        200,
        "what has ended is there at once"
    );
    let failing = cluster.submit(fails, 1);
    let error = block_on(async { failing.await.unwrap_err() });
    assert!(matches!(error, Error::Task(error) if error.kind == TaskErrorKind::Failed));
    let cancelled = cluster.submit(nap, 60_000);
    let canceller = cancelled.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        canceller.cancel().unwrap();
    });
    assert!(block_on(async { cancelled.await }).is_err());
    thread.join().unwrap();
}

/// Where values are, where the engine says that it knows.
fn whereabouts(cluster: &Cluster, _: &dyn Control) {
    if cluster.client.copies().is_err() {
        return;
    }
    let (large, small) = (cluster.submit(ones, 5_000), cluster.submit(ones, 50));
    let never = cluster.submit(nap, 60_000);
    cluster.wait([&large, &small]).unwrap();
    assert!(large.n_bytes().unwrap() >= 5_000 && never.n_bytes().is_none());
    let holders = cluster.who_has([&large, &small]).unwrap();
    assert!(holders.iter().all(|workers| workers.len() == 1), "{holders:?}");
    assert_eq!(cluster.who_has([&never]).unwrap(), [[]]);
    never.cancel().unwrap();
    cluster.broadcast(&large).unwrap();
    let workers = cluster.info().unwrap().workers.len();
    assert_eq!(cluster.who_has([&large]).unwrap()[0].len(), workers);
    let all = cluster.has_what().unwrap();
    assert_eq!(all.len(), workers);
    for values in all.values() {
        assert_eq!(
            (values[0].key, values[0].function.as_str()),
            (large.key().unwrap(), "ones"),
            "the largest first"
        );
        assert_eq!(values[0].workers.len(), workers);
    }
}

fn many_at_once(cluster: &Cluster, _: &dyn Control) {
    let lists = cluster.map_batches(inc, 0..1_005, 100);
    assert_eq!((lists.len(), lists[0].name()), (11, "inc"));
    assert_eq!(
        cluster.gather(&lists).unwrap().concat(),
        (1..=1_005).collect::<Vec<i64>>()
    );
    assert_eq!(cluster.map_batches(inc, Vec::new(), 5).len(), 0);
    // The function itself is another task than a batch of its calls.
    assert_eq!(cluster.submit(inc, 1).gather().unwrap(), 2);
    let pairs = (1..4).zip([10, 20, 30]);
    assert_eq!(cluster.gather(cluster.map(add, pairs)).unwrap(), [11, 22, 33]);

    let many: Delayed<i64> = (0..100).map(|i| Delayed::call(inc, i)).sum();
    assert_eq!(many.n_tasks(), 100 + 7 + 1, "a tree");
    assert_eq!(many.compute().unwrap(), (1..=100).sum::<i64>());
    let product: Delayed<i64> = (0..5).map(|i| Delayed::call(inc, i)).product();
    assert_eq!(product.compute().unwrap(), 120);
    assert_eq!(
        std::iter::empty::<Delayed<i64>>()
            .sum::<Delayed<i64>>()
            .compute()
            .unwrap(),
        0
    );

    let file = Scratch::new("impure");
    let calls: Vec<Delayed<u64>> = (0..3)
        .map(|_| Delayed::impure(count_calls, file.path()))
        .collect();
    cluster.gather(cluster.compute_all(&calls).unwrap()).unwrap();
    assert_eq!(std::fs::read(&file.0).unwrap().len(), 3, "each ran");
}

/// One object with a state that a program and many tasks call, where the engine says that it has such.
fn actors(cluster: &Cluster, _: &dyn Control) {
    struct Counter {
        n: i64,
    }

    impl Counter {
        fn new(n: i64) -> Counter {
            Counter { n }
        }

        fn add(&mut self, by: i64) -> i64 {
            self.n += by;
            self.n
        }

        fn get(&self) -> i64 {
            self.n
        }
    }

    fn bump(counter: Actor<Counter>, by: i64) -> crate::Result<i64> {
        counter.call(Counter::add, by)
    }

    if !cluster.client.has_actors() {
        return;
    }
    let counter = cluster.actor(Counter::new, 10).unwrap();
    assert_eq!(counter.call(Counter::add, 5).unwrap(), 15);
    let bumped = cluster.impure().map(bump, (0..50).map(|_| (counter.clone(), 1)));
    let mut seen = cluster.gather(bumped).unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (16..66).collect::<Vec<i64>>(), "one call at a time");
    assert_eq!(
        counter.call(Counter::get, ()).unwrap(),
        65,
        "tasks that end do not end it"
    );
    let replies: Vec<Reply<i64>> = (0..20).map(|_| counter.send(Counter::add, 1)).collect();
    assert_eq!(
        counter.call(Counter::get, ()).unwrap(),
        85,
        "behind those that were sent"
    );
    let seen: Vec<i64> = replies.iter().map(|reply| reply.gather().unwrap()).collect();
    assert_eq!(seen, (66..86).collect::<Vec<i64>>(), "in their order");
    let kept = cluster.variable::<Actor<Counter>>("counter").unwrap();
    assert!(
        matches!(kept.set(counter.clone()), Err(Error::Serialisation(_))),
        "there it could outlive the definition of its type"
    );
    let last = counter.send(Counter::add, 1);
    drop(counter);
    assert_eq!(last.gather().unwrap(), 86, "it is kept until it has answered");
}
