//! One cell: parse it, make it a program, compile it, and say what went wrong in the user's own lines.
//!
//! The notebook is one growing program. Each cell is compiled as that program with a new entry point: the
//! items defined so far are included as they stand, and the cell's statements become a function. Running the
//! result belongs to the evaluation process. This crate knows neither Jupyter nor clusters nor Polars: what
//! is in scope comes from [`Toolchain`].

mod assemble;
mod body;
mod captures;
mod commit;
mod compile;
mod completeness;
mod definition;
mod imports;
mod members;
mod mentions;
mod model;
mod names;
mod outputs;
mod parse;
mod pieces;
mod program;
mod reach;
mod recover;
mod report;
mod signature;
mod splice;
mod stale;
mod statics;
mod task_library;
mod tasks;
mod words;

pub use commit::Commit;
pub use compile::{Cancel, Compiler, Extra, Failure, Optimise, Toolchain};
pub use completeness::{Completeness, completeness};
pub use members::{Member, members};
pub use model::{Compiled, Prepared, Purpose, Request, Variable};
pub use names::{KnownNames, Phrase, mentions_type};
pub use outputs::{cell_of_output, output_name, with_outputs};
pub use pieces::{Piece, Pieces, pieces};
pub use program::Notebook;
pub use report::{CellError, Place, Reason, in_cells};
pub use task_library::TaskLibrary;
