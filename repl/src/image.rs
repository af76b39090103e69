//! Images in terminals that have them: kitty's, iTerm2's and sixel's ways of sending one.
//!
//! Which one is told by the environment, as terminals set it; `SKEP_IMAGES` (`kitty`, `iterm`, `sixel`,
//! `none`) overrides.

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use resvg::{
    tiny_skia::{Color, Pixmap, Transform},
    usvg::{self, fontdb},
};
use skep_session::Bundle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Kitty,
    Iterm,
    Sixel,
}

/// Larger than this on either side, an image is no use in a terminal; its text is.
const MOST_PIXELS: u32 = 4_096;

/// What this terminal understands, by its environment.
pub(crate) fn protocol() -> Option<Protocol> {
    protocol_of(|name| std::env::var(name).unwrap_or_default())
}

fn protocol_of(env: impl Fn(&str) -> String) -> Option<Protocol> {
    match env("SKEP_IMAGES").as_str() {
        "kitty" => return Some(Protocol::Kitty),
        "iterm" => return Some(Protocol::Iterm),
        "sixel" => return Some(Protocol::Sixel),
        "none" => return None,
        _ => {}
    }
    // Multiplexers swallow what they do not know.
    if !env("TMUX").is_empty() || env("TERM").starts_with("screen") {
        return None;
    }
    let (term, program) = (env("TERM"), env("TERM_PROGRAM"));
    if !env("KITTY_WINDOW_ID").is_empty() || term.contains("kitty") || program == "ghostty" {
        Some(Protocol::Kitty)
    } else if program == "iTerm.app" || program == "WezTerm" || env("LC_TERMINAL") == "iTerm2" {
        Some(Protocol::Iterm)
    } else if term.contains("sixel")
        || term.starts_with("foot")
        || term.starts_with("mlterm")
        || program == "contour"
    {
        Some(Protocol::Sixel)
    } else {
        None
    }
}

/// The picture of a bundle as the terminal wants it; `None` if it has none.
pub(crate) fn draw(bundle: &Bundle, protocol: Protocol) -> Option<String> {
    let (picture, png) = if let Some(svg) = bundle.get("image/svg+xml") {
        let picture = rasterise(svg)?;
        let png = picture.encode_png().ok()?;
        (picture, png)
    } else {
        let png = STANDARD.decode(bundle.get("image/png")?.replace('\n', "")).ok()?;
        (Pixmap::decode_png(&png).ok()?, png)
    };
    Some(match protocol {
        Protocol::Kitty => kitty(&png),
        Protocol::Iterm => format!(
            "\u{1b}]1337;File=inline=1;preserveAspectRatio=1;size={}:{}\u{7}\n",
            png.len(),
            STANDARD.encode(&png)
        ),
        Protocol::Sixel => sixel(picture)?,
    })
}

fn kitty(png: &[u8]) -> String {
    let data = STANDARD.encode(png);
    let n_chunks = data.len().div_ceil(4096);
    let mut out = String::new();
    for (i, chunk) in data.as_bytes().chunks(4096).enumerate() {
        let has_more = u8::from(i + 1 < n_chunks);
        // `q=2` in each: replies would be read as keys.
        let head = if i == 0 { "a=T,f=100," } else { "" };
        out.push_str(&format!(
            "\u{1b}_G{head}q=2,m={has_more};{}\u{1b}\\",
            String::from_utf8_lossy(chunk)
        ));
    }
    out + "\n"
}

fn sixel(picture: Pixmap) -> Option<String> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let image = icy_sixel::SixelImage::try_from_rgba(picture.take_demultiplied(), width, height).ok()?;
    let options = icy_sixel::EncodeOptions {
        diffusion: 0.0,
        ..Default::default()
    };
    image.encode_with(&options).ok().map(|text| text + "\n")
}

/// Generic families must be named: without, text in `sans-serif` is left out where the system's choice is not
/// installed.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_system_fonts();
    let installed = |names: &[&str]| {
        names
            .iter()
            .find(|name| {
                fonts
                    .faces()
                    .any(|face| face.families.iter().any(|family| family.0 == **name))
            })
            .map(ToString::to_string)
    };
    let any = fonts
        .faces()
        .next()
        .and_then(|face| face.families.first())
        .map(|family| family.0.clone());
    let sans = installed(&[
        "DejaVu Sans",
        "Noto Sans",
        "Liberation Sans",
        "Arial",
        "Helvetica",
    ])
    .or_else(|| any.clone());
    let mono = installed(&[
        "DejaVu Sans Mono",
        "Noto Sans Mono",
        "Liberation Mono",
        "Menlo",
        "Courier New",
    ])
    .or(any);
    if let Some(sans) = sans {
        fonts.set_serif_family(&sans);
        fonts.set_sans_serif_family(sans);
    }
    if let Some(mono) = mono {
        fonts.set_monospace_family(mono);
    }
    Arc::new(fonts)
});

fn rasterise(svg: &str) -> Option<Pixmap> {
    let mut options = usvg::Options {
        fontdb: FONTS.clone(),
        ..usvg::Options::default()
    };
    // A picture shows what it holds; it does not read files.
    options.image_href_resolver.resolve_string = Box::new(|_, _| None);
    let tree = usvg::Tree::from_str(svg, &options).ok()?;
    let size = tree.size().to_int_size();
    if size.width() > MOST_PIXELS || size.height() > MOST_PIXELS {
        return None;
    }
    let mut picture = Pixmap::new(size.width(), size.height())?;
    picture.fill(Color::WHITE);
    resvg::render(&tree, Transform::identity(), &mut picture.as_mut());
    Some(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVG: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><rect width="60" height="20" fill="steelblue"/></svg>"#;

    #[test]
    fn the_environment_names_the_protocol() {
        let of = |pairs: &'static [(&str, &str)]| {
            protocol_of(|name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map_or(String::new(), |(_, value)| value.to_string())
            })
        };
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(
            of(&[("TERM_PROGRAM", "iTerm.app"), ("TERM", "xterm-256color")]),
            Some(Protocol::Iterm)
        );
        assert_eq!(of(&[("TERM", "foot")]), Some(Protocol::Sixel));
        assert_eq!(of(&[("TERM", "xterm-256color")]), None);
        assert_eq!(
            of(&[("TERM", "xterm-kitty"), ("TMUX", "/tmp/x")]),
            None,
            "a multiplexer swallows it"
        );
        assert_eq!(
            of(&[("TERM", "xterm"), ("SKEP_IMAGES", "sixel")]),
            Some(Protocol::Sixel)
        );
    }

    #[test]
    fn an_svg_reaches_each_kind_of_terminal() {
        let bundle = Bundle::text("box").with_svg(SVG);
        let kitty = draw(&bundle, Protocol::Kitty).unwrap();
        assert!(
            kitty.starts_with("\u{1b}_Ga=T,f=100,q=2,m=0;iVBORw0KGgo") && kitty.ends_with("\u{1b}\\\n"),
            "{kitty:?}"
        );
        assert!(
            draw(&bundle, Protocol::Iterm)
                .unwrap()
                .starts_with("\u{1b}]1337;File=inline=1")
        );
        assert!(draw(&bundle, Protocol::Sixel).unwrap().starts_with("\u{1b}P"));
        assert_eq!(draw(&Bundle::text("no picture"), Protocol::Kitty), None);
        assert_eq!(
            draw(&Bundle::text("broken").with_svg("<svg"), Protocol::Kitty),
            None
        );
        let huge = SVG.replace("\"60\"", "\"90000\"");
        assert_eq!(draw(&Bundle::text("huge").with_svg(huge), Protocol::Kitty), None);
    }

    #[test]
    fn long_images_come_in_chunks() {
        let text = kitty(&[7; 10_000]);
        assert_eq!(text.matches("\u{1b}_G").count(), 4);
        assert_eq!((text.matches("m=1").count(), text.matches("m=0").count()), (3, 1));
    }
}
