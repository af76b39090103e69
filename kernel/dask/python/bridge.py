"""Between Skep and a Dask cluster: a client of Dask's that does what Skep says on standard input, and tells what came of it on
standard output. Both speak MessagePack, each message behind its length.
"""

import asyncio
import functools
import hashlib
import os
import pathlib
import struct
import sys
import threading
import types

import dask
import distributed
import msgpack
from dask._task_spec import Task, TaskRef
from distributed import Client, fire_and_forget
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.worker_state_machine import SecedeEvent

# What became of tasks is told at most this often.
TELL_EVERY = 0.004
# What happens to tasks is told together, at most this often.
EVENTS_EVERY = 0.05
# A task that was told to stop has this long, before another thread takes its place.
STOP_PATIENCE = 0.3
# With more handles than this it is told less often, and with fewer at once.
FEW, MANY = 4, 200
TELL_MANY_EVERY = 0.1
# A scheduler that is not there is noticed within this time.
CONNECT_WITHIN = 4
# A worker says within this time whether it sees a file.
ANSWERS_WITHIN = 5

SOURCE = pathlib.Path(__file__).with_name("skep_worker.py").read_text()


def install(source):
    """Makes the worker's half a module of this process, unless it is there as it is."""
    known = sys.modules.get("skep_worker")
    if known is None or getattr(known, "SOURCE", None) != source:
        module = types.ModuleType("skep_worker")
        module.SOURCE = source
        exec(compile(source, "skep_worker.py", "exec"), module.__dict__)
        if known is not None:
            # What is loaded stays loaded.
            module.RUNTIME.__dict__.update(known.RUNTIME.__dict__)
        sys.modules["skep_worker"] = module
    return sys.modules["skep_worker"]


half = install(SOURCE)


class OnScheduler(SchedulerPlugin):
    """The scheduler reads graphs, and so has to know what they name; and it says what happens to tasks of Skep's."""

    name = "skep"

    def __init__(self, install, source, every):
        self.install, self.source, self.every = install, source, every

    async def start(self, scheduler):
        self.install(self.source)
        self.scheduler, self.said, self.loop = scheduler, [], asyncio.get_running_loop()

    def say(self, *event):
        self.said.append(event)
        if len(self.said) == 1:
            self.loop.call_later(self.every, self.flush)

    def flush(self):
        said, self.said = self.said, []
        self.scheduler.log_event("skep", said)

    def transition(self, key, start, finish, *args, worker=None, nbytes=0, startstops=(), **_):
        if not isinstance(key, str) or len(key.rpartition("-")[2]) != 32:
            return
        task = self.scheduler.tasks.get(key)
        if finish == "processing" and task is not None and task.processing_on is not None:
            self.say("assigned", key, task.processing_on.address, 0, 0, 0, "")
        elif finish == "memory" and start == "processing":
            ran = [at for at in startstops or () if at.get("action") == "compute"]
            begun, ended = (ran[-1]["start"], ran[-1]["stop"]) if ran else (0, 0)
            self.say("done", key, worker, nbytes or 0, int(begun * 1e6), max(0, int((ended - begun) * 1e6)), "")
        elif finish == "erred" and task is not None:
            self.say("failed", key, worker or "", 0, 0, 0, str(task.exception_text or ""))
        elif finish == "forgotten":
            self.say("freed", key, "", 0, 0, 0, "")

    def add_worker(self, scheduler, worker):
        self.say("joined", "", worker, 0, 0, 0, "")

    def remove_worker(self, scheduler, worker, **_):
        self.say("lost", "", worker, 0, 0, 0, "it has left Dask's scheduler")


class OnWorker(WorkerPlugin):
    """The worker's half, and the end of tasks that are cancelled while they run."""

    name = "skep"

    def __init__(self, install, source, patience):
        self.install, self.source, self.patience = install, source, patience

    def setup(self, worker):
        self.worker, self.half, self.loop = worker, self.install(self.source), asyncio.get_running_loop()

    def transition(self, key, start, finish, **_):
        if start == "executing" and finish in ("cancelled", "released", "forgotten") and self.half.is_running(key):
            self.half.stop(key)
            self.loop.call_later(self.patience, self.replace, key)

    def replace(self, key):
        """A task that was told to stop and does not listen gives its place to another thread."""
        if self.half.leave(key, self.worker.executors["default"]):
            self.worker.handle_stimulus(SecedeEvent(key=key, compute_duration=self.patience, stimulus_id=f"skep-{key}"))


class Code(WorkerPlugin):
    """A library, on every worker."""

    def __init__(self, install, source, here, code, is_base, file, content):
        self.name = f"skep-code-{code}-{file['digest'][:16]}"
        self.install, self.source, self.here, self.code, self.is_base, self.file, self.content = install, source, here, code, is_base, file, content

    def setup(self, worker):
        half = self.install(self.source)
        here = half.here()
        if (here["system"], here["machine"]) != (self.here["system"], self.here["machine"]):
            raise RuntimeError(f"the code is for {self.here['system']} on {self.here['machine']}, and this worker is {here['system']} on {here['machine']}")
        path = half.place(**self.file, content=self.content, folder=worker.local_directory)
        if self.is_base:
            half.RUNTIME.load(path, worker.address, self.file["digest"])
        with half.RUNTIME.lock:
            half.RUNTIME.paths[self.code] = path


class Refused(Exception):
    """Skep hears why, and what to do about it."""

    def __init__(self, what, hint):
        super().__init__(what)
        self.hint = hint


class Bridge:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.orders = asyncio.Queue()
        self.writing = threading.Lock()
        self.client = None
        # By Skep's key: Dask's name of a task, the handle of what is held, and how often it is.
        self.names, self.futures, self.n_held = {}, {}, {}
        self.workers = {}
        self.ended, self.is_telling = [], False

    def tell(self, ev, **message):
        packed = msgpack.packb({"ev": ev, **message})
        with self.writing:
            sys.stdout.buffer.write(struct.pack("<I", len(packed)) + packed)
            sys.stdout.buffer.flush()

    def read(self):
        """On a thread of its own."""
        stdin = sys.stdin.buffer
        while True:
            head = stdin.read(4)
            body = stdin.read(struct.unpack("<I", head)[0]) if len(head) == 4 else b""
            order = msgpack.unpackb(body) if body else {"op": "close"}
            self.loop.call_soon_threadsafe(self.orders.put_nowait, order)
            if order["op"] == "close":
                return

    async def connect(self, address):
        try:
            self.client = await Client(address, asynchronous=True, timeout=CONNECT_WITHIN, set_as_default=False, name="skep")
        except OSError as error:
            raise Refused(f"there is no Dask scheduler at {address}: {error}", "is it running, and can this machine reach it? `dask scheduler` prints its address") from error
        except Exception as error:
            hint = "Dask reads certificates from its own configuration: `distributed.comm.tls`" if address.startswith("tls:") else "an address is `tcp://host:8786`, as `dask scheduler` prints it"
            raise Refused(f"{address} is no address that Dask can connect to: {error or type(error).__name__}", hint) from error
        theirs = (await self.client.get_versions())["scheduler"]["packages"]
        for package, ours in {"distributed": distributed.__version__, "python": ".".join(map(str, sys.version_info[:2]))}.items():
            found = str(theirs.get(package))
            if found != ours and not (package == "python" and found.startswith(ours + ".")):
                raise Refused(f"the scheduler at {address} has {package} {found}, and this machine has {ours}", f"Dask wants the same on both sides: `pip install distributed=={distributed.__version__}` there")
        try:
            await self.client.register_plugin(OnScheduler(install, SOURCE, EVENTS_EVERY))
            await self.client.register_plugin(OnWorker(install, SOURCE, STOP_PATIENCE))
        except Exception as error:
            raise Refused(f"the scheduler at {address} takes no plugins: {error}", "Skep's code travels as plugins: ask who runs it to allow pickled ones") from error

    async def info(self):
        found = await self.client.scheduler.identity()
        workers = []
        for address, worker in found["workers"].items():
            metrics = worker.get("metrics", {})
            counts = metrics.get("task_counts") or {}
            workers.append({
                "id": self.number_of(address), "address": address, "pid": worker.get("pid") or 0, "threads": worker["nthreads"], "memory_limit": worker.get("memory_limit") or 0,
                "resident": metrics.get("memory", 0), "n_assigned": counts.get("executing", 0) + counts.get("ready", 0), "n_values": counts.get("memory", 0), "held": metrics.get("managed_bytes", 0),
            })
        return sorted(workers, key=lambda worker: worker["id"])

    def number_of(self, address):
        return self.workers.setdefault(address, len(self.workers) + 1)

    async def put_code(self, code, path, is_base):
        stat = pathlib.Path(path).stat()
        content = pathlib.Path(path).read_bytes()
        file = {"path": path, "size": stat.st_size, "changed": stat.st_mtime_ns, "digest": hashlib.sha256(content).hexdigest()}
        asked = self.client.run(sees, install, SOURCE, path, stat.st_size, stat.st_mtime_ns, on_error="ignore")
        try:
            seen = await asyncio.wait_for(asked, ANSWERS_WITHIN)
        except Exception:
            # One that does not answer holds up the others no longer.
            seen = {}
        # Where all see the very file, nothing has to travel.
        content = None if seen and all(seen.values()) else content
        await self.client.register_plugin(Code(install, SOURCE, half.here(), code, is_base, file, content))

    def name_of(self, key, part):
        name = self.names[key]
        return name if part is None else f"{name}/{part}"

    async def submit(self, tasks, wanted):
        graph, retries, chosen, again = {}, {}, {}, []
        for task in tasks:
            name = self.names.setdefault(task["key"], f"{task['name']}-{task['key']}")
            held = self.futures.get(task["key"])
            if held is not None and held.status == "error":
                # What failed is tried again. Its state first: the task may have ended before the scheduler has answered.
                held._state.retry()
                await self.client.scheduler.retry(keys=[held.key], client=self.client.id)
                self.loop.create_task(self.watch(task["key"], held))
                continue
            if held is not None and held.status == "cancelled":
                # Now, and not with the next turn of the loop, as `release` would: the new handle shall not be the old one.
                held._cleared = True
                self.client._dec_ref(held.key)
                del self.futures[task["key"]]
                again.append(task["key"])
            inputs = []
            for key, of_part in task["inputs"]:
                whole, name_of_input = self.names[key], self.name_of(key, of_part)
                if of_part is not None and name_of_input not in graph:
                    graph[name_of_input] = Task(name_of_input, half.part, TaskRef(whole), of_part)
                inputs.append(TaskRef(name_of_input))
            graph[name] = Task(name, half.run, task["request"], task["code"], *inputs)
            if task["retries"]:
                retries[name] = task["retries"]
            if task["workers"]:
                addresses = {number: address for address, number in self.workers.items()}
                chosen[name] = [addresses[number] for number in task["workers"] if number in addresses]
        held = {}
        for key in wanted:
            self.n_held[key] = self.n_held.get(key, 0) + 1
        for key in wanted + again:
            if key in self.futures:
                # Who wants it now hears too how it has ended.
                self.loop.create_task(self.watch(key, self.futures[key]))
            else:
                held[key] = self.names[key]
        if not graph and not held:
            return
        how = {name: functools.partial(half.of_key, table) for name, table in {"retries": retries, "workers": chosen}.items() if table}
        with dask.annotate(**how):
            futures = self.client.get(graph, list(held.values()), sync=False)
        for key, future in zip(held, futures):
            self.futures[key] = future
            self.loop.create_task(self.watch(key, future))

    async def watch(self, key, future):
        await future._state.wait()
        if self.futures.get(key) is not future:
            return
        self.ended.append((key, future))
        if not self.is_telling:
            self.is_telling = True
            try:
                # One alone is told at once.
                await asyncio.sleep(TELL_EVERY if len(self.n_held) > FEW else 0)
                while self.ended:
                    ended, self.ended = self.ended, []
                    await self.tell_ended(ended)
                    if len(self.futures) > MANY:
                        # Each word costs Dask's scheduler as much as several tasks.
                        await asyncio.sleep(TELL_MANY_EVERY)
            finally:
                self.is_telling = False

    async def tell_ended(self, ended):
        # Some were let go meanwhile, and some were lost with their worker and are being made again.
        ended = [(key, future) for key, future in ended if self.futures.get(key) is future]
        for key, future in ended:
            if future.status in ("lost", "pending"):
                self.loop.create_task(self.watch(key, future))
        ended = [(key, future) for key, future in ended if future.status not in ("lost", "pending")]
        done = {key: future for key, future in ended if future.status == "finished"}
        sizes, places, values = {}, {}, {}
        try:
            small = {key: future for key, future in done.items() if is_small(future)}
            # Where a small value is matters to who looks at one, and is not worth asking for many.
            looked_at = [future.key for key, future in done.items() if key not in small or len(done) <= FEW]
            if small:
                # The scheduler's own gather does not wait for a value that was lost to be made again.
                answer = await self.client.scheduler.gather(keys=[future.key for future in small.values()])
                if answer["status"] == "OK":
                    values = {key: of_wire(answer["data"][future.key]) for key, future in small.items()}
            if looked_at:
                sizes, places = await asyncio.gather(self.client.scheduler.nbytes(keys=looked_at, summary=False), self.client.scheduler.who_has(keys=looked_at))
        except Exception:
            # They are fetched one by one when they are asked for.
            pass
        told = []
        for key, future in ended:
            if key in done:
                at = places.get(future.key) or [None]
                value = values.get(key)
                told.append({"key": key, "n_bytes": len(value) if value is not None else max(0, sizes.get(future.key, 0)), "inline": value, "worker": self.number_of(at[0]) if at[0] else 0, "failed": None, "why": None})
            else:
                told.append({"key": key, "n_bytes": 0, "inline": None, "worker": 0, **self.why(future)})
        if told:
            self.tell("ended", ended=told)

    def why(self, future):
        """As Rust says it, or Dask's own words."""
        error = future._state.exception
        if isinstance(error, half.TaskFailed):
            return {"failed": "told", "why": error.told}
        if future.status == "cancelled" or error is None:
            return {"failed": "cancelled", "why": b""}
        kind = "killed" if isinstance(error, distributed.KilledWorker) else "code" if isinstance(error, RuntimeError) else "failed"
        words = f"its workers died, {error.allowed_failures + 1} times" if kind == "killed" and hasattr(error, "allowed_failures") else str(error)
        return {"failed": kind, "why": words.encode()}

    async def fetch(self, id, key, part):
        try:
            future = self.futures[key]
            if part is not None:
                name = self.name_of(key, part)
                [future] = self.client.get({name: Task(name, half.part, TaskRef(future.key), part)}, [name], sync=False)
            value = await self.client.gather(future, direct=True)
            self.tell("value", id=id, value=bytes(value) if not isinstance(value, bytes) else value, why=None)
        except KeyError:
            self.tell("value", id=id, value=None, why="nothing holds it")
        except Exception as error:
            self.tell("value", id=id, value=None, why=str(error))

    def on_events(self, event):
        _, said = event
        self.tell("events", events=[{"what": what, "key": key.rpartition("-")[2], "worker": self.number_of(worker) if worker else 0, "n_bytes": n_bytes, "start_us": start, "duration_us": took, "why": why} for what, key, worker, n_bytes, start, took, why in said])

    def release(self, keys):
        for key in keys:
            self.n_held[key] = self.n_held.get(key, 1) - 1
            if self.n_held[key] > 0:
                continue
            del self.n_held[key]
            future = self.futures.pop(key, None)
            if future is not None:
                future.release()

    async def cancel(self, keys):
        """What has ended stays. Dask's own cancel drops the whole connection where a dependent is nobody's."""
        open_of_them = [self.futures[key].key for key in keys if key in self.futures and self.futures[key].status in ("pending", "lost")]
        if open_of_them:
            await self.client.run_on_scheduler(let_go, names=open_of_them)

    async def look_after(self):
        """Says so when the scheduler is gone, also if it comes back: it has let go everything then."""
        comm = self.client.scheduler_comm
        while self.client.status == "running" and self.client.scheduler_comm is comm:
            await asyncio.sleep(0.5)
        self.tell("gone", reason="Dask's scheduler has gone")
        self.orders.put_nowait({"op": "close"})

    async def serve(self):
        threading.Thread(target=self.read, daemon=True).start()
        hello = await self.orders.get()
        try:
            await self.connect(hello["address"])
        except Refused as error:
            self.tell("refused", what=str(error), hint=error.hint)
            return
        self.tell("ready")
        watching = self.loop.create_task(self.look_after())
        while (order := await self.orders.get())["op"] != "close":
            try:
                await self.obey(**order)
            except Exception as error:
                self.tell("trouble", what=f"{type(error).__name__}: {error}", order=order["op"], keys=[task["key"] for task in order.get("tasks", [])])
        watching.cancel()
        try:
            await asyncio.wait_for(self.client.close(), 2)
        except Exception:
            pass

    async def obey(self, op, **order):
        if op == "code":
            await self.put_code(**order)
        elif op == "submit":
            await self.submit(**order)
        elif op == "fetch":
            self.loop.create_task(self.fetch(**order))
        elif op == "release":
            self.release(**order)
        elif op == "cancel":
            await self.cancel(**order)
        elif op == "detach":
            fire_and_forget(self.futures[order["key"]])
        elif op == "follow":
            if order["is_on"]:
                self.client.subscribe_topic("skep", self.on_events)
            else:
                self.client.unsubscribe_topic("skep")
        elif op == "info":
            self.tell("info", id=order["id"], workers=await self.info())


def let_go(names, dask_scheduler=None):
    """Ends tasks that have not ended and what stands on them, and tells those who want them."""
    found, left = {}, list(names)
    while left:
        task = dask_scheduler.tasks.get(left.pop())
        if task is None or task.key in found or task.state in ("memory", "erred"):
            continue
        found[task.key] = task
        left.extend(dependent.key for dependent in task.dependents)
    wanted = {}
    for task in found.values():
        for client in task.who_wants or ():
            wanted.setdefault(client.client_key, []).append(task.key)
    for client, keys in wanted.items():
        dask_scheduler.client_releases_keys(keys=keys, client=client, stimulus_id=f"skep-cancel-{keys[0]}")
        dask_scheduler.report({"op": "cancelled-keys", "keys": keys, "reason": "cancelled", "msg": "it was cancelled"}, client=client)


def of_wire(value):
    return value.data if hasattr(value, "data") and not isinstance(value, (bytes, memoryview)) else value


def is_small(future):
    """Whether its value is `bytes`: larger ones are a `memoryview`."""
    kind = future._state.type
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2] == "bytes"


def sees(install, source, path, size, changed):
    return install(source).has_file(path, size, changed)


async def main():
    await Bridge().serve()


if __name__ == "__main__":
    import cloudpickle

    # What is defined here goes by value: there is no such module elsewhere.
    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    asyncio.run(main())
    sys.stdout.flush()
    # The thread that reads orders waits for one, and Python would wait for it.
    os._exit(0)
