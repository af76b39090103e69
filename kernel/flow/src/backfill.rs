//! Many runs of one flow, one for each of many parameters: Airflow's backfill.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use skep_cluster::{Error, Result};
use skep_render::{Bundle, Message, Rich, card::Card, plural};

use crate::{
    definition::{Definition, Parameters},
    flow::{Flow, parameters},
    function::{IntoArgs, Parameter},
    run::Run,
    state::State,
    store::{short, store},
};

/// Which parameters that had runs before run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reprocess {
    /// None: only those without a run.
    #[default]
    None,
    /// Those whose newest run did not complete; it goes on, rather than a new one.
    Failed,
    /// All.
    Completed,
}

/// Runs to be made, for [`Flow::backfill`].
pub struct Backfill {
    flow: Arc<Definition>,
    all: Result<Vec<Parameters>>,
    reprocess: Reprocess,
    most: usize,
}

/// What is done for one of the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    Run,
    /// The run of this id goes on.
    Resume(String),
    /// The run of this id is in this state.
    Skip(String, State),
}

impl<Args: Parameter, Out> Flow<Args, Out> {
    /// A run for each of these parameters, those that have none: `reprocess` says which others.
    ///
    /// ```no_run
    /// # use skep_flow::{Flow, Reprocess};
    /// # fn load(day: u32) -> u32 { day }
    /// let load = Flow::new("load", load);
    /// println!("{}", load.backfill(1..=31u32).dry_run()?);
    /// load.backfill(1..=31u32).reprocess(Reprocess::Failed).max_active_runs(2).run()?;
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    pub fn backfill<In: IntoArgs<Args>>(&self, all: impl IntoIterator<Item = In>) -> Backfill {
        let parameters = |args: In| parameters(&args.into_args());
        Backfill {
            flow: self.definition.clone(),
            all: all.into_iter().map(parameters).collect(),
            reprocess: Reprocess::None,
            most: 1,
        }
    }
}

impl Backfill {
    /// Which parameters that had runs before run again.
    #[must_use]
    pub fn reprocess(mut self, which: Reprocess) -> Self {
        self.reprocess = which;
        self
    }

    /// How many runs there are at once; one, if nothing is said.
    #[must_use]
    pub fn max_active_runs(mut self, n: usize) -> Self {
        self.most = n.max(1);
        self
    }

    /// What would be done, without doing it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn dry_run(&self) -> Result<Backfilled> {
        let rows = self.all()?.iter().zip(self.plans()?);
        Ok(Backfilled {
            title: format!("Backfill of {}, not done", self.flow.name),
            rows: rows.map(|(args, plan)| Filled::planned(args, plan)).collect(),
        })
    }

    fn all(&self) -> Result<&[Parameters]> {
        self.all.as_deref().map_err(Clone::clone)
    }

    fn plans(&self) -> Result<Vec<Plan>> {
        let store = store()?;
        let plan = |args: &Parameters| {
            let Some(row) = store.run_with(&self.flow.name, &args.json)? else {
                return Ok(Plan::Run);
            };
            Ok(match (self.reprocess, row.state) {
                (_, state) if state.is_open() => Plan::Skip(row.id, state),
                (Reprocess::Completed, state) if state.is_good() => Plan::Run,
                (Reprocess::Failed | Reprocess::Completed, state) if !state.is_good() => Plan::Resume(row.id),
                (_, state) => Plan::Skip(row.id, state),
            })
        };
        self.all()?.iter().map(plan).collect()
    }

    /// Makes the runs, in order, and waits for all. One that fails does not keep others from running.
    ///
    /// # Errors
    /// When some failed, after all have ended; when the store cannot be read.
    pub fn run(self) -> Result<Backfilled> {
        let (plans, all) = (self.plans()?, self.all()?);
        let todo: Mutex<VecDeque<(usize, Plan)>> = Mutex::new(
            plans
                .iter()
                .cloned()
                .enumerate()
                .filter(|(_, plan)| !matches!(plan, Plan::Skip(..)))
                .collect(),
        );
        let rows = all
            .iter()
            .zip(plans)
            .map(|(args, plan)| Filled::planned(args, plan));
        let rows: Mutex<Vec<Filled>> = Mutex::new(rows.collect());
        let work = || {
            loop {
                let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((at, plan)) = next else { return };
                let ended = match &plan {
                    Plan::Resume(id) => self.flow.resume(id),
                    // One at a time is shown while it runs, and an interrupt ends it.
                    _ if self.most == 1 => self.flow.run(&all[at]),
                    _ => self.flow.start(all[at].clone()).and_then(|id| {
                        let run: Run = Run::of(id.clone());
                        run.wait().map(|()| id)
                    }),
                };
                let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                rows[at].is_good = ended.is_ok();
                match ended {
                    Ok(id) => {
                        let run: Run = Run::of(id);
                        rows[at].run = run.id().to_string();
                        rows[at].what = run.state().map_or_else(|_| "?".into(), |state| state.to_string());
                    }
                    Err(error) => rows[at].what = error.message().what,
                }
            }
        };
        if self.most == 1 {
            work();
        } else {
            /// What has not begun does not begin when the cell is interrupted.
            struct Clears<'t>(&'t Mutex<VecDeque<(usize, Plan)>>);
            impl Drop for Clears<'_> {
                fn drop(&mut self) {
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
            }
            thread::scope(|scope| {
                let threads: Vec<_> = (0..self.most.min(all.len())).map(|_| scope.spawn(work)).collect();
                let _clears = Clears(&todo);
                while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                    skep_eval::poll();
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let filled = Backfilled {
            title: format!("Backfill of {}", self.flow.name),
            rows: rows.into_inner().unwrap_or_else(PoisonError::into_inner),
        };
        let bad: Vec<&Filled> = filled.rows.iter().filter(|row| !row.is_good).collect();
        match bad.first() {
            None => Ok(filled),
            Some(first) => Err(Error::Argument(
                Message::new(format!(
                    "{} of {} failed; the first, for {}: {}",
                    bad.len(),
                    plural(filled.rows.len(), "run"),
                    first.parameters,
                    first.what
                ))
                .hint("`.reprocess(Reprocess::Failed)` lets those go on that failed"),
            )),
        }
    }
}

/// What a backfill did, or would do.
#[derive(Clone, Debug)]
pub struct Backfilled {
    title: String,
    rows: Vec<Filled>,
}

#[derive(Clone, Debug)]
struct Filled {
    parameters: String,
    what: String,
    run: String,
    /// A run was made for it, or went on, or would.
    is_run: bool,
    is_good: bool,
}

impl Filled {
    fn planned(args: &Parameters, plan: Plan) -> Filled {
        let is_run = !matches!(plan, Plan::Skip(..));
        let (what, run) = match plan {
            Plan::Run => ("a new run".to_string(), String::new()),
            Plan::Resume(id) => ("goes on".to_string(), id),
            Plan::Skip(id, state @ (State::Failed | State::Crashed | State::Cancelled)) => (
                format!("nothing: it is {state}; `.reprocess(Reprocess::Failed)` lets it go on"),
                id,
            ),
            Plan::Skip(id, state) => (format!("nothing: it is {state}"), id),
        };
        Filled {
            parameters: args.json.clone(),
            what,
            run,
            is_run,
            is_good: true,
        }
    }
}

impl Backfilled {
    /// How many runs were made, or went on.
    pub fn n_runs(&self) -> usize {
        self.rows.iter().filter(|row| row.is_run).count()
    }
}

impl Rich for Backfilled {
    fn bundle(&self) -> Bundle {
        let rows = self.rows.iter().map(|row| {
            [
                row.parameters.clone(),
                row.what.clone(),
                short(&row.run).to_string(),
            ]
        });
        Card::new(format!(
            "{}: {} of {}",
            self.title,
            self.n_runs(),
            plural(self.rows.len(), "run")
        ))
        .table(["parameters", "what", "run"], rows)
        .bundle()
    }
}

impl std::fmt::Display for Backfilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.bundle().plain())
    }
}

/// Nothing has run yet: what would.
impl Rich for Backfill {
    fn bundle(&self) -> Bundle {
        match self.dry_run() {
            Ok(planned) => Bundle::text(format!("{planned}\n`.run()?` makes them")).with_html(format!(
                "{}<div>{}</div>",
                planned.bundle().get("text/html").unwrap_or_default(),
                skep_render::escape_words("`.run()?` makes them")
            )),
            Err(error) => Bundle::text(error.to_string()),
        }
    }
}
