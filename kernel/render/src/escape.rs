use std::borrow::Cow;

/// Escapes text for HTML and SVG, in content and in quoted attributes. Control characters that XML forbids
/// are dropped.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_special =
        |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || (c.is_control() && !matches!(c, '\n' | '\t'));
    if !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_special(c) => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Escaped, and what stands in backticks is code: a card shows words, not Markdown.
pub fn escape_words(text: &str) -> String {
    let escaped = escape(text);
    if escaped.matches('`').count() % 2 == 1 {
        return escaped.into_owned();
    }
    let mut out = String::with_capacity(escaped.len());
    for (n, part) in escaped.split('`').enumerate() {
        match n % 2 {
            0 => out.push_str(part),
            _ => out.push_str(&format!("<code>{part}</code>")),
        }
    }
    out
}

#[test]
fn nothing_of_a_users_string_becomes_markup() {
    assert_eq!(
        escape("<img src=x onerror='a()'> & \"b\"\u{0}"),
        "&lt;img src=x onerror=&#39;a()&#39;&gt; &amp; &quot;b&quot;"
    );
    assert_eq!(
        escape_words("run `f<T>` again"),
        "run <code>f&lt;T&gt;</code> again"
    );
    assert_eq!(escape_words("a ` alone"), "a ` alone");
    assert!(matches!(escape("plain"), Cow::Borrowed(_)));
}
