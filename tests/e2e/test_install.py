"""What `./install/start` says when something is missing, and on the second run."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
NEEDED = ["bash", "dirname", "sed", "mkdir", "git", "cksum", "cat", "awk", "df", "cc", "cargo", "python3", "rustc"]


def start(tmp_path, without=(), **env):
    """Runs it with only the tools it needs in the path, less some."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for name in NEEDED:
        if name not in without and not (tools / name).exists():
            # Not a version manager's proxy, which needs tools of its own.
            (tools / name).symlink_to(os.path.realpath(sys.executable) if name == "python3" else shutil.which(name))
    return subprocess.run(["bash", str(CHECKOUT / "install/start"), "--check"], capture_output=True, text=True, timeout=60, env={"HOME": os.environ["HOME"], "PATH": str(tools), **env})


@pytest.mark.parametrize("tool,words", [("cargo", "cargo is not there"), ("cc", "a C compiler is not there"), ("python3", "python3 is not there")])
def test_a_missing_tool_gets_one_line_with_the_fix(tmp_path, tool, words):
    done = start(tmp_path, without=[tool], SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1 and f"error: {words}" in done.stderr and "hint: install" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_cache_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = start(tmp_path, SKEP_CACHE=str(blocked / "cache"))
    assert done.returncode == 1 and "cannot be written" in done.stderr and "SKEP_CACHE" in done.stderr


def test_help():
    done = subprocess.run([str(CHECKOUT / "install/start"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--no-browser" in done.stdout and "--check" in done.stdout
