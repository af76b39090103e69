//! What a function may do while it runs as a task: tell how far it is, and wait for tasks of its own.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{hooks::hooks, model::ids::Key};

/// A task's progress is told at most this often.
const EVERY: Duration = Duration::from_millis(50);

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// What hears of a running task: the threads that it runs on.
pub(crate) trait Host: Send + Sync {
    fn on_progress(&self, key: Key, n_done: u64, n_total: u64);
    /// The task is about to wait for others.
    fn on_wait(self: Arc<Self>, key: Key);
}

struct Current {
    host: Arc<dyn Host>,
    key: Key,
    origin: u32,
    told_at: Option<Instant>,
}

/// The thread begins a task.
pub(crate) fn enter(host: Arc<dyn Host>, key: Key, origin: u32) {
    CURRENT.set(Some(Current {
        host,
        key,
        origin,
        told_at: None,
    }));
}

pub(crate) fn leave() {
    CURRENT.set(None);
}

/// Tells how far the running task is: the cell that waits for it shows it in its progress bar.
///
/// May be called in every round of a loop: it is told twenty times a second at most. Outside a task it does
/// nothing.
///
/// ```no_run
/// fn train(rounds: u64) -> f64 {
///     let mut loss = 1.0;
///     for round in 0..rounds {
///         loss *= 0.99;
///         skep_cluster::progress(round + 1, rounds);
///     }
///     loss
/// }
/// ```
pub fn progress(n_done: u64, n_total: u64) {
    CURRENT.with_borrow_mut(|current| {
        let Some(current) = current else { return };
        if current.told_at.is_none_or(|at| at.elapsed() >= EVERY) || n_done >= n_total {
            current.told_at = Some(Instant::now());
            current.host.on_progress(current.key, n_done, n_total);
        }
    });
}

/// Whether this thread runs a task.
pub(crate) fn is_inside() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// What tasks that are submitted here belong to: what the running task does, or the running cell.
pub(crate) fn origin() -> u32 {
    let of_task = CURRENT.with_borrow(|current| current.as_ref().map(|current| current.origin));
    of_task.unwrap_or_else(|| hooks().origin.map_or(0, |origin| origin()))
}

/// The task is about to wait for the cluster. Its thread is given to others, or a worker of one thread would
/// wait for itself.
pub(crate) fn before_wait() {
    let inside = CURRENT.with_borrow(|current| {
        current
            .as_ref()
            .map(|current| (current.host.clone(), current.key))
    });
    if let Some((host, key)) = inside {
        host.on_wait(key);
    }
}
