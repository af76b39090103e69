"""Controls: sliders and the like as Jupyter's widgets, as questions in a terminal, as pictures where nobody sets them."""

import json
import subprocess
import sys
import time

import nbformat
import pytest

from conftest import SKEP
from test_repl import Terminal

VIEW = "application/vnd.jupyter.widget-view+json"


def comms(result):
    """The models that a cell opened, by their names, with their ids."""
    opened = [m for m in result.messages if m["msg_type"] == "comm_open"]
    assert all(m["metadata"] == {"version": "2.1.0"} for m in opened), "the front end refuses others"
    return {m["content"]["data"]["state"]["_model_name"]: m["content"] for m in opened}


def said(kernel, comm_id, data):
    """Sends what a front end says on a comm, and returns what is published for it, busy to idle."""
    message = kernel.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
    kernel.client.shell_channel.send(message)
    messages = []
    while True:
        heard = kernel.client.get_iopub_msg(timeout=30)
        if heard["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        messages.append(heard)
        if heard["content"].get("execution_state") == "idle":
            return messages


def set_to(kernel, comm_id, **state):
    return said(kernel, comm_id, {"method": "update", "state": state, "buffer_paths": []})


def below(messages):
    """What stands below the control after this."""
    updates = [m["content"] for m in messages if m["msg_type"] == "update_display_data"]
    assert updates, [m["msg_type"] for m in messages]
    return updates[-1]["data"]


def test_a_slider_redraws_what_stands_below_it(kernel):
    made = kernel.execute("interact(slider(\"n\", 1..=10).initial(3), |n| { println!(\"squaring\"); n * n });")
    slider = comms(made)["IntSliderModel"]
    state = slider["data"]["state"]
    assert (state["value"], state["min"], state["max"], state["step"]) == (3, 1, 10, 1)
    shown, place = made.of("display_data")
    assert shown["data"][VIEW]["model_id"] == slider["comm_id"]
    assert shown["data"]["text/plain"] == "n: 3 (1 to 10)" and "<div" in shown["data"]["text/html"], "a picture for the saved notebook"
    assert place["data"] == {}, "it takes no room before it is filled"
    first = [u for u in made.of("update_display_data") if u["transient"]["display_id"] == place["transient"]["display_id"]]
    assert first[-1]["data"]["text/plain"] == "squaring\n\n9"
    again = set_to(kernel, slider["comm_id"], value=7)
    assert below(again)["text/plain"] == "squaring\n\n49"
    assert kernel.execute("1 + 1").text == "2", "and cells go on"


def test_every_control_gives_a_value_of_its_type(kernel):
    made = kernel.execute(
        "let a = slider(\"a\", 0.0..=1.0).step(0.25); let b = number(\"b\", 5_u8); let c = select(\"c\", [\"mean\", \"sum\"]);\n"
        "let d = checkbox(\"d\", false); let e = text(\"e\", \"\"); let f = button(\"f\");\n"
        "for control in [a.bundle(), b.bundle(), c.bundle(), d.bundle(), e.bundle(), f.bundle()] { display(control); }"
    )
    models = comms(made)
    id = {name: models[f"{name}Model"]["comm_id"] for name in ("FloatSlider", "IntText", "Dropdown", "Checkbox", "Text", "Button")}
    set_to(kernel, id["FloatSlider"], value=0.6)
    set_to(kernel, id["IntText"], value=300)
    set_to(kernel, id["Dropdown"], index=1)
    set_to(kernel, id["Checkbox"], value=True)
    set_to(kernel, id["Text"], value="JFK “é”")
    for _ in range(2):
        said(kernel, id["Button"], {"method": "custom", "content": {"event": "click"}})
    assert kernel.execute("(a.value(), b.value(), c.value(), d.value(), e.value(), f.value().0)").text == '(0.5, 255, "sum", true, "JFK “é”", 2)'
    changed = kernel.execute("a.set(1.0); c.set(\"mean\"); c.set(\"mode\");")
    updates = {m["content"]["comm_id"]: m["content"]["data"]["state"] for m in changed.messages if m["msg_type"] == "comm_msg"}
    assert updates[id["FloatSlider"]]["value"] == 1.0 and updates[id["Dropdown"]]["index"] == 0
    assert "`c` cannot be set to `mode`" in changed.notes


def test_a_page_that_comes_later_asks_for_the_models(fresh):
    slider = comms(fresh.execute("slider(\"n\", 1..=8)"))["IntSliderModel"]["comm_id"]
    set_to(fresh, slider, value=5)
    info = fresh.client.session.msg("comm_info_request", {"target_name": "jupyter.widget"})
    fresh.client.shell_channel.send(info)
    reply = fresh.client.get_shell_msg(timeout=20)
    assert set(reply["content"]["comms"]) == {slider, f"{slider}-layout", f"{slider}-style"}
    [state] = [m["content"]["data"]["state"] for m in said(fresh, slider, {"method": "request_state"}) if m["msg_type"] == "comm_msg"]
    assert state["value"] == 5 and state["_model_name"] == "IntSliderModel"
    opened = fresh.client.session.msg("comm_open", {"comm_id": "all", "target_name": "jupyter.widget.control", "data": {}})
    fresh.client.shell_channel.send(opened)
    [states] = [m for m in said(fresh, "all", {"method": "request_states"}) if m["msg_type"] == "comm_msg"]
    assert states["metadata"] == {"version": "1.0.0"} and states["content"]["data"]["states"][slider]["state"]["value"] == 5


def test_it_is_said_why_something_failed(kernel):
    made = kernel.execute("interact(slider(\"n\", 0..=3), |n: i32| 12 / n);")
    slider = comms(made)["IntSliderModel"]["comm_id"]
    assert made.status == "ok"
    failed = [u["data"] for u in made.of("update_display_data")][-1]
    assert "attempt to divide by zero" in failed["text/plain"] and "line 1" in failed["text/plain"], failed
    assert below(set_to(kernel, slider, value=3))["text/plain"] == "4"
    made = kernel.execute("fn parse(text: &str) -> Result<i32, std::num::ParseIntError> { text.parse() }\ninteract(text(\"number\", \"x\"), |text| parse(&text));")
    words = comms(made)["TextModel"]["comm_id"]
    assert below(made.messages)["text/plain"] == "error: invalid digit found in string"
    assert below(set_to(kernel, words, value="12"))["text/plain"] == "12"


def test_what_reacts_runs_after_the_cell_and_an_interrupt_ends_it(kernel):
    made = kernel.execute("let n = slider(\"n\", 0..=9); n.on_change(|n| { sleep(Duration::from_secs(if n == 9 { 60 } else { 0 })); n })")
    slider = comms(made)["IntSliderModel"]["comm_id"]
    running = kernel.client.execute("sleep(Duration::from_millis(600)); n.value()")
    time.sleep(0.1)
    kernel.client.shell_channel.send(kernel.client.session.msg("comm_msg", {"comm_id": slider, "data": {"method": "update", "state": {"value": 4}}}))
    assert kernel.finish(running).text == "0", "it is set after the cell"
    assert kernel.execute("n.value()").text == "4"
    long = kernel.client.session.msg("comm_msg", {"comm_id": slider, "data": {"method": "update", "state": {"value": 9}}})
    kernel.client.shell_channel.send(long)
    time.sleep(0.3)
    began = time.monotonic()
    kernel.interrupt()
    assert kernel.execute("n.value()").text == "9"
    assert time.monotonic() - began < 5


def test_what_cannot_be_stopped_does_not_hold_up_what_comes_next(fresh):
    made = fresh.execute("let n = slider(\"n\", 0..=9); n.on_change(|n| { if n == 9 { std::thread::sleep(Duration::from_secs(40)); } n })")
    slider = comms(made)["IntSliderModel"]["comm_id"]
    fresh.client.shell_channel.send(fresh.client.session.msg("comm_msg", {"comm_id": slider, "data": {"method": "update", "state": {"value": 9}}}))
    time.sleep(0.5)
    fresh.interrupt()
    began = time.monotonic()
    assert "still runs" in below(set_to(fresh, slider, value=3))["text/plain"]
    assert fresh.execute("n.value()").text == "3" and time.monotonic() - began < 20


def test_a_slider_changes_the_number_of_workers(fresh):
    fresh.execute("let cluster = Cluster::local().workers(1).start()?;")
    made = fresh.execute("let c = cluster.clone(); interact(slider(\"workers\", 1..=3), move |n: usize| { c.scale(n)?; c.gather(&c.map(|x: u64| { sleep(Duration::from_millis(300)); x }, 0..3))?; Ok::<_, skep::Error>(c.clone()) });")
    assert made.status == "ok", made.reply
    slider = comms(made)["IntSliderModel"]["comm_id"]
    assert below(made.messages)["text/plain"].count("worker-") >= 1
    after = below(set_to(fresh, slider, value=3))
    assert after["text/plain"].count("worker-") >= 3 and "3 of 3 tasks" in after["text/plain"], after["text/plain"]


def test_controls_of_a_process_that_is_gone_become_pictures(fresh):
    made = fresh.execute("slider(\"n\", 1..=8)")
    slider = comms(made)["IntSliderModel"]["comm_id"]
    place = made.of("display_data")[0]["transient"]["display_id"]
    set_to(fresh, slider, value=6)
    died = fresh.execute("std::process::abort()")
    closed = [m["content"]["comm_id"] for m in died.messages if m["msg_type"] == "comm_close"]
    assert set(closed) == {slider, f"{slider}-layout", f"{slider}-style"}
    [picture] = [u for u in died.of("update_display_data") if u["transient"]["display_id"] == place]
    assert picture["data"]["text/plain"] == "n: 6 (1 to 8)" and VIEW not in picture["data"]
    set_to(fresh, slider, value=2)
    assert fresh.execute("slider(\"n\", 1..=8)").status == "ok"


def test_what_is_out_of_range_and_what_a_button_gives(kernel):
    made = kernel.execute("let b = number(\"b\", 5_u8); display(b.clone()); interact(button(\"go\"), |n| n);")
    models = comms(made)
    echoed = [m["content"]["data"]["state"]["value"] for m in set_to(kernel, models["IntTextModel"]["comm_id"], value=300) if m["msg_type"] == "comm_msg"]
    assert echoed == [255] and kernel.execute("b.value()").text == "255", "the page is told"
    assert below(made.messages)["text/plain"] == "0"
    assert below(said(kernel, models["ButtonModel"]["comm_id"], {"method": "custom", "content": {"event": "click"}}))["text/plain"] == "1"
    assert kernel.execute("let k = slider(\"k\", 0.0..=3.0).step(0.3); k.set(1.0); k.value()").text == "0.9"


@pytest.mark.parametrize(
    "message",
    [
        {"comm_id": "nobody", "data": {"method": "update", "state": {"value": 1}}},
        {"comm_id": "skep-zz", "data": {}},
        {"comm_id": "", "data": {"method": "request_state"}},
        {"comm_id": "skep-1", "data": {"method": "custom", "content": 7}},
    ],
)
def test_nonsense_on_comms_is_heard_and_forgotten(kernel, message):
    assert [m["msg_type"] for m in said(kernel, message["comm_id"], message["data"])] == ["status", "status"]
    assert kernel.execute("6 * 7").text == "42"


def test_a_terminal_asks_for_the_values(tmp_path):
    terminal = Terminal(tmp_path, NO_COLOR="1")
    terminal.prompt(1)
    terminal.enter("interact((slider(\"n\", 1..=10), select(\"how\", [\"twice\", \"square\"])), |(n, how)| if how == \"twice\" { 2 * n } else { n * n });")
    terminal.expect_exact("n (1 to 10) [1]: ")
    assert "2" in terminal.before
    terminal.send("eleven\n")
    terminal.expect_exact("`eleven` is no number")
    terminal.expect_exact("n (1 to 10) [1]: ")
    terminal.send("8\n")
    terminal.expect_exact("16")
    terminal.expect_exact("how (twice, square) [twice]: ")
    terminal.send("square\n")
    terminal.expect_exact("64")
    terminal.expect_exact("n (1 to 10) [8]: ")
    terminal.send("\n")
    terminal.expect_exact("how (twice, square) [square]: ")
    terminal.send("\n")
    terminal.prompt(2)
    terminal.enter("let k = number(\"k\", 1.5); k")
    terminal.expect_exact("k [1.5]: ")
    terminal.send("2\n")
    terminal.prompt(3)
    terminal.enter("k.value()")
    terminal.expect_exact("2.0")
    terminal.prompt(4)
    terminal.enter("interact(k.clone(), |k| k + 0.25)")
    terminal.expect_exact("k [2]: ")
    terminal.sendintr()
    terminal.prompt(5)
    # A value that fails is told, and another one may be tried.
    terminal.enter("interact(slider(\"d\", 0..=9), |d: i32| 12 / d)")
    terminal.expect_exact("attempt to divide by zero")
    terminal.expect_exact("d (0 to 9) [0]: ")
    terminal.send("4\n")
    terminal.expect_exact("3")
    terminal.expect_exact("d (0 to 9) [4]: ")
    terminal.send("\n")
    terminal.prompt(6)
    terminal.close(force=True)


def test_scripts_and_executed_notebooks_hold_pictures(tmp_path):
    cells = ["interact(slider(\"n\", 1..=4).initial(2), |n| n * 100);", "checkbox(\"sorted\", true)"]
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "skep", "display_name": "Rust (Skep)", "language": "rust"}})
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    done = subprocess.run([SKEP, "run", "in.ipynb", "--output", "out.ipynb"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["n: 2 (1 to 4)", "200", "sorted: yes"]
    out = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    nbformat.validate(out)
    assert "skep.control" not in json.dumps(out) and "☑" in json.dumps(out, ensure_ascii=False)
    (tmp_path / "fails.rs").write_text("interact(slider(\"n\", 0..=4), |n: i32| 1 / n);\n")
    failed = subprocess.run([SKEP, "run", "fails.rs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "divide by zero" in failed.stderr
    # nbconvert as people use it: a page holds the picture, or the live control.
    html = subprocess.run([sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "in.ipynb"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert html.returncode == 0, html.stderr
    page = (tmp_path / "in.html").read_text()
    assert "200" in page and "sorted" in page
