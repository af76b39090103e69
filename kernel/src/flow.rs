//! `skep flow`: runs of flows from the command line, and flows that run at their times.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use skep_flow::{Flow, Run};
use skep_session::Message;

use crate::script;

#[derive(clap::Subcommand)]
pub enum What {
    /// List the runs in the store, the newest first.
    Runs {
        /// Of this flow alone.
        flow: Option<String>,
    },
    /// Show a run: its tasks, their states and times, what they printed.
    Show {
        /// Its id, or the beginning of it.
        run: String,
        /// What its tasks printed, instead.
        #[arg(long)]
        logs: bool,
    },
    /// Run the cells of a script or notebook, and then a flow that they define.
    Run {
        file: PathBuf,
        flow: String,
        /// As JSON: one value, or a list of several.
        #[arg(default_value = "[]")]
        parameters: String,
    },
    /// Run the cells of a script or notebook, and let a run of a flow that they define go on.
    Resume { file: PathBuf, run: String },
    /// Run the cells of a script or notebook, and approve what a run of a flow that they define waits for.
    Approve { file: PathBuf, run: String },
    /// Run the cells of a script or notebook, and refuse what a run of a flow that they define waits for.
    Refuse { file: PathBuf, run: String },
    /// Run the cells of a script or notebook, and then its flows that have a schedule, at their times, until Ctrl-C.
    Serve { file: PathBuf },
    /// Remove a run from the store, with its values.
    Forget { run: String },
}

pub fn run(what: What) -> anyhow::Result<u8> {
    match what {
        What::Runs { flow } => {
            let runs = match flow {
                Some(flow) => Flow::runs_of(&flow)?,
                None => Flow::runs()?,
            };
            print_plain(&runs);
        }
        What::Show { run, logs: false } => print_plain(&Flow::run_of(&run)?),
        What::Show { run, logs: true } => {
            for line in Flow::run_of(&run)?.logs()? {
                let _ = writeln!(
                    std::io::stdout(),
                    "{} on {}: {}",
                    line.task,
                    line.worker,
                    line.text
                );
            }
        }
        What::Run {
            file,
            flow,
            parameters,
        } => {
            serde_json::from_str::<serde_json::Value>(&parameters).with_context(|| {
                Message::new(format!("`{parameters}` is no JSON")).hint("text has quotes: '\"EWR\"'")
            })?;
            let call = format!("skep::Flow::run_named({flow:?}, {parameters:?})?");
            return then(&file, &call);
        }
        What::Resume { file, run } => {
            return of_run(&file, &run, "resume()?");
        }
        What::Approve { file, run } => return of_run(&file, &run, "approve()?"),
        What::Refuse { file, run } => return of_run(&file, &run, "refuse()?"),
        What::Serve { file } => {
            let code = then(&file, "skep::Flow::serve()?;")?;
            // That is how it ends.
            return Ok(if code == script::INTERRUPTED { 0 } else { code });
        }
        What::Forget { run } => {
            let run: Run<()> = Flow::run_of(&run)?;
            let id = run.id().to_string();
            run.forget()?;
            println!("the run {id} is gone");
        }
    }
    Ok(0)
}

fn of_run(file: &Path, run: &str, what: &str) -> anyhow::Result<u8> {
    let run = Flow::run_of(run)?;
    then(file, &format!("skep::Flow::run_of({:?})?.{what}", run.id()))
}

fn then(file: &Path, cell: &str) -> anyhow::Result<u8> {
    script::run_then(file, None, Some(cell))
}

fn print_plain(value: &dyn skep_session::Rich) {
    // Who reads may have seen enough: `skep flow runs | head`.
    let _ = writeln!(std::io::stdout(), "{}", value.bundle().plain());
}
