"""The same API outside a notebook: the examples are plain Cargo programs, built by ./install/test and run here."""

import os
import pathlib
import subprocess

import pytest

from conftest import processes

EXAMPLES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/skep/target")) / "release/examples"


@pytest.mark.parametrize("name,lines", [
    ("hello_cluster", ["a worker adds one to 1", "5", "Journey of add", "5 tasks", "54"]),
    ("actor", ["the best of 100 tries: 1"]),
    ("lost_worker", ["20540", "lost: 1"]),
])
def test_an_example(name, lines, tmp_path):
    done = subprocess.run([EXAMPLES / name], capture_output=True, text=True, timeout=60, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert any(shown.startswith(line) for shown in done.stdout.splitlines()), done.stdout
    assert not list(tmp_path.iterdir()), "a program leaves nothing behind"
    assert not processes(str(EXAMPLES / name))


def test_every_example_is_run():
    sources = pathlib.Path(__file__).resolve().parents[2] / "kernel/skep/examples"
    tested = {"hello_cluster", "actor", "lost_worker"}
    assert {path.stem for path in sources.glob("*.rs")} == tested


def test_killed_programs_leave_no_worker(tmp_path):
    """A worker ends with its program, also when that had no time to say so."""
    source = EXAMPLES / "lost_worker"
    program = subprocess.Popen([source], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        for _ in range(200):
            if len(processes(str(source))) >= 3:
                break
            subprocess.run(["sleep", "0.01"])
    finally:
        program.kill()
        program.wait()
    for _ in range(500):
        if not processes(str(source)):
            assert not list(tmp_path.iterdir()), "the last worker clears up after a program that could not"
            return
        subprocess.run(["sleep", "0.01"])
    pytest.fail(f"workers are left: {processes(str(source))}")
