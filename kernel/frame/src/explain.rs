//! What a frame will run, in words.

use std::{fmt, sync::Arc, time::Duration};

use skep_cluster::{End, Journey};
use skep_render::{Bundle, Rich, bytes, duration, plural};

use crate::{
    plan::{From, Out, Slot, Stage, Stages},
    source::Source,
};

/// What [`Frame::explain`](crate::Frame::explain) says; a line for each stage.
pub struct Explained {
    lines: Vec<String>,
    notes: Vec<String>,
}

/// What the tasks of a stage took in the last run.
pub(crate) struct Measured {
    n_bytes: u64,
    n_rows: Option<u64>,
    took: Duration,
    longest: Duration,
    median: Duration,
    moved: u64,
}

impl Measured {
    /// `None` if not all of them are known.
    pub fn of(journeys: &[Option<Journey>]) -> Option<Measured> {
        let mut times = Vec::new();
        let (mut n_bytes, mut moved) = (0, 0);
        let mut n_rows = Some(0);
        for journey in journeys {
            let journey = journey.as_ref()?;
            n_rows = n_rows.zip(journey.n_rows).map(|(sum, n)| sum + n);
            let last = journey
                .attempts
                .iter()
                .rfind(|attempt| attempt.end == End::Done)?;
            times.push(Duration::from_micros(last.duration_us));
            n_bytes += last.n_bytes;
            moved += last.moved_bytes;
        }
        times.sort_unstable();
        Some(Measured {
            n_bytes,
            n_rows,
            moved,
            took: times.iter().sum(),
            longest: *times.last()?,
            median: times[times.len() / 2],
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "took {} in all, gave ", duration(self.took))?;
        if let Some(n_rows) = self.n_rows {
            write!(f, "{}, ", plural(n_rows as usize, "row"))?;
        }
        write!(f, "{}", bytes(self.n_bytes))?;
        if self.moved > 0 {
            write!(f, ", moved {}", bytes(self.moved))?;
        }
        let skew = self.longest.as_secs_f64() / self.median.as_secs_f64().max(1e-6);
        if skew >= 2.0 && self.longest > Duration::from_millis(20) {
            write!(
                f,
                "; one task took {}, {skew:.0} times the median",
                duration(self.longest)
            )?;
        }
        Ok(())
    }
}

impl Explained {
    pub(crate) fn new(stages: &Stages, sources: &[Arc<Source>], measured: &[Option<Measured>]) -> Explained {
        let mut lines: Vec<String> = stages.stages.iter().map(|stage| line(stage, sources)).collect();
        for (line, measured) in lines.iter_mut().zip(measured) {
            if let Some(measured) = measured {
                line.push_str(&format!("\n   {measured}"));
            }
        }
        Explained {
            lines,
            notes: stages.notes.clone(),
        }
    }

    /// A text for each stage.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What may become trouble.
    pub fn notes(&self) -> &[String] {
        &self.notes
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
        for note in &self.notes {
            writeln!(f, "! {note}")?;
        }
        Ok(())
    }
}

impl Rich for Explained {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.to_string().trim_end())
    }
}
