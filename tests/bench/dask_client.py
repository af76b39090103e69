"""The other side of `./tests/bench/run dask`: Dask's own Python client on the same cluster. Prints medians as JSON."""

import json
import statistics
import sys
import time

from distributed import Client


def noop(i):
    return i


def ones(n):
    return bytes(n)


def length(data):
    return len(data)


def pair(a, b):
    return a + b


def total(all_of_them):
    return sum(all_of_them)


def median(times, work):
    took = []
    for turn in range(times):
        began = time.perf_counter()
        work(turn)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main(address):
    client = Client(address)

    def layers(_):
        first = client.map(noop, range(5000), pure=False)
        second = [client.submit(pair, first[i], first[i + 1], pure=False) for i in range(4999)]
        client.submit(total, second, pure=False).result()

    def transfer(_):
        made = client.submit(ones, 100_000_000, pure=False, workers=[names[0]])
        client.submit(length, made, pure=False, workers=[names[0]]).result()
        began = time.perf_counter()
        client.submit(length, made, pure=False, workers=[names[1]]).result()
        moved.append(time.perf_counter() - began)

    names, moved = list(client.scheduler_info()["workers"]), []
    median(3, transfer)
    print(json.dumps({
        "noops_s": median(1, lambda _: client.gather(client.map(noop, range(10_000), pure=False))),
        "trip_s": median(50, lambda _: client.submit(noop, 1, pure=False).result()),
        "layers_s": median(1, layers),
        "moved_s": statistics.median(moved),
    }))


if __name__ == "__main__":
    main(sys.argv[1])
