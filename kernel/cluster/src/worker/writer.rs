//! The thread that turns values into bytes, for others or for the disk: large ones take long, and the worker must hear
//! its scheduler meanwhile.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use mio::Waker;

use crate::{
    data::{
        parts,
        segment::{self, Segment},
        value::Stored,
    },
    model::{ids::Key, task::Output},
    wire::{
        protocol::{Carried, FromPeer},
        transport::ConnId,
    },
    worker::{options::WorkerOptions, process::give_memory_back},
};

/// Work for the thread.
pub(crate) enum Job {
    Send {
        to: ConnId,
        output: Output,
        value: Stored,
    },
    Spill {
        key: Key,
        value: Stored,
    },
    /// Values were let go: the system shall have their memory.
    Trim,
}

/// What it has done.
pub(crate) enum Written {
    Bytes {
        to: ConnId,
        key: Key,
        bytes: Result<Vec<u8>, String>,
    },
    Segment {
        to: ConnId,
        output: Output,
        segment: Arc<Segment>,
    },
    Spilled {
        key: Key,
        value: Result<Stored, String>,
    },
}
/// Starts the thread; what it has done is put into `written`, and `waker` is woken.
pub(crate) fn start_writer(
    options: &WorkerOptions,
    written: Arc<Mutex<Vec<Written>>>,
    waker: Arc<Waker>,
) -> io::Result<Sender<Job>> {
    let (sender, wanted) = mpsc::channel::<Job>();
    let folder = options
        .scheduler
        .parent()
        .unwrap_or(Path::new("/tmp"))
        .to_path_buf();
    let spill_folder = options.spill_folder.clone();
    thread::Builder::new().name("values".into()).spawn(move || {
        let mut n_spilled = 0u64;
        for write in wanted {
            let done = match write {
                Job::Send { to, output, value } => {
                    // A type's own `Serialize` may panic, and others still want their values.
                    let sent = catch_unwind(AssertUnwindSafe(|| send(to, output, &value, &folder)));
                    sent.unwrap_or_else(|_| Written::Bytes {
                        to,
                        key: output.key(),
                        bytes: Err("turning it into bytes panicked".into()),
                    })
                }
                Job::Trim => {
                    give_memory_back();
                    continue;
                }
                Job::Spill { key, value } => {
                    n_spilled += 1;
                    let spilled = fs::create_dir_all(&spill_folder)
                        .map_err(|error| error.to_string())
                        .and_then(|()| {
                            let path = spill_folder.join(format!("{:032x}-{n_spilled}", key.0));
                            catch_unwind(AssertUnwindSafe(|| value.spill(&path)))
                                .unwrap_or_else(|_| Err("turning it into bytes panicked".into()))
                        });
                    // Here rather than at the end of the scope: the memory is to go before the next look.
                    drop(value);
                    Written::Spilled { key, value: spilled }
                }
            };
            written.lock().unwrap_or_else(PoisonError::into_inner).push(done);
            let _ = waker.wake();
        }
    })?;
    Ok(sender)
}

/// Small values go through the socket, large ones by memory that both map.
fn send(to: ConnId, output: Output, value: &Stored, folder: &Path) -> Written {
    if value.size() >= segment::LEAST
        && let Ok(segment) = value.share(folder)
    {
        return Written::Segment { to, output, segment };
    }
    // It is small, or it has no bytes, or there is no memory for a segment; the socket says which.
    let bytes = match output.part {
        None => value.encode(),
        Some(part) => value.part(part).and_then(|part| part.encode()),
    };
    Written::Bytes {
        to,
        key: output.key(),
        bytes,
    }
}

/// The answer to who asked for this.
pub(crate) fn carried(output: Output, segment: &Segment) -> FromPeer {
    let range = output.part.map(|part| parts::range(segment.bytes(), part));
    FromPeer::Value {
        key: output.key(),
        value: Some(range.transpose().map(|range| Carried::segment(segment, range))),
    }
}
