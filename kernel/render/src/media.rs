//! Text and pictures that are shown as what they are: `Html("<b>x</b>")`, `Image::open("plot.png")?`.

use std::{fs, io, path::Path};

use crate::Message;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Bundle, Rich, bundle::MAX_BYTES, bytes};

/// HTML, as the page shows it.
///
/// ```
/// use skep_render::{Rich, media::Html};
/// assert_eq!(Html("<b>3</b> bees").bundle().get("text/html"), Some("<b>3</b> bees"));
/// ```
#[derive(Clone, Debug)]
pub struct Html<T>(pub T);

/// An SVG picture, as its text.
#[derive(Clone, Debug)]
pub struct Svg<T>(pub T);

/// Markdown, as the page shows it; in a terminal, the text without most marks.
#[derive(Clone, Debug)]
pub struct Markdown<T>(pub T);

impl<T: AsRef<str>> Rich for Html<T> {
    fn bundle(&self) -> Bundle {
        let html = self.0.as_ref();
        Bundle::text(text_of(html)).with_html(html)
    }
}

impl<T: AsRef<str>> Rich for Svg<T> {
    fn bundle(&self) -> Bundle {
        let svg = self.0.as_ref();
        Bundle::text(format!("an SVG picture, {}", bytes(svg.len() as u64))).with_svg(svg)
    }
}

impl<T: AsRef<str>> Rich for Markdown<T> {
    fn bundle(&self) -> Bundle {
        Bundle::markdown(self.0.as_ref())
    }
}

/// What stands between the tags.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    let mut is_inside = false;
    for c in html.chars() {
        match c {
            '<' => is_inside = true,
            '>' if is_inside => is_inside = false,
            c if !is_inside => text.push(c),
            _ => {}
        }
    }
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    let text = text.trim();
    if text.is_empty() {
        format!("HTML, {}", bytes(html.len() as u64))
    } else {
        text.to_string()
    }
}

/// A picture: PNG, JPEG, GIF, WebP or SVG, told by its first bytes.
#[derive(Clone, Debug)]
pub struct Image {
    mime: &'static str,
    data: Vec<u8>,
}

impl Image {
    /// # Errors
    /// When the file cannot be read, or is no picture of these kinds; the message names it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Image> {
        let path = path.as_ref();
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::read(path).and_then(Image::from_bytes).map_err(named)
    }

    /// # Errors
    /// When these are not the bytes of a picture of a known kind.
    pub fn from_bytes(data: impl Into<Vec<u8>>) -> io::Result<Image> {
        let data = data.into();
        let mime = match data.as_slice() {
            [0x89, b'P', b'N', b'G', ..] => "image/png",
            [0xff, 0xd8, 0xff, ..] => "image/jpeg",
            [b'G', b'I', b'F', b'8', ..] => "image/gif",
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
            text if std::str::from_utf8(&text[..text.len().min(512)])
                .is_ok_and(|text| text.contains("<svg")) =>
            {
                "image/svg+xml"
            }
            _ => {
                let message = Message::new("not a picture that a notebook shows")
                    .hint("PNG, JPEG, GIF, WebP and SVG are");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        };
        Ok(Image { mime, data })
    }
}

impl Rich for Image {
    fn bundle(&self) -> Bundle {
        let size = bytes(self.data.len() as u64);
        let text = Bundle::text(format!("{}, {size}", self.mime));
        if self.mime == "image/svg+xml" {
            return text.with_svg(String::from_utf8_lossy(&self.data));
        }
        let encoded = STANDARD.encode(&self.data);
        if encoded.len() > MAX_BYTES {
            return Bundle::text(
                Message::new(format!(
                    "{}, {size}: too large to be kept in a notebook",
                    self.mime
                ))
                .hint("make it smaller first")
                .to_string(),
            );
        }
        text.with(self.mime, encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_bytes() {
        for (data, expect) in [
            (&b"\x89PNG\r\n"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"GIF89a", Some("image/gif")),
            (b"RIFF0000WEBP", Some("image/webp")),
            (b"<?xml?><svg/>", Some("image/svg+xml")),
            (b"hello", None),
            (b"", None),
        ] {
            assert_eq!(Image::from_bytes(data).ok().map(|image| image.mime), expect);
        }
        assert!(
            Image::open("/nowhere.png")
                .unwrap_err()
                .to_string()
                .contains("/nowhere.png")
        );
        assert_eq!(
            Image::from_bytes(&b"GIF8"[..]).unwrap().bundle().get("image/gif"),
            Some("R0lGOA==")
        );
    }

    #[test]
    fn markup_has_a_text_form() {
        assert_eq!(Html("<p>a &lt; <b>b</b></p>").bundle().plain(), "a < b");
        assert_eq!(Html("<img src='x'>").bundle().plain(), "HTML, 13 B");
        assert_eq!(Markdown("**bold**").bundle().plain(), "bold");
    }
}
