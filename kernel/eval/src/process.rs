//! The evaluation process: a control thread that reads the host's messages and a thread that runs cells.
//!
//! The two are apart so that an interrupt is heard while a cell runs. When the socket closes the host is gone, and the
//! process ends at once: no orphan outlives its notebook.

use std::{
    cell::Cell,
    ffi::{CStr, CString},
    io::Write,
    os::{fd::FromRawFd, unix::net::UnixStream},
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use skep_render::Bundle;

use crate::{
    cell::{self, Entry},
    interrupt::{self, Flag},
    show::Shown,
    store,
    wire::{self, FromEval, Outcome, ToEval},
};

/// A host that is this busy may mix up the order of text and values; the cell goes on.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// Cells may recurse deeply; the memory is only reserved, not used.
const CELL_STACK: usize = 256 << 20;

struct Link {
    to_host: Mutex<UnixStream>,
    answers: Mutex<Receiver<Option<String>>>,
    /// The cell that currently owns the output. An abandoned one no longer speaks.
    running: AtomicU32,
    /// 1 while a cell waits for an answer.
    asking: AtomicU32,
    /// How much was shown, and how much of it the host has passed on.
    shown: (Mutex<Passed>, Condvar),
}

#[derive(Default)]
struct Passed {
    n_sent: u64,
    n_passed: u64,
}

thread_local! {
    /// The cell that this thread was started for; none in threads that cells start.
    static CELL: Cell<Option<u32>> = const { Cell::new(None) };
}

static LINK: OnceLock<Link> = OnceLock::new();

struct Job {
    cell: u32,
    library: String,
    entry: String,
    epoch: u32,
}

/// What the evaluation thread does, in order.
enum Work {
    Run(Job),
    Forget(Vec<String>),
}

struct Evaluator {
    jobs: Sender<Work>,
    stop: Flag,
}

/// Serves the host on the inherited socket `fd` until it closes, then ends the process. Never returns.
pub fn serve(fd: i32) -> ! {
    // SAFETY: the host made this descriptor for us and nobody else in this process uses it.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    let mut from_host = stream.try_clone().expect("invariant: a socket can be duplicated");
    let (answer, answers) = mpsc::channel();
    let link =
        Link { to_host: Mutex::new(stream), answers: Mutex::new(answers), running: AtomicU32::new(0), asking: AtomicU32::new(0), shown: Default::default() };
    assert!(LINK.set(link).is_ok(), "invariant: a process serves one host");
    thread::Builder::new().name("flush".into()).spawn(flush_often).expect("invariant: a thread can be started");
    let mut evaluator = Evaluator::start();
    send(&FromEval::Ready { pid: std::process::id(), build: wire::build_fingerprint() });
    loop {
        match wire::read_frame(&mut from_host) {
            Ok(ToEval::Run { cell, library, entry, epoch, columns }) => {
                skep_render::text::set_columns(columns.into());
                interrupt::lower_flag(&evaluator.stop);
                link_ref().running.store(cell, Ordering::SeqCst);
                let _ = evaluator.jobs.send(Work::Run(Job { cell, library, entry, epoch }));
            }
            Ok(ToEval::Interrupt { cell }) if is_running(cell) => {
                interrupt::raise(&evaluator.stop);
                if let Ok(()) = link_ref().asking.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).map(drop) {
                    let _ = answer.send(None);
                }
            }
            Ok(ToEval::Abandon { cell }) if claim_end(cell) => {
                // Should it come by a loop later, it stops there.
                interrupt::raise(&evaluator.stop);
                if link_ref().asking.swap(0, Ordering::SeqCst) == 1 {
                    let _ = answer.send(None);
                }
                let lost = store::leak_what_cannot_move();
                evaluator = Evaluator::start();
                send(&FromEval::Ended { cell, outcome: Outcome::Abandoned, variables: store::variables(), lost });
            }
            Ok(ToEval::Interrupt { .. } | ToEval::Abandon { .. }) => {}
            Ok(ToEval::Forget { names }) => drop(evaluator.jobs.send(Work::Forget(names))),
            Ok(ToEval::Input { value }) => {
                if link_ref().asking.swap(0, Ordering::SeqCst) == 1 {
                    let _ = answer.send(value);
                }
            }
            Ok(ToEval::Shown) => {
                lock_shown(link_ref()).n_passed += 1;
                link_ref().shown.1.notify_all();
            }
            // `_exit`: destructors and other threads have nothing left to tell anyone.
            Ok(ToEval::Exit) | Err(_) => unsafe { libc::_exit(0) },
        }
    }
}

impl Evaluator {
    fn start() -> Evaluator {
        let (jobs, inbox) = mpsc::channel::<Work>();
        let stop = Flag::default();
        let flag = stop.clone();
        let body = move || {
            interrupt::adopt(&flag);
            cell::quiet_panics();
            for work in inbox {
                let job = match work {
                    Work::Run(job) => job,
                    Work::Forget(names) => {
                        store::forget(&names);
                        continue;
                    }
                };
                // It was given up while this thread was still busy dropping variables.
                if !is_running(job.cell) {
                    continue;
                }
                CELL.set(Some(job.cell));
                store::begin_epoch(job.epoch);
                let outcome = load_and_run(&job);
                flush();
                if claim_end(job.cell) {
                    send(&FromEval::Ended { cell: job.cell, outcome, variables: store::variables(), lost: Vec::new() });
                } else {
                    send(&FromEval::Returned { variables: store::variables() });
                }
            }
        };
        thread::Builder::new().name("cell".into()).stack_size(CELL_STACK).spawn(body).expect("invariant: a thread can be started");
        Evaluator { jobs, stop }
    }
}

/// The libraries that are loaded stay so: values, statics and threads of old cells point into them.
fn load_and_run(job: &Job) -> Outcome {
    let refused = |message: String| Outcome::Refused { message };
    let (Ok(path), Ok(entry)) = (CString::new(job.library.as_str()), CString::new(job.entry.as_str())) else {
        return refused("a library's path holds a zero byte".into());
    };
    // SAFETY: the library was made by this build's compiler against this very dylib; its constructors are none.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return refused(format!("the compiled cell could not be loaded: {}", last_dl_error()));
    }
    // SAFETY: `handle` is live.
    let symbol = unsafe { libc::dlsym(handle, entry.as_ptr()) };
    if symbol.is_null() {
        return refused(format!("the compiled cell has no entry: {}", last_dl_error()));
    }
    // SAFETY: the host names the symbol that it generated with exactly this type.
    let entry = unsafe { std::mem::transmute::<*mut libc::c_void, Entry>(symbol) };
    std::panic::catch_unwind(entry).unwrap_or_else(cell::outcome_of_panic)
}

fn last_dl_error() -> String {
    // SAFETY: `dlerror` returns null or a C string that lives until the next call on this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() { "no reason given".into() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

fn link_ref() -> &'static Link {
    LINK.get().expect("invariant: set by `serve` before anything runs")
}

fn is_running(cell: u32) -> bool {
    link_ref().running.load(Ordering::SeqCst) == cell
}

/// Whether this thread is that of a cell which was given up.
pub(crate) fn is_abandoned() -> bool {
    LINK.get().is_some() && CELL.get().is_some_and(|cell| !is_running(cell))
}

/// The end of a cell is told once: by its thread, or by who gives it up.
fn claim_end(cell: u32) -> bool {
    link_ref().running.compare_exchange(cell, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// Outside an evaluation process (a plain program, a worker) there is nobody to tell, and nothing is sent.
fn send(message: &FromEval) -> bool {
    let Some(link) = LINK.get() else { return false };
    let mut stream = link.to_host.lock().unwrap_or_else(PoisonError::into_inner);
    match wire::write_frame(&mut *stream, message) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            drop(stream);
            eprintln!("error: not shown: {error}\nhint: show a part of it");
            // Nobody will say that it was passed on.
            lock_shown(link).n_passed += 1;
            true
        }
        Err(_) => false,
    }
}

fn flush() {
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: null means all C streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// `print!` without a newline stays in std's buffer until somebody flushes; a reader expects to see it at once.
fn flush_often() {
    loop {
        thread::sleep(Duration::from_millis(50));
        let _ = std::io::stdout().flush();
    }
}

/// Sends a shown value. Text printed before it comes first, and text printed after it later: the host says when it has
/// passed the value on, 50 µs later. A cell that was given up no longer shows anything.
fn send_in_order(message: &FromEval) -> bool {
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
    drop(link.shown.1.wait_timeout_while(lock_shown(link), MOST_WAIT, passed));
    true
}

fn lock_shown(link: &Link) -> MutexGuard<'_, Passed> {
    link.shown.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows the value of a cell's last expression.
pub fn result(bundle: Bundle) {
    send_in_order(&FromEval::Result { bundle });
}

/// The last words before an abort.
pub(crate) fn aborting(message: String, at: wire::Location) {
    send(&FromEval::Aborting { message, at });
}

pub(crate) fn notice(text: String) {
    flush();
    send(&FromEval::Notice { text });
}

/// Asks the host for the optimised build of a cell's library. False outside an evaluation process.
pub fn code_needed(library: &str) -> bool {
    send(&FromEval::CodeNeeded { library: library.to_string() })
}

/// What [`display`] returns: a place on the page, to be filled anew.
///
/// ```no_run
/// let shown = skep_eval::display("working");
/// shown.update("done");
/// ```
pub struct DisplayHandle {
    id: String,
}

impl DisplayHandle {
    /// Replaces what this handle shows.
    pub fn update<Kind, T: Shown<Kind>>(&self, value: T) {
        let bundle = value.shown();
        if !send_in_order(&FromEval::UpdateDisplay { id: self.id.clone(), bundle: bundle.clone() }) {
            println!("{}", bundle.plain());
        }
    }
}

/// Shows a value now, in the middle of a cell. Outside a notebook its text is printed.
pub fn display<Kind, T: Shown<Kind>>(value: T) -> DisplayHandle {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("skep-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let bundle = value.shown();
    if !send_in_order(&FromEval::Display { id: Some(id.clone()), bundle: bundle.clone() }) {
        println!("{}", bundle.plain());
    }
    DisplayHandle { id }
}

/// Clears the cell's output; with `wait`, only when the next output arrives, so that nothing flickers.
pub fn clear_output(wait: bool) {
    send_in_order(&FromEval::ClearOutput { wait });
}

/// Asks the person at the keyboard for a line of text.
///
/// # Errors
/// When nobody can answer: the front end does not allow input, or the cell was interrupted.
pub fn input(prompt: &str) -> std::io::Result<String> {
    ask(prompt, false)
}

/// Like [`input`], without showing what is typed.
pub fn password(prompt: &str) -> std::io::Result<String> {
    ask(prompt, true)
}

fn ask(prompt: &str, password: bool) -> std::io::Result<String> {
    let Some(link) = LINK.get() else {
        return Err(std::io::Error::other("no notebook is there to ask\nhint: read from `std::io::stdin()` in a plain program"));
    };
    let answer = ask_host(link, prompt, password);
    interrupt::poll();
    answer.ok_or_else(|| std::io::Error::other("nobody can answer here: this front end does not take input\nhint: pass the value in the code"))
}

fn ask_host(link: &Link, prompt: &str, password: bool) -> Option<String> {
    let answers = link.answers.lock().unwrap_or_else(PoisonError::into_inner);
    while answers.try_recv().is_ok() {}
    link.asking.store(1, Ordering::SeqCst);
    if interrupt::interrupted() || is_abandoned() {
        link.asking.store(0, Ordering::SeqCst);
        return None;
    }
    flush();
    if !send(&FromEval::Input { prompt: prompt.to_string(), password }) {
        return None;
    }
    answers.recv().ok().flatten()
}

/// Standard input of a cell: each line is asked for when somebody reads it. Returns the bytes read; 0 is the end of input,
/// which is also the answer where nobody can be asked, and after an interrupt.
pub fn read_stdin(buffer: &mut [u8]) -> usize {
    static REST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let mut rest = REST.lock().unwrap_or_else(PoisonError::into_inner);
    if rest.is_empty() {
        let line = LINK.get().and_then(|link| ask_host(link, "", false));
        rest.extend(line.map(|line| line + "\n").unwrap_or_default().into_bytes());
    }
    let n = rest.len().min(buffer.len());
    buffer[..n].copy_from_slice(&rest[..n]);
    rest.drain(..n);
    n
}
