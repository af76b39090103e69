//! The course: its lessons, as notebooks; their data, made from seeds, never downloaded; and how far a reader has come.
//!
//! A lesson is a Markdown file, `lessons/NN-name/lesson.md`: prose, cells (```` ```rust ````), and exercises with a cell to
//! begin from, three hints and a solution. This room knows no cluster: the checks of exercises, which read traces, are in
//! `skep::course`.

mod flights;
mod lesson;
mod notebook;
mod poem;
mod progress;
mod verdict;

pub use flights::{ROWS_A_YEAR, flights_year};
pub use lesson::{Exercise, Lesson, Part, Wrong};
pub use notebook::{notebook, overview};
pub use poem::poem;
pub use progress::{Progress, State, state_folder};
pub use verdict::Verdict;

/// The course's lessons, in their order.
///
/// # Panics
/// Never: that they can be read is tested.
pub fn lessons() -> Vec<Lesson> {
    TEXTS
        .iter()
        .map(|(folder, text)| {
            Lesson::parse(folder, text).expect("invariant: the course's lessons are tested")
        })
        .collect()
}

macro_rules! texts {
    ($($folder:literal),* $(,)?) => {
        const TEXTS: &[(&str, &str)] = &[$(($folder, include_str!(concat!("../lessons/", $folder, "/lesson.md")))),*];
    };
}

texts! {
    "01-what-a-cluster-is",
    "02-graphs",
    "03-futures",
    "04-journey-of-a-task",
    "05-frames",
    "06-when-things-go-wrong",
    "07-blocked-algorithms",
    "08-speed",
    "09-flows",
    "10-beyond-one-machine",
    "11-your-own-project",
}

/// The exercise with this number, `2.1`, and its lesson.
pub fn exercise(id: &str) -> Option<(Lesson, Exercise)> {
    lessons().into_iter().find_map(|lesson| {
        let found = lesson.exercises().find(|exercise| exercise.id == id).cloned();
        found.map(|exercise| (lesson, exercise))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lessons_can_be_read_and_are_what_they_promise() {
        for (folder, text) in TEXTS {
            let lesson = Lesson::parse(folder, text).unwrap_or_else(|wrong| panic!("{folder}: {wrong}"));
            assert!(folder.starts_with(&format!("{:02}-", lesson.number)), "{folder}");
            for exercise in lesson.exercises() {
                assert!(
                    exercise.id.starts_with(&format!("{}.", lesson.number)),
                    "{}",
                    exercise.id
                );
                assert!(
                    exercise.solution.lines().count() <= 16,
                    "{}: at most ten lines to write",
                    exercise.id
                );
            }
            for part in &lesson.parts {
                if let Part::Cell { code, .. } = part {
                    assert!(
                        code.lines().count() <= 16,
                        "{folder}: a cell of {} lines\n{code}",
                        code.lines().count()
                    );
                }
            }
        }
    }

    #[test]
    fn the_core_takes_ninety_minutes() {
        let core: u32 = lessons()
            .iter()
            .filter(|lesson| !lesson.is_elective)
            .map(|lesson| lesson.minutes)
            .sum();
        assert_eq!(core, 90);
        assert!(
            lessons()
                .iter()
                .flat_map(|lesson| lesson.exercises().cloned().collect::<Vec<_>>())
                .count()
                >= 15
        );
    }
}
