"""Exact transcripts: every message of a conversation, in order, and not one more."""

import os
import re
import signal
import time

import pytest

from conftest import processes
from frontend import BUSY, IDLE, FrontEnd, stdout


@pytest.fixture
def page(fresh):
    front_end = FrontEnd(fresh.manager.get_connection_info())
    yield front_end
    front_end.close()


def code_of(code, n):
    return ("execute_input", {"code": code, "execution_count": n})


def test_a_cell_that_prints_shows_and_returns(page):
    code = 'println!("a"); eprintln!("b"); display(1); print!("no newline"); 1 + 1'
    page.expect(
        page.execute(code), BUSY, code_of(code, 1), stdout("a\n"), ("stream", {"name": "stderr", "text": "b\n"}), ("display_data", {}), stdout("no newline"),
        ("execute_result", {"execution_count": 1}), IDLE, reply=("execute_reply", {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}),
    )


def test_silent_shows_no_input_and_no_result_and_counts_nothing(page):
    page.expect(page.execute("1 + 1", silent=True), BUSY, IDLE, reply=("execute_reply", {"status": "ok", "execution_count": 0}))
    page.expect(page.execute("nope", silent=True), BUSY, IDLE, reply=("execute_reply", {"status": "error"}))
    page.expect(page.execute("2"), BUSY, code_of("2", 1), "execute_result", IDLE, reply=("execute_reply", {"execution_count": 1}))


def test_store_history_false_leaves_the_count_and_the_history(page):
    page.expect(page.execute("1"), BUSY, code_of("1", 1), "execute_result", IDLE, reply=("execute_reply", {"execution_count": 1}))
    page.expect(page.execute("2", store_history=False), BUSY, code_of("2", 1), "execute_result", IDLE, reply=("execute_reply", {"execution_count": 1}))
    reply = page.expect(page.send("history_request", {"hist_access_type": "tail", "n": 9, "output": True, "raw": True}), BUSY, IDLE, reply=("history_reply", {"status": "ok"}))
    assert [entry[2] for entry in reply["history"]] == [["1", "1"]]


def test_stop_on_error_aborts_what_is_queued(page):
    ids = [page.execute(code) for code in ("sleep(Duration::from_millis(300)); nope", "1", "2")]
    page.expect(ids[0], BUSY, "execute_input", "error", IDLE, reply=("execute_reply", {"status": "error", "ename": "E0425"}))
    for msg_id in ids[1:]:
        page.expect(msg_id, BUSY, IDLE, reply=("execute_reply", {"status": "aborted"}))


def test_stop_on_error_false_goes_on(page):
    first, second = page.execute("nope", stop_on_error=False), page.execute("7")
    page.expect(first, BUSY, "execute_input", "error", IDLE, reply=("execute_reply", {"status": "error"}))
    page.expect(second, BUSY, code_of("7", 2), "execute_result", IDLE, reply=("execute_reply", {"status": "ok"}))


def test_user_expressions_come_with_the_reply_only(page):
    reply = page.expect(page.execute("let u = 20;", user_expressions={"good": "u + 1", "bad": "nope"}), BUSY, "execute_input", IDLE, reply=("execute_reply", {"status": "ok"}))
    assert reply["user_expressions"]["good"]["data"]["text/plain"] == "21"
    assert reply["user_expressions"]["bad"]["status"] == "error" and reply["user_expressions"]["bad"]["ename"] == "E0425"


def test_input_and_password_and_standard_input(page):
    for code, prompt, is_password in (('input("name? ")?', "name? ", False), ('password("key? ")?', "key? ", True)):
        msg_id = page.execute(code, allow_stdin=True)
        page.expect(msg_id, BUSY, "execute_input")
        asked = page.next("stdin")
        assert asked["msg_type"] == "input_request" and asked["content"] == {"prompt": prompt, "password": is_password}
        page.send("input_reply", {"value": "Ada"}, channel="stdin")
        page.expect(msg_id, "execute_result", IDLE, reply=("execute_reply", {"status": "ok"}))
    code = "use std::io::BufRead; let mut lines = std::io::stdin().lock().lines(); (lines.next().unwrap()?, lines.next().unwrap()?)"
    msg_id = page.execute(code, allow_stdin=True)
    page.expect(msg_id, BUSY, "execute_input")
    for answer in ("one", "two"):
        assert page.next("stdin")["content"] == {"prompt": "", "password": False}
        page.send("input_reply", {"value": answer}, channel="stdin")
    assert page.next("iopub")["content"]["data"]["text/plain"] == '("one", "two")'
    page.expect(msg_id, IDLE, reply=("execute_reply", {"status": "ok"}))


def test_without_stdin_input_fails_and_standard_input_is_empty(page):
    page.expect(page.execute('input("x")?'), BUSY, "execute_input", "error", IDLE, reply=("execute_reply", {"status": "error"}))
    code = "let mut s = String::new(); std::io::stdin().read_line(&mut s)?"
    page.expect(page.execute(code), BUSY, "execute_input", "execute_result", IDLE, reply=("execute_reply", {"status": "ok"}))


def test_displays_are_updated_mid_cell_and_from_another_cell(page):
    msg_id = page.execute('let shown = display("one"); shown.update("two"); clear_output(true); println!("x");')
    page.expect(msg_id, BUSY, "execute_input")
    first = page.next("iopub")
    assert first["msg_type"] == "display_data" and first["content"]["data"]["text/plain"] == "one"
    display_id = first["content"]["transient"]["display_id"]
    update = page.next("iopub")
    assert update["msg_type"] == "update_display_data" and update["content"]["transient"]["display_id"] == display_id
    page.expect(msg_id, ("clear_output", {"wait": True}), stdout("x\n"), IDLE, reply=("execute_reply", {"status": "ok"}))
    msg_id = page.execute('shown.update("three");')
    page.expect(msg_id, BUSY, "execute_input")
    update = page.next("iopub")
    assert (update["content"]["transient"]["display_id"], update["content"]["data"]["text/plain"]) == (display_id, "three")
    page.expect(msg_id, IDLE, reply=("execute_reply", {"status": "ok"}))


def test_comms_are_closed_and_none_is_known(page):
    opened = page.send("comm_open", {"comm_id": "c1", "target_name": "nobody", "data": {}})
    page.expect(opened, BUSY, ("comm_close", {"comm_id": "c1"}), IDLE)
    page.expect(page.send("comm_msg", {"comm_id": "c1", "data": {}}), BUSY, IDLE)
    page.expect(page.send("comm_close", {"comm_id": "c1", "data": {}}), BUSY, IDLE)
    page.expect(page.send("comm_info_request", {}), BUSY, IDLE, reply=("comm_info_reply", {"status": "ok", "comms": {}}))


def test_history_reaches_over_sessions(fresh, tmp_path):
    from conftest import Kernel

    fresh.execute("let a = 1;")
    fresh.execute("a + 1")
    with_same_history = Kernel(tmp_path)
    try:
        page = FrontEnd(with_same_history.manager.get_connection_info())
        page.expect(page.execute("let b = 2;"), BUSY, "execute_input", IDLE, reply=("execute_reply", {"status": "ok"}))
        ask = lambda **options: page.expect(page.send("history_request", {"output": False, "raw": True, **options}), BUSY, IDLE, reply=("history_reply", {"status": "ok"}))["history"]
        assert [entry[2] for entry in ask(hist_access_type="tail", n=3)] == ["let a = 1;", "a + 1", "let b = 2;"]
        assert [entry[2] for entry in ask(hist_access_type="range", session=-1, start=2, stop=9)] == ["a + 1"]
        assert [entry[2] for entry in ask(hist_access_type="range", session=0, start=1, stop=9)] == ["let b = 2;"]
        assert [entry[2] for entry in ask(hist_access_type="search", pattern="let ?*", n=5, unique=True)] == ["let a = 1;", "let b = 2;"]
        page.close()
    finally:
        with_same_history.close()


def test_completion_and_inspection_count_code_points(page):
    page.expect(page.execute("let visible = 1;"), BUSY, "execute_input", IDLE, reply=("execute_reply", {}))
    code = 'let é = "🐝"; visi'
    reply = page.expect(page.send("complete_request", {"code": code, "cursor_pos": len(code)}), BUSY, IDLE, reply=("complete_reply", {"status": "ok"}))
    assert reply["matches"] == ["visible"] and (reply["cursor_start"], reply["cursor_end"]) == (len(code) - 4, len(code))
    assert reply["metadata"]["_jupyter_types_experimental"][0]["signature"] == "i32"
    reply = page.expect(page.send("inspect_request", {"code": code + "ble", "cursor_pos": len(code), "detail_level": 0}), BUSY, IDLE, reply=("inspect_reply", {"status": "ok", "found": True}))
    assert "let visible: i32" in reply["data"]["text/plain"] and "text/markdown" in reply["data"]
    page.expect(page.send("inspect_request", {"code": "nothing_here", "cursor_pos": 3, "detail_level": 0}), BUSY, IDLE, reply=("inspect_reply", {"status": "ok", "found": False}))
    page.expect(page.send("is_complete_request", {"code": "for i in 0..3 {\n    if x {"}), BUSY, IDLE, reply=("is_complete_reply", {"status": "incomplete", "indent": "        "}))


def test_a_question_is_answered_in_the_pager(page):
    reply = page.expect(page.execute("?:vars"), BUSY, "execute_input", IDLE, reply=("execute_reply", {"status": "ok"}))
    assert reply["payload"][0]["source"] == "page" and ":vars" in reply["payload"][0]["data"]["text/plain"]


def test_read_only_requests_are_answered_within_50_ms_while_a_cell_runs(page):
    page.expect(page.execute("let cluster = Cluster::local().workers(1).start()?; let visible = 1;"), BUSY, "execute_input", IDLE, reply=("execute_reply", {}))
    busy = page.execute("sleep(Duration::from_millis(2500)); 5")
    page.expect(busy, BUSY, "execute_input")
    took = {}

    def ask(name, msg_id, *messages, reply):
        started = time.monotonic()
        page.expect(msg_id, *messages, reply=reply)
        took[name] = round(time.monotonic() - started, 4)

    for _ in range(3):
        ask("complete", page.send("complete_request", {"code": ":va", "cursor_pos": 3}), BUSY, IDLE, reply=("complete_reply", {"matches": [":vars"]}))
        ask("inspect", page.send("inspect_request", {"code": ":vars", "cursor_pos": 3, "detail_level": 0}), BUSY, IDLE, reply=("inspect_reply", {"found": True}))
        ask("is_complete", page.send("is_complete_request", {"code": "f("}), BUSY, IDLE, reply=("is_complete_reply", {"status": "incomplete"}))
        ask("history", page.send("history_request", {"hist_access_type": "tail", "n": 5, "output": False, "raw": True}), BUSY, IDLE, reply=("history_reply", {}))
        ask("comm_info", page.send("comm_info_request", {}), BUSY, IDLE, reply=("comm_info_reply", {}))
        ask("kernel_info", page.send("kernel_info_request", {}), BUSY, IDLE, reply=("kernel_info_reply", {}))
        for command in (":vars", ":cluster", ":workers", ":help"):
            ask(command, page.execute(command), BUSY, "execute_input", "execute_result", IDLE, reply=("execute_reply", {"status": "ok"}))
        ask("?name", page.execute("?:time"), BUSY, "execute_input", IDLE, reply=("execute_reply", {"status": "ok"}))
    slowest = max(took.values())
    assert slowest < 0.05, took
    page.expect(busy, "execute_result", IDLE, reply=("execute_reply", {"status": "ok"}))


@pytest.mark.parametrize("phase", ["compiling", "sleeping", "looping", "waiting for a task", "asking", "library code"])
def test_an_interrupt_in_every_phase_keeps_the_variables(page, phase):
    page.expect(page.execute("let kept = 42; let cluster = Cluster::local().workers(1).start()?;"), BUSY, "execute_input", IDLE, reply=("execute_reply", {}))
    code, wait = {
        # Thousands of impls keep rustc busy for seconds.
        "compiling": ("".join(f"#[derive(Clone, Debug, PartialEq, Serialize)] struct S{i} {{ a: Vec<i32>, b: String }} " for i in range(300)) + "kept", 0.4),
        "sleeping": ("sleep(Duration::from_secs(60)); kept", 0.5),
        "looping": ("let mut n = kept; loop { n += 1; }", 0.5),
        "waiting for a task": ("fn slow(x: i64) -> i64 { std::thread::sleep(Duration::from_secs(60)); x } cluster.submit(slow, kept as i64).gather()?", 1.5),
        "asking": ('input("?")?; kept', 0.5),
        "library code": ("std::thread::sleep(Duration::from_secs(5)); kept", 0.5),
    }[phase]
    msg_id = page.execute(code, allow_stdin=True)
    page.expect(msg_id, BUSY, "execute_input")
    if phase == "asking":
        assert page.next("stdin")["msg_type"] == "input_request"
    else:
        time.sleep(wait)
    interrupt = page.send("interrupt_request", {}, channel="control")
    reply = None
    messages = []
    while reply is None or ("idle", msg_id) not in messages or ("idle", interrupt) not in messages:
        message = page.next("iopub")
        messages.append((message["content"].get("execution_state", message["msg_type"]), message["parent_header"]["msg_id"]))
        if reply is None and messages[-1] == ("idle", msg_id):
            reply = page.next("shell")["content"]
    assert page.next("control")["content"] == {"status": "ok"}
    assert reply["status"] == "error" and reply["ename"] == "Interrupted"
    of_cell = [kind for kind, of in messages if of == msg_id]
    assert [kind for kind in of_cell if kind not in ("display_data", "update_display_data")] == ["error", "idle"], messages
    time.sleep(5.5 if phase == "library code" else 0)
    msg_id = page.execute("kept")
    page.expect(msg_id, BUSY, "execute_input")
    assert page.next("iopub")["content"]["data"]["text/plain"] == "42"
    page.expect(msg_id, IDLE, reply=("execute_reply", {"status": "ok"}))


def test_shutdown_loses_no_message(fresh):
    page = FrontEnd(fresh.manager.get_connection_info())
    cell = page.execute('for i in 0..200 { println!("{}", "x".repeat(1000)); }')
    text = ""
    page.expect(cell, BUSY, "execute_input")
    while True:
        message = page.next("iopub")
        if message["msg_type"] == "status":
            break
        text += message["content"]["text"]
    assert len(text) == 200 * 1001
    assert page.next("shell")["content"]["status"] == "ok"
    msg_id = page.send("shutdown_request", {"restart": True}, channel="control")
    page.expect(msg_id, BUSY, IDLE, reply=("shutdown_reply", {"status": "ok", "restart": True}), channel="control")
    page.close()


def test_a_flood_of_prints_is_gathered_cut_and_leaves_the_kernel_responsive(page):
    msg_id = page.execute('let line = "y".repeat(99); for _ in 0..1_000_000 { println!("{line}"); }')
    page.expect(msg_id, BUSY, "execute_input")
    n_messages, n_bytes, n_asked, slowest = 0, 0, 0, 0
    asked = page.send("kernel_info_request", {})
    sent = time.monotonic()
    note = ""
    while True:
        message = page.next("iopub", timeout=60)
        parent = message["parent_header"]["msg_id"]
        if parent == asked:
            if message["content"].get("execution_state") == "idle":
                assert page.next("shell")["msg_type"] == "kernel_info_reply"
                slowest, n_asked = max(slowest, time.monotonic() - sent), n_asked + 1
                time.sleep(0.02)
                asked, sent = page.send("kernel_info_request", {}), time.monotonic()
        elif message["msg_type"] == "stream":
            n_messages, n_bytes = n_messages + 1, n_bytes + len(message["content"]["text"])
            if message["content"]["name"] == "stderr":
                note += message["content"]["text"]
        else:
            assert message["content"]["execution_state"] == "idle"
            break
    # The reply to the cell and to the last question come in either order.
    kinds = sorted(page.next("shell")["msg_type"] for _ in range(2))
    assert kinds == ["execute_reply", "kernel_info_reply"]
    for _ in range(2):
        page.next("iopub")
    assert n_bytes < 3 << 20 and n_messages < 100, (n_bytes, n_messages)
    assert re.search(r"9\d\.\d MiB of what this cell printed are not shown", note), note
    assert n_asked > 3 and slowest < 0.5, (n_asked, slowest)


def test_a_stalled_subscriber_holds_up_nobody(fresh):
    """One front end stops reading (its process is stopped); the other gets everything."""
    import subprocess
    import sys

    info = fresh.manager.get_connection_info()
    code = (
        "import sys, time, zmq\n"
        "s = zmq.Context.instance().socket(zmq.SUB); s.rcvhwm = 1; s.setsockopt(zmq.RCVBUF, 4096); s.subscribe(b'')\n"
        f"s.connect('tcp://{info['ip']}:{info['iopub_port']}'); s.recv_multipart(); print('subscribed', flush=True); time.sleep(600)\n"
    )
    stalled = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert stalled.stdout.readline().strip() == "subscribed"
        os.kill(stalled.pid, signal.SIGSTOP)
        page = FrontEnd(info)
        big = 'let big = "z".repeat(3 << 20); for _ in 0..40 { display(big.as_str()); }'
        msg_id = page.execute(big)
        page.expect(msg_id, BUSY, "execute_input", *["display_data"] * 40, IDLE, reply=("execute_reply", {"status": "ok"}))
        msg_id = page.execute("1")
        page.expect(msg_id, BUSY, "execute_input", "execute_result", IDLE, reply=("execute_reply", {"status": "ok"}))
        page.close()
    finally:
        stalled.kill()
        stalled.wait()


def test_stale_cells_are_named_once_by_their_last_number(page):
    def run(code, cell_id, *between):
        msg_id = page.execute(code, metadata={"cellId": cell_id})
        page.expect(msg_id, BUSY, "execute_input", *between, IDLE, reply=("execute_reply", {"status": "ok"}))

    class Note:
        def __init__(self, pattern):
            self.pattern = pattern

        def __eq__(self, data):
            return re.fullmatch(self.pattern, data["text/plain"]) is not None

    note = lambda pattern: ("display_data", {"data": Note(pattern)})
    run("fn f(x: i64) -> i64 { x + 1 }", "a")
    run("fn g(x: i64) -> i64 { f(x) * 2 }", "b")
    run("let r = g(1);", "c")
    run("r", "d", "execute_result")
    run("r + 1", "d", "execute_result")
    run("fn f(x: i64) -> i64 { x + 10 }", "a", note(r"note: `f` changed: cells 3 and 5 used the old one; run them again.*"))
    run("fn f(x: i64) -> i64 { x + 100 }", "a")  # said once
    run("let r = g(1);", "c")  # up to date again; `d` is still stale, which was said
    run("let r = g(1);", "c")  # the same cell on the same inputs changes nothing
    run("r + 1", "d", "execute_result")
    run("let r = g(2);", "c", note(r"note: `r` changed: cell 10 used the old one.*"))


def test_compiling_for_over_a_second_shows_progress(page):
    slow = "".join(f"#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)] struct S{i} {{ a: Vec<i32>, b: String, c: Option<Box<S{i}>> }} " for i in range(400))
    msg_id = page.execute(slow)
    page.expect(msg_id, BUSY, "execute_input")
    first = page.next("iopub")
    assert first["msg_type"] == "display_data" and "compiling" in first["content"]["data"]["text/plain"], first
    last = None
    while True:
        message = page.next("iopub", timeout=120)
        if message["msg_type"] == "status":
            break
        assert message["msg_type"] == "update_display_data"
        last = message["content"]["data"]["text/plain"]
    assert re.match(r"compiling took \d", last), last
    assert page.next("shell")["content"]["status"] == "ok"


def test_a_kernel_leaves_no_process_and_no_folder(fresh):
    run = fresh.execute('std::env::var("SKEP_RUN")?').text.strip('"')
    fresh.control("shutdown_request", {"restart": False})
    deadline = time.monotonic() + 5
    while (processes(run) or os.path.exists(run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(run) == [] and not os.path.exists(run)


def interrupt_and_wait(page, cell):
    """Both ends come, in either order."""
    interrupt = page.send("interrupt_request", {}, channel="control")
    seen = set()
    while ("idle", cell) not in seen or ("idle", interrupt) not in seen:
        message = page.next("iopub")
        seen.add((message["content"].get("execution_state", message["msg_type"]), message["parent_header"]["msg_id"]))
    page.next("control"), page.next("shell")


def test_a_question_that_was_interrupted_does_not_answer_the_next(page):
    first = page.execute('input("a")?', allow_stdin=True)
    page.expect(first, BUSY, "execute_input")
    page.next("stdin")
    interrupt_and_wait(page, first)
    second = page.execute('input("b")?', allow_stdin=True)
    page.expect(second, BUSY, "execute_input")
    assert page.next("stdin")["content"]["prompt"] == "b"
    time.sleep(0.3)
    page.send("input_reply", {"value": "answer"}, channel="stdin")
    page.expect(second, ("execute_result", {}), IDLE, reply=("execute_reply", {"status": "ok"}))


def test_a_cell_that_was_given_up_does_not_overwrite_what_is_newer(page):
    first = page.execute("let late = { std::thread::sleep(Duration::from_secs(3)); 1 };")
    page.expect(first, BUSY, "execute_input")
    time.sleep(0.6)
    interrupt_and_wait(page, first)
    page.expect(page.execute("let late = 2;"), BUSY, "execute_input", IDLE, reply=("execute_reply", {"status": "ok"}))
    time.sleep(3)
    msg_id = page.execute("late")
    page.expect(msg_id, BUSY, "execute_input")
    assert page.next("iopub")["content"]["data"]["text/plain"] == "2"
    page.expect(msg_id, IDLE, reply=("execute_reply", {"status": "ok"}))
