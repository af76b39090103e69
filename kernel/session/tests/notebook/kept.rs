//! What people type works: what is kept from cell to cell, and the forms of evcxr's and of whole files.

use crate::lab::{Lab, check};

#[test]
fn what_borrows_runs_and_is_not_kept() {
    let mut lab = Lab::new();
    let ran = lab.run("let v = vec![3, 1, 2]; let m = v.iter().max().unwrap(); let s = &v[1..]; let text = String::from(\"a=b\"); let (l, r) = text.split_once('=').unwrap(); println!(\"{m} {s:?} {l} {r}\");");
    assert!(ran.result.is_ok() && ran.printed == "3 [1, 2] a b\n", "{ran:?}");
    assert_eq!(
        ran.notes,
        [
            "note: `m`, `s`, `l` and `r` were not kept: a borrow ends with its cell; `.clone()`, `.to_owned()` or `.to_vec()` keep a copy"
        ]
    );
    assert_eq!(lab.ok("v"), "[3, 1, 2]");
    let said = lab.fails("m + 1");
    assert!(
        said.contains("`m` of cell 1 borrows") && said.contains("hint: keep an owned value"),
        "{said}"
    );
    lab.ok("let mut w = vec![1]; let q = &mut w; q.push(2);");
    assert_eq!(
        lab.ok("let first = &w[0]; *first"),
        "1",
        "what borrows from an earlier cell's variable too"
    );
    assert_eq!(lab.ok("w"), "[1, 2]");
    for (code, words) in [
        (
            "let mut a = vec![1]; let x = &mut a; let y = &mut a; x.push(1); y.push(2);",
            "cannot borrow `a` as mutable more than once",
        ),
        (
            "let mut a = vec![1]; let first = &a[0]; a.push(2); println!(\"{first}\");",
            "cannot borrow `a` as mutable because it is also borrowed",
        ),
        (
            "let r; { let inner = 5; r = &inner; } println!(\"{r}\");",
            "`inner` does not live long enough",
        ),
    ] {
        assert!(lab.fails(code).contains(words), "{code}");
    }
}

#[test]
fn uppercase_variables_and_typed_closures_are_kept() {
    check(
        r#"
let X = 5; let N = 100; let X_train = vec![1.0];
---
(X + N, X_train.len())
=> (105, 1)
---
let f: fn(i32) -> i32 = |x| x + 1; let g: Box<dyn Fn(i32) -> i32> = Box::new(move |x| x + N); let h = |x: i32| x + 1;
---
f(1) + g(1)
=> 103
---
h(1)
!> `h` of cell 3 is a closure, whose type no later cell can name
---
let hs: Vec<std::thread::JoinHandle<_>> = (0..3).map(|i| std::thread::spawn(move || i)).collect();
---
hs.into_iter().map(|h| h.join().unwrap()).sum::<i32>()
=> 3
"#,
    );
}

/// What a newcomer tried, and what did not work.
#[test]
fn what_strangers_typed_works() {
    check(
        r#"
struct P { x: i32 } let p = P { x: 1 };
---
impl std::ops::Neg for P { type Output = P; fn neg(self) -> P { P { x: -self.x } } }
impl Iterator for P { type Item = i32; fn next(&mut self) -> Option<i32> { None } }
---
p.x
=> 1
---
#[derive(Debug)] enum Expr { Num(f64), Add(Box<Expr>, Box<Expr>) }
use Expr::{Num, Add};
---
Add(Box::new(Num(1.0)), Box::new(Num(2.0)))
=> Add(Num(1.0), Num(2.0))
---
enum DataType { A, B }
---
use DataType::*;
---
matches!(A, DataType::A)
=> true
---
let x = 5
---
let x = x + 1; x
=> 6
---
fn inc(x: i32) -> i32 { x + 1 }
inc
=> a function, `inc`: call it to see what it gives
---
unsafe { static mut Q: i32 = 1; Q += 1; Q }
=> 2
"#,
    );
}

#[test]
fn items_that_macros_make_are_kept() {
    check(
        r#"
macro_rules! make_struct { ($n:ident) => { #[derive(Debug)] struct $n { x: i32 } impl $n { fn new() -> Self { $n { x: 1 } } } } }
---
make_struct!(Gen)
---
make_struct! { Braced }
make_struct!(Semi);
---
let b = Braced::new(); (Gen::new(), Semi::new())
=> (Gen { x: 1 }, Semi { x: 1 })
---
b
=> Braced { x: 1 }
---
macro_rules! square { ($n:expr) => { $n * $n } }
---
square!(4)
=> 16
---
macro_rules! scoped { ($n:ident) => { let $n = 5; } }
---
scoped!(z); z
=> 5
---
struct Gen(i32);
---
Gen(3).0
=> 3
"#,
    );
}

#[test]
fn files_and_programs_can_be_pasted() {
    let mut lab = Lab::new();
    assert_eq!(
        lab.ok("#!/usr/bin/env skep\n//! about\n#![allow(unused)]\nfn foo() -> i32 { 1 }\nfoo()"),
        "1"
    );
    assert_eq!(
        lab.run("fn main() { println!(\"main runs\"); }").printed,
        "main runs\n"
    );
    assert_eq!(
        lab.run("#[tokio::main] async fn main() -> Result<(), std::io::Error> { tokio::task::yield_now().await; println!(\"async\"); Ok(()) }").printed,
        "async\n"
    );
    assert!(
        lab.fails("fn main() -> Result<(), String> { Err(\"no\".into()) }")
            .contains("no")
    );
    assert_eq!(
        lab.run("println!(\"a\"); return; println!(\"b\");").printed,
        "a\n"
    );
    assert_eq!(
        lab.run("let o: Option<i32> = None; let Some(z) = o else { return; }; println!(\"{z}\");")
            .printed,
        ""
    );
    let said = lab.fails("z");
    assert!(said.contains("returned before its end"), "{said}");
}

#[test]
fn errors_of_every_kind_leave_a_cell_by_a_question_mark() {
    check(
        r#"
use std::sync::Mutex; let m = Mutex::new(5);
---
*m.lock()?
=> 5
---
*m.lock()? += 1; *m.lock()?
=> 6
---
#[derive(Debug)] struct MyErr(i32); fn fails() -> Result<i32, MyErr> { Err(MyErr(3)) }
---
fails()?
!> MyErr(3)
---
let n: i32 = "5".parse()?; n
=> 5
---
let n: i32 = "x".parse()?; n
!> invalid digit
"#,
    );
}

#[test]
fn values_are_shown_by_what_they_have() {
    check(
        r#"
struct D; impl std::fmt::Display for D { fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { write!(f, "display") } }
D
=> display
---
async fn later() -> i32 { 5 }
later()
=> a future, which does nothing until it is awaited
hint: add `.await`
---
later().await
=> 5
---
:type vec![1].iter()
=> Iter<'_, i32>
---
:type { let v = vec![1]; v.len() }
=> usize
---
struct E; impl E { fn evcxr_display(&self) { println!("EVCXR_BEGIN_CONTENT text/plain\nby itself\nEVCXR_END_CONTENT"); } }
---
let e = E;
---
e
---
1
=> 1
"#,
    );
}

#[test]
fn tasks_are_spawned_without_a_literal_await() {
    check(
        r#"
let task = tokio::spawn(async { 3 });
---
task.await?
=> 3
---
let (a, b) = tokio::join!(async { 1 }, async { 2 }); a + b
=> 3
---
tokio::select! { x = async { 7 } => x }
=> 7
"#,
    );
}

#[test]
fn what_evcxr_prints_between_its_markers_is_shown() {
    let mut lab = Lab::new();
    let ran = lab.run("println!(\"x\\nEVCXR_BEGIN_CONTENT text/html\\n<b>hi</b>\\nEVCXR_END_CONTENT\\ny\");");
    assert_eq!(ran.printed, "x\ny\n");
    let html = ran.outputs.iter().find_map(|output| match output {
        skep_session::Output::Display { bundle, .. } => bundle.get("text/html").map(str::to_string),
        _ => None,
    });
    assert_eq!(html.as_deref(), Some("<b>hi</b>"));
    for command in [
        ":t",
        ":types",
        ":fmt {:?}",
        ":doc x",
        ":version",
        ":show_deps",
        ":timing",
        ":env",
        ":toolchain nightly",
        ":sccache 1",
        ":cache 100",
        ":offline 1",
    ] {
        let ran = lab.run(&format!("{command}\n1"));
        assert!(
            ran.result.is_ok() && ran.notes.len() == 1 && ran.shown.as_deref() == Some("1"),
            "{command}: {ran:?}"
        );
    }
}

/// Stable Rust has no way to write `Result<!, …>`, which this is.
#[test]
fn a_value_whose_type_nobody_can_write_is_kept_and_spoils_nothing() {
    let mut lab = Lab::new();
    lab.ok("let a = vec![1, 2];");
    lab.ok("let r = std::panic::catch_unwind(|| panic!(\"x\"));");
    assert_eq!(lab.ok("r.is_err()"), "true");
    let shown = lab.ok(":vars");
    assert!(
        shown.contains("[1, 2]") && !shown.contains("did not compile"),
        "{shown}"
    );
}
