"""What tasks can do beside returning a value, actors, resources, values in memory and on disk, and what the cluster tells."""

import json
import pathlib
import re
import time

import pytest

from conftest import processes
from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, 'let cluster = Cluster::local().workers(2).resource("gpu", 1).start()?;')
    ok(kernel, "fn inc(x: i64) -> i64 { x + 1 }\nfn add(a: i64, b: i64) -> i64 { a + b }\nfn nap(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms }")
    return kernel


def test_what_a_task_prints_is_shown_in_the_cell_that_launched_it(cluster):
    result = cluster.execute('fn say(x: i64) -> i64 { println!("task {x} says hello"); print!("no newline"); eprintln!("and {x} on stderr"); x } cluster.submit(say, 7).gather()?')
    assert result.stream() == "task 7 says hello\nno newline", result.reply
    assert "and 7 on stderr\n" in result.stream("stderr")


def test_prints_come_while_the_task_runs(cluster):
    msg = cluster.client.execute('fn slowly(x: i64) -> i64 { println!("begun"); sleep(Duration::from_millis(1500)); println!("ended"); x } cluster.impure().submit(slowly, 7).gather()?')
    times = {}
    while "ended" not in times:
        message = cluster.client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") == msg and message["msg_type"] == "stream":
            for word in ("begun", "ended"):
                if word in message["content"]["text"]:
                    times.setdefault(word, time.monotonic())
    cluster.client.get_shell_msg(timeout=20)
    assert times["ended"] - times["begun"] > 1.0


def test_a_flood_of_prints_is_cut(cluster):
    result = cluster.execute('fn flood(n: u64) -> u64 { for i in 0..n { println!("line {i} of a flood that nobody reads"); } n } cluster.submit(flood, 200_000u64).gather()?')
    assert result.status == "ok" and result.text == "200000"
    assert len(result.stream()) < 3_000_000 and "not shown" in result.stream() + result.stream("stderr")


def test_progress_from_inside_a_task(cluster):
    msg = cluster.client.execute("fn train(n: u64) -> u64 { for i in 0..n { sleep(Duration::from_millis(20)); progress(i + 1, n); } n } cluster.submit(train, 60u64).gather()?")
    seen = []
    while True:
        message = cluster.client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") != msg:
            continue
        if message["msg_type"] in ("display_data", "update_display_data"):
            seen += [int(n) for n in re.findall(r"running ones at (\d+) %", message["content"]["data"]["text/plain"])]
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    cluster.client.get_shell_msg(timeout=20)
    assert len(seen) >= 3 and seen == sorted(seen) and seen[-1] > seen[0], seen


def test_tasks_submit_tasks_and_wait_for_them(cluster):
    ok(cluster, "fn tree(depth: u32) -> i64 { if depth == 0 { return 1; } let cluster = Cluster::current().unwrap(); let halves = cluster.impure().map(tree, [depth - 1, depth - 1]); cluster.gather(&halves).unwrap().iter().sum() }")
    ok(cluster, "cluster.submit(tree, 5u32).gather()?", "32")


def test_an_error_of_a_task_of_a_task_comes_through(cluster):
    ok(cluster, 'fn bad(x: i64) -> i64 { panic!("no {x}") }\nfn outer(x: i64) -> i64 { Cluster::current().unwrap().submit(bad, x).gather().unwrap() }')
    fails(cluster, "cluster.submit(outer, 3).gather()?", "task `outer` panicked", "no 3")


def test_delayed_takes_any_expression(cluster):
    ok(cluster, "let x = 4i64; delayed!(add(inc(1), inc(x * 2))).compute()?", "11")
    ok(cluster, "let a = delayed!(inc(1)); let b = delayed!(inc(2)); delayed!(add(&a, &b) * 10 + inc(x) - 1).compute()?", "54")
    ok(cluster, "(&a + &b).compute()?", "5")
    ok(cluster, "(100 - delayed!(inc(1)) * 2).n_tasks()", "3")
    ok(cluster, "delayed!((inc(1) + inc(2)) * -inc(3)).compute()?", "-20")
    ok(cluster, "delayed!(i64::pow(inc(1), 3u32)).compute()?", "8")
    ok(cluster, 'delayed!(add(vec![1i64, 2].len() as i64, "abc".len() as i64)).compute()?', "5")
    ok(cluster, "delayed!(add(inc(1), inc(1),)).n_tasks()", "2")
    ok(cluster, "fn zero() -> i64 { 0 } delayed!(inc(zero())).compute()?", "1")


def test_actors_keep_their_state(cluster):
    ok(cluster, "struct Counter { n: i64 }\nimpl Counter { fn new(n: i64) -> Counter { Counter { n } } fn add(&mut self, by: i64) -> i64 { self.n += by; self.n } fn get(&self) -> i64 { self.n } fn fail(&mut self) -> i64 { panic!(\"ouch\") } }")
    ok(cluster, "let counter = cluster.actor(Counter::new, 10)?; counter.call(Counter::add, 5)?; counter.call(Counter::add, 5)?; counter.call(Counter::get, ())?", "20")
    assert "Actor<Counter>(on worker-" in ok(cluster, 'format!("{counter:?}")').text
    fails(cluster, "counter.call(Counter::fail, ())?", "ouch", "Counter")
    ok(cluster, "counter.call(Counter::get, ())?", "20")
    ok(cluster, "let other = cluster.actor(Counter::new, 10)?; other.call(Counter::get, ())?", "10")
    trips = ok(cluster, "let mut trips = vec![]; for _ in 0..500 { let t = std::time::Instant::now(); counter.call(Counter::add, 1)?; trips.push(t.elapsed().as_micros() as u64); } trips.sort(); (trips[250], counter.call(Counter::get, ())?)")
    assert trips.text.endswith(", 520)")


def test_an_actor_is_lost_with_its_worker_and_says_so(cluster):
    ok(cluster, 'let lost = cluster.actor(Counter::new, 1)?; let worker: u32 = lost.worker()?.trim_start_matches("worker-").parse()?; cluster.kill_worker(worker)?; let gone = loop { if let Err(error) = lost.call(Counter::get, ()) { break error.to_string(); } };')
    assert "is an actor, and gone" in ok(cluster, "gone").text


def test_resources_are_used_one_at_a_time(cluster, tmp_path):
    ok(cluster, f'fn mark(i: u64) -> u64 {{ use std::io::Write; let mut log = std::fs::OpenOptions::new().create(true).append(true).open("{tmp_path}/log").unwrap(); writeln!(log, "begin").unwrap(); std::thread::sleep(Duration::from_millis(60)); writeln!(log, "end").unwrap(); i }}')
    ok(cluster, 'let big = Cluster::local().workers(1).threads(4).resource("gpu", 2).start()?; big.gather(&big.resource("gpu", 2).map(mark, 0..5u64))?.len()', "5")
    lines = (tmp_path / "log").read_text().split()
    assert lines == ["begin", "end"] * 5, lines
    fails(cluster, 'big.resource("gpu", 3).submit(mark, 9u64).gather()?', "no worker has gpu = 3", "hint")
    ok(cluster, 'let cluster = Cluster::local().workers(2).resource("gpu", 1).start()?;')


def test_explain_says_what_a_task_waits_for(cluster):
    ok(cluster, "let long = cluster.impure().map(nap, vec![3000u64; 6]); let after = cluster.submit(nap, &long[5]); sleep(Duration::from_millis(1200));")
    assert "waiting" in ok(cluster, ":explain after").text and "`nap`" in ok(cluster, ":explain after").text
    queued = ok(cluster, "long[5].explain()?").text
    assert "queued: " in queued.replace("): queued", "queued: ") or "queued" in queued
    ok(cluster, "for r in &long { r.cancel()?; }")
    fails(cluster, ":explain cluster", "hint")


def test_cached_results_say_so(cluster):
    ok(cluster, "let first = cluster.submit(nap, 50u64); first.wait()?;")
    assert "cached" in ok(cluster, "let second = cluster.submit(nap, 50u64); second.wait()?; format!(\"{second:?}\")").text
    assert "cached" not in ok(cluster, "let third = cluster.caching(false).submit(nap, 50u64); third.wait()?; format!(\"{third:?}\")").text
    assert "off: every call runs" in ok(cluster, "cluster.caching(false)").text


def test_broadcast_and_rebalance(cluster):
    ok(cluster, "fn zeros(n: usize) -> Vec<f64> { vec![1.0; n] }\nfn total(v: Vec<f64>) -> f64 { v.iter().sum() }")
    ok(cluster, "let big = cluster.submit(zeros, 1_000_000usize); cluster.broadcast(&big)?", "1")
    ok(cluster, "cluster.info()?.workers.iter().map(|w| w.n_values).collect::<Vec<_>>().iter().filter(|n| **n >= 1).count()", "2")
    ok(cluster, "let one = cluster.info()?.workers[0].id.0; let parts = cluster.impure().on_workers([one]).map(zeros, vec![200_000usize; 8]); cluster.wait(&parts)?; cluster.rebalance()?.0 >= 4", "true")
    ok(cluster, "let after: Vec<u64> = cluster.info()?.workers.iter().map(|w| w.held_bytes).collect(); after[0].abs_diff(after[1]) < 4_000_000", "true")
    ok(cluster, "cluster.gather(&cluster.map(total, &parts))?.iter().sum::<f64>()", "1600000.0")


def test_large_values_move_without_a_copy_through_the_socket(cluster):
    ok(cluster, "let there: Vec<u32> = cluster.info()?.workers.iter().map(|w| w.id.0).collect(); let big = cluster.impure().on_workers([there[0]]).submit(zeros, 4_000_000usize); big.wait()?;")
    ok(cluster, "cluster.on_workers([there[1]]).submit(total, &big).gather()?", "4000000.0")
    ok(cluster, "big.gather()?.len()", "4000000")


def test_report_and_trace_are_files_of_their_own(cluster, tmp_path):
    ok(cluster, f'cluster.report("{tmp_path}/report.html")?; cluster.trace("{tmp_path}/trace.json")?;')
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "nap" in page and "http" not in page.replace("http://www.w3.org", "")
    trace = json.loads((tmp_path / "trace.json").read_text())
    tasks = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert tasks and not [event for event in tasks if event["dur"] < 0 or not event["name"]]
    fails(cluster, 'cluster.report("/nowhere/at/all.html")?', "/nowhere/at/all.html could not be written", "hint")


def test_workers_that_are_idle_end_and_come_back(fresh):
    ok(fresh, "let cluster = Cluster::local().workers(2).idle_timeout(Duration::from_millis(600)).start()?; fn inc(x: i64) -> i64 { x + 1 } cluster.submit(inc, 1).gather()?", "2")
    deadline = time.monotonic() + 15
    while ok(fresh, "cluster.info()?.workers.len()").text != "0":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ok(fresh, "cluster.submit(inc, 41).gather()?", "42")


def test_the_evaluation_process_killed_in_the_middle_of_a_graph(fresh):
    ok(fresh, "let cluster = Cluster::local().workers(2).start()?; fn slow(x: i64) -> i64 { sleep(Duration::from_millis(50)); x + 1 }")
    ok(fresh, 'let kept = cluster.submit(slow, 1); cluster.publish("kept", &kept)?;')
    ok(fresh, "let many = cluster.map(slow, 0..200);")
    fails(fresh, "std::process::abort()", "the evaluation process ended", "the cluster are still there")
    # What nobody waits for any more is let go, and the workers are free for the next.
    ok(fresh, 'let cluster = Cluster::current()?; (cluster.lookup::<i64>("kept")?.gather()?, cluster.submit(slow, 41).gather()?)', "(2, 42)")
    ok(fresh, "cluster.info()?.workers.iter().map(|w| w.n_assigned).sum::<u64>()", "0")


def test_values_go_to_disk_and_come_back(fresh, tmp_path):
    ok(fresh, 'let cluster = Cluster::local().workers(1).memory_limit("400 MB").start()?; fn block(i: u64) -> Vec<u64> { vec![i; 4_000_000] }\nfn head(v: Vec<u64>) -> u64 { v[7] }')
    # 960 MB of values under a limit of 400.
    ok(fresh, "let blocks = cluster.map(block, 0..30u64); cluster.wait(&blocks)?; cluster.info()?.losses.len()", "0")
    ok(fresh, "cluster.info()?.workers[0].memory.spilled > 500_000_000", "true")
    assert "on disk" in ok(fresh, ":workers").text
    ok(fresh, "cluster.gather(&cluster.map(head, &blocks))?.iter().sum::<u64>()", str(sum(range(30))))
    run = pathlib.Path(ok(fresh, 'std::env::var("SKEP_RUN")?').text.strip('"'))
    assert sum(file.stat().st_size for file in run.glob("spill/*/*")) > 50_000_000
    ok(fresh, "drop(blocks);")
    deadline = time.monotonic() + 10
    while list(run.glob("spill/*/*")):
        assert time.monotonic() < deadline, "values that nobody holds stay on disk"
        time.sleep(0.1)


def test_a_full_disk_is_said_and_nothing_is_lost(fresh):
    ok(fresh, 'let cluster = Cluster::local().workers(1).memory_limit("400 MB").spill_limit("50 MB").start()?; fn block(i: u64) -> Vec<u64> { vec![i; 4_000_000] }\nfn head(v: Vec<u64>) -> u64 { v[7] }')
    ok(fresh, "let blocks = cluster.map(block, 0..7u64); cluster.gather(&cluster.map(head, &blocks))?", "[0, 1, 2, 3, 4, 5, 6]")
    ok(fresh, "cluster.info()?.workers[0].memory.spilled < 51_000_000", "true")


def test_no_process_and_no_file_is_left(tmp_path):
    from conftest import Kernel

    kernel = Kernel(tmp_path)
    run = ok(kernel, 'std::env::var("SKEP_RUN")?').text.strip('"')
    ok(kernel, 'let cluster = Cluster::local().workers(2).memory_limit("300 MB").start()?; let v = cluster.submit(|n: usize| vec![1u8; n], 10_000_000usize); v.gather()?.len()')
    kernel.close()
    deadline = time.monotonic() + 10
    while processes(run) or pathlib.Path(run).exists():
        assert time.monotonic() < deadline, processes(run)
        time.sleep(0.1)
