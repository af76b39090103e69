//! `_` and `Out[n]` at a terminal, `:vars`, and lines for the shell.

use crate::lab::{Lab, check_in};

#[test]
fn values_of_cells_are_there_by_number() {
    let mut lab = Lab::at_terminal();
    check_in(
        &mut lab,
        r#"
1 + 1
=> 2
---
_ * 10
=> 20
---
Out[1] + _
=> 22
---
let v = vec![3, 1, 2];
---
v.iter().max()
=> Some(3)
---
_ + 1
=> 23
---
v.into_iter().sum::<i32>()
=> 6
---
println!("{} {:?}", _, Out[1]); let (_, b) = (1, 2); match b { _ => b }
=> 2
---
Out[5]
!> cell 5 has no value that was kept
---
String::from("kept").chars().rev().collect::<Vec<_>>()
=> ['t', 'p', 'e', 'k']
---
_.len()
=> 4
---
struct Bee(i32); Bee(7)
=> a value of type `Bee`, which has no text form
hint: `#[derive(Debug)]` gives a type of yours one
---
_.0
=> 7
---
std::thread::spawn(|| 5).join().unwrap()
=> 5
---
|x: i32| x + 1
=> a closure, `closure`: call it to see what it gives
---
_
=> 5
---
no_such()
!> cannot find function `no_such`
---
_ + 1
=> 6
"#,
    );
    assert!(
        lab.run(":vars").shown.is_some_and(|shown| !shown.contains("_1")),
        "they are no variables of the user's"
    );
    assert!(
        lab.run("(0..3).map(|n| n * 2)").notes.is_empty(),
        "nobody asked to keep it"
    );
    for n in 0..25 {
        lab.ok(&format!("{n} + 0"));
    }
    assert!(
        lab.fails("Out[1]").contains("for the last 20 cells"),
        "what is old goes"
    );
    assert_eq!(lab.ok("_"), "24");
}

#[test]
fn a_notebook_keeps_no_values_behind_ones_back() {
    let mut lab = Lab::new();
    assert_eq!(lab.ok("2 + 2"), "4");
    assert!(lab.fails("_ + 1").contains("`_`"));
}

#[test]
fn variables_say_shape_size_and_value() {
    let mut lab = Lab::new();
    assert_eq!(lab.ok(":vars"), "no variables yet");
    lab.ok("let xs = vec![1.5f64; 10_000]; let label = \"Skep\".to_string(); let nested = vec![vec![1u8; 1000]; 100];");
    lab.ok("struct Opaque(Box<i32>); let o = Opaque(Box::new(1)); let rc = std::rc::Rc::new(5); let n = 3;");
    lab.ok("let df = df!(\"Origin\" => [\"JFK\", \"LGA\"], \"delay\" => [1.0, 2.0])?;");
    let shown = lab.ok(":vars");
    let line = |name: &str| {
        shown
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {shown}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(
        line("xs ").starts_with("xs Vec<f64> 10,000 long 78.1 KiB [1.5, 1.5"),
        "{shown}"
    );
    assert!(
        line("label ").starts_with("label String 4 chars 28 B \"Skep\""),
        "{shown}"
    );
    assert!(
        line("nested ").starts_with("nested Vec<Vec<u8>> 100 long 100.0 KiB [[1, 1"),
        "{shown}"
    );
    assert!(line("o ").starts_with("o Opaque ≥ 8 B"), "{shown}");
    assert!(line("n ").starts_with("n i32 4 B 3"), "{shown}");
    assert!(
        line("df ").starts_with("df DataFrame (2, 2)") && line("df ").contains("Origin: str"),
        "{shown}"
    );
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert_eq!(lab.ok("(xs.len(), *rc)"), "(10000, 5)", "nothing was moved");
    assert!(
        lab.run("fn late() {} :vars").result.is_err(),
        "a command stands at the top"
    );
}

#[test]
fn a_line_for_the_shell() {
    let mut lab = Lab::new();
    let ran = lab.run("!echo out; echo err >&2; exit 3");
    assert!(
        ran.result.is_ok() && ran.printed.contains("out\n") && ran.printed.contains("err\n"),
        "{ran:?}"
    );
    assert_eq!(
        ran.notes,
        ["note: `echo out; echo err >&2; exit 3` ended with exit status: 3"]
    );
    lab.ok("let yes = true;");
    assert_eq!(lab.ok("!yes"), "false", "what is known here is Rust");
    let ran = lab.run("!echo one\n!echo two\n1 + 1");
    assert_eq!(
        (ran.printed.as_str(), ran.shown.as_deref()),
        ("one\ntwo\n", Some("2"))
    );
}
