//! Stages of a query: who makes one says so in a tag of its tasks, and whoever reads events finds it there.

use std::{fmt, str::FromStr};

/// The tasks with this tag do the same to the parts of a query's data. As text: `stage 2 of frame 5: join on k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Counted from 1 in each process that makes queries.
    pub query: u64,
    /// Counted from 1.
    pub number: u32,
    /// In words.
    pub what: String,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} of frame {}: {}", self.number, self.query, self.what)
    }
}

impl FromStr for Stage {
    type Err = ();

    /// # Errors
    /// For tags that are something else.
    fn from_str(tag: &str) -> Result<Stage, ()> {
        let parts = || {
            let (numbers, what) = tag.strip_prefix("stage ")?.split_once(": ")?;
            let (number, query) = numbers.split_once(" of frame ")?;
            Some(Stage {
                query: query.parse().ok()?,
                number: number.parse().ok()?,
                what: what.to_string(),
            })
        };
        parts().ok_or(())
    }
}

#[test]
fn stages_are_read_as_they_are_written() {
    let stage = Stage {
        query: 5,
        number: 2,
        what: "join: on k".into(),
    };
    assert_eq!(stage.to_string().parse(), Ok(stage));
    for other in [
        "",
        "stage",
        "stage x of frame 1: y",
        "stage 1 of frame 2",
        "nightly",
    ] {
        assert_eq!(other.parse::<Stage>(), Err(()), "{other}");
    }
}
