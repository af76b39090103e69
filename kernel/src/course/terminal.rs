//! A lesson, step by step, in the terminal.

use std::{fs, io::Write, path::Path, process::Command, sync::Arc};

use anyhow::ensure;
use skep_course::{Lesson, Part};
use skep_repl::hear_interrupts;
use skep_session::{Bundle, Home, Message, Session, script};

use crate::script::Plain;

/// A lesson in the terminal.
pub fn step_through(lesson: &Lesson) -> anyhow::Result<u8> {
    let mut session = Session::start(Home::locate()?, Arc::new(Plain::default()))?;
    // Ctrl-C ends a cell, never the lesson.
    hear_interrupts(Some(session.handle()));
    println!(
        "Lesson {}: {} ({} minutes)\nEnter runs a cell, s skips it, q ends; or type code of your own, and an empty line to run it.\n",
        lesson.number, lesson.title, lesson.minutes
    );
    for part in &lesson.parts {
        let goes_on = match part {
            Part::Prose(text) => {
                println!("{}\n", Bundle::markdown(flowing(text)).plain());
                continue;
            }
            Part::Cell { code, .. } => {
                println!("{}", indented(code));
                step(&mut session, code, true)?
            }
            Part::Exercise(exercise) => {
                println!("{}", indented(&exercise.starter));
                println!(
                    "Write your cell, and an empty line to run it; e edits this one. Enter alone goes on; `:hint {}` helps.",
                    exercise.id
                );
                step(&mut session, &exercise.starter, false)?
            }
        };
        if !goes_on {
            return Ok(0);
        }
        println!();
    }
    println!(
        "The end of lesson {}. `skep course list` shows what is next.",
        lesson.number
    );
    Ok(0)
}

/// Runs what is typed below a cell until the reader goes on, where Enter alone may run the cell first. `false` when the reader ends
/// the lesson.
fn step(session: &mut Session, code: &str, enter_runs_it: bool) -> anyhow::Result<bool> {
    let mut edited = code.to_string();
    loop {
        let Some(first) = line("▸ ")? else {
            return Ok(false);
        };
        match first.trim() {
            "" => {
                if enter_runs_it {
                    run(session, code);
                }
                return Ok(true);
            }
            "s" => return Ok(true),
            "q" | "quit" | "exit" => return Ok(false),
            "e" => match edit(&edited, session.folder()) {
                Ok(text) => {
                    println!("{}", indented(&text));
                    run(session, &text);
                    edited = text;
                }
                Err(error) => eprintln!("{error}"),
            },
            _ => {
                let code = rest_of(first)?;
                run(session, &code);
            }
        }
    }
}

/// Lines until an empty one; a command is one line.
fn rest_of(first: String) -> anyhow::Result<String> {
    let mut code = first;
    while !code.starts_with([':', '?']) {
        match line("· ")? {
            Some(text) if !text.trim().is_empty() => {
                code.push('\n');
                code.push_str(&text);
            }
            _ => break,
        }
    }
    Ok(code)
}

fn run(session: &mut Session, code: &str) {
    let cell = script::Cell {
        title: None,
        text: code.to_string(),
        index: None,
        may_fail: true,
    };
    let reply = session.execute_script(&cell);
    if let Some(page) = reply.page {
        println!("{}", page.plain());
    }
    if let Some(text) = reply.next_input {
        println!("{}", indented(&text));
    }
    if let Err(error) = reply.result {
        eprintln!("{}", error.plain);
    }
}

/// A cell, changed in the reader's own editor, in a folder that nobody else can enter.
fn edit(code: &str, folder: &Path) -> anyhow::Result<String> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| {
            std::env::var(name)
                .ok()
                .filter(|editor| !editor.trim().is_empty())
        })
        .unwrap_or_else(|| "vi".to_string());
    let file = folder.join("edited.rs");
    fs::write(&file, code)?;
    // Editors are named with arguments: `code --wait`.
    let done = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(&file)
        .status();
    let text = fs::read_to_string(&file);
    let _ = fs::remove_file(&file);
    ensure!(
        done.is_ok_and(|status| status.success()),
        Message::new(format!("the editor `{editor}` failed")).hint("name another in the variable EDITOR")
    );
    Ok(text?.trim_end().to_string())
}

/// Lines of a paragraph as one: the terminal has its own width.
fn flowing(text: &str) -> String {
    let mut out = String::new();
    let mut is_open = false;
    for line in text.lines() {
        let stands_alone = line.is_empty() || line.starts_with(['#', '|', '-', '>', ' ']) || {
            let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
            rest.len() < line.len() && rest.starts_with(". ")
        };
        if is_open && !stands_alone {
            out.push(' ');
        } else if !out.is_empty() {
            out.push('\n');
        }
        let line = line.trim_start_matches('#').trim_start_matches(' ');
        out.push_str(&without_emphasis(line));
        // Steps and points go on in the lines below them.
        is_open = !line.is_empty() && !line.starts_with('|');
    }
    out
}

/// `*words*` as words; what stands in backticks stays, and so does a product.
fn without_emphasis(line: &str) -> String {
    let is_blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
    let mut out = String::new();
    let (mut in_code, mut before) = (false, None);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        in_code ^= c == '`';
        let is_mark = c == '*' && !in_code && !(is_blank(before) && is_blank(rest.peek().copied()));
        if !is_mark {
            out.push(c);
        }
        before = Some(c);
    }
    out
}

#[test]
fn emphasis_is_taken_off() {
    assert_eq!(
        without_emphasis("Two *workers*; (**merged**): `*m` is 2 * 3, *lazy*"),
        "Two workers; (merged): `*m` is 2 * 3, lazy"
    );
}

fn indented(code: &str) -> String {
    code.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A line of the keyboard; `None` at its end.
fn line(prompt: &str) -> anyhow::Result<Option<String>> {
    print!("{prompt}");
    std::io::stdout().flush()?;
    let mut text = String::new();
    let n = std::io::stdin().read_line(&mut text)?;
    Ok((n > 0).then(|| text.trim_end_matches(['\n', '\r']).to_string()))
}
