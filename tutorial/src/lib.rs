//! The course's data and checks. Cells call them as `course::…`; nothing is ever downloaded.

mod check;
mod flights;

pub use check::{Verdict, worst_airport};
pub use flights::{ROWS_A_YEAR, flights_year};
