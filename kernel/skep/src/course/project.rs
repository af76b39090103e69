//! Checks of the lesson on projects: they run what was made, as its user would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use skep_course::Verdict;
use skep_flow::{Flow, State};

use super::said;

const N_PRIMES: &str = "78498 primes";

/// Runs cargo in a project: whether it went well, and what was said.
fn cargo(folder: &Path, arguments: &[&str]) -> Result<(bool, String), String> {
    // Beside the compiler that the project names; else as a shell finds it.
    let config = fs::read_to_string(folder.join(".cargo/config.toml")).map_err(said)?;
    let rustc = config.lines().find_map(|line| line.strip_prefix("rustc = "));
    let beside = rustc.map(|path| PathBuf::from(path.trim_matches('"')).with_file_name("cargo"));
    let cargo = beside
        .filter(|cargo| cargo.exists())
        .unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--quiet", "--offline", "--color", "never"])
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

/// The lines that tell most of a failure.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

/// When this notebook's process began, to the second.
fn began() -> Option<SystemTime> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything, it is the twentieth.
    let ticks: u64 = stat
        .rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    // Linux counts in hundredths for whoever asks, whatever it does inside.
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot) + Duration::from_millis(ticks * 10))
}

/// A project that this notebook made; one of an earlier go at the lesson has to be made again.
fn project(folder: &str) -> Option<(PathBuf, String)> {
    let folder = PathBuf::from(folder);
    let made = fs::metadata(folder.join(".cargo/config.toml"))
        .and_then(|config| config.modified())
        .ok()?;
    if began().is_some_and(|began| made < began) {
        return None;
    }
    let program = fs::read_to_string(folder.join("src/main.rs")).ok()?;
    Some((folder, program))
}

/// Exercise 11.1: cells that have become a program.
pub fn check_11_1(folder: &str) -> Verdict {
    Verdict::of("11.1", |verdict| {
        let Some((path, program)) = project(folder) else {
            return verdict.not_begun(&format!("this notebook has made no project `{folder}` yet"));
        };
        verdict.holds(
            program.contains("fn primes("),
            format!("`{folder}` has the function `primes`"),
            format!(
                "`{folder}` lacks the function `primes`: did the cells above run? Then `:new {folder}` again"
            ),
        );
        let (is_well, text) = cargo(&path, &["run"])?;
        verdict.holds(
            is_well && text.contains(N_PRIMES),
            format!("`cargo run` says {N_PRIMES}"),
            format!(
                "`cargo run` does not say how many primes there are: {}",
                last_lines(&text)
            ),
        );
        Ok(())
    })
}

/// Exercise 11.2: a test that could fail.
pub fn check_11_2(folder: &str) -> Verdict {
    Verdict::of("11.2", |verdict| {
        let Some((path, _)) = project(folder) else {
            return verdict.not_begun(&format!("there is no project `{folder}`: exercise 11.1 makes it"));
        };
        let test = fs::read_to_string(path.join("tests/says.rs")).unwrap_or_default();
        if test.is_empty() || test.contains("? primes") {
            return verdict.not_begun("the test does not say yet how many primes there are");
        }
        verdict.holds(
            test.contains("78498"),
            "the test knows the number".to_string(),
            "the test passes whatever the program counts: ask for the number".to_string(),
        );
        let (is_well, text) = cargo(&path, &["test"])?;
        verdict.holds(
            is_well,
            "`cargo test` passes".to_string(),
            format!("`cargo test` fails: {}", last_lines(&text)),
        );
        Ok(())
    })
}

/// Exercise 11.3: a flow that a program ran.
pub fn check_11_3(folder: &str) -> Verdict {
    Verdict::of("11.3", |verdict| {
        let Some((path, program)) = project(folder) else {
            return verdict.not_begun(&format!("this notebook has made no project `{folder}` yet"));
        };
        verdict.holds(
            program.contains("Flow::new(\"counting\""),
            format!("`{folder}` runs the flow"),
            format!("`{folder}` has no flow: run the cell once, and then `:new {folder}`"),
        );
        let n_before = Flow::runs_of("counting").map_err(said)?.len();
        let (is_well, text) = cargo(&path, &["run"])?;
        let runs = Flow::runs_of("counting").map_err(said)?;
        verdict.holds(
            is_well && runs.len() > n_before,
            "the program left a run in the store".to_string(),
            format!("the program left no run of `counting`: {}", last_lines(&text)),
        );
        let state = runs.last().map(|run| run.state()).transpose().map_err(said)?;
        verdict.holds(
            state == Some(State::Completed),
            "which completed".to_string(),
            format!("its run is {}", state.map_or("not there", State::name)),
        );
        Ok(())
    })
}
