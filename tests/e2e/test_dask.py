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

from conftest import CHECKOUT, Kernel
from test_cells import fails, ok

DASK = pathlib.Path(sys.executable).parent / "dask"


class Dask:
    def __init__(self, folder, *args, host="127.0.0.1", command=(str(DASK),), inside=()):
        self.folder, self.processes, self.command, self.args = folder, [], command, args
        self.start("scheduler", "--port", "0", "--host", host, "--no-dashboard", "--scheduler-file", str(folder / "scheduler.json"), *args, inside=inside)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.address = json.loads((folder / "scheduler.json").read_text())["address"]
                break
            except (OSError, ValueError):
                assert time.monotonic() < deadline, "Dask's scheduler does not start"
                time.sleep(0.1)

    def start(self, what, *args, inside=(), **env):
        said = open(self.folder / f"{what}-{len(self.processes)}", "w")
        process = subprocess.Popen([*inside, *self.command, what, *args], stdout=said, stderr=said, cwd=self.folder, start_new_session=True, env={**os.environ, **env})
        self.processes.append(process)
        return process

    def worker(self, *args, inside=(), **env):
        n = len(self.processes)
        return self.start("worker", self.address, "--nthreads", "1", "--no-dashboard", "--name", f"w{n}", "--local-directory", str(self.folder / f"of-worker-{n}"), *self.args, *args, inside=inside, **env)

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
    kernel = Kernel(folder)
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
    assert "`tls://host:8786?ca=ca.pem&cert=cert.pem&key=key.pem`" in fails(away, 'Cluster::connect("tls://127.0.0.1:1")?')
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
    for code, lacks in {'cluster.lock("x")?': "locks", "cluster.scale(3)?": "who runs the Dask cluster scales it", 'cluster.publish("p", &seen)?': "values under names", "seen.explain()?": "the history of its tasks"}.items():
        text = fails(away, code)
        assert "the engine `dask` does not offer" in text and lacks in text, text
    # What is refused holds up nothing: the same call goes through without what was lacking.
    text = fails(away, "cluster.retries(1).retry_delay(Duration::from_secs(1)).submit(inc, 4322).gather()?")
    assert "does not offer delays between retries" in text, text
    ok(away, "cluster.submit(inc, 4322).gather()?", "4323")


def told(kernel, code, pattern, patience=5):
    """What a cell says once events have come, which they do a moment later."""
    deadline = time.monotonic() + patience
    while True:
        text = ok(kernel, code).text or ""
        if re.search(pattern, text):
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.1)


def bars_of(result):
    return [content["data"]["text/plain"] for kind in ("display_data", "update_display_data") for content in result.of(kind)]


def test_progress_and_prints_are_in_the_cell(away):
    result = ok(away, 'fn slowly(i: u64) -> u64 { println!("slowly {i}"); eprintln!("to stderr {i}"); sleep(Duration::from_millis(150)); i }\ncluster.gather(cluster.map(slowly, 0..8u64))?.len()', "8")
    assert any("slowly" in bar for bar in bars_of(result))
    assert sorted(result.stream().split("\n"))[1:] == [f"slowly {i}" for i in range(8)], result.stream()
    assert "to stderr 7" in result.stream("stderr")
    result = ok(away, "fn far(n: u64) -> u64 { for i in 0..n { sleep(Duration::from_millis(30)); progress(i + 1, n); } n }\ncluster.submit(far, 30).gather()?", "30")
    assert any(re.search(r"far.*\b0/1\b|far.*[1-9]\d? %", bar) for bar in bars_of(result))


def test_journeys_commands_and_the_page_know_these_tasks(away):
    ok(away, "let told = cluster.submit(inc, 987_654); told.gather()?", "987655")
    text = told(away, "told.journey()?", r"kept on worker-\d")
    assert re.search(r"assigned .*to worker-\d: the engine's own scheduler chose it", " ".join(text.split())), text
    assert re.search(r"kept on worker-\d", ok(away, ":journey told").text)
    assert re.search(r"Cluster: \d workers", ok(away, ":cluster").text)
    shown = ok(away, ":workers").text
    assert re.search(r"worker-\d+ +[1-9]\d+ +idle", shown), shown
    assert "inc" in ok(away, ":tasks").text
    assert "slowly 3" in ok(away, "cluster.logs()?.of_function(\"slowly\")").text
    assert ok(away, "cluster.dashboard()?").text.startswith("http://127.0.0.1:")
    ok(away, "let (sum, run) = cluster.performance(|| cluster.gather(cluster.impure().map(inc, 0..50)).map(|all| all.len()))?;\n(sum?, run.n_runs(\"inc\"))", "(50, 50)")
    ok(away, 'cluster.report("report.html")?;')
    assert "slowly" in (away.folder / "report.html").read_text()
    assert "not inc" in told(away, 'fn refuses_inc(_: i64) -> Result<i64, String> { Err("not inc".into()) }\nlet _ = cluster.submit(refuses_inc, 1).wait();\ncluster.logs()?.of_function("refuses_inc")', "not inc")


def test_a_task_that_is_wanted_again_while_it_is_being_stopped_runs(away):
    ok(away, "fn listens(ms: u64) -> u64 { let until = std::time::Instant::now() + Duration::from_millis(ms); while std::time::Instant::now() < until { sleep(Duration::from_millis(100)); } ms }")
    for ms in (1500, 1501, 1502):
        ok(away, f"let first = cluster.submit(listens, {ms}); sleep(Duration::from_millis(500)); first.cancel()?; let _ = first.wait(); drop(first);\ncluster.submit(listens, {ms}).gather()?", str(ms))


def test_timeouts_resources_and_workers_that_are_asked_for(dask, away):
    text = fails(away, "cluster.timeout(Duration::from_millis(300)).submit(listens, 60_000).gather()?")
    assert "task `listens` took too long" in text and "stopped after 300 ms" in text, text
    text = fails(away, "cluster.on_workers([77]).submit(inc, 700).gather()?")
    assert "worker 77 only" in text and "hint" in text, text
    text = fails(away, 'cluster.resource("gpu", 1).submit(inc, 701).gather()?')
    assert "no worker has enough of `gpu`" in text and "--resources gpu=1" in text, text
    dask.worker("--resources", "gpu=1")
    deadline = time.monotonic() + 30
    while True:
        result = away.execute('cluster.resource("gpu", 1).submit(inc, 701).gather()?')
        if result.status == "ok":
            break
        assert time.monotonic() < deadline, result.error
        time.sleep(0.2)
    text = fails(away, "fn nested(x: i64) -> i64 { Cluster::current().unwrap().submit(inc, x).gather().unwrap() }\ncluster.submit(nested, 3).gather()?")
    assert "cannot submit tasks of its own" in text and "as a graph" in text, text


PLACES = """
from distributed import Client, LocalCluster

def small():
    return LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)

def client():
    return Client(small())

def address():
    return "{address}"

def number():
    return 7

def breaks():
    return {{}}["no such place"]
"""


def test_clusters_that_the_notebook_or_python_starts(dask, tmp_path):
    kernel = Kernel(tmp_path)
    (tmp_path / "places.py").write_text(PLACES.format(address=dask.address))
    pids = set()
    try:
        ok(kernel, "fn inc(x: i64) -> i64 { x + 1 }\nfn process(_: u64) -> u32 { std::process::id() }")
        ok(kernel, "let own = Cluster::dask().workers(2).threads(1).start()?;\nown.submit(inc, 1).gather()?", "2")
        pids.add(int(ok(kernel, "own.submit(process, 1).gather()?").text))
        assert "Cluster: 2 workers, 2 threads" in ok(kernel, ":cluster").text
        for function in ("small", "client", "address"):
            ok(kernel, f'let there = Cluster::connect("python://places:{function}")?;\nthere.submit(inc, 41).gather()?', "42")
            if function != "address":
                pids.add(int(ok(kernel, "there.submit(process, 2).gather()?").text))
        text = fails(kernel, 'Cluster::connect("python://places:breaks")?')
        assert "places:breaks has failed: KeyError: 'no such place'" in text, text
        text = fails(kernel, 'Cluster::connect("python://places:number")?')
        assert "gives a `int`" in text and "a Dask client, a cluster, or an address" in text, text
        assert "No module named 'nowhere'" in fails(kernel, 'Cluster::connect("python://nowhere:f")?')
        assert "ask for 1 to 64" in fails(kernel, "Cluster::dask().workers(0).start()?")
        # The local cluster is shown again once it is started.
        ok(kernel, "let local = Cluster::local().workers(1).start()?;")
        assert "Cluster: 1 worker," in ok(kernel, ":cluster").text
        ok(kernel, "own.submit(inc, 2).gather()?", "3")
        ok(kernel, "own.shutdown()?")
        assert "has left the Dask cluster" in fails(kernel, "own.submit(inc, 3).gather()?")
    finally:
        kernel.close()
    deadline = time.monotonic() + 15
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "what was started here ends with the notebook"
        time.sleep(0.2)


# As a worker is that has run a notebook of another build.
LOADED = """
import sys
def dask_setup(worker):
    import threading, time
    def set():
        while "skep_worker" not in sys.modules:
            time.sleep(0.001)
        sys.modules["skep_worker"].RUNTIME.digest = "another"
    threading.Thread(target=set, daemon=True).start()
"""


def test_code_leaves_with_its_notebook_and_a_worker_of_another_build_is_named(tmp_path):
    dask = Dask(tmp_path)
    dask.worker()
    kernel = Kernel(tmp_path)
    plugins = lambda: subprocess.run([sys.executable, "-c", f"from distributed import Client; print([p for p in Client('{dask.address}').run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins)) if p.startswith('skep-code')])"], capture_output=True, text=True, check=True).stdout
    try:
        connect = f'let cluster = Cluster::connect("{dask.address}")?;'
        ok(kernel, f"{connect}\nfn inc(x: i64) -> i64 {{ x + 1 }}\ncluster.submit(inc, 1).gather()?", "2")
        with_cell = plugins().count("skep-code")
        ok(kernel, "cluster.shutdown()?")
        deadline = time.monotonic() + 10
        while plugins().count("skep-code") >= with_cell:
            assert time.monotonic() < deadline, "what cells needed goes with them"
            time.sleep(0.3)
        assert "address has a scheme" in fails(kernel, f'Cluster::connect("{dask.address.removeprefix("tcp://")}")?')
        (tmp_path / "loaded.py").write_text(LOADED)
        dask.worker("--preload", str(tmp_path / "loaded.py"))
        time.sleep(3)
        text = fails(kernel, connect)
        assert "has loaded another build of Skep: restart the workers of the Dask cluster" in text, text
        ok(kernel, "1 + 1", "2")
    finally:
        kernel.close()
        dask.stop()


def test_an_encrypted_scheduler(tmp_path):
    run = lambda *args: subprocess.run(["openssl", *args], cwd=tmp_path, check=True, capture_output=True)
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=skep", "-keyout", "key.pem", "-out", "cert.pem")
    files = ["--tls-ca-file", str(tmp_path / "cert.pem"), "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    dask = Dask(tmp_path, *files, host="tls://127.0.0.1")
    dask.worker()
    kernel = Kernel(tmp_path)
    try:
        assert dask.address.startswith("tls://"), dask.address
        ok(kernel, f'let cluster = Cluster::connect("{dask.address}?ca=cert.pem&cert=cert.pem&key=key.pem")?;\nfn inc(x: i64) -> i64 {{ x + 1 }}\ncluster.submit(inc, 1).gather()?', "2")
        text = fails(kernel, f'Cluster::connect("{dask.address}?ca=nowhere.pem")?')
        assert "there is no file nowhere.pem" in text, text
        text = fails(kernel, f'Cluster::connect("{dask.address}?password=x")?')
        assert "`password` is nothing that `tls://` takes" in text, text
    finally:
        kernel.close()
        dask.stop()


# Dask's own command, by another version: what `pip` would have put there.
OTHER_VERSION = "import sys, importlib.metadata as of; real = of.version; of.version = lambda name: '2020.1.0' if name == 'distributed' else real(name); from dask.__main__ import main; sys.argv[0] = 'dask'; main()"


def test_another_version_of_dask_is_refused_with_what_mends_it(tmp_path):
    dask = Dask(tmp_path, command=(sys.executable, "-c", OTHER_VERSION))
    kernel = Kernel(tmp_path)
    try:
        text = fails(kernel, f'Cluster::connect("{dask.address}")?')
        assert "has distributed 2020.1.0, and this machine has 20" in text and "pip install dask==20" in text, text
        ok(kernel, "1 + 1", "2")
    finally:
        kernel.close()
        dask.stop()


# What `:dep` builds.
CRATES = pathlib.Path(os.environ["SKEP_CACHE"] if "SKEP_CACHE" in os.environ else pathlib.Path.home() / ".cache/skep") / "deps"


def crate(folder, name, uses, text):
    (folder / name / "src").mkdir(parents=True)
    (folder / name / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n{uses}')
    (folder / name / "src" / "lib.rs").write_text(text)


class Networks:
    """Two machines, as far as network and files go: namespaces with an address each, in which this machine's build and its temporary
    files are not to be seen.
    """

    def __init__(self):
        self.names = [f"skep-{os.getpid()}-{i}" for i in (1, 2)]
        self.bridge = f"sk{os.getpid() % 100_000}"
        ip = lambda *args: subprocess.run(["ip", *args], check=True, capture_output=True)
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", "10.213.77.1/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for i, name in enumerate(self.names):
            here, there = f"{self.bridge}h{i}", f"{self.bridge}t{i}"
            ip("netns", "add", name)
            ip("link", "add", here, "type", "veth", "peer", "name", there)
            ip("link", "set", here, "master", self.bridge, "up")
            ip("link", "set", there, "netns", name)
            ip("-n", name, "addr", "add", f"10.213.77.{i + 2}/24", "dev", there)
            ip("-n", name, "link", "set", there, "up")
            ip("-n", name, "link", "set", "lo", "up")

    def inside(self, i):
        hide = " && ".join(f'mount -t tmpfs none "{folder}"' for folder in ("/tmp", os.environ["SKEP_HOME"], CRATES)) + ' && exec "$@"'
        return ("ip", "netns", "exec", self.names[i], "unshare", "-m", "sh", "-c", hide, "sh")

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)


@pytest.fixture
def networks():
    try:
        networks = Networks()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may make no networks: {error}")
    yield networks
    networks.close()


def test_two_machines_with_networks_and_files_of_their_own(networks, tmp_path):
    crate(tmp_path, "comb", "", "pub fn six() -> u64 { 6 }")
    crate(tmp_path, "hive", 'comb = { path = "../comb" }', "pub fn cells(n: u64) -> u64 { comb::six() * n }")
    dask = Dask(tmp_path, host="10.213.77.1")
    for i in (0, 1):
        dask.worker("--host", f"10.213.77.{i + 2}", inside=networks.inside(i))
    kernel = Kernel(tmp_path)
    try:
        ok(kernel, f'let cluster = Cluster::connect("{dask.address}")?;\nfn inc(x: i64) -> i64 {{ x + 1 }}\ncluster.submit(inc, 1).gather()?', "2", timeout=120)
        deadline = time.monotonic() + 60
        while ok(kernel, "cluster.info()?.workers.len()").text != "2":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # Each made one, and each needs both: the values went from one network to the other.
        ok(kernel, "fn ones(n: usize) -> Vec<u8> { vec![1; n] }\nfn both(a: Vec<u8>, b: Vec<u8>) -> usize { a.len() + b.len() }\nfn hides(_: u64) -> bool { std::path::Path::new(&std::env::var(\"SKEP_HOME\").unwrap()).join(\"bin\").exists() }")
        ok(kernel, "let a = cluster.on_workers([1]).submit(ones, 3_000_000);\nlet b = cluster.on_workers([2]).submit(ones, 4_000_000);\n[cluster.on_workers([1]).submit(both, (&a, &b)).gather()?, cluster.on_workers([2]).submit(both, (&a, &b)).gather()?]", "[7000000, 7000000]", timeout=120)
        ok(kernel, "[cluster.on_workers([1]).submit(hides, 1).gather()?, cluster.on_workers([2]).submit(hides, 2).gather()?]", "[false, false]")
        ok(kernel, 'Frame::from(df!("k" => ["a", "b", "a"], "x" => [1, 2, 3])?).group_by([col("k")]).agg([col("x").sum()]).sort(["k"]).collect()?.column("x")?.i32()?.into_no_null_iter().collect::<Vec<_>>()', "[4, 2]")
        # Crates travel, also those that crates stand on.
        ok(kernel, f':dep hive = {{ path = "{tmp_path}/hive" }}', timeout=180)
        ok(kernel, "fn cells(n: u64) -> u64 { hive::cells(n) }\n[cluster.on_workers([1]).submit(cells, 7).gather()?, cluster.on_workers([2]).submit(cells, 8).gather()?]", "[42, 48]", timeout=120)
    finally:
        kernel.close()
        dask.stop()


def test_a_function_that_kills_its_workers_is_given_up_and_named(dask, tmp_path):
    kernel = Kernel(tmp_path)
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
    kernel = Kernel(tmp_path)
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
    kernel = Kernel(tmp_path)
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


def cells_of(number):
    """A lesson's cells in order, the solutions in place of the exercises."""
    [lesson] = (CHECKOUT / "tutorial" / "lessons").glob(f"{number:02}-*/lesson.md")
    return re.findall(r"^```rust((?: (?:solution|slow|fails))*)\n(.*?)^```", lesson.read_text(), re.M | re.S)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_cells_of_lessons_run_unchanged_there(tmp_path, number):
    kernel = Kernel(tmp_path)
    n_there, lacks = 0, []
    try:
        for kind, code in cells_of(number):
            n_there += "Cluster::local()" in code
            result = kernel.execute(code.replace("Cluster::local()", "Cluster::dask()"), timeout=180)
            if "fails" in kind:
                assert result.status == "error", code
            elif result.status == "error":
                lacks.append(re.search("does not offer ([^:\n]*)|(cannot submit tasks of its own)", result.error)[0])
            elif "solution" in kind:
                assert "✓" in result.text, f"{code}\n{result.text}"
        assert n_there > 0
        assert lacks == LACKING.get(number, []), lacks
    finally:
        kernel.close()


# What these lessons ask for that Dask's engine does not offer.
LACKING = {3: ["cannot submit tasks of its own", "does not offer actors"]}
