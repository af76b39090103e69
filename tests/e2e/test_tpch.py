"""TPC-H's 22 questions on frames, as expressions and as SQL, against DuckDB, which shares no code with us."""

import datetime
import math
import pathlib
import sys

import duckdb
import pytest
from conftest import Kernel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import tpch  # noqa: E402

SCALE = 0.1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tpch")
    tpch.make_tables(folder, SCALE)
    kernel = Kernel(folder)
    run(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    for cell in tpch.parquet_cells(folder):
        run(kernel, cell)
    judge = duckdb.connect()
    for table in tpch.TABLES:
        judge.execute(f"create view {table} as select * from read_parquet('{folder}/parquet/{table}/*.parquet')")
    yield kernel, judge, folder
    kernel.close()


def run(kernel, code):
    result = kernel.execute(code, timeout=120)
    assert result.status == "ok", f"{code[:300]}\n" + "\n".join(result.reply.get("traceback", []))
    return result


def rows(relation):
    def plain(value):
        if isinstance(value, (datetime.date, datetime.datetime)):
            return value.isoformat()[:10]
        return float(value) if isinstance(value, (int, float)) or hasattr(value, "is_finite") else value

    return sorted(([plain(value) for value in row] for row in relation.fetchall()), key=repr_key)


def repr_key(row):
    return [f"{value:.6g}" if isinstance(value, float) else str(value) for value in row]


def assert_same(judge, folder, name, number):
    expect = rows(judge.sql((folder / f"q{number:02}.sql").read_text()))
    found = rows(judge.sql(f"select * from read_parquet('{folder}/{name}')"))
    assert len(found) == len(expect) and expect, f"{len(found)} rows, {len(expect)} expected"
    for a, b in zip(found, expect):
        assert len(a) == len(b), (a, b)
        for x, y in zip(a, b):
            if isinstance(x, float) and isinstance(y, float):
                assert math.isclose(x, y, rel_tol=1e-6), (a, b)
            else:
                assert x == y, (a, b)


def test_as_expressions(data):
    kernel, judge, folder = data
    run(kernel, tpch.module(folder, "Frame", SCALE))
    run(kernel, "let tables = frame::tables();")
    for number in range(1, 23):
        run(
            kernel,
            f'let mut found = frame::query(&tables, {number}).collect()?; ParquetWriter::new(std::fs::File::create("{folder}/found.parquet")?).finish(&mut found)?;',
        )
        try:
            assert_same(judge, folder, "found.parquet", number)
        except AssertionError as error:
            raise AssertionError(f"question {number}: {error}") from None


def test_as_sql(data):
    kernel, judge, folder = data
    for table in tpch.TABLES:
        run(kernel, f'let {table} = Frame::read_parquet("{folder}/parquet/{table}/*.parquet")?;')
    tables = ", ".join(f'("{table}", (&{table}).into())' for table in tpch.TABLES)
    for number in tpch.IN_SQL:
        run(
            kernel,
            f'let query = std::fs::read_to_string("{folder}/q{number:02}.sql")?; let mut found = Frame::sql(&query, &[{tables}])?.collect()?; '
            f'ParquetWriter::new(std::fs::File::create("{folder}/found.parquet")?).finish(&mut found)?;',
        )
        try:
            assert_same(judge, folder, "found.parquet", number)
        except AssertionError as error:
            raise AssertionError(f"question {number}: {error}") from None
