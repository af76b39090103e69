"""The walls between rooms, as ARCHITECTURE.md states them; and the README's promises."""

import pathlib
import re
import subprocess
import sys

import pytest

from test_cells import ok

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import features  # noqa: E402
import house  # noqa: E402

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
POLARS, JUPYTER, CLUSTER = {"polars", "skep-frame"}, {"jupyter-protocol", "jupyter-zmq-client", "zeromq"}, {"skep-cluster"}


@pytest.mark.parametrize("room,forbidden", [
    ("kernel/cell", POLARS | JUPYTER | CLUSTER),
    ("kernel/eval", POLARS | JUPYTER | CLUSTER),
    ("kernel/cluster", POLARS | JUPYTER | {"skep-cell", "skep-eval", "skep-session"}),
    ("kernel/collections", POLARS | JUPYTER | {"mio", "skep-eval", "skep-session"}),
    ("kernel/flow", POLARS | JUPYTER | {"mio", "skep-session"}),
    ("kernel/frame", JUPYTER | {"mio", "skep-session"}),
    ("kernel/render", POLARS | JUPYTER | CLUSTER | {"mio", "tokio", "rustix"}),
    ("kernel/assist", POLARS | JUPYTER | CLUSTER | {"skep-cell", "skep-eval", "skep-session"}),
    ("kernel/session", POLARS | JUPYTER),
    ("kernel", POLARS | {"syn"}),
    ("repl", POLARS | JUPYTER | CLUSTER | {"skep-cell"}),
    ("tutorial", POLARS | JUPYTER | CLUSTER),
])
def test_a_wall(room, forbidden):
    depends = house.dependencies(room)
    assert depends and not depends & forbidden


@pytest.mark.parametrize("crate", house.CRATES)
def test_no_file_stands_on_what_stands_on_it(crate):
    assert house.Crate(crate).circles() == []


def test_a_circle_would_be_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert house.circles(graph) == [["b", "c"]]
    assert house.flatten("crate::{a::{b, c as d}, e}") == [("crate", "a", "b"), ("crate", "a", "c"), ("crate", "e")]
    cluster = house.Crate("kernel/cluster")
    assert ("model", "ids") in cluster.imports[("scheduler", "placement")] and ("api", "remote") in cluster.imports[("api", "cluster")]


def test_the_parts_of_the_cluster_know_only_those_before_them():
    text = (CHECKOUT / "kernel/cluster/src/lib.rs").read_text()
    order = re.findall(r"^//! \| \[`(\w+)`\]", text, re.M)
    graph = house.Crate("kernel/cluster").graph()
    assert set(order) == set(graph) - {"conformance"}
    for part in order:
        assert graph[part] <= set(order[: order.index(part)]), part


def test_the_pictures_of_the_house_are_those_of_the_code():
    page = (CHECKOUT / "ARCHITECTURE.md").read_text()
    assert page.count("<!-- picture: ") == len(house.pictures())
    assert house.renewed(page) == page, "run python3 tests/house.py --write"


def test_paths_in_the_documents_are_there():
    for page in ("ARCHITECTURE.md", "README.md", ".github/CONTRIBUTING.md"):
        text = (CHECKOUT / page).read_text()
        for path in re.findall(r"`((?:kernel|repl|tutorial|install|tests|assets)/[\w./-]*)`", text):
            assert (CHECKOUT / path).exists(), f"{page}: {path}"


def test_nothing_but_its_own_feature_brings_in_rust_analyzer():
    tree = subprocess.run(["cargo", "tree", "--offline", "--locked", "-p", "skep-kernel", "-e", "normal", "--prefix", "none"], cwd=CHECKOUT, capture_output=True, text=True)
    assert tree.returncode == 0, tree.stderr
    assert "skep-assist" in tree.stdout and "ra_ap_ide" not in tree.stdout


def test_all_builds_take_crates_with_the_same_features():
    assert features.differences() == [], "kernel/features/Cargo.toml names what all builds take"


def test_the_state_machines_do_no_io():
    source = CHECKOUT / "kernel/cluster/src"
    machines = [path for path in (source / "scheduler").glob("*.rs") if path.name not in ("tests.rs", "simulation.rs")]
    machines += [source / name for name in ("worker/machine.rs", "worker/memory.rs", "observe/stories.rs", "observe/progress.rs")]
    assert len(machines) > 10
    for name in machines:
        text = name.read_text()
        assert not re.search(r"std::(fs|io|net|os|process|thread)|mio|Instant::now|SystemTime", text), name


def test_rendered_forms_need_no_script_and_no_style():
    for path in (CHECKOUT / "kernel/render/src").rglob("*.rs"):
        text = path.read_text().split("#[cfg(test)]")[0]
        assert "<script" not in text and not re.search(r"<style>", text.replace("`<style>`", "")), path


def test_the_top_level_is_the_agreed_one():
    listed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True).stdout.split()
    agreed = {"Cargo.toml", "Cargo.lock", "kernel", "repl", "tutorial", "assets", "install", "tests", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "rust-toolchain.toml"}
    assert {name for name in listed if not name.startswith(".")} <= agreed


def test_the_readme_runs(fresh):
    text = (CHECKOUT / "README.md").read_text()
    blocks = re.findall(r"```rust\n(.*?)```", text, re.S)
    assert len(blocks) == 4
    assert "5" in ok(fresh, blocks[0]).text
    assert ok(fresh, blocks[1]).text.startswith("4 tasks")
    assert "shape: (3, 2)" in ok(fresh, blocks[2]).text
    assert ok(fresh, blocks[3]).text.startswith("Flow nightly: Completed")
    query = re.search(r"```\n(%%sql.*?)```", text, re.S)[1]
    assert "shape: (3, 2)" in ok(fresh, query).text
    for command in re.findall(r"`(:[a-z]+)", text):
        assert fresh.execute("?" + command).status == "ok", command
    for command in re.findall(r"^\$ (\S+)", text, re.M):
        assert (CHECKOUT / command).stat().st_mode & 0o111, command
