"""What tasks and cells agree by: locks, queues and their like, as people who come from Dask or Ray type them."""

import time

import pytest

from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    ok(kernel, "fn inc(x: i64) -> i64 { x + 1 }\nfn nap(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms }")
    return kernel


def interrupted(kernel, code):
    """The cell waits, and an interrupt ends it soon."""
    running = kernel.client.execute(code)
    time.sleep(1.5)
    kernel.interrupt()
    began = time.monotonic()
    assert kernel.finish(running).error
    assert time.monotonic() - began < 1.5


# Dask: 9 lines (`Lock`, a function that uses it, `client.map`).
def test_a_lock_in_tasks_and_cells(cluster, tmp_path):
    ok(cluster, f"""use std::io::Write;
fn append(lock: Lock, line: u32) -> Result<u32, String> {{
    let _held = lock.acquire().map_err(|e| e.to_string())?;
    let path = "{tmp_path}/log";
    let before = std::fs::read_to_string(path).unwrap_or_default();
    sleep(Duration::from_millis(2));
    std::fs::write(path, format!("{{before}}{{line}}\\n")).unwrap();
    Ok(line)
}}""")
    ok(cluster, 'let lock = cluster.lock("log")?;')
    ok(cluster, "let written = cluster.map(append, (0..20u32).map(|i| (lock.clone(), i))); cluster.gather(written)?.len()", "20")
    assert len((tmp_path / "log").read_text().splitlines()) == 20
    ok(cluster, "let held = lock.acquire()?;")
    ok(cluster, "(lock.is_locked()?, lock.try_acquire()?.is_some(), lock.acquire_within(Duration::from_millis(50))?.is_some())", "(true, false, false)")
    ok(cluster, "drop(held); lock.is_locked()?", "false")
    ok(cluster, "lock", "lock `log`")
    fails(cluster, "cluster.map_batches(inc, 0..10, 0)", "a batch of 0 items", "cell")


# Dask: 8 lines (`Queue`, `put` in a task, `get` here).
def test_a_queue_between_tasks_and_a_cell(cluster):
    ok(cluster, "fn produce(queue: Queue<i64>, n: i64) -> Result<(), skep::Error> { for i in 0..n { queue.put(i * i)?; } Ok(()) }")
    ok(cluster, 'let queue = cluster.queue::<i64>("squares")?; let producer = cluster.submit(produce, (queue.clone(), 5i64));')
    ok(cluster, "let mut got = vec![]; while got.len() < 5 { got.push(queue.get()?); } got", "[0, 1, 4, 9, 16]")
    ok(cluster, "queue.get_within(Duration::from_millis(20))?", "None")
    ok(cluster, "#[derive(Clone, Debug, Serialize, Deserialize)] struct Job { id: u32, text: String }")
    ok(cluster, 'let jobs = cluster.queue::<Job>("jobs")?; jobs.put(Job { id: 1, text: "a".into() })?;')
    ok(cluster, "jobs.get()?", "Job { id: 1, text: \"a\" }")
    ok(cluster, 'fn order(id: u32) -> Result<(), skep::Error> { Cluster::current()?.queue::<Job>("jobs")?.put(Job { id, text: "from a task".into() }) }')
    ok(cluster, "cluster.submit(order, 7).gather()?; jobs.get()?.id", "7")
    fails(cluster, 'cluster.queue::<String>("squares")?', "the queue `squares` holds `i64`, not `String`")


# Dask: 6 lines (`Variable`), 7 (`Event`), 5 (`Semaphore`), 9 (`Pub`, `Sub`).
def test_variables_events_semaphores_topics_and_barriers(cluster):
    ok(cluster, 'let best = cluster.variable::<f64>("best")?; best.set(0.5)?; best.get()?', "0.5")
    ok(cluster, 'let go = cluster.event("go")?; let waits = cluster.submit(|go: Event| go.wait().map(|()| 7), &go); go.set()?; waits.gather()?', "7")
    ok(cluster, 'let two = cluster.semaphore("two", 2)?; let held = (two.acquire()?, two.acquire()?); two.n_free()?', "0")
    fails(cluster, 'cluster.semaphore("none", 0)?', "0 permits would never let anybody go on")
    ok(cluster, 'let news = cluster.topic::<String>("news")?; let mut heard = news.subscribe()?; fn tell(news: Topic<String>, i: u32) -> Result<(), skep::Error> { news.publish(format!("item {i}")) }')
    ok(cluster, 'cluster.gather(cluster.map(tell, (0..3).map(|i| (news.clone(), i))))?; let mut all: Vec<String> = heard.until_silent(Duration::from_millis(100)).collect::<Result<_, _>>()?; all.sort(); all', '["item 0", "item 1", "item 2"]')
    ok(cluster, 'fn meet(start: Barrier) -> Result<u64, skep::Error> { start.wait() }')
    ok(cluster, 'let start = cluster.barrier("start", 6)?; let met = cluster.impure().map(meet, vec![start.clone(); 6]); let mut places = cluster.gather(met)?; places.sort(); places', "[0, 1, 2, 3, 4, 5]")


def test_an_interrupted_wait_holds_nothing(cluster):
    ok(cluster, 'let mine = cluster.lock("mine")?; let kept = mine.acquire()?;')
    interrupted(cluster, "let never = mine.acquire()?;")
    ok(cluster, "drop(kept); mine.is_locked()?", "false")
    ok(cluster, "let again = mine.acquire()?; mine.is_locked()?", "true")


def test_what_a_dead_evaluation_process_held_is_free(cluster):
    ok(cluster, 'let lost = cluster.lock("lost")?.acquire()?; cluster.lock("lost")?.is_locked()?', "true")
    fails(cluster, "std::process::abort()", "")
    ok(cluster, 'let cluster = Cluster::current()?; drop(cluster.lock("lost")?.acquire_within(Duration::from_secs(10))?.expect("free")); 1', "1")


# Dask: 3 lines each.
def test_handles_are_futures(cluster):
    ok(cluster, "fn inc(x: i64) -> i64 { x + 1 }\nfn nap(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms }\nlet cluster = Cluster::current()?;")
    ok(cluster, "let a = cluster.submit(inc, 1); a.await?", "2")
    ok(cluster, "let (x, y) = (cluster.submit(nap, 50u64), cluster.submit(inc, 2)); tokio::join!(x.into_future(), y.into_future()).1?", "3")
    interrupted(cluster, "cluster.submit(nap, 60_000u64).await?")
    ok(cluster, "inc(1)", "2")


def test_batches_sums_and_whereabouts(cluster):
    ok(cluster, "cluster.gather(cluster.map_batches(inc, 0..100_000, 10_000))?.concat().len()", "100000")
    ok(cluster, "let all: Delayed<i64> = (0..40).map(|i| delayed!(inc(i))).sum(); all.compute()?", "820")
    ok(cluster, "let v = cluster.submit(inc, 41); v.wait()?; (cluster.who_has([&v])?[0].len(), v.n_bytes(), cluster.has_what()?.len())", "(1, Some(8), 2)")


def test_chaos_in_a_cell(cluster):
    ok(cluster, "let chaos = cluster.chaos(3).kill().every(Duration::from_millis(300)).start()?;")
    ok(cluster, "cluster.gather(cluster.map(nap, (0..200u64).map(|i| i % 20)))?.len()", "200")
    ok(cluster, "sleep(Duration::from_millis(700)); let deeds = chaos.stop(); for deed in &deeds { println!(\"{deed}\"); } deeds.len() > 0", "true")


def test_words_of_other_clusters_are_answered(cluster):
    fails(cluster, "cluster.submit(inc, 1).result()?", "the value of a handle is gathered", "hint: `.gather()?`")
    fails(cluster, "delayed!(inc(1)).gather()?", "nothing to gather yet", "hint: `.compute()?`")
    fails(cluster, "cluster.map(inc, 0..3).gather()?", "hint: `cluster.gather(handles)?`")
    fails(cluster, "cluster.submit(inc, 1).compute()?", "runs already")


def test_actors_in_tasks_and_without_waiting(cluster):
    ok(cluster, "struct Tally { n: i64 }\nimpl Tally { fn new() -> Tally { Tally { n: 0 } } fn add(&mut self, by: i64) -> i64 { self.n += by; self.n } }")
    ok(cluster, "let tally = cluster.actor(Tally::new, ())?;")
    ok(cluster, "let replies: Vec<_> = (1..=10).map(|by| tally.send(Tally::add, by)).collect();")
    ok(cluster, "let mut last = 0; for reply in replies { last = reply.await?; } last", "55")
    ok(cluster, "fn feed(tally: Actor<Tally>, by: i64) -> Result<i64, skep::Error> { tally.call(Tally::add, by) }")
    ok(cluster, "cluster.gather(cluster.map(feed, (0..10).map(|by| (&tally, by))))?; tally.call(Tally::add, 0)?", "100")
    ok(cluster, "let reply = tally.send(Tally::add, 1); reply.gather()?; reply", "a reply that is there")
