//! `!command`: a line for the shell.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use skep_cell::CellError;
use skep_render::Message;

use super::failed;
use crate::{
    errors::interrupted,
    frontend::{Frontend, Output},
    output::notes,
    state::Session,
};

/// What is typed on a line that begins with `!`, if it is for the shell. `!x` is also Rust: it is, where `x`
/// is known here.
pub(super) fn shell_line<'l>(line: &'l str, is_known: &dyn Fn(&str) -> bool) -> Option<&'l str> {
    let command = line.strip_prefix('!')?;
    let word: String = command
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let is_rust = match command.chars().next()? {
        c if c.is_alphabetic() || c == '_' => {
            let rest = &command[word.len()..];
            ["true", "false", "matches", "self", "std", "skep", "if", "match"].contains(&word.as_str())
                || is_known(&word)
                || rest.starts_with("::")
                || rest.starts_with('(')
        }
        c => !matches!(c, '.' | '/' | '~' | '$'),
    };
    (!is_rust && !command.trim().is_empty()).then_some(command)
}

/// Runs it, with its output as the cell's. At a terminal it has the terminal itself. An interrupt ends it.
pub(crate) fn run(session: &Session, cell: u32, line: &str) -> Result<(), CellError> {
    session.begin_compiling();
    let mut command = Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "sh".into()));
    command.arg("-c").arg(line);
    // What Skep has, for whom has nothing else: `!skep flow runs`, `!cargo run`.
    let home = &session.home;
    let own = [Some(home.executable()), Some(home.toolchain().rustc.clone())];
    let own = own
        .iter()
        .flatten()
        .filter_map(|program| program.parent().map(Path::to_path_buf));
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Ok(path) = std::env::join_paths(std::env::split_paths(&path).chain(own)) {
        command.env("PATH", path);
    }
    if !session.has_terminal {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
    }
    let mut child = command.spawn().map_err(|error| {
        failed(
            Message::new(format!("the shell could not be started: {error}"))
                .hint("set $SHELL to one that is there"),
        )
    })?;
    let mut readers = Vec::new();
    let streams: [(bool, Option<Box<dyn Read + Send>>); 2] = [
        (
            false,
            child
                .stdout
                .take()
                .map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ),
        (
            true,
            child
                .stderr
                .take()
                .map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ),
    ];
    for (is_stderr, stream) in streams {
        let Some(mut stream) = stream else { continue };
        let frontend = Arc::clone(&session.frontend);
        readers.push(thread::spawn(move || {
            let mut buffer = [0; 8192];
            let mut rest = Vec::new();
            while let Ok(n) = stream.read(&mut buffer) {
                rest.extend_from_slice(&buffer[..n]);
                // A character may have come in part.
                let is_partial =
                    |error: std::str::Utf8Error| error.error_len().is_none().then(|| error.valid_up_to());
                let whole = std::str::from_utf8(&rest)
                    .err()
                    .filter(|_| n > 0)
                    .and_then(is_partial)
                    .unwrap_or(rest.len());
                let text = String::from_utf8_lossy(&rest[..whole]).into_owned();
                rest.drain(..whole);
                if !text.is_empty() {
                    frontend.output(cell, Output::Text { is_stderr, text });
                }
                if n == 0 {
                    break;
                }
            }
        }));
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if session.compiler.is_cancelled() => {
                // SAFETY: the child is not reaped yet, so its pid, and the group it leads, are its own.
                unsafe {
                    libc::kill(
                        if session.has_terminal {
                            child.id() as i32
                        } else {
                            -(child.id() as i32)
                        },
                        libc::SIGKILL,
                    )
                };
                let _ = child.wait();
                return Err(interrupted("the command was ended"));
            }
            Ok(None) => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(failed(format!("the command could not be waited for: {error}"))),
        }
    };
    // A process that it left behind may hold the pipe open; nobody waits for that one.
    let waits = std::time::Instant::now();
    while readers.iter().any(|reader| !reader.is_finished()) && waits.elapsed() < Duration::from_millis(200) {
        thread::sleep(Duration::from_millis(2));
    }
    if !status.success() {
        session.frontend.output(
            cell,
            notes::note(&format!("`{}` ended with {status}", line.trim())),
        );
    }
    Ok(())
}

#[test]
fn a_line_is_for_the_shell_unless_it_is_rust() {
    let is_known = |name: &str| name == "flag";
    for (line, expect) in [
        ("!ls -la", Some("ls -la")),
        ("!./run.sh", Some("./run.sh")),
        ("!flag", None),
        ("!flag.is_empty()", None),
        ("!true", None),
        ("!matches!(1, 2)", None),
        ("!f(x)", None),
        ("!std::path::Path::new(\"a\").exists()", None),
        ("!(1 == 2)", None),
        ("!", None),
        ("ls", None),
    ] {
        assert_eq!(shell_line(line, &is_known), expect, "{line}");
    }
}
