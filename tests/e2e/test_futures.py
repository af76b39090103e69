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
    ok(cluster, "let slow = vec![cluster.impure().submit(nap, 20u64), cluster.impure().submit(nap, 1500u64)]; let (done, pending) = cluster.wait_for(&slow, Duration::from_millis(500))?; (done.len(), pending.len())", "(1, 1)")
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
