//! The course's data and checks. Cells call them as `course::…`; nothing is ever downloaded.

mod check;
mod flights;
mod poem;
mod verdict;

pub use check::{
    check_1_1, check_1_2, check_2_1, check_2_2, check_2_3, check_3_1, check_3_2, check_3_3, check_4_1,
    check_4_2, check_5_1, check_5_2, check_6_1, check_6_2, check_6_3, check_7_1, check_7_2,
};
pub use flights::{ROWS_A_YEAR, flights_year};
pub use poem::poem;
pub use verdict::Verdict;
