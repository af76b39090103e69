//! The evaluation process: a control thread that reads the host's messages and a thread that runs cells.
//!
//! The two are apart so that an interrupt is heard while a cell runs. When the socket closes the host is
//! gone, and the process ends at once: no orphan outlives its notebook.

use std::{
    ffi::{CStr, CString},
    io::Write,
    os::{fd::FromRawFd, unix::net::UnixStream},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use skep_render::control::Value;

use crate::{
    cell::{self, Entry},
    control,
    interrupt::{self, Flag},
    link::{CELL, LINK, Link, claim_end, flush, is_running, link_ref, lock_shown, send},
    panics, store,
    wire::{self, FromEval, Outcome, ToEval},
};

/// Cells may recurse deeply; the memory is only reserved, not used.
const CELL_STACK: usize = 256 << 20;

/// What the evaluation thread does, in order.
enum Work {
    Run(Job),
    Turn {
        cell: u32,
        control: u64,
        value: Option<Value>,
        area: Option<String>,
    },
    Forget(Vec<String>),
}

struct Job {
    cell: u32,
    library: String,
    entry: String,
    epoch: u32,
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
    let link = Link {
        to_host: Mutex::new(stream),
        answers: Mutex::new(answers),
        running: AtomicU32::new(0),
        asking: AtomicU32::new(0),
        shown: Default::default(),
    };
    assert!(LINK.set(link).is_ok(), "invariant: a process serves one host");
    thread::Builder::new()
        .name("flush".into())
        .spawn(flush_often)
        .expect("invariant: a thread can be started");
    let mut evaluator = Evaluator::start();
    send(&FromEval::Ready {
        pid: std::process::id(),
        build: wire::build_fingerprint(),
    });
    loop {
        match wire::read_frame(&mut from_host) {
            Ok(ToEval::Run {
                cell,
                library,
                entry,
                epoch,
                columns,
            }) => {
                skep_render::text::set_columns(columns.into());
                evaluator.begin(cell);
                let _ = evaluator.jobs.send(Work::Run(Job {
                    cell,
                    library,
                    entry,
                    epoch,
                }));
            }
            Ok(ToEval::Turn {
                cell,
                control,
                value,
                area,
            }) => {
                evaluator.begin(cell);
                let _ = evaluator.jobs.send(Work::Turn {
                    cell,
                    control,
                    value,
                    area,
                });
            }
            Ok(ToEval::Interrupt { cell }) if is_running(cell) => {
                interrupt::raise(&evaluator.stop);
                if let Ok(()) = link_ref()
                    .asking
                    .compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst)
                    .map(drop)
                {
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
                send(&FromEval::Ended {
                    cell,
                    outcome: Outcome::Abandoned,
                    variables: store::variables(),
                    lost,
                });
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
    /// A cell, or a turn of a control, is about to run.
    fn begin(&self, cell: u32) {
        interrupt::lower_flag(&self.stop);
        link_ref().running.store(cell, Ordering::SeqCst);
    }

    fn start() -> Evaluator {
        let (jobs, inbox) = mpsc::channel::<Work>();
        let stop = Flag::default();
        let flag = stop.clone();
        let body = move || {
            interrupt::adopt(&flag);
            panics::quiet_panics();
            for work in inbox {
                let cell = match &work {
                    Work::Run(Job { cell, .. }) | Work::Turn { cell, .. } => *cell,
                    Work::Forget(names) => {
                        store::forget(names);
                        continue;
                    }
                };
                // It was given up while this thread was still busy dropping variables.
                if !is_running(cell) {
                    continue;
                }
                CELL.set(Some(cell));
                let outcome = match work {
                    Work::Run(job) => {
                        store::begin_epoch(job.epoch);
                        load_and_run(&job)
                    }
                    Work::Turn {
                        control, value, area, ..
                    } => control::turn(control, value.as_ref(), area.as_deref()),
                    Work::Forget(_) => continue,
                };
                flush();
                if claim_end(cell) {
                    send(&FromEval::Ended {
                        cell,
                        outcome,
                        variables: store::variables(),
                        lost: Vec::new(),
                    });
                } else {
                    send(&FromEval::Returned {
                        variables: store::variables(),
                    });
                }
            }
        };
        thread::Builder::new()
            .name("cell".into())
            .stack_size(CELL_STACK)
            .spawn(body)
            .expect("invariant: a thread can be started");
        Evaluator { jobs, stop }
    }
}

/// The libraries that are loaded stay so: values, statics and threads of old cells point into them.
fn load_and_run(job: &Job) -> Outcome {
    let refused = |message: String| Outcome::Refused {
        message: message.into(),
    };
    let (Ok(path), Ok(entry)) = (
        CString::new(job.library.as_str()),
        CString::new(job.entry.as_str()),
    ) else {
        return refused("a library's path holds a zero byte".into());
    };
    // SAFETY: the library was made by this build's compiler against this very dylib; its constructors are
    // none.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return refused(format!(
            "the compiled cell could not be loaded: {}",
            last_dl_error()
        ));
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
    if text.is_null() {
        "no reason given".into()
    } else {
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// `print!` without a newline stays in std's buffer until somebody flushes; a reader expects to see it at
/// once.
fn flush_often() {
    loop {
        thread::sleep(Duration::from_millis(50));
        let _ = std::io::stdout().flush();
    }
}
