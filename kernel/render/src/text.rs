//! Text renderings and the width that they have to fit.

use std::sync::atomic::{AtomicUsize, Ordering};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a front end that knows better sets; saved notebooks and pipes have this many.
const DEFAULT_COLUMNS: usize = 80;
const FEWEST_COLUMNS: usize = 40;

static COLUMNS: AtomicUsize = AtomicUsize::new(DEFAULT_COLUMNS);

/// The columns that text renderings may take.
pub fn columns() -> usize {
    COLUMNS.load(Ordering::Relaxed)
}

/// Sets [`columns`] for this process. A terminal narrower than forty is treated as that wide.
pub fn set_columns(columns: usize) {
    COLUMNS.store(columns.max(FEWEST_COLUMNS), Ordering::Relaxed);
}

/// The columns that a text takes in a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, or as much of it as fits `most` columns, with an ellipsis.
///
/// ```
/// assert_eq!(skep_render::text::cut("a long name", 7), "a long…");
/// ```
pub fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_string();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > most {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push('…');
    out
}

/// The text with blanks behind it, `columns` wide.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

/// The text in lines of at most `most` columns; its own line breaks stay. A word that is longer is broken.
pub fn wrapped(text: &str, most: usize) -> Vec<String> {
    let options = textwrap::Options::new(most.max(8)).word_splitter(textwrap::WordSplitter::NoHyphenation);
    // Text that is aligned already, such as a plan or code, is left alone where it fits.
    let lines = text.split('\n').flat_map(|line| {
        if line.width() <= most {
            vec![line.to_string()]
        } else {
            textwrap::wrap(line, &options)
                .into_iter()
                .map(|line| line.into_owned())
                .collect()
        }
    });
    lines.collect()
}

#[test]
fn text_is_cut_and_wrapped_by_what_a_terminal_shows() {
    assert_eq!(
        (cut("abc", 3), cut("abcd", 3), cut("漢字漢字", 5)),
        ("abc".into(), "ab…".into(), "漢字…".into())
    );
    assert_eq!(padded("漢", 4), "漢  ");
    assert_eq!(
        wrapped("one two three\n  four", 9),
        ["one two", "three", "  four"]
    );
    assert!(wrapped(&"x".repeat(30), 10).iter().all(|line| line.len() <= 10));
}
