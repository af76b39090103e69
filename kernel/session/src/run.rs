//! Compiling and running the Rust of a cell, and taking in what it did.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use skep_cell::{CellError, Compiled, Purpose, Request};
use skep_eval::wire::{Location, Outcome, ToEval};

use crate::{
    errors::{interrupted, red, session_error},
    evaluator::{Evaluator, Report},
    state::{MOST_OUTPUTS, Phase, Session, finish, lock},
};

/// How long a cell took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub compile: Duration,
    /// `None` if it did not get to run.
    pub run: Option<Duration>,
}

/// Rust to run as (part of) a cell.
#[derive(Clone, Copy)]
pub(crate) struct RustCell<'c> {
    pub cell: u32,
    pub cell_id: Option<&'c str>,
    pub title: Option<&'c str>,
    pub source: &'c str,
    /// Whether the value of its last expression is kept, for `_` and `Out[n]`.
    pub keeps_value: bool,
}

impl Session {
    /// Remembers that a cell's value was kept, and lets go of old ones: they may be large.
    fn note_output(&mut self, cell: u32, evaluator: &Evaluator) {
        let name = skep_cell::output_name(cell);
        let Some(variable) = self.notebook.variables().get(&name) else {
            return;
        };
        if variable.type_name != "()" {
            self.outputs.push(cell);
        }
        let n_old = self.outputs.len().saturating_sub(MOST_OUTPUTS);
        let mut old: Vec<String> = self.outputs.drain(..n_old).map(skep_cell::output_name).collect();
        if !self.outputs.contains(&cell) {
            old.push(name);
        }
        if !old.is_empty() {
            self.notebook
                .forget(&old.iter().map(String::as_str).collect::<Vec<_>>());
            let _ = evaluator.send(&ToEval::Forget { names: old });
        }
    }

    /// Compiles and runs Rust as a cell, or as a part of one.
    pub(crate) fn run_rust(
        &mut self,
        rust: RustCell<'_>,
        purpose: Purpose,
        level: u8,
    ) -> (Result<(), CellError>, Timing) {
        let mut timing = Timing::default();
        let result = self.compile_and_run(rust, purpose, level, &mut timing);
        (result, timing)
    }

    fn compile_and_run(
        &mut self,
        rust: RustCell<'_>,
        purpose: Purpose,
        level: u8,
        timing: &mut Timing,
    ) -> Result<(), CellError> {
        let RustCell {
            cell,
            cell_id,
            title,
            source,
            keeps_value,
        } = rust;
        // Each compiled part is a program of its own; people know all of them under the cell's number.
        let shown_as = format!("cell {cell}");
        let (cell, title) = if self.notebook.has(cell) {
            (self.take_uncounted(), title.or(Some(shown_as.as_str())))
        } else {
            (cell, title)
        };
        let _span = tracing::info_span!(target: "skep", "cell", cell).entered();
        let evaluator = self.live_evaluator()?;
        if let Some(held) = evaluator.returned() {
            self.notebook
                .take_back(held.iter().map(|variable| variable.name.as_str()));
        }
        *lock(&self.shared.phase) = Phase::Compiling;
        let started = Instant::now();
        let ticker = self.progress.compiling(cell);
        let compiled = self.notebook.compile(
            &self.compiler,
            Request {
                cell,
                cell_id,
                title,
                source,
                purpose,
                level,
                keeps_value,
                for_workers: self.shared.host.n_workers() > 0 || source.contains("Cluster"),
            },
            &self.builder(),
        );
        drop(ticker);
        lock(&self.frontend.titles).clone_from(self.notebook.titles());
        timing.compile = started.elapsed();
        let compiled = compiled
            .inspect_err(|error| {
                tracing::info!(target: "skep", took = ?timing.compile, "did not compile: {}", error.message);
            })
            .map_err(|error| self.with_frames_in_mind(error))?;
        {
            let mut phase = lock(&self.shared.phase);
            if self.shared.n_interrupts.load(Ordering::SeqCst) > 0 {
                return Err(interrupted("nothing was run; variables are as before"));
            }
            *phase = Phase::Running(cell);
        }
        let started = Instant::now();
        let report = self.watch(cell, || {
            let report = evaluator.run(cell, &compiled.library, &compiled.entry, compiled.epoch);
            timing.run = Some(started.elapsed());
            report
        });
        tracing::info!(target: "skep", compiled = ?timing.compile, ran = ?timing.run, "{}", report.in_short());
        match report {
            Report::Died(reason) => Err(self.on_death(&reason)),
            Report::Ended {
                outcome,
                variables,
                lost,
                ..
            } => {
                self.notebook.lose(&lost);
                let held: Vec<_> = variables
                    .into_iter()
                    .map(|v| (v.name, v.type_name, v.size))
                    .collect();
                if purpose == Purpose::Run {
                    self.commit(&evaluator, compiled, &outcome, &held);
                }
                self.build_for_new_workers();
                self.result_of(outcome)
            }
        }
    }

    /// Runs something as `cell`, with the progress of its tasks beside it, which is right when this returns.
    pub(crate) fn watch(&self, cell: u32, run: impl FnOnce() -> Report) -> Report {
        self.progress.begin(cell);
        let report = run();
        if matches!(
            &report,
            Report::Ended {
                outcome: Outcome::Interrupted,
                ..
            }
        ) {
            self.progress.settle(Duration::from_millis(500));
        } else {
            finish(&self.progress, &self.shared.host);
        }
        self.progress.end();
        report
    }

    /// Functions of earlier cells are built for workers as soon as there are some.
    fn build_for_new_workers(&mut self) {
        let has_workers = self.shared.host.n_workers() > 0;
        if has_workers && !self.had_workers {
            let number = self.take_uncounted();
            if let Some(tasks) = self.notebook.tasks(&self.compiler, number) {
                (self.builder())(tasks);
            }
        }
        self.had_workers = has_workers;
    }

    fn commit(
        &mut self,
        evaluator: &Evaluator,
        compiled: Compiled,
        outcome: &Outcome,
        held: &[(String, String, u64)],
    ) {
        let cell = compiled.prepared.cell;
        let commit = self
            .notebook
            .commit(compiled.prepared, *outcome == Outcome::Done, held);
        for notice in commit.notices {
            self.note(&notice);
        }
        if !commit.forget.is_empty() {
            let _ = evaluator.send(&ToEval::Forget { names: commit.forget });
        }
        let known = self.notebook.variables();
        self.outputs
            .retain(|cell| known.contains_key(&skep_cell::output_name(*cell)));
        self.note_output(cell, evaluator);
    }

    pub(crate) fn result_of(&self, outcome: Outcome) -> Result<(), CellError> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed { message, at } => Err(self.failed("Error", &message, at)),
            Outcome::Panicked { message, at } => Err(self.failed("Panic", &message, at)),
            Outcome::Interrupted => Err(interrupted(
                "variables of earlier cells keep what the cell did so far; those that it made itself are not kept",
            )),
            Outcome::Abandoned => Err(interrupted(
                "the code that runs could not be stopped; it goes on in the background until it is done, and gives back the variables that it uses",
            )),
            Outcome::Refused { message } => Err(session_error("Refused", message)),
        }
    }

    /// An error at run time, with the user's line.
    fn failed(&self, name: &str, message: &str, at: Option<Location>) -> CellError {
        let message = self.notebook.in_cells(message);
        let place = at
            .as_ref()
            .and_then(|at| self.notebook.place(&at.file, at.line, at.column));
        let what = if name == "Panic" { "panicked" } else { "failed" };
        let (message, hint) = message
            .split_once("\nhint: ")
            .map_or((message.as_str(), None), |(message, hint)| (message, Some(hint)));
        let mut plain = match (&place, &at) {
            (Some(place), _) => {
                let line = self.notebook.line(place).unwrap_or_default();
                let caret = " ".repeat(place.column - 1);
                format!(
                    "error: {message}\n --> {what} at {place}\n  |\n{:>2}| {line}\n  | {caret}^",
                    place.line
                )
            }
            (None, Some(at)) => match self.notebook.cell_of(&at.file) {
                Some(title) => format!("error: {message}\n --> {what} in {title}"),
                None => format!("error: {message}\n --> {what} in {}:{}", at.file, at.line),
            },
            (None, None) => format!("error: {message}"),
        };
        if let Some(hint) = hint {
            plain.push_str(&format!("\nhint: {hint}"));
        }
        CellError {
            name: name.to_string(),
            message: message.to_string(),
            styled: red(&plain),
            plain,
            place,
        }
    }
}
