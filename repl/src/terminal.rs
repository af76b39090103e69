//! What a session shows, in a terminal: text stays, progress is drawn over itself, images go to terminals
//! that have them.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
};

use reedline::ExternalPrinter;
use skep_session::{Bundle, Frontend, Output};

use crate::image::{self, Protocol};

/// Lines of background threads that may wait for the editor to show them.
const MOST_WAITING: usize = 4_096;

pub(crate) struct Terminal {
    state: Mutex<State>,
    /// The editor has the screen; what comes now is printed above its prompt.
    is_reading: AtomicBool,
    above: SyncSender<String>,
    printer: Mutex<Option<ExternalPrinter<String>>>,
    has_colour: bool,
    images: Option<Protocol>,
    /// How many cells have ended: a question of one of them has no answer any more.
    n_cells: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Lines of progress on the screen, below everything else.
    n_progress: usize,
    progress: Option<String>,
    /// The next output takes the place of what the cell has shown.
    clears_next: bool,
    /// Text of a background thread that has no line break yet.
    partial: String,
}

impl Terminal {
    pub fn new(has_terminal: bool) -> Terminal {
        let printer = ExternalPrinter::new(MOST_WAITING);
        let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Terminal {
            state: Mutex::default(),
            is_reading: AtomicBool::new(false),
            above: printer.sender(),
            printer: Mutex::new(Some(printer)),
            has_colour: wants_colour
                && std::io::stderr().is_terminal()
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            images: has_terminal.then(image::protocol).flatten(),
            n_cells: AtomicUsize::new(0),
        }
    }

    /// Text renderings are made as wide as the terminal is now; in a pipe they keep their usual width.
    pub fn tell_columns(&self) {
        if std::io::stdout().is_terminal()
            && let Ok((columns, _)) = crossterm::terminal::size()
            && columns > 0
        {
            skep_session::set_columns(columns.into());
        }
    }

    pub fn has_colour(&self) -> bool {
        self.has_colour
    }

    pub fn take_printer(&self) -> Option<ExternalPrinter<String>> {
        self.printer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn set_reading(&self, is_reading: bool) {
        self.is_reading.store(is_reading, Ordering::SeqCst);
    }

    pub fn end_cell(&self) {
        self.n_cells.fetch_add(1, Ordering::SeqCst);
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An image where the terminal can, else text.
    fn drawn(&self, bundle: &Bundle) -> String {
        let drawn = self.images.and_then(|protocol| image::draw(bundle, protocol));
        drawn.unwrap_or_else(|| format!("{}\n", bundle.plain()))
    }

    /// Whole lines go above the prompt; the rest waits for its end.
    fn print_above(&self, state: &mut State, text: &str) {
        state.partial.push_str(text);
        while let Some(end) = state.partial.find('\n') {
            let line: String = state.partial.drain(..=end).collect();
            // A full queue loses a line rather than stop the thread that prints.
            let _ = self.above.try_send(line.trim_end_matches('\n').to_string());
        }
    }
}

impl State {
    fn print(&mut self, text: &str, is_stderr: bool) {
        self.wipe();
        if std::mem::take(&mut self.clears_next) {
            print!("\u{1b}[2J\u{1b}[H");
        }
        if is_stderr {
            let _ = std::io::stdout().flush();
            eprint!("{text}")
        } else {
            print!("{text}")
        }
        if self.progress.is_some() && !text.ends_with('\n') {
            println!();
        }
        self.draw();
    }

    /// Removes the drawn progress.
    fn wipe(&mut self) {
        if self.n_progress > 0 {
            print!("\u{1b}[{}A\u{1b}[J", self.n_progress);
            self.n_progress = 0;
        }
    }

    fn draw(&mut self) {
        let Some(progress) = &self.progress else { return };
        // A line that wraps would take two rows, and then too few are wiped.
        let columns = crossterm::terminal::size().map_or(80, |(columns, _)| columns.max(10)) as usize;
        for line in progress.lines() {
            println!("{}", line.chars().take(columns - 1).collect::<String>());
            self.n_progress += 1;
        }
    }

    fn show_progress(&mut self, text: &str) {
        self.wipe();
        self.progress = Some(text.to_string());
        self.draw();
    }
}

impl Frontend for Terminal {
    fn output(&self, _: u32, output: Output) {
        let mut state = self.lock();
        if self.is_reading.load(Ordering::SeqCst) {
            match output {
                Output::Text { text, .. } => self.print_above(&mut state, &text),
                Output::Result(bundle) | Output::Display { bundle, .. } => {
                    self.print_above(&mut state, &format!("{}\n", bundle.plain()))
                }
                _ => {}
            }
            return;
        }
        match output {
            Output::Text { is_stderr, text } => state.print(&text, is_stderr),
            Output::Display { id: Some(id), bundle } | Output::UpdateDisplay { id, bundle }
                if id.starts_with("skep-progress") =>
            {
                state.show_progress(bundle.plain())
            }
            // The value stands below the bar of its tasks, which stays.
            Output::Result(bundle) => {
                (state.n_progress, state.progress) = (0, None);
                let text = self.drawn(&bundle);
                state.print(&text, false);
            }
            Output::Display { bundle, .. } | Output::UpdateDisplay { bundle, .. } => {
                let text = self.drawn(&bundle);
                state.print(&text, false);
            }
            Output::ClearOutput { wait: true } => state.clears_next = true,
            Output::ClearOutput { wait: false } => print!("\u{1b}[2J\u{1b}[H"),
            Output::Control { .. } | Output::ControlsGone => {}
        }
        let _ = std::io::stdout().flush();
    }

    fn ask(&self, _: u32, prompt: &str, password: bool) -> Option<String> {
        let mut state = self.lock();
        state.wipe();
        drop(state);
        print!("{prompt}");
        let _ = std::io::stdout().flush();
        let cooked = Quiet::suspend(password);
        let cell = self.n_cells.load(Ordering::SeqCst);
        loop {
            let is_there = is_line_there();
            if self.n_cells.load(Ordering::SeqCst) != cell {
                // The cell is gone, and the terminal belongs to the editor again: what is there to read is the editor's.
                std::mem::forget(cooked);
                return None;
            }
            if is_there {
                break;
            }
        }
        let mut line = String::new();
        let n = std::io::stdin().read_line(&mut line).ok()?;
        drop(cooked);
        if password {
            println!();
        }
        (n > 0).then(|| line.trim_end_matches(['\n', '\r']).to_string())
    }
}

/// While a cell runs, keys are kept for the next prompt: not echoed into its output, and Enter stays Enter.
pub(crate) struct Quiet {
    before: libc::termios,
}

impl Quiet {
    pub fn begin() -> Option<Quiet> {
        change(|mode| {
            mode.c_lflag &= !(libc::ECHO | libc::ICANON);
            mode.c_iflag &= !libc::ICRNL;
        })
    }

    /// For an answer that a person types: line by line, hidden if it is a password.
    fn suspend(is_hidden: bool) -> Option<Quiet> {
        change(|mode| {
            mode.c_lflag |= libc::ICANON | libc::ECHO;
            mode.c_iflag |= libc::ICRNL;
            if is_hidden {
                mode.c_lflag &= !libc::ECHO;
            }
        })
    }
}

/// Waits a tenth of a second for a line on standard input.
fn is_line_there() -> bool {
    let mut fd = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, which lives as long as the call.
    unsafe { libc::poll(&mut fd, 1, 100) > 0 }
}

fn change(edit: impl FnOnce(&mut libc::termios)) -> Option<Quiet> {
    // SAFETY: a termios is plain data, which tcgetattr fills in or refuses; both calls only look at
    // descriptor 0.
    unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        if libc::tcgetattr(0, &mut mode) != 0 {
            return None;
        }
        let before = mode;
        edit(&mut mode);
        (libc::tcsetattr(0, libc::TCSANOW, &mode) == 0).then_some(Quiet { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: `before` is what tcgetattr gave.
        unsafe {
            libc::tcsetattr(0, libc::TCSANOW, &self.before);
        }
    }
}
