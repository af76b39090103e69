//! What a person sets comes to the notebook as a turn of its own, after the cell that runs.
//!
//! Where a front end makes controls live, it calls [`Session::change`]. In a terminal the session asks for the values, one
//! after the other.

use std::{
    sync::{atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use skep_cell::CellError;
use skep_eval::wire::ToEval;
use skep_render::{Bundle, control::Value};

use crate::{
    controls::{Begun, Interaction},
    evaluator::Report,
    frontend::{Frontend, Output},
    output::notes,
    state::{Phase, Session, lock},
};

/// What is run of all that reacts to a control.
struct Turn<'a> {
    control: u64,
    value: Option<Value>,
    area: Option<&'a str>,
}

impl Session {
    /// A person has set a control: what reacts to it runs, and shows below it what it gives, or why it failed.
    ///
    /// # Errors
    /// When what reacts to it failed, or was interrupted. It has been shown already where the front end has live controls.
    pub fn change(&mut self, control: u64, value: Value) -> Result<(), CellError> {
        self.shared.n_interrupts.store(0, Ordering::SeqCst);
        let result = self.turn(&Turn {
            control,
            value: Some(value),
            area: None,
        });
        // What reacts may show controls itself.
        self.shared.controls.take_begun();
        *lock(&self.shared.phase) = Phase::Idle;
        result
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<(), CellError> {
        let Some(mut known) = self.shared.controls.get(turn.control) else {
            return Ok(());
        };
        if let Some(accepted) = turn.value.as_ref().and_then(|value| known.accepts(value)) {
            known.value = accepted;
            self.shared.controls.put(turn.control, known);
        }
        let evaluator = self.live_evaluator()?;
        let cell = self.take_uncounted();
        let is_live = self.frontend.has_live_controls();
        if is_live {
            self.frontend.begin_turn(cell);
        }
        *lock(&self.shared.phase) = Phase::Running(cell);
        let message = ToEval::Turn {
            cell,
            control: turn.control,
            value: turn.value.clone(),
            area: turn.area.map(str::to_string),
        };
        let report = self.watch(cell, || evaluator.run_to_end(cell, &message));
        let result = match report {
            Report::Died(reason) => Err(self.on_death(&reason)),
            Report::Ended { outcome, lost, .. } => {
                self.notebook.lose(&lost);
                self.result_of(outcome)
            }
        };
        if let Err(error) = &result
            && is_live
        {
            let html = format!(
                "<pre style=\"color:var(--jp-error-color1, {})\">{}</pre>",
                skep_render::colours::FAILED,
                skep_render::escape(&error.plain)
            );
            let bundle = Bundle::text(error.plain.clone()).with_html(html);
            self.frontend.output(cell, Output::Display { id: None, bundle });
        }
        self.frontend.end_turn();
        result
    }

    /// How a cell ended, with what it has begun with controls.
    pub(crate) fn with_interactions(
        &mut self,
        cell: u32,
        ended: Result<(), CellError>,
    ) -> Result<(), CellError> {
        let result = ended.and_then(|()| self.run_interactions(cell));
        self.shared.controls.take_begun();
        result
    }

    /// Closures run for the first time, and in a terminal values are asked for.
    fn run_interactions(&mut self, cell: u32) -> Result<(), CellError> {
        let Begun { interactions, shown } = self.shared.controls.take_begun();
        for Interaction { controls, area } in interactions {
            let first = Turn {
                control: controls[0],
                value: None,
                area: Some(&area),
            };
            let result = self.turn(&first);
            // Where it stands below the controls it has been told.
            if !self.frontend.has_live_controls() {
                self.told_or_failed(cell, result)?;
            }
            if self.has_terminal {
                self.say(
                    cell,
                    "type other values; Enter leaves one as it is, and ends this when all are left",
                );
                while self.ask_for(cell, &controls)? {}
            }
        }
        if self.has_terminal {
            self.ask_for(cell, &shown)?;
        }
        Ok(())
    }

    /// Who sits at a terminal is told why something failed, and may try another value.
    fn told_or_failed(&self, cell: u32, result: Result<(), CellError>) -> Result<(), CellError> {
        let was_interrupted = self.shared.n_interrupts.load(Ordering::SeqCst) > 0;
        match result {
            Err(error) if self.has_terminal && !was_interrupted => {
                let text = format!("{}\n", error.styled);
                self.frontend.output(
                    cell,
                    Output::Text {
                        is_stderr: true,
                        text,
                    },
                );
                Ok(())
            }
            result => result,
        }
    }

    /// Asks for each of them once; says whether one was set.
    fn ask_for(&mut self, cell: u32, controls: &[u64]) -> Result<bool, CellError> {
        let mut is_set = false;
        for &id in controls {
            let Some(control) = self.shared.controls.get(id) else {
                continue;
            };
            let value = loop {
                let Some(typed) = self.ask(cell, &control.prompt()) else {
                    return Ok(false);
                };
                if typed.trim().is_empty() {
                    break None;
                }
                match control.parse(&typed) {
                    Ok(value) => break Some(value),
                    Err(message) => self.say(cell, &message.to_string().replace('\n', "; ")),
                }
            };
            if let Some(value) = value {
                is_set = true;
                let result = self.turn(&Turn {
                    control: id,
                    value: Some(value),
                    area: None,
                });
                self.told_or_failed(cell, result)?;
            }
        }
        Ok(is_set)
    }

    /// Asks the person at the terminal; `None` at the end of input and after an interrupt.
    fn ask(&self, cell: u32, prompt: &str) -> Option<String> {
        self.begin_compiling();
        let (answer, answers) = mpsc::channel();
        let (frontend, prompt) = (self.frontend.clone(), prompt.to_string());
        thread::spawn(move || drop(answer.send(frontend.ask(cell, &prompt, false))));
        loop {
            match answers.recv_timeout(Duration::from_millis(50)) {
                Ok(answer) => return answer,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if self.shared.n_interrupts.load(Ordering::SeqCst) > 0 {
                        self.frontend.output(cell, notes::line("left as they are"));
                        return None;
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The evaluation process is gone, and its controls with it.
    pub(crate) fn forget_controls(&self) {
        if self.shared.controls.forget() {
            self.frontend.output(0, Output::ControlsGone);
        }
    }
}
