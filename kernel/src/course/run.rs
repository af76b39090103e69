//! Notebooks that are run for their verdicts.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;

/// Above a cell it makes the cell say how long it took.
pub const TIMED: &str = "%%time\n";

/// A notebook that was run.
pub struct Run {
    /// Of each code cell: its source, what it showed as text, how long it took.
    pub cells: Vec<(String, String, Duration)>,
    pub error: Option<String>,
    pub took: Duration,
}

impl Run {
    pub fn verdicts(&self) -> impl Iterator<Item = &str> {
        let lines = self.cells.iter().flat_map(|(_, shown, _)| shown.lines());
        lines.filter(|line| is_verdict(line))
    }
}

pub fn is_verdict(line: &str) -> bool {
    ["✓ Exercise", "✗ Exercise", "○ Exercise"]
        .iter()
        .any(|mark| line.starts_with(mark))
}

/// Runs a notebook in a kernel of its own, where it lies.
pub fn execute(file: &Path, progress: &Path) -> anyhow::Result<Run> {
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
            let ms = cell["metadata"]["skep"]["duration_ms"].as_u64().unwrap_or(0);
            let code = text(&cell["source"]);
            let code = code.strip_prefix(TIMED).unwrap_or(&code).to_string();
            (code, shown.join("\n"), Duration::from_millis(ms))
        })
        .collect();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let is_said = |line: &&str| !line.starts_with("time: ") && !line.starts_with("note: ");
    let error = (!done.status.success()).then(|| {
        stderr
            .lines()
            .filter(is_said)
            .take(8)
            .collect::<Vec<_>>()
            .join("\n  ")
    });
    Ok(Run { cells, error, took })
}
