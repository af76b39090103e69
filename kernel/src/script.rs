//! `skep run`: the cells of a script or a notebook, one after the other, in a session without a person.

use std::{io::Write, path::Path, sync::Arc};

use anyhow::Context;
use skep_session::{Face, Home, Output, Session, script};

/// Prints what cells show as text.
struct Plain;

impl Face for Plain {
    fn output(&self, _: u32, output: Output) {
        match output {
            Output::Text { is_stderr: true, text } => eprint!("{text}"),
            Output::Text { text, .. } => print!("{text}"),
            // What only moves while people watch does not belong into a log.
            Output::Display { id: Some(id), .. } | Output::UpdateDisplay { id, .. } if id.starts_with("skep-progress") => {}
            Output::Result(bundle) | Output::Display { bundle, .. } | Output::UpdateDisplay { bundle, .. } => println!("{}", bundle.plain()),
            Output::ClearOutput { .. } => {}
        }
        let _ = std::io::stdout().flush();
    }

    fn ask(&self, _: u32, prompt: &str, _: bool) -> Option<String> {
        eprint!("{prompt}");
        let mut line = String::new();
        let n = std::io::stdin().read_line(&mut line).ok()?;
        (n > 0).then(|| line.trim_end_matches(['\n', '\r']).to_string())
    }
}

/// Runs every cell up to the first error, which is the exit code.
pub fn run(file: &Path) -> anyhow::Result<u8> {
    let cells = if file == Path::new("-") {
        script::split(&std::io::read_to_string(std::io::stdin()).context("reading standard input")?, None)
    } else {
        script::read(file)?
    };
    let mut cells = cells;
    cells.extend(call_of_main(&cells));
    let mut session = Session::start(Home::locate()?, Arc::new(Plain))?;
    for cell in cells {
        let reply = session.execute_script(&cell);
        if let Some(page) = reply.page {
            println!("{}", page.plain());
        }
        if let Err(error) = reply.result {
            eprintln!("{}", error.plain);
            return Ok(1);
        }
    }
    Ok(0)
}

/// A program with a `main` that nothing calls is meant to be run by it.
fn call_of_main(cells: &[script::Cell]) -> Option<script::Cell> {
    let text: String = cells.iter().map(|cell| cell.text.as_str()).collect();
    let head = text.split("fn main()").nth(1)?;
    let is_called = text.matches("main()").count() > 1;
    let returns = head.split('{').next().is_some_and(|head| head.contains("->"));
    (!is_called).then(|| script::Cell { title: Some("the call of main".to_string()), text: if returns { "main()?;" } else { "main();" }.to_string() })
}

#[test]
fn a_program_is_run_by_its_main() {
    let call = |text: &str| call_of_main(&script::split(text, None)).map(|cell| cell.text);
    assert_eq!(call("fn main() { }").as_deref(), Some("main();"));
    assert_eq!(call("fn main() -> Result<(), String> { Ok(()) }").as_deref(), Some("main()?;"));
    assert_eq!(call("fn main() { }\n// %%\nmain()"), None);
    assert_eq!(call("1 + 1"), None);
}
