//! What is said, in its words and at its place.

use crate::lab::{Lab, check};

#[test]
fn errors_are_about_what_was_typed() {
    check(
        r#"
let x =
!> expected expression, found the end of the cell
---
foo(1
!> `(` is never closed
---
let c: Cluster = ;
!> expected expression, found `;`
---
let k = 5;
fn uses_k() -> i32 { k + 1 }
!> functions do not see variables of cells
---
"5".parse()?
!> type annotations needed
---
nowhere_at_all()
!> cannot find function `nowhere_at_all`
"#,
    );
}

/// What a newcomer tried, and what was said about something else.
#[test]
fn errors_of_strangers_are_about_what_they_typed() {
    check(
        r#"
let n = 1; let word = "w";
---
word.len() + n
!> expected `usize`, found `i32`
---
let t: usize = n;
!> expected `usize`, found `i32`
---
if n { 1 } else { 2 }
!> expected `bool`, found `i32`
---
let big: u8 = 256;
!> literal out of range for `u8`
---
let count = 1; let none: Option<i32> = None; none.unwrap();
!> called `Option::unwrap()` on a `None` value
---
count
!> `count` is defined in cell 6, which failed before its end
---
struct Lost { a: i32 } let l = Lost { a: "x" };
!> expected `i32`, found `&str`
---
Lost { a: 1 }.a
!> `Lost` is defined in cell 8, which did not compile
---
vec![1].get(10)?
!> `?` takes a `Result` here, and this is an `Option`
---
return 5;
!> a cell has no value to return
---
break
!> outside of a loop
---
for i in 0..3 { println!("{i}")
!> `{` is never closed
---
let err: Box<dyn std::error::Error> = "boom".into(); Err(err)?
!> boom
---
let cluster = Cluster::local().workers(1).start()?; fn inc(x: i64) -> i64 { x + 1 } fn boom(x: i64) -> i64 { panic!("no") } fn len(x: &str) -> usize { x.len() }
---
cluster.submit(inc, (1, 2))
!> this task takes `i64`, and is given `({integer}, {integer})`
---
cluster.submit(inc, 3i32)
!> this task takes `i64`, and is given `i32`
---
cluster.submit(len, "abc")
!> it is not clear what this task takes
---
let k = 3; cluster.map(|x: i64| x * k, 0..5)
!> captures `k`
---
let times = move |x: i64| x * i64::from(n); cluster.map(times, 0..5)
!> must not capture anything, nor be a `fn` pointer
---
let name = String::from("a"); cluster.map(move |x: i64| format!("{name}{x}"), 0..3)
!> this closure captures what cannot be copied
---
cluster.map(inc, 0..3)?
!> many handles are gathered by their cluster
---
cluster.submit(boom, 9).gather()
=> Err(task `boom` panicked at cell 15, line 1 on worker-1: no)
---
fn main() -> Result<(), String> { Err("q")?; Ok(()) }
!> failed in cell 24
---
:hlep
!> did you mean `:help`?
"#,
    );
}

#[test]
fn a_syntax_error_brings_no_others() {
    let said = Lab::new().fails("let c: Cluster = ; let d: Frame = Frame::nothing(");
    assert_eq!(said.matches("error").count(), 1, "{said}");
}

#[test]
fn generated_files_are_never_named() {
    let mut lab = Lab::new();
    let printed = lab.run("let x = 1;\ndbg!(x + 1);").printed;
    assert_eq!(printed, "[cell 1, line 2] x + 1 = 2\n");
    lab.ok("fn fails(n: i64) -> i64 {\n    panic!(\"no {n}\")\n}\nlet cluster = Cluster::local().workers(1).start()?;");
    let ran = lab.run("println!(\"{}\", cluster.submit(fails, 1).gather().unwrap_err());");
    assert!(
        ran.printed
            .contains("panicked at cell 2, line 2 on worker-1: no 1"),
        "{}",
        ran.printed
    );
}

#[test]
fn notes_are_outputs_of_one_line_and_only_for_what_a_cell_did_not_define() {
    let mut lab = Lab::new();
    lab.ok("fn f() -> i32 { 1 } let a = f();");
    lab.ok("let b = f() + a;");
    let ran = lab.run("fn f() -> i32 { 2 }");
    assert_eq!(
        ran.notes,
        ["note: `f` changed: cell 2 used the old one; run it again to bring the results up to date"]
    );
    assert_eq!(ran.printed, "", "nothing goes to standard error");
    assert!(lab.run("fn f() -> i32 { 3 }").notes.is_empty(), "it is said once");
    lab.ok("let cluster = Cluster::local().workers(1).start()?;");
    lab.ok("let n = cluster.submit(f, ()).gather()?;");
    let ran = lab.run("let cluster = Cluster::local().workers(2).start()?;");
    assert!(
        matches!(ran.notes.as_slice(), [note] if note.starts_with("note: this replaces the cluster of 1 worker")),
        "a cluster that was started again makes no result old: {:?}",
        ran.notes
    );
    assert!(
        lab.run("let cluster = Cluster::local().workers(2).start()?;")
            .notes
            .is_empty(),
        "it is the same one"
    );
}

#[test]
fn without_a_cluster_that_is_what_is_said() {
    let mut lab = Lab::new();
    let said = lab.fails("fn f() -> i32 { 1 } delayed!(f()).compute()?");
    assert!(
        said.contains("there is no cluster yet") && !said.contains("could not be started"),
        "{said}"
    );
}

#[test]
fn a_missing_name_says_where_to_import_it_from() {
    check(
        r#"
concat([df!("a" => [1])?.lazy()], UnionArgs::default())?.collect()?.height()
=> 1
---
SQLContext::new()
!> import it: `use skep::polars::sql::SQLContext;`
---
HashMap::<i32, i32>::new()
!> use std::collections::HashMap;
---
NoSuchThing::new()
!> cannot find type `NoSuchThing`
---
use std::f64::consts::PI;
---
let PI = 3.0;
---
PI
=> 3.0
---
let v = vec![1, 2, 3];
---
std::thread::spawn(|| v.len()).join().unwrap()
!> give it the value: `move ||`
---
1i64 + 1i32
!> no implementation for `i64 + i32`
---
macro_rules! mk { ($n:ident) => { let $n = 5; } }
mk!(made);
made
=> 5
---
made
!> variables that a macro makes are not kept
"#,
    );
    let said = Lab::new().fails("1i64 + 1i32");
    assert!(!said.contains("zerocopy") && !said.contains("Delayed"), "{said}");
}

#[test]
fn ends_of_threads_and_of_the_process_say_why() {
    let mut lab = Lab::new();
    let printed = lab
        .run("std::thread::spawn(|| { panic!(\"in a thread\") }).join().is_err()")
        .printed;
    assert_eq!(
        printed,
        "a thread without a name panicked at cell 1, line 1: in a thread\n"
    );
    let said = lab.fails("let p: *const i32 = std::ptr::null(); unsafe { *p }");
    assert!(
        said.contains("aborted (SIGABRT): null pointer dereference occurred, at cell 2, line 1"),
        "{said}"
    );
    assert_eq!(
        lab.run("#[test]\nfn works() {}").notes,
        ["note: `works` is a `#[test]`, which only a test build has: without the attribute it can be called"]
    );
}

/// A variable of a type in the table is taken by that name; were the name wrong, no cell could use the variable.
#[test]
fn types_are_where_the_table_says() {
    let mut lab = Lab::new();
    let parameters = |named: &str| match named.rsplit("::").next().unwrap_or_default() {
        "ChunkedArray" => "<::skep::polars::prelude::BooleanType>",
        "Control" | "Remote" | "Delayed" | "Reply" | "Queue" | "Variable" | "Topic" | "Subscriber" => "<i64>",
        "OnceCell" | "Receiver" | "Sender" | "OnceLock" | "RwLock" | "JoinHandle" => "<()>",
        _ => "",
    };
    let types = skep_session::named_types();
    let lines = types.iter().map(|(_, named)| {
        format!(
            "println!(\"{{}}\", std::any::type_name::<{named}{}>());",
            parameters(named)
        )
    });
    let printed = lab.run(&lines.collect::<Vec<_>>().join("\n")).printed;
    let found: Vec<&str> = printed
        .lines()
        .map(|line| line.split('<').next().unwrap_or(line))
        .collect();
    assert_eq!(
        found,
        types.iter().map(|(defined, _)| *defined).collect::<Vec<_>>()
    );
}
