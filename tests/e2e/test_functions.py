"""Functions of cells on workers: where their code comes from, and that it is there before it is asked for."""

import re
import time

import pytest

from test_cells import fails, ok


@pytest.fixture(scope="module")
def cluster(kernel):
    ok(kernel, "fn early(x: i64) -> i64 { x * 10 }")
    ok(kernel, "let cluster = Cluster::local().workers(1).start()?;")
    return kernel


def loaded(kernel):
    """The libraries of cells that the worker has loaded."""
    maps = ok(kernel, 'cluster.submit(|| std::fs::read_to_string("/proc/self/maps").unwrap(), ()).gather()?').text
    return set(re.findall(r"libcell-[\w.-]+?\.so", maps))


@pytest.mark.parametrize("define,call,value", [
    (None, "early, 2", "20"),
    ("fn later(x: i64) -> i64 { x + 1 }", "later, 1", "2"),
    ("fn strings(a: &str, b: String) -> String { format!(\"{a}{b}\") }", 'strings, ("a".to_string(), "b")', '"ab"'),
    ("fn total(x: &[f64], k: &f64) -> f64 { x.iter().sum::<f64>() * k }", "total, (vec![1.0, 2.0], 3.0)", "9.0"),
    ("fn größe(a: Option<i64>, b: (i64, bool)) -> i64 { a.unwrap_or(b.0) }", "größe, (None, (7, true))", "7"),
    ("#[derive(Clone, Serialize, Deserialize)] struct Bee { n: i64 } fn bee(n: i64) -> Bee { Bee { n } } fn count(bees: Vec<Bee>) -> i64 { bees.iter().map(|bee| bee.n).sum() }",
     "count, &cluster.map(bee, 0..4)", "6"),
    ('fn table(n: i64) -> DataFrame { df!("n" => (0..n).collect::<Vec<_>>()).unwrap() } fn rows(all: Vec<DataFrame>, one: &DataFrame) -> usize { all.iter().map(DataFrame::height).sum::<usize>() + one.height() }',
     "rows, (&cluster.map(table, 1..4), &cluster.submit(table, 5))", "11"),
    ('fn tables(n: i64) -> Vec<DataFrame> { (0..n).map(|i| df!("n" => [i]).unwrap()).collect() } fn how_many(all: Vec<DataFrame>) -> usize { all.len() }',
     "how_many, &cluster.submit(tables, 3)", "3"),
])
def test_a_function_is_built_where_it_is_defined(cluster, define, call, value):
    if define:
        ok(cluster, define)
    before = loaded(cluster)
    cell = ok(cluster, f"cluster.submit({call}).gather()?", value)
    number = cell.of("execute_input")[0]["execution_count"]
    new = loaded(cluster) - before
    # Those of the cells that look at the maps are the closures' own.
    assert f"libcell-{number}.release.so" not in new, "the cell that submits was built for the workers, too"
    assert any(".tasks-" in library for library in new), new


def test_what_fails_in_such_a_function_says_where(cluster):
    ok(cluster, 'fn no(x: i64) -> Result<i64, String> { Err(format!("{x} is too much")) }\nfn none(x: i64) -> PolarsResult<DataFrame> { df!("a" => [x])?.select(["nope"]) }\nfn boom(x: i64) -> i64 {\n    let none: Vec<i64> = vec![];\n    none[x as usize]\n}')
    fails(cluster, "cluster.submit(no, 3).gather()?", "3 is too much")
    fails(cluster, "cluster.submit(none, 3).gather()?", '"nope" not found')
    fails(cluster, "cluster.submit(boom, 2).gather()?", "line 5", "index out of bounds")


def test_a_function_that_changes_is_the_new_one_at_once(cluster):
    for n in range(4):
        ok(cluster, f"fn version() -> i64 {{ helper() }} fn helper() -> i64 {{ {n} }} cluster.submit(version, ()).gather()?", str(n))
        ok(cluster, f"fn helper() -> i64 {{ {n} + 100 }}")
        ok(cluster, "cluster.submit(version, ()).gather()?", str(n + 100))


def test_a_cell_that_does_not_compile_leaves_nothing_behind(cluster):
    fails(cluster, "fn fine(x: i64) -> i64 { x + 100 } fn broken() -> i64 { nothing_of_the_kind }", "nothing_of_the_kind")
    ok(cluster, "fn fine(x: i64) -> i64 { x + 100 } fn broken() -> i64 { 1 }")
    ok(cluster, "(cluster.submit(fine, 1).gather()?, cluster.submit(broken, ()).gather()?)", "(101, 1)")


def test_functions_that_no_worker_can_call_are_no_trouble(cluster):
    ok(cluster, "struct Plain { x: i64 }\nfn of_plain(plain: Plain) -> i64 { plain.x }\nfn unnamed(x: std::rc::Rc<i64>) -> std::cell::Cell<i64> { std::cell::Cell::new(*x) }\nfn called(x: i64) -> i64 { of_plain(Plain { x }) + unnamed(x.into()).get() }")
    ok(cluster, "cluster.submit(called, 4).gather()?", "8")


def test_the_same_after_the_cluster_was_started_again(cluster):
    ok(cluster, "cluster.shutdown()?; let cluster = Cluster::local().workers(1).start()?; cluster.submit(early, 5).gather()?", "50")
    began = time.monotonic()
    ok(cluster, "cluster.submit(early, 6).gather()?", "60")
    assert time.monotonic() - began < 20
