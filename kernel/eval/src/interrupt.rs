//! Stopping a running cell without losing its variables.
//!
//! Rust code cannot be stopped from outside, so it stops itself: the loops of a cell call [`poll`], waits register with
//! [`on_interrupt`], and both unwind to the cell's own frame, where the variables are. Code that never polls (a long call
//! into a library) is abandoned by the host instead.

use std::{
    cell::Cell,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Raised for the interrupted cell; each cell's thread holds its own.
pub(crate) type Flag = Arc<AtomicBool>;

/// The panic payload that ends an interrupted cell.
pub struct Interrupted;

/// True while any cell is to stop. Checked first, since a relaxed load is all that a loop should pay.
static ANY: AtomicBool = AtomicBool::new(false);
static WAKE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
static HOOKS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: Cell<Option<&'static AtomicBool>> = const { Cell::new(None) };
}

/// Makes `flag` the one that the cells of this thread obey.
pub(crate) fn adopt(flag: &Flag) {
    // Leaked once for each evaluation thread: threads are only added when a cell is abandoned.
    MINE.set(Some(unsafe { &*Arc::into_raw(flag.clone()) }));
}

pub(crate) fn raise(flag: &Flag) {
    flag.store(true, Ordering::SeqCst);
    ANY.store(true, Ordering::SeqCst);
    drop(WAKE.0.lock().unwrap_or_else(PoisonError::into_inner));
    WAKE.1.notify_all();
    for hook in HOOKS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        hook();
    }
}

pub(crate) fn lower(flag: &Flag) {
    flag.store(false, Ordering::SeqCst);
    ANY.store(false, Ordering::SeqCst);
}

/// Registers `hook` to be called, from another thread, whenever a cell is interrupted. Waits use it to wake up.
pub fn on_interrupt(hook: fn()) {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
}

/// Whether the running cell has been interrupted.
pub fn interrupted() -> bool {
    ANY.load(Ordering::Relaxed) && MINE.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Ends the cell if it has been interrupted. Cells call this in every loop.
#[inline]
pub fn poll() {
    if ANY.load(Ordering::Relaxed) {
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
/// In a worker process and in plain programs, where there is no cell to interrupt, it is `std::thread::sleep`.
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
        guard = WAKE.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}
