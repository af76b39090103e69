"""Completion and docs by the analyser; and without it, what is known all the same."""

import os
import re
import signal
import time

import pytest

from conftest import Kernel, processes


@pytest.fixture(scope="module")
def assisted(tmp_path_factory):
    """A kernel whose analyser has read its sources."""
    kernel = Kernel(tmp_path_factory.mktemp("assist"))
    kernel.execute('let v = vec![1, 2, 3]; let flights = df!("a" => [1])?; struct Bee { age: u32 } impl Bee { /// How it sounds.\nfn buzz(&self, loud: bool) -> String { String::new() } } let bee = Bee { age: 3 };')
    deadline = time.monotonic() + 120
    while not complete(kernel, "std::collections::Has")["matches"]:
        assert time.monotonic() < deadline, kernel.execute(":assist").text
        assert kernel.execute("1 + 1").text == "2", "cells go on meanwhile"
        time.sleep(0.5)
    yield kernel
    kernel.close()


def complete(kernel, code, at=None):
    return kernel.finish(kernel.client.complete(code, len(code) if at is None else at)).reply


def types(reply):
    return {t["text"]: (t["type"], t["signature"]) for t in reply["metadata"]["_jupyter_types_experimental"]}


def test_names_come_with_kinds_and_signatures(assisted):
    assert types(complete(assisted, "v.pus"))["push"] == ("method", "pub fn push(&mut self, value: T)")
    own = types(complete(assisted, "bee."))
    assert own["buzz"] == ("method", "fn buzz(&self, loud: bool) -> String") and own["age"] == ("field", "u32")
    assert "mean" in complete(assisted, 'col("a").me')["matches"] and "height" in complete(assisted, "flights.hei")["matches"]
    assert types(complete(assisted, "Cluster::local().wor"))["workers"][0] == "method"
    assert "HashMap" in complete(assisted, "std::collections::Has")["matches"]
    assert "beta" in complete(assisted, "let beta = 1; be")["matches"], "names of the very cell"
    code = 'let é = "🐝"; v.le; 1'
    reply = complete(assisted, code, code.index("le;") + 2)
    assert "len" in reply["matches"] and (reply["cursor_start"], reply["cursor_end"]) == (code.index("le;"), code.index("le;") + 2)
    assert "push" in complete(assisted, ":type v.pus")["matches"]


def test_names_complete_from_the_first_key_without_the_analyser(fresh):
    assert fresh.execute(":assist off").status == "ok"
    fresh.execute('let frame = df!("a" => [1])?; struct Bee { age: u32 } impl Bee { fn buzz(&self) -> String { String::new() } } let bee = Bee { age: 3 }; let cluster = Cluster::local().workers(1).start()?;')
    for code, first in [
        ("cluster.", ["submit", "map", "gather"]),
        ("frame.lazy().", ["collect", "filter", "select"]),
        ("frame.lazy().filter(col(\"a\").gt(lit(1))).collect()?.he", ["head", "height"]),
        ("let f = Frame::read_csv(\"x\")?;\nf.", ["filter", "select"]),
        ("bee.", ["age", "buzz"]),
        ("vec![1].iter().", ["map", "filter", "collect"]),
        ("String::from(\"a\").", ["len", "push_str"]),
    ]:
        matches = complete(fresh, code)["matches"]
        assert matches[: len(first)] == first, f"{code}: {matches[:8]}"
    assert "off" in fresh.execute(":assist").text


def test_docs_without_the_analyser(fresh):
    """As on laptops that were set up from a bundle."""
    assert fresh.execute(":assist off").status == "ok"
    asked = lambda name: fresh.execute(f"?{name}").reply["payload"][0]["data"]["text/markdown"]
    page = asked("Frame")
    assert "struct Frame" in page and "filter(" in page and "read_parquet(" in page and "more: Tab after" in page, page
    page = asked("Frame::read_csv")
    assert "fn Frame::read_csv(" in page and "CSV" in page, page
    for name, words in (("AsOf", "within("), ("Flow", "struct Flow"), ("slider", "fn slider("), ("col", "fn col("), ("Cluster.map", "fn Cluster::map("), ("polars::prelude::lit", "fn lit("), ("join_asof", "join_asof"), ("delayed!", "delayed!(…)"), ("df", "df!(…)"), ("Frame::", "struct Frame"), ("HashMap::insert", "fn HashMap::insert(")):
        assert words in asked(name), (name, asked(name))
    # By what stands in front of it, at Shift-Tab.
    fresh.execute("let frame = Frame::from(df!(\"a\" => [1])?); let names = vec![1];")
    inspect = lambda code: fresh.finish(fresh.client.inspect(code, len(code))).reply["data"]["text/markdown"]
    assert "first `n` rows" in inspect("frame.head(") and "Appends" in inspect("names.push(") and "Reduce groups" in inspect('col("a").mean(')
    error = fresh.execute("?Beehive").error
    assert "nothing is known about `Beehive`" in error and "off for this notebook" in error, error


def test_docs_of_std_polars_skep_and_ones_own(assisted):
    inspect = lambda code: assisted.finish(assisted.client.inspect(code, len(code))).reply["data"]["text/markdown"]
    assert "Appends an element" in inspect("v.push")
    assert "mean" in inspect('col("a").mean')
    assert "partitioned, lazy table" in inspect("Frame")
    assert "How it sounds." in inspect("bee.buzz(")
    page = assisted.execute("?Vec::push").reply["payload"][0]["data"]
    assert "Appends an element" in page["text/plain"] and "```rust" in page["text/markdown"]
    assert "nothing is known about `no_such_thing`" in assisted.execute("?no_such_thing").error


def test_every_kind_of_place_has_candidates(assisted):
    for code in ("v.", "bee.", 'col("a").', "flights.", "Clu", "std::collections::H"):
        assert complete(assisted, code)["matches"], code
    assert re.search(r"assist is on, [\d.]+ MiB resident, shared by all notebooks", assisted.execute(":assist").text)


def analyser_of(cache):
    """Pids of the analysers whose folder is in this cache."""
    return processes(f"skep-assist {cache}")


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_dead_or_off_it_is_not_missed(tmp_path):
    kernel = Kernel(tmp_path, {"SKEP_CACHE": str(tmp_path / "cache")})
    kernel.execute('let flights = df!("a" => [1])?;')
    wait_for(lambda: complete(kernel, "std::collections::Has")["matches"])
    (pid,) = analyser_of(tmp_path)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    reply = complete(kernel, "fli")
    assert reply["matches"] == ["flights"] and types(reply)["flights"] == ("variable", "DataFrame")
    assert complete(kernel, ":va")["matches"] == [":vars"]
    wait_for(lambda: complete(kernel, "std::collections::Has")["matches"])
    assert analyser_of(tmp_path) != [pid], "it was started again"
    assert "off" in kernel.execute(":assist off").text
    assert complete(kernel, "fli")["matches"] == ["flights"]
    assert "is not a thing" in kernel.execute(":assist maybe").error
    assert kernel.execute("1 + 1").text == "2"
    kernel.close()


def test_one_analyser_serves_all_notebooks_and_ends_with_the_last(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    kernels = [Kernel(tmp_path / name, {"SKEP_CACHE": str(tmp_path / "cache")}) for name in "ab"]
    for kernel in kernels:
        kernel.execute("struct Bee { age: u32 }" if kernel is kernels[0] else "struct Wasp { sting: u32 }")
        complete(kernel, "x.")
    wait_for(lambda: "reading sources for the first time" in kernels[0].execute(":assist").text, 5)
    for kernel, code, expect in [(kernels[0], "let b = Bee { age: 1 }; b.", "age"), (kernels[1], "let w = Wasp { sting: 1 }; w.", "sting")]:
        wait_for(lambda: complete(kernel, "std::collections::Has")["matches"])
        assert expect in complete(kernel, code)["matches"]
    (pid,) = analyser_of(tmp_path)
    text = kernels[1].execute(":assist").text
    resident = float(re.search(r"assist is on, ([\d.]+) MiB resident, shared by all notebooks", text)[1])
    assert resident < 1000, text
    os.kill(kernels[0].manager.provisioner.pid, signal.SIGKILL)
    assert complete(kernels[1], "std::collections::Has")["matches"] and analyser_of(tmp_path) == [pid]
    kernels[1].close()
    wait_for(lambda: not analyser_of(tmp_path), 30)


def test_it_gives_its_memory_back_when_nobody_asks(tmp_path):
    kernel = Kernel(tmp_path, {"SKEP_CACHE": str(tmp_path / "cache"), "SKEP_ASSIST_IDLE": "2"})
    wait_for(lambda: complete(kernel, "std::collections::Has")["matches"])
    assert "it ends after 2 seconds without a question" in kernel.execute(":assist").text
    wait_for(lambda: not analyser_of(tmp_path), 30)
    wait_for(lambda: "starts at the first Tab" in kernel.execute(":assist").text, 5)
    complete(kernel, "x.")
    wait_for(lambda: re.search(r"reading sources, (about \d+ s left|ready any moment)", kernel.execute(":assist").text), 5)
    wait_for(lambda: complete(kernel, "std::collections::Has")["matches"])
    kernel.close()
