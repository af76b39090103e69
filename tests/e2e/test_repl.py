"""The terminal: piped scripts, and a person at a pseudo-terminal."""

import json
import os
import re
import subprocess
import time

import nbformat
import pexpect
import pytest

from conftest import SKEP

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


def run(*arguments, text="", **env):
    return subprocess.run([SKEP, *arguments], input=text, capture_output=True, text=True, timeout=60, env={**os.environ, **env})


class Terminal(pexpect.spawn):
    """A pseudo-terminal that answers where its cursor is, as real ones do."""

    def __init__(self, folder, columns=100, arguments=("repl",), **env):
        self.tail = ""
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(folder / "state"), "SKEP_IMAGES": "", **env}
        environment = {name: value for name, value in environment.items() if value is not None}
        super().__init__(str(SKEP), list(arguments), encoding="utf-8", timeout=30, dimensions=(40, columns), cwd=str(folder), env=environment)

    def read_nonblocking(self, size=1, timeout=-1):
        text = super().read_nonblocking(size, timeout)
        window = self.tail + text
        asked = window.count("\x1b[6n")
        if asked:
            os.write(self.child_fd, b"\x1b[1;1R" * asked)
        self.tail = window.rpartition("\x1b[6n")[2][-3:]
        return text

    def prompt(self, number):
        self.expect_exact(f"[{number}] ")
        return ANSI.sub("", self.before)

    def enter(self, text):
        self.send(text + "\r")

    def paste(self, text):
        self.send(f"\x1b[200~{text}\x1b[201~")


def test_a_file_runs_first_and_its_names_are_there(tmp_path):
    (tmp_path / "first.rs").write_text("let x = 20;\n// %%\nfn twice(n: i32) -> i32 { n * 2 }\n")
    terminal = Terminal(tmp_path, arguments=("repl", "first.rs"), NO_COLOR="1")
    terminal.prompt(3)
    terminal.enter("twice(x) + 2")
    terminal.expect_exact("42")
    terminal.close(force=True)


def test_the_value_stands_below_the_finished_bar(tmp_path):
    terminal = Terminal(tmp_path, NO_COLOR="1")
    terminal.prompt(1)
    terminal.enter("let cluster = Cluster::local().workers(1).start()?; fn slow(x: i64) -> i64 { sleep(Duration::from_millis(400)); x }")
    terminal.prompt(2)
    terminal.enter("cluster.gather(&cluster.map(slow, 40..42))?")
    shown = terminal.prompt(3)
    assert shown.rindex("done: 2 of 2 tasks") < shown.rindex("[40, 41]"), shown
    terminal.close(force=True)


def test_values_shell_lines_and_a_pager(tmp_path):
    terminal = Terminal(tmp_path, NO_COLOR="1", PAGER="sed s/^/paged:/")
    terminal.prompt(1)
    for number, (code, expect) in enumerate([("40 + 1", "41"), ("_ + 1", "42"), ("Out[1] + Out[2]", "83"), ("!echo from the $((1 + 1))nd shell", "from the 2nd shell"), ("?:time", "run code")], 2):
        terminal.enter(code)
        shown = terminal.prompt(number)
        assert expect in shown and "paged:" not in shown, (code, shown)
    terminal.setwinsize(20, 100)
    terminal.enter("?")
    assert "paged:  :vars" in terminal.prompt(7), "what is longer than the screen"
    terminal.close(force=True)


def test_narrow_terminals_get_narrow_tables(tmp_path):
    terminal = Terminal(tmp_path, columns=60, NO_COLOR="1")
    terminal.prompt(1)
    terminal.enter("let cluster = Cluster::local().workers(2).start()?; let name = \"x\".repeat(300);")
    terminal.prompt(2)
    for number, code in enumerate([":workers", ":vars", ":help", ":cluster"], 3):
        terminal.enter(code)
        lines = [line.rstrip() for line in terminal.prompt(number).splitlines()]
        assert all(len(line) <= 60 for line in lines), (code, lines)
    terminal.close(force=True)


@pytest.fixture
def repl(tmp_path):
    terminal = Terminal(tmp_path, NO_COLOR="1")
    terminal.prompt(1)
    yield terminal
    terminal.close(force=True)


def test_piped_input_is_a_script_with_an_exit_code():
    done = run("repl", text='let x = 20;\nprintln!("hi");\nx + 22')
    assert (done.returncode, done.stdout) == (0, "hi\n42\n"), done.stderr
    done = run("repl", text='let x: i32 = "no";')
    assert done.returncode == 1 and "E0308" in done.stderr
    done = run("repl", text="1\n// %%\n2\n// %%\n:type 3u8\n")
    assert (done.returncode, done.stdout) == (0, "1\n2\nu8\n"), done.stderr
    assert run("repl", text="").returncode == 0
    # Cell by cell, as if it were typed: what was shown before an error stays, and a later one is not reached.
    done = run("repl", text="fn f(x: i32) -> i32 {\n    x + 1\n}\nf(1)\n[3, 4]\n    .len()\nnowhere\n5\n")
    assert (done.returncode, done.stdout) == (1, "2\n2\n") and "E0425" in done.stderr, done


def test_run_takes_scripts_and_notebooks(tmp_path):
    script = tmp_path / "s.rs"
    script.write_text("fn f(x: i32) -> i32 {\n    x + 1\n}\n// %% next\nf(1)\n\n// %%\nlet broken: i32 = f(\"x\");\n")
    done = run("run", str(script))
    assert done.returncode == 1 and done.stdout == "2\n"
    assert "s.rs:8:21" in done.stderr and "8 | let broken" in done.stderr, done.stderr
    script.write_text("fn f() -> i32 { panic!(\"ouch\") }\n\n\nf();\n")
    done = run("run", str(script))
    assert done.returncode == 1 and "s.rs, line 1" in done.stderr and "ouch" in done.stderr, done.stderr
    script.write_text("fn main() {\n    println!(\"from main\");\n}\n")
    assert run("run", str(script)).stdout == "from main\n"
    notebook = tmp_path / "n.ipynb"
    notebook.write_text('{"cells": [{"cell_type": "markdown", "source": "x"}, {"cell_type": "code", "source": ["let a = 20;\\n", "a + 1"]}, {"cell_type": "code", "source": ":vars"}]}')
    done = run("run", str(notebook))
    assert done.returncode == 0 and done.stdout.startswith("21\nVariables: 1\n"), done.stderr
    code = lambda source, tags=(): {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": [], "execution_count": None}
    cells = [code("println!(\"a\"); println!(\"b\");"), code("nowhere", ["raises-exception"]), code("df!(\"x\" => [1])?"), code("1 / std::hint::black_box(0)"), code("7")]
    notebook.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    done = run("run", str(notebook), "--output", str(tmp_path / "done.ipynb"))
    assert done.returncode == 1 and "divide by zero" in done.stderr and "7" not in done.stdout.splitlines(), done
    nbformat.validate(nbformat.read(tmp_path / "done.ipynb", 4))
    executed = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    assert executed[0]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "a\nb\n"}]
    assert executed[1]["outputs"][0]["output_type"] == "error" and executed[1]["outputs"][0]["ename"] == "E0425", "an expected failure stops nothing"
    # On a slow machine a line says before it that compiling took long.
    shown = [output["data"]["text/html"] for output in executed[2]["outputs"] if "text/html" in output.get("data", {})]
    assert "<table" in shown[0] and executed[2]["execution_count"] == 3
    assert executed[4]["outputs"] == [] and "--output" in run("run", str(script), "--output", "x").stderr
    notebook.write_text("{}")
    assert "is no notebook" in run("run", str(notebook)).stderr
    assert "hint:" in run("run", str(tmp_path / "nowhere.rs")).stderr


def test_a_session_at_the_prompt(repl):
    repl.enter("let x = 20;")
    repl.prompt(2)
    repl.enter("a + x_of()")
    assert "E0425" in repl.prompt(3)
    repl.enter("loop {}")
    time.sleep(1)
    repl.sendintr()
    assert "interrupted" in repl.prompt(4)
    repl.enter("x + 1")
    assert "21" in repl.prompt(5)
    repl.enter("let cluster = Cluster::local().workers(1).start()?; fn inc(x: i64) -> i64 { sleep(Duration::from_millis(700)); x + 1 } delayed!(inc(1)).graph()")
    shown = repl.prompt(6)
    assert "┌" in shown and "inc" in shown
    repl.enter("delayed!(inc(1)).compute()?")
    shown = repl.prompt(7)
    assert "running: 0 of 1 task" in shown and "done: 1 of 1 task" in shown
    repl.sendeof()
    repl.expect(pexpect.EOF)
    repl.close()
    assert repl.exitstatus == 0


def test_lines_are_continued_indented_and_closed(repl):
    repl.enter("fn twice(x: i32) -> i32 {")
    repl.expect_exact("… ")
    repl.enter("if x > 0 {")
    repl.enter("return x * 2;")
    repl.enter("}")
    repl.enter("0")
    repl.enter("}")
    repl.prompt(2)
    repl.enter(":save s.rs")
    repl.prompt(3)
    text = open(os.path.join(repl.cwd, "s.rs")).read()
    assert text == "fn twice(x: i32) -> i32 {\n    if x > 0 {\n        return x * 2;\n    }\n    0\n}\n", text


def test_pasted_text_arrives_whole_and_without_prompts(repl):
    repl.paste("let a = vec![\n    1,\n    2,\n];\n\na.len()")
    repl.send("\r")
    assert re.search(r"\b2\b", repl.prompt(2).split("a.len()")[-1])
    repl.paste(">> let b = 40;\n>> b + 2\n42\n>> fn f() {\n.. }")
    repl.send("\r")
    repl.prompt(3)
    repl.enter("b")
    assert "40" in repl.prompt(4)


def test_keys_typed_while_a_cell_runs_are_kept(repl):
    repl.enter("sleep(Duration::from_millis(900)); 1")
    time.sleep(0.3)
    repl.send("40 + 2\r")
    repl.prompt(2)
    repl.prompt(2)
    assert "42" in repl.prompt(3)


def test_history_is_kept_on_disk_and_searched(tmp_path):
    first = Terminal(tmp_path, NO_COLOR="1")
    first.prompt(1)
    first.enter("let remembered = 7;")
    first.prompt(2)
    first.sendeof()
    first.expect(pexpect.EOF)
    second = Terminal(tmp_path, NO_COLOR="1")
    second.prompt(1)
    second.send("\x1b[A")
    second.expect_exact("let remembered = 7;")
    second.send("\x03")
    second.send("\x12")
    second.expect_exact("history:")
    second.send("remem")
    second.expect_exact("let remembered = 7;")
    second.send("\r")
    second.send("\r")
    second.prompt(2)
    second.enter("remembered")
    assert "7" in second.prompt(3)
    second.close(force=True)


def test_tab_opens_a_menu_with_what_each_command_does(repl):
    repl.send(":w\t")
    repl.send("\r")
    assert "there is no cluster yet" in repl.prompt(2)
    repl.enter("let needle_one = 1; let needle_two = vec![2u8];")
    repl.prompt(3)
    repl.send("needle\t")
    repl.expect_exact("i32")
    repl.send("\t")
    repl.expect_exact("Vec<u8>")
    repl.send("\x1b\x03")


def test_prints_of_a_thread_come_above_the_prompt(repl):
    repl.enter('std::thread::spawn(|| { sleep(Duration::from_millis(600)); println!("from behind"); });')
    repl.prompt(2)
    repl.send("1 + 41")
    repl.expect_exact("from behind")
    repl.send("\r")
    assert "42" in repl.prompt(3)


def test_questions_input_and_passwords(repl):
    repl.enter('input("name? ")?')
    repl.expect_exact("name? ")
    repl.send("Ada\n")
    assert '"Ada"' in repl.prompt(2)
    repl.enter('password("key? ")?.len()')
    repl.expect_exact("key? ")
    repl.send("secret\n")
    shown = repl.prompt(3)
    assert "6" in shown and "secret" not in shown
    repl.enter("let mut s = String::new(); std::io::stdin().read_line(&mut s)?; s")
    time.sleep(0.5)
    repl.send("typed\n")
    assert '"typed\\n"' in repl.prompt(4)


def test_edit_opens_the_editor(tmp_path):
    editor = tmp_path / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/20/21/' \"$1\"\n")
    editor.chmod(0o755)
    terminal = Terminal(tmp_path, NO_COLOR="1", EDITOR=str(editor), VISUAL=None)
    terminal.prompt(1)
    terminal.enter("20 * 2")
    terminal.prompt(2)
    terminal.enter(":edit")
    shown = terminal.prompt(3)
    assert "21 * 2" in shown and "42" in shown
    terminal.enter(":edit 99")
    assert "there is no cell 99" in terminal.prompt(4)
    terminal.close(force=True)


def test_colour_only_where_it_is_wanted(tmp_path):
    for env, has_colour in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": None}, True)):
        terminal = Terminal(tmp_path, **env)
        terminal.prompt(1)
        terminal.enter("nope")
        terminal.prompt(2)
        assert bool(re.search(r"\x1b\[1?;?m?\x1b?\[?(1;)?(31|91)m", terminal.before)) == has_colour, terminal.before
        terminal.close(force=True)


@pytest.mark.parametrize("columns", [12, 30])
def test_narrow_terminals(tmp_path, columns):
    terminal = Terminal(tmp_path, columns=columns, NO_COLOR="1")
    terminal.prompt(1)
    terminal.enter("let cluster = Cluster::local().workers(1).start()?;")
    terminal.prompt(2)
    terminal.enter(":w\t")
    terminal.prompt(3)
    terminal.enter("fn inc(x: i64) -> i64 { sleep(Duration::from_millis(500)); x + 1 } cluster.submit(inc, 41).gather()?")
    assert "42" in terminal.prompt(4)
    terminal.close(force=True)


@pytest.mark.parametrize("protocol,mark", [("kitty", "\x1b_Ga=T,f=100"), ("iterm", "\x1b]1337;File=inline=1"), ("sixel", "\x1bP")])
def test_images_where_the_terminal_can(tmp_path, protocol, mark):
    terminal = Terminal(tmp_path, NO_COLOR="1", SKEP_IMAGES=protocol)
    terminal.prompt(1)
    terminal.enter("fn one() -> i64 { 1 } delayed!(one()).graph()")
    terminal.expect_exact(mark)
    terminal.prompt(2)
    terminal.close(force=True)


def test_a_pasted_thousand_lines_is_one_cell(repl):
    repl.paste("\n".join(f"let v{i} = {i};" for i in range(1000)))
    repl.send("\r")
    repl.expect_exact("[2] ", timeout=90)
    repl.enter("v999")
    assert "999" in repl.prompt(3)
