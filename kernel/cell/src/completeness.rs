//! Whether what was typed is a whole cell: for the terminal's Enter key and `is_complete_request`.

use crate::parse::parse;

/// Whether a text can be run as it stands, for `is_complete` and the terminal's Enter key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    Complete,
    /// More lines are needed; the next one is indented by this.
    Incomplete {
        indent: String,
    },
    Invalid,
}

/// Judges by real parsing: text is incomplete when what is wrong with it is that it ends.
pub fn completeness(source: &str) -> Completeness {
    let incomplete = |depth: usize| Completeness::Incomplete {
        indent: " ".repeat(4 * depth),
    };
    match open_delimiters(source) {
        Delimiters::Open { depth, .. } => return incomplete(depth),
        Delimiters::InLiteral => return incomplete(0),
        Delimiters::Unbalanced => return Completeness::Invalid,
        Delimiters::Closed => {}
    }
    if source.trim().is_empty() {
        return Completeness::Complete;
    }
    match parse(source) {
        Ok(_) => Completeness::Complete,
        Err(error) => {
            let lacks_semicolon = parse(&format!("{source};")).is_ok();
            // An empty line says that nothing follows.
            if lacks_semicolon && source.ends_with('\n') {
                return Completeness::Complete;
            }
            if lacks_semicolon || error.to_string().contains("unexpected end of input") {
                incomplete(usize::from(
                    source.trim_end().ends_with(['=', '+', '.', ',', '|', '&']),
                ))
            } else {
                Completeness::Invalid
            }
        }
    }
}

/// Where the innermost bracket stands that is never closed.
pub(crate) fn unclosed(source: &str) -> Option<usize> {
    match open_delimiters(source) {
        Delimiters::Open { at, .. } => Some(at),
        _ => None,
    }
}

enum Delimiters {
    Closed,
    Open { depth: usize, at: usize },
    InLiteral,
    Unbalanced,
}

/// rustc's own lexer would be the better judge of literals, but proc-macro2 gives up on an open one without
/// saying where.
fn open_delimiters(source: &str) -> Delimiters {
    let bytes = source.as_bytes();
    let mut stack = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => {
                i += source[i..].find('\n').unwrap_or(source.len() - i)
            }
            b'/' if bytes.get(i + 1) == Some(&b'*') => {
                let Some(end) = end_of_comment(bytes, i) else {
                    return Delimiters::InLiteral;
                };
                i = end;
                continue;
            }
            b'"' => {
                let Some(end) = end_of_string(bytes, i) else {
                    return Delimiters::InLiteral;
                };
                i = end;
                continue;
            }
            b'\'' => {
                i = end_of_char_or_lifetime(source, i);
                continue;
            }
            c @ (b'(' | b'[' | b'{') => stack.push((c, i)),
            c @ (b')' | b']' | b'}') => {
                let open = match c {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                if stack.pop().map(|(c, _)| c) != Some(open) {
                    return Delimiters::Unbalanced;
                }
            }
            _ => {}
        }
        i += 1;
    }
    stack
        .last()
        .map_or(Delimiters::Closed, |(_, at)| Delimiters::Open {
            depth: stack.len(),
            at: *at,
        })
}

fn end_of_comment(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0;
    let mut i = start;
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

fn end_of_string(bytes: &[u8], quote: usize) -> Option<usize> {
    let n_hashes = bytes[..quote].iter().rev().take_while(|b| **b == b'#').count();
    let is_raw = quote > n_hashes && bytes[quote - n_hashes - 1] == b'r';
    let mut i = quote + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if !is_raw => i += 1,
            b'"' if !is_raw => return Some(i + 1),
            b'"' if bytes[i + 1..]
                .iter()
                .take(n_hashes)
                .filter(|b| **b == b'#')
                .count()
                == n_hashes =>
            {
                return Some(i + 1 + n_hashes);
            }
            _ => {}
        }
        i += 1;
    }
    None
}

fn end_of_char_or_lifetime(source: &str, quote: usize) -> usize {
    let mut rest = source[quote + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => source[quote + 2..]
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == '\'')
            .map_or(source.len(), |(at, _)| quote + 3 + at),
        Some((_, c)) if matches!(rest.next(), Some((_, '\''))) => quote + 2 + c.len_utf8(),
        _ => quote + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completeness_is_judged_by_parsing() {
        use Completeness::*;
        let indent = |n| Incomplete {
            indent: " ".repeat(n),
        };
        for (source, expect) in [
            ("", Complete),
            ("1 + 1", Complete),
            ("fn f() {", indent(4)),
            ("foo(bar(", indent(8)),
            ("let x =", indent(4)),
            ("let s = \"abc", indent(0)),
            ("/* open", indent(0)),
            ("let c = '{'; c", Complete),
            ("fn f<'a>(x: &'a str) {}", Complete),
            ("r#\"quote \" inside\"#", Complete),
            ("let x = 1", indent(0)),
            ("let x = 1\n", Complete),
            ("use a::B\n", Complete),
            ("let x = v.iter()\n    .map(f)", indent(0)),
            ("let x =\n", indent(4)),
            ("x + ", indent(4)),
            (")", Invalid),
            ("let 1x = ;", Invalid),
        ] {
            assert_eq!(completeness(source), expect, "{source}");
        }
    }
}
