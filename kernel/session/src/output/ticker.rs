//! How long something takes that nobody else shows.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use skep_render::{Bundle, duration};

use crate::{
    frontend::{Frontend, Output},
    output::serial::Serial,
};

/// A compilation shorter than this is not worth a line.
const COMPILE_PATIENCE: Duration = Duration::from_secs(1);

/// Says that a cell is being compiled, and for how long, until it is dropped.
pub struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// `what` is in front of the time: `compiling`.
    pub fn start(frontend: Arc<Serial>, cell: u32, what: &'static str) -> Ticker {
        let so_far = move |elapsed: Duration| {
            format!(
                "{what}, {} so far; an interrupt stops it",
                duration(Duration::from_secs(elapsed.as_secs()))
            )
        };
        Ticker::saying(frontend, cell, what, so_far)
    }

    /// Shows what `so_far` makes of the time that has passed, and at the end how long it took.
    pub fn saying(
        frontend: Arc<Serial>,
        cell: u32,
        what: &'static str,
        so_far: impl Fn(Duration) -> String + Send + 'static,
    ) -> Ticker {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let started = Instant::now();
            let id = format!("skep-progress-compile-{}-{cell}", std::process::id());
            let mut wait = COMPILE_PATIENCE;
            let mut is_shown = false;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                let bundle = Bundle::text(so_far(started.elapsed()));
                let output = if is_shown {
                    Output::UpdateDisplay {
                        id: id.clone(),
                        bundle,
                    }
                } else {
                    Output::Display {
                        id: Some(id.clone()),
                        bundle,
                    }
                };
                frontend.output(cell, output);
                (is_shown, wait) = (true, Duration::from_secs(1));
            }
            if is_shown {
                let bundle = Bundle::text(format!("{what} took {}", duration(started.elapsed())));
                frontend.output(cell, Output::UpdateDisplay { id, bundle });
            }
        });
        Ticker {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
