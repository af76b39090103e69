"""Notebook 7, jupytext, what VS Code's Jupyter extension asks of a kernel, and a JupyterHub with two users of one machine."""

import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from playwright.sync_api import expect, sync_playwright

from conftest import CHECKOUT, HOME, SKEP, browser_of
from test_frontends import go_when_it_answers, notebook, shot

CACHE = pathlib.Path(os.environ["SKEP_CACHE"]) if "SKEP_CACHE" in os.environ else pathlib.Path.home() / ".cache/skep"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_notebook_7(tmp_path):
    nbformat.write(notebook("fn slow(x: i64) -> i64 { sleep(Duration::from_millis(200)); x }\nlet cluster = Cluster::local().workers(2).start()?;", "cluster.gather(cluster.map(slow, 0..8))?.len()", "delayed!(slow(1)).graph()"), tmp_path / "n.ipynb")
    port = free_port()
    env = {**os.environ, "JUPYTER_TOKEN": "of-a-test", "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    server = subprocess.Popen([sys.executable, "-m", "notebook", "--no-browser", "--allow-root", f"--ServerApp.port={port}", f"--ServerApp.root_dir={tmp_path}"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        with sync_playwright() as playwright:
            browser = browser_of(playwright)
            page = browser.new_page(viewport={"width": 1000, "height": 1000})
            page.set_default_timeout(60_000)
            go_when_it_answers(page, f"http://127.0.0.1:{port}/notebooks/n.ipynb?token=of-a-test")
            page.wait_for_selector(".jp-Notebook .jp-CodeCell")
            page.wait_for_selector("text=Rust (Skep)")
            # A cell that is run before its kernel is there is not run at all.
            page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
            page.click(".jp-Notebook .jp-CodeCell >> nth=0")
            for _ in range(3):
                page.keyboard.press("Shift+Enter")
                page.wait_for_timeout(300)
            cells = page.locator(".jp-Notebook .jp-CodeCell")
            expect(cells.nth(1).locator(".jp-OutputArea-output").last).to_have_text("8", timeout=60_000)
            expect(cells.nth(1)).to_contain_text("8 of 8 tasks")
            expect(cells.nth(2).locator("svg")).to_be_visible()
            shot(page, "notebook-7")
            browser.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def test_jupytext_both_ways(tmp_path):
    """A percent script of jupytext's is a script of Skep's, and the other way round."""
    nbformat.write(notebook("let x = 20;", "x + 1"), tmp_path / "n.ipynb")

    def jupytext(*arguments):
        done = subprocess.run([sys.executable, "-m", "jupytext", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def skep(*arguments):
        done = subprocess.run([SKEP, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    jupytext("--to", "rs:percent", "n.ipynb")
    script = (tmp_path / "n.rs").read_text()
    assert "// %%" in script and "x + 1" in script, script
    assert skep("run", "n.rs").strip() == "21"
    (tmp_path / "own.rs").write_text("// %% [markdown]\n// # Title\n//\n// Text with `code`.\n\n// %%\nlet a = 1;\n\n// %%\na + 1\n")
    assert skep("run", "own.rs").strip() == "2"
    jupytext("--to", "ipynb", "--set-kernel", "skep", "own.rs")
    cells = nbformat.read(tmp_path / "own.ipynb", as_version=4).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "code"] and cells[0].source.startswith("# Title")
    assert skep("run", "own.ipynb").strip() == "2"
    # Commands live in both.
    (tmp_path / "commands.rs").write_text("// %%\n:opt 1\nlet b = 5;\n\n// %%\nb * 2\n")
    assert skep("run", "commands.rs").strip().endswith("10")
    jupytext("--to", "ipynb", "--execute", "--set-kernel", "skep", "commands.rs")
    out = nbformat.read(tmp_path / "commands.ipynb", as_version=4)
    assert out.cells[-1].outputs[-1]["data"]["text/plain"] == "10"


SHOWN = [
    "let cluster = Cluster::local().workers(2).start()?;\ncluster",
    "fn slow(x: i64) -> i64 { sleep(Duration::from_millis(150)); x }\nlet all = cluster.map(slow, 0..8);\ncluster.gather(&all)?.len()",
    "delayed!(slow(1) + slow(2)).graph()",
    "df!(\"a\" => [1, 2], \"b\" => [\"x\", \"y\"])?",
    "Frame::from(df!(\"a\" => [1, 2, 3])?)",
    "all[0].journey()?",
    ":workers",
    "let shown = display(1);\nshown.update(2);",
    "cluster.performance(|| cluster.gather(cluster.map(slow, 20..24)))?.1",
    "df!(\"x\" => [1, 2, 3], \"y\" => [1, 4, 9])?.plot().line(\"x\", \"y\")",
    "fn broken() -> i64 { \"text\" }",
    "nope",
    "panic!(\"on purpose\")",
]


def test_what_vs_code_asks_of_a_kernel(kernel):
    """VS Code's Jupyter extension: each output is one bundle, of which it shows the richest type that it knows (HTML, SVG, PNG, Markdown, text) in a
    web view of its own, without network and apart from other outputs; it follows `display_id`s, and takes a cell for done at `idle`."""
    known = {"text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/latex", "application/json", "text/plain"}
    for code in SHOWN:
        done = kernel.execute(code)
        kinds = [message["msg_type"] for message in done.messages]
        assert kinds[0] == "status" and kinds[-1] == "status" and kinds.count("status") == 2, kinds
        assert done.messages[0]["content"]["execution_state"] == "busy" and done.messages[-1]["content"]["execution_state"] == "idle"
        assert kinds[1] == "execute_input", kinds
        displayed = set()
        for message in done.messages:
            content = message["content"]
            if message["msg_type"] == "error":
                # Shown as text with ANSI colours, the last thing of its cell.
                assert content["ename"] and content["traceback"] and "\x1b[" in "".join(content["traceback"]), content
                continue
            if message["msg_type"] not in ("display_data", "update_display_data", "execute_result"):
                continue
            data = content["data"]
            own = {kind for kind in data if not kind.startswith("application/vnd.")}
            assert "text/plain" in data and own <= known, (code, sorted(data))
            name = content.get("transient", {}).get("display_id")
            if message["msg_type"] == "display_data" and name:
                displayed.add(name)
            if message["msg_type"] == "update_display_data":
                assert name in displayed, f"an update of what this cell has not shown: {code}"
            rich = data.get("text/html", "") + data.get("image/svg+xml", "")
            assert "<script" not in rich and "<link" not in rich and "<iframe" not in rich, code
            # A link may lead to the cluster's page; nothing is loaded from anywhere.
            assert not re.search(r"src=[\"'](?!data:)", rich), code
            # An SVG stands alone, also as a file.
            if "image/svg+xml" in data:
                assert data["image/svg+xml"].lstrip().startswith("<svg") and 'xmlns="http://www.w3.org/2000/svg"' in data["image/svg+xml"], code
            # Colours are those of the theme, or of both: none is set for the whole page.
            assert not re.search(r"(?:^|\})\s*(?:body|html|\*)\s*\{", rich), code
        assert done.reply["status"] in ("ok", "error")
    spec = json.loads((CACHE / "python/share/jupyter/kernels/skep/kernel.json").read_text()) if (CACHE / "python/share/jupyter/kernels/skep/kernel.json").exists() else json.loads((CACHE / "python-test/share/jupyter/kernels/skep/kernel.json").read_text())
    # It offers a kernel by its language, and interrupts by a message.
    assert spec["language"] == "rust" and spec["interrupt_mode"] == "message" and "{connection_file}" in spec["argv"]


# ---- JupyterHub

USERS = ("skeptest-bee", "skeptest-wasp")
# One that every user can run: that of a version manager is in its user's own folder.
SYSTEM_PYTHON = "/usr/bin/python3"


def has_system_python():
    wanted = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return pathlib.Path(SYSTEM_PYTHON).exists() and subprocess.run([SYSTEM_PYTHON, "-c", wanted], stderr=subprocess.DEVNULL).returncode == 0


class Hub:
    """A real hub, its own spawner of processes of system users, in a folder that they can read."""

    def __init__(self, folder, home, python):
        self.folder, self.port, self.home = folder, free_port(), home
        proxy = CACHE / "node"
        binary = proxy / "node_modules/.bin/configurable-http-proxy"
        if not binary.exists():
            done = subprocess.run(["npm", "install", "--silent", "--prefix", str(proxy), "configurable-http-proxy@5.3.0"], capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
        api, hub = free_port(), free_port()
        config = folder / "jupyterhub_config.py"
        config.write_text(f"""
c.JupyterHub.bind_url = "http://127.0.0.1:{self.port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = [{str(binary)!r}]
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "of-a-test"
c.Authenticator.allowed_users = set({USERS!r})
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie"
c.Spawner.cmd = [{str(python.parent / "jupyterhub-singleuser")!r}]
c.Spawner.environment = {{"JUPYTER_PREFER_ENV_PATH": "1"}}
c.Spawner.start_timeout = 60
c.JupyterHub.services = [{{"name": "test", "api_token": "a-token-of-the-tests-own", "admin": True}}]
c.JupyterHub.load_roles = [{{"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "access:servers", "tokens"]}}]
""")
        self.said = folder / "hub.log"
        env = {name: value for name, value in os.environ.items() if name not in ("SKEP_HOME", "SKEP_CACHE", "XDG_STATE_HOME", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR")}
        env["PATH"] = f"{python.parent}:{env['PATH']}"
        self.process = subprocess.Popen([str(python), "-m", "jupyterhub", "-f", str(config)], cwd=folder, stdout=self.said.open("w"), stderr=subprocess.STDOUT, env=env, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("GET", "/hub/api/")
                break
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, self.said.read_text()[-3000:]
                time.sleep(0.3)

    def ask(self, method, path, data=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers={"Authorization": "token a-token-of-the-tests-own", "Content-Type": "application/json"}, data=json.dumps(data).encode() if data is not None else None)
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return json.loads(content) if content.strip() else None

    def spawn(self, user):
        self.ask("POST", f"/hub/api/users/{user}/server")
        deadline = time.monotonic() + 90
        while not self.ask("GET", f"/hub/api/users/{user}")["servers"].get("", {}).get("ready"):
            assert time.monotonic() < deadline, self.said.read_text()[-3000:]
            time.sleep(0.5)

    def kernel(self, user):
        return HubKernel(self, user)

    def close(self):
        for user in USERS:
            try:
                self.ask("DELETE", f"/hub/api/users/{user}/server")
            except OSError:
                pass
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=30)


class HubKernel:
    """A kernel of a user's server, by the messages that a browser would send."""

    def __init__(self, hub, user):
        import websocket

        self.hub, self.user = hub, user
        self.id = hub.ask("POST", f"/user/{user}/api/kernels", {"name": "skep"})["id"]
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{hub.port}/user/{user}/api/kernels/{self.id}/channels", header=["Authorization: token a-token-of-the-tests-own"], timeout=90)

    def run(self, code):
        import uuid

        msg_id = uuid.uuid4().hex
        header = {"msg_id": msg_id, "msg_type": "execute_request", "version": "5.3", "username": "", "session": "s"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        self.socket.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}))
        shown = ""
        while True:
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            content = message["content"]
            if message["msg_type"] == "error":
                return "error: " + content["evalue"]
            if message["msg_type"] == "execute_result":
                shown, self.html = content["data"]["text/plain"], content["data"].get("text/html", "")
            if message["msg_type"] == "stream":
                shown += content["text"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return shown


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("npm") or not has_system_python(), reason="a hub that starts other users' processes needs root and a Python that they can run, and its proxy needs Node")
def test_a_hub_with_two_users():
    # Where both can read; what tests make otherwise is closed to others.
    folder = pathlib.Path(f"/var/tmp/skep-hub-{os.getpid()}")
    folder.mkdir(mode=0o755)
    hub = None
    try:
        for user in USERS:
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", user], check=True)
        home = folder / "home"
        shutil.copytree(HOME, home, symlinks=True, ignore=shutil.ignore_patterns("rmeta"))
        # The compiler too: that of this user is behind a folder that others cannot enter.
        toolchain = json.loads((home / "toolchain.json").read_text())
        sysroot = pathlib.Path(toolchain["rustc"]).resolve().parent.parent
        (home / "toolchain").mkdir()
        shutil.copytree(sysroot / "lib", home / "toolchain/lib", symlinks=True, ignore=shutil.ignore_patterns("src", "*.manifest"))
        (home / "toolchain/bin").mkdir()
        shutil.copy(sysroot / "bin/rustc", home / "toolchain/bin/rustc")
        (home / "toolchain.json").write_text(json.dumps({**toolchain, "rustc": "toolchain/bin/rustc"}))
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", folder / "python"], check=True)
        python = folder / "python/bin/python"
        requirements = [CHECKOUT / "install/requirements.txt", CHECKOUT / "install/requirements-hub.txt"]
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *(word for file in requirements for word in ("-r", file))], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        # As the page for teachers says; a cache of each user's own.
        env = {**os.environ, "SKEP_HOME": str(home), "SKEP_CACHE": str(folder / "cache")}
        subprocess.run([home / "bin/skep", "install", "--prefix", folder / "python"], check=True, env=env)
        file = folder / "python/share/jupyter/kernels/skep/kernel.json"
        spec = json.loads(file.read_text())
        del spec["env"]["SKEP_CACHE"]
        file.write_text(json.dumps(spec))
        hub = Hub(folder, home, python)
        bee, wasp = (hub.spawn(user) or hub.kernel(user) for user in USERS)
        assert bee.run("!id -un").strip() == USERS[0] and wasp.run("!id -un").strip() == USERS[1]
        # Each has a cluster, and values under the same name; neither sees the other's.
        start = 'fn me() -> String { std::env::var("HOME").unwrap_or_default() }\nlet cluster = Cluster::local().workers(1).name("hive").start()?;\nlet secret = cluster.submit(me, ());\ncluster.publish("secret", &secret)?;\nsecret.gather()?'
        for kernel, user in ((bee, USERS[0]), (wasp, USERS[1])):
            assert kernel.run(start) == f'"/home/{user}"', kernel.run(start)
            assert kernel.run('cluster.lookup::<String>("secret")?.gather()?') == f'"/home/{user}"'
        # The folder of sockets and compiled cells is closed; so is a dashboard without its token.
        run = bee.run('std::env::var("SKEP_RUN")?').strip('"')
        assert run.startswith(f"/home/{USERS[0]}/.cache/skep/run/"), run
        assert "Permission denied" in wasp.run(f'std::fs::read_dir("{run}")?.count()')
        assert "Permission denied" in wasp.run(f'std::os::unix::net::UnixStream::connect("{run}/scheduler.sock")?;')
        address = bee.run("cluster.dashboard()?.url().to_string()").strip('"')
        port = re.search(r":(\d+)/", address)[1]
        # The link that it shows leads through the hub.
        bee.run("cluster.dashboard()?")
        assert f"/user/{USERS[0]}/proxy/{port}/" in bee.html, bee.html
        assert "40" in wasp.run(f'use std::io::{{Read, Write}};\nlet mut s = std::net::TcpStream::connect("127.0.0.1:{port}")?;\nwrite!(s, "GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n")?;\nlet mut head = [0u8; 12];\ns.read_exact(&mut head)?;\nString::from_utf8_lossy(&head).into_owned()')
        # Through the hub's proxy, with its token, it is there.
        page = urllib.request.Request(f"http://127.0.0.1:{hub.port}/user/{USERS[0]}/proxy/{port}/{address.rsplit('/', 1)[1]}", headers={"Authorization": "token a-token-of-the-tests-own"})
        assert "Skep" in urllib.request.urlopen(page, timeout=20).read().decode()
        # One ends; the other goes on.
        hub.ask("DELETE", f"/user/{USERS[0]}/api/kernels/{bee.id}")
        assert wasp.run("cluster.submit(me, ()).gather()?") == f'"/home/{USERS[1]}"'
    finally:
        if hub:
            hub.close()
        for user in USERS:
            subprocess.run(["pkill", "-KILL", "-u", user], capture_output=True)
            time.sleep(0.2)
            subprocess.run(["userdel", "--remove", user], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_no_user_is_left():
    names = {entry.pw_name for entry in pwd.getpwall()}
    assert not names & set(USERS)
