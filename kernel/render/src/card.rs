//! A card: a title, facts, and rows of a small table. Clusters, remote values and frames show themselves as one.

use crate::{Bundle, escape, escape_words};

/// What a card says; every string may come from a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    title: String,
    facts: Vec<(String, String)>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    n_left_out: usize,
    note: Option<String>,
    state: Option<&'static str>,
}

/// Rows beyond this are counted, not shown.
const MOST_ROWS: usize = 40;

impl Card {
    pub fn new(title: impl Into<String>) -> Card {
        Card { title: title.into(), ..Card::default() }
    }

    /// `pending`, `running`, `done` or `failed`: colours the edge.
    #[must_use]
    pub fn state(mut self, state: &'static str) -> Card {
        self.state = Some(state);
        self
    }

    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Card {
        self.facts.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn table<const N: usize>(mut self, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Card {
        self.header = header.map(str::to_string).into();
        let mut rows = rows.into_iter();
        self.rows = rows.by_ref().take(MOST_ROWS).map(Vec::from).collect();
        self.n_left_out = rows.count();
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Card {
        self.note = Some(note.into());
        self
    }

    pub fn bundle(&self) -> Bundle {
        Bundle::text(self.to_text()).with_html(self.to_html())
    }

    fn to_text(&self) -> String {
        let mut lines = vec![self.title.clone()];
        let widest = self.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &self.facts {
            lines.push(format!("  {name:<widest$}  {}", value.replace('\n', "\n      ")));
        }
        if !self.rows.is_empty() {
            let all = || std::iter::once(&self.header).chain(&self.rows);
            let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
            for row in all() {
                let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                lines.push(format!("  {}", cells.join("  ").trim_end()));
            }
            if self.n_left_out > 0 {
                lines.push(format!("  … and {} more", self.n_left_out));
            }
        }
        lines.extend(self.note.clone());
        lines.join("\n")
    }

    fn to_html(&self) -> String {
        let colour = match self.state {
            Some("done") => "#2e9e5b",
            Some("running") => "#d9920a",
            Some("failed") => "#d64545",
            Some(_) => "#8a8f98",
            None => "#d9a520",
        };
        let mut html = format!(
            r#"<div style="border-left:4px solid {colour};padding:4px 12px;font-family:var(--jp-ui-font-family, sans-serif);font-size:13px;color:var(--jp-ui-font-color1, inherit)"><div style="font-weight:600;margin-bottom:4px">{}</div>"#,
            escape(&self.title)
        );
        for (name, value) in &self.facts {
            html.push_str(&format!(
                r#"<div><span style="display:inline-block;min-width:90px;opacity:0.7">{}</span><span style="white-space:pre-wrap">{}</span></div>"#,
                escape(name),
                escape_words(value)
            ));
        }
        if !self.rows.is_empty() {
            html.push_str(r#"<table style="margin-top:6px;border-collapse:collapse;font-variant-numeric:tabular-nums"><thead><tr>"#);
            for cell in &self.header {
                html.push_str(&format!(r#"<th style="text-align:left;padding:2px 14px 2px 0;opacity:0.7">{}</th>"#, escape(cell)));
            }
            html.push_str("</tr></thead><tbody>");
            for row in &self.rows {
                html.push_str("<tr>");
                for cell in row {
                    html.push_str(&format!(r#"<td style="text-align:left;padding:2px 14px 2px 0">{}</td>"#, escape_words(cell)));
                }
                html.push_str("</tr>");
            }
            html.push_str("</tbody></table>");
            if self.n_left_out > 0 {
                html.push_str(&format!(r#"<div style="opacity:0.7">… and {} more</div>"#, self.n_left_out));
            }
        }
        if let Some(note) = &self.note {
            html.push_str(&format!(r#"<div style="opacity:0.8;margin-top:4px">{}</div>"#, escape_words(note)));
        }
        html.push_str("</div>");
        html
    }
}

#[test]
fn a_card_is_drawn() {
    let rows = [["worker-1".to_string(), "12.0 MiB".to_string()], ["worker-2".to_string(), "<b>9</b>".to_string()]];
    let card = Card::new("Cluster: 2 workers").fact("threads", "2").fact("memory", "no limit").table(["worker", "resident"], rows).note("worker-0 died");
    insta::assert_snapshot!("card_text", card.bundle().plain());
    insta::assert_snapshot!("card_html", card.bundle().get("text/html").unwrap());
    let many = Card::new("many").table(["n"], (0..100).map(|n| [n.to_string()]));
    assert!(many.bundle().plain().ends_with("… and 60 more"));
}
