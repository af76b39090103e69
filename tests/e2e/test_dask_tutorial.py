"""The delayed, futures and distributed chapters of Dask's tutorial, and its examples page, as cells.

Beside each part stands how many lines it has in Python, and has here: those that are typed, imports and set-up left out.
"""

import pytest

from conftest import Kernel
from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).threads(2).start()?;")
    return kernel


def part(kernel, cells):
    for cell in cells:
        code, text = cell if isinstance(cell, tuple) else (cell, None)
        ok(kernel, code, text)


def test_delayed_functions(cluster):
    # Python: 11 lines; here: 8.
    part(cluster, [
        "fn inc(x: i64) -> i64 { sleep(Duration::from_millis(20)); x + 1 }",
        "fn add(x: i64, y: i64) -> i64 { sleep(Duration::from_millis(20)); x + y }",
        "let z = delayed!(add(inc(1), inc(2)));",
        ("z.compute()?", "5"),
        "let shown = z.graph();",
        ("z.n_tasks()", "3"),
    ])
    shown = ok(cluster, "z.graph()").of("execute_result")[0]["data"]
    assert "inc(1)" in shown["text/plain"] and "<title>add(inc, inc): 1 done</title>" in shown["image/svg+xml"]


def test_a_loop_becomes_parallel(cluster):
    # Python: 9 lines; here: 5.
    part(cluster, [
        "let results: Vec<Delayed<i64>> = (1..=8).map(|x| delayed!(inc(x))).collect();",
        "let total = results.iter().sum::<Delayed<i64>>();",
        ("total.compute()?", "44"),
    ])


def test_control_flow_stays_outside(cluster):
    # Python: 16 lines; here: 9.
    part(cluster, [
        "fn double(x: i64) -> i64 { 2 * x }\nfn is_even(x: i64) -> bool { x % 2 == 0 }",
        "let data = [1i64, 2, 3, 4, 5, 6, 7, 8, 9, 10];",
        "let parts: Vec<Delayed<i64>> = data.iter().map(|x| if is_even(*x) { delayed!(double(*x)) } else { delayed!(inc(*x)) }).collect();",
        ("Delayed::chord(&parts, |all: Vec<i64>| all.iter().sum::<i64>()).compute()?", "90"),
    ])


def test_group_by_by_hand(cluster, tmp_path):
    # Python: 20 lines (with pandas); here: 13.
    for year in (1990, 1991, 1992):
        rows = "".join(f"{year},JFK,{delay}\n{year},EWR,{delay + 10}\n" for delay in range(year % 100 - 85))
        (tmp_path / f"{year}.csv").write_text("Year,Origin,DepDelay\n" + rows)
    part(cluster, [
        "fn sums(path: String) -> HashMap<String, (f64, u64)> {\n    let mut by_origin = HashMap::new();\n    for line in std::fs::read_to_string(&path).unwrap().lines().skip(1) {\n        let cells: Vec<&str> = line.split(',').collect();\n        let entry: &mut (f64, u64) = by_origin.entry(cells[1].to_string()).or_default();\n        entry.0 += cells[2].parse::<f64>().unwrap();\n        entry.1 += 1;\n    }\n    by_origin\n}\nuse std::collections::HashMap;",
        "fn merge(all: Vec<HashMap<String, (f64, u64)>>) -> Vec<(String, f64)> {\n    let mut total: HashMap<String, (f64, u64)> = HashMap::new();\n    for (origin, (sum, n)) in all.into_iter().flatten() { let t = total.entry(origin).or_default(); t.0 += sum; t.1 += n; }\n    let mut means: Vec<_> = total.into_iter().map(|(origin, (sum, n))| (origin, sum / n as f64)).collect();\n    means.sort_by(|a, b| a.0.cmp(&b.0)); means\n}",
        f'let files = [1990, 1991, 1992].map(|year| format!("{tmp_path}/{{year}}.csv"));',
        "let sums: Vec<_> = files.iter().map(|file| delayed!(sums(file.clone()))).collect();",
    ])
    result = ok(cluster, "delayed!(merge(&sums)).compute()?").text
    assert result.startswith('[("EWR", 12.5555') and '("JFK", 2.5555' in result


def test_futures(cluster):
    # Python: 14 lines; here: 12.
    part(cluster, [
        "let a = cluster.submit(inc, 1);",
        ("a.gather()?", "2"),
        "let b = cluster.submit(add, (&a, 10));",
        ("b.gather()?", "12"),
        "let many = cluster.map(inc, 0..20);",
        ("cluster.gather(&many)?.iter().sum::<i64>()", "210"),
        "let total = cluster.submit(|all: Vec<i64>| all.iter().sum::<i64>(), many);",
        ("total.gather()?", "210"),
        ("let mut seen = 0; for done in cluster.as_completed(cluster.impure().map(inc, 0..5)) { seen += done.gather()?; } seen", "15"),
    ])


def test_futures_fail_and_are_cancelled(cluster):
    # Python: 11 lines; here: 9.
    part(cluster, ["fn ratio(a: i64, b: i64) -> i64 { a / b }", "let bad = cluster.submit(ratio, (1, 0));"])
    fails(cluster, "bad.gather()?", "divide by zero", "ratio")
    # What needs a failed result fails with its error.
    fails(cluster, "cluster.submit(inc, &bad).gather()?", "divide by zero", "ratio")
    part(cluster, [
        "let slow = cluster.submit(|s: u64| { sleep(Duration::from_secs(s)); s }, 60u64);",
        "slow.cancel()?;",
    ])
    fails(cluster, "slow.gather()?", "cancelled")


def test_tasks_start_tasks(cluster):
    # Python: 8 lines; here: 6.
    part(cluster, [
        "fn fib(n: u64) -> u64 {\n    if n < 2 { return n; }\n    let cluster = Cluster::current().unwrap();\n    let both = cluster.map(fib, [n - 1, n - 2]);\n    cluster.gather(both).unwrap().iter().sum()\n}",
        ("cluster.submit(fib, 8).gather()?", "21"),
    ])


def test_where_work_and_values_are(cluster):
    # Dask's distributed chapter. Python: 10 lines; here: 9.
    part(cluster, [
        "let x = cluster.scatter(vec![1.0f64; 1_000]);",
        ("x.wait()?; x.who_has()?.is_empty()", "false"),
        ("cluster.broadcast(&x)?; x.who_has()?.len()", "2"),
        ("cluster.run_on_all(|| std::process::id())?.len()", "2"),
        ("let pinned = cluster.on_workers([1]).submit(|_: i64| std::process::id(), 7); cluster.run_on_all(|| std::process::id())?.iter().any(|(_, pid)| *pid == pinned.gather().unwrap())", "true"),
        "cluster.restart()?;",
        ("cluster.submit(inc, 41).gather()?", "42"),
        ("x.gather()?.len()", "1000"),
    ])


def test_an_actor_counts(cluster):
    # Python: 10 lines; here: 9.
    part(cluster, [
        "#[derive(Serialize, Deserialize, Clone)] struct Counter { n: i64 }\nimpl Counter {\n    fn new(n: i64) -> Counter { Counter { n } }\n    fn increment(&mut self) -> i64 { self.n += 1; self.n }\n}",
        "let counter = cluster.actor(Counter::new, 0)?;",
        ("for _ in 0..4 { counter.call(Counter::increment, ())?; } counter.call(Counter::increment, ())?", "5"),
    ])


def test_a_pipeline_of_stages_with_a_queue(cluster):
    # Python: 14 lines; here: 8.
    part(cluster, [
        'let queue: Queue<i64> = cluster.queue("stages")?;',
        "let producer = cluster.submit(|n: i64| { let queue: Queue<i64> = Cluster::current().unwrap().queue(\"stages\").unwrap(); for i in 0..n { queue.put(i).unwrap(); } n }, 5);",
        ("producer.gather()?", "5"),
        ("let mut all = 0; for _ in 0..5 { all += queue.get()?; } all", "10"),
    ])


def test_nested_results_come_in_their_shape(cluster):
    # Python: 3 lines; here: 3.
    part(cluster, [
        "let nested = vec![cluster.map(inc, [1i64, 2]), cluster.map(inc, [3i64])];",
        ("cluster.gather_nested(&nested)?", "[[2, 3], [4]]"),
        ("cluster.submit(|all: Vec<Vec<i64>>| all.iter().flatten().sum::<i64>(), &nested).gather()?", "9"),
    ])


def test_a_random_search_stops_early(cluster):
    # Dask's examples page, "as_completed". Python: 17 lines; here: 8.
    part(cluster, [
        "fn trial(seed: u64) -> f64 { let mut x = seed.wrapping_mul(6364136223846793005).wrapping_add(1); x ^= x >> 29; (x % 1000) as f64 / 1000.0 }",
        "let mut best = 0.0f64;\nlet mut running = cluster.as_completed(cluster.map(trial, 0..200u64));\nwhile let Some(done) = running.next() {\n    best = best.max(done.gather()?);\n    if best > 0.9 { break; }\n}",
        ("best > 0.9", "true"),
    ])


def test_what_workers_said(cluster):
    # Python: 3 lines; here: 2.
    ok(cluster, 'cluster.gather(cluster.impure().map(|n: i64| println!("hello from task {n}"), 0..3))?;')
    shown = ok(cluster, "cluster.logs()?").of("execute_result")[0]["data"]
    assert "hello from task 2" in shown["text/plain"] and "came up as process" in shown["text/plain"]


def test_two_notebooks_use_one_cluster(cluster, tmp_path):
    """The second notebook's functions run there, what is published is there for both, and each ends on its own."""
    ok(cluster, 'let shared = Cluster::local().name("of-both").workers(1).start()?;')
    ok(cluster, 'shared.publish("answer", &shared.submit(inc, 41))?;')
    other = Kernel(tmp_path)
    try:
        ok(other, 'let shared = Cluster::connect("of-both")?;')
        ok(other, 'shared.lookup::<i64>("answer")?.gather()?', "42")
        ok(other, "fn triple(x: i64) -> i64 { 3 * x }")
        ok(other, "shared.submit(triple, 14).gather()?", "42")
        # A closure's code is built when it is needed.
        ok(other, "shared.submit(|x: i64| x - 1, 43).gather()?", "42")
        ok(other, 'shared.publish("tripled", &shared.submit(triple, 5))?;')
        fails(other, 'Cluster::connect("of-nobody")?', "no cluster `of-nobody` is running", "there is: of-both")
        fails(other, 'Cluster::local().name("of-both").workers(1).start()?', "another notebook or program has a cluster `of-both`")
    finally:
        other.close()
    ok(cluster, 'shared.lookup::<i64>("tripled")?.gather()?', "15")
    ok(cluster, "shared.submit(inc, 1).gather()?", "2")
    # The notebook's own cluster stands beside it.
    ok(cluster, "cluster.info()?.workers.len()", "2")
