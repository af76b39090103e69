//! How much one task takes.

use std::sync::atomic::{AtomicU8, Ordering};

/// Up to where one task does the whole, and how much it takes at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A side of a join that is no larger goes whole to every partition of the other.
    pub broadcast_bytes: f64,
    /// So much is sorted, made unique or grouped in one task.
    pub one_task_bytes: f64,
    /// Partitions that a task takes together are no larger, as long as all threads have work.
    pub packed_bytes: f64,
    /// From so many bytes on, the right side of a semi join is looked through for keys of the left one first: less is built into a
    /// table of keys in the time that one more stage takes.
    pub reduced_bytes: f64,
    /// Memory for each thread.
    pub room: f64,
    /// Tasks that run at once.
    pub n_threads: usize,
    /// Groups with fewer rows in a partition are not made there: partial results would be as many.
    pub rows_per_group: f64,
}

const ROWS_PER_GROUP: f64 = 2.0;

static AS_IF: AtomicU8 = AtomicU8::new(0);

impl Limits {
    /// For so many threads, with so much memory for each; 0 where nobody knows.
    pub fn new(n_threads: usize, n_bytes_each: u64) -> Limits {
        let as_if = AS_IF.load(Ordering::Relaxed);
        if as_if > 0 {
            return Limits {
                broadcast_bytes: -1.0,
                one_task_bytes: -1.0,
                packed_bytes: 0.0,
                reduced_bytes: -1.0,
                n_threads: usize::MAX,
                room: f64::INFINITY,
                rows_per_group: if as_if == 2 { f64::INFINITY } else { ROWS_PER_GROUP },
            };
        }
        // A task has its rows, what it makes of them, and what it gives.
        let room = if n_bytes_each == 0 {
            f64::INFINITY
        } else {
            n_bytes_each as f64 / 8.0
        };
        Limits {
            broadcast_bytes: room.min(32e6),
            one_task_bytes: room.min(32e6),
            packed_bytes: (room / 2.0).min(256e6),
            reduced_bytes: 4e6,
            n_threads: n_threads.max(1),
            room: if n_bytes_each == 0 {
                f64::INFINITY
            } else {
                n_bytes_each as f64
            },
            rows_per_group: ROWS_PER_GROUP,
        }
    }

    /// As few tasks as have room for so many bytes in `n` partitions.
    pub fn n_full(&self, n_bytes: f64, n: usize) -> usize {
        if self.packed_bytes <= 0.0 {
            return n;
        }
        ((n_bytes / self.packed_bytes).ceil() as usize).clamp(1, n.max(1))
    }

    /// Tasks for so many bytes in `n` partitions: few and large ones, but one for each thread.
    pub fn n_tasks(&self, n_bytes: f64, n: usize) -> usize {
        if self.packed_bytes <= 0.0 {
            return n;
        }
        let full = (n_bytes / self.packed_bytes).ceil() as usize;
        // As many for each thread: the last one working alone is the time of all.
        full.max(1).next_multiple_of(self.n_threads).clamp(1, n.max(1))
    }
}

/// What plans are made for, in tests of what only large tables take.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum AsIf {
    Measured = 0,
    /// Too large for one task.
    Large = 1,
    /// And with as many groups as rows.
    LargeOfManyGroups = 2,
}

#[doc(hidden)]
pub fn plan_as_if(so: AsIf) {
    AS_IF.store(so as u8, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_few_and_large_but_all_threads_have_work() {
        let limits = Limits::new(4, 0);
        assert_eq!(limits.n_tasks(1e6, 100), 4);
        assert_eq!(limits.n_tasks(1e6, 3), 3);
        assert_eq!(limits.n_tasks(25.6e9, 1_000), 100);
        assert_eq!(limits.n_tasks(25.6e9, 10), 10);
        assert_eq!(
            Limits::new(2, 160_000_000).n_tasks(1e9, 1_000),
            100,
            "a sixteenth of the memory of a thread"
        );
        assert_eq!(limits.n_tasks(0.0, 0), 1);
    }
}
