//! What a block of code did on the cluster.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use skep_render::{Bundle, Rich, bytes, card::Card, count, duration, stream};

use crate::{
    api::{cluster::Cluster, history, what_if::WhatIf},
    engine::client::Client,
    model::{
        error::{Error, Result},
        history::History,
        recording::Recording,
    },
    observe::report::page,
};

/// What ran on the cluster while a block of code did; see [`Cluster::performance`].
pub struct Performance {
    took: Duration,
    n_threads: usize,
    history: History,
    /// `None` where the engine keeps none.
    recording: Option<Recording>,
}

impl Cluster {
    /// Runs a block of code, and tells what its tasks did meanwhile: by function, by thread, how busy the workers were, what
    /// moved, how much memory was held.
    ///
    /// ```no_run
    /// # fn slow(x: i64) -> i64 { x }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let (total, performance) = cluster.performance(|| {
    ///     let handles = cluster.map(slow, 0..100);
    ///     Ok::<i64, skep_cluster::Error>(cluster.gather(handles)?.into_iter().sum())
    /// })?;
    /// performance.save("performance.html")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the scheduler is gone. What the block returns, also an error, is the first of the two.
    pub fn performance<R>(&self, block: impl FnOnce() -> R) -> Result<(R, Performance)> {
        // Little of it is compiled anew for each block. A block that panics ends its recording too.
        let begun = self.begin_performance()?;
        let result = block();
        Ok((result, self.end_performance(begun)?))
    }

    fn begin_performance(&self) -> Result<Begun> {
        let before = self.client.history()?;
        let is_recorded = match self.client.record() {
            Ok(()) => true,
            Err(Error::Unsupported(_)) => false,
            Err(error) => return Err(error),
        };
        Ok(Begun {
            client: self.client.clone(),
            before,
            is_recorded,
            at: Instant::now(),
        })
    }

    fn end_performance(&self, mut begun: Begun) -> Result<Performance> {
        let took = begun.at.elapsed();
        let is_recorded = std::mem::take(&mut begun.is_recorded);
        let recording = is_recorded.then(|| self.client.recorded()).transpose()?;
        let info = self.info()?;
        Ok(Performance {
            took,
            n_threads: info.workers.iter().map(|worker| worker.threads as usize).sum(),
            history: since(&begun.before, self.client.history()?),
            recording,
        })
    }
}

/// How things were before a block.
struct Begun {
    client: Arc<Client>,
    before: History,
    is_recorded: bool,
    at: Instant,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.is_recorded {
            let _ = self.client.recorded();
        }
    }
}

/// What the second history has that the first has not.
fn since(before: &History, mut after: History) -> History {
    let ended = |history: &History| {
        history
            .bars
            .iter()
            .map(|(bar, _)| bar.start_us + bar.duration_us)
            .max()
    };
    let known: std::collections::HashSet<_> = before
        .bars
        .iter()
        .map(|(bar, _)| (bar.key, bar.start_us))
        .collect();
    // The totals of functions are told apart by name: several may bear one.
    let mut so_far: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for total in &before.totals {
        so_far.entry(total.function.clone()).or_default().push(total);
    }
    after
        .bars
        .retain(|(bar, _)| !known.contains(&(bar.key, bar.start_us)));
    for (at, total) in after.totals.iter_mut().enumerate() {
        let Some(old) = so_far.get_mut(&total.function).and_then(|same| {
            let place = same.iter().position(|old| old.n_done <= total.n_done)?;
            Some(same.remove(place))
        }) else {
            continue;
        };
        total.n_done -= old.n_done;
        total.n_failed = total.n_failed.saturating_sub(old.n_failed);
        total.n_repeated = total.n_repeated.saturating_sub(old.n_repeated);
        total.total_us = total.total_us.saturating_sub(old.total_us);
        total.n_bytes = total.n_bytes.saturating_sub(old.n_bytes);
        total.n_rows = total.n_rows.saturating_sub(old.n_rows);
        total.moved_bytes = total.moved_bytes.saturating_sub(old.moved_bytes);
        let of_function = after.bars.iter().filter(|(_, function)| *function as usize == at);
        total.longest_us = of_function.map(|(bar, _)| bar.duration_us).max().unwrap_or(0);
    }
    if let Some(end) = ended(before) {
        after.memory.retain(|sample| sample.at_us >= end);
    }
    let n_lost = before.losses.len().min(after.losses.len());
    after.losses.drain(..n_lost);
    after
}

impl Performance {
    /// How long the block took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Tasks that ended while it ran.
    pub fn n_tasks(&self) -> u64 {
        self.history.totals.iter().map(|total| total.n_done).sum()
    }

    /// What it would have been on other workers: how long, and what would have kept it from being faster.
    ///
    /// ```no_run
    /// # fn slow(x: i64) -> i64 { x }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let (_, run) = cluster.performance(|| cluster.gather(cluster.map(slow, 0..100)))?;
    /// let forecast = run.what_if().workers(8).threads(2).memory("2 GB").bandwidth("1 GB/s").start()?;
    /// println!("{:?}, and {:?} on 64 workers", forecast.took(), forecast.curve()[&64]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn what_if(&self) -> WhatIf<'_> {
        WhatIf::new(self.recording.as_ref())
    }

    /// What share of the workers' time was spent in functions, from 0 to 1.
    pub fn busy(&self) -> f64 {
        let total: u64 = self.history.totals.iter().map(|total| total.total_us).sum();
        let there = self.took.as_micros() as f64 * self.n_threads.max(1) as f64;
        (total as f64 / there.max(1.0)).min(1.0)
    }

    /// How often a function ran to its end in it, by its name.
    pub fn n_runs(&self, function: &str) -> u64 {
        let of_it = self
            .history
            .totals
            .iter()
            .filter(|total| total.function == function);
        of_it.map(|total| total.n_done).sum()
    }

    /// Bytes that moved from worker to worker.
    pub fn moved_bytes(&self) -> u64 {
        self.history.totals.iter().map(|total| total.moved_bytes).sum()
    }

    /// The most memory that all workers together had, in bytes, as far as it was sampled.
    pub fn peak_bytes(&self) -> u64 {
        let (mut last, mut peak): (BTreeMap<_, u64>, u64) = (BTreeMap::new(), 0);
        for sample in &self.history.memory {
            last.insert(sample.worker, sample.resident);
            peak = peak.max(last.values().sum());
        }
        peak
    }

    /// Writes it as one HTML file that needs nothing else.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        history::write(path.as_ref(), &page(&self.history))
    }

    fn card(&self) -> Card {
        let ran = self
            .history
            .totals
            .iter()
            .filter(|total| total.n_done + total.n_failed > 0);
        let rows = ran.map(|total| {
            [
                total.function.clone(),
                count(total.n_done),
                count(total.n_failed),
                duration(Duration::from_micros(total.total_us)),
                duration(Duration::from_micros(total.total_us / total.n_done.max(1))),
                duration(Duration::from_micros(total.longest_us)),
                bytes(total.moved_bytes),
            ]
        });
        let mut card = Card::new(format!(
            "{} in {}",
            skep_render::plural(self.n_tasks() as usize, "task"),
            duration(self.took)
        ))
        .fact(
            "busy",
            format!(
                "{:.0} % of {}",
                100.0 * self.busy(),
                skep_render::plural(self.n_threads, "thread")
            ),
        )
        .fact("moved", bytes(self.moved_bytes()));
        if self.peak_bytes() > 0 {
            card = card.fact(
                "memory",
                format!("{} at most, of all workers together", bytes(self.peak_bytes())),
            );
        }
        card.table(
            ["function", "done", "failed", "total", "mean", "longest", "moved"],
            rows,
        )
    }
}

impl Rich for Performance {
    fn bundle(&self) -> Bundle {
        stream::below(self.card(), &self.history.newest())
    }
}

impl std::fmt::Debug for Performance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Performance({} tasks in {:?})", self.n_tasks(), self.took)
    }
}
