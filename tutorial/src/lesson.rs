//! A lesson's text, read.

use std::fmt;

/// A lesson.
#[derive(Clone, Debug)]
pub struct Lesson {
    pub number: u32,
    pub title: String,
    /// One line on what it teaches.
    pub about: String,
    pub minutes: u32,
    pub is_elective: bool,
    /// `02-graphs`.
    pub folder: String,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub enum Part {
    Prose(String),
    Cell {
        code: String,
        /// It is meant to fail.
        fails: bool,
        /// It is meant to take its time.
        is_slow: bool,
    },
    Exercise(Exercise),
}

/// Something to do.
#[derive(Clone, Debug)]
pub struct Exercise {
    /// `2.1`.
    pub id: String,
    pub title: String,
    pub minutes: u32,
    /// The cell to begin from.
    pub starter: String,
    pub solution: String,
    /// A nudge, a name, a skeleton.
    pub hints: Vec<String>,
}

/// Why a text is no lesson.
#[derive(Debug)]
pub struct Wrong {
    line: usize,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Wrong {}

impl Lesson {
    /// Reads a lesson from the text of its `lesson.md`.
    ///
    /// The first lines are `# 2. Title`, `minutes: 15`, `about: one line`, and for an elective `elective`. A heading
    /// `## Exercise 2.1: title (3 minutes)` begins an exercise; below it stand its prose, one cell ```` ```rust exercise ````,
    /// three texts ```` ```hint ```` and one ```` ```rust solution ````. Cells that are meant to fail are
    /// ```` ```rust fails ````, those that take more than five seconds ```` ```rust slow ````.
    ///
    /// # Errors
    /// With the line, when it is not of this form.
    pub fn parse(folder: &str, text: &str) -> Result<Lesson, Wrong> {
        let wrong = |line: usize, what: &str| Wrong {
            line: line + 1,
            what: what.to_string(),
        };
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.first().copied().unwrap_or_default();
        let (number, title) = first
            .strip_prefix("# ")
            .and_then(|title| title.split_once(". "))
            .and_then(|(number, title)| Some((number.parse().ok()?, title.to_string())))
            .ok_or_else(|| wrong(0, "a lesson begins with `# NUMBER. TITLE`"))?;
        let mut lesson = Lesson {
            number,
            title,
            about: String::new(),
            minutes: 0,
            is_elective: false,
            folder: folder.to_string(),
            parts: Vec::new(),
        };
        let mut at = 1;
        while at < lines.len() && !lines[at].is_empty() {
            match lines[at].split_once(": ") {
                Some(("minutes", minutes)) => {
                    lesson.minutes = minutes.parse().map_err(|_| wrong(at, "minutes are a number"))?;
                }
                Some(("about", about)) => lesson.about = about.to_string(),
                _ if lines[at] == "elective" => lesson.is_elective = true,
                _ => {
                    return Err(wrong(
                        at,
                        "only `minutes: …`, `about: …` and `elective` stand here",
                    ));
                }
            }
            at += 1;
        }
        if lesson.minutes == 0 || lesson.about.is_empty() {
            return Err(wrong(
                at,
                "a lesson says its `minutes: …` and what it is `about: …`",
            ));
        }
        let mut prose: Vec<&str> = Vec::new();
        let mut open: Option<(usize, Exercise)> = None;
        while at < lines.len() {
            let line = lines[at];
            if let Some(kind) = line.strip_prefix("```")
                && matches!(kind.split(' ').next(), Some("rust" | "hint"))
            {
                let begin = at + 1;
                let end = (begin..lines.len())
                    .find(|at| lines[*at] == "```")
                    .ok_or_else(|| wrong(at, "this block has no end"))?;
                let code = lines[begin..end].join("\n");
                if kind != "hint" && kind != "rust solution" {
                    lesson.put(&mut prose);
                }
                match (kind, &mut open) {
                    ("rust exercise", Some((_, exercise))) => {
                        exercise.starter = code;
                        // The solution and the hints stand below; the reader sees the cell here.
                        lesson.parts.push(Part::Exercise(exercise.clone()));
                    }
                    ("rust solution", Some((_, exercise))) => exercise.solution = code,
                    ("hint", Some((_, exercise))) => exercise.hints.push(code),
                    ("rust exercise" | "rust solution" | "hint", None) => {
                        return Err(wrong(at, "it belongs below `## Exercise …`"));
                    }
                    (kind, _) => lesson.parts.push(Part::Cell {
                        code,
                        fails: kind == "rust fails",
                        is_slow: kind == "rust slow",
                    }),
                }
                at = end + 1;
                continue;
            }
            if line.starts_with("## ") {
                lesson.close(&mut open)?;
            }
            if let Some(heading) = line.strip_prefix("## Exercise ") {
                let parsed = heading.split_once(": ").zip(heading.rsplit_once(" (")).and_then(
                    |((id, _), (title, minutes))| {
                        let minutes = minutes.strip_suffix(" minutes)")?.parse().ok()?;
                        Some((id.to_string(), title.split_once(": ")?.1.to_string(), minutes))
                    },
                );
                let (id, title, minutes) = parsed.ok_or_else(|| {
                    wrong(
                        at,
                        "an exercise's heading is `## Exercise 2.1: title (3 minutes)`",
                    )
                })?;
                open = Some((
                    at,
                    Exercise {
                        id,
                        title,
                        minutes,
                        starter: String::new(),
                        solution: String::new(),
                        hints: Vec::new(),
                    },
                ));
            }
            prose.push(line);
            at += 1;
        }
        lesson.put(&mut prose);
        lesson.close(&mut open)?;
        Ok(lesson)
    }

    fn put(&mut self, prose: &mut Vec<&str>) {
        let text = prose.join("\n").trim().to_string();
        prose.clear();
        if !text.is_empty() {
            self.parts.push(Part::Prose(text));
        }
    }

    /// Fills in the exercise whose blocks have all been seen.
    fn close(&mut self, open: &mut Option<(usize, Exercise)>) -> Result<(), Wrong> {
        let Some((line, exercise)) = open.take() else {
            return Ok(());
        };
        let missing = if exercise.starter.is_empty() {
            "a cell to begin from (```rust exercise)"
        } else if exercise.solution.is_empty() {
            "a solution (```rust solution)"
        } else if exercise.hints.len() != 3 {
            "three hints (```hint): a nudge, a name, a skeleton"
        } else {
            let id = &exercise.id;
            let place = self
                .parts
                .iter_mut()
                .find(|part| matches!(part, Part::Exercise(known) if known.id == *id));
            if let Some(place) = place {
                *place = Part::Exercise(exercise);
            }
            return Ok(());
        };
        Err(Wrong {
            line: line + 1,
            what: format!("exercise {} lacks {missing}", exercise.id),
        })
    }

    pub fn exercises(&self) -> impl Iterator<Item = &Exercise> {
        self.parts.iter().filter_map(|part| match part {
            Part::Exercise(exercise) => Some(exercise),
            _ => None,
        })
    }

    /// The notebook's file name, `graphs.ipynb`.
    pub fn file(&self) -> String {
        let name = self
            .folder
            .split_once('-')
            .map_or(self.folder.as_str(), |(_, name)| name);
        format!("{name}.ipynb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# 2. Graphs\nminutes: 15\nabout: calls of calls\n\nProse.\n\n```rust\n1 + 1\n```\n\n## Exercise 2.1: Add (3 minutes)\n\nAdd.\n\n```rust exercise\nlet x = 0;\n```\n\n```hint\na\n```\n\n```hint\nb\n```\n\n```hint\nc\n```\n\n```rust solution\nlet x = 1;\n```\n\n## After\n\n```rust fails\npanic!()\n```\n";

    #[test]
    fn a_lesson_is_read() {
        let lesson = Lesson::parse("02-graphs", TEXT).expect("it is one");
        assert_eq!(
            (lesson.number, lesson.minutes, lesson.file().as_str()),
            (2, 15, "graphs.ipynb")
        );
        let exercise = lesson.exercises().next().expect("there is one");
        assert_eq!(
            (exercise.title.as_str(), exercise.minutes, exercise.hints.len()),
            ("Add", 3, 3)
        );
        assert_eq!(exercise.solution, "let x = 1;");
        assert!(matches!(
            lesson.parts.last(),
            Some(Part::Cell { fails: true, .. })
        ));
        assert_eq!(lesson.parts.len(), 6);
    }

    #[test]
    fn what_is_missing_is_said_with_its_line() {
        for (from, to, what) in [
            ("# 2. Graphs", "Graphs", "line 1: a lesson begins with"),
            ("minutes: 15", "minutes: many", "line 2: minutes are a number"),
            ("```hint\nc\n```", "", "exercise 2.1 lacks three hints"),
            ("```rust solution\nlet x = 1;\n```", "", "lacks a solution"),
            ("(3 minutes)", "", "an exercise's heading is"),
            ("panic!()\n```", "panic!()", "this block has no end"),
        ] {
            let error = Lesson::parse("02-graphs", &TEXT.replace(from, to))
                .expect_err(what)
                .to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
