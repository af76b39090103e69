"""The questions of `bench.py frame` by dask.dataframe, over the same Parquet files, on two workers of one thread: its own, or those at an
address.
"""

import json
import sys
import time

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster

IDS = ["id1", "id2", "id3", "id4", "id5", "id6"]

# What it cannot say without a function of Python for each group is left out.
QUESTIONS = {
    "sum by id1": lambda t, small, medium: t.groupby("id1")["v1"].sum(),
    "sum by id1, id2": lambda t, small, medium: t.groupby(["id1", "id2"])["v1"].sum(),
    "sum, mean by id3": lambda t, small, medium: t.groupby("id3").agg({"v1": "sum", "v3": "mean"}),
    "means by id4": lambda t, small, medium: t.groupby("id4")[["v1", "v2", "v3"]].mean(),
    "sums by id6": lambda t, small, medium: t.groupby("id6")[["v1", "v2", "v3"]].sum(),
    "median, sd by id4, id5": lambda t, small, medium: t.groupby(["id4", "id5"]).agg({"v3": ["median", "std"]}),
    "range by id3": lambda t, small, medium: t.groupby("id3").agg({"v1": "max", "v2": "min"}).assign(r=lambda g: g["v1"] - g["v2"])["r"],
    "sum, count by six ids": lambda t, small, medium: t.groupby(IDS).agg({"v3": "sum", "v1": "count"}, split_out=16),
    "join 100 rows": lambda t, small, medium: t.merge(small, on="id4")[["v1", "w"]].sum(),
    "join 100,000 rows": lambda t, small, medium: t.merge(medium, on="id6")[["v1", "w"]].sum(),
    "unique id3": lambda t, small, medium: t["id3"].drop_duplicates(),
    "the 100 largest": lambda t, small, medium: t.nlargest(100, "v3"),
    "sorted by v3": lambda t, small, medium: t[["id6", "v3"]].sort_values("v3"),
}


def main(pattern, n_rows, names, address=None):
    cluster = None if address else LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True)
    client = Client(address or cluster)
    table = dd.read_parquet(pattern)
    ones = lambda n, name: pd.DataFrame({name: np.arange(1, n + 1), "w": np.arange(1, n + 1)})
    small, medium = ones(100, "id4"), ones(n_rows // 100, "id6")
    took = {}
    for name, question in QUESTIONS.items():
        if name not in names:
            continue
        times = []
        for _ in range(2):
            started = time.perf_counter()
            try:
                question(table, small, medium).compute()
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                break
            times.append(time.perf_counter() - started)
            if times[0] > 60:
                break
        if times:
            took[name] = min(times)
    client.close()
    if cluster is not None:
        cluster.close()
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), *sys.argv[4:])
