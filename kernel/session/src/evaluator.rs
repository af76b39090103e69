//! The host's end of the evaluation process: starts it, passes on what it shows, and notices how it ends.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::{
            net::{UnixListener, UnixStream},
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skep_eval::wire::{self, FromEval, Outcome, ToEval, Variable};
use skep_render::{
    Message,
    control::{Control, shown_in},
};

use crate::{
    frontend::{Frontend, Output},
    home::Home,
    output::{
        content::{Content, Piece},
        notes,
        throttle::Throttle,
    },
};

/// What the evaluation process reports besides output.
pub enum Report {
    Ended {
        cell: u32,
        outcome: Outcome,
        variables: Vec<Variable>,
        lost: Vec<String>,
    },
    Died(String),
}

impl Report {
    /// One word or two, for the log.
    pub(crate) fn in_short(&self) -> &'static str {
        match self {
            Report::Died(_) => "the evaluation process died",
            Report::Ended {
                outcome: Outcome::Done,
                ..
            } => "done",
            Report::Ended {
                outcome: Outcome::Failed { .. },
                ..
            } => "failed",
            Report::Ended {
                outcome: Outcome::Panicked { .. },
                ..
            } => "panicked",
            Report::Ended {
                outcome: Outcome::Interrupted,
                ..
            } => "interrupted",
            Report::Ended {
                outcome: Outcome::Abandoned,
                ..
            } => "given up",
            Report::Ended {
                outcome: Outcome::Refused { .. },
                ..
            } => "refused",
        }
    }
}

/// A running evaluation process.
pub struct Evaluator {
    to_eval: ToProcess,
    process: Process,
    reports: Mutex<Receiver<Report>>,
    current: Arc<AtomicU32>,
    returned: Returned,
}

/// The process, until it has been waited for: from then on its number may be another's.
type Process = Arc<Mutex<Option<Child>>>;

/// Frames from several threads leave one at a time.
type ToProcess = Arc<Mutex<UnixStream>>;

/// The variables after a cell that had been given up was done.
type Returned = Arc<Mutex<Option<Vec<Variable>>>>;

/// What a session does for its evaluation process.
pub struct Hooks {
    /// Tasks want the library of a cell, compiled for speed.
    pub code_needed: Arc<dyn Fn(String) + Send + Sync>,
    /// Called before something that the cell printed or shows goes to the page: what tasks printed earlier
    /// comes first.
    pub before_output: Arc<dyn Fn() + Send + Sync>,
    /// Called before the value of a cell's last expression is shown: the bar above it says how its tasks
    /// ended.
    pub before_result: Arc<dyn Fn() + Send + Sync>,
    /// Controls, and what reacts to them.
    pub on_control: Arc<dyn Fn(ControlReport) + Send + Sync>,
}

/// What the evaluation process says of its controls.
pub enum ControlReport {
    Control {
        id: u64,
        control: Control,
    },
    /// A closure is to be run now, and when one of these is set; what it shows stands in this place.
    Interact {
        controls: Vec<u64>,
        area: String,
    },
    Shown(u64),
    /// What comes next is shown there.
    Area(String),
}

impl Evaluator {
    /// Starts the process and waits until it is ready, a tenth of a second on a quiet machine.
    pub fn start(
        home: &Home,
        folder: &Path,
        frontend: Arc<dyn Frontend>,
        hooks: Hooks,
    ) -> io::Result<Evaluator> {
        let path = folder.join("eval.sock");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let mut command = Command::new(home.executable());
        command
            .arg("eval")
            .arg(&path)
            .env("SKEP_HOME", home.root())
            .env("LD_LIBRARY_PATH", home.library_folder())
            .env("SKEP_RUN", folder);
        // Ctrl-C in a terminal is for the session, which decides what it means.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            io::Error::other(format!("the evaluation process could not be started: {error}"))
        })?;
        let out = child.stdout.take().expect("invariant: stdout is piped");
        let err = child.stderr.take().expect("invariant: stderr is piped");
        let (mut stream, err) = accept(&listener, &mut child, err)?;
        let _ = fs::remove_file(&path);
        let ready = wire::read_frame(&mut stream)?;
        let FromEval::Ready { build, .. } = ready else {
            return Err(io::Error::other(
                "the evaluation process did not say that it is ready",
            ));
        };
        if build != wire::build_fingerprint() {
            return Err(io::Error::other(
                Message::new(format!(
                    "libskep.so is of build {build}, this is {}",
                    wire::build_fingerprint()
                ))
                .hint("run ./install/start again"),
            ));
        }
        let (report, reports) = mpsc::channel();
        let current = Arc::new(AtomicU32::new(0));
        let returned = Returned::default();
        let to_eval: ToProcess = Arc::new(Mutex::new(stream.try_clone()?));
        let process: Process = Arc::new(Mutex::new(Some(child)));
        let pump = Pump {
            flow: Throttle::new(frontend.clone()),
            stream,
            out: Pipe {
                fd: PipeEnd::Out(out),
                partial: Vec::new(),
            },
            err: Pipe {
                fd: PipeEnd::Err(err),
                partial: Vec::new(),
            },
            process: process.clone(),
            content: Content::default(),
            frontend,
            report,
            current: current.clone(),
            answers: to_eval.clone(),
            hooks,
            returned: returned.clone(),
            last_words: None,
        };
        thread::Builder::new()
            .name("output".into())
            .spawn(move || pump.run())?;
        Ok(Evaluator {
            to_eval,
            process,
            reports: Mutex::new(reports),
            current,
            returned,
        })
    }

    pub fn send(&self, message: &ToEval) -> io::Result<()> {
        send(&self.to_eval, message)
    }

    /// Runs a compiled cell and waits for its end.
    pub fn run(&self, cell: u32, library: &Path, entry: &str, epoch: u32) -> Report {
        self.run_to_end(
            cell,
            &ToEval::Run {
                cell,
                library: library.to_string_lossy().into_owned(),
                entry: entry.to_string(),
                epoch,
                columns: skep_render::text::columns() as u16,
            },
        )
    }

    /// Runs `message`, which is `cell`, and waits for its end.
    pub fn run_to_end(&self, cell: u32, message: &ToEval) -> Report {
        self.current.store(cell, Ordering::SeqCst);
        let sent = self.send(message);
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match reports.recv() {
                Ok(Report::Ended { cell: ended, .. }) if ended != cell => {}
                Ok(report) => return report,
                Err(_) => {
                    return Report::Died(
                        sent.err()
                            .map_or_else(|| "it is gone".to_string(), |error| error.to_string()),
                    );
                }
            }
        }
    }

    /// What is held since a cell that had been given up was done; once.
    pub fn returned(&self) -> Option<Vec<Variable>> {
        self.returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether the process has ended since the last cell.
    pub fn died(&self) -> Option<String> {
        match self
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_recv()
        {
            Ok(Report::Died(reason)) => Some(reason),
            Err(mpsc::TryRecvError::Disconnected) => Some("it is gone".to_string()),
            _ => None,
        }
    }

    pub fn kill(&self) {
        if let Some(child) = self
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            let _ = child.kill();
        }
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        let _ = self.send(&ToEval::Exit);
    }
}

fn send(to_eval: &ToProcess, message: &ToEval) -> io::Result<()> {
    wire::write_frame(
        &mut *to_eval.lock().unwrap_or_else(PoisonError::into_inner),
        message,
    )
}

/// Waits for the process to connect, unless it ends before.
fn accept(
    listener: &UnixListener,
    child: &mut Child,
    mut err: ChildStderr,
) -> io::Result<(UnixStream, ChildStderr)> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        if poll(&mut fds, Some(&wait)).map_err(io::Error::from)? > 0 {
            return Ok((listener.accept()?.0, err));
        }
        if let Some(status) = child.try_wait()? {
            let mut said = String::new();
            let _ = err.read_to_string(&mut said);
            return Err(io::Error::other(format!(
                "the evaluation process ended with {status}: {}",
                said.trim()
            )));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            return Err(io::Error::other(
                Message::new("the evaluation process did not answer within 30 s")
                    .hint("look whether the machine is out of memory"),
            ));
        }
    }
}

enum PipeEnd {
    Out(ChildStdout),
    Err(ChildStderr),
}

struct Pipe {
    fd: PipeEnd,
    /// The start of a character that is not whole yet.
    partial: Vec<u8>,
}

/// Reads the socket and both pipes in one thread, so that everything comes out in the order it went in.
struct Pump {
    flow: Throttle,
    stream: UnixStream,
    out: Pipe,
    err: Pipe,
    process: Process,
    /// Content that the cell prints between marker lines.
    content: Content,
    frontend: Arc<dyn Frontend>,
    report: Sender<Report>,
    current: Arc<AtomicU32>,
    answers: ToProcess,
    hooks: Hooks,
    returned: Returned,
    /// Why the process is about to abort, if it said so.
    last_words: Option<String>,
}

impl Pump {
    fn run(mut self) {
        let reason = loop {
            let (message, out, err) = match self.wait() {
                Ok(ready) => ready,
                Err(error) => break format!("its output could not be read: {error}"),
            };
            // Text first: what was printed before a message was sent is in the pipe by now.
            if out | err | message {
                (self.hooks.before_output)();
                self.drain();
            }
            if !message {
                if self.flow.due_in() == Some(Duration::ZERO) {
                    self.flow.flush();
                }
                continue;
            }
            match wire::read_frame(&mut self.stream) {
                Ok(message) => self.on_message(message),
                Err(_) => {
                    self.drain();
                    self.end_content();
                    self.flow.finish();
                    let end = reap(&self.process).map_or_else(|error| error.to_string(), describe_end);
                    break self
                        .last_words
                        .take()
                        .map_or(end.clone(), |words| format!("{end}: {words}"));
                }
            }
        };
        let _ = self.report.send(Report::Died(reason));
    }

    fn wait(&self) -> io::Result<(bool, bool, bool)> {
        let mut fds = vec![PollFd::new(&self.stream, PollFlags::IN)];
        fds.push(PollFd::from_borrowed_fd(self.out.fd.borrowed(), PollFlags::IN));
        fds.push(PollFd::from_borrowed_fd(self.err.fd.borrowed(), PollFlags::IN));
        loop {
            let due = self.flow.due_in().map(|due| Timespec {
                tv_sec: 0,
                tv_nsec: due.subsec_nanos().max(1).into(),
            });
            match poll(&mut fds, due.as_ref()) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let is_ready = |fd: &PollFd| !fd.revents().is_empty();
        let (message, out, err) = (is_ready(&fds[0]), is_ready(&fds[1]), is_ready(&fds[2]));
        if !message && fds[1..].iter().all(|fd| fd.revents() == PollFlags::HUP) {
            // Both pipes are closed but the socket is not: a cell closed its own stdout.
            thread::sleep(Duration::from_millis(20));
        }
        Ok((message, out, err))
    }

    fn drain(&mut self) {
        let cell = self.current.load(Ordering::SeqCst);
        for is_stderr in [false, true] {
            // A pipe holds 64 KiB: after that much, what is left came later than the message that waits.
            for _ in 0..4 {
                let pipe = if is_stderr { &mut self.err } else { &mut self.out };
                let Some(text) = pipe.read() else { break };
                if is_stderr {
                    self.flow.add(cell, true, &text);
                    continue;
                }
                for piece in self.content.add(&text) {
                    self.pass_on(cell, piece);
                }
            }
        }
    }

    fn pass_on(&mut self, cell: u32, piece: Piece) {
        match piece {
            Piece::Text(text) => self.flow.add(cell, false, &text),
            Piece::Shown(bundle) => {
                self.flow.flush();
                self.frontend.output(cell, Output::Display { id: None, bundle });
            }
        }
    }

    fn end_content(&mut self) {
        if let Some(piece) = self.content.finish() {
            self.pass_on(self.current.load(Ordering::SeqCst), piece);
        }
    }

    fn on_message(&mut self, message: FromEval) {
        let cell = self.current.load(Ordering::SeqCst);
        match &message {
            FromEval::Ended { .. } => {
                self.end_content();
                self.flow.finish();
            }
            _ => self.flow.flush(),
        }
        match message {
            FromEval::Ready { .. } => {}
            FromEval::Result { bundle } => self.show(cell, Output::Result(bundle)),
            FromEval::Display { id, bundle } => {
                if let Some(control) = shown_in(&bundle) {
                    (self.hooks.on_control)(ControlReport::Shown(control));
                }
                self.show(cell, Output::Display { id, bundle });
            }
            FromEval::UpdateDisplay { id, bundle } => self.show(cell, Output::UpdateDisplay { id, bundle }),
            FromEval::ClearOutput { wait } => self.show(cell, Output::ClearOutput { wait }),
            FromEval::Returned { variables } => {
                *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(variables)
            }
            FromEval::Aborting { message, at } => {
                self.last_words = Some(format!("{message}, at {}:{}:{}", at.file, at.line, at.column))
            }
            FromEval::Notice { text } => self.frontend.output(cell, notes::note(&text)),
            FromEval::CodeNeeded { library } => (self.hooks.code_needed)(library),
            FromEval::Control { id, control } => {
                (self.hooks.on_control)(ControlReport::Control { id, control })
            }
            FromEval::Interact { controls, area } => {
                (self.hooks.on_control)(ControlReport::Interact { controls, area })
            }
            FromEval::Area { id } => {
                (self.hooks.on_control)(ControlReport::Area(id));
                let _ = send(&self.answers, &ToEval::Shown);
            }
            FromEval::Input { prompt, password } => self.ask(cell, prompt, password),
            FromEval::Ended {
                cell,
                outcome,
                variables,
                lost,
            } => drop(self.report.send(Report::Ended {
                cell,
                outcome,
                variables,
                lost,
            })),
        }
    }

    /// Shows a value and tells the cell, which waits so that what it prints next comes after.
    fn show(&mut self, cell: u32, output: Output) {
        let output = match output {
            Output::Result(bundle) => {
                (self.hooks.before_result)();
                Output::Result(crate::output::content::unwrapped(bundle))
            }
            other => other,
        };
        self.frontend.output(cell, output);
        let _ = send(&self.answers, &ToEval::Shown);
    }

    /// In a thread of its own: a person may take long, and prints of other threads go on meanwhile.
    fn ask(&self, cell: u32, prompt: String, password: bool) {
        let frontend = self.frontend.clone();
        let answers = self.answers.clone();
        thread::spawn(move || {
            let value = frontend.ask(cell, &prompt, password);
            let _ = send(&answers, &ToEval::Input { value });
        });
    }
}

/// Waits for the end of a process whose socket is closed. It can still be killed meanwhile, and no longer
/// once it is waited for.
fn reap(process: &Process) -> io::Result<ExitStatus> {
    loop {
        {
            let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(child) = process.as_mut() else {
                return Err(io::Error::other("it is gone"));
            };
            if let Some(status) = child.try_wait()? {
                *process = None;
                return Ok(status);
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl PipeEnd {
    fn borrowed(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            PipeEnd::Out(out) => out.as_fd(),
            PipeEnd::Err(err) => err.as_fd(),
        }
    }
}

impl Pipe {
    /// What is there now, up to 64 KiB; `None` when there is nothing.
    fn read(&mut self) -> Option<String> {
        let fd = self.fd.borrowed();
        let n_waiting = rustix::io::ioctl_fionread(fd).unwrap_or(0);
        if n_waiting == 0 {
            return None;
        }
        let mut buffer = vec![0; (n_waiting as usize).min(1 << 16)];
        let n_read = rustix::io::read(fd, &mut buffer).ok().filter(|n| *n > 0)?;
        self.partial.extend_from_slice(&buffer[..n_read]);
        let whole = whole_characters(&self.partial);
        let rest = self.partial.split_off(whole);
        let bytes = std::mem::replace(&mut self.partial, rest);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The length without a last character that is still incomplete.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

fn describe_end(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(11), _) => {
            "it crashed with a segmentation fault (SIGSEGV); infinite recursion or `unsafe` code does that"
                .to_string()
        }
        (Some(6), _) => "it aborted (SIGABRT)".to_string(),
        (Some(9), _) => "it was killed (SIGKILL); the system does that when memory runs out".to_string(),
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (None, Some(code)) => format!("it exited with code {code}"),
        (None, None) => "it ended".to_string(),
    }
}

#[test]
fn a_character_is_not_cut_in_two() {
    assert_eq!(whole_characters("aé".as_bytes()), 3);
    assert_eq!(whole_characters(&"aé".as_bytes()[..2]), 1);
    assert_eq!(
        whole_characters(&[b'a', 255]),
        2,
        "invalid bytes pass, as replacement characters"
    );
}
