//! Calls that have not run, the functions that can be called, and the methods of actors.

#[doc(hidden)]
pub mod concrete;
mod kinds;
pub(crate) mod method;
pub(crate) mod node;
pub(crate) mod task_fn;
