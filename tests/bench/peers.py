"""The same work on Dask and, where it is installed, on Ray; two workers of one thread. Prints one JSON object.

Run by bench.py in an environment of its own: `peers.py dask` or `peers.py ray`.
"""

import json
import statistics
import sys
import time

import numpy
import psutil

N_TASKS = 10_000
N_TRIPS = 200
PARTS = 64
PIECE = 256 * 1024 * 1024 // PARTS // PARTS


def noop(x):
    return x


def add(a, b):
    return a


def timed(run, times=3):
    took = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def trips(run):
    took = []
    for i in range(N_TRIPS):
        started = time.perf_counter()
        run(i)
        took.append(time.perf_counter() - started)
    took.sort()
    return {"trip_median_ms": took[N_TRIPS // 2] * 1e3, "trip_p99_ms": took[int(N_TRIPS * 0.99)] * 1e3}


def dask():
    import distributed

    found = {}

    def start():
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0)
        return cluster, distributed.Client(cluster)

    starts = []
    for _ in range(3):
        started = time.perf_counter()
        cluster, client = start()
        client.wait_for_workers(2)
        starts.append(time.perf_counter() - started)
        client.close()
        cluster.close()
    found["start_s"] = statistics.median(starts)
    cluster, client = start()
    client.wait_for_workers(2)
    time.sleep(2)
    pids = client.run(lambda: __import__("os").getpid())
    found["idle_mb"] = statistics.median(psutil.Process(pid).memory_info().rss for pid in pids.values()) / 1e6
    one, two = list(pids)

    salt = iter(range(10**9))

    def flat():
        first = next(salt) * N_TASKS
        client.gather(client.map(noop, range(first, first + N_TASKS)))

    flat()
    found["flat_per_s"] = N_TASKS / timed(flat)

    def tree():
        base = f"tree-{next(salt)}"
        graph = {(base, 0, i): (noop, i) for i in range(N_TASKS // 2)}
        level, n = 0, N_TASKS // 2
        while n > 1:
            for i in range(n // 2):
                graph[(base, level + 1, i)] = (add, (base, level, 2 * i), (base, level, 2 * i + 1))
            if n % 2:
                graph[(base, level + 1, n // 2)] = (noop, (base, level, n - 1))
            level, n = level + 1, (n + 1) // 2
        client.get(graph, (base, level, 0))

    found["tree_per_s"] = N_TASKS / timed(tree)
    found |= trips(lambda i: client.submit(noop, -1 - i, pure=False).result())

    for name, size in (("100mb", 100_000_000), ("1gb", 1_000_000_000)):
        def move():
            made = client.submit(lambda n: numpy.ones(n // 8), size, workers=[one], pure=False)
            distributed.wait(made)
            started = time.perf_counter()
            client.submit(lambda a: a.nbytes, made, workers=[two], pure=False).result()
            return time.perf_counter() - started

        found[f"move_{name}_s"] = statistics.median([move() for _ in range(6)][1:])

    def shuffle():
        base = f"shuffle-{next(salt)}"
        graph = {(base, "split", i): (lambda i: [numpy.full(PIECE, i, dtype="u1") for _ in range(PARTS)], i) for i in range(PARTS)}
        for j in range(PARTS):
            for i in range(PARTS):
                graph[(base, "piece", i, j)] = (lambda all, j: all[j], (base, "split", i), j)
            graph[(base, "join", j)] = (lambda pieces: sum(len(piece) for piece in pieces), [(base, "piece", i, j) for i in range(PARTS)])
        assert sum(client.get(graph, [(base, "join", j) for j in range(PARTS)])) == PARTS * PARTS * PIECE

    found["shuffle_s"] = timed(shuffle)
    client.close()
    cluster.close()
    return found


def ray():
    import ray

    found = {}
    started = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    remote_noop = ray.remote(noop)
    ray.get([remote_noop.remote(i) for i in range(2)])
    found["start_s"] = time.perf_counter() - started
    time.sleep(2)
    workers = [process for process in psutil.process_iter(["cmdline", "memory_info"]) if any(word.startswith("ray::") for word in process.info["cmdline"] or [])]
    found["idle_mb"] = statistics.median(process.info["memory_info"].rss for process in workers) / 1e6
    flat = lambda: ray.get([remote_noop.remote(i) for i in range(N_TASKS)])
    flat()
    found["flat_per_s"] = N_TASKS / timed(flat)
    remote_add = ray.remote(add)

    def tree():
        level = [remote_noop.remote(i) for i in range(N_TASKS // 2)]
        while len(level) > 1:
            level = [remote_add.remote(level[i], level[i + 1]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
        ray.get(level[0])

    found["tree_per_s"] = N_TASKS / timed(tree)
    found |= trips(lambda i: ray.get(remote_noop.remote(i)))
    for name, size in (("100mb", 100_000_000), ("1gb", 1_000_000_000)):
        make, length = ray.remote(lambda n: numpy.ones(n // 8)), ray.remote(lambda a: a.nbytes)

        def move():
            made = make.remote(size)
            ray.wait([made])
            started = time.perf_counter()
            ray.get(length.remote(made))
            return time.perf_counter() - started

        found[f"move_{name}_s"] = statistics.median([move() for _ in range(6)][1:])
    split = ray.remote(num_returns=PARTS)(lambda i: [numpy.full(PIECE, i, dtype="u1") for _ in range(PARTS)])
    join = ray.remote(lambda *pieces: sum(len(piece) for piece in pieces))

    def shuffle():
        rows = [split.remote(i) for i in range(PARTS)]
        assert sum(ray.get([join.remote(*[row[j] for row in rows]) for j in range(PARTS)])) == PARTS * PARTS * PIECE

    found["shuffle_s"] = timed(shuffle)
    ray.shutdown()
    return found


if __name__ == "__main__":
    print(json.dumps({"dask": dask, "ray": ray}[sys.argv[1]]()))
