//! What notebooks written for evcxr expect: content between marker lines on standard output, and commands of
//! its own.

use skep_render::Bundle;

const BEGIN: &str = "EVCXR_BEGIN_CONTENT ";

const END: &str = "EVCXR_END_CONTENT";

/// A piece of what a cell printed.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Shown(Bundle),
}

/// Finds content in a stream of prints: a line `EVCXR_BEGIN_CONTENT text/html`, the content, a line
/// `EVCXR_END_CONTENT`.
#[derive(Default)]
pub(crate) struct Content {
    /// The start of a line that may become a marker; or, inside, all of the content so far.
    held: String,
    mime: Option<String>,
    is_mid_line: bool,
    /// An end marker came without its line break, which may still come.
    awaits_break: bool,
}

impl Content {
    pub fn add(&mut self, text: &str) -> Vec<Piece> {
        let text = if std::mem::take(&mut self.awaits_break) {
            text.strip_prefix('\n').unwrap_or(text)
        } else {
            text
        };
        if text.is_empty() {
            return Vec::new();
        }
        if self.mime.is_none() && self.held.is_empty() && !may_begin(text, self.is_mid_line) {
            self.is_mid_line = !text.ends_with('\n');
            return vec![Piece::Text(text.to_string())];
        }
        let mut pieces = Vec::new();
        let text = std::mem::take(&mut self.held) + text;
        let mut plain = String::new();
        for line in text.split_inclusive('\n') {
            let is_whole = line.ends_with('\n');
            match &self.mime {
                Some(mime) if line.trim_end() == END && is_whole => {
                    let content = std::mem::take(&mut self.held);
                    pieces.push(Piece::Shown(bundle(mime, &content)));
                    self.mime = None;
                }
                Some(_) => self.held.push_str(line),
                None if !self.is_mid_line && is_whole && line.starts_with(BEGIN) => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    self.mime = Some(line[BEGIN.len()..].trim().to_string());
                }
                None if !self.is_mid_line
                    && !is_whole
                    && (BEGIN.starts_with(line) || line.starts_with(BEGIN)) =>
                {
                    self.held.push_str(line)
                }
                None => {
                    plain.push_str(line);
                    self.is_mid_line = !is_whole;
                }
            }
        }
        // An end marker at the very end may lack its line break.
        if let (Some(mime), true) = (&self.mime, self.held.ends_with(&format!("\n{END}"))) {
            let content = self.held[..self.held.len() - END.len()].to_string();
            pieces.push(Piece::Shown(bundle(mime, &content)));
            (self.mime, self.held, self.awaits_break) = (None, String::new(), true);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        pieces
    }

    /// The cell has ended: what looked like a marker was none.
    pub fn finish(&mut self) -> Option<Piece> {
        let held = std::mem::take(&mut self.held);
        (self.is_mid_line, self.awaits_break) = (false, false);
        match self.mime.take() {
            Some(mime) => Some(Piece::Shown(bundle(&mime, &held))),
            None => (!held.is_empty()).then_some(Piece::Text(held)),
        }
    }
}

/// Whether a marker could begin in this text.
fn may_begin(text: &str, is_mid_line: bool) -> bool {
    let lines = text.split_inclusive('\n').skip(usize::from(is_mid_line));
    lines
        .into_iter()
        .any(|line| line.starts_with(BEGIN) || !line.ends_with('\n') && BEGIN.starts_with(line))
}

/// Values of crates that know evcxr have their content as their text.
pub(crate) fn unwrapped(shown: Bundle) -> Bundle {
    let mut content = Content::default();
    if !shown.plain().starts_with(BEGIN) {
        return shown;
    }
    match content.add(shown.plain()).into_iter().next() {
        Some(Piece::Shown(bundle)) => bundle,
        _ => shown,
    }
}

fn bundle(mime: &str, content: &str) -> Bundle {
    let content = content.strip_suffix('\n').unwrap_or(content);
    match mime {
        "text/plain" => Bundle::text(content),
        "text/markdown" => Bundle::markdown(content),
        _ => {
            Bundle::text(format!("{mime}, {}", skep_render::bytes(content.len() as u64))).with(mime, content)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(chunks: &[&str]) -> Vec<String> {
        let mut content = Content::default();
        let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| content.add(chunk)).collect();
        pieces.extend(content.finish());
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Shown(bundle) => format!(
                "<{}>",
                bundle
                    .rich()
                    .map(|(mime, data)| format!("{mime}={data}"))
                    .collect::<String>()
            ),
        };
        let mut out: Vec<String> = Vec::new();
        for piece in &pieces {
            match (piece, out.last_mut()) {
                (Piece::Text(text), Some(last)) if !last.starts_with('<') => last.push_str(text),
                _ => out.push(text(piece)),
            }
        }
        out
    }

    #[test]
    fn a_value_whose_text_is_content_is_that_content() {
        let value = Bundle::text("EVCXR_BEGIN_CONTENT text/html\n<svg/>\nEVCXR_END_CONTENT");
        assert_eq!(unwrapped(value).get("text/html"), Some("<svg/>"));
        assert_eq!(unwrapped(Bundle::text("EVCXR")).plain(), "EVCXR");
    }

    #[test]
    fn content_is_told_from_prints_however_it_is_cut() {
        let whole = "before\nEVCXR_BEGIN_CONTENT text/html\n<b>x</b>\n\nEVCXR_END_CONTENT\nafter EVCXR_BEGIN_CONTENT no\n";
        let expect = [
            "before\n",
            "<text/html=<b>x</b>\n>",
            "after EVCXR_BEGIN_CONTENT no\n",
        ];
        assert_eq!(shown(&[whole]), expect);
        for at in 1..whole.len() {
            assert_eq!(shown(&[&whole[..at], &whole[at..]]), expect, "cut at {at}");
        }
        assert_eq!(shown(&["EVCXR", "_not\n"]), ["EVCXR_not\n"]);
        assert_eq!(
            shown(&["a", "EVCXR_BEGIN_CONTENT x\n"]),
            ["aEVCXR_BEGIN_CONTENT x\n"],
            "only at the start of a line"
        );
        assert_eq!(
            shown(&["EVCXR_BEGIN_CONTENT image/png\nAAAA"]),
            ["<image/png=AAAA>"],
            "a cell that ends in the middle"
        );
    }
}
