//! `skep course`: the course's lessons, exercises, and how far the reader is; and what authors need.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use skep_lessons::{Lesson, Part, Progress, State, lessons, notebook, overview};
use skep_session::{Bundle, Home, Message, Session, script};

use crate::{lab, script::Plain};

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
    Html { to: PathBuf },
}

pub fn run(what: What) -> anyhow::Result<u8> {
    match what {
        What::List => list(),
        What::Open {
            lesson,
            repl: true,
            folder: _,
        } => step_through(&numbered(lesson)?),
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
        } => author_check(folder.as_deref(), lesson),
        What::Export {
            what: Export::Html { to },
        } => export(&to),
        What::New { folder } => new(&folder),
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

/// Writes what is not there yet of the course's notebooks, and the overview with what is done.
pub fn lay_out(folder: &Path) -> anyhow::Result<()> {
    let all = lessons();
    for lesson in &all {
        let to = folder.join(&lesson.folder);
        fs::create_dir_all(&to)?;
        let file = to.join(lesson.file());
        if !file.exists() {
            write(&file, &notebook(lesson, false))?;
        }
    }
    let progress = Progress::read(&Progress::path());
    write(&folder.join("overview.ipynb"), &overview(&all, &progress))
}

fn write(file: &Path, notebook: &Value) -> anyhow::Result<()> {
    fs::write(file, serde_json::to_string_pretty(notebook)? + "\n")
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn reset(lesson: &Lesson, yes: bool, folder: Option<&Path>) -> anyhow::Result<u8> {
    let file = lab::default_folder(folder)
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
    write(&file, &notebook(lesson, false))?;
    let path = Progress::path();
    let mut progress = Progress::read(&path);
    progress.forget(lesson.number);
    progress.write(&path)?;
    println!("lesson {} begins anew: {}", lesson.number, file.display());
    Ok(0)
}

/// Runs the reader's notebooks and prints what their checks found.
fn check(lesson: Option<u32>, folder: Option<&Path>) -> anyhow::Result<u8> {
    let folder = lab::default_folder(folder);
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
        let run = execute(&file, &Progress::path())?;
        for line in run.verdicts() {
            println!("  {line}");
            is_all_right &= line.starts_with('✓');
        }
        if let Some(error) = run.error {
            println!("  it stops: {error}");
            is_all_right = false;
        }
    }
    Ok(u8::from(!is_all_right))
}

/// A notebook that was run.
struct Run {
    /// Of each code cell: its source, what it showed as text, how long it took.
    cells: Vec<(String, String, Duration)>,
    error: Option<String>,
    took: Duration,
}

impl Run {
    fn verdicts(&self) -> impl Iterator<Item = &str> {
        let lines = self.cells.iter().flat_map(|(_, shown, _)| shown.lines());
        lines.filter(|line| is_verdict(line))
    }
}

fn is_verdict(line: &str) -> bool {
    ["✓ Exercise", "✗ Exercise", "○ Exercise"]
        .iter()
        .any(|mark| line.starts_with(mark))
}

/// Runs a notebook in a kernel of its own, where it lies.
fn execute(file: &Path, progress: &Path) -> anyhow::Result<Run> {
    let output = file.with_extension("executed.ipynb");
    let folder = file.parent().context("a notebook lies in a folder")?;
    let began = Instant::now();
    let done = Command::new(std::env::current_exe()?)
        .arg("run")
        .arg(file)
        .arg("--output")
        .arg(&output)
        .current_dir(folder)
        .env("SKEP_PROGRESS", progress)
        .output()?;
    let took = began.elapsed();
    let executed: Value = serde_json::from_slice(&fs::read(&output)?)?;
    let _ = fs::remove_file(&output);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    };
    let cells = executed["cells"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let cells = cells
        .iter()
        .filter(|cell| cell["cell_type"] == "code")
        .map(|cell| {
            let outputs = cell["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
            let shown: Vec<String> = outputs
                .iter()
                .map(|output| match output["output_type"].as_str() {
                    Some("stream") => text(&output["text"]),
                    _ => text(&output["data"]["text/plain"]),
                })
                .collect();
            let ms = cell["metadata"]["execution"]["duration_ms"].as_u64().unwrap_or(0);
            (text(&cell["source"]), shown.join("\n"), Duration::from_millis(ms))
        })
        .collect();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let error = (!done.status.success()).then(|| stderr.lines().take(8).collect::<Vec<_>>().join("\n  "));
    Ok(Run { cells, error, took })
}

/// rustlings' rule: what is unsolved fails, what is solved passes; and no lesson keeps its reader waiting.
fn author_check(folder: Option<&Path>, only: Option<u32>) -> anyhow::Result<u8> {
    const LONGEST: Duration = Duration::from_secs(5);
    let all = match folder {
        None => lessons(),
        Some(folder) => read_all(folder)?,
    };
    let work = std::env::temp_dir().join(format!("skep-author-{}", std::process::id()));
    let mut wrong: Vec<String> = Vec::new();
    for lesson in all
        .iter()
        .filter(|lesson| only.is_none_or(|only| only == lesson.number))
    {
        let here = work.join(&lesson.folder);
        fs::create_dir_all(&here)?;
        let file = here.join(lesson.file());
        write(&file, &notebook_of_both(lesson))?;
        let mut times = Vec::new();
        for round in 1..=2 {
            let mut say = |what: String| wrong.push(format!("lesson {}, run {round}: {what}", lesson.number));
            let run = execute(&file, &here.join("progress.json"))?;
            times.push(format!("{:.0} s", run.took.as_secs_f64()));
            if run.took > Duration::from_secs(u64::from(lesson.minutes) * 60) {
                say(format!(
                    "it takes {:.0} s, more than its {} minutes",
                    run.took.as_secs_f64(),
                    lesson.minutes
                ));
            }
            if let Some(error) = &run.error {
                say(format!("it stops: {error}"));
            }
            for exercise in lesson.exercises() {
                let mark = |code: &str| {
                    let (_, shown, _) = run.cells.iter().find(|(source, _, _)| source == code)?;
                    shown
                        .lines()
                        .find(|line| is_verdict(line))
                        .and_then(|line| line.chars().next())
                };
                if mark(&exercise.starter) == Some('✓') {
                    say(format!("exercise {} passes as it is given", exercise.id));
                }
                match mark(&exercise.solution) {
                    Some('✓') => {}
                    Some(mark) => {
                        let shown = run
                            .cells
                            .iter()
                            .find(|(source, _, _)| *source == exercise.solution);
                        let shown = shown.map_or("", |(_, shown, _)| shown.as_str());
                        say(format!(
                            "the solution of exercise {} gets {mark}\n{shown}",
                            exercise.id
                        ));
                    }
                    None => say(format!("the solution of exercise {} has no verdict", exercise.id)),
                }
            }
            for part in &lesson.parts {
                if let Part::Cell {
                    code, is_slow: false, ..
                } = part
                    && let Some((_, _, took)) = run
                        .cells
                        .iter()
                        .find(|(source, _, took)| source == code && *took > LONGEST)
                {
                    say(format!(
                        "a cell takes {:.1} s: {}",
                        took.as_secs_f64(),
                        code.lines().next().unwrap_or_default()
                    ));
                }
            }
        }
        println!(
            "lesson {}: {} minutes, {} cells, {} exercises; runs in {}",
            lesson.number,
            lesson.minutes,
            lesson
                .parts
                .iter()
                .filter(|part| !matches!(part, Part::Prose(_)))
                .count(),
            lesson.exercises().count(),
            times.join(" and ")
        );
    }
    let _ = fs::remove_dir_all(&work);
    for line in &wrong {
        println!("✗ {line}");
    }
    println!(
        "{}",
        if wrong.is_empty() {
            "✓ the course is in order".to_string()
        } else {
            format!("{} things are not", wrong.len())
        }
    );
    Ok(u8::from(!wrong.is_empty()))
}

/// A lesson in which each exercise stands as it is given, and then solved.
fn notebook_of_both(lesson: &Lesson) -> Value {
    let mut both = notebook(lesson, false);
    let solved = notebook(lesson, true);
    let mut cells = Vec::new();
    let pairs = both["cells"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(solved["cells"].as_array().into_iter().flatten());
    for (given, solved) in pairs {
        let mut given = given.clone();
        if given["source"] != solved["source"] {
            // It may fail in any way, but it must not stop the lesson.
            given["metadata"]["tags"] = json!(["exercise", "raises-exception"]);
            cells.push(given);
            let mut solved = solved.clone();
            solved["id"] = json!(format!("{}-solved", solved["id"].as_str().unwrap_or_default()));
            cells.push(solved);
        } else {
            cells.push(given);
        }
    }
    both["cells"] = json!(cells);
    both
}

fn read_all(folder: &Path) -> anyhow::Result<Vec<Lesson>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry?;
        let file = entry.path().join("lesson.md");
        if file.exists() {
            let text = fs::read_to_string(&file)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let lesson = Lesson::parse(&name, &text)
                .map_err(|wrong| anyhow::anyhow!("{}: {wrong}", file.display()))?;
            found.push(lesson);
        }
    }
    ensure!(
        !found.is_empty(),
        Message::new(format!("{} has no lessons", folder.display()))
            .hint("a lesson is a file `NN-name/lesson.md`: `skep course new FOLDER`")
    );
    found.sort_by_key(|lesson| lesson.number);
    Ok(found)
}

fn new(folder: &Path) -> anyhow::Result<u8> {
    let lesson = folder.join("01-first");
    ensure!(
        !lesson.exists(),
        Message::new(format!("{} is there already", lesson.display())).hint("choose another folder")
    );
    fs::create_dir_all(&lesson)?;
    fs::write(lesson.join("lesson.md"), include_str!("course/first.md"))?;
    println!(
        "{} is a lesson to change.\n`skep course author check {}` tells whether it is in order.",
        lesson.join("lesson.md").display(),
        folder.display()
    );
    Ok(0)
}

fn export(to: &Path) -> anyhow::Result<u8> {
    let python = lab::ready_python(&Home::locate()?)?;
    fs::create_dir_all(to)?;
    let to = to.canonicalize()?;
    let all = lessons();
    let work = to.join(".work");
    for lesson in &all {
        println!("lesson {}: running it …", lesson.number);
        let here = work.join(&lesson.folder);
        fs::create_dir_all(&here)?;
        let (file, executed) = (here.join(lesson.file()), here.join("executed.ipynb"));
        write(&file, &notebook(lesson, true))?;
        let status = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg(&file)
            .arg("--output")
            .arg(&executed)
            .current_dir(&here)
            .env("SKEP_PROGRESS", work.join("progress.json"))
            .stdout(std::process::Stdio::null())
            .status()?;
        ensure!(
            status.success(),
            Message::new(format!("lesson {} failed", lesson.number))
                .hint("`skep course author check` says why")
        );
        page(&python, &executed, &to, &lesson.folder)?;
    }
    let file = work.join("overview.ipynb");
    let mut index = overview(&all, &Progress::default());
    for cell in index["cells"].as_array_mut().into_iter().flatten() {
        if let Some(text) = cell["source"].as_str() {
            let linked = all.iter().fold(text.to_string(), |text, lesson| {
                text.replace(
                    &format!("({}/{})", lesson.folder, lesson.file()),
                    &format!("({}.html)", lesson.folder),
                )
            });
            cell["source"] = json!(linked);
        }
    }
    write(&file, &index)?;
    page(&python, &file, &to, "index")?;
    fs::remove_dir_all(&work)?;
    println!("{} is the course as web pages", to.join("index.html").display());
    Ok(0)
}

fn page(python: &Path, notebook: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    let status = Command::new(python)
        .args([
            "-m",
            "nbconvert",
            "--to",
            "html",
            "--log-level=WARN",
            "--output-dir",
        ])
        .arg(to)
        .arg("--output")
        .arg(name)
        .arg(notebook)
        .status()?;
    if !status.success() {
        bail!("{} could not be made a page", notebook.display());
    }
    Ok(())
}

/// A lesson in the terminal.
fn step_through(lesson: &Lesson) -> anyhow::Result<u8> {
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
            Part::Prose(text) => println!("{}\n", Bundle::markdown(text).plain()),
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
