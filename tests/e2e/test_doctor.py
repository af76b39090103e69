"""`skep doctor`, and the kernel in a Jupyter that is there already."""

import json
import os
import subprocess
import sys

from conftest import HOME, SKEP


def skep(*arguments, code=0, **env):
    done = subprocess.run([SKEP, *map(str, arguments)], capture_output=True, text=True, timeout=120, env={**os.environ, **{name: str(value) for name, value in env.items()}})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_doctor_finds_all_in_order():
    report = json.loads(skep("doctor", "--json"))
    assert report["ok"] and report["version"], report
    found = {check["name"]: check for check in report["checks"]}
    assert all(check["ok"] for check in found.values())
    for name in ("Rust", "a C linker", "Python", "JupyterLab", "memory", "the cache", "a session", "a cell", "two workers", "a frame", "the dashboard", "completion"):
        assert name in found, report
    assert found["a cell"]["ms"] < 20_000 and found["Rust"]["ms"] is None
    said = skep("doctor")
    assert "✓ two workers: works, " in said and "Everything is in order." in said, said


def test_the_doctor_says_what_mends_it(tmp_path):
    said = skep("doctor", code=1, PATH=tmp_path, SKEP_CACHE=tmp_path / "cache")
    for line in ("✗ a C linker: `cc` does not run", "apt-get install gcc", "✗ Python: python3 is not there", "✗ JupyterLab: its private Python environment is not there", "`skep lab` makes it"):
        assert line in said, said
    # Cells cannot be linked: each says so, and none hangs.
    assert "✗ a cell: " in said and "Not in order: " in said, said
    said = skep("doctor", code=1, SKEP_HOME=tmp_path / "nowhere")
    assert "✗ Rust: Skep is not set up at" in said and "run ./install/start" in said, said
    (tmp_path / "file").write_text("")
    said = skep("doctor", code=1, SKEP_CACHE=tmp_path / "file")
    assert "✗ the cache: " in said and "set SKEP_CACHE to another folder" in said, said


def test_the_kernel_in_a_jupyter_that_is_there(tmp_path):
    data = {"XDG_DATA_HOME": tmp_path / "data", "JUPYTER_DATA_DIR": "", "JUPYTER_PATH": ""}
    said = skep("install", **data)
    folder = tmp_path / "data" / "jupyter" / "kernels" / "skep"
    assert str(folder) in said and "skep uninstall" in said, said
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["display_name"] == "Rust (Skep)" and spec["env"]["SKEP_HOME"] == str(HOME.resolve()) or spec["env"]["SKEP_HOME"] == str(HOME), spec
    code = "from jupyter_client.kernelspec import KernelSpecManager as of; print(of().get_kernel_spec('skep').display_name)"
    env = {**os.environ, **{name: str(value) for name, value in data.items() if value}}
    env.pop("JUPYTER_PATH", None)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert found.stdout.strip() == "Rust (Skep)", found.stderr
    # Again it is the same; and away it is away.
    skep("install", "--user", **data)
    assert "was taken out of" in skep("uninstall", **data) and not folder.exists()
    assert "No kernel of Skep's" in skep("uninstall", **data)
    # An environment of its own, which has to be there.
    (tmp_path / "environment").mkdir()
    skep("install", "--prefix", tmp_path / "environment")
    assert (tmp_path / "environment" / "share" / "jupyter" / "kernels" / "skep" / "kernel.json").exists()
    skep("uninstall", "--prefix", tmp_path / "environment")
    assert "there is no folder" in skep("install", "--prefix", tmp_path / "nowhere", code=1)


def test_what_is_somebody_elses_stays(tmp_path):
    other = tmp_path / "share" / "jupyter" / "kernels" / "skep"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["other"]}')
    assert "No kernel of Skep's" in skep("uninstall", "--prefix", tmp_path) and (other / "kernel.json").exists()
    (tmp_path / "precious").mkdir()
    said = skep("uninstall", "--prefix", tmp_path, "--cache", code=1, SKEP_CACHE=tmp_path / "precious")
    assert "is no cache of Skep's" in said and (tmp_path / "precious").is_dir(), said
    # A cache is one by what is in it.
    (tmp_path / "cache" / "home").mkdir(parents=True)
    (tmp_path / "cache" / "home" / "toolchain.json").write_text("{}")
    said = skep("uninstall", "--prefix", tmp_path, "--cache", SKEP_CACHE=tmp_path / "cache")
    assert "was removed" in said and not (tmp_path / "cache").exists(), said
