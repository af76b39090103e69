//! How a notebook takes part in a cluster. In a plain program nothing is set.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// How a notebook takes part. In a plain program nothing is set.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Whether the running cell has been interrupted.
    pub interrupted: Option<fn() -> bool>,
    /// Ends the interrupted cell.
    pub stop: Option<fn()>,
    /// The cell that runs: what tasks that are submitted now belong to.
    pub origin: Option<fn() -> u32>,
    /// Shows a line beside what the cell shows; without a notebook it goes to standard error.
    pub note: Option<fn(&str)>,
    /// Whether somebody will make an optimised build of this library; asks for it if so.
    pub code_needed: Option<fn(&str) -> bool>,
    /// In a worker: this thread's tasks stop when the flag is raised.
    pub adopt: fn(&'static AtomicBool),
    pub raise: fn(&'static AtomicBool),
    pub lower: fn(&'static AtomicBool),
    /// Whether a panic's payload is a task's own stop.
    pub is_stop: fn(&(dyn Any + Send)) -> bool,
}

impl Hooks {
    /// A plain program: nobody interrupts it, and its tasks are not told to stop.
    pub const NONE: Hooks = Hooks {
        interrupted: None,
        stop: None,
        origin: None,
        note: None,
        code_needed: None,
        adopt: |_| {},
        raise: |_| {},
        lower: |_| {},
        is_stop: |_| false,
    };
}

static HOOKS: RwLock<Hooks> = RwLock::new(Hooks::NONE);

pub fn set_hooks(hooks: Hooks) {
    *HOOKS.write().unwrap_or_else(PoisonError::into_inner) = hooks;
}

pub(crate) fn hooks() -> Hooks {
    *HOOKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Says something that people should know, and that is no error.
pub(crate) fn note(text: &str) {
    match hooks().note {
        Some(note) => note(text),
        None => eprintln!("note: {text}"),
    }
}

static IS_HOSTED: AtomicBool = AtomicBool::new(false);

/// Says that this process is a notebook's, or a worker: `SKEP_RUN` names the folder of its own host. A program that one of them starts
/// inherits the variable, and is none.
pub fn join_host() {
    IS_HOSTED.store(true, Ordering::Relaxed);
}

pub(crate) fn is_hosted() -> bool {
    IS_HOSTED.load(Ordering::Relaxed)
}

/// Something that waits and can be made to look again.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// What the clients of this program wait on.
static WAITS: Mutex<Vec<Weak<dyn Wake>>> = Mutex::new(Vec::new());

/// [`wake_waits`] wakes this one too, for as long as it is there.
pub(crate) fn register(wait: Weak<dyn Wake>) {
    let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
    waits.retain(|wait| wait.strong_count() > 0);
    waits.push(wait);
}

/// Makes waits look again whether they were interrupted: those on every cluster, not only on the newest.
pub fn wake_waits() {
    let waits: Vec<Arc<dyn Wake>> = WAITS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    waits.iter().for_each(|wait| wait.wake());
}
