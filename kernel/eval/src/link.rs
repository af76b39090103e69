//! The connection to the host: what is sent to it, in which order, and which cell may speak.

use std::{
    cell::Cell,
    io::Write,
    os::unix::net::UnixStream,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use skep_render::{Bundle, Message, control::shown_in};

use crate::{
    place,
    wire::{self, FromEval},
};

/// A host that is this busy may mix up the order of text and values; the cell goes on.
pub(crate) const MOST_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Link {
    pub to_host: Mutex<UnixStream>,
    pub answers: Mutex<Receiver<Option<String>>>,
    /// The cell that currently owns the output. An abandoned one no longer speaks.
    pub running: AtomicU32,
    /// 1 while a cell waits for an answer.
    pub asking: AtomicU32,
    /// How much was shown, and how much of it the host has passed on.
    pub shown: (Mutex<Passed>, Condvar),
}

#[derive(Default)]
pub(crate) struct Passed {
    pub n_sent: u64,
    pub n_passed: u64,
}

thread_local! {
    /// The cell that this thread was started for; none in threads that cells start.
    pub(crate) static CELL: Cell<Option<u32>> = const { Cell::new(None) };
}

pub(crate) static LINK: OnceLock<Link> = OnceLock::new();

pub(crate) fn link_ref() -> &'static Link {
    LINK.get()
        .expect("invariant: set by `serve` before anything runs")
}

/// The cell that this thread runs, or else the one that runs now; 0 outside notebooks.
pub fn current_cell() -> u32 {
    CELL.get()
        .or_else(|| LINK.get().map(|link| link.running.load(Ordering::SeqCst)))
        .unwrap_or(0)
}

pub(crate) fn is_running(cell: u32) -> bool {
    link_ref().running.load(Ordering::SeqCst) == cell
}

/// Whether this thread is that of a cell which was given up.
pub(crate) fn is_abandoned() -> bool {
    LINK.get().is_some() && CELL.get().is_some_and(|cell| !is_running(cell))
}

/// The end of a cell is told once: by its thread, or by who gives it up.
pub(crate) fn claim_end(cell: u32) -> bool {
    link_ref()
        .running
        .compare_exchange(cell, 0, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
}

/// Outside an evaluation process (a plain program, a worker) there is nobody to tell, and nothing is sent.
pub(crate) fn send(message: &FromEval) -> bool {
    let Some(link) = LINK.get() else { return false };
    let mut stream = link.to_host.lock().unwrap_or_else(PoisonError::into_inner);
    match wire::write_frame(&mut *stream, message) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            drop(stream);
            eprintln!(
                "error: {}",
                Message::new(format!("not shown: {error}")).hint("show a part of it")
            );
            // Nobody will say that it was passed on.
            lock_shown(link).n_passed += 1;
            true
        }
        Err(_) => false,
    }
}

pub(crate) fn flush() {
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: null means all C streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Sends a shown value. Text printed before it comes first, and text printed after it later: the host says
/// when it has passed the value on, 50 µs later. A cell that was given up no longer shows anything.
pub(crate) fn send_in_order(message: &FromEval) -> bool {
    let Some(link) = LINK.get() else { return false };
    if CELL.get().is_some_and(|cell| !is_running(cell)) {
        return true;
    }
    flush();
    let number = {
        let mut shown = lock_shown(link);
        shown.n_sent += 1;
        shown.n_sent
    };
    if !send(message) {
        return false;
    }
    let passed = |shown: &mut Passed| shown.n_passed < number;
    drop(
        link.shown
            .1
            .wait_timeout_while(lock_shown(link), MOST_WAIT, passed),
    );
    true
}

pub(crate) fn lock_shown(link: &Link) -> MutexGuard<'_, Passed> {
    link.shown.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows the value of a cell's last expression.
pub fn result(bundle: Bundle) {
    let Some(control) = shown_in(&bundle) else {
        let plain = LINK.get().is_none().then(|| bundle.plain().to_string());
        send_in_order(&FromEval::Result { bundle });
        // A plain program has a terminal, or a file.
        if let Some(plain) = plain {
            println!("{plain}");
        }
        return;
    };
    // In a place of its own, so that a picture can take its place when nobody can set it any more.
    send_in_order(&FromEval::Display {
        id: Some(place::place_of(control)),
        bundle,
    });
    open_area(control);
}

/// A control was shown: below it is the place for what reacts to it.
pub(crate) fn open_area(control: u64) {
    send_in_order(&FromEval::Display {
        id: Some(place::area_of(control)),
        bundle: Bundle::default(),
    });
}

/// The last words before an abort.
pub(crate) fn aborting(message: String, at: wire::Location) {
    send(&FromEval::Aborting { message, at });
}

/// Shows a quiet line beside what the cell shows; outside a notebook it goes to standard error.
pub fn note(text: &str) {
    if LINK.get().is_some() {
        notice(text.to_string());
    } else {
        eprintln!("note: {text}");
    }
}

pub(crate) fn notice(text: String) {
    flush();
    send(&FromEval::Notice { text });
}

/// Asks the host for the optimised build of a cell's library. False outside an evaluation process.
pub fn code_needed(library: &str) -> bool {
    send(&FromEval::CodeNeeded {
        library: library.to_string(),
    })
}
