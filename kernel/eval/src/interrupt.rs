//! Stopping a running cell without losing its variables.
//!
//! Rust code cannot be stopped from outside, so it stops itself: the loops of a cell call [`poll`], waits
//! register with [`on_interrupt`], and both unwind to the cell's own frame, where the variables are. Code
//! that never polls (a long call into a library) is abandoned by the host instead.

use std::{
    cell::Cell,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Raised for the interrupted cell; each cell's thread holds its own.
pub(crate) type Flag = Arc<AtomicBool>;

/// The panic payload that ends an interrupted cell.
pub struct Interrupted;

/// How many flags are raised. Checked first, since a relaxed load is all that a loop should pay.
static ANY: AtomicUsize = AtomicUsize::new(0);
static WAKE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
static HOOKS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: Cell<Option<&'static AtomicBool>> = const { Cell::new(None) };
}

/// Makes `flag` the one that the cells of this thread obey.
pub(crate) fn adopt(flag: &Flag) {
    // SAFETY: the count that `into_raw` keeps is never given back. Leaked once for each evaluation thread:
    // threads are only added when a cell is abandoned.
    adopt_flag(unsafe { &*Arc::into_raw(flag.clone()) });
}

/// Makes `flag` the one that stops this thread: its `sleep` and [`poll`] obey it.
pub fn adopt_flag(flag: &'static AtomicBool) {
    MINE.set(Some(flag));
}

pub(crate) fn raise(flag: &Flag) {
    raise_flag(flag);
    for hook in HOOKS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        hook();
    }
}

/// Tells the thread that adopted this flag to stop.
pub fn raise_flag(flag: &AtomicBool) {
    if !flag.swap(true, Ordering::SeqCst) {
        ANY.fetch_add(1, Ordering::SeqCst);
    }
    drop(WAKE.0.lock().unwrap_or_else(PoisonError::into_inner));
    WAKE.1.notify_all();
}

/// The thread that adopted this flag may go on.
pub fn lower_flag(flag: &AtomicBool) {
    if flag.swap(false, Ordering::SeqCst) {
        ANY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Registers `hook` to be called, from another thread, whenever a cell is interrupted. Waits use it to wake
/// up.
pub fn on_interrupt(hook: fn()) {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
}

/// Whether the running cell has been interrupted.
pub fn interrupted() -> bool {
    ANY.load(Ordering::Relaxed) > 0 && MINE.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Ends the cell if it has been interrupted. Cells call this in every loop.
#[inline]
pub fn poll() {
    if ANY.load(Ordering::Relaxed) > 0 {
        stop_if_interrupted();
    }
}

#[cold]
fn stop_if_interrupted() {
    if interrupted() {
        std::panic::resume_unwind(Box::new(Interrupted));
    }
}

/// Sleeps for `duration`; unlike `std::thread::sleep`, an interrupt ends it at once.
///
/// In a task, cancelling it ends the sleep and the task. In plain programs it is `std::thread::sleep`.
pub fn sleep(duration: Duration) {
    if MINE.get().is_none() {
        return std::thread::sleep(duration);
    }
    let until = Instant::now() + duration;
    let mut guard = WAKE.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if interrupted() {
            drop(guard);
            return stop_if_interrupted();
        }
        guard = WAKE
            .1
            .wait_timeout(guard, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
