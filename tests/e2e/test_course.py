"""The course: every lesson runs, every exercise fails as it is given and passes when it is solved, and the tool around it."""

import json
import os
import signal
import subprocess
import time

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import HOME, SKEP, Kernel
from test_cells import ok


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Somebody who begins the course: an empty folder and no progress."""
    monkeypatch.setenv("SKEP_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def course(*arguments, code=0, stdin=None):
    done = subprocess.run([SKEP, "course", *map(str, arguments)], capture_output=True, text=True, timeout=600, input=stdin, env={**os.environ, "SKEP_HOME": str(HOME)})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_course_is_in_order(reader):
    said = course("author", "check")
    assert "✓ the course is in order" in said and said.count("minutes") == 11, said


def test_a_course_of_ones_own(reader):
    course("new", reader / "mine")
    assert "✓ the course is in order" in course("author", "check", reader / "mine")
    lesson = reader / "mine" / "01-first" / "lesson.md"
    text = lesson.read_text()
    # An exercise that passes as it is given, and a solution that does not.
    lesson.write_text(text.replace("let sum = 0;", "let sum = 42;"))
    assert "exercise 1.1 passes as it is given" in course("author", "check", reader / "mine", code=1)
    lesson.write_text(text.replace("(40, 2)).gather()?", "(40, 3)).gather()?"))
    assert "the solution of exercise 1.1 gets ✗" in course("author", "check", reader / "mine", code=1)
    lesson.write_text(text.replace("```hint\nA nudge", "```text\nA nudge"))
    assert "lacks three hints" in course("author", "check", reader / "mine", code=1)
    course("new", reader / "mine", code=1)


def test_lessons_as_web_pages(reader):
    said = course("export", "html", reader / "site", "--lesson", 4)
    assert "index.html is the course as web pages" in said
    page, index = ((reader / "site" / name).read_text() for name in ("04-journey-of-a-task.html", "index.html"))
    assert "✓ Exercise 4.1" in page and "Lesson 4: The journey of a task" in page
    assert 'href="04-journey-of-a-task.html"' in index
    assert not (reader / "site" / ".work").exists()


def test_a_learner_is_wrong_asks_for_help_and_is_right(reader):
    kernel = Kernel(reader)
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    ok(kernel, "fn slow_inc(x: i64) -> i64 { sleep(Duration::from_millis(100)); x + 1 }")
    assert "when you have solved it yourself" not in ok(kernel, ":help").text
    refused = kernel.execute(":solution 1.1")
    assert "after two hints" in refused.error and ":hint 1.1" in refused.error
    wrong = ok(kernel, "let a = cluster.impure().submit(slow_inc, 1); a.gather()?; let b = cluster.impure().submit(slow_inc, 2); b.gather()?; course::check_1_1(&a, &b)").text
    assert wrong.startswith("✗ Exercise 1.1: Two at once") and "they ran one after the other" in wrong and "stuck? `:hint 1.1`" in wrong
    assert "hint 1 of 3" in kernel.execute(":hint 1.1").of("execute_result")[0]["data"]["text/plain"]
    assert "hint 2 of 3" in kernel.execute(":hint 1.1").of("execute_result")[0]["data"]["text/plain"]
    shown = kernel.execute(":solution 1.1")
    [payload] = shown.reply["payload"]
    assert payload["source"] == "set_next_input" and payload["replace"] is False
    assert ok(kernel, payload["text"]).text.startswith("✓ Exercise 1.1")
    # Begun or not is told apart, and a guess does not pass.
    assert ok(kernel, "course::check_1_2(&cluster, &[])").text.startswith("○ Exercise 1.2")
    assert ok(kernel, "course::check_1_2(&cluster, &[17, 18])").text.startswith("✗ Exercise 1.2")
    assert "no exercise 9.9" in kernel.execute(":hint 9.9").error
    assert "which exercise?" in kernel.execute(":hint").error
    kernel.close()
    done = {entry["exercise"]: entry for entry in json.loads(course("status", "--json"))["exercises"]}
    assert done["1.1"]["state"] == "done" and done["1.1"]["hints"] == 2 and done["1.1"]["tries"] == 2
    assert done["1.2"]["state"] == "tried" and done["2.1"]["state"] == "not_begun"
    assert "1 of 2 exercises done" in course("list")


def test_the_folder_of_a_reader(reader):
    folder = reader / "skep-course"
    # What `skep lab` lays out; a lesson's notebook is checked, and begun anew.
    course("reset", 1, "--yes")
    notebook = folder / "01-what-a-cluster-is" / "what-a-cluster-is.ipynb"
    saved = nbformat.read(notebook, as_version=4)
    assert all(cell.get("outputs", []) == [] for cell in saved.cells)
    said = course("check", 1, code=1)
    assert "✗ Exercise 1.1" in said and "○ Exercise 1.2" in said, said
    course("reset", 1, code=1)
    assert "is kept as" in course("reset", 1, "--yes") and len(list(notebook.parent.glob("*.ipynb"))) == 2
    assert "there is no lesson 70" in course("open", 70, code=1)
    assert "first.gather()?" in course("solution", "1.1")


def test_a_lesson_in_jupyter_keeps_what_it_showed(reader):
    course("reset", 3, "--yes")
    notebook = nbformat.read(reader / "skep-course" / "03-futures" / "futures.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="skep", resources={"metadata": {"path": str(reader)}}).execute()
    data = lambda fragment: [o["data"] for c in notebook.cells if c.cell_type == "code" and fragment in c.source for o in c.outputs if "data" in o]
    failed = next(c for c in notebook.cells if "is too much" in c.source)
    assert "raises-exception" in failed.metadata.tags
    error = "\n".join(next(o for o in failed.outputs if o.output_type == "error").traceback)
    assert "task `checked` panicked" in error and "line 3" in error and "worker-" in error, error
    assert "✗ Exercise 3.1" in "\n".join(d["text/plain"] for d in data("check_3_1"))
    saved = json.dumps(notebook)
    assert "<script" not in saved and "<style" not in saved


def test_a_lesson_in_the_terminal(reader):
    # Two cells are run, the exercise is tried and left, and the rest is not wanted.
    typed = "\n\n\n\n\n" + "let first = cluster.impure().submit(slow_inc, 7); let second = cluster.impure().submit(slow_inc, 8); first.gather()?; second.gather()?; course::check_1_1(&first, &second)\n\n\nq\n"
    said = course("open", 1, "--repl", stdin=typed)
    assert "Lesson 1: What a cluster is (10 minutes)" in said and "Cluster: 2 workers" in said, said
    assert "✓ Exercise 1.1: Two at once" in said, said


def test_code_of_ones_own_in_the_terminal(reader, monkeypatch):
    editor = reader / "editor"
    editor.write_text("#!/bin/sh\necho 'println!(\"edited {}\", mine + 1);' >\"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    said = course("open", 1, "--repl", stdin="let mine = 6 * 7;\nprintln!(\"it is {mine}\");\n\n?Cluster::local\nnonsense\n\ne\nq\n")
    assert "it is 42" in said and "edited 43" in said and "cannot find value `nonsense`" in said, said
    assert "Cluster: 2 workers" not in said, "the lesson's own cell waits for Enter"


def test_an_interrupt_in_the_terminal_ends_the_cell_only(reader):
    env = {**os.environ, "SKEP_HOME": str(HOME)}
    lesson = subprocess.Popen([SKEP, "course", "open", "1", "--repl"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    lesson.stdin.write("let kept = 5; println!(\"begun\");\n\nloop {}\n\n")
    lesson.stdin.flush()
    said = ""
    while "begun" not in said:
        said += lesson.stdout.readline()
    time.sleep(1.5)
    lesson.send_signal(signal.SIGINT)
    said += lesson.communicate("println!(\"kept {kept}\");\n\nq\n", timeout=60)[0]
    assert "interrupted" in said and "kept 5" in said and lesson.returncode == 0, said
