//! What tasks print: a worker's standard output and error, as pipes that it reads itself, so that the text
//! can be shown in the cell that launched the task.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{model::ids::Key, wire::protocol::ToScheduler};

/// Of what one task prints, this much is passed on.
const MOST_PRINTED: usize = 1 << 20;

/// The ends of the pipes to read from.
pub(crate) struct Capture(Mutex<Pipes>);

struct Pipes {
    ends: [End; 2],
    /// Whose text was passed on last, and how much.
    of: Option<Key>,
    n_passed: usize,
}

struct End {
    file: File,
    is_stderr: bool,
    /// The start of a character that is not whole yet.
    partial: Vec<u8>,
}

impl Capture {
    /// Takes over this process's standard output and error, and gives them as they were.
    pub fn begin() -> io::Result<(Capture, [File; 2])> {
        let before = [
            File::from(io::stdout().as_fd().try_clone_to_owned()?),
            File::from(io::stderr().as_fd().try_clone_to_owned()?),
        ];
        let (out, to_out) = pipe()?;
        let (err, to_err) = pipe()?;
        for (to, place) in [(&to_out, libc::STDOUT_FILENO), (&to_err, libc::STDERR_FILENO)] {
            // SAFETY: both are open descriptors, and nothing keeps what was in that place.
            if unsafe { libc::dup2(to.as_raw_fd(), place) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let end = |fd: OwnedFd, is_stderr| End {
            file: fd.into(),
            is_stderr,
            partial: Vec::new(),
        };
        let pipes = Pipes {
            ends: [end(out, false), end(err, true)],
            of: None,
            n_passed: 0,
        };
        Ok((Capture(Mutex::new(pipes)), before))
    }

    /// Passes on what there is, as text of a task.
    pub fn drain(&self, key: Option<Key>, say: &dyn Fn(ToScheduler)) {
        // What is printed without a newline is still with the standard library.
        let _ = io::stdout().flush();
        self.read(key, say);
    }

    fn read(&self, key: Option<Key>, say: &dyn Fn(ToScheduler)) {
        let mut pipes = self.lock();
        if is_readable(&pipes.ends) {
            pipes.read(key, say);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pipes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what tasks print while they run, until the process ends.
    ///
    /// `running` gives a task that runs now, if one does.
    pub fn watch(
        self: &Arc<Capture>,
        running: impl Fn() -> Option<Key> + Send + 'static,
        say: impl Fn(ToScheduler) + Send + 'static,
    ) -> io::Result<()> {
        let fds = {
            let pipes = self.lock();
            [pipes.ends[0].file.try_clone()?, pipes.ends[1].file.try_clone()?]
        };
        let capture = self.clone();
        thread::Builder::new().name("prints".into()).spawn(move || {
            loop {
                let mut fds = [
                    PollFd::new(&fds[0], PollFlags::IN),
                    PollFd::new(&fds[1], PollFlags::IN),
                ];
                if poll(&mut fds, None).is_err() {
                    return;
                }
                // With several threads it is not known whose text it is; any of them was launched by some
                // cell.
                capture.read(running(), &say);
            }
        })?;
        Ok(())
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Whether any of these has something, without waiting for it.
fn is_readable(ends: &[End]) -> bool {
    let mut fds: Vec<PollFd<'_>> = ends
        .iter()
        .map(|end| PollFd::new(&end.file, PollFlags::IN))
        .collect();
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .is_ok_and(|n| n > 0)
}

impl Pipes {
    fn read(&mut self, key: Option<Key>, say: &dyn Fn(ToScheduler)) {
        // Only at the beginning of a task is it another one's text.
        if key.is_some() && self.of != key {
            (self.of, self.n_passed) = (key, 0);
        }
        for end in &mut self.ends {
            let mut text = Vec::new();
            loop {
                if text.len() >= 64 << 10 || !is_readable(std::slice::from_ref(end)) {
                    break;
                }
                let mut buffer = [0; 16 << 10];
                match end.file.read(&mut buffer) {
                    Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            if text.is_empty() {
                continue;
            }
            let mut bytes = std::mem::take(&mut end.partial);
            bytes.extend(text);
            end.partial = bytes.split_off(whole_characters(&bytes));
            let room = MOST_PRINTED.saturating_sub(self.n_passed);
            if room == 0 {
                continue;
            }
            self.n_passed += bytes.len();
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            if bytes.len() > room {
                text.truncate(text.floor_char_boundary(room));
                text.push_str("\n… what this task printed beyond 1 MiB is not shown\n");
            }
            say(ToScheduler::Printed {
                key: key.or(self.of),
                is_stderr: end.is_stderr,
                text,
            });
        }
    }
}

/// How much of the bytes does not end within a character.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if length > back {
            bytes.len() - back
        } else {
            bytes.len()
        };
    }
    bytes.len()
}

#[test]
fn characters_stay_whole() {
    for (text, cut) in [("é", 0), ("日本", 3), ("a🐝", 1)] {
        let bytes = text.as_bytes();
        assert_eq!(whole_characters(bytes), bytes.len());
        assert_eq!(whole_characters(&bytes[..bytes.len() - 1]), cut, "{text}");
    }
    assert_eq!(whole_characters(b"plain"), 5);
}
