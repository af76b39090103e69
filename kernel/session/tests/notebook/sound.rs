//! Safe code stays safe: layouts, threads, types of other builds.

use std::{thread, time::Duration};

use crate::lab::{Lab, check};

#[test]
fn a_static_whose_type_changed_begins_anew_and_is_never_read_through_the_old_layout() {
    check(
        r#"
use std::sync::Mutex;
struct P { n: usize, s: &'static str }
impl P { const fn new() -> P { P { n: 7, s: "seven" } } }
static ALL: Mutex<Vec<P>> = Mutex::new(Vec::new());
---
ALL.lock().unwrap().push(P::new()); ALL.lock().unwrap().len()
=> 1
---
fn unrelated() {}
impl P { fn get(&self) -> usize { self.n } }
---
ALL.lock().unwrap()[0].get()
=> 7
---
struct P { s: &'static str, t: &'static str, n: usize }
---
ALL.lock().unwrap().len()
=> 0
"#,
    );
}

#[test]
fn a_type_that_was_defined_anew_is_another_one_also_behind_any() {
    check(
        r#"
use std::{any::Any, error::Error, fmt};
#[derive(Debug)] struct Z { a: usize, b: &'static str } impl fmt::Display for Z { fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { Ok(()) } } impl Error for Z {}
let any: Box<dyn Any> = Box::new(Z { a: 1, b: "x" });
let err: Box<dyn Error> = Box::new(Z { a: 1, b: "x" });
---
any.downcast_ref::<Z>().map(|z| z.a)
=> Some(1)
---
#[derive(Debug)] struct Z { b: &'static str, c: &'static str, a: usize }
---
(any.downcast_ref::<Z>().is_some(), err.downcast_ref::<Z>().is_some())
=> (false, false)
---
struct Other(i32); let o = Other(1);
---
struct Z;
---
o.0
=> 1
"#,
    );
}

#[test]
fn what_is_not_send_never_leaves_its_thread() {
    let mut lab = Lab::new();
    lab.ok("use std::rc::Rc; let rc = Rc::new(5); let number = 7;");
    let handle = lab.session.handle();
    let interrupter = thread::spawn(move || {
        // Long enough for a compiler that is read from disk first.
        thread::sleep(Duration::from_millis(2_500));
        handle.interrupt();
    });
    let said = lab
        .fails("let held = rc.clone(); std::thread::sleep(std::time::Duration::from_secs(7)); drop(held);");
    interrupter.join().unwrap();
    assert!(said.contains("could not be stopped"), "{said}");
    assert_eq!(lab.ok("number"), "7", "what may move is there");
    let said = lab.fails("rc");
    assert!(said.contains("`rc`"), "{said}");
    thread::sleep(Duration::from_secs(5));
    let said = lab.fails("rc");
    assert!(said.contains("`rc`"), "and it does not come back: {said}");
}

#[test]
fn forgotten_values_are_dropped_on_the_thread_that_made_them() {
    check(
        r#"
use std::{rc::Rc, thread::ThreadId};
struct Here(ThreadId, Rc<i32>);
impl Drop for Here { fn drop(&mut self) { print!("{}", if std::thread::current().id() == self.0 { "same" } else { "other" }); } }
static SAID: std::sync::Mutex<&str> = std::sync::Mutex::new("");
let count = Rc::new(1); let here = Here(std::thread::current().id(), count.clone());
---
:clear here
---
Rc::strong_count(&count)
=> 1
"#,
    );
}

#[test]
fn a_variable_is_never_read_as_a_type_that_its_cell_defines_anew() {
    let mut lab = Lab::new();
    for (old, make, new, read) in [
        (
            "struct W { a: i64, b: i64 }",
            "W { a: 1, b: 2 }",
            "struct W { b: i64, c: i64, d: [i64; 4] }",
            "w.d",
        ),
        (
            "struct U { a: i64 }",
            "vec![U { a: 1 }]",
            "struct U { s: String }",
            "w.len()",
        ),
        (
            "struct I(u8); struct O { i: I }",
            "O { i: I(1) }",
            "struct I(String);",
            "drop(w);",
        ),
    ] {
        lab.ok(&format!("{old}\nlet w = {make};\nlet kept = 5;"));
        let said = lab.fails(&format!("{new}\n{read}"));
        assert!(
            said.contains("`w` is of a type that this cell defines anew"),
            "{said}"
        );
        assert_eq!(lab.ok("kept"), "5");
        lab.ok(&format!("{new}\nkept"));
        let said = lab.fails("w");
        assert!(said.contains("dropped when its type was redefined"), "{said}");
    }
    lab.ok("struct V { a: i64 }\nlet v = V { a: 1 };");
    assert_eq!(
        lab.ok("struct V { s: &'static str }\nlet v = V { s: \"new\" };\nv.s"),
        "\"new\""
    );
}

#[test]
fn a_variable_that_is_gone_is_told_from_a_function_of_that_name_in_scope() {
    let mut lab = Lab::new();
    lab.ok("let data = vec![3, 1, 2]; let first = &data[0];");
    let said = lab.fails("first + 1");
    assert!(said.contains("a borrow ends with its cell"), "{said}");
    lab.ok("fn first(n: i32) -> i32 { n }");
    let said = lab.fails("first + 1");
    assert!(!said.contains("a borrow"), "{said}");
    lab.ok("use std::collections::HashMap");
    assert_eq!(lab.ok("HashMap::from([(1, 2)]).len()"), "1");
}

#[test]
fn an_interrupt_before_the_compiler_starts_is_not_lost() {
    let mut lab = Lab::new();
    lab.ok("let kept = 5;");
    lab.session.take_up();
    lab.session.handle().interrupt();
    let said = lab.fails("loop {}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(lab.ok("kept"), "5");
}

#[test]
fn two_interrupts_in_half_a_second_lose_nothing() {
    let mut lab = Lab::new();
    lab.ok("let kept = 5;");
    let handle = lab.session.handle();
    let interrupter = thread::spawn(move || {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(250));
            handle.interrupt();
        }
    });
    let said = lab.fails("let mut n = 0u64; let until = std::time::Instant::now() + std::time::Duration::from_millis(600); while std::time::Instant::now() < until { std::hint::black_box(&mut n); std::thread::sleep(std::time::Duration::from_millis(300)); } loop { n += 1; }");
    interrupter.join().unwrap();
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(lab.ok("kept"), "5");
}

#[test]
fn a_process_that_does_not_answer_is_ended_and_the_message_says_who_did_it() {
    let mut lab = Lab::new();
    let pid: i32 = lab.ok("std::process::id()").parse().unwrap();
    lab.ok("let lost = 1;");
    let handle = lab.session.handle();
    let interrupter = thread::spawn(move || {
        thread::sleep(Duration::from_millis(2_500));
        // SAFETY: a signal to a process of this test, which is there until it is killed below.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        handle.interrupt();
        thread::sleep(Duration::from_millis(2_300));
        handle.interrupt();
    });
    let said = lab.fails("loop {}");
    interrupter.join().unwrap();
    assert!(
        said.contains("you interrupted it again after it had not stopped")
            && said.contains("these variables are lost: lost"),
        "{said}"
    );
    assert_eq!(lab.ok("1"), "1");
}

#[test]
fn a_panic_while_the_old_value_is_dropped_leaves_the_name_usable() {
    let mut lab = Lab::new();
    lab.ok("struct Bomb; impl Drop for Bomb { fn drop(&mut self) { panic!(\"boom\") } } let bomb = Bomb;");
    let ran = lab.run("let bomb = 5;");
    assert!(
        ran.result.is_ok() && ran.notes[0].contains("panicked while it was dropped: boom"),
        "{ran:?}"
    );
    assert_eq!(lab.ok("bomb"), "5");
}
