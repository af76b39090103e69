//! Questions to the analyser and its answers: one line of JSON each, over a socket in its folder.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The socket's name in the analyser's folder.
pub const SOCKET: &str = "socket";

/// After so long without a question the process ends, and its memory is free again: `SKEP_ASSIST_IDLE`
/// seconds, else 15 minutes.
pub fn idle_limit() -> Duration {
    let seconds = std::env::var("SKEP_ASSIST_IDLE")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15 * 60))
}

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
    /// The first words: which process this is, and how long it will read sources, where it has done so
    /// before.
    Here { pid: u32, left_ms: Option<u64> },
    /// The sources are read; questions are answered from now on.
    Ready,
    Completions {
        id: u64,
        start: usize,
        end: usize,
        candidates: Vec<Candidate>,
    },
    /// Markdown, or nothing where there is nothing to say.
    Hover { id: u64, markdown: Option<String> },
    /// It cannot work: why, and what to do.
    Failed { message: String },
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
