//! The analyser's process: started at the first question, asked without waiting for it to come up.
//!
//! It is a help and no more: while it starts, when it is not installed, or after it died, the answer is `None` and the
//! caller goes on with what it knows itself.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use skep_assist::wire::{Answer, Candidate, Question, QuestionKind};

use crate::Home;

/// A question that takes longer is given up; rust-analyzer finishes it, and the next one finds its result.
const PATIENCE: Duration = Duration::from_millis(1500);
/// It is started again after it died, this often.
const MOST_STARTS: u32 = 3;

pub struct Assist {
    program: PathBuf,
    folder: PathBuf,
    checkout: PathBuf,
    sources: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_off: bool,
    n_starts: u32,
    process: Option<Process>,
    next_id: u64,
    /// Why it is not there, in words.
    trouble: Option<String>,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    is_ready: bool,
    waiting: Option<(u64, Sender<Answer>)>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Assist {
    pub fn new(home: &Home, folder: PathBuf) -> Assist {
        Assist { program: home.root().join("bin/skep-assist"), folder, checkout: home.checkout(), sources: home.standard_library(), state: Arc::default() }
    }

    pub fn set_on(&self, is_on: bool) {
        let mut state = lock(&self.state);
        state.is_off = !is_on;
        state.n_starts = 0;
        if !is_on {
            stop(&mut state);
        }
    }

    /// One line about its state, and what it costs.
    pub fn describe(&self) -> String {
        let state = lock(&self.state);
        match (&state.process, &state.trouble) {
            _ if state.is_off => "off: names in scope and commands still complete; `:assist on` turns it on".to_string(),
            (Some(process), _) => {
                let memory = resident(process.child.id()).map_or_else(String::new, |n| format!(", {} resident", skep_render::bytes(n)));
                let what = if process.is_ready { "on" } else { "reading sources, about ten seconds" };
                format!("{what}{memory}; `:assist off` ends it")
            }
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => "on: starts at the first Tab, and then takes about 2 GB; `:assist off` keeps it from starting".to_string(),
        }
    }

    /// What can stand at a byte of a program.
    pub fn complete(&self, source: String, offset: usize) -> Option<(usize, usize, Vec<Candidate>)> {
        match self.ask(source, offset, QuestionKind::Complete)? {
            Answer::Completions { start, end, candidates, .. } => Some((start, end, candidates)),
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
        self.start(&mut state);
        state.process.as_ref().is_some_and(|process| process.is_ready)
    }

    /// Whether it is on its way: soon more will be known.
    pub fn is_starting(&self) -> bool {
        lock(&self.state).process.as_ref().is_some_and(|process| !process.is_ready)
    }

    fn ask(&self, source: String, offset: usize, kind: QuestionKind) -> Option<Answer> {
        let answer = {
            let mut state = lock(&self.state);
            self.start(&mut state);
            let id = state.next_id;
            state.next_id += 1;
            let process = state.process.as_mut().filter(|process| process.is_ready)?;
            let (sender, answer) = mpsc::channel();
            process.waiting = Some((id, sender));
            let mut line = serde_json::to_vec(&Question { id, source, offset, kind }).ok()?;
            line.push(b'\n');
            if process.stdin.write_all(&line).is_err() {
                stop(&mut state);
                return None;
            }
            answer
        };
        answer.recv_timeout(PATIENCE).ok()
    }

    fn start(&self, state: &mut State) {
        if state.is_off || state.process.is_some() || state.n_starts >= MOST_STARTS {
            return;
        }
        state.n_starts += 1;
        if !self.program.exists() {
            state.trouble = Some(
                "not installed: names in scope and commands still complete\nhint: run ./install/start once more; it builds it in the background".to_string(),
            );
            return;
        }
        let mut command = Command::new(&self.program);
        command.arg(&self.folder).arg(&self.checkout).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        if let Some(sources) = &self.sources {
            command.env("RUST_SRC_PATH", sources);
        }
        // SAFETY: `nice` is safe to call between fork and exec. Cells come first.
        unsafe {
            command.pre_exec(|| {
                libc::nice(10);
                Ok(())
            });
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return state.trouble = Some(format!("could not be started: {error}")),
        };
        let stdin = child.stdin.take().expect("invariant: stdin is piped");
        let stdout = child.stdout.take().expect("invariant: stdout is piped");
        let pid = child.id();
        state.process = Some(Process { child, stdin, is_ready: false, waiting: None });
        let shared = self.state.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(Ok(answer)) = line.map(|line| serde_json::from_str::<Answer>(&line)) else { break };
                on_answer(&mut lock(&shared), pid, answer);
            }
            let mut state = lock(&shared);
            if state.process.as_ref().is_some_and(|process| process.child.id() == pid) {
                stop(&mut state);
            }
        });
    }
}

fn on_answer(state: &mut State, pid: u32, answer: Answer) {
    let Some(process) = state.process.as_mut().filter(|process| process.child.id() == pid) else { return };
    match answer {
        Answer::Ready => process.is_ready = true,
        Answer::Failed { message } => state.trouble = Some(format!("it cannot work: {message}")),
        answer @ (Answer::Completions { .. } | Answer::Hover { .. }) => {
            let (Answer::Completions { id, .. } | Answer::Hover { id, .. }) = &answer else { return };
            // An answer to a question that was given up is nobody's.
            if process.waiting.as_ref().is_some_and(|(waiting, _)| waiting == id)
                && let Some((_, sender)) = process.waiting.take()
            {
                let _ = sender.send(answer);
            }
        }
    }
}

fn stop(state: &mut State) {
    if let Some(mut process) = state.process.take() {
        let _ = process.child.kill();
        let _ = process.child.wait();
    }
}

impl Drop for Assist {
    fn drop(&mut self) {
        stop(&mut lock(&self.state));
    }
}

/// Resident bytes of a process, where the system tells.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
