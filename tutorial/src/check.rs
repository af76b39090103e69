//! Checks of exercises: they say what is right, what is not, and where to look.

use skep_render::{Bundle, Rich, card::Card};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    exercise: &'static str,
    is_right: bool,
    text: String,
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        self.is_right
    }
}

impl Rich for Verdict {
    fn bundle(&self) -> Bundle {
        let (mark, state) = if self.is_right {
            ("✓", "done")
        } else {
            ("✗", "failed")
        };
        Card::new(format!("{mark} {}", self.exercise))
            .state(state)
            .note(self.text.clone())
            .bundle()
    }
}

/// Exercise 1.1: the airport whose flights leave latest on average.
pub fn worst_airport(answer: impl AsRef<str>) -> Verdict {
    let exercise = "Exercise 1.1: the airport with the latest departures";
    let answer = answer.as_ref().trim();
    let (is_right, text) = match answer {
        "EWR" => (true, "Right: flights from EWR leave latest on average."),
        "" | "?" => (
            false,
            "No answer yet. Hint: group the flights by `Origin`, take `col(\"DepDelay\").mean()`, and sort by it.",
        ),
        "JFK" | "LGA" => (
            false,
            "Not this one. Hint: look at the *mean* of `DepDelay`, and sort by it with the largest first: `.sort_descending([\"DepDelay\"])`.",
        ),
        _ => (
            false,
            "That is none of the three airports EWR, JFK and LGA. Hint: `answer` is a value of the column `Origin`.",
        ),
    };
    Verdict {
        exercise,
        is_right,
        text: text.to_string(),
    }
}

#[test]
fn every_wrong_answer_has_a_hint() {
    for answer in ["?", "", "JFK", "LGA", "SFO"] {
        let verdict = worst_airport(answer);
        assert!(!verdict.is_right() && verdict.text.contains("Hint:"), "{answer}");
    }
    assert!(worst_airport("EWR").is_right());
}
