"""The page of a cluster: over HTTP, and as people look at it, in Chromium."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import TimeoutError, expect, sync_playwright

from conftest import Kernel, browser_of

WORK = """fn slow(x: u64) -> u64 { sleep(Duration::from_millis(10 + x % 20)); println!("part {x}"); x }
fn bad(x: u64) -> u64 { assert!(x != 3, "three is bad"); x }
fn total(xs: Vec<u64>) -> u64 { xs.iter().sum() }"""


def counts(told):
    """Of each function: its name, tasks that are open, done, failed."""
    return [(row["total"]["function"], row["waiting"] + row["running"], row["total"]["n_done"], row["total"]["n_failed"]) for row in told["rows"]]


@pytest.fixture
def page_of(fresh):
    kernel = fresh
    kernel.execute("let cluster = Cluster::local().workers(2).threads(2).start()?;")
    shown = kernel.execute("cluster.dashboard()?")
    url, html = shown.text, shown.of("execute_result")[0]["data"]["text/html"]
    assert "<object" in html and url in html, "it is below the cell"
    assert kernel.execute(":dashboard").text == url, "there is one"

    def get(path, with_token=True):
        address = url.replace("/?", path + ("&" if "?" in path else "?")) if with_token else url.split("/?")[0] + path
        return urllib.request.urlopen(address, timeout=10).read().decode()

    return kernel, url, get


def test_what_the_page_asks_for(page_of):
    kernel, url, get = page_of
    assert get("/health", with_token=False) == "ok"
    for path in ("/", "/state", "/metrics", "/pane/stream", "/between?from=0&to=9", "/journey/00", "/graph", "/events"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(path, with_token=False)
    panes = json.loads(get("/individual-plots.json", with_token=False))
    assert len(panes) >= 6 and all("<title>Skep" in get("/" + path) for path in panes.values())
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/pane/nothing")
    # Who joins names to the page's address, as JupyterLab's sidebar does.
    token = url.split("token=")[1]
    for path in ("", "/", "/pane/map", "/page.js", "/state", "/individual-plots.json"):
        assert get(f"/with/{token}{path}", with_token=False)
    for path in ("/", "/pane/map", "/state"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(f"/with/{'0' * 32}{path}", with_token=False)
    kernel.execute(WORK)
    kernel.execute("let parts = cluster.map(slow, 0..100u64); cluster.submit(total, &parts).gather()?")
    kernel.execute("let some = cluster.map(bad, 0..5u64); cluster.wait(&some)?;")
    [whole] = json.loads(get("/state"))
    assert whole["is_whole"] and counts(whole) == [("slow", 0, 100, 0), ("total", 0, 1, 0), ("bad", 0, 4, 1)]
    assert [worker["threads"] for worker in whole["workers"]] == [2, 2]
    assert len(whole["bars"]) == 105, "each task is a bar"
    assert {bar[1] for bar in whole["bars"]} == {0, 1}, "a row for each thread"
    lines = [line[1:] for line in whole["lines"]]
    assert ["stdout", "slow: part 42"] in lines and any(kind == "failed" and "three is bad" in text for kind, text in lines)
    bar = whole["bars"][0]
    assert "Journey of slow" in get(f"/journey/{bar[8]}")
    assert bar in json.loads(get(f"/between?from={bar[3]}&to={bar[3] + bar[4]}"))
    graph = get("/graph")
    assert graph.startswith("<svg") and "slow ×100" in graph and "total" in graph
    metrics = get("/metrics")
    assert "skep_workers 2\n" in metrics and "skep_tasks_done_total 105\n" in metrics and 'skep_worker_resident_bytes{worker="worker-1"}' in metrics


def test_news_are_numbered_and_can_be_taken_up_again(page_of):
    kernel, _, get = page_of
    [whole] = json.loads(get("/state"))
    seen, rows, bars = whole["seq"], None, []
    kernel.execute(WORK)
    kernel.execute("let parts = cluster.map(slow, 0..20u64); cluster.gather(&parts)?;")
    until = time.time() + 20
    while time.time() < until and rows != [("slow", 0, 20, 0)]:
        for told in json.loads(get(f"/state?since={seen}")):
            assert told["seq"] > seen or told["is_whole"]
            seen, rows = told["seq"], counts(told)
            bars += told["bars"]
    assert rows == [("slow", 0, 20, 0)] and told["rows"][0]["total"]["longest_us"] >= 29_000
    assert len({bar[8] for bar in bars}) == len(bars) == 20, "each bar is told once"
    [again] = json.loads(get("/state?since=999999"))
    assert again["is_whole"], "who knows another cluster begins anew"
    kernel.execute("let next = cluster.impure().map(slow, 0..5u64); cluster.gather(&next)?;")
    [late] = json.loads(get("/state"))
    after = [bar for told in json.loads(get(f"/state?since={late['seq']}")) for bar in told["bars"]]
    assert len(late["bars"]) == 25 and after == [], "what came as a whole does not come again"


def test_a_page_that_is_opened_while_a_cell_runs_shows_what_is_under_way(fresh):
    fresh.execute(f"let cluster = Cluster::local().workers(2).threads(1).start()?; {WORK} fn long(x: u64) -> u64 {{ sleep(Duration::from_secs(3)); x }}")
    fresh.execute("let early = cluster.map(slow, 0..10u64); cluster.gather(&early)?;")
    fresh.execute("let some = cluster.map(long, 0..4u64);")
    time.sleep(1)
    url = fresh.execute(":dashboard").text
    get = lambda: json.loads(urllib.request.urlopen(url.replace("/?", "/state?"), timeout=10).read())[0]
    whole = get()
    assert counts(whole)[0] == ("slow", 0, 10, 0) and len(whole["bars"]) == 10, "what was before"
    [row] = [row for row in whole["rows"] if row["total"]["function"] == "long"]
    assert row["running"] >= 2 and row["waiting"] + row["running"] == 4
    fresh.execute("cluster.gather(&some)?;")
    whole = get()
    assert counts(whole)[1] == ("long", 0, 4, 0) and len(whole["bars"]) == 14


def test_the_page_behind_the_prefix_of_a_hub(tmp_path):
    """A Jupyter server as a JupyterHub starts it for a user: a browser reaches nothing but its prefix."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "JUPYTER_TOKEN": "t" * 32, "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    server = subprocess.Popen([sys.executable, "-m", "jupyter_server", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.base_url=/user/ann/", "--allow-root", "--no-browser"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    kernel = Kernel(tmp_path, env={"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"})
    try:
        kernel.execute("let cluster = Cluster::local().workers(1).start()?;")
        html = kernel.execute("cluster.dashboard()?").of("execute_result")[0]["data"]["text/html"]
        link = re.search(r'href="(/user/ann/proxy/\d+/with/\w+/)"', html)[1]

        def get(path):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": "token " + "t" * 32})
            return urllib.request.urlopen(request, timeout=10).read().decode()

        deadline = time.monotonic() + 30
        while True:
            try:
                page = get(link)
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "the server answers"
                time.sleep(0.3)
        assert "<title>Skep" in page
        assert "Cluster map" in page and "EventSource" in get(link + "page.js"), "links are relative"
        assert json.loads(get(link + "state"))[0]["workers"]
    finally:
        kernel.close()
        server.terminate()
        server.wait(timeout=20)


def test_who_sent_what_to_whom(page_of):
    kernel, url, get = page_of
    kernel.execute("fn big(x: u8) -> Vec<u8> { vec![x; 4 << 20] }\nfn both(a: Vec<u8>, b: Vec<u8>) -> usize { sleep(Duration::from_millis(20)); a.len() + b.len() }")
    kernel.execute("let parts = cluster.map(big, 0..6u8); let mut sums = vec![]; for i in 0..6 { for j in 0..i { sums.push(cluster.submit(both, (&parts[i], &parts[j]))); } } cluster.gather(&sums)?;")
    [whole] = json.loads(get("/state"))
    assert whole["moves"] and all(source != to and n >= 4 << 20 for source, to, n in whole["moves"])
    seen = whole["seq"]
    assert all("moves" not in told for told in json.loads(get(f"/state?since={seen}"))), "it is told when it has changed"
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 600, "height": 500})
        page.goto(url.replace("/?", "/pane/map?"))
        page.get_by_text("worker-1 → worker-2: ").or_(page.get_by_text("worker-2 → worker-1: ")).first.wait_for()
        assert page.locator("#links path").count() == len(whole["moves"])
        assert page.locator("h2:visible").all_inner_texts() == ["Cluster map"], "this pane alone"
        if shots := os.environ.get("SKEP_SCREENSHOTS"):
            page.screenshot(path=pathlib.Path(shots) / "dashboard-map.png")
        browser.close()


def test_clusters_by_name_have_pages_of_their_own(page_of):
    kernel, url, _ = page_of
    other = kernel.execute('let b = Cluster::local().name("beside").workers(1).start()?; b.dashboard()?').text
    assert other != url and kernel.execute("b.dashboard()?").text == other
    kernel.execute("fn beside(x: u64) -> u64 { x } b.gather(&b.map(beside, 0..5u64))?;")
    [of_b] = json.loads(urllib.request.urlopen(other.replace("/?", "/state?"), timeout=10).read())
    assert len(of_b["workers"]) == 1 and counts(of_b) == [("beside", 0, 5, 0)]
    [of_a] = json.loads(urllib.request.urlopen(url.replace("/?", "/state?"), timeout=10).read())
    assert len(of_a["workers"]) == 2 and not of_a["rows"]


def test_stages_of_frames(page_of, tmp_path):
    kernel, url, get = page_of
    kernel.execute('let table = df!("k" => (0..4000).map(|i| i % 7).collect::<Vec<i32>>(), "v" => (0..4000).collect::<Vec<i32>>())?; let frame = Frame::from_dataframe(table, 4);')
    done = kernel.execute('frame.clone().group_by([col("k")]).agg([col("v").median()]).collect()?;')
    assert done.status == "ok", done.reply
    [whole] = json.loads(get("/state"))
    stages = whole["frames"]
    assert len(stages) >= 2 and all(stage["n_done"] == stage["n_tasks"] > 0 for stage in stages), stages
    assert stages[0]["number"] == 1 and sum(stage["n_rows"] for stage in stages) > 0
    seen = whole["seq"]
    assert all("frames" not in told for told in json.loads(get(f"/state?since={seen}"))), "they are told when they have changed"
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 700, "height": 400})
        page.goto(url.replace("/?", "/pane/frames?"))
        expect(page.locator("#stages tr")).to_have_count(len(stages) + 1)
        expect(page.locator("#stages")).to_contain_text("rows")
        if shots := os.environ.get("SKEP_SCREENSHOTS"):
            page.screenshot(path=pathlib.Path(shots) / "dashboard-frames.png")
        browser.close()


def test_flows_are_on_the_page(page_of):
    kernel, url, _ = page_of
    done = kernel.execute('''fn part(i: u32) -> u32 { sleep(Duration::from_millis(20)); i }
fn parts(n: u32) -> Result<u32, skep::Error> { let all = task(part).map(0..n); all.iter().map(|run| run.result()).sum() }
fn refuse(i: u32) -> Result<u32, std::io::Error> { Err(std::io::Error::other(format!("<b>{i}</b>"))) }
fn refused(n: u32) -> Result<u32, skep::Error> { task(refuse).call(n) }
Flow::new("<i>parts</i>", parts).run(4)?; let _ = Flow::new("refused", refused).run(7);''')
    assert done.status == "ok", done.reply
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.goto(url.replace("/?", "/pane/flows?"))
        rows = page.locator("#runs tr")
        expect(rows).to_have_count(3)
        expect(rows.nth(1)).to_contain_text("Failed")
        expect(rows.nth(1)).to_contain_text("<b>7</b>")
        expect(rows.nth(2)).to_contain_text("<i>parts</i>")
        rows.nth(2).locator("button").click()
        expect(page.locator("#one-run")).to_contain_text("4 Completed")
        expect(page.locator("#one-run svg").first).to_be_visible()
        assert page.locator("#runs i:not([class]), #one-run i, #one-run b:has-text('7')").count() == 0, "what users write is text"
        if shots := os.environ.get("SKEP_SCREENSHOTS"):
            page.screenshot(path=pathlib.Path(shots) / "dashboard-flows.png", full_page=True)
        browser.close()


def test_a_run_is_played_again_from_the_page(page_of):
    kernel, url, _ = page_of
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.goto(url.replace("/?", "/pane/what-if?"))
        page.click("text=Record a run")
        expect(page.locator("#recorded")).to_contain_text("Recording")
        kernel.execute("cluster.gather(&cluster.map(|x: u64| { sleep(Duration::from_millis(50)); x }, 0..16))?;")
        page.click("button:text-is('Stop')")
        expect(page.locator("#recorded")).to_contain_text("16 tasks on 2 workers")
        page.fill("input[name=workers]", "8")
        page.click("text=Play it")
        expect(page.locator("#forecast")).to_contain_text("8 workers")
        expect(page.locator("#forecast svg")).to_be_visible()
        if shots := os.environ.get("SKEP_SCREENSHOTS"):
            page.screenshot(path=pathlib.Path(shots) / "dashboard-what-if.png", full_page=True)
        for field, wrong, says in (("workers", "many", "`many` is no number of workers"), ("workers", "0", "at least one worker"), ("memory", "2 GG", "is no size")):
            page.fill("input[name=workers]", "")
            page.fill("input[name=memory]", "")
            page.fill(f"input[name={field}]", wrong)
            page.click("text=Play it")
            expect(page.locator("#forecast.trouble")).to_contain_text(says)
        page.click("text=Record another")
        page.click("button:text-is('Stop')")
        page.click("text=Play it")
        expect(page.locator("#forecast.trouble")).to_contain_text("no task was submitted")
        browser.close()
    assert kernel.execute("cluster.gather(&cluster.map(|x: u64| x + 1, 0..3))?").text == "[1, 2, 3]"


def click_a_task(page, work):
    """As a person does, who looks again where it has moved on, or what stands above has grown by a line."""
    for _ in range(4):
        box = page.locator("#bars").bounding_box()
        for x in range(int(box["width"]) - 4, 80, -4):
            page.mouse.move(box["x"] + x, box["y"] + 8)
            if "slow" in page.locator("#hover").inner_text():
                break
        page.mouse.down()
        page.mouse.up()
        try:
            return page.get_by_text("Journey of slow").wait_for(timeout=8_000)
        except TimeoutError:
            said = {part: page.locator(part).inner_text() for part in ("#hover", "#story")}
            work()
    raise AssertionError(f"no task could be clicked: {said}")


def test_a_page_is_looked_at(page_of):
    kernel, url, _ = page_of
    shots = os.environ.get("SKEP_SCREENSHOTS")
    kernel.execute(WORK)
    errors = []
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        for scheme, width in (("light", 1200), ("dark", 1200), ("light", 400), ("dark", 400)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url)
            page.get_by_text("2 workers").wait_for()
            kernel.execute("let more = cluster.impure().map(slow, 0..60u64); cluster.gather(&more)?;")
            page.locator("#rows code", has_text="slow").wait_for()
            page.wait_for_function("document.querySelector('#bars').dataset.bars >= 60")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
            page.keyboard.press("Tab")
            page.locator("#bars").focus()
            page.keyboard.press("ArrowLeft")
            assert page.locator("#follow").get_attribute("aria-pressed") == "false", "it looks back"
            page.keyboard.press("0")
            assert page.locator("#follow").get_attribute("aria-pressed") == "true"
            click_a_task(page, lambda: kernel.execute("cluster.gather(&cluster.impure().map(slow, 0..60u64))?;"))
            if shots:
                page.screenshot(path=pathlib.Path(shots) / f"dashboard-{scheme}-{width}.png", full_page=True)
            page.close()
        page = browser.new_page()
        page.goto(url)
        page.get_by_text("2 workers").wait_for()
        kernel.execute("cluster.shutdown()?; let cluster = Cluster::local().workers(1).start()?; cluster.submit(slow, 7u64).gather()?")
        page.get_by_text("1 worker,").wait_for()
        kernel.close()
        page.get_by_text("the notebook has ended").or_(page.get_by_text("does not answer")).wait_for()
        browser.close()
    assert errors == []


def test_the_card_of_a_cluster_leads_to_its_page(fresh):
    fresh.execute("let cluster = Cluster::local().workers(1).start()?;")
    html = fresh.execute("cluster").of("execute_result")[0]["data"]["text/html"]
    link = re.search(r'<a href="(http://127[^"]*)"', html)[1]
    assert "<title>Skep" in urllib.request.urlopen(link, timeout=10).read().decode()
    assert fresh.execute(":dashboard").text == link, "there is one page"


def test_times_of_a_report_are_seen_larger(fresh, tmp_path):
    fresh.execute(f"let cluster = Cluster::local().workers(2).threads(1).start()?; {WORK}")
    fresh.execute("cluster.gather(cluster.map(slow, 0..40u64))?;")
    fresh.execute(f'cluster.report("{tmp_path}/report.html")?;')
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 900, "height": 900})
        broken = []
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"file://{tmp_path}/report.html")
        widths = lambda: page.evaluate("[...document.querySelectorAll('#stream rect')].filter((bar) => bar.querySelector('title')).map((bar) => +bar.getAttribute('width'))")
        begins = lambda: page.locator("#stream text[font-size]").first.text_content()
        before = widths()
        assert len(before) == 40 and begins() == "0" and page.locator("#stream button").is_disabled()
        box = page.locator("#stream svg").bounding_box()
        across = lambda part: (box["x"] + part * box["width"], box["y"] + 45)
        page.mouse.move(*across(0.3))
        page.mouse.down()
        page.mouse.move(*across(0.5), steps=4)
        page.mouse.up()
        after = widths()
        assert sum(width == 0 for width in after) >= 10 and max(after) > 2 * max(before), (before, after)
        assert begins() != "0"
        page.keyboard.press("ArrowLeft")
        moved = widths()
        assert moved != after
        page.keyboard.press("+")
        assert max(widths()) > max(moved)
        page.locator("#stream button").click()
        assert widths() == pytest.approx(before) and begins() == "0"
        page.locator("#stream svg").dblclick()
        assert widths() == pytest.approx(before), "two clicks choose nothing"
        assert page.evaluate("document.documentElement.scrollWidth") <= 900 and broken == []
        if folder := os.environ.get("SKEP_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/report.png", full_page=True)
        browser.close()
