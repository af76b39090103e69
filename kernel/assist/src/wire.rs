//! Questions to the analyser and its answers: one line of JSON each, on its standard input and output.

use serde::{Deserialize, Serialize};

/// A question about `source`, a whole program. Offsets count bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub id: u64,
    pub source: String,
    pub offset: usize,
    pub kind: QuestionKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuestionKind {
    Complete,
    Hover,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The sources are read; questions are answered from now on.
    Ready,
    Completions {
        id: u64,
        start: usize,
        end: usize,
        candidates: Vec<Candidate>,
    },
    /// Markdown, or nothing where there is nothing to say.
    Hover {
        id: u64,
        markdown: Option<String>,
    },
    /// It cannot work: why, and what to do.
    Failed {
        message: String,
    },
}

/// One way to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What replaces the text between start and end.
    pub insert: String,
    /// `function`, `method`, `struct`, `variable`, `keyword`, …
    pub kind: String,
    /// `fn(&self, by: usize) -> i64`, or the type of a variable or field.
    pub signature: String,
    /// The first paragraph of its documentation.
    pub summary: String,
}
