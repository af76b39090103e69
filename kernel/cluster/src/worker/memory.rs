//! When a worker writes values to disk, pauses, or gives up: Dask's documented thresholds, as a pure
//! decision.

use crate::model::{cluster::Memory, ids::Key};

/// Values are written to disk when those in memory take this much of the limit,
pub const TARGET: f64 = 0.6;

/// or when the process takes this much;
const SPILL: f64 = 0.7;

/// above this no task is begun,
const PAUSE: f64 = 0.8;

/// until it is back here;
const RESUME: f64 = 0.75;

/// and here the worker ends itself, before the system chooses a victim.
const TERMINATE: f64 = 0.95;

/// What running tasks may add is kept free: below this part of the limit.
const KEPT_FREE: f64 = 0.9;

/// While values are on their way to disk, a worker may be over the limit by so much.
const GRACE: f64 = 1.1;

/// A value smaller than this stays in memory.
const LEAST_SPILLED: u64 = 16 << 10;

/// A paused worker on which nothing runs and nothing more can be spilled may begin a task after so many
/// looks: it would wait for ever.
const MOST_IDLE_LOOKS: u32 = 10;

/// A value in memory that could be written to disk.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub key: Key,
    pub n_bytes: u64,
    /// Looks since it was last used.
    pub age: u64,
}

/// What a worker shall do about its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Write these to disk, in this order.
    pub spill: Vec<Key>,
    pub is_paused: bool,
    pub is_over: bool,
}

/// Decides at each look at the memory.
#[derive(Debug, Default)]
pub struct Policy {
    /// Bytes; 0 is no limit.
    pub limit: u64,
    /// Bytes that may be on disk; 0 is no limit.
    pub spill_limit: u64,
    is_paused: bool,
    n_idle_looks: u32,
    /// Values at the last look.
    managed: u64,
}

/// What a decision depends on beside the memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Tasks that run now.
    pub n_running: usize,
    /// What those will add, by past results.
    pub expected: u64,
    /// Bytes on their way to disk; they are counted as managed still.
    pub spilling: u64,
}

impl Policy {
    /// For a limit, and bytes that may be on disk; 0 is no limit.
    pub fn new(limit: u64, spill_limit: u64) -> Policy {
        Policy {
            limit,
            spill_limit,
            ..Policy::default()
        }
    }

    /// Whether values changed so much that it is worth a look without waiting for the next.
    pub fn is_due(&self, managed: u64) -> bool {
        self.limit > 0 && managed > self.managed && managed - self.managed > self.limit / 20
    }

    pub fn decide(
        &mut self,
        memory: &Memory,
        candidates: impl FnOnce() -> Vec<Candidate>,
        work: Work,
    ) -> Decision {
        if self.limit == 0 {
            return Decision::default();
        }
        self.managed = memory.managed;
        let of_limit = |part: f64| (part * self.limit as f64) as u64;
        let in_memory = memory.managed.saturating_sub(work.spilling);
        let over_target = in_memory.saturating_sub(of_limit(TARGET));
        let over_spill = memory
            .resident
            .saturating_sub(work.spilling)
            .saturating_sub(of_limit(SPILL));
        let mut to_free = over_target.max(over_spill.min(in_memory));
        let mut spill = Vec::new();
        if to_free > 0 {
            let mut room = if self.spill_limit == 0 {
                u64::MAX
            } else {
                self.spill_limit.saturating_sub(memory.spilled + work.spilling)
            };
            let mut candidates = candidates();
            candidates.retain(|candidate| candidate.n_bytes >= LEAST_SPILLED);
            // Large and old first.
            candidates.sort_by_key(|candidate| {
                std::cmp::Reverse((
                    u128::from(candidate.n_bytes) * u128::from(candidate.age + 1),
                    candidate.key,
                ))
            });
            for candidate in candidates {
                if to_free == 0 {
                    break;
                }
                if candidate.n_bytes <= room {
                    room -= candidate.n_bytes;
                    to_free = to_free.saturating_sub(candidate.n_bytes);
                    spill.push(candidate.key);
                }
            }
        }
        let is_spilling = work.spilling > 0 || !spill.is_empty();
        // What is written to disk now makes room soon: until then nothing more is begun than fits.
        let is_tight = is_spilling && memory.resident + work.expected > of_limit(KEPT_FREE);
        self.is_paused = is_tight || memory.resident > of_limit(if self.is_paused { RESUME } else { PAUSE });
        self.n_idle_looks = if self.is_paused && work.n_running == 0 && !is_spilling {
            self.n_idle_looks + 1
        } else {
            0
        };
        let is_stuck = self.n_idle_looks > MOST_IDLE_LOOKS;
        let most = if is_spilling { GRACE } else { TERMINATE };
        Decision {
            spill,
            is_paused: self.is_paused && !is_stuck,
            is_over: memory.resident > of_limit(most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(policy: &mut Policy, resident: u64, managed: u64, n_running: usize) -> Decision {
        let mib = 1 << 20;
        let candidates = || {
            [(1, 100, 0), (2, 10, 50), (3, 200, 9), (4, 0, 1_000)]
                .map(|(key, n, age)| Candidate {
                    key: Key(key),
                    n_bytes: n * mib + 1_000 * u64::from(n == 0),
                    age,
                })
                .to_vec()
        };
        policy.decide(
            &Memory {
                resident: resident * mib,
                managed: managed * mib,
                ..Memory::default()
            },
            candidates,
            Work {
                n_running,
                ..Work::default()
            },
        )
    }

    #[test]
    fn thresholds_in_order() {
        let mut policy = Policy::new(1000 << 20, 0);
        let spilled = |keys: &[u128]| keys.iter().map(|key| Key(*key)).collect::<Vec<_>>();
        for (resident, managed, spill, is_paused, is_over, why) in [
            (500, 310, &[][..], false, false, "below all"),
            (
                650,
                620,
                &[3][..],
                false,
                false,
                "values over the target: the one of most bytes times age",
            ),
            (760, 310, &[3][..], false, false, "the process over 70 %"),
            (
                990,
                310,
                &[3, 2, 1][..],
                true,
                false,
                "as much as it takes, and the small one stays; a grace while they are written",
            ),
            (990, 0, &[], true, true, "nothing to write: over"),
            (780, 100, &[3][..], true, false, "paused until 75 %"),
            (740, 100, &[3][..], false, false, "goes on"),
        ] {
            let expect = Decision {
                spill: spilled(spill),
                is_paused,
                is_over,
            };
            assert_eq!(decide(&mut policy, resident, managed, 1), expect, "{why}");
        }
    }

    #[test]
    fn a_paused_worker_that_can_do_nothing_begins_a_task_after_a_while() {
        let mut policy = Policy::new(1000 << 20, 1);
        let looks: Vec<bool> = (0..14)
            .map(|_| decide(&mut policy, 850, 310, 0).is_paused)
            .collect();
        assert_eq!(
            looks.iter().filter(|is_paused| **is_paused).count(),
            10,
            "{looks:?}"
        );
        assert!(
            decide(&mut policy, 850, 310, 1).is_paused,
            "while one runs it is paused again"
        );
    }

    #[test]
    fn without_a_limit_nothing_happens() {
        assert_eq!(
            decide(&mut Policy::default(), 1 << 30, 1 << 30, 0),
            Decision::default()
        );
    }
}
