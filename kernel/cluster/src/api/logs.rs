//! The log of a cluster, as people look at it.

use std::fmt;

use skep_render::{Bundle, Rich, card::Card};

use crate::{
    api::cluster::Cluster,
    model::{
        error::Result,
        history::{LogKind, LogLine},
    },
};

/// Lines of a cluster's log, oldest first; see [`Cluster::logs`].
#[derive(Clone)]
pub struct Logs {
    lines: Vec<LogLine>,
}

/// So many lines are shown, the newest.
const MOST_SHOWN: usize = 200;

impl Cluster {
    /// What tasks printed, what they failed with, and what befell workers: the newest 20,000 lines, each with its time,
    /// worker and task.
    ///
    /// ```no_run
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let of_one = cluster.logs()?.of_worker(1);
    /// println!("{of_one:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn logs(&self) -> Result<Logs> {
        let lines = self.client.logs()?;
        Ok(Logs { lines })
    }
}

impl Logs {
    pub fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    /// Those of one worker.
    #[must_use]
    pub fn of_worker(&self, worker: u32) -> Logs {
        self.filtered(|line| line.worker.is_some_and(|id| id.0 == worker))
    }

    /// Those of the tasks of one function, by its name.
    #[must_use]
    pub fn of_function(&self, name: &str) -> Logs {
        self.filtered(|line| line.name == name)
    }

    fn filtered(&self, keep: impl Fn(&LogLine) -> bool) -> Logs {
        Logs {
            lines: self.lines.iter().filter(|line| keep(line)).cloned().collect(),
        }
    }
}

/// The time of day in UTC.
fn time(at_us: u64) -> String {
    let ms = at_us / 1000 % 86_400_000;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", ms % 1000)
}

fn columns(line: &LogLine) -> [String; 4] {
    let what = match line.kind {
        LogKind::Failed => format!("{} failed", line.name),
        LogKind::Stderr => format!("{} (stderr)", line.name),
        LogKind::Stdout | LogKind::Worker => line.name.clone(),
    };
    let worker = line.worker.map(|worker| worker.to_string()).unwrap_or_default();
    [time(line.at_us), worker, what, line.text.clone()]
}

/// A line each, as in a file.
impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines.iter().enumerate() {
            let [time, worker, what, text] = columns(line);
            let words: Vec<&str> = [worker.as_str(), what.as_str()]
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect();
            let break_before = if i == 0 { "" } else { "\n" };
            write!(f, "{break_before}{time} {}: {text}", words.join(" "))?;
        }
        Ok(())
    }
}

impl Rich for Logs {
    fn bundle(&self) -> Bundle {
        let shown = &self.lines[self.lines.len().saturating_sub(MOST_SHOWN)..];
        let n = skep_render::plural(self.lines.len(), "line");
        let card = Card::new(format!("Log: {n}")).table(
            ["time (UTC)", "worker", "task", "what"],
            shown.iter().map(columns),
        );
        let card = match self.lines.len() - shown.len() {
            0 => card,
            n_more => card.note(format!(
                "{} before these: `.lines()` has them all",
                skep_render::plural(n_more, "line")
            )),
        };
        card.bundle()
    }
}
