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
