//! Collections in pieces: bags of items and blocked arrays.
//!
//! Both are lazy. A piece is a delayed call, or a value that a worker holds; an operation adds one task to each piece, and
//! what must see all pieces (a sum, a matrix product) is a tree of tasks. They are what Dask's bag and array chapters
//! teach, and no more: for tables there are frames.
//!
//! Errors of building (shapes that do not fit, files that are not there) are kept, and come from whatever runs the
//! collection: so expressions read as on plain arrays.

mod arithmetic;
mod axes;
mod bag;
mod blocked;
mod chunk;
mod dims;
mod piece;
mod reduce;
mod text;

pub use axes::Axes;
pub use bag::Bag;
pub use blocked::Blocked;
pub use dims::Lengths;
pub use ndarray;
pub use reduce::Dot;

/// Makes arrays travel as they are in memory. Called once by every process that takes part.
pub fn init() {
    dims::register();
}
