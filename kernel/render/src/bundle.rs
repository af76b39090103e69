use serde::{Deserialize, Serialize};

/// The largest single representation in bytes; above it the text is cut and says so, and rich forms are left
/// out.
pub const MAX_BYTES: usize = 4 << 20;

/// One value in every form that a front end may choose from; `text/plain` is always there.
///
/// ```
/// use skep_render::Bundle;
/// let shown = Bundle::text("3 bees").with_html("<b>3</b> bees");
/// assert_eq!(shown.plain(), "3 bees");
/// assert_eq!(shown.get("text/html"), Some("<b>3</b> bees"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    plain: String,
    rich: Vec<(String, String)>,
}

impl Bundle {
    pub fn text(text: impl Into<String>) -> Bundle {
        Bundle {
            plain: capped(text.into()),
            rich: Vec::new(),
        }
    }

    /// Markdown, and as plain text what remains without its marks.
    pub fn markdown(text: impl Into<String>) -> Bundle {
        let text = text.into();
        let mut in_code = false;
        let mut plain = Vec::new();
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            } else if in_code {
                plain.push(line.to_string());
            } else if line.trim() != "---" {
                plain.extend(crate::text::wrapped(
                    &line.replace("**", "").replace('`', ""),
                    crate::text::columns(),
                ));
            }
        }
        let mut plain = plain.join("\n");
        while plain.contains("\n\n\n") {
            plain = plain.replace("\n\n\n", "\n\n");
        }
        Bundle::text(plain.trim()).with("text/markdown", text)
    }

    pub fn with_html(self, html: impl Into<String>) -> Bundle {
        self.with("text/html", html)
    }

    pub fn with_svg(self, svg: impl Into<String>) -> Bundle {
        self.with("image/svg+xml", svg)
    }

    /// Adds any other representation by MIME type; text, as Jupyter stores it.
    pub fn with(mut self, mime: impl Into<String>, data: impl Into<String>) -> Bundle {
        let data = data.into();
        if data.len() <= MAX_BYTES {
            self.rich.push((mime.into(), data));
        }
        self
    }

    /// The same with every text form changed by `f`.
    #[must_use]
    pub fn map(self, f: impl Fn(&str) -> String) -> Bundle {
        let rich = self.rich.into_iter().map(|(mime, data)| {
            if mime.starts_with("text/") {
                (mime, f(&data))
            } else {
                (mime, data)
            }
        });
        Bundle {
            plain: f(&self.plain),
            rich: rich.collect(),
        }
    }

    /// Several, one below the other, as one: what each looks best as.
    pub fn stacked(parts: &[Bundle]) -> Bundle {
        if let [one] = parts {
            return one.clone();
        }
        let plain: Vec<&str> = parts.iter().map(Bundle::plain).collect();
        let html: Vec<String> = parts
            .iter()
            .map(|part| {
                let drawn = part.get("text/html").or(part.get("image/svg+xml"));
                drawn.map_or_else(
                    || format!("<pre>{}</pre>", crate::escape(part.plain())),
                    |drawn| format!("<div>{drawn}</div>"),
                )
            })
            .collect();
        let stacked = Bundle::text(plain.join("\n"));
        if html.is_empty() {
            stacked
        } else {
            stacked.with_html(html.concat())
        }
    }

    pub fn plain(&self) -> &str {
        &self.plain
    }

    pub fn get(&self, mime: &str) -> Option<&str> {
        if mime == "text/plain" {
            return Some(&self.plain);
        }
        self.rich
            .iter()
            .find(|(m, _)| m == mime)
            .map(|(_, data)| data.as_str())
    }

    /// Every form but `text/plain`.
    pub fn rich(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rich
            .iter()
            .map(|(mime, data)| (mime.as_str(), data.as_str()))
    }
}

fn capped(mut text: String) -> String {
    if text.len() > MAX_BYTES {
        let total = text.len();
        let cut = text.floor_char_boundary(MAX_BYTES);
        text.truncate(cut);
        text.push_str(&format!(
            "\n… cut: {} of {} shown",
            crate::bytes(cut as u64),
            crate::bytes(total as u64)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_below_the_other() {
        let one = Bundle::text("a").with_svg("<svg/>");
        assert_eq!(Bundle::stacked(std::slice::from_ref(&one)), one);
        let both = Bundle::stacked(&[one, Bundle::text("b <c>")]);
        assert_eq!(both.plain(), "a\nb <c>");
        assert_eq!(
            both.get("text/html"),
            Some("<div><svg/></div><pre>b &lt;c&gt;</pre>")
        );
        assert_eq!(Bundle::stacked(&[]), Bundle::default());
    }

    #[test]
    fn huge_text_is_cut_and_says_so() {
        let shown = Bundle::text("é".repeat(MAX_BYTES));
        assert!(shown.plain().len() < MAX_BYTES + 100);
        assert!(
            shown.plain().ends_with("4.0 MiB of 8.0 MiB shown"),
            "{}",
            &shown.plain()[MAX_BYTES - 10..]
        );
        assert_eq!(
            Bundle::text("a")
                .with_svg("x".repeat(MAX_BYTES + 1))
                .get("image/svg+xml"),
            None
        );
    }
}
