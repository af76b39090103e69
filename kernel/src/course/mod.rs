//! `skep course`: the course's lessons, exercises, and how far the reader is; and what authors need.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skep_course::{Lesson, Progress, State, lessons, notebook};
use skep_session::Message;

use crate::{lab, shelf};

mod author;
mod export;
mod run;
mod terminal;

#[derive(clap::Subcommand)]
pub enum What {
    /// The lessons, with minutes, exercises and what is done.
    List,
    /// Open a lesson in JupyterLab, or step through it in the terminal.
    Open {
        lesson: u32,
        /// In the terminal: prose, then cell; Enter runs it.
        #[arg(long)]
        repl: bool,
        /// The course's folder; by default `~/skep-course`.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Run your notebook of a lesson (of all, without a number), and say what its checks found.
    Check {
        lesson: Option<u32>,
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Begin a lesson anew; your notebook is kept beside the new one.
    Reset {
        lesson: u32,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// A solution of an exercise (`2.1`), or of all exercises of a lesson (`2`).
    Solution { exercise: String },
    /// What is done; `--json` for teachers' tools.
    Status {
        #[arg(long)]
        json: bool,
    },
    /// For those who write lessons.
    Author {
        #[command(subcommand)]
        what: Author,
    },
    /// Write the solved lessons as web pages, for projectors and phones.
    Export {
        #[command(subcommand)]
        what: Export,
    },
    /// Begin a course of your own in this folder: a lesson to change, in the same form.
    New { folder: PathBuf },
}

#[derive(clap::Subcommand)]
pub enum Author {
    /// Every exercise unsolved is red and solved is green; every lesson runs from a fresh kernel, twice, in its minutes.
    Check {
        /// A folder of lessons (`NN-name/lesson.md`); by default Skep's own course.
        folder: Option<PathBuf>,
        /// Only this lesson.
        #[arg(long)]
        lesson: Option<u32>,
    },
}

#[derive(clap::Subcommand)]
pub enum Export {
    /// One page for each lesson, and the overview.
    Html {
        to: PathBuf,
        /// Only this lesson.
        #[arg(long)]
        lesson: Option<u32>,
    },
}

pub fn run(what: What) -> anyhow::Result<u8> {
    match what {
        What::List => list(),
        What::Open {
            lesson,
            repl: true,
            folder: _,
        } => terminal::step_through(&numbered(lesson)?),
        What::Open { lesson, folder, .. } => {
            let lesson = numbered(lesson)?;
            lab::open(folder, &format!("{}/{}", lesson.folder, lesson.file()))
        }
        What::Check { lesson, folder } => check(lesson, folder.as_deref()),
        What::Reset { lesson, yes, folder } => reset(&numbered(lesson)?, yes, folder.as_deref()),
        What::Solution { exercise } => solution(&exercise),
        What::Status { json } => status(json),
        What::Author {
            what: Author::Check { folder, lesson },
        } => author::check(folder.as_deref(), lesson),
        What::Export {
            what: Export::Html { to, lesson },
        } => export::html(&to, lesson),
        What::New { folder } => author::new(&folder),
    }
}

fn numbered(number: u32) -> anyhow::Result<Lesson> {
    let all = lessons();
    let n = all.len();
    all.into_iter()
        .find(|lesson| lesson.number == number)
        .with_context(|| {
            Message::new(format!("there is no lesson {number}"))
                .hint(format!("lessons are 1 to {n}: `skep course list`"))
        })
}

fn n_done(lesson: &Lesson, progress: &Progress) -> usize {
    let is_done = |id: &str| progress.of(id).state == State::Done;
    lesson
        .exercises()
        .filter(|exercise| is_done(&exercise.id))
        .count()
}

fn list() -> anyhow::Result<u8> {
    let progress = Progress::read(&Progress::path());
    let all = lessons();
    for lesson in &all {
        let (n, done) = (lesson.exercises().count(), n_done(lesson, &progress));
        let mark = if n > 0 && n == done { "✓" } else { " " };
        let elective = if lesson.is_elective { "elective, " } else { "" };
        println!(
            "{mark} {:>2}. {:<28} {elective}{} minutes, {done} of {n} exercises done\n      {}",
            lesson.number, lesson.title, lesson.minutes, lesson.about
        );
    }
    let core: u32 = all
        .iter()
        .filter(|lesson| !lesson.is_elective)
        .map(|lesson| lesson.minutes)
        .sum();
    println!("\nThe core takes {core} minutes. `skep course open 1` begins; `skep lab` opens the overview.");
    Ok(0)
}

fn status(as_json: bool) -> anyhow::Result<u8> {
    let progress = Progress::read(&Progress::path());
    let entries: Vec<Value> = lessons()
        .iter()
        .flat_map(|lesson| {
            let number = lesson.number;
            lesson
                .exercises()
                .map(|exercise| {
                    let entry = progress.of(&exercise.id);
                    json!({
                        "lesson": number,
                        "exercise": exercise.id,
                        "title": exercise.title,
                        "state": entry.state,
                        "tries": entry.n_tries,
                        "hints": entry.n_hints,
                    })
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let n_done = entries.iter().filter(|entry| entry["state"] == "done").count();
    if as_json {
        println!(
            "{}",
            serde_json::to_string_pretty(
                &json!({"done": n_done, "of": entries.len(), "exercises": entries})
            )?
        );
        return Ok(0);
    }
    for entry in &entries {
        let mark = match entry["state"].as_str() {
            Some("done") => "✓ done",
            Some("tried") => "✗ tried",
            _ => "○ not begun",
        };
        println!(
            "{mark:<12} {} {} ({} checks, {} hints)",
            entry["exercise"].as_str().unwrap_or_default(),
            entry["title"].as_str().unwrap_or_default(),
            entry["tries"],
            entry["hints"]
        );
    }
    println!("\n{n_done} of {} exercises are done", entries.len());
    Ok(0)
}

fn solution(id: &str) -> anyhow::Result<u8> {
    let found: Vec<_> = lessons()
        .into_iter()
        .flat_map(|lesson| {
            let is_it = lesson.number.to_string() == id;
            lesson
                .exercises()
                .filter(|exercise| is_it || exercise.id == id)
                .cloned()
                .collect::<Vec<_>>()
        })
        .collect();
    ensure!(
        !found.is_empty(),
        Message::new(format!("there is no exercise {id}")).hint("`skep course status` lists them")
    );
    for exercise in found {
        println!(
            "// Exercise {}: {}\n{}\n",
            exercise.id, exercise.title, exercise.solution
        );
    }
    Ok(0)
}

fn reset(lesson: &Lesson, yes: bool, folder: Option<&Path>) -> anyhow::Result<u8> {
    let file = shelf::default_folder(folder)
        .join(&lesson.folder)
        .join(lesson.file());
    if file.exists() && !yes {
        ensure!(
            std::io::stdin().is_terminal(),
            Message::new("nobody can be asked here").hint("--yes begins the lesson anew without asking")
        );
        print!(
            "Begin lesson {} anew? Your notebook is kept beside the new one. [y/N] ",
            lesson.number
        );
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            println!("nothing was changed");
            return Ok(1);
        }
    }
    if file.exists() {
        let kept = (1..)
            .map(|n| file.with_extension(format!("{n}.ipynb")))
            .find(|kept| !kept.exists())
            .context("no name is free")?;
        fs::rename(&file, &kept)?;
        println!("your notebook is kept as {}", kept.display());
    }
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    shelf::write(&file, &notebook(lesson, false))?;
    let path = Progress::path();
    let mut progress = Progress::read(&path);
    progress.forget(lesson.number);
    progress.write(&path)?;
    println!("lesson {} begins anew: {}", lesson.number, file.display());
    Ok(0)
}

/// Runs the reader's notebooks and prints what their checks found.
fn check(lesson: Option<u32>, folder: Option<&Path>) -> anyhow::Result<u8> {
    let folder = shelf::default_folder(folder);
    let chosen = match lesson {
        Some(number) => vec![numbered(number)?],
        None => lessons(),
    };
    let mut is_all_right = true;
    for lesson in chosen {
        let file = folder.join(&lesson.folder).join(lesson.file());
        if !file.exists() {
            println!("lesson {}: not begun", lesson.number);
            is_all_right = false;
            continue;
        }
        println!("lesson {}: running {} …", lesson.number, file.display());
        let done = run::execute(&file, &Progress::path())?;
        for line in done.verdicts() {
            println!("  {line}");
            is_all_right &= line.starts_with('✓');
        }
        if let Some(error) = done.error {
            println!("  it stops: {error}");
            is_all_right = false;
        }
    }
    Ok(u8::from(!is_all_right))
}
