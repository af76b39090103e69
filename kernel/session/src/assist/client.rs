//! The analyser: one process for all notebooks of a user, started at the first question, asked without
//! waiting for it.
//!
//! It is a help and no more: while it starts, when it is not installed, or after it ended, the answer is
//! `None` and the caller goes on with what it knows itself.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use skep_assist::wire::{Answer, Candidate, Question, QuestionKind, SOCKET, idle_limit};
use skep_render::Message;

use crate::home::{Home, cache_folder};

/// A question that takes longer is given up; rust-analyzer finishes it, and the next one finds its result.
const PATIENCE: Duration = Duration::from_millis(1500);
/// It is started again after it died, this often.
const MOST_STARTS: u32 = 3;
/// A process that was started listens by then.
const MOST_WAIT: Duration = Duration::from_secs(20);

pub struct Assist {
    state: Arc<Mutex<State>>,
    start: Start,
}

/// What it takes to start the process.
#[derive(Clone)]
struct Start {
    program: PathBuf,
    /// It is compiled after frames, which a first start has not yet.
    comes_later: bool,
    folder: PathBuf,
    checkout: PathBuf,
    sources: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    is_off: bool,
    n_starts: u32,
    link: Option<Link>,
    /// Counts links: the reader of an old one has nothing to say of a new one.
    n_links: u64,
    next_id: u64,
    waiting: Option<(u64, Sender<Answer>)>,
    /// Why it is not there, in words.
    trouble: Option<String>,
}

struct Link {
    /// `None` until it listens.
    stream: Option<UnixStream>,
    pid: u32,
    is_ready: bool,
    /// When it will have read its sources, where that is known.
    ready_at: Option<Instant>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Assist {
    pub fn new(home: &Home) -> Assist {
        let program = home.root().join("bin/skep-assist");
        let folder = cache_folder()
            .join("run")
            .join(format!("assist-{:016x}", identity(&program, &home.checkout())));
        Assist {
            state: Arc::default(),
            start: Start {
                program,
                comes_later: !home.has_frames(),
                folder,
                checkout: home.checkout(),
                sources: home.standard_library(),
            },
        }
    }

    pub fn set_on(&self, is_on: bool) {
        let mut state = lock(&self.state);
        state.is_off = !is_on;
        state.n_starts = 0;
        state.trouble = None;
        if !is_on {
            state.drop_link();
        }
    }

    /// One line about its state, and what it costs.
    pub fn describe(&self) -> String {
        let state = lock(&self.state);
        match (&state.link, &state.trouble) {
            _ if state.is_off => {
                "off for this notebook: names in scope and commands still complete; `:assist on` turns it on"
                    .to_string()
            }
            (Some(link), _) => {
                let memory = resident(link.pid)
                    .map_or_else(String::new, |n| format!(", {} resident", skep_render::bytes(n)));
                let what = if link.is_ready {
                    "on".to_string()
                } else {
                    link.reading()
                };
                let idle = match idle_limit().as_secs() {
                    seconds if seconds % 60 == 0 => skep_render::plural(seconds as usize / 60, "minute"),
                    seconds => skep_render::plural(seconds as usize, "second"),
                };
                format!(
                    "{what}{memory}, shared by all notebooks; it ends after {idle} without a question; `:assist off` does without it here"
                )
            }
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => "on: starts at the first Tab; `:assist off` keeps it from starting".to_string(),
        }
    }

    /// How long until it knows more; `None` when it is not on its way.
    pub fn is_coming(&self) -> Option<String> {
        let state = lock(&self.state);
        state
            .link
            .as_ref()
            .filter(|link| !link.is_ready)
            .map(Link::reading)
    }

    /// What can stand at a byte of a program.
    pub fn complete(&self, source: String, offset: usize) -> Option<(usize, usize, Vec<Candidate>)> {
        match self.ask(source, offset, QuestionKind::Complete)? {
            Answer::Completions {
                start,
                end,
                candidates,
                ..
            } => Some((start, end, candidates)),
            _ => None,
        }
    }

    /// What stands at a byte of a program, as Markdown.
    pub fn hover(&self, source: String, offset: usize) -> Option<String> {
        match self.ask(source, offset, QuestionKind::Hover)? {
            Answer::Hover { markdown, .. } => markdown,
            _ => None,
        }
    }

    /// Whether questions are answered now. Starts the process if it is not there.
    pub fn is_ready(&self) -> bool {
        let mut state = lock(&self.state);
        self.connect(&mut state);
        state.link.as_ref().is_some_and(|link| link.is_ready)
    }

    fn ask(&self, source: String, offset: usize, kind: QuestionKind) -> Option<Answer> {
        let answer = {
            let mut state = lock(&self.state);
            self.connect(&mut state);
            let id = state.next_id;
            state.next_id += 1;
            let mut stream = state
                .link
                .as_ref()
                .filter(|link| link.is_ready)?
                .stream
                .as_ref()?
                .try_clone()
                .ok()?;
            let (sender, answer) = mpsc::channel();
            state.waiting = Some((id, sender));
            let mut line = serde_json::to_vec(&Question {
                id,
                source,
                offset,
                kind,
            })
            .ok()?;
            line.push(b'\n');
            if stream.write_all(&line).is_err() {
                state.drop_link();
                return None;
            }
            answer
        };
        answer.recv_timeout(PATIENCE).ok()
    }

    /// Makes for the process, if nobody has yet; the way there takes its time in a thread.
    fn connect(&self, state: &mut State) {
        if state.is_off || state.link.is_some() || state.n_starts >= MOST_STARTS {
            return;
        }
        if !self.start.program.exists() {
            let why = Message::new("not installed: names in scope and commands still complete").hint(
                if self.start.comes_later {
                    "it is compiled after frames, in the background; restart the kernel when it is there"
                } else {
                    "run ./install/start once more; it builds it in the background"
                },
            );
            state.trouble = Some(why.to_string());
            return;
        }
        state.n_starts += 1;
        state.n_links += 1;
        state.link = Some(Link {
            stream: None,
            pid: 0,
            is_ready: false,
            ready_at: None,
        });
        let (shared, start, number) = (self.state.clone(), self.start.clone(), state.n_links);
        thread::spawn(move || {
            let ended = match start.reach() {
                Ok(stream) => hear(&shared, number, stream),
                Err(error) => Some(format!("could not be started: {error}")),
            };
            let mut state = lock(&shared);
            if state.n_links == number {
                state.link = None;
                state.waiting = None;
                if let Some(trouble) = ended {
                    state.trouble = Some(trouble);
                }
            }
        });
    }
}

impl State {
    fn drop_link(&mut self) {
        if let Some(stream) = self.link.take().and_then(|link| link.stream) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.n_links += 1;
        self.waiting = None;
    }
}

impl Link {
    fn reading(&self) -> String {
        if self.stream.is_none() {
            return "starting".to_string();
        }
        let left = self
            .ready_at
            .map(|at| at.saturating_duration_since(Instant::now()).as_secs());
        match left {
            Some(0) => "reading sources, ready any moment".to_string(),
            Some(left) => format!("reading sources, about {left} s left"),
            None => "reading sources for the first time, up to half a minute".to_string(),
        }
    }
}

impl Drop for Assist {
    fn drop(&mut self) {
        lock(&self.state).drop_link();
    }
}

impl Start {
    /// Connects to the process that is there, or starts one.
    fn reach(&self) -> std::io::Result<UnixStream> {
        let socket = self.folder.join(SOCKET);
        if let Ok(stream) = UnixStream::connect(&socket) {
            return Ok(stream);
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let folder = std::fs::symlink_metadata(&self.folder)?;
        if !folder.is_dir() || folder.uid() != rustix::process::getuid().as_raw() {
            return Err(std::io::Error::other(format!(
                "{} belongs to somebody else",
                self.folder.display()
            )));
        }
        let log = self.folder.join("log");
        let mut command = Command::new(&self.program);
        command
            .arg(&self.folder)
            .arg(&self.checkout)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        if let Some(sources) = &self.sources {
            command.env("RUST_SRC_PATH", sources);
        }
        // SAFETY: both calls are safe between fork and exec. Cells come first; and it outlives the notebook
        // that started it.
        unsafe {
            command.pre_exec(|| {
                libc::nice(10);
                libc::setsid();
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let started = Instant::now();
        loop {
            let ended = child.try_wait()?;
            if let Ok(stream) = UnixStream::connect(&socket) {
                // Somebody has to take note of its end.
                thread::spawn(move || drop(child.wait()));
                return Ok(stream);
            }
            // Where another one has just been started, this one ends at once, and that one listens soon.
            let has_failed = ended.is_some_and(|status| !status.success());
            if has_failed || started.elapsed() > MOST_WAIT {
                let why = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(std::io::Error::other(if why.trim().is_empty() {
                    "it does not answer".to_string()
                } else {
                    why.trim().to_string()
                }));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Answers, until the process or this notebook ends. Returns why it cannot work, if it says so.
fn hear(shared: &Mutex<State>, number: u64, stream: UnixStream) -> Option<String> {
    let reader = stream.try_clone().ok()?;
    {
        let mut state = lock(shared);
        if state.n_links != number {
            return None;
        }
        state.link.as_mut()?.stream = Some(stream);
    }
    let mut trouble = None;
    for line in BufReader::new(reader).lines() {
        let Ok(Ok(answer)) = line.map(|line| serde_json::from_str::<Answer>(&line)) else {
            break;
        };
        let mut state = lock(shared);
        if state.n_links != number {
            return None;
        }
        let link = state.link.as_mut()?;
        match answer {
            Answer::Here { pid, left_ms } => {
                link.pid = pid;
                link.ready_at = left_ms.map(|left| Instant::now() + Duration::from_millis(left));
            }
            Answer::Ready => {
                link.is_ready = true;
                // It worked: what ends it later is no reason to give up.
                state.n_starts = 0;
            }
            Answer::Failed { message } => trouble = Some(format!("it cannot work: {message}")),
            answer @ (Answer::Completions { .. } | Answer::Hover { .. }) => {
                let (Answer::Completions { id, .. } | Answer::Hover { id, .. }) = &answer else {
                    continue;
                };
                // An answer to a question that was given up is nobody's.
                if state.waiting.as_ref().is_some_and(|(waiting, _)| waiting == id)
                    && let Some((_, sender)) = state.waiting.take()
                {
                    let _ = sender.send(answer);
                }
            }
        }
    }
    trouble
}

/// Builds of Skep do not share an analyser: it reads their sources and speaks their protocol.
fn identity(program: &Path, checkout: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    (program, checkout).hash(&mut hasher);
    if let Ok(known) = std::fs::metadata(program) {
        (known.ino(), known.mtime(), known.mtime_nsec(), known.len()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Resident bytes of a process, where the system tells.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
