//! What cells of the course call: its data, and the checks of its exercises.

mod beyond;
mod check;
mod flows;
#[cfg(feature = "frames")]
mod frames;
mod project;
mod speed;

pub use beyond::{check_10_1, check_10_2, check_10_3};
pub use check::{
    check_1_1, check_1_2, check_2_1, check_2_2, check_2_3, check_3_1, check_3_2, check_3_3, check_4_1,
    check_4_2, check_6_1, check_6_2, check_6_3, check_7_1, check_7_2,
};
pub use flows::{check_9_1, check_9_2};
#[cfg(feature = "frames")]
pub use frames::{check_5_1, check_5_2, check_9_3};
pub use project::{check_11_1, check_11_2, check_11_3};
pub use skep_course::{ROWS_A_YEAR, Verdict, flights_year, poem};
pub use speed::{check_8_1, check_8_2, check_8_3};

/// An error in its own words.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
