//! The notebook in the terminal: reedline in, text renderings out. The session is the one that Jupyter uses.
//!
//! The prompt is there at once; the session starts behind it, and the first cell waits for it.

mod editor;
mod highlight;
mod image;
mod pager;
mod paste;
mod terminal;

use std::{
    io::{IsTerminal, Write},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use reedline::Signal;
use skep_session::{Execute, Handle, History, Home, Session, script};

use self::{
    editor::Editor,
    terminal::{Quiet, Terminal},
};

/// Runs the terminal until end of input, after the cells of `file`; with piped input, runs that. Returns the
/// exit code.
///
/// # Errors
/// When the session cannot start; the message has a hint.
pub fn run(home: Home, file: Option<&Path>) -> anyhow::Result<u8> {
    let first = file.map(script::read).transpose()?.unwrap_or_default();
    let has_terminal =
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    let terminal = Arc::new(Terminal::new(has_terminal));
    let frontend = terminal.clone();
    let handle = Arc::new(OnceLock::new());
    let known = handle.clone();
    let starting = thread::spawn(move || {
        let session = Session::start(home, frontend)?;
        let _ = known.set(session.handle());
        Ok(if has_terminal {
            session.with_terminal()
        } else {
            session
        })
    });
    terminal.tell_columns();
    if !has_terminal {
        return run_piped(join(starting)?, first);
    }
    println!(
        "Skep {}: a Rust notebook with a cluster inside. :help, Tab, Ctrl-D to end.",
        env!("CARGO_PKG_VERSION")
    );
    let mut editor = Editor::new(handle, &terminal, &History::open())?;
    let mut starting = Some(starting);
    let mut session = None;
    let mut number = 1;
    if !first.is_empty() {
        let _quiet = Quiet::begin();
        let session = session.insert(join(
            starting.take().expect("invariant: nothing has waited for it yet"),
        )?);
        for cell in first {
            if !execute(session, &cell.text, &terminal) {
                break;
            }
        }
        number = session.next_cell();
    }
    loop {
        let code = match editor.read(number)? {
            Signal::Success(code) => code,
            Signal::CtrlD => return Ok(0),
            _ => continue,
        };
        if code.trim().is_empty() {
            continue;
        }
        if matches!(
            code.trim(),
            ":quit" | ":q" | ":exit" | "exit" | "quit" | "exit()" | "quit()"
        ) {
            return Ok(0);
        }
        let _quiet = Quiet::begin();
        if let Some(starting) = starting.take() {
            session = Some(join(starting)?);
        }
        let Some(session) = &mut session else { continue };
        execute(session, &code, &terminal);
        number = session.next_cell();
    }
}

fn join(starting: thread::JoinHandle<std::io::Result<Session>>) -> anyhow::Result<Session> {
    Ok(starting
        .join()
        .map_err(|_| anyhow::anyhow!("the session could not be started"))??)
}

/// Without a terminal: the input runs cell by cell, as if it were typed, and its first error is the exit
/// code.
fn run_piped(mut session: Session, first: Vec<script::Cell>) -> anyhow::Result<u8> {
    let text = std::io::read_to_string(std::io::stdin())?;
    for cell in first.into_iter().chain(skep_session::split_typed(&text)) {
        let reply = session.execute_script(&cell);
        if let Some(page) = reply.page {
            println!("{}", page.plain());
        }
        if let Err(error) = reply.result {
            eprintln!("{}", error.plain);
            return Ok(1);
        }
    }
    Ok(0)
}

/// Runs a cell in this thread while another hears Ctrl-C. Returns whether it succeeded.
fn execute(session: &mut Session, code: &str, terminal: &Terminal) -> bool {
    terminal.tell_columns();
    hear_interrupts(Some(session.handle()));
    let cell = session.handle().take_number();
    let reply = session.execute_as(
        cell,
        Execute {
            code,
            cell_id: None,
            counts: true,
        },
    );
    hear_interrupts(None);
    terminal.end_cell();
    if let Some(page) = reply.page {
        pager::show(page.plain());
    }
    let is_ok = reply.result.is_ok();
    if let Err(error) = reply.result {
        eprintln!(
            "{}",
            if terminal.has_colour() {
                error.styled
            } else {
                error.plain
            }
        );
    }
    let _ = std::io::stdout().flush();
    is_ok
}

/// Ctrl-C while a cell runs goes to that cell. In the line editor it is a key; the signal is for here.
pub fn hear_interrupts(running: Option<Handle>) {
    static RUNNING: Mutex<Option<Handle>> = Mutex::new(None);
    static INSTALLED: OnceLock<mpsc::Sender<()>> = OnceLock::new();
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = running;
    INSTALLED.get_or_init(|| {
        let (pressed, presses) = mpsc::channel();
        let sender = pressed.clone();
        let _ = ctrlc::set_handler(move || {
            let _ = sender.send(());
        });
        thread::spawn(move || {
            while presses.recv().is_ok() {
                if let Some(handle) = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                    handle.interrupt();
                }
                // Terminals repeat a key that is held down; that is not a second interrupt, which would lose
                // variables.
                while presses.recv_timeout(Duration::from_millis(150)).is_ok() {}
            }
        });
        pressed
    });
}
