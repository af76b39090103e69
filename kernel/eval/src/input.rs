//! Asking the person at the keyboard.

use std::sync::{Mutex, PoisonError, atomic::Ordering};

use skep_render::Message;

use crate::{
    interrupt,
    link::{LINK, Link, flush, is_abandoned, send},
    wire::FromEval,
};

/// Asks the person at the keyboard for a line of text.
///
/// # Errors
/// When nobody can answer: the front end does not allow input, or the cell was interrupted.
pub fn input(prompt: &str) -> std::io::Result<String> {
    ask(prompt, false)
}

/// Like [`input`], without showing what is typed.
pub fn password(prompt: &str) -> std::io::Result<String> {
    ask(prompt, true)
}

pub(crate) fn ask(prompt: &str, password: bool) -> std::io::Result<String> {
    let Some(link) = LINK.get() else {
        return Err(std::io::Error::other(
            Message::new("no notebook is there to ask")
                .hint("read from `std::io::stdin()` in a plain program"),
        ));
    };
    let answer = ask_host(link, prompt, password);
    interrupt::poll();
    answer.ok_or_else(|| {
        std::io::Error::other(
            Message::new("nobody can answer here: this front end does not take input")
                .hint("pass the value in the code"),
        )
    })
}

pub(crate) fn ask_host(link: &Link, prompt: &str, password: bool) -> Option<String> {
    let answers = link.answers.lock().unwrap_or_else(PoisonError::into_inner);
    while answers.try_recv().is_ok() {}
    link.asking.store(1, Ordering::SeqCst);
    if interrupt::interrupted() || is_abandoned() {
        link.asking.store(0, Ordering::SeqCst);
        return None;
    }
    flush();
    if !send(&FromEval::Input {
        prompt: prompt.to_string(),
        password,
    }) {
        return None;
    }
    answers.recv().ok().flatten()
}

/// Standard input of a cell: each line is asked for when somebody reads it. Returns the bytes read; 0 is the
/// end of input, which is also the answer where nobody can be asked, and after an interrupt.
pub fn read_stdin(buffer: &mut [u8]) -> usize {
    static REST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let mut rest = REST.lock().unwrap_or_else(PoisonError::into_inner);
    if rest.is_empty() {
        let line = LINK.get().and_then(|link| ask_host(link, "", false));
        rest.extend(line.map(|line| line + "\n").unwrap_or_default().into_bytes());
    }
    let n = rest.len().min(buffer.len());
    buffer[..n].copy_from_slice(&rest[..n]);
    rest.drain(..n);
    n
}
