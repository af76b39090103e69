"""Lesson 1 by nbclient: the outputs a learner will see, and what the saved notebook keeps."""

import json
import pathlib
import shutil

import nbformat
from nbclient import NotebookClient

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
LESSON = CHECKOUT / "tutorial" / "lesson-1" / "what-a-cluster-is.ipynb"
SOLUTION = (CHECKOUT / "tutorial" / "lesson-1" / "solution-1.1.rs").read_text()


def run(notebook, folder):
    NotebookClient(notebook, timeout=120, kernel_name="skep", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def data(cell):
    return [o["data"] for o in cell.outputs if "data" in o]


def find(notebook, text):
    return next(c for c in notebook.cells if c.cell_type == "code" and text in c.source)


def test_lesson_1(tmp_path):
    notebook = run(nbformat.read(LESSON, as_version=4), tmp_path)
    text = lambda fragment: "\n".join(d["text/plain"] for d in data(find(notebook, fragment)))

    assert "2 workers" in text("Cluster::local()")
    assert "13" in text("total.gather()?").splitlines()
    assert "Remote add: pending" in text("let total")
    assert "Remote add: done" in "\n".join(d["text/plain"] for c in notebook.cells if c.source == "total" for d in data(c))
    assert "[1, 4, 9, 16, 25" in text("slow_square")
    failed = find(notebook, "is too much").outputs
    error = next(o for o in failed if o.output_type == "error")
    traceback = "\n".join(error.traceback)
    assert "task `checked` panicked" in traceback and "line 3" in traceback and "worker-" in traceback, traceback
    assert "9" in text("result.compute()?").splitlines()
    assert "10 partitions" in text("Frame::read_csv") and "CRSElapsedTime" in text("Frame::read_csv")
    table = [d for d in data(find(notebook, "delays.collect()?")) if "shape: (12, 2)" in d["text/plain"]]
    assert table and "<table" in table[0]["text/html"]
    assert "merge partial results" in text("delays.explain()?")
    assert "✗ Exercise 1.1" in text("course::worst_airport"), "an unsolved exercise fails its check"

    # What is saved: the graph as SVG and the bars in their final state.
    saved = json.loads(nbformat.writes(notebook))
    graph = find(notebook, "result.graph()").outputs[0]["data"]["image/svg+xml"]
    assert graph.startswith("<svg") and graph.count("<rect") == 5
    bars = [d for d in data(find(notebook, "total.gather()?")) if "tasks" in d["text/plain"]]
    assert bars and bars[-1]["text/plain"].startswith("done: 3 of 3 tasks"), bars
    assert "<div" in bars[-1]["text/html"] and "<script" not in json.dumps(saved) and "<style" not in json.dumps(saved)

    solved = nbformat.read(LESSON, as_version=4)
    find(solved, "course::worst_airport")["source"] = SOLUTION
    shutil.copytree(tmp_path / "data", tmp_path / "again" / "data")
    solved = run(solved, tmp_path / "again")
    assert "✓ Exercise 1.1" in "\n".join(d["text/plain"] for d in data(find(solved, "course::worst_airport")))
