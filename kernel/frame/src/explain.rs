//! What a frame will run, in words.

use std::{fmt, sync::Arc};

use skep_render::{Bundle, Rich, bytes, plural};

use crate::{
    plan::{From, Out, Slot, Stage, Stages},
    source::Source,
};

/// What [`Frame::explain`](crate::Frame::explain) says; a line for each stage.
pub struct Explained {
    lines: Vec<String>,
}

impl Explained {
    pub(crate) fn new(stages: &Stages, sources: &[Arc<Source>]) -> Explained {
        let lines = stages.stages.iter().map(|stage| line(stage, sources)).collect();
        Explained { lines }
    }

    /// A line for each stage.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

fn line(stage: &Stage, sources: &[Arc<Source>]) -> String {
    let mut steps: Vec<String> = Vec::new();
    let mut leaves: Vec<usize> = Vec::new();
    for from in stage.slots.iter().flat_map(Slot::feeds).flatten() {
        if let From::Leaf { leaf, .. } = from
            && !leaves.contains(leaf)
        {
            leaves.push(*leaf);
        }
    }
    for leaf in leaves {
        let source = &sources[leaf];
        steps.push(format!(
            "read {} ({}, {})",
            source.name,
            plural(source.n_partitions(), "partition"),
            source.where_it_is()
        ));
    }
    steps.extend(stage.words.iter().cloned());
    match &stage.out {
        Out::Whole => {}
        Out::Hash { n, .. } => steps.push(format!("shuffle into {n} by hash")),
        Out::Sample { .. } => steps.push("take samples of the order".to_string()),
        Out::Bounds { n } => steps.push(format!("choose the bounds of {n} ranges")),
        Out::Range { n, .. } => steps.push(format!("shuffle into {n} ranges")),
    }
    if steps.is_empty() {
        steps.push("bring partitions together".to_string());
    }
    let size = if stage.n_bytes >= 1.0 {
        format!(", about {}", bytes(stage.n_bytes as u64))
    } else {
        String::new()
    };
    format!(
        "{} [{}{size}] because {}",
        steps.join("; "),
        plural(stage.n, "task"),
        stage.why
    )
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines.iter().enumerate() {
            writeln!(f, "{}. {line}", i + 1)?;
        }
        Ok(())
    }
}

impl Rich for Explained {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.to_string().trim_end())
    }
}
