//! `skep run`: a script's cells, one after the other, in a session without a person.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use skep_session::{Face, Home, Output, Session};

/// Prints what cells show as text.
struct Plain;

impl Face for Plain {
    fn output(&self, _: u32, output: Output) {
        match output {
            Output::Text { is_stderr: true, text } => eprint!("{text}"),
            Output::Text { text, .. } => print!("{text}"),
            Output::Result(bundle) | Output::Display { bundle, .. } | Output::UpdateDisplay { bundle, .. } => println!("{}", bundle.plain()),
            Output::ClearOutput { .. } => {}
        }
        let _ = std::io::stdout().flush();
    }

    fn ask(&self, _: u32, _: &str, _: bool) -> Option<String> {
        None
    }
}

pub fn run(file: &Path) -> anyhow::Result<u8> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    }
    let mut session = Session::start(Home::locate()?, Arc::new(Plain))?;
    for cell in split_cells(&text) {
        if let Err(error) = session.execute(&cell).result {
            eprintln!("{}", error.plain);
            return Ok(1);
        }
    }
    Ok(0)
}

/// Cells are separated by lines that begin with `// %%`.
fn split_cells(text: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    for line in text.lines() {
        if line.trim_start().starts_with("// %%") {
            cells.push(String::new());
            continue;
        }
        let cell = cells.last_mut().expect("invariant: there is always a cell");
        cell.push_str(line);
        cell.push('\n');
    }
    cells.retain(|cell| !cell.trim().is_empty());
    cells
}

#[test]
fn cells_are_split_at_markers() {
    assert_eq!(split_cells("a\n// %% two\n\nb\n//%c\n"), ["a\n", "\nb\n//%c\n"]);
    assert!(split_cells("\n// %%\n").is_empty());
}
