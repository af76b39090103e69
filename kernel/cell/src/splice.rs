//! Generated text that keeps the user's lines.
//!
//! A generated file has the user's text at the line where the user wrote it: what does not belong is blanked,
//! and what is added goes in without a line break. Only columns shift, and [`Spliced`] remembers by how much.

use std::ops::Range;

/// Text made from one cell's source, with what is needed to map columns back.
#[derive(Clone, Debug, Default)]
pub struct Spliced {
    pub text: String,
    /// Insertions in order: 1-based line, 0-based column in the generated line, width; in characters.
    inserts: Vec<Insert>,
    /// Lines in front of the user's first one: a macro's string may have line breaks.
    pub lines_before: usize,
}

#[derive(Clone, Copy, Debug)]
struct Insert {
    line: usize,
    column: usize,
    width: usize,
}

/// Keeps the `keep` ranges of `source` (sorted, disjoint), blanks the rest, and adds `inserts` (sorted by
/// position).
pub fn splice(source: &str, keep: &[Range<usize>], inserts: &[(usize, &str)]) -> Spliced {
    let mut out = Spliced::default();
    let (mut line, mut column) = (1, 0);
    let mut pending = inserts.iter().peekable();
    let mut kept = keep.iter().peekable();
    let mut add = |out: &mut Spliced, at: usize, line: usize, column: &mut usize| {
        while let Some((_, text)) = pending.next_if(|(position, _)| *position <= at) {
            let width = text.chars().count();
            out.inserts.push(Insert {
                line,
                column: *column,
                width,
            });
            out.text.push_str(text);
            out.lines_before += text.matches('\n').count();
            *column += width;
        }
    };
    for (at, c) in source.char_indices() {
        add(&mut out, at, line, &mut column);
        while kept.next_if(|range| range.end <= at).is_some() {}
        let is_kept = kept.peek().is_some_and(|range| range.start <= at);
        if c == '\n' {
            out.text.push('\n');
            (line, column) = (line + 1, 0);
        } else {
            out.text.push(if is_kept { c } else { ' ' });
            column += 1;
        }
    }
    add(&mut out, source.len(), line, &mut column);
    out
}

impl Spliced {
    /// How many characters stand in front of the user's text.
    pub fn prologue_width(&self) -> usize {
        self.inserts
            .first()
            .filter(|insert| insert.line == 1 && insert.column == 0)
            .map_or(0, |insert| insert.width)
    }

    /// The user's line for a 1-based one of the generated text.
    pub fn user_line(&self, line: usize) -> usize {
        line.saturating_sub(self.lines_before).max(1)
    }

    /// The 0-based column in the user's line for a 0-based column in the generated one.
    pub fn user_column(&self, line: usize, column: usize) -> usize {
        let mut shift = 0;
        for insert in self.inserts.iter().filter(|insert| insert.line == line) {
            if column >= insert.column + insert.width {
                shift += insert.width;
            } else if column > insert.column {
                return insert.column - shift;
            }
        }
        column - shift.min(column)
    }
}

/// The byte offset of a 1-based line and a 0-based column in characters, clamped to the text.
pub fn offset_of(source: &str, line: usize, column: usize) -> usize {
    let Some(start) = line_starts(source).nth(line.saturating_sub(1)) else {
        return source.len();
    };
    let rest = &source[start..];
    let rest = rest.split('\n').next().unwrap_or(rest);
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}

fn line_starts(source: &str) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_and_columns_map_back() {
        let source = "fn f() {}\nlet é = f(); é";
        let tail = source.len() - 'é'.len_utf8();
        let spliced = splice(
            source,
            std::slice::from_ref(&(10..source.len())),
            &[(10, "show("), (tail, "P("), (source.len(), ")")],
        );
        assert_eq!(spliced.text, "         \nshow(let é = f(); P(é)");
        assert_eq!(spliced.user_column(2, 0), 0);
        assert_eq!(spliced.user_column(2, 5), 0, "the first user character");
        assert_eq!(spliced.user_column(2, 9), 4);
        assert_eq!(spliced.user_column(2, 20), 13, "behind the second insertion");
        assert_eq!(offset_of(source, 2, 13), tail);
        assert_eq!(offset_of(source, 9, 1), source.len());
    }
}
