"""Flows in notebooks and from the command line: runs that outlive the process that began them."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

from conftest import SKEP, Kernel, browser_of
from test_cells import fails, ok

STEPS = """fn step(i: u32) -> u32 { sleep(Duration::from_millis(150)); println!("step {i}"); i }
fn total(all: Vec<u32>) -> u32 { all.iter().sum() }
fn all_steps(n: u32) -> Result<u32, skep::Error> {
    let mut all = vec![];
    for i in 1..=n { all.push(task(step).call(i)?); }
    Ok(all.iter().sum())
}"""


@pytest.fixture(scope="module")
def flows(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    ok(kernel, STEPS)
    return kernel


def skep(*arguments, folder, code=0):
    done = subprocess.run([SKEP, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=folder, env={**os.environ, "SKEP_FLOWS": str(folder / "flows")})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_run_is_shown_while_it_runs_and_afterwards(flows):
    result = flows.execute('let steps = Flow::new("steps", all_steps); let run = steps.run(5)?; run')
    assert result.status == "ok", result.reply
    # On a busy machine the cell also says that it compiles.
    shown = [c for c in result.of("display_data") if not c["data"]["text/plain"].startswith("compiling")]
    updates = result.of("update_display_data")
    assert len(shown) == 1 and len(updates) >= 2, "the flow's own picture, and no bars beside it"
    assert "Flow steps: Running" in shown[0]["data"]["text/plain"]
    assert "Flow steps: Completed" in updates[-1]["data"]["text/plain"]
    final = ok(flows, "run.clone()").of("execute_result")[0]["data"]
    assert "step(5)" in final["text/plain"] and "<svg" in final["text/html"] and "<script" not in final["text/html"]
    ok(flows, "run.result()?", "15")
    ok(flows, "run.logs()?.iter().map(|line| line.text.clone()).collect::<Vec<_>>().join(\"|\")", '"step 1|step 2|step 3|step 4|step 5"')
    assert "steps" in flows.execute(":flows").text and "step(1)" in flows.execute(f":flows {ok(flows, 'run.id().to_string()').text[1:9]}").text


def test_an_interrupt_ends_the_run_and_it_goes_on(flows):
    msg = flows.client.execute('Flow::new("stopped", all_steps).run(20)?')
    time.sleep(1.2)
    flows.interrupt()
    assert flows.finish(msg).status == "error"
    said = ok(flows, 'let stopped = Flow::new("stopped", all_steps); let run = stopped.last()?; (run.state()?.name(), run.reason()?)').text
    assert "Cancelled" in said and "interrupted" in said, said
    n = int(ok(flows, 'run.tasks()?.iter().filter(|task| task.state.is_good()).count()').text)
    assert 1 <= n < 20
    ok(flows, "run.resume()?.result()?", "210")
    printed = ok(flows, 'run.logs()?.iter().filter(|line| line.text == "step 1").count()').text
    assert printed == "1", "what had completed ran once"


def test_a_cell_shows_a_run_once(flows):
    ran = ok(flows, 'let twice = Flow::new("twice", all_steps);\ntwice.run(2)?')
    shown = [message["content"]["data"] for message in ran.messages if message["msg_type"] in ("display_data", "update_display_data", "execute_result")]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert "step(2)" in pages[-2] and "parameters" in pages[-2], "the picture says all of it"
    assert "shown above" in pages[-1] and "step(2)" not in pages[-1]
    assert "step(2)" in ran.text, "where there is no picture, the words do"
    assert "step(2)" in ok(flows, "twice.last()?").of("execute_result")[0]["data"]["text/html"]


def test_errors_say_what_to_do(flows):
    ok(flows, 'fn refuse(x: u32) -> Result<u32, std::io::Error> { Err(std::io::Error::other(format!("no {x}"))) }\nfn refused(x: u32) -> Result<u32, skep::Error> { task(refuse).retries(1).call(x) }')
    text = fails(flows, 'Flow::new("refused", refused).run(7)?')
    assert "the flow `refused` failed" in text and "no 7" in text and "resume" in text, text
    assert "no flow runs here" in fails(flows, "task(step).call(1)?")
    text = fails(flows, 'Flow::new("steps", all_steps).run("five")?')
    assert "this flow's parameters are `(u32,)`, and it is given `&str`" in text, text
    assert "there is no run" in fails(flows, 'Flow::run_of("nothing")?')
    assert "is no cron expression" in fails(flows, 'Flow::new("steps", all_steps).cron("every day", 3)?')
    assert "no flow here has a schedule" in fails(flows, "Flow::serve()?")


def test_a_panic_of_the_flow_and_of_a_task(flows):
    ok(flows, 'fn bad(x: u32) -> u32 { panic!("bad {x}") }\nfn panics(x: u32) -> Result<u32, skep::Error> { task(bad).call(x) }\nfn worse(x: u32) -> u32 { panic!("worse {x}") }')
    assert "bad 3" in fails(flows, 'Flow::new("panics", panics).run(3)?')
    assert "its function panicked: worse 4" in fails(flows, 'Flow::new("worse", worse).run(4)?')
    ok(flows, '1 + 1', "2")


def test_frames_go_into_a_database_and_come_back(flows, tmp_path):
    ok(flows, f'let table = Frame::from(df!("day" => [1, 1, 2], "who" => ["a", "b", "c"], "x" => [0.5, 1.5, 2.5], "ok" => [Some(true), None, Some(false)])?);\nlet db = "{tmp_path}/t.db";')
    ok(flows, 'table.write_sqlite(db, "t")?', "3")
    ok(flows, 'table.write_sqlite(db, "t")?', "3")
    ok(flows, 'let back = Frame::read_sqlite(db, "select * from t")?.collect()?; back.equals_missing(&table.collect()?.lazy().with_column(col("day").cast(DataType::Int64)).collect()?)', "true")
    ok(flows, 'table.filter(col("day").eq(lit(1))).write_sqlite_by(db, "t", ["day"])?', "2")
    ok(flows, 'Frame::read_sqlite(db, "select count(*) as n from t")?.collect()?.column("n")?.i64()?.get(0)', "Some(3)")
    assert "there is no column `no`" in fails(flows, 'table.write_sqlite_by(db, "t", ["no"])?')
    assert "no such table" in fails(flows, 'Frame::read_sqlite(db, "select * from no")?')
    assert "there is no database" in fails(flows, 'Frame::read_sqlite("nowhere.db", "select 1")?')
    assert "unable to open" in fails(flows, 'table.write_sqlite("/nowhere/t.db", "t")?')


def test_a_killed_kernel_leaves_a_run_that_the_next_one_ends(tmp_path):
    store = {"SKEP_FLOWS": str(tmp_path / "flows")}
    first = Kernel(tmp_path, store)
    try:
        ok(first, "let cluster = Cluster::local().workers(2).start()?;")
        ok(first, STEPS)
        first.client.execute('Flow::new("night", all_steps).run(12)?')
        watch = Kernel(tmp_path, store)
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                said = ok(watch, 'Flow::runs()?.last().map_or(0, |run| run.tasks().unwrap().iter().filter(|task| task.state.is_good()).count())').text
                if int(said) >= 3:
                    break
            pid = int(first.manager.provisioner.pid)
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 20
            while "Crashed" not in (said := ok(watch, "Flow::runs()?.last().unwrap().state()?.name()").text):
                assert time.monotonic() < deadline, said
            ok(watch, "let cluster = Cluster::local().workers(2).start()?;")
            text = fails(watch, "Flow::runs()?.last().unwrap().resume()?")
            assert "the flow `night` is not defined here" in text, text
            ok(watch, STEPS)
            n = int(ok(watch, 'let night = Flow::new("night", all_steps); let run = night.last()?; run.tasks()?.iter().filter(|task| task.state.is_good()).count()').text)
            result = watch.execute("run.resume()?.result()?")
            assert result.text == "78", result.reply
            printed = [line for line in result.stream("stdout").splitlines() if line.startswith("step")]
            assert len(printed) == 12 - n, (n, printed)
        finally:
            watch.close()
    finally:
        first.close()


SCRIPT = """let cluster = Cluster::local().workers(1).start()?;
// %%
fn add(a: i64, b: i64) -> i64 { println!("adding"); a + b }
fn sum_of(a: i64, b: i64) -> Result<i64, skep::Error> { task(add).call((a, b)) }
let sums = Flow::new("sums", sum_of).every(Duration::from_millis(300), (1, 2))?;
"""


def test_the_command_line(tmp_path):
    (tmp_path / "sums.rs").write_text(SCRIPT)
    said = skep("flow", "run", "sums.rs", "sums", "[3, 4]", folder=tmp_path)
    assert "Flow sums: Completed" in said and "add(3, 4)" in said, said
    assert "sums" in (runs := skep("flow", "runs", folder=tmp_path)) and "Completed" in runs
    run = re.search(r"\b[0-9a-f]{8}\b", runs)[0]
    assert "add(3, 4)" in skep("flow", "show", run, folder=tmp_path)
    assert "add on worker-1: adding" in skep("flow", "show", run, "--logs", folder=tmp_path)
    assert "are no parameters of the flow" in skep("flow", "run", "sums.rs", "sums", "3", folder=tmp_path, code=1)
    assert "is no JSON" in skep("flow", "run", "sums.rs", "sums", "EWR", folder=tmp_path, code=1)
    assert "is not defined here" in skep("flow", "run", "sums.rs", "other", folder=tmp_path, code=1)
    # Of the cell that the command adds nothing is shown.
    (tmp_path / "alone.rs").write_text(SCRIPT.split("// %%\n")[1])
    said = skep("flow", "run", "alone.rs", "sums", "[3, 4]", folder=tmp_path, code=1)
    assert "failed: there is no cluster yet\nhint: " in said and "run_named" not in said, said
    assert "is gone" in skep("flow", "forget", run, folder=tmp_path)
    assert "there is no run" in skep("flow", "show", run, folder=tmp_path, code=1)


def test_flows_run_at_their_times(tmp_path):
    (tmp_path / "sums.rs").write_text(SCRIPT + 'let yearly = Flow::new("yearly", sum_of).cron("0 0 1 1 *", (3, 4))?;\n')
    served = subprocess.Popen([SKEP, "flow", "serve", "sums.rs"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env={**os.environ, "SKEP_FLOWS": str(tmp_path / "flows")})
    try:
        lines = []
        while sum("sums completed" in line for line in lines) < 3:
            line = served.stdout.readline()
            assert line, lines
            lines.append(line)
        waits = skep("flow", "runs", "yearly", folder=tmp_path)
        assert re.search(r"\[3,4\]\s+Scheduled\s+it begins at \d{4}-01-01\s+00:00:00", waits), waits
        taken = skep("flow", "resume", "sums.rs", re.search(r"\b[0-9a-f]{8}\b", waits)[0], folder=tmp_path)
        assert "Flow yearly: Completed" in taken, "who will not wait for it begins it now"
    finally:
        served.send_signal(signal.SIGINT)
        out, _ = served.communicate(timeout=20)
    assert served.returncode == 0 and "interrupted" in out and "panicked" not in out, out
    assert skep("flow", "runs", "sums", folder=tmp_path).count("Completed") >= 3
    # It has put away what would have come.
    assert "Scheduled" not in skep("flow", "runs", folder=tmp_path)


def test_what_a_killed_process_would_have_begun_is_not_listed(tmp_path):
    (tmp_path / "sums.rs").write_text(SCRIPT.replace("Duration::from_millis(300)", "Duration::from_secs(3600)"))
    served = subprocess.Popen([SKEP, "flow", "serve", "sums.rs"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env={**os.environ, "SKEP_FLOWS": str(tmp_path / "flows")})
    while "runs next at" not in (line := served.stdout.readline()):
        assert line
    assert "Scheduled" in (waits := skep("flow", "runs", folder=tmp_path))
    served.kill()
    served.wait(timeout=20)
    deadline = time.monotonic() + 10
    while "No flow has run yet" not in (runs := skep("flow", "runs", folder=tmp_path)):
        assert time.monotonic() < deadline, runs
    shown = skep("flow", "show", re.search(r"\b[0-9a-f]{8}\b", waits)[0], folder=tmp_path)
    assert "Cancelled" in shown and "the process that served it is gone" in shown, shown


@pytest.fixture
def prefect(tmp_path):
    """A server of Prefect's, from its package."""
    program = pathlib.Path(os.environ["SKEP_CACHE"]) / "python-prefect" / "bin" / "prefect"
    assert program.exists(), "./install/test installs it"
    port = free_port()
    env = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    begin = lambda: subprocess.Popen([program, "server", "start", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=env, start_new_session=True)
    server = Prefect(f"http://127.0.0.1:{port}", begin)
    yield server
    server.stop()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Prefect:
    def __init__(self, address, begin):
        self.address, self.begin, self.process = address, begin, None

    def start(self):
        self.process = self.begin()
        deadline = time.monotonic() + 120
        while True:
            try:
                return self.ask("health", None)
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, "Prefect's server does not start"
                time.sleep(0.2)

    def ask(self, what, body={}):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/api/{what}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def test_a_prefect_server_shows_runs_also_those_that_it_missed(prefect, tmp_path):
    kernel = Kernel(tmp_path, {"SKEP_FLOWS": str(tmp_path / "flows")})
    try:
        ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
        ok(kernel, STEPS)
        ok(kernel, f'Flow::report_to("{prefect.address}/api")?;')
        began = time.monotonic()
        ok(kernel, 'Flow::new("missed", all_steps).run(2)?.result()?', "3")
        assert time.monotonic() - began < 10, "a server that is away holds up nothing"
        prefect.start()
        ok(kernel, 'Flow::new("seen", all_steps).run(3)?.result()?', "6")
        assert "the flow `broken` failed" in fails(kernel, 'fn bad(x: u32) -> u32 { panic!("bad") }\nfn broken(x: u32) -> Result<u32, skep::Error> { task(bad).call(x) }\nFlow::new("broken", broken).run(1)?')
        deadline = time.monotonic() + 40
        while True:
            runs = {run["name"].split("-")[0]: run for run in prefect.ask("flow_runs/filter")}
            if {name: run["state_name"] for name, run in runs.items()} == {"missed": "Completed", "seen": "Completed", "broken": "Failed"}:
                break
            assert time.monotonic() < deadline, runs
            time.sleep(0.3)
        assert runs["seen"]["parameters"] == {"parameter_1": 3}
        tasks = prefect.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [runs["seen"]["id"]]}}})
        assert sorted(task["name"] for task in tasks) == ["step-1", "step-2", "step-3"] and {task["state_name"] for task in tasks} == {"Completed"}
        logs = prefect.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [runs["seen"]["id"]]}}})
        assert sorted(line["message"].split(": ")[1] for line in logs) == ["step 1", "step 2", "step 3"]
        kinds = [artifact["type"] for artifact in prefect.ask("artifacts/filter")]
        assert kinds.count("table") == 3 and kinds.count("markdown") == 3
        look_at(prefect.address, runs)
    finally:
        kernel.close()


def look_at(address, runs):
    """Prefect's own page, as people open it."""
    shots = os.environ.get("SKEP_SCREENSHOTS")
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(f"{address}/runs")
        for run in runs.values():
            expect(page.get_by_text(run["name"]).first).to_be_visible(timeout=40_000)
        if shots:
            page.screenshot(path=f"{shots}/prefect-runs.png")
        page.goto(f"{address}/runs/flow-run/{runs['seen']['id']}")
        expect(page.get_by_text("step 3").first).to_be_visible(timeout=40_000)
        if shots:
            page.screenshot(path=f"{shots}/prefect-run.png")
        page.get_by_text("Artifacts", exact=True).last.click()
        expect(page.get_by_text("tasks").first).to_be_visible(timeout=20_000)
        if shots:
            page.screenshot(path=f"{shots}/prefect-artifacts.png")
        browser.close()
