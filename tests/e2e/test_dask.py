"""Cells on a real Dask cluster: a scheduler and workers in processes of their own, with folders of their own."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from conftest import Kernel
from test_cells import fails, ok

DASK = pathlib.Path(sys.executable).parent / "dask"


class Dask:
    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.start("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(folder / "scheduler.json"))
        deadline = time.monotonic() + 30
        while True:
            try:
                self.address = json.loads((folder / "scheduler.json").read_text())["address"]
                break
            except (OSError, ValueError):
                assert time.monotonic() < deadline, "Dask's scheduler does not start"
                time.sleep(0.1)

    def start(self, what, *args, **env):
        said = open(self.folder / f"{what}-{len(self.processes)}", "w")
        process = subprocess.Popen([DASK, what, *args], stdout=said, stderr=said, cwd=self.folder, start_new_session=True, env={**os.environ, **env})
        self.processes.append(process)
        return process

    def worker(self, **env):
        n = len(self.processes)
        return self.start("worker", self.address, "--nthreads", "1", "--no-dashboard", "--name", f"w{n}", "--local-directory", str(self.folder / f"of-worker-{n}"), **env)

    def stop(self):
        for process in self.processes:
            # A worker may not listen any more.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    dask = Dask(tmp_path_factory.mktemp("dask"))
    dask.worker(), dask.worker()
    yield dask
    dask.stop()


@pytest.fixture(scope="module")
def away(dask, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    kernel = Kernel(folder, {"SKEP_PYTHON": sys.executable})
    kernel.folder = folder
    ok(kernel, f'let cluster = Cluster::connect("{dask.address}")?;')
    deadline = time.monotonic() + 30
    while ok(kernel, "cluster.info()?.workers.len()").text != "2":
        assert time.monotonic() < deadline, "two workers join"
    yield kernel
    kernel.close()


def test_functions_compiled_a_moment_ago_run_there(away):
    ok(away, "fn inc(x: i64) -> i64 { x + 1 }\nfn add(a: i64, b: i64) -> i64 { a + b }\nlet a = cluster.submit(inc, 1);\ncluster.submit(add, (&a, 40)).gather()?", "42")
    ok(away, "cluster.gather(cluster.map(inc, 0..500))?.iter().sum::<i64>()", str(sum(range(1, 501))))
    ok(away, "fn total(all: Vec<i64>) -> i64 { all.iter().sum() }\nlet all = cluster.map(inc, 0..20);\ncluster.submit(total, &all).gather()?", "210")
    pids = ok(away, "fn process(_: u64) -> u32 { sleep(Duration::from_millis(20)); std::process::id() }\ncluster.gather(cluster.map(process, 0..8u64))?").text
    assert len(set(re.findall(r"\d+", pids))) == 2, pids


def test_large_values_and_delayed_graphs(away):
    ok(away, "fn ones(n: usize) -> Vec<u8> { vec![1; n] }\nfn length(all: &Vec<u8>) -> usize { all.len() }\nlet big = cluster.submit(ones, 20_000_000);\ncluster.submit(length, &big).gather()?", "20000000")
    ok(away, "big.gather()?.len()", "20000000")
    ok(away, "fn plus(a: i64, b: i64) -> i64 { a + b }\ndelayed!(plus(plus(1, 2), plus(3, 4))).compute()?", "10")


def test_errors_and_panics_say_where(away):
    text = fails(away, 'fn bad(x: i64) -> i64 { panic!("no {x}") }\ncluster.submit(bad, 3).gather()?')
    assert "task `bad` panicked" in text and "no 3" in text and "tcp://127.0.0.1" in text, text
    text = fails(away, 'fn refuses(x: i64) -> Result<i64, std::io::Error> { Err(std::io::Error::other(format!("not {x}"))) }\ncluster.submit(refuses, 4).gather()?')
    assert "not 4" in text, text
    ok(away, "1 + 1", "2")


def test_frames(away):
    ok(away, 'let frame = Frame::from(df!("k" => ["a", "b", "a"], "x" => [1, 2, 3])?);\nframe.group_by([col("k")]).agg([col("x").sum()]).sort(["k"]).collect()?.column("x")?.i32()?.into_no_null_iter().collect::<Vec<_>>()', "[4, 2]")


def test_an_interrupt_stops_what_runs_there(away):
    ok(away, "fn spin(s: u64) -> u64 { let until = std::time::Instant::now() + Duration::from_secs(s); while std::time::Instant::now() < until { if cancelled() { panic!() } sleep(Duration::from_millis(5)); } s }")
    msg = away.client.execute("cluster.submit(spin, 60).gather()?")
    time.sleep(2)
    away.interrupt()
    assert away.finish(msg).status == "error"
    began = time.monotonic()
    ok(away, "cluster.gather(cluster.map(inc, 0..4))?", "[1, 2, 3, 4]")
    assert time.monotonic() - began < 20, "both workers are free again"


def test_what_failed_or_was_cancelled_is_tried_again_and_what_is_done_stays(away, tmp_path):
    ok(away, f'fn second_time(file: String) -> Result<u64, std::io::Error> {{ use std::io::Write; std::fs::OpenOptions::new().create(true).append(true).open(&file)?.write_all(b"x")?; let n = std::fs::read(&file)?.len() as u64; if n < 2 {{ Err(std::io::Error::other("first")) }} else {{ Ok(n) }} }}\nlet file = "{tmp_path}/calls".to_string();\nlet first = cluster.submit(second_time, file.clone());')
    assert "first" in fails(away, "first.gather()?")
    ok(away, "let second = cluster.submit(second_time, file.clone());\nsecond.gather()?", "2")
    ok(away, "fn large(n: usize) -> Vec<u8> { vec![2; n] }\nlet done = cluster.submit(large, 100_000); done.wait()?; done.cancel()?; done.gather()?.len()", "100000")


def test_an_interrupt_with_dependents_that_nobody_holds_leaves_the_rest(away):
    ok(away, "fn deal(n: u64) -> Vec<Vec<u64>> { sleep(Duration::from_secs(2)); vec![vec![n; 10], vec![n; 20]] }\nfn both(a: Vec<u64>, b: Vec<u64>) -> usize { a.len() + b.len() }\nlet kept = cluster.submit(inc, 41); kept.wait()?;")
    msg = away.client.execute("let parts = cluster.submit_parts(deal, 3u64, 2);\nlet sum = cluster.submit(both, (parts[0].clone(), parts[1].clone()));\nsum.gather()?")
    time.sleep(1)
    away.interrupt()
    assert away.finish(msg).status == "error"
    ok(away, "kept.gather()?", "42")
    ok(away, "cluster.submit(inc, 1000).gather()?", "1001")


def test_a_wrong_address_is_said_soon(away):
    began = time.monotonic()
    text = fails(away, 'Cluster::connect("tcp://127.0.0.1:1")?')
    assert "there is no Dask scheduler at tcp://127.0.0.1:1" in text and "hint" in text, text
    assert time.monotonic() - began < 8
    for address in ("tcp://nonsense", "tcp://"):
        text = fails(away, f'Cluster::connect("{address}")?')
        assert "an address is `tcp://host:8786`" in text or "there is no Dask scheduler at" in text, text
    assert "distributed.comm.tls" in fails(away, 'Cluster::connect("tls://127.0.0.1:8786")?')
    assert "no engine for addresses of `ray://`" in fails(away, 'Cluster::connect("ray://x")?')


CONTROL = """struct Machines;
fn pid(_: u64) -> u32 { std::process::id() }
impl skep::conformance::Control for Machines {
    fn kill_a_worker(&self) {
        let pid = Cluster::current().unwrap().impure().submit(pid, 0).gather().unwrap();
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    }
    fn add_a_worker(&self) { std::fs::write("add", "").unwrap(); }
}
fn check(cluster: &Cluster, name: &str) {
    let check = skep::conformance::CHECKS.iter().find(|check| check.name == name).unwrap();
    (check.run)(cluster, &Machines);
}"""

# Not among them: `origins` is for programs; `coordination`, `actors` and `whereabouts` ask for what the engine says that it lacks.
CHECKS = ["graphs", "values", "large_values", "parts", "errors", "panics", "same_call_same_task", "retries", "cancellation", "release", "lost_workers", "late_joiners", "awaiting", "many_at_once", "events"]


@pytest.fixture(scope="module")
def checked(away):
    ok(away, CONTROL)
    return away


@pytest.mark.parametrize("check", CHECKS)
def test_what_every_engine_must_do(dask, checked, check):
    away = checked
    msg = away.client.execute(f'check(&cluster, "{check}");')
    if check == "late_joiners":
        deadline = time.monotonic() + 60
        while not (away.folder / "add").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        dask.worker()
    result = away.finish(msg)
    assert result.status == "ok", "\n".join(result.reply.get("traceback", []))


def test_what_is_shown_is_so_and_what_is_not_there_says_so(away):
    n = int(re.search(r"tasks +(\d+) done", ok(away, "cluster").text)[1])
    shown = ok(away, "let seen = cluster.submit(inc, 4321); seen.wait()?;\nseen").text
    assert re.search(r"on worker-[1-9]", shown), shown
    shown = ok(away, "cluster").text
    assert re.search(r"Cluster: \d workers", shown) and int(re.search(r"tasks +(\d+) done", shown)[1]) > n, shown
    for code, lacks in {"seen.journey()?": "the history of its tasks", 'cluster.lock("x")?': "locks", "cluster.scale(3)?": "who runs the Dask cluster scales it", 'cluster.publish("p", &seen)?': "values under names", "cluster.timeout(Duration::from_secs(1)).submit(inc, 4322).gather()?": "timeouts of tasks"}.items():
        text = fails(away, code)
        assert "the engine `dask` does not offer" in text and lacks in text, text


def test_a_function_that_kills_its_workers_is_given_up_and_named(dask, tmp_path):
    kernel = Kernel(tmp_path, {"SKEP_PYTHON": sys.executable})
    try:
        ok(kernel, f'let cluster = Cluster::connect("{dask.address}")?;\nfn inc(x: i64) -> i64 {{ x + 1 }}\nfn crash(x: i64) -> i64 {{ unsafe {{ *(x as *const i64) }} }}')
        text = fails(kernel, "cluster.submit(crash, 8).gather()?")
        assert "task `crash` was given up: its workers died, 4 times" in text, text
        ok(kernel, "cluster.submit(inc, 5).gather()?", "6")
        ok(kernel, "cluster.shutdown()?")
        assert "has left the Dask cluster" in fails(kernel, "cluster.submit(inc, 6).gather()?")
    finally:
        kernel.close()


def test_a_scheduler_that_goes_away_is_an_error_and_the_notebook_goes_on(tmp_path):
    dask = Dask(tmp_path)
    dask.worker()
    kernel = Kernel(tmp_path, {"SKEP_PYTHON": sys.executable})
    try:
        ok(kernel, f'let cluster = Cluster::connect("{dask.address}")?;\nfn inc(x: i64) -> i64 {{ x + 1 }}\ncluster.submit(inc, 1).gather()?', "2")
        dask.stop()
        text = fails(kernel, "cluster.submit(inc, 2).gather()?")
        assert "scheduler has gone" in text, text
        ok(kernel, "1 + 1", "2")
        ok(kernel, "let cluster = Cluster::local().workers(1).start()?;\ncluster.submit(inc, 3).gather()?", "4")
    finally:
        kernel.close()
        dask.stop()


def test_code_goes_to_a_worker_that_sees_no_file_of_this_machine(tmp_path):
    dask = Dask(tmp_path)
    dask.worker(SKEP_SEES_NOTHING="1")
    kernel = Kernel(tmp_path, {"SKEP_PYTHON": sys.executable})
    try:
        began = time.monotonic()
        ok(kernel, f'let cluster = Cluster::connect("{dask.address}")?;\nfn inc(x: i64) -> i64 {{ x + 1 }}\ncluster.submit(inc, 1).gather()?', "2", timeout=120)
        print(f"to a new worker: {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        ok(kernel, "fn dec(x: i64) -> i64 { x - 1 }\ncluster.submit(dec, 1).gather()?", "0")
        print(f"a further cell: {time.monotonic() - began:.2f} s")
        shipped = sorted(path.name for path in tmp_path.rglob("*.so"))
        assert "libskep.so" in shipped and any(name.startswith("libcell-") for name in shipped), shipped
        # One that joins later gets it too.
        dask.worker(SKEP_SEES_NOTHING="1")
        deadline = time.monotonic() + 60
        while ok(kernel, "cluster.info()?.workers.len()").text != "2":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        pids = ok(kernel, "fn process(_: u64) -> u32 { sleep(Duration::from_millis(100)); std::process::id() }\ncluster.gather(cluster.map(process, 0..8u64))?").text
        assert len(set(re.findall(r"\d+", pids))) == 2, pids
    finally:
        kernel.close()
        dask.stop()
