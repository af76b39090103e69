//! The notebook in the terminal: rustyline in, text renderings out. The session is the one that Jupyter uses.
//!
//! The prompt is there at once; the session starts behind it, and the first cell waits for it.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use rustyline::{
    Completer, Config, Editor, Helper, Hinter,
    error::ReadlineError,
    highlight::Highlighter,
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use skep_session::{Completeness, Face, Home, Output, Session, completeness};

/// Runs the terminal until end of input; with piped input, runs that as a script. Returns the exit code.
///
/// # Errors
/// When the session cannot start; the message has a hint.
pub fn run(home: Home) -> anyhow::Result<u8> {
    let terminal = Arc::new(Terminal::default());
    let face = terminal.clone();
    let starting = thread::spawn(move || Session::start(home, face));
    if !std::io::stdin().is_terminal() {
        return run_piped(join(starting)?);
    }
    let mut editor: Editor<Lines, DefaultHistory> = Editor::with_config(Config::builder().auto_add_history(true).build())?;
    editor.set_helper(Some(Lines));
    println!("Skep {}: a Rust notebook with a cluster inside. :help lists what can be typed, Ctrl-D ends.", env!("CARGO_PKG_VERSION"));
    let mut starting = Some(starting);
    let mut session = None;
    let mut number = 1;
    loop {
        let line = editor.readline(&format!("[{number}] "));
        let code = match line {
            Ok(code) => code,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        if code.trim().is_empty() {
            continue;
        }
        if let Some(starting) = starting.take() {
            session = Some(join(starting)?);
        }
        let Some(session) = &mut session else { continue };
        execute(session, &code, &terminal);
        number = session.next_cell();
    }
}

fn join(starting: thread::JoinHandle<std::io::Result<Session>>) -> anyhow::Result<Session> {
    Ok(starting.join().map_err(|_| anyhow::anyhow!("the session could not be started"))??)
}

/// Without a terminal: the whole input is one script, and its first error is the exit code.
fn run_piped(mut session: Session) -> anyhow::Result<u8> {
    let code = std::io::read_to_string(std::io::stdin())?;
    match session.execute(&code).result {
        Ok(()) => Ok(0),
        Err(error) => {
            eprintln!("{}", error.plain);
            Ok(1)
        }
    }
}

/// Runs a cell in this thread while another hears Ctrl-C.
fn execute(session: &mut Session, code: &str, terminal: &Terminal) {
    let handle = session.handle();
    let (done, ended) = mpsc::channel::<()>();
    let signals = interrupts();
    let listener = thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_millis(20)) {
            if signals.try_recv().is_ok() {
                handle.interrupt();
            }
        }
    });
    let reply = session.execute(code);
    drop(done);
    let _ = listener.join();
    terminal.end_progress();
    if let Err(error) = reply.result {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stderr().is_terminal();
        eprintln!("{}", if is_plain { error.plain } else { error.styled });
    }
}

/// Ctrl-C while a cell runs. In the line editor it is a key; the signal is for here.
fn interrupts() -> mpsc::Receiver<()> {
    static SENDER: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    let (sender, receiver) = mpsc::channel();
    *SENDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    INSTALLED.call_once(|| {
        let _ = ctrlc::set_handler(|| {
            if let Some(sender) = SENDER.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                let _ = sender.send(());
            }
        });
    });
    receiver
}

/// Enter ends a cell when it is whole, by the same parser that runs it.
#[derive(Completer, Helper, Hinter)]
struct Lines;

impl Validator for Lines {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match completeness(ctx.input()) {
            Completeness::Incomplete { .. } => ValidationResult::Incomplete,
            // What is wrong is said by the compiler, in its better words.
            Completeness::Complete | Completeness::Invalid => ValidationResult::Valid(None),
        })
    }
}

impl Highlighter for Lines {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            Cow::Borrowed(prompt)
        } else {
            Cow::Owned(format!("\u{1b}[1;33m{prompt}\u{1b}[0m"))
        }
    }
}

/// Text out: progress is drawn over itself, everything else stays.
#[derive(Default)]
struct Terminal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lines of progress on the screen, below everything else.
    n_progress: usize,
    progress: Option<String>,
}

impl Terminal {
    fn end_progress(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.n_progress, state.progress) = (0, None);
    }
}

impl State {
    fn print(&mut self, text: &str, is_stderr: bool) {
        self.wipe();
        if is_stderr {
            eprint!("{text}")
        } else {
            print!("{text}")
        }
        if self.progress.is_some() && !text.ends_with('\n') {
            println!();
        }
        self.draw();
        let _ = std::io::stdout().flush();
    }

    /// Removes the drawn progress.
    fn wipe(&mut self) {
        if self.n_progress > 0 {
            print!("\u{1b}[{}A\u{1b}[J", self.n_progress);
            self.n_progress = 0;
        }
    }

    fn draw(&mut self) {
        if let Some(progress) = &self.progress {
            println!("{progress}");
            self.n_progress = progress.lines().count();
        }
    }
}

impl Face for Terminal {
    fn output(&self, _: u32, output: Output) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match output {
            Output::Text { is_stderr, text } => state.print(&text, is_stderr),
            Output::Display { id: Some(id), bundle } if id.starts_with("skep-progress") => {
                state.wipe();
                state.progress = Some(bundle.plain().to_string());
                state.draw();
            }
            Output::UpdateDisplay { id, bundle } if id.starts_with("skep-progress") => {
                state.wipe();
                state.progress = Some(bundle.plain().to_string());
                state.draw();
            }
            Output::Result(bundle) | Output::Display { bundle, .. } | Output::UpdateDisplay { bundle, .. } => {
                state.print(&format!("{}\n", bundle.plain()), false)
            }
            Output::ClearOutput { .. } => {}
        }
        let _ = std::io::stdout().flush();
    }

    fn ask(&self, _: u32, prompt: &str, _password: bool) -> Option<String> {
        print!("{prompt}");
        let _ = std::io::stdout().flush();
        let mut line = String::new();
        let n = std::io::stdin().read_line(&mut line).ok()?;
        (n > 0).then(|| line.trim_end_matches(['\n', '\r']).to_string())
    }
}
