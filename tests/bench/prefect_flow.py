"""The flows of bench.py in Prefect 3, against an ephemeral server and against one that was started. Prints one JSON object.

Run in the environment of install/requirements-prefect.txt: `prefect_flow.py ephemeral` or `prefect_flow.py started`.
"""

import json
import logging
import os
import resource
import statistics
import sys
import time

os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
if sys.argv[1] == "ephemeral":
    os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
    # Its own limit of 20 s is too short for a machine of two cores.
    os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"

from prefect import flow, task

logging.disable(logging.WARNING)
N_MAPPED = 1000
N_IN_A_ROW = 50


@flow
def hello(name):
    return f"hello {name}"


@task
def noop(i):
    return i


@flow
def mapped(n):
    return sum(future.result() for future in noop.map(range(n)))


@flow
def in_a_row(n):
    return sum(noop(i) for i in range(n))


def timed(run, times):
    took = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


began = time.perf_counter()
hello("Ada")
first = time.perf_counter() - began
found = {
    "first_s": first,
    "hello_s": timed(lambda: hello("Ada"), 5),
    "mapped_s": timed(lambda: mapped(N_MAPPED), 1),
    "row_s": timed(lambda: in_a_row(N_IN_A_ROW), 3) / N_IN_A_ROW,
    "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
}
print(json.dumps(found))
