//! What goes wrong, with real processes: killed, stopped, lied to, out of room.

use std::{
    collections::HashMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use skep_cluster::{
    Cluster, Delayed, Error, Remote, TaskErrorKind, WorkerId,
    coordination::{Barrier, Event, Lock, Queue, Semaphore},
    model::{cluster::WorkerInfo, task::Output},
};

skep_cluster::workers_are_this_program!(|| {});

fn inc(x: i64) -> i64 {
    x + 1
}

fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn block(i: u64) -> Vec<u64> {
    vec![i; 1_000_000]
}

fn head(values: Vec<u64>) -> u64 {
    values[7]
}

fn start(workers: usize) -> Cluster {
    Cluster::local().workers(workers).threads(1).start().unwrap()
}

fn signal(worker: &WorkerInfo, signal: rustix::process::Signal) {
    // It may have been killed a moment ago.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(worker.pid as i32).unwrap(), signal);
}

/// Waits until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// This program's cluster folder.
fn folder() -> PathBuf {
    let prefix = format!("skep-{}-", std::process::id());
    let mut found = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    found
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .expect("the cluster has a folder")
        .path()
}

#[test]
fn a_worker_killed_at_any_stage_of_a_task() {
    let cluster = start(2);
    let kill_first = || signal(&cluster.info().unwrap().workers[0], rustix::process::Signal::KILL);
    // Queued, and running.
    let naps = cluster.impure().map(nap, vec![30u64; 20]);
    std::thread::sleep(Duration::from_millis(50));
    kill_first();
    assert_eq!(cluster.gather(&naps).unwrap(), [30; 20]);
    // Done, and its value held.
    let blocks = cluster.map(block, 0..6u64);
    cluster.wait(&blocks).unwrap();
    kill_first();
    assert_eq!(
        cluster.gather(cluster.map(head, &blocks)).unwrap(),
        [0, 1, 2, 3, 4, 5]
    );
    // While its value is fetched by a peer, and by this program.
    for round in 0..6u64 {
        let made = cluster.impure().submit(block, round);
        made.wait().unwrap();
        let used = cluster.impure().map(head, vec![&made, &made]);
        std::thread::sleep(Duration::from_micros(200 * round));
        kill_first();
        assert_eq!(made.gather().unwrap()[7], round);
        assert_eq!(cluster.gather(&used).unwrap(), [round; 2]);
    }
    // Before it has come up.
    kill_first();
    kill_first();
    assert_eq!(cluster.submit(inc, 41).gather().unwrap(), 42);
}

/// Says by a file that it has begun.
fn spin(begun: String) -> u64 {
    std::fs::write(begun, "").unwrap();
    loop {
        std::hint::black_box(1);
    }
}

/// It would take a core from all others, for ever.
#[test]
fn a_task_that_does_not_hear_that_it_was_cancelled_costs_its_worker() {
    let cluster = start(2);
    let kept = cluster.map(inc, 0..20);
    cluster.wait(&kept).unwrap();
    let begun = folder().join("begun");
    let deaf = cluster.submit(spin, begun.to_string_lossy().into_owned());
    until("it spins", || begun.exists());
    deaf.cancel().unwrap();
    until("its worker has ended, and said why", || {
        let losses = cluster.info().unwrap().losses;
        losses
            .iter()
            .any(|loss| loss.contains("`spin` was cancelled") && loss.contains("went on"))
    });
    until("another one has come", || {
        cluster.info().unwrap().workers.len() == 2
    });
    assert_eq!(cluster.gather(&kept).unwrap(), (1..=20).collect::<Vec<i64>>());
    cluster.shutdown().unwrap();
    let error = cluster.impure().submit(inc, 1).gather().unwrap_err().message();
    assert!(
        error.what.contains("shut down") && error.hint.is_some(),
        "{error}"
    );
}

#[test]
fn a_restart_begins_with_new_workers_and_loses_no_value() {
    let cluster = start(2);
    let kept = cluster.map(inc, 0..20);
    cluster.wait(&kept).unwrap();
    let pids = |cluster: &Cluster| -> Vec<u32> {
        cluster
            .info()
            .unwrap()
            .workers
            .iter()
            .map(|worker| worker.pid)
            .collect()
    };
    let before = pids(&cluster);
    cluster.restart().unwrap();
    let now = pids(&cluster);
    assert!(
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid)),
        "{before:?} {now:?}"
    );
    assert_eq!(cluster.gather(&kept).unwrap(), (1..=20).collect::<Vec<i64>>());
    cluster.shutdown().unwrap();
    assert!(cluster.restart().unwrap_err().to_string().contains("shut down"));
}

#[test]
fn all_workers_killed_at_once() {
    let cluster = start(3);
    let kept = cluster.map(inc, 0..30);
    cluster.wait(&kept).unwrap();
    let naps = cluster.impure().map(nap, vec![30u64; 12]);
    for worker in &cluster.info().unwrap().workers {
        signal(worker, rustix::process::Signal::KILL);
    }
    assert_eq!(cluster.gather(&naps).unwrap(), [30; 12]);
    assert_eq!(cluster.gather(&kept).unwrap(), (1..=30).collect::<Vec<i64>>());
    until("there are three again", || {
        cluster.info().unwrap().workers.len() == 3
    });
    assert!(
        cluster
            .info()
            .unwrap()
            .losses
            .iter()
            .all(|loss| loss.contains("SIGKILL"))
    );
}

#[test]
fn a_stopped_worker_is_told_of_and_comes_back() {
    let cluster = start(2);
    cluster.gather(cluster.map(inc, 0..10)).unwrap();
    let stopped = cluster.info().unwrap().workers[0].clone();
    let of = |id: WorkerId| {
        cluster
            .info()
            .unwrap()
            .workers
            .into_iter()
            .find(|worker| worker.id == id)
            .expect("it is not given up")
    };
    signal(&stopped, rustix::process::Signal::STOP);
    until("its silence is noticed", || of(stopped.id).is_silent);
    // Work goes on elsewhere, and nothing is given to the silent one.
    assert_eq!(
        cluster.gather(cluster.impure().map(nap, vec![5u64; 40])).unwrap(),
        [5; 40]
    );
    // As long as the issue says; a short run of the tests does with less.
    let seconds = std::env::var("SKEP_STOP_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(6);
    std::thread::sleep(Duration::from_secs(seconds));
    signal(&stopped, rustix::process::Signal::CONT);
    until("it is back", || !of(stopped.id).is_silent);
    assert!(cluster.info().unwrap().losses.is_empty(), "no false death");
    let there = cluster.on_workers([stopped.id.0]).impure().submit(inc, 1);
    assert_eq!(there.gather().unwrap(), 2);
}

#[test]
fn a_copy_is_passed_on_when_its_writer_is_gone() {
    let cluster = start(3);
    let made = cluster.submit(block, 9u64);
    assert_eq!(cluster.broadcast(&made).unwrap(), 2);
    let first = made.state().1;
    // The writer lets its segment go after a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let writer = cluster
        .info()
        .unwrap()
        .workers
        .into_iter()
        .find(|worker| first.contains(&worker.id.to_string()))
        .expect("it says where it is");
    signal(&writer, rustix::process::Signal::KILL);
    until("the loss is seen", || cluster.info().unwrap().losses.len() == 1);
    let started = Instant::now();
    assert_eq!(made.gather().unwrap()[7], 9);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(cluster.info().unwrap().n_done, 1, "it was not made again");
}

#[test]
fn a_task_that_waits_for_its_own_survives_the_death_of_its_only_worker() {
    fn outer(x: i64) -> i64 {
        let cluster = Cluster::current().unwrap();
        let slow = cluster.impure().submit(nap, 300u64);
        slow.gather().unwrap() as i64 + cluster.submit(inc, x).gather().unwrap()
    }
    let cluster = start(1);
    let waits = cluster.submit(outer, 1);
    std::thread::sleep(Duration::from_millis(150));
    signal(&cluster.info().unwrap().workers[0], rustix::process::Signal::KILL);
    until("it is done", || !matches!(waits.state().0, "pending"));
    assert_eq!(waits.gather().unwrap(), 302);
}

/// Its own code panics wherever it is touched.
#[derive(Clone)]
struct Rude(bool);

impl serde::Serialize for Rude {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(!self.0, "I will not be looked at");
        serde::Serialize::serialize(&String::from("rude"), to)
    }
}

impl<'de> serde::Deserialize<'de> for Rude {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Rude, D::Error> {
        panic!("nor be made")
    }
}

impl Drop for Rude {
    fn drop(&mut self) {}
}

#[test]
fn a_type_whose_own_code_panics_fails_its_task_and_nothing_else() {
    fn make(is_rude: bool) -> Rude {
        Rude(is_rude)
    }
    fn take(_: Rude) -> i64 {
        1
    }
    let cluster = start(1);
    let Err(Error::Task(error)) = cluster.submit(make, true).wait() else {
        panic!("its size cannot be told")
    };
    assert!(error.message.contains("I will not be looked at"), "{error}");
    let Err(Error::Task(error)) = cluster.submit(take, Rude(false)).wait() else {
        panic!("it cannot be read")
    };
    assert!(error.message.contains("nor be made"), "{error}");
    assert_eq!(
        cluster.submit(inc, 1).gather().unwrap(),
        2,
        "the worker is as it was"
    );
    assert!(cluster.info().unwrap().losses.is_empty());
}

#[test]
fn a_poisoned_task_is_given_up_after_three_workers_and_spares_the_rest() {
    fn poison(x: i64) -> i64 {
        if x == 7 {
            std::process::abort();
        }
        std::thread::sleep(Duration::from_millis(5));
        x
    }
    let cluster = start(2);
    let all = cluster.map(poison, 0..20);
    let Err(Error::Task(error)) = all[7].gather() else {
        panic!("it must fail")
    };
    assert_eq!(error.kind, TaskErrorKind::KilledWorkers);
    assert!(
        error.message.contains("3 workers died") && error.message.contains("SIGABRT"),
        "{error}"
    );
    for (i, one) in all.iter().enumerate().filter(|(i, _)| *i != 7) {
        assert_eq!(one.gather().unwrap(), i as i64);
    }
}

#[test]
fn a_worker_over_its_limit_names_the_task_and_the_bytes() {
    fn hungry(n: usize) -> usize {
        let all = std::hint::black_box(vec![1u8; n]);
        std::thread::sleep(Duration::from_secs(2));
        all.len()
    }
    let cluster = Cluster::local()
        .workers(1)
        .threads(1)
        .memory_limit("150 MB")
        .start()
        .unwrap();
    let Err(Error::Task(error)) = cluster.submit(hungry, 400_000_000usize).gather() else {
        panic!("it must fail")
    };
    assert_eq!(error.kind, TaskErrorKind::KilledWorkers);
    for word in ["over its memory limit", "MiB of 143.1 MiB", "`hungry`", "95 %"] {
        assert!(error.message.contains(word), "{error}");
    }
}

#[test]
fn a_disk_that_takes_nothing_loses_nothing() {
    let blocked = std::env::temp_dir().join(format!("skep-no-folder-{}", std::process::id()));
    std::fs::write(&blocked, "a file where a folder should be").unwrap();
    // SAFETY: nextest runs each test in a process of its own, and nothing else runs in it yet.
    unsafe { std::env::set_var("SKEP_SPILL", &blocked) };
    let cluster = Cluster::local()
        .workers(1)
        .threads(1)
        .memory_limit("100 MB")
        .start()
        .unwrap();
    let blocks = cluster.map(block, 0..9u64);
    cluster.wait(&blocks).unwrap();
    until("it says that it cannot write", || {
        cluster.info().unwrap().workers[0].memory.n_spill_failures > 0
    });
    assert_eq!(
        cluster.gather(cluster.map(head, &blocks)).unwrap(),
        (0..9).collect::<Vec<u64>>()
    );
    assert!(
        cluster.info().unwrap().losses.is_empty(),
        "{:?}",
        cluster.info().unwrap().losses
    );
    std::fs::remove_file(&blocked).unwrap();
}

/// A real disk that is full: a few megabytes of memory as one, where this may be mounted.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    let disk = std::env::temp_dir().join(format!("skep-disk-{}", std::process::id()));
    std::fs::create_dir_all(&disk).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=20m", "skep-disk"])
        .arg(&disk)
        .output()
        .unwrap();
    if !mount.status.success() {
        eprintln!(
            "skipped: only root may mount a small disk; the test above covers a disk that takes nothing"
        );
        return std::fs::remove_dir(&disk).unwrap();
    }
    // SAFETY: nextest runs each test in a process of its own, and nothing else runs in it yet.
    unsafe { std::env::set_var("SKEP_SPILL", &disk) };
    let cluster = Cluster::local()
        .workers(1)
        .threads(1)
        .memory_limit("100 MB")
        .start()
        .unwrap();
    let blocks = cluster.map(block, 0..10u64);
    cluster.wait(&blocks).unwrap();
    until("it says that the disk is full", || {
        cluster.info().unwrap().workers[0].memory.n_spill_failures > 0
    });
    assert_eq!(
        cluster.gather(cluster.map(head, &blocks)).unwrap(),
        (0..10).collect::<Vec<u64>>()
    );
    assert!(
        cluster.info().unwrap().losses.is_empty(),
        "{:?}",
        cluster.info().unwrap().losses
    );
    cluster.shutdown().unwrap();
    until("the disk is let go", || {
        std::process::Command::new("umount")
            .arg(&disk)
            .output()
            .unwrap()
            .status
            .success()
    });
    std::fs::remove_dir(&disk).unwrap();
}

/// What a stranger might send: nothing, noise, lengths without a body, pieces of real messages.
fn garbage() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    all.extend(files.iter().map(|path| std::fs::read(path).unwrap()));
    let mut rng = fastrand::Rng::with_seed(7);
    for n in [0, 1, 7, 8, 9, 64, 1_000, 70_000] {
        all.push((0..n).map(|_| rng.u8(..)).collect());
        let mut framed = (n as u64).to_le_bytes().to_vec();
        framed.extend((0..n).map(|_| rng.u8(..)));
        all.push(framed);
    }
    all.push(u64::MAX.to_le_bytes().to_vec());
    all.push((1u64 << 40).to_le_bytes().to_vec());
    all
}

#[test]
fn strangers_and_garbage_on_every_socket() {
    let cluster = start(2);
    let held = cluster.map(inc, 0..20);
    cluster.wait(&held).unwrap();
    let sockets: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "sock"))
        .collect();
    assert_eq!(sockets.len(), 3, "the scheduler's and two workers': {sockets:?}");
    for socket in &sockets {
        for bytes in garbage() {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // It may close the connection while we speak.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(
                answer.is_empty(),
                "a stranger was answered at {}",
                socket.display()
            );
        }
    }
    assert_eq!(cluster.gather(&held).unwrap(), (1..=20).collect::<Vec<i64>>());
    assert_eq!(cluster.gather(cluster.map(inc, 100..120)).unwrap().len(), 20);
    assert!(
        cluster.info().unwrap().losses.is_empty(),
        "{:?}",
        cluster.info().unwrap().losses
    );
}

#[test]
fn a_real_greeting_with_a_wrong_token_is_refused() {
    use skep_cluster::{
        Token,
        wire::protocol::{ToPeer, ToScheduler},
    };
    let cluster = start(1);
    let right = Token::beside(&folder().join("scheduler.sock")).unwrap();
    let wrong = Token(right.0 ^ 1);
    let frame = |body: Vec<u8>| [(body.len() as u64).to_le_bytes().to_vec(), body].concat();
    let ask = |socket: &Path, token: Token| {
        let is_scheduler = socket.ends_with("scheduler.sock");
        let hello = if is_scheduler {
            postcard::to_stdvec(&vec![ToScheduler::Hello { token }])
        } else {
            postcard::to_stdvec(&ToPeer::Hello { token })
        };
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(&frame(hello.unwrap())).unwrap();
        let question = ToPeer::Get {
            output: Output::whole(skep_cluster::Key(1)),
        };
        let _ = if is_scheduler {
            Ok(())
        } else {
            stream.write_all(&frame(postcard::to_stdvec(&question).unwrap()))
        };
        let mut byte = [0];
        matches!(stream.read(&mut byte), Ok(1))
    };
    for entry in std::fs::read_dir(folder())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "sock"))
    {
        assert!(!ask(&entry.path(), wrong), "{:?}", entry.path());
        assert!(ask(&entry.path(), right), "{:?}", entry.path());
    }
    assert_eq!(cluster.submit(inc, 1).gather().unwrap(), 2);
}

/// A random graph, and what it comes to.
fn random_graph(rng: &mut fastrand::Rng) -> (Vec<Delayed<i64>>, Vec<i64>) {
    let mut nodes: Vec<(Delayed<i64>, i64)> = Vec::new();
    let salt = rng.i64(0..1_000_000_000);
    for i in 0..rng.usize(5..80) {
        let pick = |rng: &mut fastrand::Rng| nodes[rng.usize(0..nodes.len())].clone();
        let node = match rng.u8(0..4) {
            0 | 1 if !nodes.is_empty() => {
                let ((a, x), (b, y)) = (pick(rng), pick(rng));
                (Delayed::call(add_mod, (a, b)), add_mod(x, y))
            }
            2 if !nodes.is_empty() => {
                let (a, x) = pick(rng);
                (Delayed::call(slow_inc, a), slow_inc(x))
            }
            _ => (Delayed::call(inc, salt + i as i64), inc(salt + i as i64)),
        };
        nodes.push(node);
    }
    let (delayed, expected) = nodes.into_iter().rev().take(6).unzip();
    (delayed, expected)
}

fn add_mod(a: i64, b: i64) -> i64 {
    (a + b) % 1_000_000_007
}

fn slow_inc(x: i64) -> i64 {
    std::thread::sleep(Duration::from_micros((x % 7) as u64 * 300));
    x + 1
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap()
}

/// Ten minutes by `SKEP_SOAK_SECONDS=600`; a few seconds in every run of the tests.
#[test]
fn random_graphs_with_random_kills_are_right_and_leave_nothing() {
    let seconds = std::env::var("SKEP_SOAK_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(8);
    let seed = std::env::var("SKEP_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(11);
    let mut rng = fastrand::Rng::with_seed(seed);
    let cluster = start(3);
    let until_when = Instant::now() + Duration::from_secs(seconds);
    let (mut n_graphs, mut n_kills, mut n_cancelled) = (0u32, 0u32, 0u32);
    let mut at_start = None;
    while Instant::now() < until_when {
        let (delayed, expected) = random_graph(&mut rng);
        let remotes: Vec<Remote<i64>> = delayed.iter().map(|one| cluster.compute(one)).collect();
        if rng.u8(0..6) == 0 {
            let workers = cluster.info().unwrap().workers;
            if let Some(worker) = workers.get(rng.usize(0..workers.len().max(1))) {
                signal(worker, rustix::process::Signal::KILL);
                n_kills += 1;
            }
        }
        if rng.u8(0..10) == 0 {
            remotes[0].cancel().unwrap();
            n_cancelled += 1;
            drop(remotes);
            continue;
        }
        for (remote, expected) in remotes.iter().zip(&expected) {
            match remote.gather() {
                Ok(value) => assert_eq!(value, *expected, "seed {seed}, graph {n_graphs}"),
                // Killed three times by chance while it was the only one there.
                Err(Error::Task(error)) if error.kind == TaskErrorKind::KilledWorkers => {}
                Err(error) => panic!("seed {seed}, graph {n_graphs}: {error}"),
            }
        }
        n_graphs += 1;
        if n_graphs == 50 {
            at_start = Some((open_files(), resident_kilobytes()));
        }
        // The cluster gives up to replace workers that die more often than once a second.
        if n_kills > 0 && rng.u8(0..6) == 0 {
            std::thread::sleep(Duration::from_millis(if seconds > 60 { 900 } else { 50 }));
        }
    }
    println!("{n_graphs} graphs, {n_kills} kills, {n_cancelled} cancelled");
    assert!(n_graphs > 10, "{n_graphs} graphs");
    until("all values are let go", || {
        cluster
            .info()
            .unwrap()
            .workers
            .iter()
            .all(|worker| worker.held_bytes == 0 && worker.n_assigned == 0)
    });
    until("no record is kept for nobody", || {
        cluster.info().unwrap().n_tasks == 0
    });
    let (files, memory) = at_start.unwrap_or((open_files(), resident_kilobytes()));
    until("no descriptor is left", || open_files() <= files + 12);
    // A task's story is kept for as long as the cluster: two hundred bytes each.
    let grown = resident_kilobytes().saturating_sub(memory);
    assert!(
        grown < 30_000 + u64::from(n_graphs) * 12,
        "{grown} KiB more than after fifty graphs, of {n_graphs}"
    );
    until("dead workers leave no socket", || {
        let alive: HashMap<u32, ()> = cluster
            .info()
            .unwrap()
            .workers
            .iter()
            .map(|worker| (worker.pid, ()))
            .collect();
        std::fs::read_dir(folder()).unwrap().flatten().all(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("worker-")
                .and_then(|rest| rest.strip_suffix(".sock"))
                .is_none_or(|pid| alive.contains_key(&pid.parse().unwrap()))
        })
    });
}

fn hold(lock: Lock, begun: String, ms: u64) -> skep_cluster::Result<u32> {
    let _held = lock.acquire()?;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(begun)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    std::thread::sleep(Duration::from_millis(ms));
    Ok(std::process::id())
}

/// Who waits for a lock gets it when its holder dies, and the task that held it runs again behind them.
#[test]
fn a_lock_is_free_when_the_worker_that_holds_it_dies() {
    let cluster = start(2);
    let lock = cluster.lock("log").unwrap();
    let begun = folder().join("held").to_string_lossy().into_owned();
    let tasks = cluster
        .impure()
        .map(hold, (0..2).map(|_| (lock.clone(), begun.clone(), 1_500)));
    until("one holds it", || Path::new(&begun).exists());
    until("the other one waits", || {
        cluster
            .info()
            .unwrap()
            .workers
            .iter()
            .all(|worker| worker.n_assigned > 0)
    });
    assert!(lock.try_acquire().unwrap().is_none());
    // Whichever holds it: one of these two kills does.
    let pids: Vec<WorkerInfo> = cluster.info().unwrap().workers;
    signal(&pids[0], rustix::process::Signal::KILL);
    cluster.gather(&tasks).unwrap();
    until("it is free", || !lock.is_locked().unwrap());
    // A program that ends, however it does, holds nothing either.
    let held = lock.acquire().unwrap();
    assert!(lock.is_locked().unwrap());
    drop(held);
    drop(lock.acquire_within(Duration::from_secs(5)).unwrap().unwrap());
}

/// Work for three, on two workers with one thread each: who waits gives the thread to others.
#[test]
fn tasks_that_wait_for_each_other_end_also_when_workers_die() {
    fn meet(barrier: Barrier, done: Queue<u32>, i: u32) -> skep_cluster::Result<u64> {
        let place = barrier.wait()?;
        done.put(i)?;
        Ok(place)
    }
    let cluster = start(2);
    let (barrier, done) = (
        cluster.barrier("start", 5).unwrap(),
        cluster.queue("done").unwrap(),
    );
    let tasks = cluster
        .impure()
        .map(meet, (0..5).map(|i| (barrier.clone(), done.clone(), i)));
    let mut places = cluster.gather(&tasks).unwrap();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3, 4]);
    assert_eq!(done.len().unwrap(), 5);
    while done.try_get().unwrap().is_some() {}
    let tasks = cluster
        .impure()
        .map(meet, (0..4).map(|i| (barrier.clone(), done.clone(), i)));
    until("four wait", || barrier.n_waiting().unwrap() == 4);
    let some = cluster.info().unwrap().workers.swap_remove(0);
    signal(&some, rustix::process::Signal::KILL);
    until("those of the dead one wait again elsewhere", || {
        cluster.info().unwrap().losses.len() == 1 && barrier.n_waiting().unwrap() == 4
    });
    let last = barrier.wait_within(Duration::from_secs(20)).unwrap();
    assert!(last.is_some());
    cluster.gather(&tasks).unwrap();
    let waits = cluster.submit(|event: Event| event.wait(), cluster.event("never").unwrap());
    until("it waits", || {
        cluster
            .info()
            .unwrap()
            .workers
            .iter()
            .any(|worker| worker.n_assigned > 0)
    });
    waits.cancel().unwrap();
    waits.gather().unwrap_err();
    cluster.event("left").unwrap();
    cluster.shutdown().unwrap();
    let error = cluster.event("never").unwrap_err().message();
    assert!(error.what.contains("shut down"), "{error}");
}

/// Whatever happens to workers, the values are right; with a seed the same things happen again.
#[test]
fn work_under_chaos_ends_with_the_right_values() {
    let cluster = start(3);
    let chaos = cluster
        .chaos(7)
        .every(Duration::from_millis(150))
        .start()
        .unwrap();
    let seconds = std::env::var("SKEP_SOAK_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(4);
    let until = Instant::now() + Duration::from_secs(seconds);
    let semaphore = cluster.semaphore("two", 2).unwrap();
    let barrier = cluster.barrier("three", 3).unwrap();
    let queue: Queue<i64> = cluster.queue("all").unwrap();
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        let anew = cluster.impure();
        let values = anew.map(steady, (0..60).map(|i| i + round * 1_000));
        let sum: i64 = cluster.gather(values).unwrap().iter().sum();
        assert_eq!(sum, (0..60).map(|i| i + round * 1_000 + 1).sum::<i64>());
        // A task whose worker dies runs again: what it has put is there twice then, and never too few times.
        let puts = anew.map(put_one, (0..10i64).map(|i| (semaphore.clone(), queue.clone(), i)));
        let meets = anew.map(meet_others, (0..3i64).map(|_| barrier.clone()));
        let nested = vec![puts, meets];
        let ended = cluster.gather_nested(&nested).unwrap();
        assert_eq!(ended, [(0..10).collect(), vec![3; 3]], "round {round}");
        let mut all = std::collections::HashSet::new();
        while let Some(item) = queue.try_get().unwrap() {
            all.insert(item);
        }
        assert_eq!(all.len(), 10, "round {round}");
    }
    println!("{round} rounds");
    until_free(&semaphore, &barrier);
    let deeds = chaos.stop();
    assert!(deeds.len() > 4, "{deeds:?}");
    let kinds: std::collections::HashSet<String> =
        deeds.iter().map(|deed| format!("{:?}", deed.trouble)).collect();
    assert_eq!(kinds.len(), 3, "it killed, stopped and slowed: {deeds:?}");
    until_all_answer(&cluster);
    // Only what is named is done, and dropping it ends it.
    let before = cluster.info().unwrap().losses.len();
    drop(
        cluster
            .chaos(1)
            .pause()
            .every(Duration::from_millis(100))
            .start()
            .unwrap(),
    );
    assert_eq!(cluster.info().unwrap().losses.len(), before);
}

fn put_one(semaphore: Semaphore, queue: Queue<i64>, i: i64) -> skep_cluster::Result<i64> {
    let _permit = semaphore.acquire()?;
    queue.put(i)?;
    std::thread::sleep(Duration::from_millis(2));
    Ok(i)
}

/// The number of parties. One that runs again since its worker died may find that the others have met already.
fn meet_others(barrier: Barrier) -> skep_cluster::Result<i64> {
    barrier.wait_within(Duration::from_millis(100))?;
    Ok(3)
}

fn until_free(semaphore: &Semaphore, barrier: &Barrier) {
    until("all permits are back", || semaphore.n_free().unwrap() == 2);
    until("nobody waits", || barrier.n_waiting().unwrap() == 0);
}

/// None is left stopped.
fn until_all_answer(cluster: &Cluster) {
    // One that was killed last may be among them for a moment.
    until("all workers answer", || {
        cluster.run_on_all(|| 1u8).is_ok_and(|all| all.len() == 3)
    });
}

fn steady(x: i64) -> i64 {
    std::thread::sleep(Duration::from_millis(5));
    x + 1
}
