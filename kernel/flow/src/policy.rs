//! How a task of a flow shall run.

use std::time::Duration;

/// How a task of a flow shall run: see [`Task`](crate::Task).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Policy {
    pub retries: u32,
    /// Before each retry; the last one holds for those after it.
    pub delays: Vec<Duration>,
    /// Each delay is longer than the one before by this factor; 0 and 1 change nothing.
    pub backoff: f64,
    /// A delay is longer by up to this part of it.
    pub jitter: f64,
    pub timeout: Option<Duration>,
    /// Its value is taken from an earlier run with the same code and inputs, if that was not longer ago than this.
    pub cache: Option<Caching>,
    pub tags: Vec<String>,
    /// With a tag: so many of the tasks that have it run at once.
    pub limits: Vec<(String, usize)>,
    /// Its value is written to the store; by itself, if it is not large.
    pub keep: Option<bool>,
    /// What of this makes no sense.
    pub wrong: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Caching {
    pub expires: Option<Duration>,
}

/// No delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);

impl Policy {
    /// How long to wait after this attempt failed; the first is 1. `random` is from 0 to 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let at = (attempt.max(1) - 1) as usize;
        let Some(delay) = self.delays.get(at).or(self.delays.last()) else {
            return Duration::ZERO;
        };
        let n_beyond = at.saturating_sub(self.delays.len() - 1);
        let growth = if self.backoff > 1.0 {
            self.backoff.powi(n_beyond.min(1000) as i32)
        } else {
            1.0
        };
        let seconds = delay.as_secs_f64() * growth * (1.0 + self.jitter.max(0.0) * random);
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(LONGEST_DELAY)
            .min(LONGEST_DELAY)
    }
}

#[test]
fn delays_grow_and_never_overflow() {
    let seconds = |policy: &Policy, attempt| policy.delay(attempt, 0.5).as_secs_f64();
    let mut policy = Policy::default();
    assert_eq!(seconds(&policy, 1), 0.0);
    policy.delays = vec![Duration::from_secs(1), Duration::from_secs(10)];
    assert_eq!([1, 2, 3].map(|n| seconds(&policy, n)), [1.0, 10.0, 10.0]);
    policy.backoff = 2.0;
    assert_eq!([1, 2, 3, 4].map(|n| seconds(&policy, n)), [1.0, 10.0, 20.0, 40.0]);
    policy.jitter = 1.0;
    assert_eq!(seconds(&policy, 1), 1.5);
    assert_eq!(policy.delay(u32::MAX, 1.0), LONGEST_DELAY);
    policy.jitter = f64::NAN;
    assert_eq!(seconds(&policy, 1), 1.0);
}
