//! Flows on real workers: this program again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use skep_cluster::{Cluster, Error, Result};
use skep_flow::{Chain, Flow, Group, Reprocess, Run, State, task};
use skep_render::Rich;

skep_cluster::workers_are_this_program!(|| {});

/// A cluster of two, and a store of this test's own.
fn begin(name: &str) -> (Cluster, PathBuf) {
    let folder = std::env::temp_dir().join(format!("skep-flows-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    // SAFETY: each test is a process of its own, and has one thread so far.
    unsafe { std::env::set_var("SKEP_FLOWS", folder.join("store")) };
    fs::create_dir_all(&folder).unwrap();
    (Cluster::local().workers(2).threads(2).start().unwrap(), folder)
}

fn inc(x: i64) -> i64 {
    x + 1
}

fn sum(all: Vec<i64>) -> i64 {
    all.iter().sum()
}

/// A line in a file for each call: who ran, and how often.
fn noted(folder: &str, word: &str) {
    use std::io::Write;
    let path = PathBuf::from(folder).join("calls");
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    // In one piece: several processes write.
    file.write_all(format!("{word}\n").as_bytes()).unwrap();
}

fn calls(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("calls")).unwrap_or_default();
    let mut calls: Vec<String> = text.lines().map(str::to_string).collect();
    calls.sort();
    calls
}

fn states(run: &Run<impl Sized>) -> Vec<(String, State, u32)> {
    let tasks = run.tasks().unwrap();
    tasks
        .into_iter()
        .map(|task| (task.name, task.state, task.attempt))
        .collect()
}

#[test]
fn a_function_becomes_a_flow() {
    let (_cluster, _) = begin("plain");
    fn hello(name: String) -> String {
        format!("hello {name}")
    }
    let run = Flow::new("hello", hello).run("Ada").unwrap();
    assert_eq!(run.result().unwrap(), "hello Ada");
    assert_eq!(run.parameters().unwrap(), "\"Ada\"");

    fn total(n: i64, by: i64) -> Result<i64> {
        let all = task(inc).map((0..n).map(|i| i * by));
        let sums = all.chord(&task(sum));
        let twice = sums.then(&task(inc));
        assert_eq!(all.group().result()?.len() as i64, n);
        twice.result()
    }
    let run = Flow::new("total", total).run((4, 10)).unwrap();
    assert_eq!(run.result().unwrap(), 1 + 10 * 6 + 4);
    assert_eq!(run.parameters().unwrap(), "[4,10]");
    assert!(
        states(&run)
            .iter()
            .all(|(_, state, attempt)| *state == State::Completed && *attempt == 1)
    );
    let text = run.bundle().plain().to_string();
    assert!(
        text.contains("Flow total: Completed") && text.contains("inc(10)"),
        "{text}"
    );
    assert_eq!(Flow::runs().unwrap().len(), 2);
}

fn flaky(folder: String, until: usize) -> std::result::Result<usize, std::io::Error> {
    noted(&folder, "flaky");
    let n = calls(Path::new(&folder)).len();
    if n < until {
        return Err(std::io::Error::other(format!("not yet, {n}")));
    }
    Ok(n)
}

#[test]
fn failures_are_tried_again() {
    let (_cluster, folder) = begin("retries");
    fn patient(folder: String) -> Result<usize> {
        task(flaky)
            .retries(3)
            .retry_delay(Duration::from_millis(30))
            .call((folder, 3))
    }
    let run = Flow::new("patient", patient)
        .run(folder.to_str().unwrap())
        .unwrap();
    assert_eq!(run.result().unwrap(), 3);
    assert_eq!(states(&run), [("flaky".to_string(), State::Completed, 3)]);
    let went: Vec<State> = run
        .states()
        .unwrap()
        .iter()
        .filter(|row| row.no == 1)
        .map(|row| row.state)
        .collect();
    use State::{AwaitingRetry, Completed, Pending, Running};
    assert_eq!(
        went,
        [
            Pending,
            Running,
            AwaitingRetry,
            Pending,
            Running,
            AwaitingRetry,
            Pending,
            Running,
            Completed
        ]
    );
}

#[test]
fn what_failed_runs_again_and_nothing_else() {
    let (_cluster, folder) = begin("rerun");
    fn good(folder: String, i: i64) -> i64 {
        noted(&folder, &format!("good {i}"));
        i
    }
    fn bad(folder: String, i: i64) -> std::result::Result<i64, std::io::Error> {
        noted(&folder, &format!("bad {i}"));
        match PathBuf::from(&folder).join("mended").exists() {
            true => Ok(i),
            false => Err(std::io::Error::other("broken")),
        }
    }
    fn both(folder: String) -> Result<i64> {
        let good = task(good).map((0..3).map(|i| (folder.clone(), i)));
        let bad = task(bad).submit((folder.clone(), 7));
        let sums = task(sum).submit(&good);
        Ok(sums.result()? + bad.result()?)
    }
    let flow = Flow::new("both", both);
    let error = flow.run(folder.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("broken"), "{error}");
    let run = flow.last().unwrap();
    assert_eq!(run.state().unwrap(), State::Failed);
    assert!(
        flow.last()
            .unwrap()
            .result()
            .unwrap_err()
            .to_string()
            .contains("broken")
    );
    fs::write(folder.join("mended"), "").unwrap();
    let again = run.rerun_failed().unwrap();
    assert_eq!(again.id(), run.id());
    assert_eq!(again.result().unwrap(), 10);
    assert_eq!(calls(&folder), ["bad 7", "bad 7", "good 0", "good 1", "good 2"]);
    assert!(
        run.rerun_failed()
            .unwrap_err()
            .to_string()
            .contains("no task of the run")
    );
}

#[test]
fn what_stands_on_a_failure_does_not_run_and_says_why() {
    let (_cluster, folder) = begin("upstream");
    fn fail(_: i64) -> std::result::Result<i64, std::io::Error> {
        Err(std::io::Error::other("no such day"))
    }
    fn chain(folder: String) -> Result<i64> {
        let first = task(fail).submit(1);
        let second = first.then(&task(inc));
        let third = second.then(&task(inc));
        let error = third.result().unwrap_err().to_string();
        noted(&folder, error.lines().next().unwrap());
        assert_eq!(second.state(), "Cancelled");
        assert!(
            second.reason().contains("`fail`, which it needs, failed"),
            "{}",
            second.reason()
        );
        third.result()
    }
    let flow = Flow::new("chain", chain);
    let error = flow.run(folder.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("no such day"), "{error}");
    let names: Vec<State> = states(&flow.last().unwrap())
        .into_iter()
        .map(|(_, state, _)| state)
        .collect();
    assert_eq!(names, [State::Failed, State::Cancelled, State::Cancelled]);
}

#[test]
fn a_failure_that_nobody_asked_for_fails_the_run() {
    let (_cluster, _) = begin("unheard");
    fn fail(_: i64) -> std::result::Result<i64, std::io::Error> {
        Err(std::io::Error::other("unheard of"))
    }
    fn careless() -> i64 {
        task(fail).submit(1);
        5
    }
    let error = Flow::new("careless", careless).run(()).unwrap_err().to_string();
    assert!(error.contains("unheard of"), "{error}");
    fn careful() -> i64 {
        task(fail).submit(1).result().unwrap_or(9)
    }
    assert_eq!(
        Flow::new("careful", careful).run(()).unwrap().result().unwrap(),
        9
    );
}

#[test]
fn values_are_cached_across_runs_by_code_and_inputs() {
    let (_cluster, folder) = begin("cache");
    fn load(folder: String, i: i64) -> i64 {
        noted(&folder, "load");
        i
    }
    fn double(folder: String, x: i64) -> Vec<i64> {
        noted(&folder, "double");
        vec![x; 100_000]
    }
    fn once(folder: String, i: i64) -> Result<i64> {
        let loaded = task(load).submit((folder.clone(), i));
        let doubled = task(double).cache().submit((folder.clone(), &loaded));
        task(sum).call(&doubled)
    }
    let flow = Flow::new("once", once);
    let place = folder.to_str().unwrap();
    for i in [1, 1, 2, 1] {
        assert_eq!(flow.run((place, i)).unwrap().result().unwrap(), 100_000 * i);
    }
    let state = states(&flow.last().unwrap());
    assert_eq!(state[1].1, State::Cached);
    assert_eq!(calls(&folder).iter().filter(|call| *call == "double").count(), 2);
    assert_eq!(calls(&folder).iter().filter(|call| *call == "load").count(), 4);
    assert_eq!(Flow::clear_cache().unwrap(), 2);
    assert_eq!(Flow::clear_cache().unwrap(), 0);
    // A run keeps what its tasks gave.
    flow.last().unwrap().resume().unwrap();
    assert_eq!(flow.run((place, 1)).unwrap().result().unwrap(), 100_000);
    assert_eq!(states(&flow.last().unwrap())[1].1, State::Completed);
    assert_eq!(calls(&folder).iter().filter(|call| *call == "double").count(), 3);

    fn fresh(folder: String) -> Result<usize> {
        Ok(task(double).cache_for(Duration::ZERO).call((folder, 5))?.len())
    }
    let fresh = Flow::new("fresh", fresh);
    fresh.run(place).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(
        states(&fresh.run(place).unwrap())[0].1,
        State::Completed,
        "it had expired"
    );
}

#[test]
fn limits_hold_and_timeouts_end() {
    let (_cluster, folder) = begin("limits");
    fn alone(folder: String, i: i64) -> bool {
        let lock = PathBuf::from(&folder).join("lock");
        let is_alone = fs::File::create_new(&lock).is_ok();
        std::thread::sleep(Duration::from_millis(20));
        let _ = fs::remove_file(&lock);
        is_alone || i < 0
    }
    fn one_by_one(folder: String) -> Result<bool> {
        let runs = task(alone)
            .limit("db", 1)
            .map((0..6).map(|i| (folder.clone(), i)));
        let mut all = true;
        for run in runs {
            all &= run.result()?;
        }
        Ok(all)
    }
    let run = Flow::new("one by one", one_by_one)
        .run(folder.to_str().unwrap())
        .unwrap();
    assert!(run.result().unwrap(), "two ran at once");
    fn slow() -> i64 {
        std::thread::sleep(Duration::from_secs(20));
        1
    }
    fn hasty() -> Result<i64> {
        task(slow).timeout(Duration::from_millis(100)).call(())
    }
    let began = Instant::now();
    let error = Flow::new("hasty", hasty).run(()).unwrap_err().to_string();
    assert!(
        error.contains("took too long") && began.elapsed() < Duration::from_secs(10),
        "{error}"
    );
    fn endless() -> Result<i64> {
        task(slow).call(())
    }
    let flow = Flow::new("endless", endless).timeout(Duration::from_millis(200));
    let error = flow.run(()).unwrap_err().to_string();
    assert!(error.contains("took longer than 200 ms"), "{error}");
    assert_eq!(flow.last().unwrap().state().unwrap(), State::Cancelled);
}

#[test]
fn a_run_waits_for_approval() {
    let (_cluster, folder) = begin("approval");
    fn step(folder: String, word: String) -> i64 {
        noted(&folder, &word);
        1
    }
    fn inner(folder: String) -> Result<i64> {
        Flow::pause("load it")?;
        task(step).call((folder, "loaded"))
    }
    fn outer(folder: String) -> Result<i64> {
        task(step).call((folder.clone(), "extracted"))?;
        Flow::new("inner", inner).run(folder)?.result()
    }
    let flow = Flow::new("outer", outer);
    let run = flow.run(folder.to_str().unwrap()).unwrap();
    assert_eq!(run.state().unwrap(), State::Paused);
    assert!(run.reason().unwrap().contains("load it"));
    assert!(run.result().unwrap_err().to_string().contains("is paused"));
    let run = run.approve().unwrap();
    assert_eq!(run.result().unwrap(), 1);
    assert_eq!(calls(&folder), ["extracted", "loaded"]);
    assert!(run.approve().unwrap_err().to_string().contains("does not wait"));
    let second = flow.run(folder.to_str().unwrap()).unwrap();
    second.refuse().unwrap();
    assert_eq!(second.state().unwrap(), State::Failed);
    assert!(
        second.reason().unwrap().contains("was refused"),
        "{}",
        second.reason().unwrap()
    );
}

#[test]
fn flows_try_again_say_so_and_are_not_endless() {
    let (_cluster, folder) = begin("flows");
    fn part(folder: String) -> i64 {
        noted(&folder, "part");
        1
    }
    fn unsure(folder: String) -> std::result::Result<i64, Box<dyn std::error::Error>> {
        let n = task(part).call(folder.clone())?;
        noted(&folder, "try");
        if calls(Path::new(&folder))
            .iter()
            .filter(|call| *call == "try")
            .count()
            < 3
        {
            return Err("not yet".into());
        }
        Ok(n)
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let flow = Flow::new("unsure", unsure)
        .retries(1)
        .retry_delay(Duration::from_millis(40))
        .on_failure(move |reason| heard.lock().unwrap().push(reason.to_string()));
    flow.run(folder.to_str().unwrap()).unwrap_err();
    assert_eq!(told.lock().unwrap().len(), 1);
    assert!(told.lock().unwrap()[0].contains("not yet"));
    assert_eq!(flow.last().unwrap().resume().unwrap().result().unwrap(), 1);
    assert_eq!(calls(&folder), ["part", "try", "try", "try"]);

    fn forever() -> Result<i64> {
        Flow::new("forever", forever).run(())?.result()
    }
    let error = Flow::new("forever", forever).run(()).unwrap_err().to_string();
    assert!(error.contains("calls itself"), "{error}");
}

#[test]
fn backfills_make_the_runs_that_are_missing() {
    let (_cluster, folder) = begin("backfill");
    fn day(folder: String, day: u32) -> std::result::Result<u32, std::io::Error> {
        noted(&folder, &format!("day {day}"));
        if day == 3 && !PathBuf::from(&folder).join("mended").exists() {
            return Err(std::io::Error::other("no data"));
        }
        Ok(day)
    }
    fn load(folder: String, n: u32) -> Result<u32> {
        task(day).call((folder, n))
    }
    let flow = Flow::new("load", load);
    let place = folder.to_str().unwrap();
    let days = |range: std::ops::RangeInclusive<u32>| range.map(|n| (place, n)).collect::<Vec<_>>();
    assert_eq!(flow.backfill(days(1..=4)).dry_run().unwrap().n_runs(), 4);
    assert!(calls(&folder).is_empty());
    let error = flow
        .backfill(days(1..=4))
        .max_active_runs(2)
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1 of 4 runs failed") && error.contains("no data"),
        "{error}"
    );
    assert_eq!(flow.backfill(days(1..=4)).dry_run().unwrap().n_runs(), 0);
    fs::write(folder.join("mended"), "").unwrap();
    let done = flow
        .backfill(days(1..=5))
        .reprocess(Reprocess::Failed)
        .run()
        .unwrap();
    assert_eq!(done.n_runs(), 2);
    assert_eq!(calls(&folder).len(), 6);
    let all = flow
        .backfill(days(1..=5))
        .reprocess(Reprocess::Completed)
        .dry_run()
        .unwrap();
    assert_eq!(all.n_runs(), 5);
}

/// Run as a process of its own by the test below, and killed in the middle.
#[test]
fn the_victim() {
    let Ok(folder) = std::env::var("SKEP_VICTIM") else {
        return;
    };
    let _cluster = Cluster::local().workers(2).threads(1).start().unwrap();
    let _ = Flow::new("survivor", survivor).run(folder);
}

fn slow_step(folder: String, i: i64) -> i64 {
    noted(&folder, &format!("began {i}"));
    std::thread::sleep(Duration::from_millis(60));
    noted(&folder, &format!("ended {i}"));
    i
}

fn survivor(folder: String) -> Result<i64> {
    let steps = task(slow_step).map((0..20).map(|i| (folder.clone(), i)));
    task(sum).call(&steps)
}

/// Run as processes of their own by the test below.
#[test]
fn one_of_many() {
    let Ok(n) = std::env::var("SKEP_ONE_OF_MANY") else {
        return;
    };
    let _cluster = Cluster::local().workers(1).threads(1).start().unwrap();
    fn many(n: i64) -> Result<i64> {
        let all = task(inc).map(0..n);
        all.iter().map(skep_cluster::TaskRun::result).sum()
    }
    let flow = Flow::new(&format!("many {n}"), many);
    for _ in 0..5 {
        flow.run(100).unwrap();
    }
}

#[test]
fn many_processes_write_one_new_store() {
    let (_cluster, folder) = begin("many");
    let children: Vec<_> = (0..4)
        .map(|n| {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "one_of_many"])
                .env("SKEP_ONE_OF_MANY", n.to_string())
                .output_in_background()
        })
        .collect();
    for child in children {
        let output = child.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("locked"), "{text}");
    }
    let runs = Flow::runs().unwrap();
    assert_eq!(runs.len(), 20);
    assert_eq!(runs.in_state(State::Completed).len(), 20);
    assert!(folder.join("store/flows.db").exists());
}

trait InBackground {
    fn output_in_background(&mut self) -> std::thread::JoinHandle<std::process::Output>;
}

impl InBackground for std::process::Command {
    fn output_in_background(&mut self) -> std::thread::JoinHandle<std::process::Output> {
        let child = self
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("this program is there");
        std::thread::spawn(move || child.wait_with_output().expect("it ends"))
    }
}

#[test]
fn a_killed_process_leaves_a_run_that_goes_on() {
    let (_cluster, folder) = begin("killed");
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_victim"])
        .env("SKEP_VICTIM", &folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let flow = Flow::new("survivor", survivor);
    let n_completed = |run: &Run<i64>| {
        states(run)
            .iter()
            .filter(|(_, state, _)| *state == State::Completed)
            .count()
    };
    let until = Instant::now() + Duration::from_secs(30);
    let run = loop {
        assert!(Instant::now() < until, "the victim does not get on");
        match flow.last() {
            Ok(run) if n_completed(&run) >= 5 => break run,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!(run.state().unwrap(), State::Running);
    let error = run.resume().unwrap_err().to_string();
    assert!(error.contains("is running"), "{error}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let completed: Vec<String> = run
        .tasks()
        .unwrap()
        .into_iter()
        .filter(|task| task.state == State::Completed)
        .map(|task| task.arguments)
        .collect();
    assert_eq!(run.state().unwrap(), State::Crashed);
    assert!(completed.len() < 20);
    // Two that want it at once: one gets it.
    let outcomes: Vec<bool> = std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| run.resume().is_ok()));
        both.map(|one| one.join().unwrap()).to_vec()
    });
    assert_eq!(outcomes.iter().filter(|is_ok| **is_ok).count(), 1, "{outcomes:?}");
    assert_eq!(run.result().unwrap(), 190);
    let began: Vec<String> = calls(&folder)
        .into_iter()
        .filter(|call| call.starts_with("began"))
        .collect();
    for i in 0..20 {
        let n = began.iter().filter(|call| **call == format!("began {i}")).count();
        let had_completed = completed
            .iter()
            .any(|arguments| arguments.ends_with(&format!(", {i}")));
        assert!(
            n >= 1 && (!had_completed || n == 1),
            "task {i} ran {n} times; completed: {had_completed}"
        );
    }
}

#[test]
fn a_thousand_tasks_of_which_some_fail() {
    let (_cluster, _) = begin("thousand");
    static N: AtomicU32 = AtomicU32::new(0);
    fn sometimes(i: i64) -> std::result::Result<i64, std::io::Error> {
        // Each worker fails the first time that it sees one of these.
        static SEEN: Mutex<Vec<i64>> = Mutex::new(Vec::new());
        let mut seen = SEEN.lock().unwrap();
        if i % 10 == 0 && !seen.contains(&i) {
            seen.push(i);
            return Err(std::io::Error::other("the first time"));
        }
        Ok(i)
    }
    fn many() -> Result<i64> {
        let runs = task(sometimes).retries(2).map(0..1000);
        N.store(runs.len() as u32, Ordering::Relaxed);
        task(sum).call(&runs)
    }
    let began = Instant::now();
    let run = Flow::new("many", many).run(()).unwrap();
    println!("{:?}", began.elapsed());
    assert_eq!(run.result().unwrap(), 999 * 500);
    assert_eq!(N.load(Ordering::Relaxed), 1000);
    let tasks = run.tasks().unwrap();
    assert_eq!(tasks.len(), 1001);
    assert!(tasks.iter().filter(|task| task.attempt > 1).count() >= 100);
    let text = run.bundle().plain().to_string();
    assert!(text.contains("sometimes ×1,000"), "{text}");
}

#[test]
fn calls_outside_a_flow_say_so() {
    let (_cluster, _) = begin("outside");
    let error = task(inc).call(1).unwrap_err().to_string();
    assert!(error.contains("no flow runs here"), "{error}");
    assert!(matches!(Flow::run_of("nothing").unwrap_err(), Error::Argument(_)));
    assert!(
        Flow::run_named("unknown", "1")
            .unwrap_err()
            .to_string()
            .contains("not defined here")
    );
    fn two(a: i64, b: i64) -> i64 {
        a + b
    }
    let flow = Flow::new("two", two);
    assert_eq!(
        Flow::run_named("two", "[1, 2]").unwrap().state().unwrap(),
        State::Completed
    );
    assert!(
        Flow::run_named("two", "1")
            .unwrap_err()
            .to_string()
            .contains("no parameters of the flow")
    );
    assert_eq!(flow.run((1, 2)).unwrap().result().unwrap(), 3);
}

/// A disk that is full: files of this process do not grow.
fn limit_files(to: Option<u64>) {
    let limit = libc::rlimit {
        rlim_cur: to.unwrap_or(libc::RLIM_INFINITY),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: sets a limit from a whole structure, and makes what exceeds it an error rather than the end.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[test]
fn a_full_disk_holds_up_nothing_and_is_caught_up_with() {
    let (_cluster, folder) = begin("full");
    fn sums(n: i64) -> Result<i64> {
        let all = task(inc).map(0..n);
        task(sum).call(&all)
    }
    let flow = Flow::new("sums", sums);
    flow.run(3).unwrap();
    let background = flow.start(400).unwrap();
    let store = skep_flow::Store::open(&folder.join("store")).unwrap();
    let log = fs::metadata(folder.join("store/flows.db-wal")).unwrap().len();
    limit_files(Some(log + 20_000));
    let result = background.result().unwrap();
    assert_eq!(result, (1..=400).sum::<i64>());
    assert!(flow.run(5).is_err(), "a run that cannot be noted does not begin");
    // Another process does not see it yet.
    assert_eq!(store.run(background.id()).unwrap().unwrap().state, State::Running);
    limit_files(None);
    let until = Instant::now() + Duration::from_secs(10);
    while store.run(background.id()).unwrap().unwrap().state != State::Completed {
        assert!(Instant::now() < until, "it was never written");
        std::thread::sleep(Duration::from_millis(50));
    }
    let tasks = store.tasks(background.id()).unwrap();
    assert_eq!(tasks.len(), 401);
    assert!(tasks.iter().all(|task| task.state == State::Completed));
}

#[test]
fn each_approval_is_one() {
    let (_cluster, _) = begin("approvals");
    fn days(n: i64) -> Result<i64> {
        let mut total = 0;
        for i in 0..n {
            Flow::pause("this day?")?;
            total += task(inc).call(i)?;
        }
        Ok(total)
    }
    let flow = Flow::new("days", days);
    let mut run = flow.run(3).unwrap();
    for n_done in 0..3 {
        assert_eq!(run.state().unwrap(), State::Paused);
        assert_eq!(run.tasks().unwrap().len(), n_done);
        run = run.approve().unwrap();
    }
    assert_eq!(run.result().unwrap(), 6);
    let stopped = flow.run(1).unwrap();
    stopped.cancel().unwrap();
    assert_eq!(stopped.state().unwrap(), State::Cancelled);
    assert!(stopped.cancel().unwrap_err().to_string().contains("has ended"));
}

#[test]
fn a_run_in_the_background_is_found_again() {
    let (_cluster, folder) = begin("background");
    let flow = Flow::new("survivor", survivor);
    drop(flow.start(folder.to_str().unwrap()).unwrap());
    let error = flow.last().unwrap().resume().unwrap_err().to_string();
    assert!(error.contains("is running"), "{error}");
    flow.last().unwrap().cancel().unwrap();
    assert!(flow.last().unwrap().wait().is_err());
    assert_eq!(flow.last().unwrap().state().unwrap(), State::Cancelled);
}

#[test]
fn what_makes_no_sense_is_said() {
    let (_cluster, _) = begin("sense");
    fn none() -> Result<i64> {
        task(inc).limit("db", 0).call(1)
    }
    fn back() -> Result<i64> {
        task(inc).backoff(-2.0).call(1)
    }
    fn jitter() -> Result<i64> {
        task(inc).jitter(f64::NAN).call(1)
    }
    for (flow, said) in [
        (Flow::new("none", none), "a limit of 0"),
        (Flow::new("back", back), "a backoff of -2"),
        (Flow::new("jitter", jitter), "a jitter of NaN"),
    ] {
        let error = flow.run(()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for name in ["", " ", "two\nlines"] {
        let error = Flow::new(name, || 1i64).run(()).unwrap_err().to_string();
        assert!(error.contains("cannot be called"), "{error}");
    }
    fn one(n: i64) -> i64 {
        n
    }
    fn text(n: i64) -> String {
        n.to_string()
    }
    let run = Flow::new("typed", one).run(-5).unwrap();
    let other = Flow::new("typed", text);
    let error = other.last().unwrap().result().unwrap_err().to_string();
    assert!(error.contains("gave a `i64`, not a `String`"), "{error}");
    assert!(
        other
            .resume(run.id())
            .unwrap_err()
            .to_string()
            .contains("gave a `i64`")
    );
    assert_eq!(run.result().unwrap(), -5);
    let several = Flow::runs().unwrap();
    let ids: Vec<String> = several.iter().map(|run| run.id().to_string()).collect();
    let shared = ids.iter().find_map(|a| {
        let n = ids.iter().filter(|b| a[..1] == b[..1]).count();
        (n > 1).then(|| a[..1].to_string())
    });
    if let Some(first) = shared {
        assert!(
            Flow::run_of(&first)
                .unwrap_err()
                .to_string()
                .contains("several runs")
        );
    }
    assert!(Flow::run_of("").is_err());
}

#[test]
fn flows_that_flows_call_are_seen() {
    let (_cluster, _) = begin("called");
    fn inner(n: i64) -> Result<i64> {
        task(inc).call(n)
    }
    fn outer(n: i64) -> Result<i64> {
        Flow::new("inner", inner).run(n)?.result()
    }
    let run = Flow::new("outer", outer).run(4).unwrap();
    assert_eq!(run.result().unwrap(), 5);
    let text = run.bundle().plain().to_string();
    assert!(
        text.contains("inner, run") && text.contains("Completed"),
        "{text}"
    );
    let inner = Flow::new("inner", inner);
    assert_eq!(inner.last().unwrap().result().unwrap(), 5);
    assert!(
        inner.bundle().plain().contains("gives"),
        "{}",
        inner.bundle().plain()
    );
    assert_eq!(Flow::runs().unwrap().len(), 1);
}

#[test]
fn a_run_that_is_over_waits_for_nobody() {
    let (_cluster, _) = begin("over");
    fn nap() -> i64 {
        std::thread::sleep(Duration::from_millis(400));
        1
    }
    fn fail() -> std::result::Result<i64, std::io::Error> {
        Err(std::io::Error::other("no"))
    }
    // Calls that run are stopped, calls that were to begin do not, and values are where they belong.
    fn cut_off(n: i64) -> Result<i64> {
        let _others = task(nap).map((0..n).map(|_| ()));
        task(fail).call(())
    }
    fn sums(n: i64) -> Result<i64> {
        let all = task(inc).map(0..n);
        all.iter().map(skep_cluster::TaskRun::result).sum()
    }
    let (cut, whole) = (Flow::new("cut", cut_off), Flow::new("whole", sums));
    let mut took = Vec::new();
    for n in 0..20 {
        let began = Instant::now();
        cut.run(n % 2).unwrap_err();
        assert_eq!(whole.run(n).unwrap().result().unwrap(), (1..=n).sum::<i64>());
        took.push(began.elapsed());
    }
    took.sort();
    // Neither for what was stopped nor for words that had come already, which would be 300 ms.
    // Half of them: naps that nobody hears of any more still hold threads of the workers.
    assert!(took[10] < Duration::from_millis(250), "{took:?}");
}
