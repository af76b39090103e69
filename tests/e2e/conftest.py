"""A real Jupyter client against the real kernel. Nothing here is mocked."""

import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import time

import pytest
from jupyter_client.manager import KernelManager

# Two hundred kernels in one process: their sockets close late.
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))

# It has Dask. The one that `skep lab` makes may not be there yet.
os.environ["SKEP_PYTHON"] = sys.executable

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
HOME = pathlib.Path(os.environ["SKEP_HOME"])
SKEP = HOME / "bin" / "skep"


class Kernel:
    """A kernel and the messages of one execution at a time."""

    def __init__(self, folder, env=None, name="skep"):
        self.manager = KernelManager(kernel_name=name)
        # A history of its own: that of the person who runs the tests is not touched.
        self.manager.start_kernel(cwd=str(folder), env={**os.environ, "XDG_STATE_HOME": str(pathlib.Path(folder) / "state"), **(env or {})})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def execute(self, code, timeout=60, **options):
        """Runs a cell; returns its reply and all its iopub messages, busy to idle."""
        return self.finish(self.client.execute(code, **options), timeout)

    def finish(self, msg_id, timeout=60):
        messages = []
        deadline = time.monotonic() + timeout
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            messages.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while True:
            reply = self.client.get_shell_msg(timeout=max(0.1, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == msg_id:
                return Result(reply["content"], messages)

    def control(self, msg_type, content=None, timeout=10):
        message = self.client.session.msg(msg_type, content or {})
        self.client.control_channel.send(message)
        while True:
            reply = self.client.get_control_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return reply["content"]

    def interrupt(self):
        return self.control("interrupt_request")

    def close(self):
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel(now=False)
        else:
            self.manager.cleanup_resources()


class Result:
    def __init__(self, reply, messages):
        self.reply = reply
        self.messages = messages

    def of(self, msg_type):
        return [m["content"] for m in self.messages if m["msg_type"] == msg_type]

    @property
    def status(self):
        return self.reply["status"]

    @property
    def text(self):
        """The text form of the result, or None."""
        results = self.of("execute_result")
        return results[-1]["data"]["text/plain"] if results else None

    @property
    def notes(self):
        """Lines beside the results."""
        return "\n".join(c["data"]["text/plain"] for c in self.of("display_data") if c["data"]["text/plain"].startswith("note: "))

    def stream(self, name="stdout"):
        return "".join(c["text"] for c in self.of("stream") if c["name"] == name)

    @property
    def error(self):
        assert self.status == "error", f"expected an error, got {self.reply} {self.text} {self.stream()}"
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(self.reply["traceback"]))


@pytest.fixture(scope="session", autouse=True)
def kernelspec(tmp_path_factory):
    """The kernelspec as `skep lab` writes it, seen by this Python."""
    data = tmp_path_factory.mktemp("jupyter")
    folder = data / "kernels" / "skep"
    folder.mkdir(parents=True)
    spec = {
        "argv": [str(SKEP), "kernel", "--connection-file", "{connection_file}"],
        "display_name": "Rust (Skep)",
        "language": "rust",
        "interrupt_mode": "message",
        "env": {"SKEP_HOME": str(HOME)},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(data)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("work"))
    yield kernel
    kernel.close()


@pytest.fixture
def fresh(tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


def browser_of(playwright):
    """Chromium of this machine."""
    chromium = os.environ.get("SKEP_CHROMIUM") or shutil.which("chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    return playwright.chromium.launch(executable_path=chromium, args=options)


def processes(pattern):
    """Pids of processes whose command line holds `pattern`."""
    out = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True)
    return [int(pid) for pid in out.stdout.split()]
