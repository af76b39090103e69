"""The terminal: piped scripts, and a person at a pseudo-terminal."""

import os
import subprocess
import time

import pexpect

from conftest import SKEP


def test_piped_input_is_a_script_with_an_exit_code():
    done = subprocess.run([SKEP, "repl"], input="let x = 20;\nprintln!(\"hi\");\nx + 22", capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "hi\n42\n"), done.stderr
    done = subprocess.run([SKEP, "repl"], input="let x: i32 = \"no\";", capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "E0308" in done.stderr


def test_a_session_at_the_prompt(tmp_path):
    started = time.monotonic()
    repl = pexpect.spawn(str(SKEP), ["repl"], encoding="utf-8", timeout=30, dimensions=(40, 100), cwd=str(tmp_path), env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"})
    repl.expect(r"\[1\] ")
    assert time.monotonic() - started < 2
    repl.sendline("let x = 20;")
    repl.expect(r"\[2\] ")
    repl.sendline("fn f(a: i32) -> i32 {")
    repl.sendline("a + x_of()")
    repl.sendline("}")
    repl.expect("E0425")
    repl.expect(r"\[3\] ")
    repl.sendline("loop {}")
    time.sleep(1)
    repl.sendintr()
    repl.expect("interrupted")
    repl.expect(r"\[4\] ")
    repl.sendline("x + 1")
    repl.expect("21")
    repl.expect(r"\[5\] ")
    repl.sendline("let cluster = Cluster::local().workers(1).start()?; fn inc(x: i64) -> i64 { sleep(Duration::from_millis(700)); x + 1 } delayed!(inc(1)).graph()")
    repl.expect("┌")
    repl.expect("inc")
    repl.expect(r"\[6\] ")
    repl.sendline("delayed!(inc(1)).compute()?")
    repl.expect("running: 0 of 1 task")
    repl.expect("done: 1 of 1 task")
    repl.expect(r"\[7\] ")
    repl.sendeof()
    repl.expect(pexpect.EOF)
    repl.close()
    assert repl.exitstatus == 0
