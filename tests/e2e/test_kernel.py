"""The protocol: statuses, orders, queues, and requests while a cell runs."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import SKEP, processes


def test_kernel_info_and_statuses(kernel):
    msg_id = kernel.client.kernel_info()
    result = kernel.finish(msg_id)
    assert result.reply["language_info"]["name"] == "rust" and result.reply["status"] == "ok"
    states = [m["content"]["execution_state"] for m in result.messages if m["msg_type"] == "status"]
    assert states == ["busy", "idle"]


def test_an_execution_as_an_exact_transcript(fresh):
    result = fresh.execute("println!(\"a\"); 1 + 1")
    kinds = [m["msg_type"] for m in result.messages]
    assert kinds == ["status", "execute_input", "stream", "execute_result", "status"], kinds
    assert result.of("execute_input")[0] == {"code": "println!(\"a\"); 1 + 1", "execution_count": 1}
    assert result.of("execute_result")[0]["execution_count"] == 1 and result.reply["execution_count"] == 1
    assert [m["msg_type"] for m in fresh.execute("oops").messages] == ["status", "execute_input", "error", "status"]
    assert fresh.execute("2").reply["execution_count"] == 3


def test_silent_and_store_history(fresh):
    fresh.execute("let x = 1;")
    silent = fresh.execute("x + 1", silent=True)
    assert [m["msg_type"] for m in silent.messages] == ["status", "status"]
    assert fresh.execute("x", store_history=False).text == "1"
    assert fresh.execute("x").reply["execution_count"] == 2


def test_stop_on_error_aborts_the_queue(kernel):
    ids = [kernel.client.execute(code) for code in ("sleep(Duration::from_millis(300)); nope", "1", "2")]
    replies = {}
    while len(replies) < 3:
        reply = kernel.client.get_shell_msg(timeout=20)
        replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    assert [replies[i] for i in ids] == ["error", "aborted", "aborted"]
    time.sleep(0.2)
    assert kernel.execute("3").text == "3"


def test_user_expressions(kernel):
    result = kernel.execute("let u = 20;", user_expressions={"good": "u + 1", "bad": "nope"})
    assert result.reply["user_expressions"]["good"]["data"]["text/plain"] == "21"
    assert result.reply["user_expressions"]["bad"]["status"] == "error"


def test_requests_are_answered_while_a_cell_runs(kernel):
    kernel.execute("let visible = 1;")
    msg_id = kernel.client.execute("sleep(Duration::from_millis(1500))")
    time.sleep(0.5)
    took = []
    for send in (lambda: kernel.client.complete("visi", 4), lambda: kernel.client.is_complete("fn f() {"), lambda: kernel.client.comm_info(), lambda: kernel.client.kernel_info()):
        started = time.monotonic()
        request = send()
        while True:
            reply = kernel.client.get_shell_msg(timeout=5)
            if reply["parent_header"]["msg_id"] == request:
                break
        took.append(time.monotonic() - started)
        if reply["msg_type"] == "complete_reply":
            assert reply["content"]["matches"] == ["visible"] and reply["content"]["cursor_start"] == 0
        if reply["msg_type"] == "is_complete_reply":
            assert reply["content"] == {"status": "incomplete", "indent": "    "}
    assert max(took) < 0.3, took
    kernel.finish(msg_id)


def test_update_display_from_another_cell(kernel):
    first = kernel.execute('let shown = display("working");')
    display_id = first.of("display_data")[0]["transient"]["display_id"]
    update = kernel.execute('shown.update("done");').of("update_display_data")[0]
    assert update["transient"]["display_id"] == display_id and update["data"]["text/plain"] == "done"


def test_history(fresh):
    for code in ("let a = 1;", "let b = 2;", "a + b"):
        fresh.execute(code)
    for options, expect in (({"hist_access_type": "tail", "n": 2}, ["let b = 2;", "a + b"]), ({"hist_access_type": "search", "pattern": "let*", "n": 10}, ["let a = 1;", "let b = 2;"])):
        reply = fresh.finish(fresh.client.history(raw=True, output=False, **options)).reply
        assert [entry[2] for entry in reply["history"]] == expect


def test_input(kernel):
    msg_id = kernel.client.execute('let name = input("name? ")?; name', allow_stdin=True)
    request = kernel.client.get_stdin_msg(timeout=20)
    assert request["content"] == {"prompt": "name? ", "password": False}
    kernel.client.input("Ada")
    assert kernel.finish(msg_id).text == '"Ada"'
    assert "does not take input" in kernel.execute('input("x")?', allow_stdin=False).error


def test_wrong_signature_and_garbage_are_dropped(fresh):
    import zmq

    info = fresh.manager.get_connection_info()
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(f"tcp://{info['ip']}:{info['shell_port']}")
    header = json.dumps({"msg_id": "1", "session": "s", "username": "u", "date": "2026-01-01T00:00:00Z", "msg_type": "kernel_info_request", "version": "5.3"}).encode()
    key = info["key"] if isinstance(info["key"], bytes) else info["key"].encode()

    def send(parts, good):
        mac = hmac.new(key if good else b"wrong", digestmod=hashlib.sha256)
        for part in parts:
            mac.update(part)
        socket.send_multipart([b"<IDS|MSG>", mac.hexdigest().encode(), *parts])

    send([header, b"{}", b"{}", b"{}"], good=False)
    socket.send_multipart([b"nonsense"])
    send([b"\xff\xfe", b"{}", b"{}", b"{}"], good=True)
    send([header, b"{}", b"{}", b"\xc3\x28"], good=True)
    assert not socket.poll(500), "none of these gets an answer"
    send([header, b"{}", b"{}", b"{}"], good=True)
    assert socket.poll(5000), "the kernel goes on"
    socket.close(0)
    assert fresh.execute("1").text == "1"


def test_connection_files_that_lead_nowhere(tmp_path):
    for path, words in ((tmp_path / "absent.json", "cannot be read"), (tmp_path / "bad.json", "is no connection file")):
        if path.name == "bad.json":
            path.write_text("{}")
        done = subprocess.run([SKEP, "kernel", "-f", path], capture_output=True, text=True, timeout=10)
        assert done.returncode == 1 and words in done.stderr and "hint:" in done.stderr


def test_a_read_only_cache_is_said_plainly(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = subprocess.run([SKEP, "repl"], input="1", capture_output=True, text=True, timeout=10, env={**os.environ, "SKEP_CACHE": str(blocked)})
    assert done.returncode == 1 and "the cache folder" in done.stderr and "hint:" in done.stderr


@pytest.mark.parametrize("how", ["shutdown", "kill"])
def test_no_process_outlives_the_kernel(fresh, how):
    fresh.execute("let cluster = Cluster::local().workers(2).start()?; cluster.submit(|x: i64| { std::thread::sleep(Duration::from_secs(30)); x }, 1);")
    run = fresh.execute('std::env::var("SKEP_RUN")?').text.strip('"')
    assert len(processes(run)) >= 3, "the evaluation process and two workers"
    if how == "shutdown":
        assert fresh.control("shutdown_request", {"restart": False})["status"] == "ok"
    else:
        os.kill(fresh.manager.provisioner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(run) == []
