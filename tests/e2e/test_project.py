"""`skep new` and `:new`: cells that become a Cargo project, which is built, run and tested as its owner would."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from conftest import SKEP
from test_cells import ok

ENV = {name: value for name, value in os.environ.items() if name not in ("CARGO_TARGET_DIR", "RUSTFLAGS", "SKEP_FLOWS")}


def run(*command, cwd=None, code=0, **env):
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, env={**ENV, **env})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def cargo(project, *arguments, code=0, **env):
    return run("cargo", *arguments, "--offline", "--color", "never", cwd=project, code=code, **env)


def test_one_to_begin_with(tmp_path):
    said = run(SKEP, "new", "hive", cwd=tmp_path)
    assert "it compiles" in said and "cargo run" in said, said
    project = tmp_path / "hive"
    # What it takes where Skep is not installed: the sources, and crates of the very versions that are inside.
    named = (project / "Cargo.toml").read_text().split("[dependencies]")[1]
    assert re.search(r'# skep = { path = ".*/kernel/skep" }\n', named) and re.search(r'# polars = { version = "=[\d.]+", default-features = false }\n', named) and "# serde_json = " in named, named
    assert "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]" in cargo(project, "run")
    assert "1 passed" in cargo(project, "test")
    # Polars was not compiled: all of it is a few megabytes.
    assert sum(path.stat().st_size for path in (project / "target").rglob("*") if path.is_file()) < 200e6
    # In release as well, and formatted as Rust is.
    assert "81]" in cargo(project, "run", "--release")
    run("rustfmt", "--check", "--edition", "2024", project / "src" / "main.rs")


NOTEBOOK = [
    ":dep comb = {{ path = \"{comb}\" }}\nlet cluster = Cluster::local().workers(2).start()?;",
    "use std::collections::BTreeMap;\n\n/// A flower.\n#[derive(Clone, Debug, Serialize, Deserialize)]\nstruct Flower {{ name: String, petals: u32 }}",
    "fn twice(n: u32) -> u32 {{ n + n + 1 }} // wrong",
    "fn twice(n: u32) -> u32 {{\n    n * 2\n}}",
    "// All of them, twice.\nlet flowers = vec![Flower {{ name: \"rose\".into(), petals: 5 }}, Flower {{ name: \"lily\".into(), petals: 6 }}];\nlet petals: Vec<u32> = cluster.gather(cluster.map(twice, flowers.iter().map(|f| f.petals)))?;\npetals.iter().sum::<u32>()",
    "let mut by_name = BTreeMap::new();\nfor flower in &flowers {{\n    by_name.insert(flower.name.clone(), comb::six() * u64::from(flower.petals));\n}}\nprintln!(\"{{by_name:?}}\");",
    "let (df, _kind) = (df!(\"petals\" => petals.clone())?, \"table\");\nFrame::from(df.clone()).select([col(\"petals\").max()]).collect()?",
    "%%sql most\nselect max(petals) + 100 as more from df",
    ":vars",
    "let late = async {{ 40 + 2 }}.await;\nprintln!(\"late {{late}}\");",
    "!echo from a shell",
]


@pytest.fixture
def notebook(tmp_path):
    comb = tmp_path / "comb"
    (comb / "src").mkdir(parents=True)
    (comb / "Cargo.toml").write_text('[package]\nname = "comb"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nserde = "1"\n')
    (comb / "src" / "lib.rs").write_text("pub fn six() -> u64 { fn is<T: serde::Serialize>(_: &T) -> u64 { 6 } is(&1u8) }")
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# Flowers", "id": "m"}]
    cells += [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": text.format(comb=comb)} for i, text in enumerate(NOTEBOOK)]
    file = tmp_path / "flowers.ipynb"
    file.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return file


def test_a_notebook_becomes_a_program(tmp_path, notebook):
    said = run(SKEP, "new", "flowers", "--from", notebook, cwd=tmp_path)
    assert "it compiles" in said and "left out: cell 9 of flowers.ipynb: `:vars` is a notebook's" in said and "`!echo from a shell` is for a shell" in said, said
    project = tmp_path / "flowers"
    source = (project / "src" / "main.rs").read_text()
    assert "n + n + 1" not in source and "/// A flower.\n#[derive(" in source and "// All of them, twice." in source and "use std::collections::BTreeMap;" in source, source
    assert "comb = { path = " in (project / "Cargo.toml").read_text()
    said = cargo(project, "run")
    for shown in ("22", "112", '{"lily": 36, "rose": 30}', "petals", "12", "late 42"):
        assert shown in said, said
    assert "1 passed" in cargo(project, "test")
    # The cells as they were run too.
    assert "late 42" in run(SKEP, "run", "cells.rs", cwd=project)
    # Chosen ones.
    said = run(SKEP, "new", "some", "--from", notebook, "--cells", "1 4-5 2", cwd=tmp_path)
    assert "it compiles" in said and "by_name" not in (tmp_path / "some/src/main.rs").read_text(), said
    # What does not compile by itself says what is missing, and is there to be mended.
    said = run(SKEP, "new", "broken", "--from", notebook, "--cells", "6", cwd=tmp_path, code=1)
    assert "it does not compile yet" in said and "cannot find value `flowers`" in said, said


def test_the_library_s_own_files_are_left_alone(tmp_path, notebook):
    """Cargo dates what it takes for its own work; dated anew, the library's crates would all be compiled again."""
    library = SKEP.parent.parent / "lib"
    before = {path: path.stat().st_mtime_ns for folder in ("deps", "host") for path in (library / folder).iterdir()}
    run(SKEP, "new", "flowers", "--from", notebook, "--cells", "1-4", cwd=tmp_path)
    cargo(tmp_path / "flowers", "check")
    cargo(tmp_path / "flowers", "build")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_cannot_be_made(tmp_path, notebook):
    for arguments, words in (
        (["1bee"], "cannot be a project's name"),
        (["skep"], "cannot be a project's name"),
        (["hive", "--from", tmp_path / "nowhere.ipynb"], "cannot be read"),
        (["hive", "--from", notebook, "--cells", "99"], "there is no cell 99 in"),
        (["hive", "--from", notebook, "--cells", "two"], "`two` is no cell's number"),
        (["/proc/hive"], "cannot be written"),
    ):
        said = run(SKEP, "new", *arguments, cwd=tmp_path, code=1)
        assert words in said and "hint: " in said, said
    for text, words in (
        (":vars\n!ls\n", "nothing to make a program of: cell 1 of odd.rs: `:vars` is a notebook's; cell 1 of odd.rs: `!ls` is for a shell"),
        ("fn main() { println!(\"a\"); }\n// %%\nlet x = 1;\n", "a cell defines `main`"),
    ):
        (tmp_path / "odd.rs").write_text(text)
        said = run(SKEP, "new", "hive", "--from", "odd.rs", cwd=tmp_path, code=1)
        assert words in said and "hint: " in said, said
    (tmp_path / "python.ipynb").write_text('{"cells": [], "metadata": {"kernelspec": {"language": "python", "name": "python3"}}}')
    for command in (["new", "hive", "--from"], ["run"]):
        said = run(SKEP, *command, "python.ipynb", cwd=tmp_path, code=1)
        assert "python.ipynb is a notebook in python, not in Rust" in said, said
    assert not (tmp_path / "hive").exists()
    # What somebody has changed stays; what nobody has may be made again.
    run(SKEP, "new", "hive", cwd=tmp_path)
    run(SKEP, "new", "hive", cwd=tmp_path)
    (tmp_path / "mine.rs").write_text("println!(\"mine\");\n")
    run(SKEP, "new", "mine", "--from", "mine.rs", cwd=tmp_path)
    assert "made of other cells" in run(SKEP, "new", "mine", cwd=tmp_path, code=1)
    assert "mine" in (tmp_path / "mine/src/main.rs").read_text()
    (tmp_path / "hive/src/main.rs").write_text("fn main() {}")
    assert "not as it was made" in run(SKEP, "new", "hive", cwd=tmp_path, code=1)
    assert (tmp_path / "hive/src/main.rs").read_text() == "fn main() {}"


def test_a_cell_s_own_main_is_the_program_s(tmp_path):
    for name, text in (("plain", "fn main() { println!(\"hello\"); }\n// %%\nmain()\n"), ("failing", "fn main() -> Result<(), skep::Error> {\n    println!(\"hello {}\", \"4\".parse::<i64>()?);\n    Ok(())\n}\n")):
        (tmp_path / "cells.rs").write_text(text)
        assert "it compiles" in run(SKEP, "new", name, "--from", "cells.rs", cwd=tmp_path)
        assert cargo(tmp_path / name, "run").count("hello") == 1 and "1 passed" in cargo(tmp_path / name, "test")


def test_what_is_defined_again_is_said(tmp_path):
    (tmp_path / "rate.rs").write_text("// %%\nfn rate() -> f64 { 1.0 }\n// %%\nlet a = rate(); println!(\"{a}\");\n// %%\nfn rate() -> f64 { 2.0 }\n// %%\nrate() + a\n")
    said = run(SKEP, "new", "twice", "--from", "rate.rs", cwd=tmp_path)
    assert "note: cell 3 of rate.rs defines `rate` anew" in said and "it compiles" in said, said
    # Nothing stands between the two: the older one was a try.
    said = run(SKEP, "new", "once", "--from", "rate.rs", "--cells", "1 3-4", cwd=tmp_path, code=1)
    assert "anew" not in said and "cargo check" in said and "cargo run" not in said, said
    for name, words in (("fn", "Rust, cargo or Skep use it"), (".", "name the folder")):
        assert words in run(SKEP, "new", name, cwd=tmp_path, code=1)


def test_a_folder_with_other_files_is_made_a_project(tmp_path):
    """As `cargo init` does: a test was there first, and stays."""
    (tmp_path / "hive/tests").mkdir(parents=True)
    (tmp_path / "hive/tests/mine.rs").write_text("#[test]\nfn holds() {}\n")
    run(SKEP, "new", "hive", cwd=tmp_path)
    assert cargo(tmp_path / "hive", "test").count("1 passed") == 2
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/README.md").write_text("precious")
    assert "is there already" in run(SKEP, "new", "notes", cwd=tmp_path, code=1)
    assert (tmp_path / "notes/README.md").read_text() == "precious" and not (tmp_path / "notes/Cargo.toml").exists()


def test_from_a_session(kernel, tmp_path):
    folder = pathlib.Path(ok(kernel, "std::env::current_dir()?.display().to_string()").text.strip('"'))
    ok(kernel, "fn inc(x: i64) -> i64 { x + 1 }")
    assert kernel.execute("let broken: i64 = \"text\";").error
    ok(kernel, "let cluster = Cluster::local().workers(1).start()?;\nlet three = cluster.submit(inc, 2).gather()?;\nthree")
    shown = ok(kernel, ":new counted").text
    assert "it compiles" in shown, shown
    assert "\n3\n" in "\n" + cargo(folder / "counted", "run")
    # From a cell, which has a cluster of its own: the program does not take it for its.
    shown = ok(kernel, "String::from_utf8(std::process::Command::new(\"counted/target/debug/counted\").output()?.stdout)?").text
    assert "3" in shown, shown
    shown = ok(kernel, "!counted/target/debug/counted && skep --version").stream()
    assert "3\n" in shown and "skep 0" in shown, shown
    for line, words in ((":new", "needs a name"), (":new hive 77", "there is no cell 77"), (":new a b", "is no cell's number"), (':new "my hive"', "`my hive` cannot be a project's name")):
        error = kernel.execute(line).error
        assert words in error, error
    assert not (folder / "hive").exists()


def test_a_project_hears_of_another_build_of_skep(tmp_path):
    """The library's date stands for a build: what was linked with the old one is linked again."""
    run(SKEP, "new", "hive", cwd=tmp_path)
    project = tmp_path / "hive"
    cargo(project, "build")
    assert "Compiling" not in cargo(project, "build")
    dep_info = next((project / "target/debug/.fingerprint").glob("hive-*/dep-bin-hive"))
    assert b"libskep.so" in dep_info.read_bytes()
