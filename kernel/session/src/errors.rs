//! Errors of cells that are not the compiler's.

use skep_cell::CellError;
use skep_render::Message;

pub(crate) fn interrupted(detail: &str) -> CellError {
    let plain = format!("interrupted: {detail}");
    CellError {
        name: "Interrupted".to_string(),
        message: "interrupted".to_string(),
        styled: red(&plain),
        plain,
        place: None,
    }
}

pub(crate) fn session_error(name: &str, message: impl Into<Message>) -> CellError {
    let message = message.into();
    let plain = format!("error: {message}");
    CellError {
        name: name.to_string(),
        message: message.what,
        styled: red(&plain),
        plain,
        place: None,
    }
}

/// The first line in red, as rustc does.
pub(crate) fn red(text: &str) -> String {
    let (first, rest) = text
        .split_once('\n')
        .map_or((text, String::new()), |(first, rest)| {
            (first, format!("\n{rest}"))
        });
    format!("\u{1b}[1;31m{first}\u{1b}[0m{rest}")
}
