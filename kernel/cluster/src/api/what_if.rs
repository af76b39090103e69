//! A run that was recorded, on workers as they might be.

use std::{collections::BTreeMap, time::Duration};

use skep_render::{Bundle, Message, Rich, bytes, card::Card, duration, plural, stream};

use crate::{
    api::builder::Size,
    forecast::{self, Outcome, Scenario},
    model::{
        error::{Error, Result},
        recording::Recording,
    },
};

/// Between processes of one machine: what was measured, through shared memory.
const BANDWIDTH: f64 = 2e9;

const LEAST_BANDWIDTH: f64 = 1e3;

/// A curve plays a run seven times: of more tasks than this it takes too long.
const MOST_IN_CURVE: usize = 100_000;

/// Tasks in the picture of a forecast.
const MOST_DRAWN: usize = 4_000;

/// The most workers and threads that a forecast is made for.
const MOST_WORKERS: u32 = 10_000;

/// Which workers to play a run on; see [`crate::Performance::what_if`]. What is not said is as it was.
#[must_use = "nothing is played before `start()`"]
pub struct WhatIf<'r> {
    recording: Option<&'r Recording>,
    n_workers: Option<u32>,
    n_threads: Option<u32>,
    memory: Option<Size>,
    bandwidth: Option<Size>,
    n_cores: Option<u32>,
}

/// What a run would have been on other workers, as the scheduler itself says, on a virtual clock.
pub struct Forecast {
    scenario: Scenario,
    outcome: Outcome,
    curve: BTreeMap<u32, Duration>,
    /// What it took, and what playing it again as it was gives.
    was: Duration,
    again: Duration,
    /// Of each bar.
    names: Vec<String>,
    /// Functions on the longest chain, with how many of its tasks are theirs.
    chain: Vec<(String, usize)>,
}

impl<'r> WhatIf<'r> {
    /// Of a run that a host has recorded.
    #[doc(hidden)]
    pub fn of(recording: &'r Recording) -> WhatIf<'r> {
        WhatIf::new(Some(recording))
    }

    pub(crate) fn new(recording: Option<&'r Recording>) -> WhatIf<'r> {
        WhatIf {
            recording,
            n_workers: None,
            n_threads: None,
            memory: None,
            bandwidth: None,
            n_cores: None,
        }
    }

    /// So many workers.
    pub fn workers(mut self, n: u32) -> Self {
        self.n_workers = Some(n);
        self
    }

    /// Threads of each worker.
    pub fn threads(mut self, n: u32) -> Self {
        self.n_threads = Some(n);
        self
    }

    /// Memory of each worker: bytes, or a text such as `"2 GB"`.
    pub fn memory(mut self, limit: impl Into<Size>) -> Self {
        self.memory = Some(limit.into());
        self
    }

    /// What a worker can send, and receive, in a second: bytes, or a text such as `"1 GB/s"`. Without it, as between
    /// processes of one machine: 2 GB/s.
    pub fn bandwidth(mut self, in_a_second: impl Into<Size>) -> Self {
        self.bandwidth = Some(in_a_second.into());
        self
    }

    /// Processors that all workers share. Without it each thread has one, as on machines of their own.
    pub fn cores(mut self, n: u32) -> Self {
        self.n_cores = Some(n);
        self
    }

    /// Plays it.
    ///
    /// # Errors
    /// For no workers, or sizes that are none; and where nothing was recorded.
    pub fn start(self) -> Result<Forecast> {
        let invalid = |what: &str, hint: &str| Error::Argument(Message::new(what.to_string()).hint(hint));
        let Some(recording) = self.recording else {
            return Err(Error::Unsupported(
                Message::new("this engine records no runs").hint("a local cluster does"),
            ));
        };
        let size = |size: &Size, of: &str, like: &str| match size.bytes(None) {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(invalid(
                &format!("`.{of}({size})` is no size that workers could have"),
                &format!("write it like `\"{like}\"`, or as a number of bytes"),
            )),
        };
        if !recording.tasks.is_empty() && recording.tasks.iter().all(|task| task.ended_us == 0) {
            return Err(invalid(
                &format!(
                    "{} submitted while it was recorded, and none gave a value",
                    match recording.tasks.len() {
                        1 => "1 task was".to_string(),
                        n => format!("{n} tasks were"),
                    }
                ),
                "wait for the results inside the block; what fails has no time that could be played",
            ));
        }
        if recording.tasks.is_empty() {
            return Err(invalid(
                "no task was submitted while it was recorded",
                "a call whose result is known is not made again: give it other arguments, or `impure()`; and wait for the results inside the block",
            ));
        }
        let (threads, memory) = recording.workers.first().copied().unwrap_or((1, 0));
        let n_cores_here = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let was = Scenario {
            n_workers: recording.workers.len().max(1) as u32,
            n_threads: threads.max(1),
            memory,
            bandwidth: BANDWIDTH,
            n_cores: Some(n_cores_here),
        };
        let scenario = Scenario {
            n_workers: self.n_workers.unwrap_or(was.n_workers),
            n_threads: self.n_threads.unwrap_or(was.n_threads),
            memory: match &self.memory {
                Some(memory) => size(memory, "memory", "2 GB")?,
                None => was.memory,
            },
            bandwidth: match &self.bandwidth {
                Some(bandwidth) => size(bandwidth, "bandwidth", "1 GB/s")? as f64,
                None => was.bandwidth,
            },
            n_cores: self.n_cores,
        };
        let n = u64::from(scenario.n_workers) * u64::from(scenario.n_threads);
        if n == 0 || n > u64::from(MOST_WORKERS) || scenario.n_cores == Some(0) {
            return Err(invalid(
                "a forecast is for at least one worker, thread and core, and at most 10,000 threads",
                "`run.what_if().workers(8).threads(2).start()?`",
            ));
        }
        if scenario.bandwidth < LEAST_BANDWIDTH {
            return Err(invalid(
                "with a bandwidth of less than 1 kB/s nothing would end",
                "`.bandwidth(\"1 GB/s\")`",
            ));
        }
        let mut outcome = forecast::forecast(recording, scenario);
        let again = forecast::forecast(recording, was);
        let curve = if recording.tasks.len() <= MOST_IN_CURVE {
            forecast::curve(recording, scenario)
        } else {
            outcome.doubts.push(format!(
                "the curve is left out: it is made for at most {MOST_IN_CURVE} tasks"
            ));
            BTreeMap::new()
        };
        let name = |task: u32| {
            let function = recording.tasks[task as usize].function;
            recording
                .functions
                .get(function as usize)
                .cloned()
                .unwrap_or_default()
        };
        let mut chain: Vec<(String, usize)> = Vec::new();
        for task in &outcome.critical {
            let name = name(*task);
            match chain.last_mut() {
                Some((last, n)) if *last == name => *n += 1,
                _ => chain.push((name, 1)),
            }
        }
        // From the first begin: before it, code may have been compiled for the workers.
        let ran = || recording.tasks.iter().filter(|task| task.ended_us > 0);
        let ended = ran().map(|task| task.ended_us).max();
        let began = ran()
            .map(|task| task.ended_us.saturating_sub(task.duration_us))
            .min();
        Ok(Forecast {
            scenario,
            was: Duration::from_micros(ended.unwrap_or(0) - began.unwrap_or(0)),
            again: Duration::from_micros(again.took_us),
            names: outcome.bars.iter().map(|bar| name(bar.task)).collect(),
            curve: curve
                .into_iter()
                .map(|(n, us)| (n, Duration::from_micros(us)))
                .collect(),
            outcome,
            chain,
        })
    }
}

impl Forecast {
    /// From the first submission to the end of the last task.
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.outcome.took_us)
    }

    /// What it took when it was recorded, from the begin of the first task to the end of the last.
    pub fn was(&self) -> Duration {
        self.was
    }

    /// The longest chain of tasks that need each other: no number of workers makes it shorter.
    pub fn critical_path(&self) -> Duration {
        Duration::from_micros(self.outcome.critical_us)
    }

    /// What share of the workers' time would be spent in functions, from 0 to 1.
    pub fn busy(&self) -> f64 {
        let threads = f64::from(self.scenario.n_workers * self.scenario.n_threads);
        (self.outcome.work_us as f64 / (self.outcome.took_us.max(1) as f64 * threads)).min(1.0)
    }

    /// Bytes that would move from worker to worker.
    pub fn moved_bytes(&self) -> u64 {
        self.outcome.moved_bytes
    }

    /// What workers would write to disk for want of memory, about.
    pub fn spilled_bytes(&self) -> u64 {
        self.outcome.spilled_bytes
    }

    /// What keeps it from being faster, the most important first.
    pub fn limits(&self) -> &[String] {
        &self.outcome.limits
    }

    /// Where it cannot know.
    pub fn doubts(&self) -> &[String] {
        &self.outcome.doubts
    }

    /// What it would take on 1, 2, 4, … 64 such workers, and on as many as were asked for.
    pub fn curve(&self) -> &BTreeMap<u32, Duration> {
        &self.curve
    }

    fn card(&self) -> Card {
        let Scenario {
            n_workers,
            n_threads,
            memory,
            bandwidth,
            n_cores,
        } = self.scenario;
        let cores = n_cores.map_or_else(
            || "a core for each thread".to_string(),
            |n| format!("{} together", plural(n as usize, "core")),
        );
        let memory = if memory == 0 {
            String::new()
        } else {
            format!(", {} each", bytes(memory))
        };
        let chain: Vec<String> = self
            .chain
            .iter()
            .take(6)
            .map(|(name, n)| {
                if *n > 1 {
                    format!("{name} × {n}")
                } else {
                    name.clone()
                }
            })
            .chain((self.chain.len() > 6).then(|| "…".to_string()))
            .collect();
        let mut card = Card::new(format!(
            "What if: {} on {} of {}",
            duration(self.took()),
            plural(n_workers as usize, "worker"),
            plural(n_threads as usize, "thread")
        ))
        .fact(
            "workers have",
            format!("{cores}{memory}, {}/s to each other", bytes(bandwidth as u64)),
        )
        .fact(
            "it was",
            format!(
                "{}; played again as it was: {}",
                duration(self.was),
                duration(self.again)
            ),
        )
        .fact("busy", format!("{:.0} % of all threads", 100.0 * self.busy()))
        .fact("moved", bytes(self.moved_bytes()))
        .fact(
            "longest chain",
            format!("{}: {}", duration(self.critical_path()), chain.join(" → ")),
        );
        for limit in self.limits() {
            card = card.fact("limited by", limit);
        }
        for doubt in self.doubts() {
            card = card.note(format!("not known: {doubt}"));
        }
        let longest = self.curve.values().max().copied().unwrap_or_default();
        let rows = self.curve.iter().map(|(n, took)| {
            let part = took.as_secs_f64() / longest.as_secs_f64().max(1e-9);
            let length = (24.0 * part).ceil() as usize;
            [n.to_string(), duration(*took), "█".repeat(length)]
        });
        if self.curve.is_empty() {
            return card;
        }
        card.table(["workers", "it takes", ""], rows)
    }
}

impl Rich for Forecast {
    fn bundle(&self) -> Bundle {
        let skipped = self.names.len().saturating_sub(MOST_DRAWN);
        let bars: Vec<stream::Bar> = self
            .outcome
            .bars
            .iter()
            .zip(&self.names)
            .skip(skipped)
            .map(|(bar, name)| stream::Bar {
                worker: format!("worker-{}", bar.worker),
                name: name.clone(),
                start_us: bar.start_us,
                duration_us: bar.duration_us,
            })
            .collect();
        let mut card = self.card();
        if skipped > 0 {
            card = card.note(format!("the last {MOST_DRAWN} tasks are drawn"));
        }
        stream::whole(card, &bars)
    }
}

impl std::fmt::Debug for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Forecast({:?} on {} workers)",
            self.took(),
            self.scenario.n_workers
        )
    }
}
