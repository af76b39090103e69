//! What tasks printed and what befell them and their workers, as lines.

use std::collections::VecDeque;

use crate::model::{
    event::Event,
    history::{LogKind, LogLine},
    ids::{FunctionId, Key, WorkerId},
};

/// The newest lines; older ones are dropped.
const MOST_LINES: usize = 20_000;

/// Of one line.
const LONGEST: usize = 2_000;

#[derive(Default)]
pub(crate) struct Logs {
    lines: VecDeque<LogLine>,
}

impl Logs {
    /// `function_of` tells the function of a task.
    pub fn apply(&mut self, event: &Event, now_us: u64, function_of: impl Fn(Key) -> Option<FunctionId>) {
        match event {
            Event::Printed {
                key,
                worker,
                is_stderr,
                text,
            } => {
                let kind = if *is_stderr {
                    LogKind::Stderr
                } else {
                    LogKind::Stdout
                };
                let task = key.map(|key| (key, function_of(key)));
                // A line that is longer than a task's print buffer comes in several parts.
                for line in text.lines() {
                    self.add(now_us, Some(*worker), task, kind, line);
                }
            }
            Event::Failed { key, why } => {
                self.add(
                    now_us,
                    None,
                    Some((*key, function_of(*key))),
                    LogKind::Failed,
                    why,
                );
            }
            Event::WorkerJoined { worker, pid } => {
                self.add(
                    now_us,
                    Some(*worker),
                    None,
                    LogKind::Worker,
                    // Of another engine's it is known later.
                    &match pid {
                        0 => "came up".to_string(),
                        pid => format!("came up as process {pid}"),
                    },
                );
            }
            Event::WorkerLost { worker, cause } => {
                self.add(
                    now_us,
                    Some(*worker),
                    None,
                    LogKind::Worker,
                    &format!("died: {cause}"),
                );
            }
            Event::WorkerRetired { worker } => {
                self.add(
                    now_us,
                    Some(*worker),
                    None,
                    LogKind::Worker,
                    "was dismissed: fewer were wanted",
                );
            }
            Event::WorkerPaused { worker } => {
                self.add(
                    now_us,
                    Some(*worker),
                    None,
                    LogKind::Worker,
                    "begins no task: its memory is nearly full",
                );
            }
            Event::WorkerSilent { worker, is_back } => {
                let text = if *is_back {
                    "answers again"
                } else {
                    "does not answer"
                };
                self.add(now_us, Some(*worker), None, LogKind::Worker, text);
            }
            _ => {}
        }
    }

    fn add(
        &mut self,
        at_us: u64,
        worker: Option<WorkerId>,
        task: Option<(Key, Option<FunctionId>)>,
        kind: LogKind,
        text: &str,
    ) {
        let mut text = text.to_string();
        if let Some((at, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(at);
            text.push('…');
        }
        self.lines.push_back(LogLine {
            at_us,
            worker,
            task: task.map(|(key, _)| key),
            function: task.and_then(|(_, function)| function),
            name: String::new(),
            kind,
            text,
        });
        if self.lines.len() > MOST_LINES {
            self.lines.pop_front();
        }
    }

    /// The lines with the names of their functions.
    pub fn lines(&self, name_of: impl Fn(FunctionId) -> String) -> Vec<LogLine> {
        let mut lines: Vec<LogLine> = self.lines.iter().cloned().collect();
        for line in &mut lines {
            line.name = line.function.map(&name_of).unwrap_or_default();
        }
        lines
    }
}
