//! Checks of the lesson on flows: they ask runs, which remember how they went.

use skep_course::Verdict;
use skep_flow::{Run, State};

use super::said;

/// Exercise 9.1: a task that is tried again.
pub fn check_9_1<T>(run: &Run<T>) -> Verdict {
    Verdict::of("9.1", |verdict| {
        let tasks = run.tasks().map_err(said)?;
        let downloads: Vec<_> = tasks.iter().filter(|task| task.name == "download").collect();
        if downloads.is_empty() {
            return verdict.not_begun("`run` is a run of `reports`, and no `download` ran in it");
        }
        let state = run.state().map_err(said)?;
        verdict.holds(
            state == State::Completed,
            "the run completed".to_string(),
            format!("the run is {state}"),
        );
        let n_again = downloads.iter().filter(|task| task.attempt > 1).count();
        verdict.holds(
            n_again > 0,
            format!("{n_again} of {} downloads were tried again", downloads.len()),
            "no download was tried again: by chance none failed; run the cell once more".to_string(),
        );
        Ok(())
    })
}

/// Exercise 9.2: a value that was there.
pub fn check_9_2<T>(run: &Run<T>) -> Verdict {
    Verdict::of("9.2", |verdict| {
        let tasks = run.tasks().map_err(said)?;
        let renders: Vec<_> = tasks.iter().filter(|task| task.name == "render").collect();
        if renders.is_empty() {
            return verdict.not_begun("`run` is a run of `books`, and no `render` ran in it");
        }
        let state_of = |chapter: &str| {
            renders
                .iter()
                .find(|task| task.arguments.starts_with(chapter))
                .map(|task| task.state)
        };
        for chapter in ["1", "2", "3"] {
            let state = state_of(chapter);
            verdict.holds(
                state == Some(State::Cached),
                format!("chapter {chapter} was taken from an earlier run"),
                format!(
                    "chapter {chapter} is {}, not Cached",
                    state.map_or("not there", State::name)
                ),
            );
        }
        // In a second go at the lesson it was rendered before, too.
        let state = state_of("4");
        verdict.holds(
            state.is_some_and(State::is_good),
            "and there is a fourth".to_string(),
            format!(
                "chapter 4 is {}: a book of four is asked for",
                state.map_or("not there", State::name)
            ),
        );
        Ok(())
    })
}
