"""The walls between rooms, as ARCHITECTURE.md states them; and the README's promises."""

import pathlib
import re
import subprocess

import pytest

from test_cells import ok

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
POLARS, JUPYTER, CLUSTER = {"polars", "skep-frame"}, {"jupyter-protocol", "jupyter-zmq-client", "zeromq"}, {"skep-cluster"}


@pytest.mark.parametrize("room,forbidden", [
    ("kernel/cell", POLARS | JUPYTER | CLUSTER),
    ("kernel/eval", POLARS | JUPYTER | CLUSTER),
    ("kernel/cluster", POLARS | JUPYTER | {"skep-cell", "skep-eval", "skep-session"}),
    ("kernel/frame", JUPYTER | {"mio", "skep-session"}),
    ("kernel/render", POLARS | JUPYTER | CLUSTER | {"mio", "tokio", "rustix"}),
    ("kernel/assist", POLARS | JUPYTER | CLUSTER | {"skep-cell", "skep-eval", "skep-session"}),
    ("kernel/session", POLARS | JUPYTER),
    ("kernel", POLARS | {"syn"}),
    ("repl", POLARS | JUPYTER | CLUSTER | {"skep-cell"}),
    ("tutorial", POLARS | JUPYTER | CLUSTER),
])
def test_a_wall(room, forbidden):
    manifest = (CHECKOUT / room / "Cargo.toml").read_text()
    depends = set(re.findall(r"^([a-z0-9-]+)\.workspace = true", manifest, re.M))
    assert depends and not depends & forbidden


def test_nothing_but_its_own_feature_brings_in_rust_analyzer():
    tree = subprocess.run(["cargo", "tree", "--offline", "--locked", "-p", "skep-kernel", "-e", "normal", "--prefix", "none"], cwd=CHECKOUT, capture_output=True, text=True)
    assert tree.returncode == 0, tree.stderr
    assert "skep-assist" in tree.stdout and "ra_ap_ide" not in tree.stdout


def test_the_state_machines_do_no_io():
    for name in ("scheduler.rs", "scheduler/balance.rs", "scheduler/explain.rs", "scheduler/failures.rs", "scheduler/placement.rs", "scheduler/published.rs", "scheduler/values.rs", "scheduler/workers.rs", "worker.rs", "memory.rs", "story.rs"):
        text = (CHECKOUT / "kernel/cluster/src" / name).read_text()
        assert not re.search(r"std::(fs|io|net|os|process|thread)|mio|Instant::now|SystemTime", text), name


def test_rendered_forms_need_no_script_and_no_style():
    for path in (CHECKOUT / "kernel/render/src").glob("*.rs"):
        text = path.read_text().split("#[cfg(test)]")[0]
        assert "<script" not in text and not re.search(r"<style>", text.replace("`<style>`", "")), path


def test_the_top_level_is_the_agreed_one():
    listed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True).stdout.split()
    agreed = {"Cargo.toml", "Cargo.lock", "kernel", "repl", "tutorial", "assets", "install", "tests", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "rust-toolchain.toml"}
    assert {name for name in listed if not name.startswith(".")} <= agreed


def test_the_readme_runs(fresh):
    text = (CHECKOUT / "README.md").read_text()
    blocks = re.findall(r"```rust\n(.*?)```", text, re.S)
    assert len(blocks) == 3
    assert "5" in ok(fresh, blocks[0]).text
    assert ok(fresh, blocks[1]).text.startswith("4 tasks")
    assert "shape: (3, 2)" in ok(fresh, blocks[2]).text
    query = re.search(r"```\n(%%sql.*?)```", text, re.S)[1]
    assert "shape: (3, 2)" in ok(fresh, query).text
    for command in re.findall(r"`(:[a-z]+)", text):
        assert fresh.execute("?" + command).status == "ok", command
    for command in re.findall(r"^\$ (\S+)", text, re.M):
        assert (CHECKOUT / command).stat().st_mode & 0o111, command
