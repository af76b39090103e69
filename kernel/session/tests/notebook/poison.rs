//! No cell can make a later one fail: what was accepted once is accepted for good, and what breaks breaks
//! only what uses it.

use crate::lab::{Lab, check};

#[test]
fn statics_of_every_shape_are_the_same_in_every_cell() {
    check(
        r#"
static NAME: &str = "x";
---
1
=> 1
---
NAME
=> "x"
---
use std::{collections::HashMap, sync::{LazyLock, Mutex, OnceLock, atomic::{AtomicU32, Ordering}}};
static PAIR: [&str; 2] = ["a", "b"]; static MAYBE: Option<&str> = Some("q"); static LIST: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static MAP: LazyLock<HashMap<&str, i32>> = LazyLock::new(|| HashMap::from([("k", 1)])); static mut WORD: &str = "before";
static ONCE: OnceLock<String> = OnceLock::new(); static N: AtomicU32 = AtomicU32::new(PAIR.len() as u32);
---
LIST.lock().unwrap().push("z"); unsafe { WORD = "after" }; ONCE.set("once".to_string()).unwrap(); N.fetch_add(1, Ordering::SeqCst);
---
format!("{:?} {:?} {:?} {:?} {} {:?} {}", PAIR, MAYBE, LIST.lock().unwrap(), MAP.get("k"), unsafe { WORD }, ONCE.get(), N.load(Ordering::SeqCst))
=> "[\"a\", \"b\"] Some(\"q\") [\"z\"] Some(1) after Some(\"once\") 3"
---
const AT: &AtomicU32 = &N;
---
AT.fetch_add(1, Ordering::SeqCst); N.load(Ordering::SeqCst)
=> 4
---
:opt 3
---
N.fetch_add(1, Ordering::SeqCst); (N.load(Ordering::SeqCst), PAIR[1])
=> (5, "b")
"#,
    );
}

/// Rust has one static for all the types that a generic function is used with.
#[test]
fn statics_in_generic_functions_are_one_for_all_types_and_cells() {
    check(
        r#"
use std::{cell::Cell, sync::atomic::{AtomicU32, Ordering}};
fn count<T>() -> u32 { static N: AtomicU32 = AtomicU32::new(0); N.fetch_add(1, Ordering::SeqCst) }
struct S<T>(T);
impl<T> S<T> { fn id() -> u32 { static ID: AtomicU32 = AtomicU32::new(100); ID.fetch_add(1, Ordering::SeqCst) } }
fn counted<T>() -> usize { thread_local! { static C: Cell<usize> = Cell::new(0); } C.with(|c| { c.set(c.get() + 1); c.get() }) }
---
(count::<u8>(), S::<i8>::id(), counted::<u8>())
=> (0, 100, 1)
---
(count::<String>(), S::<u64>::id(), counted::<u16>())
=> (1, 101, 2)
---
struct Own;
(count::<Own>(), S::<Own>::id(), counted::<Own>(), count::<u8>())
=> (2, 102, 3, 3)
"#,
    );
}

#[test]
fn statics_inside_functions_and_modules_and_thread_locals_keep_their_state() {
    check(
        r#"
use std::{cell::{Cell, RefCell}, sync::{Mutex, atomic::{AtomicU32, Ordering}}};
fn counter() -> u32 { static C: AtomicU32 = AtomicU32::new(0); C.fetch_add(1, Ordering::SeqCst) }
mod inner { pub static M: std::sync::Mutex<i32> = std::sync::Mutex::new(0); pub mod deeper { pub static D: std::sync::atomic::AtomicI8 = std::sync::atomic::AtomicI8::new(1); } }
thread_local! { static T: Cell<i32> = const { Cell::new(1) }; pub static U: RefCell<Vec<i32>> = RefCell::new(vec![]); }
struct S; impl S { fn next() -> u32 { static C: AtomicU32 = AtomicU32::new(7); C.fetch_add(1, Ordering::SeqCst) } }
---
counter(); *inner::M.lock().unwrap() += 5; inner::deeper::D.fetch_add(1, Ordering::SeqCst); T.set(T.get() + 1); U.with_borrow_mut(|u| u.push(4)); S::next();
---
U.with_borrow_mut(|u| u.push(5)); T.set(T.get() + 1);
(counter(), *inner::M.lock().unwrap(), inner::deeper::D.load(Ordering::SeqCst), T.get(), U.take(), S::next())
=> (1, 5, 2, 3, [4, 5], 8)
---
:opt 3
---
T.set(T.get() + 1); (T.get(), counter())
=> (4, 2)
---
macro_rules! global { ($n:ident) => { static $n: i32 = 1; } }
!> makes a static
---
lazy_static! { static ref OLD: i32 = 1; }
!> LazyLock::new
"#,
    );
}

#[test]
fn imports_and_items_of_one_name_replace_each_other() {
    check(
        r#"
use std::io::{self as sio, Write as _};
---
sio::stdout().write_all(b"")?;
---
use std::cmp::max;
---
max(1, 2)
=> 2
---
fn max(a: i32, b: i32) -> i32 { a * 100 + b }
---
max(1, 2)
=> 102
---
use std::cmp::max;
---
max(1, 2)
=> 2
---
#[cfg(any())] use nowhere::at::all;
---
1
=> 1
---
use std::vec::{self};
---
vec![1].len() + vec::Vec::<i32>::new().len()
=> 1
---
use std::result::Result as Option;
---
let x: Option<i32, String> = Ok(3); x
=> Ok(3)
"#,
    );
}

#[test]
fn variables_and_items_of_one_name_replace_each_other() {
    check(
        r#"
let area = 3.0;
---
fn area(x: f64) -> f64 { x * 2.0 }
---
area(1.5)
=> 3.0
---
const K: i32 = 5;
fn k5() -> i32 { K + 1 }
---
let K = 100;
---
K + 1
=> 101
---
k5()
=> 6
---
k5() + K
!> a constant (cell 4) that this cell needs as well
---
let Z = 1;
---
const Z: i32 = 2;
---
Z
=> 2
---
struct Unit;
---
let Unit = 5;
---
Unit + 1
=> 6
"#,
    );
}

#[test]
fn names_of_the_standard_library_and_of_skep_can_be_defined() {
    check(
        r#"
macro_rules! println { ($($t:tt)*) => { std::print!("mine: {}\n", std::format!($($t)*)) } }
---
println!("hi");
---
macro_rules! include { () => { 7 } }
---
include!()
=> 7
---
macro_rules! df { ($x:expr) => { $x } }
---
df!(3)
=> 3
---
enum Status { Ok, Err }
use Status::*;
---
matches!(Ok, Status::Ok)
=> true
---
mod std { pub fn here() -> i32 { 1 } }
mod skep { pub fn there() -> i32 { 2 } }
mod core {}
---
std::here() + skep::there()
=> 3
---
fn main_() {} struct Option; struct Vec; struct Box; trait Drop {} fn drop() {} struct Cluster; struct Result; struct String;
---
[1, 2].len()
=> 2
"#,
    );
}

#[test]
fn an_item_fails_only_the_cells_that_reach_it() {
    let mut lab = Lab::new();
    lab.ok("struct P { a: i64, b: String }");
    lab.ok("fn text(p: &P) -> String { format!(\"{}{}\", p.a, p.b) }\nfn twice(p: &P) -> String { text(p).repeat(2) }");
    lab.ok("fn other() -> i32 { 4 }");
    let ran = lab.run("struct P { c: f64 }");
    assert!(ran.result.is_ok());
    assert_eq!(
        ran.notes,
        [
            "note: `text` (cell 2) and `twice` (cell 2) no longer compile with the new definitions and were set aside; run cell 2 again, adapted"
        ]
    );
    assert_eq!(lab.ok("other()"), "4");
    assert!(lab.run("P { c: 1.0 }.c").notes.is_empty(), "it is said once");
    let said = lab.fails("text(&P { c: 1.0 })");
    assert!(
        said.contains("`text` of cell 2 was set aside") && said.contains("run cell 2 again"),
        "{said}"
    );
    lab.ok("struct P { a: i64, b: String }");
    assert_eq!(
        lab.ok("twice(&P { a: 1, b: \"x\".into() })"),
        "\"1x1x\"",
        "it came back by itself"
    );
}

#[test]
fn the_newer_of_two_impls_wins() {
    check(
        r#"
use std::fmt;
struct Q; impl fmt::Debug for Q { fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { write!(f, "by hand") } }
---
Q
=> by hand
---
#[derive(Debug)] struct Q;
---
Q
=> Q
---
impl fmt::Display for Q { fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { write!(f, "one") } }
---
impl fmt::Display for Q { fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { write!(f, "two") } }
---
Q.to_string()
=> "two"
---
impl Q { fn n(&self) -> i32 { 1 } fn m(&self) -> i32 { 10 } }
---
impl Q { fn n(&self) -> i32 { 2 } }
---
Q.n()
=> 2
"#,
    );
}

#[test]
fn a_crash_leaves_statics_that_begin_anew() {
    let mut lab = Lab::new();
    lab.ok("use std::sync::atomic::{AtomicU32, Ordering}; static N: AtomicU32 = AtomicU32::new(1); fn next() -> u32 { N.fetch_add(1, Ordering::SeqCst) }");
    lab.ok("next(); let kept = 1;");
    let said = lab.fails("std::process::abort()");
    assert!(said.contains("these variables are lost: kept"), "{said}");
    assert_eq!(lab.ok("next()"), "1");
    let said = lab.fails("std::process::abort()");
    assert!(
        said.contains("there were no variables to lose") && !said.contains("hint"),
        "{said}"
    );
    assert_eq!(lab.ok("next()"), "1");
}

#[test]
fn a_variable_whose_making_no_longer_compiles_fails_alone() {
    let mut lab = Lab::new();
    lab.ok("struct Z { a: i32 } let it = std::iter::once(Z { a: 1 }); let other = 5;");
    lab.ok("trait Unrelated {}");
    lab.ok("struct Y { b: i32 } let odd = std::iter::repeat_n(Y { b: 1 }.b, 3);");
    lab.ok("struct Y { c: i32 }");
    assert_eq!(lab.ok("other"), "5");
    let said = lab.fails("odd.count()");
    assert!(
        said.contains("the type of `odd` is not known any more") && said.contains("run cell 3 again"),
        "{said}"
    );
    assert_eq!(lab.ok("it.map(|z| z.a).sum::<i32>()"), "1");
}
