//! One notebook's life: the program, the evaluation process, and what they show.
//!
//! The Jupyter kernel and the terminal share everything here; they differ in their [`Face`], which is where output goes.

mod assist;
mod commands;
mod complete;
mod dep;
mod evaluator;
mod evcxr;
mod flow;
mod history;
mod home;
mod members;
mod notes;
mod progress;
mod scope;
pub mod script;
mod session;
mod wrap;

pub use commands::{COMMANDS, Command};
pub use complete::{Completion, completeness};
pub use evaluator::Evaluator;
pub use history::{Entry, History};
pub use home::{Home, Private, cache_folder};
pub use session::{Execute, Handle, Reply, Session};
pub use skep_assist::wire::Candidate;
pub use skep_cell::{CellError, Completeness};
pub use skep_render::{Bundle, text::set_columns};
pub use wrap::{Prebuilt, wrap_rustc};

/// Something a cell shows, in the order it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Text { is_stderr: bool, text: String },
    Result(Bundle),
    Display { id: Option<String>, bundle: Bundle },
    UpdateDisplay { id: String, bundle: Bundle },
    ClearOutput { wait: bool },
}

/// Where a session's output goes. Calls come from one thread at a time, in order.
pub trait Face: Send + Sync {
    /// `cell` is the one that runs, or the last that ran: threads may print after their cell has ended.
    fn output(&self, cell: u32, output: Output);

    /// Asks the person for a line; `None` where nobody can answer.
    fn ask(&self, cell: u32, prompt: &str, password: bool) -> Option<String>;
}
