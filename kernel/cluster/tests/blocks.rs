//! What is asked about work rather than of it: a task again, a block's performance and settings, pools, completion in
//! async code.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::Thread,
    time::Duration,
};

use skep_cluster::{Cluster, Delayed, Error, TaskErrorKind};

skep_cluster::workers_are_this_program!(|| {});

fn start() -> Cluster {
    Cluster::local().workers(2).threads(1).start().unwrap()
}

fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn pid(_: u64) -> u32 {
    std::process::id()
}

fn numbers(n: i64) -> Vec<i64> {
    (0..n).collect()
}

fn item(values: Vec<i64>, at: u64) -> i64 {
    values[at as usize]
}

#[test]
fn a_task_runs_again_here_with_its_inputs() {
    let cluster = start();
    let there = cluster.submit(pid, 1);
    assert_ne!(there.gather().unwrap(), std::process::id());
    assert_eq!(there.replay().unwrap(), std::process::id());
    // The input is freed once nobody needs it, and is made again.
    let failed = cluster.submit(item, (cluster.submit(numbers, 3), 7u64));
    for attempt in [failed.gather(), failed.replay()] {
        let Err(Error::Task(error)) = attempt else {
            panic!("{attempt:?}")
        };
        assert_eq!(error.kind, TaskErrorKind::Panicked);
        assert!(error.message.contains("index is 7"), "{error}");
        assert!(
            error
                .at
                .as_ref()
                .is_some_and(|(file, ..)| file.ends_with("blocks.rs")),
            "{error}"
        );
    }
    let Err(Error::Task(error)) = failed.replay() else {
        panic!()
    };
    assert_eq!((error.function.as_str(), error.worker.as_deref()), ("item", None));
    let fine = cluster.submit(item, (cluster.submit(numbers, 3), 2u64));
    assert_eq!((fine.gather().unwrap(), fine.replay().unwrap()), (2, 2));
}

#[test]
fn a_block_says_what_it_did() {
    let cluster = start();
    cluster.gather(cluster.impure().map(nap, [1; 5])).unwrap();
    let (sum, performance) = cluster
        .performance(|| {
            cluster
                .gather(cluster.impure().map(nap, [20; 8]))
                .unwrap()
                .iter()
                .sum::<u64>()
        })
        .unwrap();
    assert_eq!((sum, performance.n_tasks()), (160, 8));
    assert!(performance.took() >= Duration::from_millis(80));
    assert!(
        (0.3..=1.0).contains(&performance.busy()),
        "{}",
        performance.busy()
    );
    let shown = skep_render::Rich::bundle(&performance);
    assert!(
        shown.plain().starts_with("8 tasks in") && shown.plain().contains("nap"),
        "{}",
        shown.plain()
    );
    assert!(shown.get("text/html").unwrap().contains("<svg"));
    let file = std::env::temp_dir().join(format!("skep-performance-{}.html", std::process::id()));
    performance.save(&file).unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains("nap"));
    std::fs::remove_file(file).unwrap();
    let ((), nothing) = cluster.performance(|| ()).unwrap();
    assert_eq!(nothing.n_tasks(), 0);
}

fn joined(a: u64, b: u64) -> u64 {
    nap(40);
    a + b
}

/// What a run would have been on other workers is what it is there.
#[test]
fn a_run_can_be_played_on_other_workers() {
    let cluster = start();
    let graph = |cluster: &Cluster| {
        let naps = cluster.impure().map(nap, [30; 12]);
        let pairs: Vec<_> = naps
            .chunks(2)
            .map(|pair| cluster.impure().submit(joined, (&pair[0], &pair[1])))
            .collect();
        cluster.gather(pairs).unwrap();
    };
    graph(&cluster);
    let ((_, inner), run) = cluster
        .performance(|| {
            cluster.gather(cluster.impure().map(nap, [5; 4])).unwrap();
            cluster.performance(|| graph(&cluster)).unwrap()
        })
        .unwrap();
    let near = |found: Duration, expected: u64| {
        let ms = found.as_millis() as u64;
        assert!(
            (expected * 95 / 100..=expected * 145 / 100 + 5).contains(&ms),
            "{found:?}, not {expected} ms"
        );
    };
    let on = |n: u32| inner.what_if().workers(n).start().unwrap();
    near(on(2).took(), 6 * 30 + 3 * 40);
    near(on(1).took(), 12 * 30 + 6 * 40);
    near(on(6).took(), 2 * 30 + 40);
    near(on(12).took(), 30 + 40);
    near(
        inner.what_if().workers(3).threads(2).start().unwrap().took(),
        2 * 30 + 40,
    );
    near(on(1).critical_path(), 70);
    assert_eq!(on(4).curve().len(), 7);
    assert!(run.what_if().start().unwrap().took() > inner.what_if().start().unwrap().took());
    let shown = skep_render::Rich::bundle(&on(12));
    let text = shown.plain();
    assert!(
        text.starts_with("What if: ") && text.contains("12 workers of 1 thread"),
        "{text}"
    );
    assert!(
        text.contains("nap → joined") && text.contains("workers"),
        "{text}"
    );
    assert!(shown.get("text/html").unwrap().contains("<svg"));

    // It is so on one.
    let one = Cluster::local().workers(1).threads(1).start().unwrap();
    graph(&one);
    let ((), alone) = one.performance(|| graph(&one)).unwrap();
    near(
        alone.what_if().start().unwrap().was(),
        on(1).took().as_millis() as u64,
    );

    for (wrong, says) in [
        (inner.what_if().workers(0), "at least one worker"),
        (inner.what_if().threads(0), "at least one worker"),
        (inner.what_if().cores(0), "at least one worker"),
        (inner.what_if().workers(1_000_000), "at most 10,000"),
        (inner.what_if().bandwidth(0), "`.bandwidth(0)` is no size"),
        (inner.what_if().bandwidth(5), "less than 1 kB/s"),
        (inner.what_if().memory("0"), "is no size"),
        (
            inner.what_if().memory("2 parsecs"),
            "`.memory(\"2 parsecs\")` is no size",
        ),
    ] {
        let error = wrong.start().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // The same call again, when nobody holds its value any more, is another run.
    let ((), again) = one
        .performance(|| {
            for _ in 0..3 {
                one.gather(one.map(nap, [21, 22])).unwrap();
                std::thread::sleep(Duration::from_millis(60));
            }
        })
        .unwrap();
    let forecast = again.what_if().start().unwrap();
    let n_runs = again.n_runs("nap");
    assert!(
        forecast.took() >= Duration::from_millis(21 * n_runs),
        "{n_runs} runs: {forecast:?}"
    );
    assert!(forecast.doubts().is_empty(), "{:?}", forecast.doubts());
    // A block that panics ends its recording.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        one.performance(|| panic!("in a block"))
    }));
    assert!(panicked.is_err());
    let ((), after) = one
        .performance(|| drop(one.impure().submit(nap, 20).gather()))
        .unwrap();
    assert!(after.what_if().start().unwrap().took() >= Duration::from_millis(20));

    let ((), nothing) = one.performance(|| ()).unwrap();
    let error = nothing.what_if().start().unwrap_err().to_string();
    assert!(error.contains("no task was submitted"), "{error}");
}

fn fails_first(file: String) -> Result<u64, std::io::Error> {
    let n = std::fs::read_to_string(&file).unwrap_or_default().len();
    std::fs::write(&file, "x".repeat(n + 1))?;
    if n < 2 {
        return Err(std::io::Error::other("not yet"));
    }
    Ok(n as u64)
}

#[test]
fn settings_hold_for_all_that_a_block_submits() {
    let cluster = start();
    let file = std::env::temp_dir().join(format!("skep-scope-{}", std::process::id()));
    let call = || Delayed::impure(fails_first, file.to_string_lossy().into_owned());
    assert!(call().compute().is_err());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(cluster.retries(3).scope(|| call().compute()).unwrap(), 2);
    std::fs::remove_file(&file).unwrap();
    // A panic ends the block, too.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cluster.retries(3).scope(|| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    assert!(call().compute().is_err(), "the settings went with their block");
    std::fs::remove_file(&file).unwrap();
}

struct Model {
    weight: i64,
    n_calls: u64,
}

impl Model {
    fn new(weight: i64) -> Model {
        Model { weight, n_calls: 0 }
    }

    fn score(&mut self, x: i64) -> i64 {
        self.n_calls += 1;
        assert!(x != 13, "unlucky");
        self.weight * x
    }

    fn n_calls(&self) -> u64 {
        self.n_calls
    }
}

#[test]
fn a_pool_shares_the_calls() {
    let cluster = start();
    let pool = cluster.actor_pool(Model::new, 3, 2).unwrap();
    let workers: std::collections::HashSet<String> = pool
        .actors()
        .iter()
        .map(|actor| actor.worker().unwrap())
        .collect();
    assert_eq!(workers.len(), 2);
    assert_eq!(
        pool.map(Model::score, 20..60i64).unwrap(),
        (20..60).map(|x| 3 * x).collect::<Vec<i64>>()
    );
    assert_eq!(pool.send(Model::score, 2).gather().unwrap(), 6);
    let calls: Vec<u64> = pool
        .actors()
        .iter()
        .map(|actor| actor.call(Model::n_calls, ()).unwrap())
        .collect();
    assert_eq!(calls.iter().sum::<u64>(), 41);
    assert!(calls.iter().all(|n| *n > 0), "{calls:?}");
    assert!(
        pool.map(Model::score, 10..20i64)
            .unwrap_err()
            .to_string()
            .contains("unlucky")
    );
    assert_eq!(pool.map(Model::score, [1i64]).unwrap(), [3], "the pool goes on");
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<R>(future: impl Future<Output = R>) -> R {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn handles_come_as_they_end_in_async_code() {
    let cluster = start();
    let handles = cluster.impure().map(nap, [300, 10, 60]);
    let order = block_on(async {
        let mut order = Vec::new();
        let mut all = cluster.as_completed(&handles);
        while let Some(done) = all.next_done().await {
            order.push(done.await.unwrap());
        }
        order
    });
    assert_eq!(order, [10, 60, 300]);
}

#[test]
fn handles_may_be_inside_other_things() {
    use std::collections::{BTreeMap, HashMap};
    let cluster = start();
    let inc = |x: i64| cluster.submit(|x: i64| x + 1, x);
    let lists = vec![vec![inc(1), inc(2)], vec![], vec![inc(3)]];
    assert_eq!(
        cluster.gather_nested(&lists).unwrap(),
        [vec![2, 3], vec![], vec![4]]
    );
    let total = |lists: Vec<Vec<i64>>| lists.iter().flatten().sum::<i64>();
    assert_eq!(cluster.submit(total, &lists).gather().unwrap(), 9);
    // Also where the inner lists have a codec of their own.
    let numbers = vec![vec![cluster.submit(|n: u64| vec![n as f64; 3], 2u64)]];
    let n = |lists: Vec<Vec<Vec<f64>>>| lists[0][0].len() as u64;
    assert_eq!(cluster.submit(n, numbers).gather().unwrap(), 3);

    let by_name = HashMap::from([("a".to_string(), inc(1)), ("b".to_string(), inc(5))]);
    let sum = |map: HashMap<String, i64>| map["a"] * 10 + map["b"];
    assert_eq!(cluster.submit(sum, by_name.clone()).gather().unwrap(), 26);
    assert_eq!(cluster.gather_nested(&by_name).unwrap()["b"], 6);
    let tree = BTreeMap::from([(2i64, inc(1)), (1, inc(7))]);
    let first = |map: BTreeMap<i64, i64>| *map.first_key_value().unwrap().1;
    assert_eq!(cluster.submit(first, tree).gather().unwrap(), 8);

    let text = cluster.submit(|n: i64| n.to_string(), 4);
    let both = |(n, text): (i64, String)| format!("{n}{text}");
    assert_eq!(
        cluster.submit(both, (inc(0), text.clone())).gather().unwrap(),
        "14"
    );
    assert_eq!(
        cluster.gather_nested(&(inc(0), (text, Some(inc(2))))).unwrap(),
        (1, ("4".to_string(), Some(3)))
    );
    let maybe = |n: Option<i64>| n.unwrap_or(-1);
    // A plain `None` has a type: no handle could be meant.
    assert_eq!(cluster.submit(maybe, None).gather().unwrap(), -1);

    let failed = vec![vec![cluster.submit(|x: i64| 10 / x, 0)]];
    assert!(matches!(cluster.gather_nested(&failed), Err(Error::Task(_))));
    assert!(matches!(
        cluster.submit(total, failed).gather(),
        Err(Error::Task(_))
    ));
}

#[test]
fn the_log_tells_of_prints_failures_and_deaths() {
    let cluster = start();
    let say = |n: i64| {
        println!("number {n}\nand a second line");
        eprintln!("oh");
        10 / n
    };
    cluster.submit(say, 1).wait().unwrap();
    assert!(cluster.submit(say, 0).wait().is_err());
    cluster.kill_worker(1).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    let log = loop {
        let text = format!("{:?}", cluster.logs().unwrap());
        if text.contains("died: ") || std::time::Instant::now() > until {
            break text;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    for line in [
        "number 1",
        "and a second line",
        "(stderr): oh",
        "failed: ",
        "divide by zero",
        "came up as process",
        "died: killed by SIGKILL",
    ] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
    let of_one = cluster.logs().unwrap().of_worker(1);
    assert!(!of_one.lines().is_empty() && of_one.lines().iter().all(|line| line.worker.unwrap().0 == 1));
}

#[test]
fn threads_of_one_process_share_values() {
    let cluster = Cluster::local().with_threads(3).start().unwrap();
    let big = cluster.submit(|n: u64| vec![1u8; n as usize], 50_000_000u64);
    let address = |values: &Vec<u8>| values.as_ptr() as u64;
    let addresses = cluster
        .gather((0..3).map(|_| cluster.impure().submit(address, &big)))
        .unwrap();
    assert!(
        addresses.iter().all(|address| *address == addresses[0]),
        "{addresses:?}"
    );
    assert_eq!(cluster.info().unwrap().workers.len(), 1);
}

static READY: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn prepare() {
    std::thread::sleep(Duration::from_millis(50));
    READY.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

fn times_ready(_: u64) -> u64 {
    READY.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn workers_are_set_up_before_anything_runs_there() {
    let builder = || Cluster::local().workers(2).threads(2).on_start(prepare);
    let cluster = builder().start().unwrap();
    let on_all = |cluster: &Cluster| -> Vec<u64> {
        let times = cluster
            .impure()
            .gather(cluster.impure().map(times_ready, 0..40u64));
        times.unwrap()
    };
    assert!(on_all(&cluster).iter().all(|times| *times == 1));
    // The same again finds it as it is.
    assert!(
        on_all(&builder().start().unwrap())
            .iter()
            .all(|times| *times == 1)
    );
    // Others that take a worker's place are set up too; work that waits for them does not come before.
    cluster.kill_worker(1).unwrap();
    cluster.kill_worker(2).unwrap();
    assert!(on_all(&cluster).iter().all(|times| *times == 1));
    cluster.restart().unwrap();
    assert!(on_all(&cluster).iter().all(|times| *times == 1));
    assert_eq!(cluster.info().unwrap().n_failed, 0);

    let failed = Cluster::local()
        .workers(1)
        .on_start(|| -> () { panic!("no model here") })
        .start();
    let Err(Error::Task(error)) = failed.map(|_| ()) else {
        panic!("it started")
    };
    assert!(error.message.contains("no model here"), "{error}");
    assert!(cluster.info().unwrap().workers.is_empty());
}

#[test]
fn calls_that_shall_run_otherwise_or_share_something_are_not_one() {
    use skep_cluster::coordination::Queue;
    let cluster = start();
    let queue: Queue<i64> = cluster.queue("numbers").unwrap();
    for i in 0..4 {
        queue.put(i).unwrap();
    }
    let take = |queue: Queue<i64>| queue.get();
    let mut taken = cluster.gather(cluster.map(take, vec![queue.clone(); 4])).unwrap();
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3]);
    let plain = cluster.submit(nap, 400);
    let short = cluster.timeout(Duration::from_millis(50)).submit(nap, 400);
    assert!(matches!(short.gather(), Err(Error::Task(error)) if error.kind == TaskErrorKind::TimedOut));
    assert_eq!(plain.gather().unwrap(), 400);
    let far = cluster.on_workers([999]).submit(nap, 400);
    assert!(far.gather().is_err());
    // Of which it does not matter when they run, they are one.
    assert_eq!(cluster.priority(3).tag("x").submit(nap, 400).key(), plain.key());
    assert!(
        cluster
            .kill_worker(99)
            .unwrap_err()
            .to_string()
            .contains("there is no worker 99")
    );
    assert!(cluster.scale(0).is_err());
    let named = |ms: u64| cluster.key("first").submit(nap, ms);
    let first = named(1);
    assert_eq!((first.gather().unwrap(), named(2).gather().unwrap()), (1, 1));
    assert_ne!(cluster.key("second").submit(nap, 2).key(), first.key());
    assert_eq!(
        cluster.gather(cluster.key("each").map(nap, [1, 2])).unwrap(),
        [1, 2]
    );
    let slow = cluster.map(nap, [60_000, 60_001]);
    cluster.cancel(&slow).unwrap();
    assert!(slow[1].gather().is_err());
}
