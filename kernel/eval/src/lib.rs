//! The evaluation process: it loads compiled cells, keeps the notebook's variables, and shows values.
//!
//! This crate is linked into `libskep.so`, so that every cell and the process that runs it share one copy of the
//! variable store. The host (kernel or REPL) links it too, for the messages in [`wire`] only. It knows nothing of
//! Jupyter, clusters or Polars: richer values join in through [`Rich`].

pub mod cell;
mod interrupt;
mod local;
pub mod look;
mod measure;
mod process;
pub mod show;
mod store;
pub mod wire;

pub use interrupt::{Interrupted, adopt_flag, interrupted, lower_flag, on_interrupt, poll, raise_flag, sleep};
pub use process::{DisplayHandle, clear_output, code_needed, display, input, password, read_stdin, result, serve};
pub use show::Shown;
pub use skep_render::{Bundle, Rich};
