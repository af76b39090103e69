"""Every command, as a person types it."""

import os
import re
import signal
import stat
import subprocess
import time

import pytest

from conftest import SKEP, Kernel


def test_the_table_helps_completes_and_suggests(kernel):
    text = kernel.execute(":help").text
    for name in "help vars type time bench opt dep clear restart interrupt history save load edit cluster workers tasks journey graph assist".split():
        assert f":{name}" in text, name
        assert kernel.execute(f"?:{name}").reply["payload"][0]["data"]["text/plain"].startswith(f":{name}"), name
    assert "%%sql" in text and "what it does" in text
    assert "did you mean `:vars`?" in kernel.execute(":vras").error
    assert "`:help` lists" in kernel.execute(":xyzzy").error
    assert kernel.execute(":help time").text.startswith(":time CODE")


def test_commands_above_rust_and_lines_that_stay_right(kernel):
    result = kernel.execute(":opt 0\n:clear\n\nlet here = 1;\nhere + nope")
    assert "cells are compiled with opt-level 0" in result.of("execute_result")[0]["data"]["text/plain"]
    assert "5 | here + nope" in result.error


def test_vars_also_answer_while_a_cell_runs(kernel):
    kernel.execute("let xs = vec![1u8]; let cluster = Cluster::local().workers(2).start()?; fn inc(x: i64) -> i64 { x + 1 } let r = cluster.submit(inc, 1);")
    text = kernel.execute(":vars").text
    assert re.search(r"xs +Vec<u8> +1 long +25 B +\[1\]", text) and re.search(r"r +Remote<i64> +on a worker", text), text
    running = kernel.client.execute("sleep(Duration::from_secs(3));")
    time.sleep(0.5)
    text = kernel.finish(kernel.client.execute(":vars")).text
    assert re.search(r"xs +Vec<u8>", text) and "before the cell that runs" in text, text
    kernel.interrupt()
    kernel.finish(running)


def test_type_runs_nothing_and_moves_nothing(kernel):
    kernel.execute("let v = vec![String::from(\"a\")]; let mut n = 1;")
    for code, expect in (("v", "Vec<String>"), ("v.into_iter().map(|s| s.len())", "Map<IntoIter<String>, closure>"), ("{ n += 1; n }", "i32"), ("\"x\".parse::<f64>()?", "f64"), ("v.iter()", "Iter<'_, String>")):
        result = kernel.execute(f":type {code}")
        assert result.status == "ok" and result.text == expect, (code, result.reply, result.text)
    assert kernel.execute("(v.len(), n)").text == "(1, 1)"
    assert "needs code" in kernel.execute(":type").error
    assert "no last expression" in kernel.execute(":type let x = 1;").error.replace("without a last expression", "no last expression")
    assert "E0425" in kernel.execute(":type nope").error


def test_time_bench_and_opt(kernel):
    result = kernel.execute(":time let s: u64 = (0..1000).sum(); s")
    assert result.text == "499500" and re.search(r"time: .* to compile, .* to run", result.of("display_data")[0]["data"]["text/plain"])
    assert kernel.execute("%%time\nlet a = 1;\na + 1").text == "2"
    assert kernel.execute("a").text == "1", "what was timed is kept"
    shown = kernel.execute(":bench (0..100u64).fold(1u64, |a, b| a.wrapping_mul(31) ^ b)").text
    assert re.fullmatch(r"\S+ (ns|µs|ms) a run, median of [\d,]+ runs \(fastest .*, slowest .*\)", shown), shown
    assert "opt-level 2" in kernel.execute(":opt 2").text
    assert kernel.execute("cfg!(debug_assertions)").text == "false"
    assert "opt-level 0" in kernel.execute(":opt 0").text
    assert "is no optimisation level" in kernel.execute(":opt 9").error


def test_sql_over_frames_and_dataframes(kernel, tmp_path):
    for year in (1, 2):
        (tmp_path / f"{year}.csv").write_text("Origin,Delay\nEWR,%d\nJFK,2\nJFK,\n" % year)
    kernel.execute(f'let cluster = Cluster::local().workers(2).start()?; let flights = Frame::read_csv("{tmp_path}/*.csv")?; let names = df!("Origin" => ["EWR", "JFK"], "name" => ["Newark", "Kennedy"])?;')
    text = kernel.execute("%%sql\nselect Origin, avg(Delay) as delay, count(*) as n from flights where Origin <> 'LGA' group by Origin order by Origin").text
    assert re.search(r"EWR +┆ 1.5 +┆ 2", text) and re.search(r"JFK +┆ 2.0 +┆ 4", text), text
    joined = kernel.execute("%%sql by_name\nselect name, max(Delay) as worst from flights join names on flights.Origin = names.Origin group by name order by name")
    assert "Kennedy" in joined.text, joined.reply
    assert kernel.execute("by_name.height()").text == "2"
    assert "known tables: names" in kernel.execute("%%sql\nselect nope from names").error
    assert "no variable of the notebook" in kernel.execute("%%sql\nselect * from nobody").error
    assert "hint:" in kernel.execute("%%sql\nselct * from names").error
    assert "needs a query" in kernel.execute("%%sql").error


def test_a_query_over_a_frame_runs_on_the_cluster(kernel, tmp_path):
    (tmp_path / "a.csv").write_text("k,v\na,1\nb,2\n")
    before = re.search(r"tasks +(\d+) done", kernel.execute(":cluster").text)
    kernel.execute(f'let small = Frame::read_csv("{tmp_path}/*.csv")?;')
    kernel.execute("%%sql\nselect k, sum(v) as v from small group by k order by k limit 5")
    after = re.search(r"tasks +(\d+) done", kernel.execute(":cluster").text)
    assert int(after[1]) > int(before[1])


def test_history_save_load(fresh, tmp_path):
    fresh.execute("let a = 20;")
    fresh.execute("fn twice(x: i32) -> i32 {\n    x * 2\n}\ntwice(a)")
    assert "let a = 20;" in fresh.execute(":history").text
    assert "twice" in fresh.execute(":history twice").text and "nothing in the history" in fresh.execute(":history zzz").text
    script = tmp_path / "s.rs"
    assert "wrote 2 cells" in fresh.execute(f":save {script}").text
    assert "// %%" in script.read_text()
    assert "cannot be written" in fresh.execute(":save /proc/no/s.rs").error
    done = subprocess.run([SKEP, "run", script], capture_output=True, text=True, timeout=60, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)})
    assert done.returncode == 0 and "40" in done.stdout, done.stderr
    script.write_text("let loaded = 7;\n// %%\nloaded * twice(3)\n")
    result = fresh.execute(f":load {script}")
    assert result.of("execute_result")[0]["data"]["text/plain"] == "42"
    assert fresh.execute("loaded").text == "7"
    script.write_text("let fine = 1;\n\n// %%\n\nlet broken: i32 = \"x\";\n")
    error = fresh.execute(f":load {script}").error
    assert "s.rs" in error and "5 |" in error, error
    assert "cannot be read" in fresh.execute(":load nowhere.rs").error and "needs a file" in fresh.execute(":load").error
    assert "needs a terminal" in fresh.execute(":edit").error


def test_a_script_s_questions_are_answered():
    done = subprocess.run([SKEP, "run", "-"], input="?:dep\n1 + 1\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "add a crate" in done.stdout and "2\n" in done.stdout, done


def test_a_script_is_interrupted_as_a_cell_is(tmp_path):
    (tmp_path / "long.rs").write_text('let cluster = Cluster::local().workers(1).start()?;\nprintln!("begun");\nloop { sleep(Duration::from_millis(20)); }\n// %%\nprintln!("never");\n')
    running = subprocess.Popen([SKEP, "run", "long.rs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=20)
    assert running.returncode == 130 and out == "" and "interrupted" in error, (running.returncode, out, error)


def test_restart_begins_anew(fresh):
    fresh.execute("let x = 1; fn f() -> i32 { 2 } let cluster = Cluster::local().workers(1).start()?;")
    assert "begun anew" in fresh.execute(":restart").text
    assert "E0425" in fresh.execute("x").error and "E0425" in fresh.execute("f()").error
    assert "no cluster yet" in fresh.execute(":cluster").error
    assert fresh.execute("let cluster = Cluster::local().workers(1).start()?; cluster.submit(i64::abs, -3).gather()?").text == "3"


def test_interrupt_by_command_while_a_cell_runs(kernel):
    assert "nothing is running" in kernel.execute(":interrupt").error
    running = kernel.client.execute("let kept = 1; sleep(Duration::from_secs(60)); kept")
    time.sleep(0.7)
    kernel.client.execute(":interrupt")
    assert kernel.finish(running).status == "error"


def test_cluster_views(kernel):
    kernel.execute("let cluster = Cluster::local().workers(2).start()?; fn inc(x: i64) -> i64 { sleep(Duration::from_millis(20)); x + 1 } fn add(a: i64, b: i64) -> i64 { a + b }")
    kernel.execute("let a = cluster.submit(inc, 1); let b = cluster.submit(inc, 2); let c = cluster.submit(add, (&a, &b)); c.gather()?")
    journey = kernel.execute(":journey c").text
    stages = [line.split()[0] for line in journey.splitlines()[2:] if not line.startswith("   ")]
    assert stages == ["submitted", "inputs", "assigned", "started", "done", "gathered"], journey
    assert re.search(r"to worker-\d+: (it|no other)", journey) and "ran" in journey
    assert journey == kernel.execute("c.journey()?").text
    tasks = kernel.execute(":tasks")
    assert re.search(r"inc: \d+ ×", tasks.text) and "<svg" in tasks.of("execute_result")[0]["data"]["image/svg+xml"]
    assert "on disk" in kernel.execute(":workers").text
    kernel.execute("let d = delayed!(add(delayed!(inc(1)), 2)); let frame = Frame::from_dataframe(df!(\"a\" => [1, 2])?, 2);")
    assert "<svg" in kernel.execute(":graph d").of("execute_result")[0]["data"]["image/svg+xml"]
    assert kernel.execute(":graph frame").status == "ok"
    assert "needs a variable" in kernel.execute(":graph").error
    assert "is a `i64`, which has nothing for `:journey`" in kernel.execute("let plain = 1i64;\n").reply["status"] + kernel.execute(":journey plain").error
    assert "there is no variable `nobody`" in kernel.execute(":graph nobody").error
    kernel.execute("cluster.kill_worker(1)?; sleep(Duration::from_millis(300));")
    assert "lost:" in kernel.execute(":workers").text and "SIGKILL" in kernel.execute(":workers").text


def test_a_journey_outlives_many_tasks(kernel):
    kernel.execute("fn one(x: i64) -> i64 { x } let cluster = Cluster::local().workers(2).start()?; let first = cluster.submit(one, -1); first.gather()?;")
    kernel.execute("let many = cluster.map(one, 0..20_000); cluster.gather(&many)?.len()")
    assert "submitted" in kernel.execute(":journey first").text


@pytest.fixture(scope="module")
def crates(tmp_path_factory):
    """Two crates that share a dependency with each other, and one that shares serde with Skep."""
    root = tmp_path_factory.mktemp("crates")

    def crate(name, dependencies, code):
        (root / name / "src").mkdir(parents=True)
        (root / name / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2024"\n\n[dependencies]\n{dependencies}\n')
        (root / name / "src/lib.rs").write_text(code)

    crate("hive", "", "use std::sync::atomic::{AtomicUsize, Ordering};\nstatic N: AtomicUsize = AtomicUsize::new(0);\npub struct Bee(pub u32);\npub fn count() -> usize { N.fetch_add(1, Ordering::SeqCst) + 1 }\n")
    crate("north", 'hive = { path = "../hive" }', "pub fn bee() -> hive::Bee { hive::count(); hive::Bee(1) }\n")
    crate("south", 'hive = { path = "../hive" }', "pub fn age(bee: &hive::Bee) -> u32 { hive::count(); bee.0 + 41 }\n")
    crate("honey", 'serde = { version = "1", features = ["derive"] }', "#[derive(serde::Serialize, serde::Deserialize, Clone, Debug)]\npub struct Jar { pub grams: u32 }\npub fn weigh<T: serde::Serialize>(_: &T) -> bool { true }\n")
    crate("broken", "", "pub fn oops() -> u32 { \"no\" }\n")
    return root


def test_dep_shares_what_is_shared(fresh, crates):
    for name in ("north", "south"):
        result = fresh.execute(f':dep {name} = {{ path = "{crates}/{name}" }}', timeout=120)
        assert result.status == "ok", result.reply
    assert fresh.execute("let bee = north::bee(); south::age(&bee)").text == "42", "two crates that share a dependency agree on its types"
    assert fresh.execute("south::age(&bee)").text == "42"
    assert fresh.execute(f':dep hive = {{ path = "{crates}/hive" }}', timeout=120).status == "ok"
    assert fresh.execute("hive::count()").text == "4", "a static exists once, for all cells and crates"
    assert "north" in fresh.execute(":dep").text and "is there already" in fresh.execute(f':dep north = {{ path = "{crates}/north" }}').text


def test_dep_uses_skeps_own_serde_also_on_workers(fresh, crates):
    assert fresh.execute(f':dep honey = {{ path = "{crates}/honey" }}', timeout=120).status == "ok"
    assert fresh.execute("#[derive(Serialize)] struct Mine { a: i32 } honey::weigh(&Mine { a: 1 })").text == "true"
    code = "let cluster = Cluster::local().workers(1).start()?; fn fill(g: u32) -> honey::Jar { honey::Jar { grams: g * 2 } } cluster.submit(fill, 21u32).gather()?.grams"
    assert fresh.execute(code).text == "42", "its types travel to workers and back"
    assert fresh.execute("skep::serde_json::to_string(&honey::Jar { grams: 1 })?").text == '"{\\"grams\\":1}"'


def test_dep_again_builds_nothing(fresh, crates):
    again = fresh.execute(f':dep honey = {{ path = "{crates}/honey" }}', timeout=120)
    assert again.status == "ok" and "ompiling" not in str(again.messages), "built once for this user"


def test_dep_fails_in_words(fresh, crates):
    error = fresh.execute(f':dep broken = {{ path = "{crates}/broken" }}', timeout=120).error
    assert "`broken` could not be built" in error and "mismatched types" in error and "hint:" in error
    error = fresh.execute(f':dep nowhere = {{ path = "{crates}/nowhere" }}', timeout=120).error
    assert "could not be built" in error and "hint:" in error
    assert "is no crate's name" in fresh.execute(":dep 1x").error
    assert fresh.execute("1 + 1").text == "2"


def test_dep_can_be_interrupted(fresh, crates):
    slow = crates / "slow"
    (slow / "src").mkdir(parents=True, exist_ok=True)
    (slow / "Cargo.toml").write_text(f'[package]\nname = "slow"\nversion = "1.0.{time.time_ns()}"\nedition = "2024"\nbuild = "build.rs"\n')
    (slow / "build.rs").write_text("fn main() { std::thread::sleep(std::time::Duration::from_secs(60)) }\n")
    (slow / "src/lib.rs").write_text("")
    msg_id = fresh.client.execute(f':dep slow = {{ path = "{slow}" }}')
    time.sleep(3)
    fresh.interrupt()
    result = fresh.finish(msg_id, timeout=10)
    assert "interrupted while building `slow`" in result.error
    assert any("building `slow`" in c["data"]["text/plain"] for c in result.of("display_data"))
    assert fresh.execute("1 + 1").text == "2"


def test_each_part_of_a_cell_runs_and_is_kept(kernel):
    result = kernel.execute(':time let first = 1; fn made() -> i32 { 7 }\nlet second = 2;\nprintln!("{}", first + second + made());')
    assert result.status == "ok" and result.stream() == "10\n", (result.reply, result.stream())
    assert kernel.execute("(first, second, made())").text == "(1, 2, 7)"
    assert kernel.execute(":type first\nlet third = first + 2;\nthird").of("execute_result")[-1]["data"]["text/plain"] == "3"
    assert kernel.execute("third").text == "3"
    three = kernel.execute(':time println!("a")\n:time println!("b")\nprintln!("c");\n')
    assert three.stream() == "a\nb\nc\n", three.stream()
    error = kernel.execute(":time let a = 1;\nlet b: i32 = \"no\";").error
    assert "2 | let b" in error and re.search(r"cell \d+:2", error), error


def test_clear_takes_names(kernel):
    kernel.execute("let cleared_one = 1; let cleared_two = 2;")
    assert kernel.execute(":clear cleared_one").text == "forgot 1 variable"
    assert "was cleared" in kernel.execute("cleared_one").error and kernel.execute("cleared_two").text == "2"
    assert "there is no variable `nope`" in kernel.execute(":clear nope").error


def test_a_value_without_a_text_form_says_so(kernel):
    assert "`#[derive(Debug)]`" in kernel.execute("struct Plain { a: i32 } Plain { a: 1 }").text
    assert kernel.execute("()").text is None


def test_only_what_worked_is_saved(fresh, tmp_path):
    for code in ("let x = 1;", ":help", "nope", "?:vars", ":type x", "x + 1", ":opt 0"):
        fresh.execute(code)
    assert "wrote 3 cells" in fresh.execute(f":save {tmp_path}/s.rs").text
    assert (tmp_path / "s.rs").read_text() == "let x = 1;\n\n// %%\nx + 1\n\n// %%\n:opt 0\n"


def test_hints_name_the_import_and_the_crate(kernel):
    assert "use std::collections::HashMap" in kernel.execute("let m: HashMap<i32, i32> = HashMap::new();").error
    assert "`:dep no_such_crate` in a line above" in kernel.execute("no_such_crate::f()").error
    assert "`:dep other_crate` in a line above" in kernel.execute("use other_crate::Thing;\nThing::new()").error


def test_a_log_says_what_went_on(tmp_path):
    cache = tmp_path / "cache"
    kernel = Kernel(tmp_path, {"SKEP_CACHE": str(cache), "SKEP_LOG": "debug"})
    kernel.execute("let cluster = Cluster::local().workers(1).start()?; fn inc(x: i64) -> i64 { x + 1 } cluster.submit(inc, 1).gather()?")
    kernel.execute("no_such()")
    kernel.execute("panic!(\"ouch\")")
    kernel.execute("cluster.kill_worker(1)?; sleep(Duration::from_millis(800));")
    pid = kernel.manager.provisioner.pid
    kernel.close()
    (log,) = (cache / "logs").glob("skep.*.log")
    text = log.read_text()
    for words in ("a session begins", "cell{cell=1}: skep: done", "did not compile: cannot find function `no_such`", "cell{cell=3}: skep: panicked", "skep::worker: joined worker=worker-1", "skep::task: done task=", "skep::worker: lost"):
        assert words in text, (words, text)
    assert f"[{pid}]" in text, "each line names its process"
