//! Items of all forms, under all kinds of names, replaced by one another: after each cell that is accepted
//! the cell `1` runs, and so does a use of what was defined.

use crate::lab::Lab;

/// An item called `NAME`, and an expression that uses it, with what that shows.
struct Form {
    what: &'static str,
    item: &'static str,
    uses: &'static str,
    shows: &'static str,
}

const fn form(what: &'static str, item: &'static str, uses: &'static str, shows: &'static str) -> Form {
    Form {
        what,
        item,
        uses,
        shows,
    }
}

/// Where a use needs more than the name, `NAME` stands for it.
const FORMS: &[Form] = &[
    form("fn", "fn NAME() -> i32 { 1 }", "NAME()", "1"),
    form(
        "pub generic fn",
        "pub fn NAME<T: ::core::clone::Clone>(x: &T) -> T where T: ::core::fmt::Debug { x.clone() }",
        "NAME(&2)",
        "2",
    ),
    form(
        "fn with a lifetime",
        "#[inline] fn NAME<'a>(x: &'a str, _: &str) -> &'a str { x }",
        "NAME(\"a\", \"b\")",
        "\"a\"",
    ),
    form(
        "const fn",
        "pub(crate) const fn NAME<const N: usize>() -> usize { N }",
        "NAME::<3>()",
        "3",
    ),
    form(
        "extern fn",
        "extern \"C\" fn NAME(x: i32) -> i32 { x + 1 }",
        "NAME(1)",
        "2",
    ),
    form(
        "unsafe fn",
        "unsafe fn NAME() -> i32 { 4 }",
        "unsafe { NAME() }",
        "4",
    ),
    form("async fn", "async fn NAME() -> i32 { 5 }", "NAME().await", "5"),
    form(
        "const",
        "#[allow(dead_code)] const NAME: &str = \"c\";",
        "NAME",
        "\"c\"",
    ),
    form("static", "static NAME: [&str; 1] = [\"s\"];", "NAME[0]", "\"s\""),
    form("static mut", "static mut NAME: i32 = 6;", "unsafe { NAME }", "6"),
    form(
        "unit struct",
        "#[derive(Debug, Clone, Copy, PartialEq)] struct NAME;",
        "format!(\"{:?}\", NAME) == stringify!(NAME)",
        "true",
    ),
    form("tuple struct", "pub struct NAME(pub i32);", "NAME(7).0", "7"),
    form(
        "struct with a lifetime",
        "struct NAME<'a, T: 'a> { x: &'a T }",
        "*NAME { x: &8 }.x",
        "8",
    ),
    form(
        "enum",
        "#[derive(Debug)] enum NAME { A, B { x: i32 } }",
        "format!(\"{:?} {:?}\", NAME::A, NAME::B { x: 1 })",
        "\"A B { x: 1 }\"",
    ),
    form(
        "union",
        "union NAME { a: u32, b: f32 }",
        "unsafe { NAME { a: 9 }.a }",
        "9",
    ),
    form(
        "trait",
        "trait NAME { fn seen_by_NAME(&self) -> i32 { 10 } } impl NAME for u8 {}",
        "1u8.seen_by_NAME()",
        "10",
    ),
    form(
        "type",
        "type NAME<T> = (T, T);",
        "{ let x: NAME<i32> = (1, 2); x.1 }",
        "2",
    ),
    form(
        "module",
        "mod NAME { pub(crate) mod deep { pub fn f() -> i32 { super::g() } } fn g() -> i32 { 11 } }",
        "NAME::deep::f()",
        "11",
    ),
    form(
        "use",
        "use ::std::primitive::i32 as NAME;",
        "{ let x: NAME = 12; x }",
        "12",
    ),
    form(
        "use of a module",
        "use ::std::f64::{self as NAME};",
        "NAME::consts::PI > 3.0",
        "true",
    ),
    form(
        "use of a function",
        "use ::std::mem::size_of as NAME;",
        "NAME::<u8>()",
        "1",
    ),
    form(
        "macro",
        "macro_rules! NAME { ($x:expr) => { $x + 1 }; }",
        "NAME!(12)",
        "13",
    ),
    form("variable", "let NAME = 14;", "NAME", "14"),
    form(
        "mutable variable",
        "let mut NAME = ::std::vec![1]; NAME.push(15);",
        "NAME[1]",
        "15",
    ),
    form(
        "item of a macro",
        "macro_rules! made_by { ($n:ident) => { struct $n { x: i32 } } } made_by!(NAME);",
        "NAME { x: 16 }.x",
        "16",
    ),
    form(
        "thread local",
        "thread_local! { static NAME: ::std::cell::Cell<i32> = ::std::cell::Cell::new(17); }",
        "NAME.get()",
        "17",
    ),
];

/// Runs a form under a name, then the cell `1`, then its use.
#[track_caller]
fn define_and_use(lab: &mut Lab, form: &Form, name: &str, before: &str) {
    let item = form.item.replace("NAME", name);
    if let Err(error) = lab.run(&item).result {
        panic!("{before}\n{item}\nwas refused: {}", error.plain);
    }
    assert_eq!(lab.ok("1"), "1", "{before}\n{item}");
    let uses = form.uses.replace("NAME", name);
    match lab.run(&uses) {
        ran if ran.result.is_ok() => {
            assert_eq!(ran.shown.as_deref(), Some(form.shows), "{before}\n{item}\n{uses}")
        }
        ran => panic!(
            "{before}\n{item}\n{uses}\nwas refused: {}",
            ran.result.unwrap_err().plain
        ),
    }
}

/// Each form once, in one notebook, and each still there at its end.
#[test]
fn every_form_is_there_for_good() {
    let mut lab = Lab::new();
    for (n, form) in FORMS.iter().enumerate() {
        define_and_use(&mut lab, form, &format!("thing_{n}"), "");
    }
    for (n, form) in FORMS.iter().enumerate() {
        assert_eq!(
            lab.ok(&form.uses.replace("NAME", &format!("thing_{n}"))),
            form.shows,
            "{}",
            form.what
        );
    }
}

/// Each form replaced by each other one under the same name: every third pair, or all with `SKEP_FORMS=all`,
/// which takes minutes. Several tests share the work.
fn pairs(part: usize, n_parts: usize) {
    let step = if std::env::var("SKEP_FORMS").is_ok_and(|which| which == "all") {
        1
    } else {
        3
    };
    let mut lab = Lab::new();
    let all = FORMS
        .iter()
        .flat_map(|first| FORMS.iter().map(move |second| (first, second)));
    for (turn, (n, (first, second))) in all
        .enumerate()
        .step_by(step)
        .enumerate()
        .filter(|(turn, _)| turn % n_parts == part)
    {
        if turn % 64 < n_parts {
            lab.ok(":restart");
        }
        let name = format!("pair_{n}");
        lab.ok(&first.item.replace("NAME", &name));
        define_and_use(
            &mut lab,
            second,
            &name,
            &format!("{}, then {}: {}", first.what, second.what, first.item),
        );
    }
}

#[test]
fn forms_replace_each_other_1() {
    pairs(0, 4);
}

#[test]
fn forms_replace_each_other_2() {
    pairs(1, 4);
}

#[test]
fn forms_replace_each_other_3() {
    pairs(2, 4);
}

#[test]
fn forms_replace_each_other_4() {
    pairs(3, 4);
}

/// Names that generated code, the standard library or Skep's prelude use. Each in a notebook of its own.
#[test]
fn forms_may_have_any_name() {
    const NAMES: [&str; 24] = [
        "Option", "Ok", "Some", "Result", "Vec", "String", "Box", "std", "core", "skep", "polars", "Cluster",
        "Frame", "col", "take", "run", "put", "cell", "drop", "println", "format", "vec", "df", "delayed",
    ];
    let mut lab = Lab::new();
    for (n, name) in NAMES.iter().enumerate() {
        lab.ok(":restart");
        // Another form for each name, so that all forms and names come up.
        let (form, macro_form) = (
            &FORMS[n % 8],
            FORMS.iter().find(|form| form.what == "macro").unwrap(),
        );
        define_and_use(&mut lab, form, name, "");
        let types = FORMS
            .iter()
            .find(|form| form.what == ["tuple struct", "module", "enum"][n % 3])
            .unwrap();
        define_and_use(&mut lab, types, name, form.item);
        if n % 2 == 0 {
            define_and_use(&mut lab, macro_form, name, types.item);
        }
    }
}
