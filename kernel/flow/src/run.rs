//! Runs, as people hold them: how one is, what it gave, and how it goes on.

use std::{fmt, marker::PhantomData, sync::Arc, thread, time::Duration};

use skep_cluster::{Error, Result, TaskValue, decoded};
use skep_render::{Bundle, Message, Rich, card::Card, duration, plural};

use crate::{
    live::Live,
    registry::flow_named,
    show::{View, ago, cut},
    state::State,
    store::{FlowLog, Record, RunRow, StateRow, TaskRow, now_us, short, store, unknown_run},
    words::{WAITS, another_type, error_of},
};

/// A run of a flow. It is in the store, so that it is the same run in any notebook and at any time.
pub struct Run<T = ()> {
    id: Arc<str>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Run<T> {
    fn clone(&self) -> Self {
        Run {
            id: self.id.clone(),
            value: PhantomData,
        }
    }
}

impl<T> Run<T> {
    pub(crate) fn of(id: impl Into<Arc<str>>) -> Run<T> {
        Run {
            id: id.into(),
            value: PhantomData,
        }
    }

    /// Its id; the first eight letters are enough to name it.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn row(&self) -> Result<RunRow> {
        store()?.run(&self.id)?.ok_or_else(|| unknown_run(&self.id))
    }

    /// The flow's name.
    ///
    /// # Errors
    /// When the run is not in the store any more.
    pub fn flow(&self) -> Result<String> {
        Ok(self.row()?.flow)
    }

    /// Its parameters, as JSON.
    ///
    /// # Errors
    /// When the run is not in the store any more.
    pub fn parameters(&self) -> Result<String> {
        Ok(self.row()?.parameters)
    }

    /// # Errors
    /// When the run is not in the store any more.
    pub fn state(&self) -> Result<State> {
        Ok(self.row()?.state)
    }

    /// Why it is in its state; empty where there is nothing to say.
    ///
    /// # Errors
    /// When the run is not in the store any more.
    pub fn reason(&self) -> Result<String> {
        Ok(self.row()?.reason)
    }

    /// Its tasks, in the order in which they were called first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks(&self) -> Result<Vec<TaskRow>> {
        store()?.tasks(&self.id)
    }

    /// What its tasks printed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn logs(&self) -> Result<Vec<FlowLog>> {
        store()?.logs(&self.id)
    }

    /// What it and its tasks went through, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn states(&self) -> Result<Vec<StateRow>> {
        store()?.states(&self.id)
    }

    /// Waits until it has ended, or waits for approval.
    ///
    /// # Errors
    /// When it ended badly; an interrupt ends the wait, not the run.
    pub fn wait(&self) -> Result<()> {
        loop {
            let row = self.row()?;
            match row.state {
                state if state.is_open() || state == State::Scheduled => {
                    skep_eval::poll();
                    thread::sleep(Duration::from_millis(20));
                }
                state if state.is_good() || state == State::Paused => return Ok(()),
                _ => return Err(error_of(&row)),
            }
        }
    }

    /// Stops it, also one that waits for approval. What had completed stays so.
    ///
    /// # Errors
    /// When it has ended, or runs in another process.
    pub fn cancel(&self) -> Result<()> {
        const WHY: &str = "somebody stopped it";
        if let Some(live) = Live::of(&self.id) {
            live.cancel(WHY);
            return Ok(());
        }
        let row = self.row()?;
        match row.state {
            State::Paused | State::Scheduled => store()?.write(&[Record::RunState {
                run: self.id.clone(),
                state: State::Cancelled,
                reason: WHY.into(),
                result: None,
                at_us: now_us(),
            }]),
            state if state.is_open() => Err(Error::Argument(
                Message::new(format!(
                    "the run {} runs in another notebook or program",
                    short(&self.id)
                ))
                .hint("it is stopped there: `Flow::run_of(…)?.cancel()?`, or an interrupt of the cell"),
            )),
            state => Err(Error::Argument(Message::new(format!(
                "the run {} has ended: it is {state}",
                short(&self.id)
            )))),
        }
    }

    /// Lets it go on, in this process: what had completed is taken from the store, and only the rest runs. One that has
    /// completed stays as it is.
    ///
    /// # Errors
    /// When its flow is not defined here, it is running, or it ends badly again.
    pub fn resume(&self) -> Result<Run<T>> {
        let row = self.row()?;
        if row.state.is_good() {
            return Ok(self.clone());
        }
        flow_named(&row.flow)?.resume(&row.id)?;
        Ok(Run::of(row.id))
    }

    /// As [`Run::resume`], for a run in which tasks failed: those run again, and what stands on them.
    ///
    /// # Errors
    /// As there, and when no task of it failed.
    pub fn rerun_failed(&self) -> Result<Run<T>> {
        let has_failed = self
            .tasks()?
            .iter()
            .any(|task| matches!(task.state, State::Failed | State::Crashed));
        if !has_failed {
            let row = self.row()?;
            return Err(Error::Argument(
                Message::new(format!(
                    "no task of the run {} of `{}` failed",
                    short(&row.id),
                    row.flow
                ))
                .hint(match row.state {
                    State::Completed => "it completed; `flow.run(…)` runs it anew",
                    _ => "`run.resume()?` does what had not completed",
                }),
            ));
        }
        self.resume()
    }

    /// Approves what it waits for, and lets it go on.
    ///
    /// # Errors
    /// When it does not wait for approval; then as [`Run::resume`].
    pub fn approve(&self) -> Result<Run<T>> {
        self.decide(true)?;
        self.resume()
    }

    /// Refuses what it waits for: the run fails.
    ///
    /// # Errors
    /// When it does not wait for approval.
    pub fn refuse(&self) -> Result<()> {
        self.decide(false)?;
        match self.resume() {
            Ok(_) => Ok(()),
            // Failing is what was asked for.
            Err(_) if self.state()? == State::Failed => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn decide(&self, is_granted: bool) -> Result<()> {
        let row = self.row()?;
        let name = row.reason.strip_prefix(WAITS);
        match (row.state, name) {
            (State::Paused, Some(name)) => store()?.approve(&row.id, name, is_granted),
            _ => Err(Error::Argument(Message::new(format!(
                "the run {} does not wait for approval: it is {}",
                short(&row.id),
                row.state
            )))),
        }
    }

    /// Removes it from the store, with its values.
    ///
    /// # Errors
    /// When it is running.
    pub fn forget(self) -> Result<()> {
        let row = self.row()?;
        if row.state.is_open() {
            return Err(error_of(&row));
        }
        store()?.forget(&row.id)
    }
}

impl<T: TaskValue> Run<T> {
    /// What its function returned; waits for a run in the background.
    ///
    /// # Errors
    /// When it ended badly, or waits for approval.
    pub fn result(&self) -> Result<T> {
        self.wait()?;
        let row = self.row()?;
        let wanted = std::any::type_name::<T>();
        match &row.result {
            Some(_) if row.state.is_good() && row.gives != wanted => Err(another_type(&row, wanted)),
            Some(bytes) if row.state.is_good() => {
                decoded(bytes).map_err(|error| Error::Serialisation(Message::new(error)))
            }
            _ => Err(error_of(&row)),
        }
    }
}

impl<T> fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Ok(row) => write!(f, "Run({} of {}: {})", short(&row.id), row.flow, row.state),
            Err(error) => write!(f, "Run({}: {error})", short(&self.id)),
        }
    }
}

/// Runs in the store, the newest last.
pub struct Runs {
    pub(crate) rows: Vec<RunRow>,
    /// The flow whose runs they are.
    pub(crate) flow: Option<String>,
}

impl Runs {
    pub(crate) fn of(flow: Option<&str>) -> Result<Runs> {
        Ok(Runs {
            rows: store()?.runs(flow)?,
            flow: flow.map(str::to_string),
        })
    }

    /// As they are in the store, the newest last.
    pub fn rows(&self) -> &[RunRow] {
        &self.rows
    }

    /// Those in this state.
    #[must_use]
    pub fn in_state(mut self, state: State) -> Runs {
        self.rows.retain(|row| row.state == state);
        self
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The newest that has begun.
    pub fn last(&self) -> Option<Run<()>> {
        let has_begun = |row: &&RunRow| row.state != State::Scheduled;
        self.rows
            .iter()
            .rfind(has_begun)
            .map(|row| Run::of(row.id.clone()))
    }

    /// By its place, the oldest first.
    pub fn get(&self, at: usize) -> Option<Run<()>> {
        self.rows.get(at).map(|row| Run::of(row.id.clone()))
    }

    pub fn iter(&self) -> impl Iterator<Item = Run<()>> + '_ {
        self.rows.iter().map(|row| Run::of(row.id.clone()))
    }
}

impl IntoIterator for Runs {
    type Item = Run<()>;
    type IntoIter = std::vec::IntoIter<Run<()>>;

    fn into_iter(self) -> Self::IntoIter {
        let runs: Vec<Run<()>> = self.iter().collect();
        runs.into_iter()
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> Rich for Run<T> {
    fn bundle(&self) -> Bundle {
        match self.row().and_then(|row| View::stored(&*store()?, &row)) {
            Ok(view) => view.bundle(),
            Err(error) => Bundle::text(format!("Run {}: {error}", short(self.id()))),
        }
    }
}

impl Rich for Runs {
    fn bundle(&self) -> Bundle {
        let rows = self.rows.iter().rev().map(|row| {
            let took = match (row.started_us, row.ended_us) {
                (Some(from), Some(to)) => duration(Duration::from_micros(to.saturating_sub(from))),
                _ => String::new(),
            };
            [
                short(&row.id).to_string(),
                row.flow.clone(),
                cut(&row.parameters, 40),
                row.state.to_string(),
                match row.state {
                    State::Scheduled => String::new(),
                    _ => ago(row.started_us.unwrap_or(row.created_us)),
                },
                took,
                cut(&row.reason, 80),
            ]
        });
        let card = Card::new(match self.rows.len() {
            0 => match &self.flow {
                Some(flow) => format!("The flow {flow} never ran"),
                None => "No flow has run yet".to_string(),
            },
            n => format!("{}, the newest first", plural(n, "run")),
        });
        card.table(
            ["run", "flow", "parameters", "state", "began", "took", "reason"],
            rows,
        )
        .bundle()
    }
}
