//! A cell taken apart for a program outside notebooks: its items, its statements, and what it shows, with their comments.

use std::ops::Range;

use crate::{definition::Key, parse::parse};

/// What a cell is made of.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pub items: Vec<Piece>,
    /// In the order in which they stand.
    pub statements: Vec<String>,
    /// An expression at the end, whose value a notebook shows.
    pub tail: Option<String>,
    pub has_await: bool,
    /// Names of the variables that its statements bind.
    pub bindings: Vec<String>,
}

/// An item, and what it replaces when it comes again.
#[derive(Clone, Debug)]
pub struct Piece {
    keys: Vec<Key>,
    pub text: String,
    pub is_use: bool,
}

impl Piece {
    /// What it is called, if it has a name.
    pub fn name(&self) -> Option<&str> {
        self.keys.iter().find_map(Key::name)
    }

    /// Whether a notebook that has both keeps only the newer.
    pub fn is_replaced_by(&self, newer: &Piece) -> bool {
        let is_replaced = |key: &Key| newer.keys.iter().any(|new| key.is_replaced_by(new));
        !self.keys.is_empty() && self.keys.iter().all(is_replaced)
    }
}

/// Takes a cell apart; commands must have been taken out.
///
/// # Errors
/// Where it is no Rust, in the parser's words.
pub fn pieces(source: &str) -> Result<Pieces, String> {
    let parsed = parse(source).map_err(|error| error.to_string())?;
    let mut ranges: Vec<Range<usize>> = parsed.items.iter().map(|item| item.range.clone()).collect();
    ranges.extend(parsed.statements.iter().cloned());
    ranges.sort_by_key(|range| range.start);
    ranges.dedup();
    // What stands between two of them belongs to the second, if it is a comment.
    let with_comment = |range: &Range<usize>| {
        let before = ranges.iter().rev().find(|other| other.end <= range.start);
        let from = before.map_or(0, |other| other.end);
        let between = parsed.source[from..range.start].trim_matches([' ', '\t', '\n', ';']);
        // Behind the one before on its line it is that one's.
        let own: Vec<&str> = between
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("//"))
            .collect();
        let comment = if own.is_empty() {
            String::new()
        } else {
            own.join("\n") + "\n"
        };
        comment + parsed.source[range.clone()].trim_end()
    };
    let mut pieces = Pieces {
        has_await: parsed.has_await,
        bindings: parsed
            .bindings
            .iter()
            .map(|binding| binding.name.clone())
            .collect(),
        ..Pieces::default()
    };
    for item in &parsed.items {
        pieces.items.push(Piece {
            keys: item.keys.clone(),
            text: item.leaf.clone().unwrap_or_else(|| with_comment(&item.range)),
            is_use: item.leaf.is_some(),
        });
    }
    for range in &parsed.statements {
        let text = with_comment(range);
        if parsed.tail.as_ref() == Some(range) {
            pieces.tail = Some(text);
        } else {
            pieces.statements.push(text);
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_comes_apart() {
        let found = pieces(
            "use std::{fmt, fs::File};\n\n/// Adds.\n// fast\nfn add(a: i64) -> i64 { a }\n// first\nlet x = add(1); // not this\nlet y = 2;\nx + y",
        )
        .unwrap();
        let items: Vec<&str> = found.items.iter().map(|item| item.text.as_str()).collect();
        assert_eq!(
            items,
            [
                "use std::fmt;",
                "use std::fs::File;",
                "/// Adds.\n// fast\nfn add(a: i64) -> i64 { a }"
            ]
        );
        assert_eq!(found.statements[0], "// first\nlet x = add(1);");
        assert_eq!(found.tail.as_deref(), Some("x + y"));
        let newer = pieces("fn add(a: u8) {}").unwrap();
        assert!(found.items[2].is_replaced_by(&newer.items[0]));
        assert!(!found.items[0].is_replaced_by(&newer.items[0]));
        assert!(pieces("fn (").is_err());
    }
}
