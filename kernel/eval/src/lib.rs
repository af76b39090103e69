//! The evaluation process: it loads compiled cells, keeps the notebook's variables, and shows values.
//!
//! This crate is linked into `libskep.so`, so that every cell and the process that runs it share one copy of
//! the variable store. The host (kernel or REPL) links it too, for the messages in [`wire`] only. It knows
//! nothing of Jupyter, clusters or Polars: richer values join in through [`Rich`].

pub mod cell;
mod control;
mod display;
mod errors;
mod input;
mod interrupt;
mod link;
mod local;
pub mod look;
mod measure;
mod panics;
mod place;
mod process;
pub mod show;
mod store;
pub mod wire;

pub use control::{
    Bounds, Clicks, Control, Inputs, Number, button, checkbox, interact, number, select, slider, text,
};
pub use display::{DisplayHandle, MOVING, Moving, clear_output, display};
pub use input::{input, password, read_stdin};
pub use interrupt::{
    Interrupted, adopt_flag, interrupted, lower_flag, on_interrupt, poll, raise_flag, sleep,
};
pub use link::{code_needed, current_cell, note, result};
pub use panics::panic_message;
pub use process::serve;
pub use show::Shown;
pub use skep_render::{Bundle, Rich};
