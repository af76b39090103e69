//! Colours for Rust as it is typed, by the compiler's own lexer: it has a word for every text, finished or
//! not.

use nu_ansi_term::{Color, Style};
use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};
use reedline::{Highlighter, StyledText};

pub(crate) struct Rust;

impl Highlighter for Rust {
    fn highlight(&self, line: &str, _: usize) -> StyledText {
        let mut styled = StyledText::new();
        for (text, style) in pieces(line) {
            styled.push((style, text.to_string()));
        }
        styled
    }
}

/// The whole text in pieces, each with its style.
fn pieces(text: &str) -> Vec<(&str, Style)> {
    let mut pieces = Vec::new();
    let first_line = text.lines().next().unwrap_or_default();
    let is_command = first_line.starts_with([':', '?', '%']) && !first_line.starts_with("::");
    let start = if is_command {
        first_line.find(' ').unwrap_or(first_line.len())
    } else {
        0
    };
    if start > 0 {
        pieces.push((&text[..start], Style::new().bold().fg(Color::Yellow)));
    }
    let mut at = start;
    let tokens: Vec<_> = tokenize(&text[start..], FrontmatterAllowed::No).collect();
    for (i, token) in tokens.iter().enumerate() {
        let end = at + token.len as usize;
        let word = &text[at..end];
        pieces.push((
            word,
            style(token.kind, word, tokens.get(i + 1).map(|next| next.kind)),
        ));
        at = end;
    }
    pieces
}

/// Colours of the terminal's own palette, which its owner has made readable on its ground.
fn style(kind: TokenKind, word: &str, next: Option<TokenKind>) -> Style {
    match kind {
        TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => Style::new().dimmed(),
        TokenKind::Literal {
            kind: LiteralKind::Int { .. } | LiteralKind::Float { .. },
            ..
        } => Style::new().fg(Color::Cyan),
        TokenKind::Literal { .. } => Style::new().fg(Color::Green),
        TokenKind::Lifetime { .. } => Style::new().fg(Color::Cyan),
        TokenKind::Ident if KEYWORDS.contains(&word) => Style::new().fg(Color::Magenta),
        TokenKind::Ident if next == Some(TokenKind::Bang) => Style::new().fg(Color::Blue),
        TokenKind::Ident if word.starts_with(char::is_uppercase) || PRIMITIVES.contains(&word) => {
            Style::new().fg(Color::Yellow)
        }
        TokenKind::Ident if next == Some(TokenKind::OpenParen) => Style::new().fg(Color::Blue),
        _ => Style::new(),
    }
}

const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false",
    "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "static", "struct", "super", "trait", "true", "type", "union", "unsafe", "use", "where", "while",
    "yield",
];
const PRIMITIVES: &[&str] = &[
    "bool", "char", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "str", "u128", "u16", "u32",
    "u64", "u8", "usize",
];

#[test]
fn every_text_comes_back_whole() {
    for text in [
        "let x: Vec<i32> = vec![1, 2.5]; // é",
        "\"open",
        "/* open",
        "r#\"raw",
        "fn f<'a>(s: &'a str) {",
        ":type x + 1",
        "'",
        "\u{1f41d} 1_",
        "",
    ] {
        let joined: String = pieces(text).iter().map(|(piece, _)| *piece).collect();
        assert_eq!(joined, text);
    }
    let of = |text, word| {
        pieces(text)
            .into_iter()
            .find(|(piece, _)| *piece == word)
            .map(|(_, style)| style.foreground)
            .unwrap()
    };
    assert_eq!(of("let x = vec![1];", "let"), Some(Color::Magenta));
    assert_eq!(of("let x = vec![1];", "vec"), Some(Color::Blue));
    assert_eq!(of(":type x.len()", ":type"), Some(Color::Yellow));
    assert_eq!(of("\"a\"", "\"a\""), Some(Color::Green));
}
