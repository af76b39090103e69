"""`skep doctor`, and the kernel in a Jupyter that is there already."""

import json
import os
import shutil
import subprocess
import sys

from conftest import HOME, SKEP


def skep(*arguments, code=0, timeout=120, **env):
    done = subprocess.run([SKEP, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, env={**os.environ, **{name: str(value) for name, value in env.items()}})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_doctor_finds_all_in_order():
    # JupyterLab's environment is made by the first `skep lab`, which may be a later test's.
    assert "Skep is ready" in skep("lab", "--only", timeout=400)
    report = json.loads(skep("doctor", "--json"))
    assert report["ok"] and report["version"], report
    found = {check["name"]: check for check in report["checks"]}
    assert all(check["ok"] for check in found.values())
    for name in ("Rust", "a C linker", "Python", "JupyterLab", "memory", "the cache", "a session", "a cell", "two workers", "a frame", "the dashboard", "completion"):
        assert name in found, report
    assert found["a cell"]["ms"] < 20_000 and found["Rust"]["ms"] is None
    said = skep("doctor")
    assert "✓ two workers: works, " in said and "Everything is in order." in said, said


def test_who_reads_the_first_line_only_hears_of_no_failure():
    for command in (["doctor"], ["course", "list"], ["disk"]):
        process = subprocess.Popen([SKEP, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=120) == 141 and said == "", said


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
    assert "note: there is no Python in" in skep("install", "--prefix", tmp_path / "environment")
    assert "note: " not in skep("install", "--prefix", sys.prefix) and "was taken out of" in skep("uninstall", "--prefix", sys.prefix)
    assert (tmp_path / "environment" / "share" / "jupyter" / "kernels" / "skep" / "kernel.json").exists()
    skep("uninstall", "--prefix", tmp_path / "environment")
    assert "there is no folder" in skep("install", "--prefix", tmp_path / "nowhere", code=1)


def test_the_command_is_in_the_path_of_who_has_one(tmp_path):
    bin = tmp_path / ".local" / "bin"
    env = {"HOME": tmp_path, "XDG_DATA_HOME": tmp_path / "data", "JUPYTER_DATA_DIR": "", "PATH": f"{bin}:{os.environ['PATH']}"}
    assert str(bin / "skep") in skep("install", **env)
    # By the link it finds its home; and a second time is as good.
    bare = {name: value for name, value in os.environ.items() if name != "SKEP_HOME"}
    assert subprocess.run([bin / "skep", "run", "-"], input="1 + 1", capture_output=True, text=True, env=bare, timeout=60).stdout.strip() == "2"
    skep("install", **env)
    skep("uninstall", **env)
    assert not (bin / "skep").exists() and not (bin / "skep").is_symlink()
    # Where a shell does not look, nothing is put; what is somebody else's stays.
    skep("install", **{**env, "PATH": os.environ["PATH"]})
    assert not (bin / "skep").is_symlink()
    (bin / "skep").write_text("other")
    skep("install", **env)
    skep("uninstall", **env)
    assert (bin / "skep").read_text() == "other"


def test_a_home_is_named_from_where_one_is():
    done = subprocess.run([SKEP, "run", "-"], input="1 + 1", capture_output=True, text=True, timeout=60, cwd=HOME.parent, env={**os.environ, "SKEP_HOME": HOME.name})
    assert done.stdout.strip() == "2", done.stderr


def test_the_disk(tmp_path):
    cache = tmp_path / "cache"
    for name, size in (("home/bin/skep", 3_000_000), ("deps/skep_dep_1/lib.rs", 10), ("deps/target-1/big", 5_000_000), ("python/bin/python", 1_000), ("logs/skep.log", 1_000)):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(b"x" * size)
    said = skep("disk", SKEP_CACHE=cache)
    assert "3 MB  Skep, and what cells are compiled against" in said and "left over from earlier versions: `skep disk --clean`" in said, said
    report = json.loads(skep("disk", "--json", SKEP_CACHE=cache))
    assert report["bytes"] > 8_000_000 and report["left_over"] > 5_000_000 and report["free"] > 0, report
    # JupyterLab's environments: the one of now, and one of an earlier version.
    shutil.rmtree(cache / "python")
    for name in ("jupyter-now", "jupyter-earlier"):
        (cache / name).mkdir()
        os.utime(cache / name, (1e9, 1e9))
    (cache / "python").symlink_to("jupyter-now")
    said = skep("disk", "--clean", SKEP_CACHE=cache)
    assert "Freed 5 MB" in said and not (cache / "deps/target-1").exists() and (cache / "home/bin/skep").exists(), said
    assert (cache / "jupyter-now").exists() and not (cache / "jupyter-earlier").exists()
    assert "--clean" in skep("disk", "--all", SKEP_CACHE=cache, code=2)
    # A crate of this very build is kept.
    kept = json.loads(skep("disk", "--json"))
    assert kept["bytes"] > 1e9


def test_a_cache_on_another_disk_is_found_without_its_name(tmp_path):
    """From a terminal that does not know of SKEP_CACHE, all was once made anew in the default place."""
    home = tmp_path / "disk/home"
    (home / "bin").mkdir(parents=True)
    shutil.copy(SKEP, home / "bin/skep")
    folder = lambda **env: json.loads(subprocess.run([home / "bin/skep", "disk", "--json"], capture_output=True, check=True, env={"HOME": str(tmp_path / "me"), "PATH": os.environ["PATH"], **env}).stdout)["folder"]
    assert folder() == str(tmp_path / "me/.cache/skep"), "a copy of the program alone is no home"
    (home / "toolchain.json").write_text("{}")
    assert folder() == str(tmp_path / "disk") and folder(SKEP_CACHE=str(tmp_path / "other")) == str(tmp_path / "other")


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


def git(folder, *words):
    subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", *words], check=True, capture_output=True, text=True)


def test_an_update_takes_what_is_new_and_builds_it(tmp_path):
    origin, checkout, home = tmp_path / "origin", tmp_path / "checkout", tmp_path / "home"
    script = origin / "install" / "start"
    script.parent.mkdir(parents=True)

    def publish(text):
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        git(origin, "add", "-A")
        git(origin, "commit", "-m", text)

    git(tmp_path, "init", "-q", "-b", "main", origin)
    publish('echo "built the first, $*"')
    git(tmp_path, "clone", "-q", origin, checkout)
    # This very Skep, but for where it was built from.
    home.mkdir()
    for part in HOME.iterdir():
        if part.name != "checkout":
            (home / part.name).symlink_to(part)
    (home / "checkout").write_text(str(checkout))
    update = {"SKEP_HOME": home}
    publish('echo "built the second, $*"')
    assert "built the second, --only" in skep("update", **update)
    assert "built the second, --only" in skep("update", **update)
    # What a build says and how it ends is what an update says.
    publish("echo no room; exit 1")
    assert "no room" in skep("update", code=1, **update)
    # Somebody's own change is not overwritten.
    (checkout / "install" / "start").write_text("#!/bin/sh\necho mine\n")
    publish('echo "built the third"')
    said = skep("update", code=1, **update)
    assert "could not be brought up to date" in said and "was something changed by hand?" in said and "mine" not in said, said
    (home / "checkout").write_text(str(tmp_path / "gone"))
    said = skep("update", code=1, **update)
    assert "there is no checkout that this Skep was built from" in said and "skep update --from FILE" in said, said
