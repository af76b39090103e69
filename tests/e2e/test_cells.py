"""What a cell may be, and what happens to its variables."""

import time

import pytest


def ok(kernel, code, text=None, **options):
    result = kernel.execute(code, **options)
    assert result.status == "ok", "\n".join(result.reply.get("traceback", []))
    if text is not None:
        assert result.text == text
    return result


def fails(kernel, code, *fragments):
    error = kernel.execute(code).error
    for fragment in fragments:
        assert fragment in error, f"{fragment!r} is not in:\n{error}"
    return error


def test_variables_keep_their_exact_types(kernel):
    ok(kernel, "let x = vec![1u8, 2]; let (a, mut b) = (2.5f32, String::from(\"hi\"));")
    ok(kernel, "let doubled = x.iter().map(|v| *v as u64 * 2).collect::<Vec<_>>();")
    ok(kernel, "b.push('!'); (x.len(), a, b.clone(), doubled.clone())", '(2, 2.5, "hi!", [2, 4])')
    ok(kernel, "let Some(first) = x.first().copied() else { panic!() };")
    ok(kernel, "let x = x.len() + first as usize; x", "3")
    ok(kernel, "x + 1", "4")
    ok(kernel, 'let df = df!("a" => [1, 2, 3])?; let lazy = df.clone().lazy(); let e = col("a").sum();')
    ok(kernel, "let out = lazy.clone().select([e.clone()]).collect()?;")
    ok(kernel, 'out.column("a")?.i32()?.get(0)', "Some(6)")
    ok(kernel, "let handle = std::thread::current(); let pair = (handle.clone(), 1);")
    ok(kernel, "pair.1 + handle.name().map_or(0, |_| 1)", "2")


def test_a_moved_variable_is_forgotten_and_said_so(kernel):
    ok(kernel, "let owned = String::from(\"x\");")
    ok(kernel, "let other = owned;")
    fails(kernel, "owned.len()", "E0425", "`owned` was moved in cell", "hint: use `owned.clone()`")
    ok(kernel, "other", '"x"')


def test_closures_and_borrows_are_not_kept_and_said_so(kernel):
    result = ok(kernel, "let f = |v: i32| v + 1; f(1)", "2")
    assert "`f` was not kept" in result.notes and "make it a `fn`" in result.notes and result.stream("stderr") == ""
    result = ok(kernel, "let it = (0..3).map(|v| v * 2);")
    assert "`it` was not kept" in result.notes
    ok(kernel, "let text = String::from(\"abc\");")
    assert "`part` was not kept: a borrow ends with its cell" in ok(kernel, "let part = &text[1..]; part.len()", "2").notes
    fails(kernel, "part", "borrows from another value", "hint: keep an owned value")
    ok(kernel, "text.len()", "3")


def test_items_persist_and_redefinition_replaces(kernel):
    ok(kernel, "fn twice(x: i32) -> i32 { x * 2 }\nconst N: i32 = 5;\nmacro_rules! inc { ($e:expr) => { $e + 1 } }")
    ok(kernel, "mod deep { pub fn f() -> i32 { 7 } }\nuse std::collections::{BTreeMap, HashMap as Map};\ntrait Area { fn area(&self) -> f64; }")
    ok(kernel, "#[derive(Debug, Clone)] struct P<T> { x: T }\nimpl<T> P<T> { fn new(x: T) -> Self { P { x } } }\nimpl Area for P<f64> { fn area(&self) -> f64 { self.x } }")
    ok(kernel, "enum Kind { A, B(i32) }\nlet p = P::new(1.5); let map: Map<i32, BTreeMap<u8, u8>> = Map::new(); let k = Kind::B(2);")
    ok(kernel, "(inc!(twice(N)) + deep::f(), p.area(), map.len(), matches!(k, Kind::B(2)))", "(18, 1.5, 0, true)")
    ok(kernel, "fn twice(x: i32) -> i32 { x * 20 }")
    ok(kernel, "twice(N)", "100")
    result = ok(kernel, "#[derive(Debug, Clone)] struct P<T> { y: i8, x: T }\nimpl<T> P<T> { fn new(x: T) -> Self { P { y: 0, x } } }")
    assert "dropped `p`: the type `P` was redefined" in result.notes
    fails(kernel, "p", "`p` was dropped when its type was redefined")
    ok(kernel, "P::new(2.0).area()", "2.0")


def test_statics_are_one_across_cells(kernel):
    ok(kernel, "use std::sync::atomic::{AtomicU32, Ordering};\nstatic COUNT: AtomicU32 = AtomicU32::new(5);\nfn bump() -> u32 { COUNT.fetch_add(1, Ordering::SeqCst) }")
    ok(kernel, "bump()", "5")
    ok(kernel, "bump() + COUNT.load(Ordering::SeqCst)", "13")


def test_a_stale_item_is_set_aside(kernel):
    ok(kernel, "struct Q { a: i32 }\nfn read_q(q: &Q) -> i32 { q.a }")
    result = ok(kernel, "struct Q { b: i32 }")
    assert "`read_q` (cell" in result.notes and "was set aside" in result.notes


def test_tails_are_shown_by_the_richest_way(kernel):
    assert "text/html" in ok(kernel, 'df!("a" => [1])?').of("execute_result")[0]["data"]
    ok(kernel, '"text"', '"text"')
    assert "`Silent`, which has no text form" in ok(kernel, "struct Silent; Silent").text
    shown = ok(kernel, "display(5)")
    assert len(shown.of("display_data")) == 1 and shown.of("execute_result") == [], "what `display` gives back is no result"
    assert kernel.execute("let y = 1;").of("execute_result") == []
    assert kernel.execute("()").of("execute_result") == []
    ok(kernel, "struct Own; impl Rich for Own { fn bundle(&self) -> Bundle { Bundle::text(\"mine\").with_html(\"<b>mine</b>\") } }")
    assert kernel.execute("Own").of("execute_result")[0]["data"] == {"text/plain": "mine", "text/html": "<b>mine</b>"}


def test_await_and_question_mark_at_top_level(kernel):
    ok(kernel, "skep::tokio::time::sleep(Duration::from_millis(5)).await; let n: i32 = \"41\".parse()?; n + 1", "42")
    ok(kernel, "async fn later(x: i32) -> i32 { skep::tokio::task::yield_now().await; x * 2 }")
    ok(kernel, "later(n).await", "82")


def test_output_is_live_complete_and_in_order(kernel):
    ok(kernel, 'print!("no newline")').stream() == "no newline"
    result = ok(kernel, 'for i in 0..20000 { println!("line {i:05} {}", "x".repeat(40)); }')
    lines = result.stream().splitlines()
    assert len(lines) == 20000 and lines[0].startswith("line 00000") and lines[-1].startswith("line 19999")
    result = ok(kernel, 'println!("one"); display("two"); println!("three"); eprintln!("err"); std::thread::spawn(|| println!("thread")).join().unwrap(); 4')
    kinds = [m["msg_type"] for m in result.messages if m["msg_type"] in ("stream", "display_data", "execute_result")]
    assert kinds.index("display_data") > 0 and kinds[-1] == "execute_result"
    assert result.stream() == "one\nthree\nthread\n" and result.stream("stderr") == "err\n"
    msg_id = kernel.client.execute('print!("first"); sleep(Duration::from_millis(900)); println!(" second")')
    while True:
        message = kernel.client.get_iopub_msg(timeout=5)
        if message["msg_type"] == "stream":
            break
    assert message["content"]["text"] == "first", "shown while the cell runs, which has more to say"
    kernel.finish(msg_id)


def test_compile_errors_point_at_the_users_line(kernel):
    error = fails(kernel, 'let a = 1;\nlet b: i32 = "no";\nlet c: u8 = 1.5;', "E0308", "cell", ":2:14", ":3:13")
    assert error.count("mismatched types") == 2, "both errors in one reply"
    fails(kernel, "fn broken() -> i32 {\n    nothing\n}", "E0425", ":2:5", "nothing")
    fails(kernel, 'let é = "x"; é.foo()', "E0599", ":1:16")
    fails(kernel, "let v = vec![1];\nv.push(2);", "E0596")
    ok(kernel, "let fixed = vec![1];")
    fails(kernel, "fixed.push(2);", "E0596", "hint: make it mutable where it is defined")


def test_panics_and_failures_keep_variables(kernel):
    ok(kernel, "let kept = vec![1, 2, 3]; let mut counter = 0;")
    fails(kernel, "counter += 1;\nlet i = kept.len() + 7;\nkept[i]", "index out of bounds", "line 3", "kept[i]")
    ok(kernel, "(kept.len(), counter)", "(3, 1)")
    fails(kernel, '\nlet file = std::fs::read_to_string("/not/there")?;', "No such file", "line 2")
    ok(kernel, "kept.len()", "3")
    fails(kernel, 'fn deep() { panic!("from inside") }\n\ndeep()', "from inside", "line 1")


@pytest.mark.parametrize("death,reason", [
    ("unsafe { std::ptr::null_mut::<i32>().write_volatile(1) }", "SIGSEGV"),
    ("std::process::abort()", "SIGABRT"),
    ("std::process::exit(3)", "exited with code 3"),
])
def test_a_crash_restarts_and_says_what_was_lost(kernel, death, reason):
    ok(kernel, "let lost = 1; fn stays() -> i32 { 9 }")
    error = fails(kernel, death, "the evaluation process ended", reason, "lost", "a new one is running")
    assert "hint:" in error
    fails(kernel, "lost", "`lost` was lost when the evaluation process ended")
    ok(kernel, "stays()", "9")


@pytest.mark.parametrize("code", ["loop {}", "let mut n = 0u64; while n < u64::MAX { n += 1; }", "sleep(Duration::from_secs(60))", "std::thread::sleep(Duration::from_secs(60))"])
def test_interrupt_ends_the_cell_and_keeps_variables(kernel, code):
    ok(kernel, "let before = String::from(\"here\");")
    msg_id = kernel.client.execute(code)
    time.sleep(0.8)
    assert kernel.interrupt()["status"] == "ok"
    result = kernel.finish(msg_id, timeout=10)
    assert result.reply["ename"] == "Interrupted"
    ok(kernel, "before", '"here"')


def test_a_variable_of_a_cell_that_goes_on_comes_back(kernel):
    ok(kernel, "let lent = vec![1, 2, 3];")
    msg_id = kernel.client.execute("std::thread::sleep(Duration::from_secs(3)); lent.len()")
    time.sleep(0.6)
    kernel.interrupt()
    assert kernel.finish(msg_id, timeout=10).reply["ename"] == "Interrupted"
    fails(kernel, "lent.len()", "`lent` is still in use by cell", "hint: it comes back when that is done")
    deadline = time.monotonic() + 10
    while "lent" not in ok(kernel, ":vars").text and time.monotonic() < deadline:
        ok(kernel, "sleep(Duration::from_millis(200))")
    ok(kernel, "lent.len()", "3")


def test_interrupt_while_compiling(kernel):
    ok(kernel, "let safe = 1;")
    functions = "\n".join(f"fn g{i}(x: i64) -> Vec<String> {{ (0..x).map(|v| format!(\"{{v}} {i}\")).collect() }}" for i in range(1500))
    calls = ";".join(f"g{i}(1)" for i in range(1500))
    msg_id = kernel.client.execute(f"{functions}\n{calls};")
    time.sleep(0.5)
    kernel.interrupt()
    assert kernel.finish(msg_id, timeout=20).reply["ename"] == "Interrupted"
    ok(kernel, "safe", "1")


def test_a_second_interrupt_right_after_the_first_loses_nothing(fresh):
    ok(fresh, "let kept = 1;")
    msg_id = fresh.client.execute("std::thread::sleep(Duration::from_secs(60)); 5")
    time.sleep(0.6)
    fresh.interrupt()
    fresh.interrupt()
    result = fresh.finish(msg_id, timeout=10)
    assert "could not be stopped" in result.error
    ok(fresh, "kept", "1")


def test_bad_input(kernel):
    ok(kernel, "")
    ok(kernel, "   \n  // only a comment")
    for code in ["%%% garbage ☃ §", "fn f( {", "let x = (1, [2;", '"open', "}{", "r#\"", "'", "#[", "let = ;"]:
        error = fails(kernel, code, "error")
        assert len(error) < 3000, "short"
    fails(kernel, "(" * 300 + ")" * 300, "nests 300 brackets deep")
    ok(kernel, "let big = \"" + "x" * 1_000_000 + "\"; big.len()", "1000000")
    ok(kernel, "1 + 1", "2")


def test_commands(kernel):
    assert ":vars" in ok(kernel, ":help").text
    ok(kernel, "let shown: Vec<i64> = vec![];")
    assert "Vec<i64>" in ok(kernel, ":vars").text
    fails(kernel, ":vras", "there is no command `:vras`", "did you mean `:vars`?")
