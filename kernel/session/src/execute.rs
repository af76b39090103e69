//! Executing cells, one after the other: commands, and the Rust between them.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use skep_cell::{CellError, Purpose};
use skep_render::{Bundle, Message};

use crate::{
    commands::{self, Call, Step},
    frontend::{Frontend, Output},
    output::notes,
    run::RustCell,
    script,
    state::{Executed, Handle, MOST_OUTPUTS, Phase, Session, lock},
};

/// A cell to execute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Execute<'c> {
    pub code: &'c str,
    /// The front end's own name for the cell, which stays when the cell runs again.
    pub cell_id: Option<&'c str>,
    /// Whether it is a cell of the notebook: it has a number of its own, and history.
    pub counts: bool,
}

/// How a cell ended, and under which number.
#[derive(Debug)]
pub struct Reply {
    pub cell: u32,
    pub result: Result<(), CellError>,
    /// Text for the pager: what `?name` found.
    pub page: Option<Bundle>,
    /// A cell to put below this one.
    pub next_input: Option<String>,
}

impl Session {
    /// Executes a cell of the notebook to its end.
    pub fn execute(&mut self, code: &str) -> Reply {
        let cell = self.handle().take_number();
        self.execute_as(
            cell,
            Execute {
                code,
                cell_id: None,
                counts: true,
            },
        )
    }

    /// Executes code under a number that [`Handle::take_number`] gave; 0 for code that is no cell of the
    /// notebook.
    pub fn execute_as(&mut self, cell: u32, execute: Execute<'_>) -> Reply {
        self.take_up();
        let cell = if cell == 0 { self.take_uncounted() } else { cell };
        let mut page = None;
        let shown = Arc::new(Mutex::new(None));
        *lock(&self.frontend.last_result) = Some(shown.clone());
        let ran = self.execute_titled(cell, None, execute, &mut page);
        let result = self.with_interactions(cell, ran);
        self.say_when_frames_are_there();
        *lock(&self.shared.phase) = Phase::Idle;
        *lock(&self.frontend.last_result) = None;
        self.publish_scope();
        if execute.counts && !execute.code.trim().is_empty() {
            let output = lock(&shown).take();
            if let Err(error) = self
                .shared
                .history
                .add(cell, execute.code, output.as_deref(), result.is_ok())
            {
                self.note(&error.to_string());
            }
        }
        let next_input = self.next_input.take();
        Reply {
            cell,
            result,
            page,
            next_input,
        }
    }

    /// One cell of a script that a command runs.
    pub(crate) fn execute_script_cell(&mut self, cell: &script::Cell) -> Result<(), CellError> {
        let number = self.take_uncounted();
        let execute = Execute {
            code: &cell.text,
            cell_id: None,
            counts: false,
        };
        self.execute_titled(number, cell.title.as_deref(), execute, &mut None)
    }

    /// A cell of a script, under the script's name.
    pub fn execute_script(&mut self, cell: &script::Cell) -> Reply {
        let number = self.handle().take_number();
        self.take_up();
        let mut page = None;
        let result = self.execute_titled(
            number,
            cell.title.as_deref(),
            Execute {
                code: &cell.text,
                cell_id: None,
                counts: true,
            },
            &mut page,
        );
        let result = self.with_interactions(number, result);
        *lock(&self.shared.phase) = Phase::Idle;
        self.publish_scope();
        Reply {
            cell: number,
            result,
            page,
            next_input: self.next_input.take(),
        }
    }

    fn execute_titled(
        &mut self,
        cell: u32,
        title: Option<&str>,
        execute: Execute<'_>,
        page: &mut Option<Bundle>,
    ) -> Result<(), CellError> {
        self.execute_steps(cell, title, execute, page)?;
        if execute.counts || title.is_some() {
            // A cell that runs again is the same one.
            self.executed
                .retain(|older| execute.cell_id.is_none() || older.cell_id.as_deref() != execute.cell_id);
            self.executed.push(Executed {
                number: cell,
                cell_id: execute.cell_id.map(str::to_string),
                text: execute.code.trim_matches('\n').to_string(),
            });
        }
        Ok(())
    }

    fn execute_steps(
        &mut self,
        cell: u32,
        title: Option<&str>,
        execute: Execute<'_>,
        page: &mut Option<Bundle>,
    ) -> Result<(), CellError> {
        for step in
            commands::steps(execute.code, &|name| self.handle().knows(name)).map_err(commands::failed)?
        {
            match &step {
                Step::Describe(_) => {
                    let ask = || {
                        step.answer_now(&self.handle())
                            .expect("invariant: a question needs no turn")
                    };
                    let mut found = ask();
                    if found.is_err() && self.shared.assist.is_coming().is_some() {
                        self.wait_for_assist(cell);
                        found = ask();
                    }
                    *page = Some(found.map_err(commands::failed)?);
                }
                Step::Shell(line) => commands::shell::run(self, cell, line)?,
                Step::Instead(text) => self.frontend.output(cell, notes::note(text)),
                Step::Command { command, args, text } => {
                    let call = Call {
                        cell,
                        cell_id: execute.cell_id,
                        title,
                        args,
                        text,
                    };
                    if let Some(bundle) = commands::run(self, command, &call)? {
                        self.frontend.output(cell, Output::Result(bundle));
                    }
                }
                Step::Rust(source) => {
                    let level = self.level;
                    let source = &self.with_outputs(source)?;
                    let keeps_value = self.has_terminal && execute.counts;
                    self.run_rust(
                        RustCell {
                            cell,
                            cell_id: execute.cell_id,
                            title,
                            source,
                            keeps_value,
                        },
                        Purpose::Run,
                        level,
                    )
                    .0?;
                }
            }
        }
        Ok(())
    }

    /// At a terminal `_` and `Out[n]` stand for the values of earlier cells.
    fn with_outputs(&self, source: &str) -> Result<String, CellError> {
        if !self.has_terminal {
            return Ok(source.to_string());
        }
        let last = self.outputs.last().copied();
        skep_cell::with_outputs(source, last, &|cell| self.outputs.contains(&cell)).map_err(|cell| {
            let most = MOST_OUTPUTS;
            commands::failed(Message::new(format!("cell {cell} has no value that was kept")).hint(format!("`Out[n]` is there for the last {most} cells that end with a value of their own, not with a variable or a borrow")))
        })
    }

    /// A question is worth the wait; an interrupt ends it.
    fn wait_for_assist(&self, cell: u32) {
        *lock(&self.shared.phase) = Phase::Compiling;
        let handle = self.handle();
        let so_far = move |_| {
            handle.assist().is_coming().map_or_else(String::new, |reading| {
                format!("the analyser is {reading}; an interrupt stops the wait")
            })
        };
        let _ticker = crate::output::ticker::Ticker::saying(
            self.frontend.clone(),
            cell,
            "reading the sources of std, Polars and Skep",
            so_far,
        );
        while self.shared.assist.is_coming().is_some() && !self.compiler.is_cancelled() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Handle {
    /// Answers a cell that need not wait for those before it, such as `:vars`; `None` for all others. Who asks knows that there are
    /// some: one that was just taken up may not run yet.
    pub fn answer_now(&self, code: &str) -> Option<Result<Bundle, CellError>> {
        let steps = commands::steps(code, &|name| self.knows(name)).ok()?;
        let [step] = steps.as_slice() else { return None };
        Some(step.answer_now(self)?.map_err(commands::failed))
    }

    /// Whether a cell of just this code is a question with a page for an answer.
    pub fn is_question(code: &str) -> bool {
        code.trim_start().starts_with('?')
    }
}
