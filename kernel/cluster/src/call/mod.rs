//! What makes a function callable in another process: where its code is, how its arguments are read, what it
//! may do while it runs.

pub mod code;
pub mod context;
pub(crate) mod locate;
pub mod thunk;
