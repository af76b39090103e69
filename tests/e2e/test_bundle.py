"""One file that sets Skep up without network, Rust or compiling, and a room that is served it."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from conftest import CHECKOUT, HOME, SKEP

CACHE = pathlib.Path(os.environ["SKEP_CACHE"]) if "SKEP_CACHE" in os.environ else pathlib.Path.home() / ".cache/skep"
ARCHIVE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release" / "skep-archive"
BUNDLE = CHECKOUT / "install" / "bundle.py"


def run(*command, code=0, timeout=120, **options):
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # A script ends what it started, which goes on and keeps the cache's lock where the script is killed.
        process.terminate()
        said, _ = process.communicate(timeout=30)
        raise AssertionError(f"not done after {timeout} s:\n{said}") from None
    assert process.returncode == code, said
    return said


def small(folder, name="small.tar.zst", **about):
    """A bundle whose `skep` says how it was called; real in all but what it holds."""
    content = folder / "content"
    (content / "bin").mkdir(parents=True, exist_ok=True)
    (content / "bin" / "skep").write_text('#!/bin/sh\necho "skep $*"\n')
    (content / "bin" / "skep").chmod(0o755)
    (content / "noise").write_bytes(os.urandom(3_000_000))
    here = re.search(r'"platform": "([^"]*)"', run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(BUNDLE.parent)!r}); sys.dont_write_bytecode = True; import bundle; print(f'\"platform\": \"{{bundle.this_platform()}}\"')"))[1]
    about = {"skep": "9.9.9", "platform": here, "glibc": "2.17", "pythons": [f"{sys.version_info.major}.{sys.version_info.minor}"], **about}
    (content / "bundle.json").write_text(json.dumps(about))
    run(sys.executable, BUNDLE, "make", content, folder / name, "--archive", ARCHIVE)
    return folder / name


def start(source, cache, *arguments, code=0, cwd=None, **env):
    return run(CHECKOUT / "install" / "start", "--from", source, *arguments, code=code, cwd=cwd, env={**os.environ, "SKEP_CACHE": str(cache), **env})


def test_a_file_sets_up(tmp_path):
    bundle, cache = small(tmp_path), tmp_path / "cache"
    digest, name = (tmp_path / "small.tar.zst.sha256").read_text().split()
    assert name == bundle.name and digest == hashlib.sha256(bundle.read_bytes()).hexdigest()
    said = start(bundle, cache, "--no-browser")
    assert "Skep 9.9.9: set up from small.tar.zst in " in said and "skep lab --no-browser" in said, said
    assert sorted(path.name for path in cache.iterdir()) == ["home"]
    # By a name from where one is; again; and `start` by itself takes what is there, and builds nothing.
    assert "set up from small.tar.zst" in start("small.tar.zst", cache, "--only", cwd=tmp_path)
    said = run(CHECKOUT / "install" / "start", "--no-browser", env={**os.environ, "SKEP_CACHE": str(cache)})
    assert "as it was set up from a bundle" in said and "skep lab --no-browser" in said, said


def test_what_is_refused(tmp_path):
    cache = tmp_path / "cache"
    for about, words in (
        ({"platform": "macos-aarch64"}, "is for macos-aarch64, and this machine is"),
        ({"glibc": "2.99"}, "needs glibc 2.99 or newer"),
        ({"pythons": ["2.7"]}, "brings JupyterLab for Python 2.7"),
    ):
        said = start(small(tmp_path, "other.tar.zst", **about), cache, code=1)
        assert words in said and "hint: " in said and "Traceback" not in said, said
    bundle = small(tmp_path)
    content = bundle.read_bytes()
    for broken, words in ((content[:-1000], "bytes are there"), (content[:-1000] + bytes(1000), "its checksum is another one"), (b"PK\x03\x04" + bytes(100), "is no bundle of Skep's"), (b"", "is no bundle of Skep's")):
        (tmp_path / "broken.tar.zst").write_bytes(broken)
        said = start(tmp_path / "broken.tar.zst", cache, code=1)
        assert words in said and "hint: " in said and "Traceback" not in said, said
        assert not (cache / "home").exists()
    assert "there is no file" in start(tmp_path / "nowhere", cache, code=1)
    assert "--from needs a file" in run(CHECKOUT / "install" / "start", "--from", code=1)
    # What is there stays until what is new is whole.
    start(bundle, cache, "--only")
    start(tmp_path / "broken.tar.zst", cache, code=1)
    assert (cache / "home" / "bin" / "skep").exists()
    (tmp_path / "file").write_text("")
    assert "cannot be written" in start(bundle, tmp_path / "file", code=1)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "uname", "env", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").symlink_to(os.path.realpath(sys.executable))
    assert "a C compiler is not there" in start(bundle, cache, code=1, PATH=str(tools))


class Room:
    def __init__(self, folder, bundle, port):
        self.said = folder / f"served-{time.monotonic_ns()}"
        self.port = port
        self.process = subprocess.Popen([SKEP, "serve-bundle", bundle, "--port", str(port), "--reports", folder / "reports"], stdout=self.said.open("w"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20
        while "Ctrl-C ends it" not in self.said.read_text():
            assert time.monotonic() < deadline and self.process.poll() is None, self.said.read_text()
            time.sleep(0.05)

    def get(self, path="", **headers):
        return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", headers=headers), timeout=10)

    def close(self, how=signal.SIGINT):
        self.process.send_signal(how)
        self.process.wait(timeout=20)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_room_is_served(tmp_path):
    bundle, cache = small(tmp_path), tmp_path / "cache"
    room = Room(tmp_path, bundle, free_port())
    try:
        said = room.said.read_text()
        line = re.search(r"curl -fsS (http://\S+) \| sh", said)
        assert line and str(room.port) in line[1], said
        # The very line, but for the address: this machine may have none that it reaches itself by.
        env = {**os.environ, "SKEP_CACHE": str(cache)}
        said = run("sh", "-c", f"curl -fsS http://127.0.0.1:{room.port} | sh -s -- --no-browser", env=env)
        assert re.search(r"Downloaded \d+ MB in ", said) and "set up from http://127.0.0.1" in said and "skep lab --no-browser" in said, said
        assert sorted(path.name for path in cache.iterdir()) == ["bundles", "home"] and not list((cache / "bundles").iterdir())
        who = room.get("who").read().decode()
        assert "127.0.0.1" in who and "100 %  set up" in who, who
        assert "has it all" in room.said.read_text() and "[1 have it, 1 set up, of 1]" in room.said.read_text()
        # Parts of it, and what is outside.
        whole = bundle.read_bytes()
        assert room.get("skep.tar.zst", Range="bytes=100-199").read() == whole[100:200]
        assert room.get("skep.tar.zst").read() == whole
        with pytest.raises(urllib.error.HTTPError, match="416"):
            room.get("skep.tar.zst", Range=f"bytes={len(whole)}-")
        # Reports of a laptop; what is none is refused, and its name stays in the folder.
        report = json.dumps({"host": "../bee 1", "ok": True, "checks": []}).encode()
        to = f"http://127.0.0.1:{room.port}/report/doctor"
        assert urllib.request.urlopen(urllib.request.Request(to, data=report, method="PUT"), timeout=10).read() == b"thank you\n"
        assert json.loads((tmp_path / "reports" / "bee 1-doctor.json").read_text())["ok"] is True
        assert "reports doctor: all in order" in room.said.read_text()
        for content, status in ((b"hello", "400"), (b"[" + b"1," * 200_000 + b"1]", "413")):
            with pytest.raises(urllib.error.HTTPError, match=status):
                urllib.request.urlopen(urllib.request.Request(to, data=content), timeout=10)
        assert len(list((tmp_path / "reports").iterdir())) == 1
    finally:
        room.close()


def test_forty_laptops_whose_network_comes_and_goes(tmp_path):
    """Each is cut off again and again, one sleeps through it all; and Ctrl-C ends it at once."""
    whole = os.urandom(24_000_000)
    bundle = tmp_path / "big.tar.zst"
    bundle.write_bytes(bytes.fromhex("502a4d18") + whole)
    whole = bundle.read_bytes()
    room = Room(tmp_path, bundle, free_port())
    asleep = socket.create_connection(("127.0.0.1", room.port), source_address=("127.0.0.200", 0))
    asleep.sendall(b"GET /skep.tar.zst HTTP/1.1\r\nHost: a\r\n\r\n")
    cuts = []

    def laptop(n):
        address, have, chance = f"127.0.0.{n + 1}", b"", random.Random(n)
        while len(have) < len(whole):
            with socket.create_connection(("127.0.0.1", room.port), timeout=60, source_address=(address, 0)) as s:
                s.sendall(f"GET /skep.tar.zst HTTP/1.1\r\nHost: a\r\nConnection: close\r\nSkep-Host: bee-{n}\r\nRange: bytes={len(have)}-\r\n\r\n".encode())
                stream = s.makefile("rb")
                while stream.readline().strip():
                    pass
                got = stream.read(chance.randrange(2_000_000, 16_000_000))
            cuts.append(1)
            have += got
        return have == whole

    try:
        with concurrent.futures.ThreadPoolExecutor(40) as laptops:
            assert all(laptops.map(laptop, range(40)))
        assert len(cuts) > 80
        who = room.get("who").read().decode()
        assert who.count("100 %") == 40 and "bee-39" in who and "127.0.0.200" in who, who
        assert "[40 have it, 0 set up, of 41]" in room.said.read_text()
        resident = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{room.process.pid}/status").read_text())
        assert int(resident[1]) < 200_000, resident[0]
    finally:
        began = time.monotonic()
        room.close()
    assert time.monotonic() - began < 5
    asleep.close()


def test_a_download_goes_on_where_the_network_went(tmp_path):
    bundle, cache, port = small(tmp_path), tmp_path / "cache", free_port()
    # What an earlier try left, in the name that the manifest gives it.
    manifest = json.loads(run(sys.executable, BUNDLE, "show", bundle))
    (cache / "bundles").mkdir(parents=True)
    (cache / "bundles" / f"{manifest['sha256'][:16]}.part").write_bytes(bundle.read_bytes()[:2_000_000])
    room = Room(tmp_path, bundle, port)
    env = {**os.environ, "SKEP_CACHE": str(cache)}
    taking = subprocess.Popen([sys.executable, BUNDLE, "take", f"http://127.0.0.1:{port}/skep.tar.zst", "--only"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    out, _ = taking.communicate(timeout=60)
    assert taking.returncode == 0 and "Downloaded " in out, out
    room.close()
    # Nobody there: a sentence, at once.
    said = run(sys.executable, BUNDLE, "take", f"http://127.0.0.1:{port}/skep.tar.zst", code=1, env=env)
    assert "does not answer" in said and "skep serve-bundle" in said and "Traceback" not in said, said


def test_a_server_that_dies_and_comes_back(tmp_path):
    """The network of a room: away in the middle of a file, and there again."""
    port, cache = free_port(), tmp_path / "cache"
    bundle = small(tmp_path)
    cutting = f"""
import http.server, pathlib
content = pathlib.Path({str(bundle)!r}).read_bytes()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, end = int(start), min(int(end or len(content)) + 1, len(content))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {{start}}-{{end - 1}}/{{len(content)}}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(content[start:min(end, start + 700_000)])  # and then it is gone
        self.close_connection = True
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
    server = subprocess.Popen([sys.executable, "-c", cutting])
    try:
        time.sleep(1)
        said = run(sys.executable, BUNDLE, "take", f"http://127.0.0.1:{port}/skep.tar.zst", "--only", env={**os.environ, "SKEP_CACHE": str(cache)})
        assert "the network is gone" in said and "set up from" in said, said
    finally:
        server.kill()
        server.wait()


def test_a_server_that_sends_no_parts_and_a_disk_that_is_full(tmp_path):
    bundle, cache, port = small(tmp_path), tmp_path / "cache", free_port()
    take = [sys.executable, BUNDLE, "take"]
    env = {**os.environ, "SKEP_CACHE": str(cache)}
    plain = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        said = run(*take, f"http://127.0.0.1:{port}/{bundle.name}", "--only", code=1, env=env)
        assert "cannot send a part of a file" in said and "skep serve-bundle" in said and "Traceback" not in said, said
    finally:
        plain.kill()
        plain.wait()
    room = Room(tmp_path, bundle, port)
    try:
        full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        said = run(*take, f"http://127.0.0.1:{port}/skep.tar.zst", "--only", code=1, env=env, preexec_fn=full)
        assert "the download stopped after 1 MB" in said and "free some space" in said, said
        assert "set up from" in run(*take, f"http://127.0.0.1:{port}/skep.tar.zst", "--only", env=env)
    finally:
        room.close()


def test_what_cannot_be_served(tmp_path):
    (tmp_path / "file").write_text("hello")
    assert "is no bundle of Skep's" in run(SKEP, "serve-bundle", tmp_path / "file", code=1)
    assert "cannot be read" in run(SKEP, "serve-bundle", tmp_path / "nowhere", code=1)
    room = Room(tmp_path, small(tmp_path), free_port())
    try:
        assert f"port {room.port} is taken" in run(SKEP, "serve-bundle", tmp_path / "small.tar.zst", "--port", room.port, code=1)
    finally:
        room.close()


# In this namespace there is no network, and neither Rust nor this machine's build is to be seen.
ALONE = """
for folder in "$HOME/.rustup" "$HOME/.cargo" "$OLD_CACHE"; do if [ -d "$folder" ]; then mount -t tmpfs none "$folder"; fi; done
ip link set lo up
export HOME="$FRESH" PATH=/usr/local/bin:/usr/bin:/bin
unset SKEP_HOME SKEP_PYTHON CARGO_TARGET_DIR CARGO_HOME RUSTUP_HOME XDG_CACHE_HOME JUPYTER_PATH JUPYTER_DATA_DIR
mkdir -p "$HOME"
exec "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace without network needs root")
def test_a_real_one_on_a_machine_without_network_and_rust(tmp_path):
    # `python3` of the system, as on any machine: the tests' own lives in the cache that is hidden.
    ours = run("env", "PATH=/usr/local/bin:/usr/bin:/bin", "python3", "-c", "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')").strip()
    env = {name: value for name, value in os.environ.items() if name not in ("SKEP_HOME", "CARGO_TARGET_DIR")}
    said = run(CHECKOUT / "install" / "bundle", "--to", tmp_path, timeout=900, env={**env, "SKEP_CACHE": str(CACHE), "SKEP_BUNDLE_PYTHONS": ours})
    bundle = next(tmp_path.glob("skep-*.tar.zst"))
    assert str(bundle) in said, said
    env |= {"FRESH": str(tmp_path / "fresh"), "OLD_CACHE": str(CACHE), "SKEP_CACHE": str(tmp_path / "cache")}
    began = time.monotonic()
    said = run("unshare", "-n", "-m", "bash", "-c", ALONE, "bash", CHECKOUT / "install" / "start", "--from", bundle, "--check", timeout=300, env=env)
    took = time.monotonic() - began
    assert "Lesson 1: passed" in said and "Everything is in order." in said and "✗" not in said, said
    # Five seconds to unpack, fifteen for the Python environment, ten for the lesson and as many for the doctor.
    assert took < 180, said
    disk = json.loads(run(tmp_path / "cache" / "home" / "bin" / "skep", "disk", "--json", env=env))
    assert disk["bytes"] < 2e9 and disk["left_over"] == 0, disk
