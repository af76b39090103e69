"""Handles by the many: as they finish, for a while, without anybody holding them; and clusters that grow and shrink."""

import re
import time

import pytest

from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    ok(kernel, "fn nap(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms }\nfn inc(x: i64) -> i64 { x + 1 }\nfn add(a: i64, b: i64) -> i64 { a + b }\nfn total(v: Vec<i64>) -> i64 { v.iter().sum() }\nfn bad(x: i64) -> i64 { panic!(\"no {x}\") }")
    return kernel


def test_as_completed_gives_the_quick_ones_first_and_grows(cluster):
    code = """let handles = vec![cluster.submit(nap, 700u64), cluster.submit(nap, 30u64)];
let mut order = vec![];
let mut completed = cluster.as_completed(&handles);
while let Some(done) = completed.next() {
    let ms = done.gather()?;
    order.push(ms);
    if ms == 30 { completed.add(cluster.submit(nap, 60u64)); }
}
order"""
    ok(cluster, code, "[30, 60, 700]")
    ok(cluster, "cluster.as_completed(&cluster.map(bad, 0..3)).filter(|r| r.gather().is_err()).count()", "3")
    ok(cluster, "cluster.as_completed(&Vec::<Remote<i64>>::new()).count()", "0")


def test_wait_for_all_and_for_a_while(cluster):
    ok(cluster, "let slow = vec![cluster.impure().submit(nap, 20u64), cluster.impure().submit(nap, 4000u64)]; let (done, pending) = cluster.wait_for(&slow, Duration::from_millis(2000))?; (done.len(), pending.len())", "(1, 1)")
    ok(cluster, "cluster.wait(&slow)?; slow.iter().all(|r| r.is_done())", "true")


def test_scatter_is_an_argument_like_any_other(cluster):
    ok(cluster, "let numbers = cluster.scatter((0..1000i64).collect::<Vec<_>>()); cluster.submit(total, &numbers).gather()?", "499500")


def test_fire_and_forget_runs_although_nobody_waits(cluster, tmp_path):
    ok(cluster, "fn mark(path: String) -> bool { sleep(Duration::from_millis(300)); std::fs::write(path, \"done\").is_ok() }")
    ok(cluster, f'cluster.fire_and_forget(&cluster.submit(mark, "{tmp_path}/kept"))?; drop(cluster.submit(mark, "{tmp_path}/dropped"));')
    deadline = time.monotonic() + 10
    while not (tmp_path / "kept").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "kept").exists()


def test_compute_shares_what_is_shared(cluster, tmp_path):
    ok(cluster, f'fn load(x: i64) -> i64 {{ use std::io::Write; std::fs::OpenOptions::new().create(true).append(true).open("{tmp_path}/loads").unwrap().write_all(b"x").unwrap(); x }}')
    ok(cluster, "let base = delayed!(load(7)); let a = delayed!(inc(&base)); let b = delayed!(add(&base, 10)); compute!(a, b)?", "(8, 17)")
    assert (tmp_path / "loads").read_text() == "x"
    ok(cluster, "compute!(delayed!(inc(1)))?", "(2,)")


def test_chain_group_and_chord(cluster):
    ok(cluster, "delayed!(inc(1)).then(inc).then(inc).compute()?", "4")
    ok(cluster, "let parts: Vec<_> = (0..4).map(|i| delayed!(inc(i))).collect(); Delayed::group(&parts).compute()?", "[1, 2, 3, 4]")
    ok(cluster, "Delayed::chord(&parts, total).compute()?", "10")


def test_retries_with_a_delay(cluster, tmp_path):
    ok(cluster, f"""fn flaky(need: u32) -> std::io::Result<u32> {{
    let path = "{tmp_path}/tries";
    let n = std::fs::read_to_string(path).map_or(0, |text| text.len() as u32) + 1;
    std::fs::write(path, "x".repeat(n as usize))?;
    if n < need {{ Err(std::io::Error::other("not yet")) }} else {{ Ok(n) }}
}}""")
    ok(cluster, "let t = std::time::Instant::now(); let tried = cluster.retries(5).retry_delay(Duration::from_millis(100)).submit(flaky, 3u32); tried.gather()?", "3")
    journey = ok(cluster, ":journey tried").text
    assert "3 attempts" in journey and journey.count("failed") == 2, journey
    fails(cluster, "cluster.retries(2).submit(flaky, 99u32).gather()?", "not yet (the last of 3 attempts)")


def test_a_timeout_stops_the_task_and_gives_the_worker_back(cluster):
    fails(cluster, "cluster.timeout(Duration::from_millis(200)).submit(nap, 60_000u64).gather()?", "took too long", "it was stopped after 200 ms")
    ok(cluster, "cluster.gather(&cluster.map(inc, 100..104))?", "[101, 102, 103, 104]")


@pytest.mark.parametrize("kind", ["sleeps", "asks", "does not listen"])
def test_cancel_stops_a_running_task_and_gives_its_worker_back(fresh, kind):
    body = {"sleeps": "sleep(Duration::from_secs(60)); 1", "asks": "while !cancelled() { std::hint::spin_loop(); } 1", "does not listen": "loop { std::hint::spin_loop(); if x == 77 { return 2 } }"}[kind]
    ok(fresh, f"let cluster = Cluster::local().workers(1).start()?; fn busy(x: i64) -> i64 {{ {body} }} fn inc(x: i64) -> i64 {{ x + 1 }} cluster.submit(inc, 0).gather()?;")
    pid = re.search(r"worker-1\s+(\d+)", ok(fresh, ":cluster").text)[1]
    ok(fresh, "let stuck = cluster.submit(busy, 1); sleep(Duration::from_millis(900)); stuck.cancel()?;")
    ok(fresh, "cluster.submit(inc, 41).gather()?", "42")
    assert re.search(r"worker-1\s+(\d+)", ok(fresh, ":cluster").text)[1] == pid, "the same process"
    fails(fresh, "stuck.gather()?", "was cancelled")


def test_pinned_to_workers_and_urgent_ones_first(cluster):
    ok(cluster, "fn pid(_x: i64) -> u32 { std::process::id() } let pids = |w: u32| -> Result<std::collections::HashSet<u32>, skep::Error> { Ok(cluster.gather(&cluster.impure().on_workers([w]).map(pid, 0..10))?.into_iter().collect()) }; let ids: Vec<u32> = cluster.info()?.workers.iter().map(|w| w.id.0).collect(); let (a, b) = (pids(ids[0])?, pids(ids[1])?); (a.len(), b.len(), a.is_disjoint(&b))", "(1, 1, true)")
    fails(cluster, "cluster.on_workers([99]).submit(inc, 5).gather()?", "none of the workers that it may run on is there")
    ok(cluster, "let one = cluster.impure().on_workers([ids[0]]); let mut waiting = one.map(nap, vec![150u64; 6]); let urgent = one.priority(5).submit(nap, 1u64); waiting.push(urgent.clone()); let order: Vec<u64> = cluster.as_completed(&waiting).map(|r| r.gather().unwrap()).collect(); order.iter().position(|ms| *ms == 1).unwrap() < 4", "true")


def test_what_was_cancelled_did_not_fail(fresh):
    ok(fresh, "let cluster = Cluster::local().workers(1).start()?; fn nap(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms }")
    msg_id = fresh.client.execute("cluster.submit(nap, 60_000u64).gather()?")
    time.sleep(1.5)
    fresh.interrupt()
    result = fresh.finish(msg_id)
    last = [c["data"]["text/plain"] for c in result.of("update_display_data")][-1]
    assert last.startswith("1 cancelled") and "failed" not in last, last
    assert "0 failed" in ok(fresh, ":cluster").text


def n_workers(kernel):
    return len(re.findall(r"worker-\d+\s+\d+", ok(kernel, ":cluster").text))


def wait_for(kernel, n, seconds=10):
    deadline = time.monotonic() + seconds
    while n_workers(kernel) != n and time.monotonic() < deadline:
        time.sleep(0.1)
    assert n_workers(kernel) == n


def test_scale_and_adapt(fresh):
    ok(fresh, "let cluster = Cluster::local().workers(1).start()?; fn nap(ms: u64) -> u64 { sleep(Duration::from_millis(ms)); ms } let kept = cluster.submit(nap, 1u64); kept.wait()?;")
    ok(fresh, "cluster.scale(3)?;")
    wait_for(fresh, 3)
    ok(fresh, "cluster.scale(1)?;")
    wait_for(fresh, 1)
    ok(fresh, "kept.gather()?", "1")
    assert "lost" not in ok(fresh, ":workers").text, "who was told to go is no loss"
    ok(fresh, "cluster.adapt(1, 3)?; let many = cluster.map(nap, 200u64..240);")
    wait_for(fresh, 3)
    ok(fresh, "cluster.gather(&many)?.len()", "40")
    wait_for(fresh, 1)
