//! Texts that are longer than the screen, shown by the person's own pager.

use std::{
    io::{IsTerminal, Write},
    process::{Command, Stdio},
};

/// Shows a text: as it is where the screen has room for it, else in `$PAGER`, or `less`.
pub(crate) fn show(text: &str) {
    let rows = crossterm::terminal::size().map_or(24, |(_, rows)| rows) as usize;
    let is_long = std::io::stdout().is_terminal() && text.lines().count() + 2 > rows;
    if !is_long || page(text).is_err() {
        println!("{text}");
    }
}

fn page(text: &str) -> std::io::Result<()> {
    let named = std::env::var("PAGER")
        .ok()
        .filter(|pager| !pager.trim().is_empty());
    let pager = named.unwrap_or_else(|| "less".to_string());
    let mut words = pager.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("less"));
    command.args(words).stdin(Stdio::piped());
    // Colours stay, and what was read stays on the screen.
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "-R -X");
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever leaves the pager early has seen enough.
        let _ = stdin.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    // A shell that has no such program.
    if status.code() == Some(127) {
        Err(std::io::Error::other("there is no such pager"))
    } else {
        Ok(())
    }
}
