//! State that threads wait on: until it is as they need it, its engine is gone, or the cell is interrupted.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    call::context,
    hooks::{self, Wake, hooks},
    model::error::{Error, Result},
};

/// See the module.
pub struct Watched<T> {
    state: Mutex<T>,
    changed: Condvar,
    is_gone: AtomicBool,
    reason: OnceLock<String>,
}

impl<T: Default + Send + 'static> Watched<T> {
    pub fn new() -> Arc<Watched<T>> {
        let watched = Arc::new(Watched {
            state: Mutex::default(),
            changed: Condvar::new(),
            is_gone: AtomicBool::new(false),
            reason: OnceLock::new(),
        });
        let wait: Weak<dyn Wake> = Arc::<Watched<T>>::downgrade(&watched);
        hooks::register(wait);
        watched
    }
}

impl<T> Watched<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and makes those that wait look at it.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    pub fn notify(&self) {
        self.changed.notify_all();
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Nothing will change any more: whoever waits hears why.
    pub fn end(&self, reason: String) {
        let _ = self.reason.set(reason);
        let state = self.lock();
        self.is_gone.store(true, Ordering::SeqCst);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until `found` finds what it looks for, the engine is gone, or the cell is interrupted.
    pub fn wait_for<R>(&self, found: impl FnMut(&mut T) -> Option<R>) -> Result<R> {
        self.wait_until(None, found)
            .map(|found| found.expect("invariant: without a deadline it is found"))
    }

    /// As [`Watched::wait_for`]; `None` when it was not found by the deadline.
    pub fn wait_until<R>(
        &self,
        deadline: Option<Instant>,
        mut found: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<Option<R>> {
        let hooks = hooks();
        let mut state = self.lock();
        let mut has_seceded = !context::is_inside();
        loop {
            if let Some(value) = found(&mut state) {
                return Ok(Some(value));
            }
            if !has_seceded {
                has_seceded = true;
                drop(state);
                context::before_wait();
                state = self.lock();
                continue;
            }
            if self.is_gone() {
                return Err(Error::Disconnected(
                    self.reason.get().cloned().unwrap_or_default(),
                ));
            }
            if hooks.interrupted.is_some_and(|interrupted| interrupted()) {
                return Err(Error::Interrupted);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => {
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Waits for no longer than this while the state is so, and gives it.
    pub fn wait_while(&self, most: Duration, is_so: impl FnMut(&mut T) -> bool) -> MutexGuard<'_, T> {
        self.changed
            .wait_timeout_while(self.lock(), most, is_so)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl<T: Send> Wake for Watched<T> {
    fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }
}
