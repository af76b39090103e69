"""What `./install/start` says when something is missing, on the second run, and when it is stopped."""

import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import SKEP

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
NEEDED = ["bash", "dirname", "sed", "mkdir", "git", "cksum", "cat", "awk", "df", "cc", "cargo", "python3", "rustc", "rm", "sort", "wc", "date", "sleep", "find", "sh", "cp", "mv", "nice", "env", "touch", "id", "head", "ln", "ls", "ps", "grep", "tr", "getconf", "xargs"]

# Makes its folders only when it comes to them, as cargo does, and a `skep` that says how it was called.
STAND_IN = """#!/bin/sh
case "$1" in
  tree) printf 'a v1 (x)\\nb v1\\nc v1\\n' ;;
  rustc)
    sleep 1.2
    for crate in a b c; do mkdir -p "$CARGO_TARGET_DIR/release/deps"; touch "$CARGO_TARGET_DIR/release/deps/lib$crate-1.rlib"; sleep 0.2; done
    echo '{}' ;;
  build)
    mkdir -p "$CARGO_TARGET_DIR/release"
    printf '#!/bin/sh\\necho "skep $*"\\n[ "$1" != assemble ] || { mkdir -p "$7/bin"; cp "$0" "$7/bin/skep"; touch "$7/toolchain.json"; }\\n' >"$CARGO_TARGET_DIR/release/skep"
    chmod +x "$CARGO_TARGET_DIR/release/skep" ;;
esac
"""


def environment(tmp_path, without=(), stand_ins=None, **env):
    """Only the tools it needs are in the path, less some."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for name in [*NEEDED, "chmod"]:
        if name not in without and not (tools / name).exists():
            # Not a version manager's proxy, which needs tools of its own.
            (tools / name).symlink_to(os.path.realpath(sys.executable) if name == "python3" else shutil.which(name))
    for name, text in (stand_ins or {}).items():
        (tools / name).unlink(missing_ok=True)
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return {"HOME": os.environ["HOME"], "PATH": str(tools), **env}


def start(tmp_path, without=(), stand_ins=None, **env):
    env = environment(tmp_path, without, stand_ins, **env)
    return subprocess.run(["bash", str(CHECKOUT / "install/start"), "--check"], capture_output=True, text=True, timeout=60, env=env)


def working_on(cache):
    """Command lines of processes that have this cache in their environment or arguments."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            # A process that has ended and waits to be reaped has none.
            if line and (str(cache).encode() in (entry / "environ").read_bytes() + line):
                found.append(line.replace(b"\0", b" ").decode()[:120])
        except OSError:
            pass
    return found


@pytest.mark.parametrize("tool,words", [("cargo", "cargo is not there"), ("cc", "a C compiler is not there"), ("python3", "python3 is not there")])
def test_a_missing_tool_gets_one_line_with_the_fix(tmp_path, tool, words):
    done = start(tmp_path, without=[tool], SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1 and f"error: {words}" in done.stderr and "hint: install" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("tool,text,words", [
    ("rustc", "echo 'rustc 1.80.1 (3f5fd8dd4 2024-08-06)'", ["Rust 1.80.1 is older than 1.", "https://rustup.rs"]),
    ("rustc", "echo 'error: could not download file' >&2; exit 1", ["the Rust compiler does not run: error: could not download file", "rustup toolchain install 1."]),
    ("python3", "exit 1", ["python3 is older than 3.11 or lacks its venv module", "python3-venv"]),
])
def test_a_tool_that_will_not_do(tmp_path, tool, text, words):
    done = start(tmp_path, stand_ins={tool: f"#!/bin/sh\n{text}\n"}, SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2 and all(word in done.stderr for word in words), done


def test_without_network(tmp_path):
    offline = "#!/bin/sh\n[ \"$1\" = tree ] || { echo 'error: failed to download: Could not resolve host' >&2; exit 101; }\n"
    done = start(tmp_path, stand_ins={"cargo": offline}, SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1 and "Could not resolve host" in done.stderr and "a bundle needs none, ./install/start --from FILE" in done.stderr, done


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([SKEP, "lab", "--no-browser", "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"port {port} is taken" in done.stderr and "leave --port out" in done.stderr, done


def test_a_cache_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = start(tmp_path, SKEP_CACHE=str(blocked / "cache"))
    assert done.returncode == 1 and "cannot be written" in done.stderr and "SKEP_CACHE" in done.stderr


def test_a_full_disk(tmp_path):
    full = "#!/bin/sh\nprintf 'Filesystem 1024-blocks Used Available Capacity Mounted on\\n/dev/x 9 9 %s 9 /\\n'\n"
    before = start(tmp_path, stand_ins={"df": full % 2097152}, SKEP_CACHE=str(tmp_path / "cache"))
    assert before.returncode == 1 and "only 2 GB are free" in before.stderr and "SKEP_CACHE" in before.stderr
    (tmp_path / "cache/target/release").mkdir(parents=True)
    fails = "#!/bin/sh\n[ \"$1\" = tree ] || { echo 'No space left on device' >&2; exit 101; }\n"
    during = start(tmp_path, stand_ins={"df": full % 1024, "cargo": fails}, SKEP_CACHE=str(tmp_path / "cache"))
    assert during.returncode == 1 and "libskep.so could not be built" in during.stderr and "only 1 MB are free" in during.stderr


def test_folders_that_come_late_are_waited_for(tmp_path):
    """Once the count of a folder that was not there yet ended the script without a word, in every second first start."""
    done = start(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done
    assert "Compiling: 0 of about 3 crates" in done.stdout
    assert "built after" in done.stdout and "skep lab --check" in done.stdout
    again = start(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE=str(tmp_path / "cache"))
    assert again.returncode == 0 and "Compiling" not in again.stdout and "skep lab --check" in again.stdout


def test_a_crate_that_is_compiled_anew(tmp_path):
    """Nothing left to do, then something, then nothing: how far that is was once divided by zero, and the build left half done without a word."""
    cache, sleep = tmp_path / "cache", shutil.which("sleep")
    deps = cache / "target/release/deps"
    deps.mkdir(parents=True)
    for name in ("polars_core-1.d", "libpolars_core-1.rlib"):
        (deps / name).touch()
    anew = f"""#!/bin/sh
case "$1" in
  tree) echo 'polars_core v1' ;;
  rustc)
    rlib=$CARGO_TARGET_DIR/release/deps/libpolars_core-1.rlib
    {sleep} 2; rm "$rlib"; {sleep} 2; touch "$rlib"; {sleep} 2
    echo '{{}}' ;;
  *)""" + STAND_IN.partition("  build)")[2]
    # The next look is taken in half a second, not in ten.
    stand_ins = {"cargo": anew, "sleep": f"#!/bin/sh\nexec {sleep} 0.02\n"}
    done = start(tmp_path, stand_ins=stand_ins, SKEP_CACHE=str(cache))
    assert done.returncode == 0 and not done.stderr, done
    counts = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Compiling: ")]
    assert counts == ["1", "0", "1"], done.stdout
    assert "skep lab --check" in done.stdout and (cache / "home/stamp").exists(), done.stdout


def test_who_waits_for_another_start_ends_at_once(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        env = environment(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE=str(cache))
        waiting = subprocess.Popen(["bash", str(CHECKOUT / "install/start"), "--check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        for line in waiting.stdout:
            if line.startswith("Compiling: "):
                break
        waiting.terminate()
        # Nothing of it is left that holds its output.
        out, err = waiting.communicate(timeout=10)
        assert waiting.returncode == -signal.SIGTERM and "goes on from here" in err, (out, err)
    done = start(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE=str(cache))
    assert done.returncode == 0 and "another start" not in done.stdout, done


def test_what_is_not_whole_is_built_again(tmp_path):
    cache = tmp_path / "cache"
    go = lambda cargo=STAND_IN: start(tmp_path, stand_ins={"cargo": cargo}, SKEP_CACHE=str(cache))
    assert go().returncode == 0 and (cache / "home/stamp").exists()
    (cache / "home/bin/skep").unlink()
    done = go()
    assert done.returncode == 0 and "built after" in done.stdout and "skep lab --check" in done.stdout, done
    version = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True, cwd=CHECKOUT).stdout
    newer = f"#!/bin/sh\necho '{version.strip()} and newer'\n"
    done = start(tmp_path, stand_ins={"cargo": STAND_IN, "rustc": newer}, SKEP_CACHE=str(cache))
    assert done.returncode == 0 and "built after" in done.stdout, "another compiler does not read what this one wrote"
    # An update that fails half way, and then what was there before: its stamp does not speak for what the other left.
    (cache / "home/stamp").write_text("of an earlier version")
    done = go(STAND_IN.replace('mkdir -p "$7/bin"', "exit 3"))
    assert done.returncode == 1 and "could not be put into" in done.stderr and not (cache / "home/stamp").exists(), done


def test_what_a_compiler_leaves_running_locks_nobody_out(tmp_path):
    """As the server of sccache, which the first compiler starts."""
    lasting = STAND_IN.replace("    sleep 1.2\n", "    sleep 12 >/dev/null 2>&1 </dev/null &\n")
    assert start(tmp_path, stand_ins={"cargo": lasting}, SKEP_CACHE=str(tmp_path / "cache")).returncode == 0
    (tmp_path / "cache/home/stamp").unlink()
    done = start(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0 and "another start" not in done.stdout and "built after" in done.stdout, done


def test_what_another_checkout_compiled_is_not_taken_for_this_ones(tmp_path):
    """cargo goes by dates: crates of a newer version once were part of an older one."""
    prints = tmp_path / "target/release/.fingerprint"
    for name in ("skep-0123456789abcdef", "skep-cell-0123456789abcdef", "serde-0123456789abcdef"):
        (prints / name).mkdir(parents=True)
    (tmp_path / "target/skep-checkout").write_text("/elsewhere")
    own = lambda: subprocess.run(["bash", "-c", "set -euo pipefail; . install/common.sh; own_cache"], cwd=CHECKOUT, check=True, env={**os.environ, "SKEP_CACHE": str(tmp_path)})
    own()
    assert [path.name for path in prints.iterdir()] == ["serde-0123456789abcdef"]
    (prints / "skep-cell-0123456789abcdef").mkdir()
    own()
    assert len(list(prints.iterdir())) == 2, "this one's stay"


def test_paths_are_from_where_they_were_named(tmp_path):
    env = environment(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE="my cache")
    done = subprocess.run(["bash", str(CHECKOUT / "install/start"), "--check", "--folder", "lessons"], capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path)
    assert done.returncode == 0 and f"skep lab --check --folder {tmp_path}/lessons" in done.stdout and (tmp_path / "my cache/home/stamp").exists(), done
    (tmp_path / "out").mkdir()
    (tmp_path / "my cache/home/bundle.json").write_text("{}")
    for to, words in (("out", "was itself set up from a bundle"), (tmp_path / "out", "was itself set up from a bundle"), ("install", "there is no folder install"), ("", "--to needs a folder")):
        done = subprocess.run(["bash", str(CHECKOUT / "install/bundle"), "--to", to], capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path)
        assert done.returncode == 1 and words in done.stderr, (to, done)


@pytest.mark.parametrize("option,words", [("--chekc", "there is no option --chekc"), ("--from=", "--from needs a file"), ("--port", "--port needs a number"), ("--folder", "--folder needs a folder")])
def test_a_mistyped_option_builds_nothing(tmp_path, option, words):
    env = environment(tmp_path, stand_ins={"cargo": STAND_IN}, SKEP_CACHE=str(tmp_path / "cache"))
    done = subprocess.run(["bash", str(CHECKOUT / "install/start"), option], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 1 and f"error: {words}\nhint: " in done.stderr and not (tmp_path / "cache").exists(), done


# A Python that makes environments: each is one script, which installs whatever it is told, in a second, unless there is no network.
BASE = """#!/bin/sh
echo made >>"$LOG"
rm -rf "$4"
mkdir -p "$4/bin"
cat >"$4/bin/python" <<'SCRIPT'
#!/bin/sh
case "$*" in *pip*) sleep 1; [ ! -e "$LOG.offline" ] || { echo 'No matching distribution found' >&2; exit 1; } ;; esac
SCRIPT
chmod +x "$4/bin/python"
"""


def test_the_private_environment_is_made_once_and_kept_until_the_next_is_whole(tmp_path):
    base, log, cache = tmp_path / "base", tmp_path / "log", tmp_path / "cache"
    base.write_text(BASE)
    base.chmod(0o755)
    env = {**os.environ, "SKEP_CACHE": str(cache), "SKEP_BASE_PYTHON": str(base), "LOG": str(log)}
    lab = lambda: subprocess.Popen([SKEP, "lab", "--only"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    # What an earlier version made, under the name that is a link now.
    (cache / "python/bin").mkdir(parents=True)
    (cache / "python/skep-requirements.txt").write_text("other==1")
    several = [lab() for _ in range(3)]
    said = [each.communicate(timeout=60)[0] for each in several]
    assert [each.returncode for each in several] == [0, 0, 0] and log.read_text() == "made\n", said
    assert sum("another start makes its Python environment" in text for text in said) == 2, said
    first = (cache / "python").resolve()
    assert (cache / "python").is_symlink() and (first / "share/jupyter/kernels/skep/kernel.json").exists()
    # An update without network.
    (first / "skep-requirements.txt").write_text("jupyterlab==1")
    first.rename(cache / "jupyter-earlier")
    (cache / "python").unlink()
    (cache / "python").symlink_to("jupyter-earlier")
    offline = tmp_path / "log.offline"
    offline.touch()
    process = lab()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "No matching distribution found" in said and "is the network there?" in said, said
    assert (cache / "python").resolve() == cache / "jupyter-earlier" and (cache / "python/bin/python").exists()
    offline.unlink()
    process = lab()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and (cache / "python").resolve() == first and (cache / "jupyter-earlier/bin/python").exists(), said


@pytest.mark.parametrize("command,words", [("tree", None), ("rustc", "libskep.so could not be built"), ("build", "the skep binary could not be built")])
def test_a_failure_says_what_failed(tmp_path, command, words):
    broken = STAND_IN.replace(f"  {command})", f"  {command}) exit 7 ;;\n  not-{command})")
    done = start(tmp_path, stand_ins={"cargo": broken}, SKEP_CACHE=str(tmp_path / "cache"))
    if words is None:
        assert done.returncode == 0, "only the count of crates is missing"
    else:
        assert done.returncode == 1 and f"error: {words}" in done.stderr and "hint:" in done.stderr


def test_an_unforeseen_failure_is_named(tmp_path):
    done = start(tmp_path, stand_ins={"cargo": STAND_IN, "date": "#!/bin/sh\nexit 3\n"}, SKEP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 3 and "failed with status 3" in done.stderr and "hint:" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_it_leaves_no_compiler_and_goes_on_later(tmp_path, how):
    """Real cargo, an empty cache, until the first crates are counted; Ctrl-C once left the compiler running."""
    cache = tmp_path / "cache"
    env = {**os.environ, "SKEP_CACHE": str(cache)}

    def run_until_counted():
        # A terminal's Ctrl-C reaches the foreground group; a service manager's signal the script alone. This is the harder one.
        script = subprocess.Popen(["bash", str(CHECKOUT / "install/start"), "--check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True)
        counts = []
        for line in script.stdout:
            if line.startswith("Compiling: "):
                counts.append(int(line.split()[1]))
            if counts and counts[-1] > 3:
                break
        script.send_signal(how)
        err = script.communicate(timeout=20)[1]
        assert script.returncode == -how, err
        assert "goes on from here" in err
        deadline = time.monotonic() + 10
        while working_on(cache) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not working_on(cache)
        return counts

    first = run_until_counted()
    assert first[0] < 50, "what is done is counted, not what is planned"
    # What cargo has recorded as done. A compiler that was stopped may have written its library and not yet said so: that one is made again.
    recorded = (cache / "target/release/.fingerprint").glob("*/lib-*.json")
    made = [path for done in recorded for path in (cache / "target/release/deps").glob(f"lib*-{done.parent.name.rsplit('-', 1)[1]}.rlib")]
    assert made, "libraries are told by the name of their record"
    stamps = {path: path.stat().st_mtime_ns for path in made}
    second = run_until_counted()
    assert second[0] >= first[-1], "what was compiled is there"
    assert {path: path.stat().st_mtime_ns for path in made} == stamps, "nothing was compiled again"


def test_help():
    done = subprocess.run([str(CHECKOUT / "install/start"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--no-browser" in done.stdout and "--check" in done.stdout
