//! For those who write lessons.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skep_course::{Lesson, Part, lessons, notebook};
use skep_session::Message;

use super::run::{TIMED, execute, is_verdict};
use crate::shelf::write;

/// How many times as long as it should a cell may compile: a machine that others share differs by half within an hour.
const TOO_LONG: f64 = 2.0;

/// rustlings' rule: what is unsolved fails, what is solved passes; and no lesson keeps its reader waiting.
pub fn check(folder: Option<&Path>, only: Option<u32>) -> anyhow::Result<u8> {
    const LONGEST: Duration = Duration::from_secs(5);
    let all = match folder {
        None => lessons(),
        Some(folder) => read_all(folder)?,
    };
    let work = std::env::temp_dir().join(format!("skep-author-{}", std::process::id()));
    let mut wrong: Vec<String> = Vec::new();
    let mut slow: Vec<String> = Vec::new();
    for lesson in all
        .iter()
        .filter(|lesson| only.is_none_or(|only| only == lesson.number))
    {
        let here = work.join(&lesson.folder);
        fs::create_dir_all(&here)?;
        let file = here.join(lesson.file());
        write(&file, &notebook_of_both(lesson))?;
        let mut times = Vec::new();
        // Of each cell the faster of the two: another program may have been busy.
        let mut compiled: BTreeMap<String, Duration> = BTreeMap::new();
        let mut ran: BTreeMap<String, Duration> = BTreeMap::new();
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
            for (code, shown, took) in &run.cells {
                if let Some(took) = shown.lines().find_map(to_compile) {
                    keep_faster(&mut compiled, code, took);
                }
                keep_faster(&mut ran, code, *took);
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
        }
        for part in &lesson.parts {
            if let Part::Cell {
                code, is_slow: false, ..
            } = part
                && let Some(took) = ran.get(code).filter(|took| **took > LONGEST)
            {
                wrong.push(format!(
                    "lesson {}: a cell takes {:.1} s: {}",
                    lesson.number,
                    took.as_secs_f64(),
                    code.lines().next().unwrap_or_default()
                ));
            }
        }
        let usual = longest_to_compile(&compiled);
        for (code, took) in &compiled {
            let said = || {
                format!(
                    "lesson {}: a cell compiles for {:.2} s, and {:.2} s is what a reader should wait on this machine: {}",
                    lesson.number,
                    took.as_secs_f64(),
                    usual.as_secs_f64(),
                    code.lines().next().unwrap_or_default()
                )
            };
            if *took > usual.mul_f64(TOO_LONG) {
                wrong.push(said());
            } else if *took > usual {
                slow.push(said());
            }
        }
        println!(
            "lesson {}: {} minutes, {} cells, {} exercises; cells compile in {:.2} s at most; runs in {}",
            lesson.number,
            lesson.minutes,
            lesson
                .parts
                .iter()
                .filter(|part| !matches!(part, Part::Prose(_)))
                .count(),
            lesson.exercises().count(),
            compiled.values().max().map_or(0.0, Duration::as_secs_f64),
            times.join(" and ")
        );
    }
    let _ = fs::remove_dir_all(&work);
    for line in &slow {
        println!("! {line}");
    }
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

/// Cells that every machine compiles as fast as it can, at the end of each lesson.
fn trivial() -> impl Iterator<Item = String> {
    (0..3).map(|n| format!("{n} + {n}"))
}

/// A second, on a machine that compiles a trivial cell in 0.15 s; on a slower or a busy one in proportion.
fn longest_to_compile(compiled: &BTreeMap<String, Duration>) -> Duration {
    const USUAL: Duration = Duration::from_secs(1);
    const TRIVIAL: Duration = Duration::from_millis(150);
    let fastest = trivial().filter_map(|code| compiled.get(&code).copied()).min();
    USUAL.mul_f64(fastest.map_or(1.0, |fastest| fastest.div_duration_f64(TRIVIAL).max(1.0)))
}

fn keep_faster(times: &mut BTreeMap<String, Duration>, code: &str, took: Duration) {
    let known = times.entry(code.to_string()).or_insert(took);
    *known = took.min(*known);
}

/// How long a cell compiled, from what `%%time` says of it.
fn to_compile(line: &str) -> Option<Duration> {
    let (number, unit) = line
        .strip_prefix("time: ")?
        .split_once(" to compile")?
        .0
        .split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return None,
    };
    Some(Duration::from_secs_f64(seconds))
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
    for (n, code) in trivial().enumerate() {
        cells.push(json!({ "cell_type": "code", "id": format!("trivial-{n}"), "metadata": {}, "execution_count": null, "outputs": [], "source": code }));
    }
    for cell in &mut cells {
        if let Some(code) = cell["source"].as_str()
            && cell["cell_type"] == "code"
            && !code.starts_with([':', '%', '?', '!'])
        {
            cell["source"] = json!(format!("{TIMED}{code}"));
        }
    }
    both["cells"] = json!(cells);
    both
}

#[test]
fn a_slow_machine_may_compile_for_longer() {
    let one = |trivial: u64| {
        longest_to_compile(&BTreeMap::from([
            ("1 + 1".to_string(), Duration::from_millis(trivial)),
            ("let slow = 1;".to_string(), Duration::from_millis(10)),
        ]))
    };
    assert_eq!(one(100), Duration::from_secs(1));
    assert_eq!(one(300), Duration::from_secs(2));
    assert_eq!(longest_to_compile(&BTreeMap::new()), Duration::from_secs(1));
}

#[test]
fn times_are_read() {
    assert_eq!(
        to_compile("time: 1.25 s to compile, 3 ms to run"),
        Some(Duration::from_millis(1250))
    );
    assert_eq!(
        to_compile("time: 80 ms to compile, 3 ms to run"),
        Some(Duration::from_millis(80))
    );
    assert_eq!(to_compile("80 ms to compile"), None);
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

pub fn new(folder: &Path) -> anyhow::Result<u8> {
    let lesson = folder.join("01-first");
    ensure!(
        !lesson.exists(),
        Message::new(format!("{} is there already", lesson.display())).hint("choose another folder")
    );
    fs::create_dir_all(&lesson)?;
    fs::write(lesson.join("lesson.md"), include_str!("first.md"))?;
    println!(
        "{} is a lesson to change.\n`skep course author check {}` tells whether it is in order.",
        lesson.join("lesson.md").display(),
        folder.display()
    );
    Ok(0)
}
