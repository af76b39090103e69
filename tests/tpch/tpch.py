"""TPC-H in cells: its tables as frames or as lazy frames of Polars, and its questions as expressions on both."""

import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
TABLES = ["region", "nation", "supplier", "part", "customer", "partsupp", "orders", "lineitem"]
DATES = {"orders": ["o_orderdate"], "lineitem": ["l_shipdate", "l_commitdate", "l_receiptdate"]}
# The questions whose subqueries Polars' SQL can say.
IN_SQL = [1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 19]

JOINS = {
    "Frame": """
type Table = Frame;
fn join(left: Table, right: Table, left_on: &[&str], right_on: &[&str], how: JoinType) -> Table {
    left.join(&right, left_on.iter().map(|name| col(*name)).collect::<Vec<_>>(), right_on.iter().map(|name| col(*name)).collect::<Vec<_>>(), JoinArgs::new(how))
}
fn sorted(table: Table, by: &[&str], descending: &[bool]) -> Table {
    table.lazy(|table| table.sort(by.to_vec(), SortMultipleOptions::default().with_order_descending_multi(descending.to_vec())))
}""",
    "LazyFrame": """
type Table = LazyFrame;
fn join(left: Table, right: Table, left_on: &[&str], right_on: &[&str], how: JoinType) -> Table {
    left.join(right, left_on.iter().map(|name| col(*name)).collect::<Vec<_>>(), right_on.iter().map(|name| col(*name)).collect::<Vec<_>>(), JoinArgs::new(how))
}
fn sorted(table: Table, by: &[&str], descending: &[bool]) -> Table {
    table.sort(by.to_vec(), SortMultipleOptions::default().with_order_descending_multi(descending.to_vec()))
}""",
}


def make_tables(folder, scale):
    """CSV files and queries in `folder`."""
    cache = pathlib.Path(os.environ.get("SKEP_CACHE", pathlib.Path.home() / ".cache" / "skep"))
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", cache / "target"))
    build = ["cargo", "build", "--quiet", "--locked", "--release", "-p", "skep-tpch", "--target-dir", str(target)]
    subprocess.run(build, cwd=HERE, check=True)
    subprocess.run([target / "release" / "skep-tpch", str(scale), str(folder)], check=True)


def parquet_cells(folder):
    """Cells that make Parquet files of them, with dates where the benchmark has dates."""
    for table in TABLES:
        dates = DATES.get(table, [])
        types = ", ".join(f'("{name}", DataType::Date)' for name in dates)
        yield (
            f'Frame::read_csv_typed("{folder}/{table}-*.csv", [{types}] as [(&str, DataType); {len(dates)}])?'
            f'.write_parquet("{folder}/parquet/{table}")?;'
        )


def module(folder, kind, scale):
    """A cell with a module named `frame` or `lazy`, with `tables()` and `query(&tables, number)`, over `kind` of tables."""
    name = {"Frame": "frame", "LazyFrame": "lazy"}[kind]
    read = {
        "Frame": 'Frame::read_parquet("{}").unwrap()',
        "LazyFrame": 'LazyFrame::scan_parquet(PlRefPath::new("{}"), Default::default()).unwrap()',
    }[kind]
    tables = ", ".join(f"{table}: {read.format(f'{folder}/parquet/{table}/*.parquet')}" for table in TABLES)
    scale_of = lambda number: f", {float(scale)}" if number == 11 else ""
    arms = ", ".join(f"{number} => q{number:02}(t{scale_of(number)})" for number in range(1, 23))
    queries = (HERE / "queries.rs").read_text()
    return f"""mod {name} {{
use skep::prelude::*;
{JOINS[kind]}
{queries}
pub fn tables() -> Tables {{
    Tables {{ {tables} }}
}}
pub fn query(t: &Tables, number: i32) -> Table {{
    match number {{ {arms}, _ => unreachable!() }}
}}
}}"""
