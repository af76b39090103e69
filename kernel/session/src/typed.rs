//! Text that came all at once, taken apart as if it had been typed.

use crate::script::{Cell, split};

/// Text as it is typed, line by line: a cell ends where it is whole and the next line does not go on with it.
/// Lines that begin with `// %%` separate cells where there are any.
pub fn split_typed(text: &str) -> Vec<Cell> {
    if text.lines().any(|line| line.trim_start().starts_with("// %%")) {
        return split(text, None);
    }
    let goes_on = |line: &str| {
        line.starts_with([' ', '\t', '.', ')', ']', '}'])
            || line.starts_with("else")
            || line.starts_with("where")
    };
    let mut cells = vec![String::new()];
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let cell = cells.last_mut().expect("invariant: there is always a cell");
        cell.push_str(line);
        cell.push('\n');
        let is_whole = crate::complete::completeness(cell) == skep_cell::Completeness::Complete;
        if is_whole && !lines.peek().is_some_and(|next| goes_on(next)) {
            cells.push(String::new());
        }
    }
    cells.retain(|cell| !cell.trim().is_empty());
    cells
        .into_iter()
        .map(|text| Cell {
            title: None,
            text,
            index: None,
            may_fail: false,
        })
        .collect()
}

#[test]
fn typed_text_is_split_where_a_cell_is_whole() {
    let texts = |cells: &[Cell]| cells.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>();
    assert_eq!(
        texts(&split_typed("let x = 1;\nx + 1\n")),
        ["let x = 1;\n", "x + 1\n"]
    );
    assert_eq!(
        texts(&split_typed("fn f() {\n    1;\n}\nf()\n")),
        ["fn f() {\n    1;\n}\n", "f()\n"]
    );
    assert_eq!(
        texts(&split_typed("v.iter()\n    .sum()\n:vars\n")),
        ["v.iter()\n    .sum()\n", ":vars\n"]
    );
    assert_eq!(texts(&split_typed("a\nb\n// %%\nc\n")), ["a\nb\n", "\n\n\nc\n"]);
}
