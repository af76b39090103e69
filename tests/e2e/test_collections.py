"""Dask's bag and array chapters, and what its examples page does with them, as cells.

Beside each chapter stands how many lines it has in Python, and has here: those that are typed, imports and set-up left out.
"""

import gzip
import json

import pytest

from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).threads(1).start()?;")
    return kernel


def chapter(kernel, cells):
    for cell in cells:
        code, text = cell if isinstance(cell, tuple) else (cell, None)
        ok(kernel, code, text)


def test_a_bag_of_numbers(cluster):
    # Python: 7 lines; here: 7.
    chapter(cluster, [
        "let b = Bag::from_items([1i64, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2);",
        ("b.take(3)?", "[1, 2, 3]"),
        "fn is_even(n: &i64) -> bool { n % 2 == 0 }",
        ("b.filter(is_even).map(|x: i64| x * x).collect()?", "[4, 16, 36, 64, 100]"),
        ("(b.sum().compute()?, b.max().compute()?)", "(55, Some(10))"),
        ("b.map(|x: i64| x as f64).mean().compute()?", "5.5"),
        ("b.fold(0, |total, x| total + x, |a, b| a + b).compute()?", "55"),
    ])


def test_a_bag_of_accounts(cluster, tmp_path):
    # Python: 12 lines; here: 13, the record's type among them.
    for part in range(3):
        rows = [{"id": i, "name": ["Alice", "Bob", "Carol"][(i + part) % 3], "amounts": [i, part]} for i in range(20)]
        with gzip.open(tmp_path / f"accounts.{part}.json.gz", "wt") as file:
            file.write("\n".join(json.dumps(row) for row in rows) + "\n")
    chapter(cluster, [
        "#[derive(Clone, Debug, Serialize, Deserialize)] struct Account { id: i64, name: String, amounts: Vec<i64> }",
        f'let lines = Bag::read_text("{tmp_path}/accounts.*.json.gz");',
        ("lines.n_partitions()", "3"),
        "let accounts = lines.try_map(|line: String| serde_json::from_str::<Account>(&line)).persist()?;",
        ("accounts.count().compute()?", "60"),
        ('accounts.filter(|a| a.name == "Alice").take(1)?[0].id', "0"),
        ('accounts.filter(|a| a.name == "Alice").flat_map(|a: Account| a.amounts).sum().compute()?', "210"),
        ('accounts.map(|a: Account| a.name).frequencies().collect()?', '[("Alice", 20), ("Bob", 20), ("Carol", 20)]'),
        ("accounts.fold_by(|a| a.name.clone(), 0, |n, _| n + 1, |a, b| a + b).collect()?", '[("Alice", 20), ("Bob", 20), ("Carol", 20)]'),
        ("accounts.group_by(|a| a.name.clone()).map(|(name, all): (String, Vec<Account>)| (name, all.len())).collect()?.len()", "3"),
        ("accounts.top_by(1, |a| a.amounts[0]).collect()?[0].id", "19"),
        "let frame = accounts.map(|a: Account| (a.name, a.id)).to_frame()?;",
        ('frame.group_by([col("column_0")]).agg([col("column_1").sum()]).collect()?.height()', "3"),
    ])


def test_words_are_counted(cluster, tmp_path):
    # Python: 4 lines; here: 3.
    (tmp_path / "a.txt").write_text("the bee and the skep\nthe end\n")
    (tmp_path / "b.txt").write_text("a skep is a basket\n")
    chapter(cluster, [
        f'let words = Bag::read_text("{tmp_path}/*.txt").flat_map(|line: String| line.split_whitespace().map(String::from).collect::<Vec<_>>());',
        ('words.frequencies().top_by(2, |(_, n)| *n).collect()?', '[("the", 3), ("a", 2)]'),
    ])
    paths = ok(cluster, f'words.distinct().write_text("{tmp_path}/out")?.len()', "1")
    assert paths and sorted((tmp_path / "out" / "part-00000.txt").read_text().split()) == ["a", "and", "basket", "bee", "end", "is", "skep", "the"]


def test_blocked_algorithms(cluster):
    # Python: 14 lines; here: 14.
    chapter(cluster, [
        "let a = Blocked::ones(10, 5);",
        ("a.sum().compute()?", "10.0"),
        "let xd = Blocked::random_normal((3_000, 3_000), (1_000, 1_000), 1);",
        ("xd.n_bytes()?", "72000000"),
        "let yd = xd.mean_axis(0);",
        ("yd.compute()?.len()", "3000"),
        ("let worst = yd.max().compute()?; worst < 0.1", "true"),
        ("let total = (&xd + xd.t()).mean().compute()?; total.abs() < 0.01", "true"),
        "let x = Blocked::from_fn((40, 30), (16, 16), |(i, j)| (i * 30 + j) as f64);",
        ("x.chunks()?", "[[16, 16, 8], [16, 14]]"),
        ("x.rechunk((40, 10)).chunks()?", "[[40], [10, 10, 10]]"),
        ("x.slice(0..2, 28..30).compute()?.iter().sum::<f64>()", "174.0"),
        ("(x.std().compute()? * 100.0).round()", "34641.0"),
        ("x.dot(&x.t()).shape()?", "[40, 40]"),
    ])
    shown = ok(cluster, "x").of("execute_result")[0]["data"]
    assert "3 × 2 of 16 × 16" in shown["text/plain"] and "┼" in shown["text/plain"] and "<svg" in shown["text/html"]


def test_a_grid_of_parameters(cluster):
    # Python: 9 lines; here: 5.
    chapter(cluster, [
        "fn score((rate, depth): (f64, i64)) -> f64 { -(rate - 0.3).powi(2) - (depth as f64 - 4.0).powi(2) }",
        "let grid: Vec<(f64, i64)> = (1..6).flat_map(|r| (2..7).map(move |d| (r as f64 / 10.0, d))).collect();",
        ("cluster.gather(cluster.map(|p: (f64, i64)| p.1, grid.clone()))?.len()", "25"),
        "let scores = Bag::from_items(grid, 4).map(|p: (f64, i64)| (p, score(p)));",
        ("scores.top_by(1, |(_, s)| *s).collect()?[0].0", "(0.3, 4)"),
    ])


def test_what_is_wrong_is_said_by_whatever_runs_it(cluster):
    fails(cluster, 'Bag::read_text("/no/such/*.txt").count().compute()?', "no file matches", "hint:")
    fails(cluster, "(Blocked::ones((2, 3), (1, 1)) + Blocked::ones((2, 4), (1, 1))).compute()?", "2 × 3", "2 × 4")
    fails(cluster, "Blocked::ones((3, 3), (0, 3)).sum().compute()?", "length 0")
    fails(cluster, 'Bag::from_items(["7", "x"].map(String::from), 1).try_map(|t: String| t.parse::<i64>()).collect()?', "item 1 of its partition", "invalid digit")
    fails(cluster, "let k = 3i64; Bag::from_items([1i64], 1).map(|x: i64| x * k).collect()?", "must not capture anything")


def test_a_failed_task_is_replayed_in_the_cell(cluster):
    ok(cluster, "fn third(values: Vec<i64>) -> i64 {\n    println!(\"{} values\", values.len());\n    values[2]\n}")
    fails(cluster, "let failed = cluster.submit(third, vec![1, 2]); failed.gather()?", "index is 2")
    ok(cluster, "let failed = cluster.submit(third, vec![1, 2]); let _ = failed.gather();")
    result = cluster.execute("failed.replay()?")
    assert result.status == "error" and "2 values" in "".join(m["text"] for m in result.of("stream"))
    assert "line 3" in "\n".join(result.reply["traceback"])


def test_a_block_says_what_it_did(cluster):
    shown = ok(cluster, "let (all, did) = cluster.performance(|| cluster.gather(cluster.impure().map(|x: i64| { sleep(Duration::from_millis(5)); x }, 0..20)))?; all?.len();\ndid").of("execute_result")[0]["data"]
    assert shown["text/plain"].startswith("20 tasks in") and "busy" in shown["text/plain"] and "<svg" in shown["text/html"]
