"""Real front ends: nbclient, nbconvert, papermill, jupyter console, and JupyterLab in a browser."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from playwright.sync_api import expect, sync_playwright

from conftest import HOME, SKEP, browser_of

SHOTS = pathlib.Path(os.environ.get("SKEP_SCREENSHOTS", "/nonexistent"))


def notebook(*cells):
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "skep", "display_name": "Rust (Skep)", "language": "rust"}})
    nb.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    return nb


def test_nbclient_stops_at_the_first_error(tmp_path):
    done = NotebookClient(notebook("let x = 20;", "x + 1"), kernel_name="skep", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert done.cells[1].outputs[0]["data"]["text/plain"] == "21"
    with pytest.raises(CellExecutionError, match="E0425"):
        NotebookClient(notebook("nope", "1"), kernel_name="skep", resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_nbconvert_executes_and_writes_html(tmp_path):
    nbformat.write(notebook("fn one() -> i64 { 1 }\ndelayed!(one()).graph()", "df!(\"a\" => [1, 2])?", "?:vars"), tmp_path / "n.ipynb")
    done = subprocess.run([sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "n.ipynb"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "n.html").read_text()
    assert "jp-RenderedSVG" in html and "shape: (2, 1)" in html


def test_papermill_runs_with_parameters_as_cells(tmp_path):
    nbformat.write(notebook("let n = 6;", "n * 7"), tmp_path / "in.ipynb")
    done = subprocess.run([sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "-k", "skep"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    out = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert out.cells[1].outputs[0]["data"]["text/plain"] == "42"
    assert all(cell.metadata["papermill"]["status"] == "completed" for cell in out.cells)


def test_jupyter_console(tmp_path):
    import pexpect

    console = pexpect.spawn(sys.executable, ["-m", "jupyter_console", "--kernel", "skep", "--simple-prompt"], encoding="utf-8", timeout=40, cwd=str(tmp_path))
    console.expect(r"In \[1\]: ")
    console.sendline("let x = 20;")
    console.expect(r"In \[\d\]: ")
    console.sendline("x + 22")
    console.expect(r"Out\[\d\]: 42")
    console.sendline("exit")
    console.close(force=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """`skep lab` as a user starts it, and the link that it prints."""
    folder = tmp_path_factory.mktemp("lab")
    env = {**os.environ, "SKEP_HOME": str(HOME), "XDG_STATE_HOME": str(folder / "state"), "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    env.pop("JUPYTER_PATH", None)
    process = subprocess.Popen([SKEP, "lab", "--no-browser", "--folder", str(folder / "course")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True)
    link = None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\S+", line):
            link = found[0]
            break
    assert link, "the link was printed"
    yield link
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=20)


@pytest.fixture(scope="module")
def page(lab):
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.set_default_timeout(60_000)
        go_when_it_answers(page, lesson(lab, "01-what-a-cluster-is/what-a-cluster-is"))
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_selector("text=Rust (Skep)")
        yield page
        browser.close()


def go_when_it_answers(page, address):
    """A server prints its link before it listens there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return page.goto(address)
        except Exception:
            assert time.monotonic() < deadline, f"{address} answers"
            time.sleep(0.3)


def lesson(link, name):
    assert "overview.ipynb" in link, "the overview opens first"
    return link.replace("overview.ipynb", f"{name}.ipynb")


def menu(page, *names):
    page.click(f"li.lm-MenuBar-item:has-text('{names[0]}')")
    for name in names[1:]:
        page.click(f".lm-Menu-itemLabel:text-is('{name}')")


def new_cell(page, code, run=True):
    """A cell at the end of the notebook, typed as a person does."""
    page.keyboard.press("Escape")
    for _ in range(5):
        # A control that was used keeps the keys; and in the middle of a cell there may be another one.
        page.evaluate("document.activeElement.blur()")
        page.locator(".jp-Notebook .jp-Cell").last.locator(".jp-InputArea-prompt").first.click()
        page.keyboard.press("Escape")
        page.keyboard.press("b")
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        if page.evaluate("document.activeElement.classList.contains('cm-content') && !document.activeElement.innerText.trim()"):
            break
    page.keyboard.insert_text(code)
    if run:
        page.keyboard.press("Control+Enter")
    return page.locator(".jp-Notebook .jp-Cell").last


def shot(page, name):
    if SHOTS.exists():
        page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=False)


def idle(page):
    expect(page.locator(".jp-Notebook .jp-InputPrompt:has-text('[*]')")).to_have_count(0, timeout=120_000)


def test_the_private_environment_has_all_that_it_needs(lab):
    python = pathlib.Path(os.environ["SKEP_CACHE"]) / "python/bin/python"
    said = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True).stdout
    assert said.strip() == "dask-labextension 7.0.0 requires bokeh, which is not installed.", said
    subprocess.run([python, "-c", "import dask_labextension.manager, jupyter_server_proxy"], check=True)


def test_the_token_is_on_no_command_line(lab):
    token = lab.rsplit("token=", 1)[1]
    assert len(token) >= 32
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                assert token not in (entry / "cmdline").read_text(), entry
            except OSError:
                pass


def test_run_all_shows_the_graph_and_progress_that_moves(page):
    menu(page, "Run", "Run All Cells")
    idle(page)
    squares = page.locator(".jp-CodeCell:has-text('slow_square')").first
    squares.scroll_into_view_if_needed()
    expect(squares.locator(".jp-OutputArea-output:has-text('16 / 16')")).to_be_visible(timeout=60_000)
    # A bar of two seconds; the page writes down what it shows, since a look from outside may come late.
    page.evaluate("""() => {
        window.barsSeen = new Set();
        const look = () => document.body.innerText.match(/\\b\\d+ \\/ 20\\b/g)?.forEach(text => window.barsSeen.add(text));
        new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
    }""")
    cubes = new_cell(page, "fn slow_cube(x: i64) -> i64 { sleep(Duration::from_millis(200)); x * x * x }\ncluster.gather(&cluster.map(slow_cube, 1..=20))?")
    expect(cubes.locator(".jp-OutputArea-output:has-text('20 / 20')")).to_be_visible(timeout=60_000)
    idle(page)
    seen = page.evaluate("[...window.barsSeen]")
    assert len(seen) >= 3, f"the bar moves while the cell runs: {seen}"
    # Cells below what is on the screen are not there yet for the page, and may still run.
    expect(page.locator("text=✗ Exercise 1.1").first).to_be_attached(timeout=60_000)
    graph = new_cell(page, "let result = delayed!(add(slow_inc(1), slow_inc(2))); result.graph()")
    idle(page)
    graph.scroll_into_view_if_needed()
    image = graph.locator(".jp-RenderedSVG img, .jp-RenderedSVG svg")
    expect(image.first).to_be_visible()
    assert image.first.bounding_box()["width"] > 100
    shot(page, "graph-light")


def solve(page, exercise):
    """As a learner: a hint, another one, the solution in a new cell, which is run."""
    for n in (1, 2):
        cell = new_cell(page, f":hint {exercise}")
        idle(page)
        expect(cell.locator(".jp-OutputArea-output")).to_contain_text(f"hint {n} of 3")
    new_cell(page, f":solution {exercise}")
    idle(page)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    page.locator(".jp-Notebook .jp-CodeCell").last.click()
    page.keyboard.press("Control+Enter")
    idle(page)
    last = page.locator(".jp-Notebook .jp-CodeCell").last
    expect(last.locator(".jp-OutputArea-output").last).to_contain_text(f"✓ Exercise {exercise}", timeout=60_000)


def test_a_learner_in_lesson_1(page):
    shot(page, "lesson-1")
    solve(page, "1.1")
    shot(page, "lesson-1-solved")


def test_tab_completes(page):
    new_cell(page, "let answer_of_all = 42;")
    idle(page)
    new_cell(page, "answer_of", run=False)
    page.keyboard.press("Tab")
    expect(page.locator(".jp-Completer:has-text('answer_of_all')")).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    idle(page)
    expect(page.locator(".jp-OutputArea-executeResult >> text=42").last).to_be_visible()


def test_interrupt_keeps_the_variables(page):
    new_cell(page, "let kept_after = 77; loop {}")
    expect(page.locator(".jp-InputPrompt:has-text('[*]')")).to_have_count(1)
    page.wait_for_timeout(1000)
    page.click("jp-button[data-command='notebook:interrupt-kernel'], [data-command='notebook:interrupt-kernel'] jp-button, button[data-command='notebook:interrupt-kernel']")
    idle(page)
    cell = new_cell(page, "answer_of_all + 1")
    idle(page)
    expect(cell.locator(".jp-OutputArea-output")).to_have_text("43")


def test_a_question_is_answered_below_its_cell(page):
    cell = new_cell(page, "?:time")
    idle(page)
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text(":time CODE")


def test_input_is_asked_for_in_the_page(page):
    cell = new_cell(page, 'input("your name? ")?')
    box = cell.locator("input.jp-Stdin-input")
    expect(box).to_be_visible()
    box.fill("Ada")
    box.press("Enter")
    idle(page)
    expect(cell.locator(".jp-OutputArea-executeResult")).to_contain_text("Ada")


def test_dark_theme(page):
    menu(page, "Settings", "Theme", "JupyterLab Dark")
    page.wait_for_timeout(800)
    page.locator(".jp-CodeCell:has-text('slow_square')").first.scroll_into_view_if_needed()
    assert page.evaluate("document.body.dataset.jpThemeLight") == "false"
    bar = page.locator(".jp-CodeCell:has-text('slow_square') .jp-RenderedHTMLCommon").first
    colour = bar.evaluate("e => getComputedStyle(e.querySelector('div')).color")
    assert sum(map(int, re.findall(r"\d+", colour)[:3])) > 300, f"text is light on dark: {colour}"
    shot(page, "progress-dark")
    cell = new_cell(page, ":tasks")
    idle(page)
    cell.scroll_into_view_if_needed()
    shot(page, "tasks-dark")
    menu(page, "Settings", "Theme", "JupyterLab Light")


def test_the_page_of_the_cluster_is_in_the_notebook_and_in_the_sidebar(page):
    cell = new_cell(page, "let cluster = Cluster::local().workers(2).start()?; cluster.gather(cluster.map(|x: u64| x + 1, 0..50u64))?; cluster.dashboard()?")
    idle(page)
    link = cell.locator(".jp-OutputArea-executeResult a").first.get_attribute("href")
    assert link.startswith("/proxy/"), "by Jupyter's own port, so that it works behind a hub too"
    page.wait_for_timeout(1500)
    inside = next(frame for frame in page.frames if "/proxy/" in frame.url and "/with/" in frame.url)
    expect(inside.get_by_text("2 workers,")).to_be_visible()
    cell.scroll_into_view_if_needed()
    shot(page, "dashboard-inline")
    # Dask's own extension for JupyterLab, as people know it.
    page.click("li.lm-TabBar-tab[data-id='dask-dashboard-launcher']")
    pane = page.locator(".dask-DashboardListing-list button", has_text="Progress")
    expect(pane).to_be_enabled(timeout=30_000)
    pane.click()
    docked = page.frame_locator("iframe[src*='pane/progress']")
    expect(docked.locator("h2:visible")).to_have_text("Progress")
    expect(docked.locator("#rows .row")).not_to_have_count(0)
    shot(page, "dashboard-docked")
    page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text="Progress").locator(".lm-TabBar-tabCloseIcon").click()
    page.click("li.lm-TabBar-tab[data-id='dask-dashboard-launcher']")
    # A cell below it: what is typed into the page does not come to the notebook.
    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Escape")
    page.keyboard.press("b")


def test_sliders_move_in_the_page(page):
    page.set_viewport_size({"width": 1200, "height": 900})
    code = 'interact((slider("points", 5..=50).initial(10), select("kind", ["line", "scatter"])), |(n, kind)| { let table = df!("x" => (0..n).collect::<Vec<i32>>(), "y" => (0..n).map(|x| x * x).collect::<Vec<i32>>()).unwrap(); if kind == "line" { table.plot().line("x", ["y"]) } else { table.plot().scatter("x", ["y"]) } });'
    cell = new_cell(page, code)
    idle(page)
    handle = cell.locator(".noUi-handle")
    expect(handle).to_be_visible()
    cell.scroll_into_view_if_needed()
    chart = cell.locator(".jp-OutputArea-output svg, .jp-OutputArea-output img").last
    expect(chart).to_be_visible()
    before = chart.evaluate("e => e.outerHTML")
    shot(page, "slider-before")
    handle.click()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(cell.locator(".widget-readout")).to_have_text("30")
    page.wait_for_timeout(1000)
    after = cell.locator(".jp-OutputArea-output svg, .jp-OutputArea-output img").last.evaluate("e => e.outerHTML")
    assert after != before, "the chart is redrawn"
    cell.locator("select").select_option("scatter")
    page.wait_for_timeout(800)
    shot(page, "slider-after")
    # One that changes the number of workers, with the bar of its tasks below it.
    workers = 'let cluster = Cluster::local().workers(1).start()?; let c = cluster.clone(); interact(slider("workers", 1..=3), move |n: usize| { c.scale(n)?; c.gather(&c.map(|x: u64| { sleep(Duration::from_millis(300)); x }, 0..6))?; Ok::<_, skep::Error>(c.clone()) });'
    cell = new_cell(page, workers)
    idle(page)
    cell.scroll_into_view_if_needed()
    cell.locator(".noUi-handle").click()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(cell.locator(".jp-OutputArea-output").last).to_contain_text("Cluster: 3 workers", timeout=20_000)
    shot(page, "slider-workers")


def test_controls_in_the_dark_and_after_a_reload(page):
    menu(page, "Settings", "Theme", "JupyterLab Dark")
    code = 'button("again").on_click(|| println!("pressed")); let f = text("airports that begin with", "J"); display(f.clone()); display(checkbox("sorted", true)); display(number("seed", 42_u64)); button("go").on_click(|| "went")'
    cell = new_cell(page, code)
    idle(page)
    cell.scroll_into_view_if_needed()
    cell.locator("button", has_text="go").click()
    expect(cell.locator(".jp-OutputArea-output").last).to_contain_text("went")
    cell.locator("input[type=text]").fill("LAX")
    cell.locator("input[type=text]").press("Enter")
    page.wait_for_timeout(500)
    shot(page, "controls-dark")
    read = new_cell(page, "f.value()")
    idle(page)
    expect(read.locator(".jp-OutputArea-output")).to_have_text('"LAX"')
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    again = page.locator(".jp-CodeCell:has-text('airports that begin with') input[type=text]")
    again.scroll_into_view_if_needed()
    expect(again).to_have_value("LAX", timeout=20_000)
    shot(page, "controls-after-reload")
    menu(page, "Settings", "Theme", "JupyterLab Light")


def test_restart_forgets_and_goes_on(page):
    menu(page, "Kernel", "Restart Kernel…")
    page.click(".jp-Dialog button:has-text('Restart')")
    page.wait_for_timeout(1500)
    cell = new_cell(page, "answer_of_all")
    idle(page)
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("E0425")
    cell = new_cell(page, "1 + 1")
    idle(page)
    expect(cell.locator(".jp-OutputArea-executeResult")).to_contain_text("2")


def test_a_learner_in_lesson_5(page, lab):
    page.goto(lesson(lab, "05-frames/frames"))
    page.wait_for_selector("h1:has-text('Lesson 5: Frames')")
    page.wait_for_selector(".jp-KernelName:visible:has-text('Rust (Skep)')")
    menu(page, "Run", "Run All Cells")
    expect(page.locator("text=○ Exercise 5.1").first).to_be_attached(timeout=90_000)
    expect(page.locator("text=✗ Exercise 5.2").first).to_be_attached(timeout=90_000)
    idle(page)
    solve(page, "5.1")
    shot(page, "lesson-5-solved")
    menu(page, "Settings", "Theme", "JupyterLab Dark")
    page.wait_for_timeout(800)
    verdict = page.locator(".jp-Notebook .jp-CodeCell").last.locator(".jp-OutputArea-executeResult div").last
    colour = verdict.evaluate("e => getComputedStyle(e).color")
    assert sum(map(int, re.findall(r"\d+", colour)[:3])) > 300, f"text is light on dark: {colour}"
    shot(page, "lesson-5-dark")
    menu(page, "Settings", "Theme", "JupyterLab Light")
    chart = page.locator(".jp-CodeCell:has-text('histogram')").first
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".jp-RenderedSVG img, .jp-RenderedSVG svg").first).to_be_visible()
    shot(page, "lesson-5-chart")


def test_the_overview(page, lab):
    page.goto(lab)
    page.wait_for_selector("h1:has-text('The Skep course')")
    expect(page.locator("text=When things go wrong").first).to_be_attached()
    shot(page, "overview")
