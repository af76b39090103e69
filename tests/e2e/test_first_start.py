"""A first start opens before Polars is compiled: all but frames works, and frames come without a word lost."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from conftest import CHECKOUT, HOME, Kernel
from test_install import STAND_IN, environment, working_on

SAID = "Compiling: 210 of about 348 crates, 900 s so far, about 12 minutes left (polars_core)\n"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder `home-first` as `./install/start` makes it, but apart."""
    cache = tmp_path_factory.mktemp("first")
    # Nobody else compiles there meanwhile.
    with compiling(pathlib.Path(os.environ["SKEP_CACHE"])):
        # cargo keeps one libskep.so, and this one must not stay in the place of that with frames.
        release, aside = pathlib.Path(os.environ["SKEP_CACHE"]) / "target/release", cache / "aside"
        kept = [path for path in [release / "deps/libskep.so", release / "libskep.so", *(release / ".fingerprint").glob("skep-????????????????")] if path.exists()]
        for path in kept:
            (aside / path.relative_to(release)).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, aside / path.relative_to(release))
        try:
            script = 'set -euo pipefail; . install/common.sh; is_locked=yes; FIRST=$1/home-first; SKEP_HOME=$1/home; build_first'
            done = subprocess.run(["bash", "-c", script, "build", cache], cwd=CHECKOUT, capture_output=True, text=True, timeout=900, env={**os.environ, "CI": "true"})
            assert done.returncode == 0, done
            yield cache
        finally:
            for path in kept:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                shutil.move(aside / path.relative_to(release), path)


@pytest.fixture
def begun(first, tmp_path):
    """A cache in which a first start was made, and a kernel of it."""
    (tmp_path / "home").symlink_to(first / "home-first")
    kernel = kernel_of(tmp_path)
    yield tmp_path, kernel
    kernel.close()


def kernel_of(cache):
    """As Jupyter starts one: by the path `home`, whatever is there then."""
    (cache / "work").mkdir(exist_ok=True)
    kernels = pathlib.Path(os.environ["JUPYTER_PATH"]) / "kernels"
    name = f"first-{cache.name}".lower()
    (kernels / name).mkdir(exist_ok=True)
    (kernels / name / "kernel.json").write_text((kernels / "skep/kernel.json").read_text().replace(str(HOME), str(cache / "home")))
    return Kernel(cache / "work", {"SKEP_HOME": str(cache / "home"), "SKEP_CACHE": str(cache)}, name)


@contextlib.contextmanager
def compiling(cache):
    """As if a script compiled in it."""
    with (cache / "lock").open("w") as lock:
        deadline = time.monotonic() + 300
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, f"who compiles in {cache}?\n" + "\n".join(working_on(cache))
                time.sleep(0.2)
        yield


def ok(kernel, code):
    done = kernel.execute(code)
    assert done.status == "ok", done.error
    return done


def test_all_but_frames_works(begun):
    cache, kernel = begun
    assert ok(kernel, "let v = vec![3, 1, 2]; v.iter().sum::<i32>()").text == "6"
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;\nfn inc(x: i64) -> i64 { x + 1 }\nfn add(a: i64, b: i64) -> i64 { a + b }")
    assert ok(kernel, "delayed!(add(inc(1), inc(2))).compute()?").text == "5"
    assert ok(kernel, "cluster.gather(&cluster.map(inc, 0..3))?").text == "[1, 2, 3]"
    assert ok(kernel, "Bag::from_items(0..10_i64, 3).sum().compute()?").text == "45"
    ok(kernel, "fn next(n: i64) -> Result<i64, skep::Error> { task(inc).call(n) }")
    assert ok(kernel, 'let run = Flow::new("next", next).run(4)?; run.result()?').text == "5"


@pytest.mark.parametrize("code", ["Frame::read_csv(\"data/*.csv\")?", "df!(\"a\" => [1, 2])?", "use polars::prelude::*;", "col(\"a\").sum()", "%%sql\nselect 1 as a", ":dep polars", "?Frame::read_csv"])
def test_what_needs_frames_says_when_they_come(begun, code):
    cache, kernel = begun
    (cache / "build.log").write_text(SAID)
    with compiling(cache):
        error = kernel.execute(code).error
    assert error.startswith("error: frames are still being compiled: 210 of about 348 crates, about 12 minutes left\nhint: "), error
    error = kernel.execute(code).error
    assert "frames are not compiled yet, and nothing compiles them now" in error and "build.log has what was said" in error
    assert "frames" not in kernel.execute("framed + 1").error


def test_frames_come_and_what_runs_goes_on(begun):
    cache, kernel = begun
    ok(kernel, "let kept = 41_i64; fn inc(x: i64) -> i64 { x + 1 }")
    (cache / "home").unlink()
    (cache / "home").symlink_to(HOME)
    assert ok(kernel, "kept + 1").notes.count("frames are ready: restart the kernel") == 1
    done = ok(kernel, "kept + 2")
    assert done.text == "43" and not done.notes, "it is said once"
    # Processes that start now are of the library that the session has.
    assert ok(kernel, "let cluster = Cluster::local().workers(2).start()?; cluster.submit(inc, kept).gather()?").text == "42"
    assert "which are ready now" in kernel.execute("df!(\"a\" => [1])?").error
    assert "frames, which are ready now\nhint: restart the kernel" in ok(kernel, ":restart").text
    ok(kernel, "fn inc(x: i64) -> i64 { x + 1 }")
    kernel.execute("std::process::abort()")
    assert ok(kernel, "inc(1)").text == "2", "a new evaluation process too"
    later = kernel_of(cache)
    try:
        assert ok(later, "df!(\"a\" => [1, 2])?.height()").text == "2"
    finally:
        later.close()


def test_the_doctor_says_that_they_are_missing(first, tmp_path):
    (tmp_path / "home").symlink_to(first / "home-first")
    (tmp_path / "build.log").write_text(SAID)
    env = {**os.environ, "SKEP_HOME": str(tmp_path / "home"), "SKEP_CACHE": str(tmp_path)}
    with compiling(tmp_path):
        said = subprocess.run([tmp_path / "home/bin/skep", "doctor"], capture_output=True, text=True, timeout=120, env=env).stdout
    assert "✓ two workers: works" in said and "✗ a frame: frames are still being compiled: 210 of about 348 crates" in said, said


# A `skep lab` that is there until frames are, or for as long as it is wanted; and a library for each way to build it.
LAB = STAND_IN.replace('echo "skep $*"\\n', 'echo "skep $*"\\n[ "$1" != lab ] || { n=0; while [ -L "$SKEP_CACHE/home" ] && [ $n -lt 80 ]; do sleep 0.1; n=$((n + 1)); done; sleep 1; }\\n').replace("    sleep 1.2\n", '    echo "$*" >>"$CARGO_TARGET_DIR/builds"\n    sleep 0.5\n')


class Start:
    """`./install/start`, as a terminal has it."""

    def __init__(self, tmp_path, cargo=LAB, name="said", **env):
        env = environment(tmp_path, stand_ins={"cargo": cargo}, SKEP_CACHE=str(tmp_path / "cache"), **env)
        self.cache, self.said = tmp_path / "cache", tmp_path / name
        with self.said.open("w") as out:
            self.process = subprocess.Popen(["bash", str(CHECKOUT / "install/start"), "--no-browser"], stdout=out, stderr=out, env=env, start_new_session=True)

    def wait_for(self, words):
        deadline = time.monotonic() + 20
        while words not in self.said.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.05)

    def end(self):
        status = self.process.wait(timeout=60)
        # What goes on behind ends with it, a moment later.
        deadline = time.monotonic() + 10
        while working_on(self.cache) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not working_on(self.cache)
        return subprocess.CompletedProcess([], status, self.said.read_text())


def started(tmp_path, cargo=LAB, **env):
    return Start(tmp_path, cargo, **env).end()


def test_start_opens_before_frames_are_compiled(tmp_path):
    done = started(tmp_path)
    cache = tmp_path / "cache"
    assert done.returncode == 0 and "built after" in done.stdout and "but for frames" in done.stdout, done
    assert done.stdout.index("skep lab --no-browser") < done.stdout.index("Skep: frames are ready"), done.stdout
    builds = (cache / "target/builds").read_text().splitlines()
    assert ["--no-default-features" in build for build in builds] == [True, False]
    assert not (cache / "home").is_symlink() and (cache / "home/stamp").exists()
    again = started(tmp_path)
    assert again.returncode == 0 and "Compiling" not in again.stdout and (cache / "target/builds").read_text().splitlines() == builds


def test_two_starts_at_once_compile_once(tmp_path):
    one = Start(tmp_path)
    one.wait_for("compiling all but Polars")
    other = Start(tmp_path, name="other")
    other.wait_for("another start compiles in this cache; this one goes on after it")
    one.process.wait(timeout=60)
    said = [start.end().stdout for start in (one, other)]
    assert all("skep lab --no-browser" in text and "error" not in text for text in said), said
    assert "compiling all but Polars" not in said[1] and "Compiling: " in said[1]
    builds = (tmp_path / "cache/target/builds").read_text().splitlines()
    assert ["--no-default-features" in build for build in builds] == [True, False]
    assert not (tmp_path / "cache/home").is_symlink() and (tmp_path / "cache/home/stamp").exists()


def test_a_start_that_waits_takes_over_from_one_that_was_stopped(tmp_path):
    one = Start(tmp_path, LAB.replace("    sleep 0.5\n", "    sleep 5\n"))
    one.wait_for("compiling all but Polars")
    other = Start(tmp_path, name="other")
    other.wait_for("another start compiles in this cache")
    one.process.terminate()
    one.process.wait(timeout=10)
    done = other.end()
    assert done.returncode == 0 and "but for frames" in done.stdout and "Skep: frames are ready" in done.stdout, done


def test_stopped_before_frames_are_there_it_goes_on_next_time(tmp_path):
    """JupyterLab ended, and with it what went on behind."""
    slow = LAB.replace("    sleep 0.5\n", "    case \"$*\" in *no-default*) ;; *) sleep 4 ;; esac\n").replace("-lt 80", "-lt 10")
    done = started(tmp_path, slow)
    assert done.returncode == 0 and "frames are ready" not in done.stdout
    assert (tmp_path / "cache/home").is_symlink()
    # Meanwhile the cache was moved to another disk.
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "cache").rename(moved / "cache")
    done = started(moved)
    assert done.returncode == 0 and "compiling all but Polars" not in done.stdout and "Skep: frames are ready" in done.stdout, done
    assert not (moved / "cache/home").is_symlink()


def test_a_closed_terminal_ends_what_goes_on_behind(tmp_path):
    slow = LAB.replace("    sleep 0.5\n", "    case \"$*\" in *no-default*) ;; *) sleep 30 ;; esac\n")
    start = Start(tmp_path, slow)
    start.wait_for("skep lab --no-browser")
    time.sleep(1)
    assert working_on(start.cache)
    os.killpg(start.process.pid, signal.SIGHUP)
    assert start.end().returncode == -signal.SIGHUP


def test_frames_that_do_not_compile_leave_the_rest(tmp_path):
    broken = LAB.replace("    sleep 0.5\n", "    case \"$*\" in *no-default*) ;; *) echo 'No space left on device' >&2; exit 101 ;; esac\n").replace("-lt 80", "-lt 20")
    done = started(tmp_path, broken)
    assert done.returncode == 0 and "error: frames could not be compiled" in done.stdout and "build.log says why" in done.stdout, done
    log = (tmp_path / "cache/build.log").read_text()
    assert "No space left on device" in log and "error: frames could not be compiled" in log
    assert (tmp_path / "cache/home").is_symlink()


def test_without_a_window_all_is_built_at_once(tmp_path):
    env = environment(tmp_path, stand_ins={"cargo": LAB}, SKEP_CACHE=str(tmp_path / "cache"))
    done = subprocess.run(["bash", str(CHECKOUT / "install/start"), "--only"], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0 and "--no-default-features" not in (tmp_path / "cache/target/builds").read_text(), done
    assert not (tmp_path / "cache/home").is_symlink()
