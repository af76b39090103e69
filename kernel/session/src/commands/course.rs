//! `:hint`, `:solution`: help with the course's exercises.

use skep_cell::CellError;
use skep_course::{Exercise, Progress, State};
use skep_render::{Bundle, Message};

use super::{Call, failed};
use crate::state::{Handle, Session};

/// Hints after which a solution is shown.
const ENOUGH: u32 = 2;

fn find(id: &str) -> Result<Exercise, Message> {
    let id = id.trim();
    if id.is_empty() {
        return Err(Message::new("which exercise?").hint("`:hint 1.1`: lesson 1, its first exercise"));
    }
    skep_course::exercise(id)
        .map(|(_, exercise)| exercise)
        .ok_or_else(|| {
            let known: Vec<String> = skep_course::lessons()
                .iter()
                .flat_map(|lesson| {
                    lesson
                        .exercises()
                        .map(|exercise| exercise.id.clone())
                        .collect::<Vec<_>>()
                })
                .collect();
            Message::new(format!("the course has no exercise {id}"))
                .hint(format!("it has {}", known.join(", ")))
        })
}

fn remember(change: impl FnOnce(&mut Progress) -> u32) -> u32 {
    let path = Progress::path();
    let mut progress = Progress::read(&path);
    let found = change(&mut progress);
    // Without a folder for it the course goes on; only how many hints were seen is forgotten.
    let _ = progress.write(&path);
    found
}

pub(super) fn hint(_: &Handle, args: &str) -> Result<Bundle, Message> {
    let exercise = find(args)?;
    let n_seen = remember(|progress| progress.hinted(&exercise.id)) as usize;
    let at = n_seen.min(exercise.hints.len() - 1);
    let text = &exercise.hints[at];
    // The last one is a skeleton: code.
    let text = if at == exercise.hints.len() - 1 {
        format!("```rust\n{text}\n```")
    } else {
        text.replace('\n', " ")
    };
    let more = if at + 1 < exercise.hints.len() {
        format!("`:hint {}` again says more.", exercise.id)
    } else {
        format!("`:solution {}` shows a solution.", exercise.id)
    };
    Ok(Bundle::markdown(format!(
        "**Exercise {}, hint {} of {}**\n\n{text}\n\n{more}",
        exercise.id,
        at + 1,
        exercise.hints.len()
    )))
}

pub(super) fn solution(session: &mut Session, call: &Call) -> Result<Option<Bundle>, CellError> {
    let exercise = find(call.args).map_err(failed)?;
    let entry = Progress::read(&Progress::path()).of(&exercise.id);
    if entry.state != State::Done && entry.n_hints < ENOUGH {
        return Err(failed(
            Message::new(format!(
                "the solution of exercise {} is shown when you have solved it, or after two hints",
                exercise.id
            ))
            .hint(format!("`:hint {}`", exercise.id)),
        ));
    }
    session.next_input = Some(exercise.solution.clone());
    Ok(Some(Bundle::markdown(format!(
        "**Exercise {}: a solution**\n\n```rust\n{}\n```",
        exercise.id, exercise.solution
    ))))
}
