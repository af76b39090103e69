//! A lesson, step by step, in the terminal.

use std::{io::Write, sync::Arc};

use skep_course::{Lesson, Part};
use skep_session::{Bundle, Home, Session, script};

use crate::script::Plain;

/// A lesson in the terminal.
pub fn step_through(lesson: &Lesson) -> anyhow::Result<u8> {
    let mut session = Session::start(Home::locate()?, Arc::new(Plain::default()))?;
    println!(
        "Lesson {}: {} ({} minutes)\nEnter runs a cell, s skips it, q ends.\n",
        lesson.number, lesson.title, lesson.minutes
    );
    let mut run = |code: &str| {
        let cell = script::Cell {
            title: None,
            text: code.to_string(),
            index: None,
            may_fail: true,
        };
        let reply = session.execute_script(&cell);
        if let Err(error) = reply.result {
            eprintln!("{}", error.plain);
        }
    };
    for part in &lesson.parts {
        match part {
            Part::Prose(text) => println!("{}\n", Bundle::markdown(flowing(text)).plain()),
            Part::Cell { code, .. } => {
                println!("{}", indented(code));
                match line("▸ ")?.as_deref() {
                    None | Some("q") => return Ok(0),
                    Some("s") => continue,
                    Some(_) => run(code),
                }
            }
            Part::Exercise(exercise) => {
                println!("{}", indented(&exercise.starter));
                println!(
                    "Write your cell; an empty line ends it. Enter alone goes on; `:hint {}` helps.",
                    exercise.id
                );
                loop {
                    let mut code = String::new();
                    while let Some(text) = line(if code.is_empty() { "▸ " } else { "· " })? {
                        if text.is_empty() {
                            break;
                        }
                        code.push_str(&text);
                        code.push('\n');
                        if code.starts_with(':') {
                            break;
                        }
                    }
                    match code.trim() {
                        "" => break,
                        "q" => return Ok(0),
                        code => run(code),
                    }
                }
            }
        }
        println!();
    }
    println!(
        "The end of lesson {}. `skep course list` shows what is next.",
        lesson.number
    );
    Ok(0)
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
        out.push_str(
            &line
                .replace(" *", " ")
                .replace("* ", " ")
                .replace("*,", ",")
                .replace("*.", "."),
        );
        // Steps and points go on in the lines below them.
        is_open = !line.is_empty() && !line.starts_with('|');
    }
    out
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
