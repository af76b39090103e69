//! Errors of cells that are not the compiler's.

use skep_cell::CellError;

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

pub(crate) fn session_error(name: &str, message: &str) -> CellError {
    let plain = format!("error: {message}");
    let message = message.split("\nhint: ").next().unwrap_or(message).to_string();
    CellError {
        name: name.to_string(),
        message,
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
