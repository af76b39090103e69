"""Between Skep and a Dask cluster: a client of Dask's that does what Skep says on standard input, and tells what came of it on
standard output. Both speak MessagePack, each message behind its length.
"""

import asyncio
import functools
import hashlib
import importlib
import inspect
import logging
import os
import pathlib
import struct
import sys
import threading
import types
import urllib.parse

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
# Names of so many tasks are kept, those that are let go among them.
MANY_NAMES = 100_000
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
        self.scheduler, self.said, self.loop, self.flushed_at = scheduler, [], asyncio.get_running_loop(), 0
        # Where tasks were given to, by their keys.
        self.given = {}

    def say(self, *event):
        self.said.append(event)
        if len(self.said) == 1:
            # The first is told at once, and those that follow together.
            self.loop.call_later(max(0, self.flushed_at + self.every - self.loop.time()), self.flush)

    def flush(self):
        said, self.said, self.flushed_at = self.said, [], self.loop.time()
        self.scheduler.log_event("skep", said)

    def transition(self, key, start, finish, *args, worker=None, nbytes=0, startstops=(), **_):
        if not isinstance(key, str) or len(key.rpartition("-")[2]) != 32:
            return
        task = self.scheduler.tasks.get(key)
        if finish == "processing" and task is not None and task.processing_on is not None:
            before, now = self.given.get(key), task.processing_on.address
            if before is not None:
                # It runs again: its worker is gone, or it failed and is tried once more.
                self.say("again", key, before, 0, 0, 0, "failed" if before in self.scheduler.workers else "")
            self.given[key] = now
            self.say("assigned", key, now, 0, 0, 0, "")
        elif finish == "memory" and start == "processing":
            before = self.given.get(key)
            if before is not None and worker is not None and before != worker:
                # Dask moved it to one that had less to do.
                self.given[key] = worker
                self.say("stolen", key, before, 0, 0, 0, "")
                self.say("assigned", key, worker, 0, 0, 0, "")
            ran = [at for at in startstops or () if at.get("action") == "compute"]
            begun, ended = (ran[-1]["start"], ran[-1]["stop"]) if ran else (0, 0)
            self.say("done", key, worker, nbytes or 0, int(begun * 1e6), max(0, int((ended - begun) * 1e6)), "")
        elif finish == "erred" and task is not None:
            self.given.pop(key, None)
            self.say("failed", key, worker or "", 0, 0, 0, str(task.exception_text or ""))
        elif finish == "forgotten":
            self.given.pop(key, None)
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
        self.half.RUNTIME.worker = worker

    def transition(self, key, start, finish, **_):
        if start == "executing" and finish in ("cancelled", "released", "forgotten") and self.half.is_running(key):
            self.half.stop(key)
            self.loop.call_later(self.patience, self.replace, key)

    def replace(self, key):
        """A task that was told to stop and does not listen gives its place to another thread."""
        task = self.worker.state.tasks.get(key)
        # It may have ended and begun anew meanwhile.
        if task is not None and task.state in ("cancelled", "resumed") and self.half.leave(key, self.worker.executors["default"]):
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
        # What this process started or was given to connect to.
        self.made = None
        # By Skep's key: Dask's name of a task, the handle of what is held, and how often it is.
        self.names, self.futures, self.n_held = {}, {}, {}
        self.workers, self.pids = {}, {}
        # Names of plugins with the code of this notebook's cells: they go with it.
        self.plugins = []
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
        scheme, _, rest = address.partition("://")
        of_address = {"dask": self.own, "python": self.by_python, "tls": self.by_tls}.get(scheme)
        address, security = await of_address(rest) if of_address else (address, None)
        try:
            self.client = await Client(address, asynchronous=True, timeout=CONNECT_WITHIN, set_as_default=False, name="skep", security=security)
        except OSError as error:
            hint = "is it running, and can this machine reach it? `dask scheduler` prints its address"
            if scheme == "tls":
                hint = f"{hint}; certificates: `tls://host:8786?ca=ca.pem&cert=cert.pem&key=key.pem`"
            raise Refused(f"there is no Dask scheduler at {address}: {error}", hint) from error
        except Exception as error:
            hint = "certificates are given with it: `tls://host:8786?ca=ca.pem&cert=cert.pem&key=key.pem`, or are in Dask's own configuration, `distributed.comm.tls`" if scheme == "tls" else "an address is `tcp://host:8786`, as `dask scheduler` prints it"
            raise Refused(f"{address} is no address that Dask can connect to: {error or type(error).__name__}", hint) from error
        theirs = (await self.client.get_versions())["scheduler"]["packages"]
        for package, ours in {"distributed": distributed.__version__, "python": ".".join(map(str, sys.version_info[:2]))}.items():
            found = str(theirs.get(package))
            if found != ours and not (package == "python" and found.startswith(ours + ".")):
                mend = f"`pip install dask=={distributed.__version__} distributed=={distributed.__version__}` there" if package == "distributed" else f"run it with Python {ours}, or name a Python {found} that has `distributed` in SKEP_PYTHON"
                raise Refused(f"the scheduler at {address} has {package} {found}, and this machine has {ours}", f"Dask wants the same on both sides: {mend}")
        try:
            await self.client.register_plugin(OnScheduler(install, SOURCE, EVENTS_EVERY))
            await self.client.register_plugin(OnWorker(install, SOURCE, STOP_PATIENCE))
        except Exception as error:
            raise Refused(f"the scheduler at {address} takes no plugins: {error}", "Skep's code travels as plugins: ask who runs it to allow pickled ones") from error

    async def own(self, asked):
        """A Dask cluster of this notebook's own, on this machine; it ends with the connection."""
        asked = dict(urllib.parse.parse_qsl(asked.lstrip("?")))
        memory = asked.get("memory")
        try:
            self.made = await distributed.LocalCluster(
                n_workers=int(asked["workers"]), threads_per_worker=int(asked["threads"]), memory_limit=int(memory) if memory else "auto",
                host="127.0.0.1", dashboard_address=None, asynchronous=True, local_directory=str(pathlib.Path(__file__).parent / "workers"), silence_logs=logging.ERROR,
            )
        except Exception as error:
            raise Refused(f"a Dask cluster could not be started here: {error}", "is there memory, and room on the disk?") from error
        return self.made.scheduler_address, None

    async def by_python(self, name):
        """What a function of somebody else's connects to: Coiled, Kubernetes, Slurm, SSH."""
        module, _, function = name.partition(":")
        sys.path.insert(0, os.getcwd())
        try:
            made = await asyncio.to_thread(lambda: getattr(importlib.import_module(module), function or "cluster")())
            made = await made if inspect.isawaitable(made) else made
        except Exception as error:
            raise Refused(f"{module}:{function or 'cluster'} has failed: {type(error).__name__}: {error}", f"`python://module:function` calls a function without arguments that gives a Dask client, a cluster, or an address; its Python is {sys.executable}") from error
        if isinstance(made, str):
            return made, None
        self.made = made
        if isinstance(made, Client):
            return made.scheduler.address, made.security
        if not hasattr(made, "scheduler_address"):
            raise Refused(f"{module}:{function or 'cluster'} gives a `{type(made).__name__}`", "it shall give a Dask client, a cluster, or an address")
        return made.scheduler_address, getattr(made, "security", None)

    async def by_tls(self, rest):
        at, _, asked = rest.partition("?")
        asked = dict(urllib.parse.parse_qsl(asked))
        if not asked:
            return f"tls://{at}", None
        unknown = sorted(set(asked) - {"ca", "cert", "key"})
        missing = [path for path in asked.values() if not pathlib.Path(path).expanduser().is_file()]
        if unknown or missing:
            raise Refused(f"`{unknown[0]}` is nothing that `tls://` takes" if unknown else f"there is no file {missing[0]}", "`tls://host:8786?ca=ca.pem&cert=cert.pem&key=key.pem`, each of them a file")
        files = {name: str(pathlib.Path(path).expanduser()) for name, path in asked.items()}
        return f"tls://{at}", distributed.Security(tls_ca_file=files.get("ca"), tls_client_cert=files.get("cert"), tls_client_key=files.get("key"), require_encryption=True)

    async def part(self):
        """Ends the connection, and what was made for it."""
        try:
            await asyncio.wait_for(asyncio.gather(*(self.client.unregister_worker_plugin(name) for name in self.plugins), return_exceptions=True), 1)
        except Exception:
            pass
        for what in (self.client, self.made):
            try:
                closed = what.close() if what is not None else None
                if inspect.isawaitable(closed):
                    await asyncio.wait_for(closed, 2)
            except Exception:
                pass

    async def info(self):
        found = await self.client.scheduler.identity()
        unknown = [address for address in found["workers"] if address not in self.pids]
        if unknown:
            asked = self.client.run(os.getpid, workers=unknown, on_error="ignore")
            try:
                self.pids.update(await asyncio.wait_for(asked, ANSWERS_WITHIN))
            except Exception:
                # It is not to be had from one that does not answer.
                self.pids.update(dict.fromkeys(unknown, 0))
        workers = []
        for address, worker in found["workers"].items():
            metrics = worker.get("metrics", {})
            counts = metrics.get("task_counts") or {}
            workers.append({
                "id": self.number_of(address), "pid": self.pids.get(address) or 0, "threads": worker["nthreads"], "memory_limit": worker.get("memory_limit") or 0,
                "resident": metrics.get("memory", 0), "spilled": (metrics.get("spilled_bytes") or {}).get("disk", 0), "n_assigned": counts.get("executing", 0) + counts.get("ready", 0),
                "n_values": counts.get("memory", 0), "held": metrics.get("managed_bytes", 0),
            })
        return sorted(workers, key=lambda worker: worker["id"])

    async def tell_info(self, id):
        try:
            self.tell("info", id=id, workers=await self.info(), why=None)
        except Exception as error:
            self.tell("info", id=id, workers=[], why=f"Dask's scheduler does not say which workers there are: {error}")

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
        plugin = Code(install, SOURCE, half.here(), code, is_base, file, content)
        if not is_base:
            self.plugins.append(plugin.name)
        try:
            await self.client.register_plugin(plugin)
        except RuntimeError as error:
            # No task can run where that is not, and each would say less of why.
            if is_base:
                raise Refused(str(error), "") from error
            raise

    def name_of(self, key, part):
        name = self.names[key]
        return name if part is None else f"{name}/{part}"

    async def there(self, tasks):
        """The workers that there are, where tasks ask for some, or for what some have."""
        if not any(task["workers"] or task["resources"] for task in tasks):
            return {}
        workers = (await self.client.scheduler.identity())["workers"]
        there = {self.number_of(address): address for address in workers}
        for task in tasks:
            if task["workers"] and not set(task["workers"]) & set(there):
                raise Refused(f"it may run on worker {', '.join(map(str, task['workers']))} only, and there is no such worker", f"`cluster` shows which there are: {', '.join(map(str, sorted(there)))}")
            lacks = [name for name, amount in task["resources"] if all((worker.get("resources") or {}).get(name, 0) < amount for worker in workers.values())]
            if lacks:
                raise Refused(f"no worker has enough of `{lacks[0]}`", f"workers are started with it: `dask worker … --resources {lacks[0]}=1`")
        return there

    async def submit(self, tasks, wanted):
        graph, retries, chosen, resources, again = {}, {}, {}, {}, []
        there = await self.there(tasks)
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
                self.let_go_now(self.futures.pop(task["key"]))
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
                chosen[name] = [there[number] for number in task["workers"] if number in there]
            if task["resources"]:
                resources[name] = dict(task["resources"])
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
        how = {name: functools.partial(half.of_key, table) for name, table in {"retries": retries, "workers": chosen, "resources": resources}.items() if table}
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
        """Those of this client's tasks: others may use the same cluster."""
        _, said = event
        events = []
        for what, key, worker, n_bytes, start, took, why in said:
            key = key.rpartition("-")[2]
            if key and key not in self.names:
                continue
            if what == "freed" and key not in self.futures and len(self.names) > MANY_NAMES:
                del self.names[key]
            events.append([what, key, self.number_of(worker) if worker else 0, n_bytes, start, took, why, None])
        if events:
            self.tell("events", events=events)

    def on_said(self, event):
        _, (key, said) = event
        if key in self.names:
            self.tell("events", events=[["said", key, 0, 0, 0, 0, "", said]])

    def release(self, keys):
        for key in keys:
            self.n_held[key] = self.n_held.get(key, 1) - 1
            if self.n_held[key] > 0:
                continue
            del self.n_held[key]
            future = self.futures.pop(key, None)
            if future is not None and future.status == "cancelled":
                self.let_go_now(future)
            elif future is not None:
                future.release()

    def let_go_now(self, future):
        """Not with the next turn of the loop, as Dask's own `release` does: a new handle of the same task shall not be this one."""
        future._cleared = True
        self.client._dec_ref(future.key)

    async def cancel(self, keys):
        """What has ended stays. Dask's own cancel drops the whole connection where a dependent is nobody's."""
        open_of_them = [self.futures[key].key for key in keys if key in self.futures and self.futures[key].status in ("pending", "lost")]
        if open_of_them:
            for name in await self.client.run_on_scheduler(let_go, names=open_of_them, asker=self.client.id):
                # Now, and not when the scheduler's word comes: it could be about the same task again by then.
                state = self.client.futures.get(name)
                if state is not None and state.status in ("pending", "lost"):
                    state.cancel()

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
            return await self.part()
        self.tell("ready")
        watching = self.loop.create_task(self.look_after())
        while (order := await self.orders.get())["op"] != "close":
            try:
                await self.obey(**order)
            except Exception as error:
                if order["op"] == "code" and isinstance(error, Refused):
                    self.tell("gone", reason=f"Dask's workers cannot run this: {error}")
                    break
                is_refused = isinstance(error, Refused)
                what = str(error) if is_refused else f"Dask refused `{order['op']}`: {type(error).__name__}: {error}"
                self.tell("trouble", what=what, hint=error.hint if is_refused else None, keys=[task["key"] for task in order.get("tasks", [])])
        watching.cancel()
        await self.part()

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
                self.client.subscribe_topic("skep-said", self.on_said)
            else:
                self.client.unsubscribe_topic("skep")
                self.client.unsubscribe_topic("skep-said")
        elif op == "info":
            self.loop.create_task(self.tell_info(order["id"]))


def let_go(names, asker, dask_scheduler=None):
    """Ends tasks that have not ended and what stands on them, gives their names, and tells who else wants them."""
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
        if client != asker:
            dask_scheduler.report({"op": "cancelled-keys", "keys": keys, "reason": "cancelled", "msg": "it was cancelled"}, client=client)
    return list(found)


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
