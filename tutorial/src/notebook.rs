//! Lessons as Jupyter notebooks.

use serde_json::{Value, json};

use crate::{
    lesson::{Lesson, Part},
    progress::{Progress, State},
};

/// The notebook of a lesson, without outputs. With `is_solved`, its exercises are.
pub fn notebook(lesson: &Lesson, is_solved: bool) -> Value {
    let mut cells = vec![markdown(
        "title",
        &format!(
            "# Lesson {}: {}\n\n*{} minutes.* {}",
            lesson.number, lesson.title, lesson.minutes, lesson.about
        ),
    )];
    for (at, part) in lesson.parts.iter().enumerate() {
        let id = format!("part-{at}");
        cells.push(match part {
            Part::Prose(text) => markdown(&id, text),
            Part::Cell { code, fails, .. } => {
                let tags: &[&str] = if *fails { &["raises-exception"] } else { &[] };
                cell(&id, code, tags)
            }
            Part::Exercise(exercise) => {
                let code = if is_solved {
                    &exercise.solution
                } else {
                    &exercise.starter
                };
                cell(
                    &format!("exercise-{}", exercise.id.replace('.', "-")),
                    code,
                    &["exercise"],
                )
            }
        });
    }
    of(cells)
}

/// The notebook that opens first: what the course is, its lessons, and what the reader has done.
pub fn overview(lessons: &[Lesson], progress: &Progress) -> Value {
    let mut table = String::from("| | lesson | minutes | exercises | done |\n|---|---|---|---|---|\n");
    for lesson in lessons {
        let n = lesson.exercises().count();
        let done = lesson
            .exercises()
            .filter(|exercise| progress.of(&exercise.id).state == State::Done)
            .count();
        let elective = if lesson.is_elective { " (elective)" } else { "" };
        table.push_str(&format!(
            "| {} | [{}]({}/{}){elective}: {} | {} | {n} | {done} |\n",
            lesson.number,
            lesson.title,
            lesson.folder,
            lesson.file(),
            lesson.about,
            lesson.minutes
        ));
    }
    let text = include_str!("../lessons/overview.md").replace("{lessons}", table.trim_end());
    let cells = text
        .split("\n---\n")
        .enumerate()
        .map(|(at, part)| match part.trim().strip_prefix("```rust\n") {
            Some(code) => cell(
                &format!("part-{at}"),
                code.trim_end_matches("```").trim_end(),
                &[],
            ),
            None => markdown(&format!("part-{at}"), part.trim()),
        })
        .collect();
    of(cells)
}

fn of(cells: Vec<Value>) -> Value {
    json!({
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Rust (Skep)", "language": "rust", "name": "skep"},
            "language_info": {"name": "rust", "file_extension": ".rs", "mimetype": "text/rust"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    })
}

fn markdown(id: &str, text: &str) -> Value {
    json!({"cell_type": "markdown", "id": id, "metadata": {}, "source": text})
}

fn cell(id: &str, code: &str, tags: &[&str]) -> Value {
    let metadata = if tags.is_empty() {
        json!({})
    } else {
        json!({"tags": tags})
    };
    json!({
        "cell_type": "code",
        "execution_count": null,
        "id": id,
        "metadata": metadata,
        "outputs": [],
        "source": code,
    })
}
