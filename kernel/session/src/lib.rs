//! One notebook's life: the program, the evaluation process, and what they show.
//!
//! The Jupyter kernel and the terminal share everything here; they differ in their [`Frontend`], which is
//! where output goes.

mod assist;
mod commands;
mod complete;
mod controls;
mod deps;
mod errors;
mod evaluator;
mod execute;
mod frames;
mod frontend;
mod history;
mod home;
mod output;
mod run;
mod scope;
pub mod script;
mod state;
mod turns;
mod typed;
mod view;

pub use commands::project;
pub use commands::{COMMANDS, Command};
pub use complete::{Completion, completeness};
pub use deps::{
    crates_of_earlier_builds,
    wrap::{Prebuilt, wrap_rustc},
};
pub use evaluator::Evaluator;
pub use execute::{Execute, Reply};
pub use frontend::{Frontend, Output};
pub use history::{Entry, History};
pub use home::{Home, Private, cache_folder};
#[doc(hidden)]
pub use scope::named_types;
pub use skep_assist::wire::Candidate;
pub use skep_cell::{CellError, Completeness};
pub use skep_render::{Bundle, Message, Rich, control, text::set_columns};
pub use state::{Handle, Session};
pub use typed::split_typed;
