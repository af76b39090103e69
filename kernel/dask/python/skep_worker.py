"""What runs Skep's tasks in a process of a Dask worker.

The bridge sends this file's text to the scheduler and to every worker, also to those that join later: nothing has to be
installed there. A task is bytes, the number of its library, and the bytes of its inputs; `libskep.so` makes sense of them.
"""

import ctypes
import hashlib
import logging
import os
import pathlib
import platform
import struct
import sys
import threading
import weakref

from distributed import Reschedule
from distributed.threadpoolexecutor import thread_state as of_pool
from distributed.threadpoolexecutor import threads_lock
from distributed.worker import thread_state as of_task

# What tasks give is a `memoryview` over Rust's own memory from this size on: Dask sends it without a copy. Less is `bytes`, and goes
# to the client with the word that it is there.
LARGE = 2 << 10


class TaskFailed(Exception):
    """A task of Skep's failed: what it says is its words, behind their length, and all of it in Rust's form."""

    def __init__(self, told):
        super().__init__(told)
        self.told = told

    def __str__(self):
        return self.told[4 : 4 + struct.unpack_from("<I", self.told)[0]].decode(errors="replace")

    __repr__ = __str__


class Bytes(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("n", ctypes.c_size_t)]


class Result(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("n", ctypes.c_size_t), ("capacity", ctypes.c_size_t)]


HEAR = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


class Runtime:
    """The libraries of this process. They are never unloaded."""

    def __init__(self):
        self.lock = threading.Lock()
        self.paths = {}
        self.base = None
        # Of the build that is loaded: two in one process would mix.
        self.digest = None
        # By Dask's key: the thread that a task runs on, and those that were told to stop; and threads whose place another has taken.
        self.running, self.stopped, self.left = {}, set(), set()
        # Dask's worker, which tells what tasks say; Rust keeps the way there.
        self.worker, self.hear = None, HEAR(self.on_said)

    def on_said(self, key, data, n):
        """On any thread: a task printed, or told how far it is."""
        try:
            self.worker.log_event("skep-said", [key.decode(), ctypes.string_at(data, n)])
        except Exception:
            # A worker that is closing tells nothing more.
            pass

    def load(self, path, place, digest):
        is_skep = os.path.basename(path) == "libskep.so"
        if is_skep:
            if self.digest not in (None, digest):
                raise RuntimeError("this worker has loaded another build of Skep: restart the workers of the Dask cluster")
            self.digest = digest
        # What is loaded is found by its name when another library needs it.
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        if not is_skep:
            return
        library.skep_task_run.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        library.skep_task_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        library.skep_task_free.restype = None
        library.skep_task_stop.argtypes = [ctypes.c_char_p]
        library.skep_task_stop.restype = None
        library.skep_task_prepare.argtypes = [ctypes.c_char_p, HEAR]
        library.skep_task_prepare.restype = None
        if self.base is None:
            keep_own_streams()
        library.skep_task_prepare(place.encode(), self.hear)
        self.base = library

    def path_of(self, code):
        with self.lock:
            path = self.paths.get(code)
        if path is None or self.base is None:
            raise RuntimeError("this worker does not have the code of the task: was the cluster restarted? Run `Cluster::connect(…)?` again")
        return path


RUNTIME = Runtime()


def run(request, code, *inputs):
    """Calls a task; Python's lock is free meanwhile."""
    path = RUNTIME.path_of(code)
    base = RUNTIME.base
    views = [memoryview(data).cast("B") for data in inputs]
    keeps = []
    table = (Bytes * max(1, len(views)))()
    for i, view in enumerate(views):
        if view.readonly:
            held = bytes(view) if not isinstance(inputs[i], bytes) else inputs[i]
            keeps.append(held)
            address = ctypes.cast(ctypes.c_char_p(held), ctypes.c_void_p).value
        else:
            held = (ctypes.c_char * len(view)).from_buffer(view) if len(view) else None
            keeps.append(held)
            address = ctypes.addressof(held) if held is not None else None
        table[i] = Bytes(address, len(view))
    result = Result()
    thread = threading.current_thread()
    RUNTIME.stopped.discard(of_task.key)
    RUNTIME.running[of_task.key] = thread
    try:
        has_failed = base.skep_task_run(request, len(request), os.fsencode(path), table, len(views), ctypes.byref(result))
    finally:
        RUNTIME.running.pop(of_task.key, None)
        with threads_lock:
            if thread in RUNTIME.left:
                RUNTIME.left.remove(thread)
                of_pool.proceed = False
    if not has_failed and result.n >= LARGE:
        held = (ctypes.c_ubyte * result.n).from_address(result.data)
        weakref.finalize(held, base.skep_task_free, result.data, result.n, result.capacity)
        return memoryview(held).cast("B")
    told = ctypes.string_at(result.data, result.n) if result.n else b""
    base.skep_task_free(result.data, result.n, result.capacity)
    if has_failed and of_task.key in RUNTIME.stopped:
        # Whoever cancelled it is gone; whoever wants it again meanwhile shall have it.
        raise Reschedule
    if has_failed:
        raise TaskFailed(told)
    return told


def keep_own_streams():
    """What Python itself says goes where it went: what arrives at the process's standard output from now on is of tasks."""
    loggers = [logging.getLogger(), *(logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]
    for name, fd in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        if before is None:
            continue
        before.flush()
        now = os.fdopen(os.dup(fd), "w", buffering=1, errors="backslashreplace")
        setattr(sys, name, now)
        for handler in {handler for logger in loggers for handler in logger.handlers}:
            if getattr(handler, "stream", None) is before:
                handler.setStream(now)


def of_key(table, key):
    """What is asked for a task: how often Dask shall try it again, or on which workers; nothing for most."""
    return table.get(key)


def part(whole, i):
    """One of the parts of a result: the last word says how many there are, the words before it where each is."""
    view = memoryview(whole).cast("B")
    n = struct.unpack_from("<Q", view, len(view) - 8)[0] if len(view) >= 8 else -1
    if n < 0 or 16 * n + 8 > len(view):
        raise ValueError("these bytes are no result in parts")
    if i >= n:
        raise IndexError(f"part {i} was asked for, and the task made {n}")
    start, size = struct.unpack_from("<QQ", view, len(view) - 8 - 16 * (n - i))
    return view[start : start + size]


def is_running(key):
    return key in RUNTIME.running


def stop(key):
    """Tells a task that runs to stop."""
    RUNTIME.stopped.add(key)
    RUNTIME.base.skep_task_stop(key.rpartition("-")[2].encode())


def leave(key, pool):
    """Takes the thread of a task out of the pool, which then has another for it; whether the task still ran."""
    thread = RUNTIME.running.get(key)
    with threads_lock:
        if thread is None or thread in RUNTIME.left or thread not in pool._threads:
            return False
        RUNTIME.left.add(thread)
        pool._threads.remove(thread)
        pool._adjust_thread_count()
    return True


def here():
    """What code of another machine has to fit."""
    return {"system": platform.system(), "machine": platform.machine(), "libc": " ".join(platform.libc_ver())}


def has_file(path, size, changed):
    """Whether this worker sees the very file: on this machine, or by a shared folder. With `SKEP_SEES_NOTHING` it is as if not."""
    if os.environ.get("SKEP_SEES_NOTHING"):
        return False
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_size == size and found.st_mtime_ns == changed


def place(path, size, changed, digest, content, folder):
    """Where a library is on this worker: the file itself where it is seen here, else a copy, checked and named by its content."""
    if has_file(path, size, changed):
        return path
    folder = pathlib.Path(folder) / "skep"
    folder.mkdir(exist_ok=True)
    copy = folder / digest / pathlib.Path(path).name
    if copy.exists() and copy.stat().st_size == size:
        return str(copy)
    if content is None:
        raise RuntimeError(f"{path} is not to be seen from this worker, which joined later: run `Cluster::connect(…)?` again")
    if hashlib.sha256(content).hexdigest() != digest:
        raise RuntimeError(f"{path} has changed on its way to this worker")
    copy.parent.mkdir(exist_ok=True)
    begun = copy.with_name(f"{copy.name}.{os.getpid()}")
    begun.write_bytes(content)
    begun.rename(copy)
    return str(copy)
