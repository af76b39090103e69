//! What a check found.

use skep_render::{Bundle, Rich, card::Card};

use crate::progress::Progress;

/// What a check found: line by line what is right and what is not.
///
/// ```
/// use skep_course::Verdict;
/// let answer = 41;
/// let verdict = Verdict::of("answer", |verdict| {
///     verdict.holds(answer == 42, "it is 42".to_string(), format!("it is not {answer}"));
///     Ok(())
/// });
/// assert!(!verdict.is_right());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    id: String,
    title: String,
    lines: Vec<(bool, String)>,
    begin: Option<String>,
}

impl Verdict {
    /// Runs a check, and remembers what it found. What fails in it is the reader's error, and a line like any other.
    pub fn of(id: &str, check: impl FnOnce(&mut Verdict) -> Result<(), String>) -> Verdict {
        let title = crate::exercise(id).map_or_else(String::new, |(_, exercise)| exercise.title);
        let mut verdict = Verdict {
            id: id.to_string(),
            title,
            lines: Vec::new(),
            begin: None,
        };
        if let Err(error) = check(&mut verdict) {
            verdict.lines.push((false, error));
        }
        // Exercises of other courses are theirs to remember.
        if verdict.begin.is_none() && !verdict.title.is_empty() {
            let path = Progress::path();
            let mut progress = Progress::read(&path);
            progress.checked(id, verdict.is_right());
            // Without a folder for it the course goes on; only what was done is forgotten.
            let _ = progress.write(&path);
        }
        verdict
    }

    /// A line: what holds, or what does not.
    pub fn holds(&mut self, is_so: bool, right: String, wrong: String) {
        self.lines.push((is_so, if is_so { right } else { wrong }));
    }

    /// The exercise is as it was given: what is to be done. Such a check is no try.
    ///
    /// # Errors
    /// None; it ends a check.
    pub fn not_begun(&mut self, what: &str) -> Result<(), String> {
        self.begin = Some(what.to_string());
        Ok(())
    }

    pub fn is_right(&self) -> bool {
        self.begin.is_none() && !self.lines.is_empty() && self.lines.iter().all(|(is_so, _)| *is_so)
    }

    /// Whether the cell is still the one to begin from.
    pub fn is_not_begun(&self) -> bool {
        self.begin.is_some()
    }
}

impl Rich for Verdict {
    fn bundle(&self) -> Bundle {
        let heading = match self.title.as_str() {
            "" => format!("Exercise {}", self.id),
            title => format!("Exercise {}: {title}", self.id),
        };
        if let Some(begin) = &self.begin {
            return Card::new(format!("○ {heading}"))
                .state("pending")
                .note(format!("not begun yet: {begin}"))
                .bundle();
        }
        let (mark, state) = if self.is_right() {
            ("✓", "done")
        } else {
            ("✗", "failed")
        };
        let mut card = Card::new(format!("{mark} {heading}")).state(state);
        for (is_so, text) in &self.lines {
            card = card.fact(if *is_so { "✓" } else { "✗" }, text);
        }
        if !self.is_right() && !self.title.is_empty() {
            card = card.note(format!("stuck? `:hint {}`", self.id));
        }
        card.bundle()
    }
}
