//! Trouble on purpose: workers that die, hang and crawl while work goes on, to see that it ends all the same.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    api::cluster::Cluster,
    model::{
        error::{Error, Result},
        ids::WorkerId,
    },
};

/// How long a worker hangs, and how long it crawls.
const PAUSE: Duration = Duration::from_millis(700);
const CRAWL: Duration = Duration::from_secs(1);
/// One that crawls is stopped for this part of the time, so often.
const CRAWL_STEP: Duration = Duration::from_millis(40);

/// What happens to workers, and how often; see [`Cluster::chaos`].
#[must_use = "nothing happens before `start`"]
pub struct ChaosBuilder {
    cluster: Cluster,
    seed: u64,
    every: Duration,
    kinds: Vec<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Killed,
    /// It answered nobody for 0.7 s.
    Paused,
    /// It had half of the time, for 1 s.
    Slowed,
}

/// Something that was done to a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    /// Since the chaos began.
    pub at: Duration,
    pub worker: WorkerId,
    pub trouble: Trouble,
}

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.trouble {
            Trouble::Killed => "killed",
            Trouble::Paused => "stopped for 0.7 s",
            Trouble::Slowed => "slowed to half for 1 s",
        };
        write!(f, "after {:.1} s: {} {what}", self.at.as_secs_f64(), self.worker)
    }
}

/// Trouble that goes on until this is dropped or stopped.
#[must_use = "it ends when this is dropped: keep it with `let`"]
pub struct Chaos {
    deeds: Arc<Mutex<Vec<Deed>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Kills, pauses and slows workers, one a second, while work goes on: for teaching, and for testing what you rely on. The
    /// same seed makes the same choices of what to do.
    ///
    /// ```no_run
    /// # fn slow(x: i64) -> i64 { x }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let chaos = cluster.chaos(7).start()?;
    /// let values = cluster.gather(cluster.map(slow, 0..1_000))?; // right all the same
    /// for deed in chaos.stop() {
    ///     println!("{deed}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn chaos(&self, seed: u64) -> ChaosBuilder {
        ChaosBuilder {
            cluster: self.clone(),
            seed,
            every: Duration::from_secs(1),
            kinds: Vec::new(),
        }
    }
}

impl ChaosBuilder {
    /// How often; a tenth of a second is the shortest. A cluster replaces 60 workers in a minute at most: who kills more often
    /// is left without.
    pub fn every(mut self, time: Duration) -> ChaosBuilder {
        self.every = time.max(Duration::from_millis(100));
        self
    }

    /// Kills workers, and does only what is named like this.
    pub fn kill(self) -> ChaosBuilder {
        self.with(Trouble::Killed)
    }

    /// Stops workers for 0.7 s, and does only what is named like this.
    pub fn pause(self) -> ChaosBuilder {
        self.with(Trouble::Paused)
    }

    /// Slows workers to half for 1 s, and does only what is named like this.
    pub fn slow(self) -> ChaosBuilder {
        self.with(Trouble::Slowed)
    }

    fn with(mut self, trouble: Trouble) -> ChaosBuilder {
        self.kinds.push(trouble);
        self
    }

    /// # Errors
    /// When the cluster is gone, or its engine has no workers of its own.
    pub fn start(mut self) -> Result<Chaos> {
        self.cluster.client.workers()?.info()?;
        if self.kinds.is_empty() {
            self.kinds = vec![Trouble::Killed, Trouble::Paused, Trouble::Slowed];
        }
        let deeds: Arc<Mutex<Vec<Deed>>> = Arc::default();
        let (stop, stopped) = mpsc::channel();
        let told = deeds.clone();
        let thread = thread::Builder::new()
            .name("chaos".into())
            .spawn(move || self.run(&told, &stopped))
            .map_err(|error| Error::start(error.to_string()))?;
        Ok(Chaos {
            deeds,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Until it is stopped, or the cluster has gone.
    fn run(&self, deeds: &Mutex<Vec<Deed>>, stopped: &mpsc::Receiver<()>) {
        let began = Instant::now();
        // Zero would stay zero.
        let mut random = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |n: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % n
        };
        loop {
            if stopped.recv_timeout(self.every) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let trouble = self.kinds[roll(self.kinds.len())];
            let which = roll(1 << 16);
            let Ok(info) = self.cluster.info() else { return };
            if info.workers.is_empty() {
                continue;
            }
            let worker = info.workers[which % info.workers.len()].id;
            if self.make(trouble, worker, stopped).is_err() {
                return;
            }
            let at = began.elapsed();
            let deed = Deed { at, worker, trouble };
            deeds.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
        }
    }

    fn make(&self, trouble: Trouble, worker: WorkerId, stopped: &mpsc::Receiver<()>) -> Result<()> {
        match trouble {
            Trouble::Killed => self.cluster.kill_worker(worker.0),
            Trouble::Paused => self.cluster.pause_worker(worker.0, PAUSE),
            Trouble::Slowed => {
                let until = Instant::now() + CRAWL;
                while Instant::now() < until {
                    self.cluster.pause_worker(worker.0, CRAWL_STEP / 2)?;
                    if stopped.recv_timeout(CRAWL_STEP) != Err(RecvTimeoutError::Timeout) {
                        return Err(Error::Interrupted);
                    }
                }
                Ok(())
            }
        }
    }
}

impl Chaos {
    /// What was done so far.
    pub fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it, and gives what was done.
    pub fn stop(mut self) -> Vec<Deed> {
        self.end();
        self.deeds()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deeds = self.deeds();
        write!(f, "chaos: {} so far", skep_render::plural(deeds.len(), "deed"))?;
        deeds.iter().try_for_each(|deed| write!(f, "\n{deed}"))
    }
}
