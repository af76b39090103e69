"""Workers that are real processes, killed for real."""

import os
import re
import signal
import time

import pytest

from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    return kernel


def workers(kernel):
    return [int(pid) for pid in re.findall(r"worker-\d+\s+(\d+)", ok(kernel, ":cluster").text)]


def test_running_the_cell_again_finds_the_cluster(cluster):
    before = workers(cluster)
    assert len(before) == 2
    ok(cluster, "let cluster = Cluster::local().workers(2).start()?;")
    assert workers(cluster) == before


def test_submit_map_gather_and_remote_arguments(cluster):
    ok(cluster, "fn inc(x: i64) -> i64 { x + 1 }\nfn add(a: i64, b: i64) -> i64 { a + b }\nfn total(v: Vec<i64>) -> i64 { v.iter().sum() }")
    ok(cluster, "let a = cluster.submit(inc, 1); let b = cluster.submit(inc, 2); cluster.submit(add, (&a, &b)).gather()?", "5")
    ok(cluster, "let many = cluster.map(inc, 0..100); cluster.gather(&many)?.iter().sum::<i64>()", "5050")
    ok(cluster, "cluster.submit(total, &many).gather()?", "5050")
    ok(cluster, "cluster.submit(|v: Vec<String>| v.join(\"-\"), vec![\"a\".to_string(), \"b\".to_string()]).gather()?", '"a-b"')
    ok(cluster, "#[derive(Clone, Debug, Serialize, Deserialize)] struct Point { x: f64 }\nfn shift(p: Point, by: f64) -> Point { Point { x: p.x + by } }")
    ok(cluster, "let p = cluster.submit(shift, (Point { x: 1.0 }, 0.5)); cluster.submit(shift, (&p, 1.0)).gather()?", "Point { x: 2.5 }")


def test_captures_are_refused_when_compiled(cluster):
    ok(cluster, "let k = 3i64;")
    fails(cluster, "cluster.submit(|x: i64| x + k, 1)", "must not capture anything", "hint: pass the values as arguments")


def test_delayed_graphs(cluster):
    ok(cluster, "let d = delayed!(add(delayed!(inc(1)), delayed!(inc(2))));")
    graph = ok(cluster, "d.graph()").of("execute_result")[0]["data"]
    assert graph["text/plain"].startswith("3 tasks") and graph["image/svg+xml"].startswith("<svg")
    ok(cluster, "d.compute()?", "5")


def test_task_errors_name_cell_line_and_worker(cluster):
    ok(cluster, "fn bad(x: i64) -> i64 {\n    assert!(x < 0, \"not negative\");\n    x\n}\nfn fallible(x: i64) -> Result<i64, std::io::Error> { std::fs::metadata(\"/not/there\")?; Ok(x) }")
    fails(cluster, "cluster.submit(bad, 3).gather()?", "task `bad` panicked", "line 2", "worker-", "not negative")
    fails(cluster, "cluster.submit(fallible, 3).gather()?", "task `fallible` failed", "No such file")
    fails(cluster, "let b = cluster.submit(bad, 4); cluster.submit(inc, &b).gather()?", "task `bad` panicked")


def test_a_result_that_cannot_travel_is_an_error(cluster):
    ok(cluster, """
#[derive(Clone)] struct Opaque;
impl Serialize for Opaque { fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> { Err(serde::ser::Error::custom("not today")) } }
impl<'de> Deserialize<'de> for Opaque { fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> { Ok(Opaque) } }
fn opaque() -> Opaque { Opaque }""")
    fails(cluster, "cluster.submit(opaque, ()).gather()?;", "could not be sent", "cannot be turned into bytes")


def test_functions_run_at_release_speed(cluster):
    ok(cluster, "fn collatz(limit: u64) -> u64 {\n    let mut best = 0;\n    for start in 1..limit {\n        let (mut n, mut steps) = (start, 0);\n        while n != 1 { n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 }; steps += 1; }\n        best = best.max(steps);\n    }\n    best\n}")
    took = float(ok(cluster, "let t = std::time::Instant::now(); cluster.submit(collatz, 10).gather()?; let t = std::time::Instant::now(); let r = cluster.submit(collatz, 1_000_000).gather()?; assert_eq!(r, 524); t.elapsed().as_secs_f64()").text)
    local = float(ok(cluster, "let t = std::time::Instant::now(); let r = collatz(100_000); assert_eq!(r, 350); t.elapsed().as_secs_f64() * 10.0").text)
    assert took * 2 < local, f"{took} s on a worker against about {local} s unoptimised"


def test_a_killed_worker_is_replaced_and_its_values_made_again(cluster):
    ok(cluster, "fn slow(x: i64) -> Vec<i64> { sleep(Duration::from_millis(300)); vec![x; 3] }\nlet kept = cluster.map(slow, 0..4); let _ = cluster.gather(&kept)?;")
    victims = workers(cluster)
    os.kill(victims[0], signal.SIGKILL)
    ok(cluster, "cluster.gather(&kept)?.concat().iter().sum::<i64>()", "18")
    deadline = time.monotonic() + 10
    while len(workers(cluster)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers(cluster)) == 2 and victims[0] not in workers(cluster)
    assert "SIGKILL" in ok(cluster, ":cluster").text


def test_a_worker_killed_mid_task(cluster):
    msg_id = cluster.client.execute("cluster.map(|x: i64| { std::thread::sleep(Duration::from_millis(900)); x }, 50..54).iter().map(|r| r.gather()).collect::<Result<Vec<_>, _>>()?")
    time.sleep(1.6)
    pids = [int(p) for p in __import__("conftest").processes("worker .*scheduler.sock")]
    os.kill(pids[-1], signal.SIGKILL)
    result = cluster.finish(msg_id, timeout=30)
    assert result.text == "[50, 51, 52, 53]", result.reply


def test_a_task_that_kills_its_workers_is_given_up(cluster):
    fails(cluster, "cluster.submit(|x: i64| { std::process::abort(); x }, 1).gather()?", "was given up", "3 workers died", "SIGABRT")
    ok(cluster, "cluster.submit(inc, 41).gather()?", "42")


def test_interrupt_during_a_wait_keeps_variables(cluster):
    msg_id = cluster.client.execute("let v = vec![7]; cluster.submit(|x: i64| { std::thread::sleep(Duration::from_secs(3)); x }, 9).gather()?")
    time.sleep(2)
    cluster.interrupt()
    result = cluster.finish(msg_id, timeout=5)
    assert result.reply["ename"] == "Interrupted"
    ok(cluster, "cluster.submit(inc, 1).gather()?", "2")


def test_an_interrupt_ends_what_its_cell_launched_and_nothing_else(cluster):
    ok(cluster, "fn nap_ms(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms }\ncluster.impure().submit(nap_ms, 1).gather()?", "1")
    ok(cluster, "let earlier = cluster.impure().map(nap_ms, [4000u64, 4001]);")
    cell = cluster.client.execute("let own = cluster.impure().map(nap_ms, [60_000u64; 4]); cluster.gather(&earlier)?; cluster.gather(&own)?")
    time.sleep(1.5)
    cluster.interrupt()
    assert cluster.finish(cell).reply["ename"] == "Interrupted"
    ok(cluster, "cluster.gather(&earlier)?", "[4000, 4001]")
    ok(cluster, "cluster.info()?.workers.iter().map(|worker| worker.n_assigned).sum::<u64>()", "0")


def test_the_cluster_outlives_the_evaluation_process(cluster):
    before = workers(cluster)
    fails(cluster, "std::process::abort()", "the cluster are still there")
    assert workers(cluster) == before
    ok(cluster, "let cluster = Cluster::local().workers(2).start()?; cluster.submit(inc, 1).gather()?", "2")
    assert workers(cluster) == before


def test_progress_appears_by_itself_and_stays(cluster):
    result = ok(cluster, "fn nap(x: i64) -> i64 { sleep(Duration::from_millis(200)); x }\ncluster.gather(&cluster.map(nap, 100..108))?.len()")
    shown = result.of("display_data")
    updates = result.of("update_display_data")
    assert len(shown) == 1 and len(updates) >= 2
    assert all(u["transient"]["display_id"] == shown[0]["transient"]["display_id"] for u in updates)
    assert updates[-1]["data"]["text/plain"].startswith("done: 8 of 8 tasks")
    assert ok(cluster, "cluster.info()?.workers.len()").of("display_data") == [], "nothing to wait for, nothing shown"


@pytest.mark.parametrize("spec,words", [
    ("Cluster::local().workers(0)", "0 workers"),
    ("Cluster::local().memory_limit(\"lots\")", "no amount of memory"),
    ("Cluster::local().memory_limit(\"1 MB\")", "at least 64 MiB"),
])
def test_a_spec_that_makes_no_sense(cluster, spec, words):
    fails(cluster, f"{spec}.start()?;", words)


def test_a_worker_over_its_memory_limit_says_so(fresh):
    ok(fresh, "let cluster = Cluster::local().workers(1).memory_limit(\"200 MB\").start()?;")
    error = fails(fresh, "cluster.submit(|n: usize| { let v = std::hint::black_box(vec![1u8; n]); std::thread::sleep(Duration::from_secs(1)); v.len() }, 400_000_000).gather()?", "was given up", "over its memory limit")
    assert "MiB" in error


def test_published_values_are_found_after_the_evaluation_process_died(fresh, tmp_path):
    fresh.execute("let cluster = Cluster::local().workers(2).start()?; fn square(x: i64) -> i64 { x * x } let nine = cluster.submit(square, 3); nine.wait()?;")
    fresh.execute('cluster.publish("nine", &nine)?; let table = Frame::from_dataframe(df!("a" => [1, 2, 3, 4])?, 2).publish("table")?;')
    assert fresh.execute("cluster.published()?").text == '["nine", "table"]'
    assert "aborted" in fresh.execute("std::process::abort()").error
    assert "E0425" in fresh.execute("nine").error
    assert fresh.execute('let cluster = Cluster::current()?; cluster.lookup::<i64>("nine")?.gather()?').text == "9"
    assert fresh.execute('Frame::lookup("table")?.len()?').text == "4"
    assert "is a `i64`, not a `String`" in fresh.execute('cluster.lookup::<String>("nine")?').error
    assert "published are: nine, table" in fresh.execute('cluster.lookup::<i64>("ten")?').error
    fresh.execute('cluster.unpublish("nine")?;')
    assert "published are: table" in fresh.execute('cluster.lookup::<i64>("nine")?').error
    # A worker that held a part of it dies: it is made again.
    assert fresh.execute('cluster.kill_worker(1)?; sleep(Duration::from_millis(200)); Frame::lookup("table")?.collect()?.height()').text == "4"
