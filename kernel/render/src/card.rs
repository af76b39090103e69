//! A card: a title, facts, and rows of a small table. Clusters, remote values and frames show themselves as
//! one.

use crate::{Bundle, colours, escape, escape_words, text};

/// What a card says; every string may come from a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    title: String,
    facts: Vec<(String, String)>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    n_left_out: usize,
    cuts_cells: bool,
    note: Option<String>,
    /// Words and the address that they lead to.
    link: Option<(String, String)>,
    state: Option<&'static str>,
}

/// Rows beyond this are counted, not shown.
const MOST_ROWS: usize = 40;

impl Card {
    pub fn new(title: impl Into<String>) -> Card {
        Card {
            title: title.into(),
            ..Card::default()
        }
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
    pub fn table<const N: usize>(
        mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Card {
        self.header = header.map(str::to_string).into();
        let mut rows = rows.into_iter();
        self.rows = rows.by_ref().take(MOST_ROWS).map(Vec::from).collect();
        self.n_left_out = rows.count();
        self
    }

    /// As text each row takes one line: what does not fit is cut, where else it would go on below.
    #[must_use]
    pub fn cut_cells(mut self) -> Card {
        self.cuts_cells = true;
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Card {
        self.note = Some(note.into());
        self
    }

    /// Below the note, where there are links: as text a card has none.
    #[must_use]
    pub fn link(mut self, words: impl Into<String>, address: impl Into<String>) -> Card {
        self.link = Some((words.into(), address.into()));
        self
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn bundle(&self) -> Bundle {
        Bundle::text(self.to_text()).with_html(self.to_html())
    }

    fn to_text(&self) -> String {
        let columns = text::columns();
        let mut lines = text::wrapped(&self.title, columns);
        let widest = self
            .facts
            .iter()
            .map(|(name, _)| text::width(name))
            .max()
            .unwrap_or(0);
        for (name, value) in &self.facts {
            let mut name = name.as_str();
            for line in text::wrapped(value, columns.saturating_sub(widest + 4)) {
                lines.push(format!("  {}  {line}", text::padded(name, widest)));
                name = "";
            }
        }
        if !self.rows.is_empty() {
            self.table_to_text(columns, &mut lines);
            if self.n_left_out > 0 {
                lines.push(format!("  … and {} more", self.n_left_out));
            }
        }
        lines.extend(self.note.iter().flat_map(|note| text::wrapped(note, columns)));
        lines.join("\n")
    }

    /// Columns of the table side by side. Where they do not fit, the last one wraps; then long cells are cut,
    /// and then columns on the right are left out, which a line says.
    fn table_to_text(&self, columns: usize, lines: &mut Vec<String>) {
        // What a column needs at least, to be worth its place.
        let narrow = if self.cuts_cells { 18 } else { 24 };
        const GAP: usize = 2;
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let widest = |column: usize| {
            all()
                .flat_map(|row| row[column].split('\n'))
                .map(text::width)
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.header.len()).map(widest).collect();
        let before = |widths: &[usize]| GAP + widths.iter().map(|width| width + GAP).sum::<usize>();
        let room_of_last = |widths: &[usize]| columns.saturating_sub(before(&widths[..widths.len() - 1]));
        if room_of_last(&widths) < widths[widths.len() - 1].min(narrow) {
            widths.iter_mut().for_each(|width| *width = (*width).min(narrow));
        }
        while widths.len() > 1 && room_of_last(&widths) < widths[widths.len() - 1].min(narrow) {
            widths.pop();
        }
        let last = widths.len() - 1;
        widths[last] = widest(last).min(room_of_last(&widths).max(8));
        for row in all() {
            let mut cells: Vec<String> = row[..last]
                .iter()
                .zip(&widths)
                .map(|(cell, width)| text::cut(&cell.replace('\n', " "), *width))
                .collect();
            let of_last = if self.cuts_cells {
                vec![text::cut(&row[last], widths[last])]
            } else {
                text::wrapped(&row[last], widths[last])
            };
            for line in of_last {
                let front: Vec<String> = cells
                    .iter()
                    .zip(&widths)
                    .map(|(cell, width)| text::padded(cell, width + GAP))
                    .collect();
                lines.push(
                    format!("{}{}{line}", " ".repeat(GAP), front.concat())
                        .trim_end()
                        .to_string(),
                );
                cells.iter_mut().for_each(String::clear);
            }
        }
        if last + 1 < self.header.len() {
            let left_out = format!(
                "  not shown, for want of columns: {}",
                self.header[last + 1..].join(", ")
            );
            lines.extend(text::wrapped(&left_out, columns));
        }
    }

    fn to_html(&self) -> String {
        let colour = match self.state {
            Some(state) => colours::of_state(state),
            None => colours::WAITING,
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
            html.push_str(r#"<table style="margin-top:6px;border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums"><thead><tr>"#);
            for cell in &self.header {
                html.push_str(&format!(
                    r#"<th style="text-align:left;padding:2px 14px 2px 0;opacity:0.7">{}</th>"#,
                    escape(cell)
                ));
            }
            html.push_str("</tr></thead><tbody>");
            for row in &self.rows {
                html.push_str("<tr>");
                for cell in row {
                    html.push_str(&format!(
                        r#"<td style="text-align:left;padding:2px 14px 2px 0">{}</td>"#,
                        bar(cell).unwrap_or_else(|| escape_words(cell))
                    ));
                }
                html.push_str("</tr>");
            }
            html.push_str("</tbody></table>");
            if self.n_left_out > 0 {
                html.push_str(&format!(
                    r#"<div style="opacity:0.7">… and {} more</div>"#,
                    self.n_left_out
                ));
            }
        }
        if let Some(note) = &self.note {
            html.push_str(&format!(
                r#"<div style="opacity:0.8;margin-top:4px">{}</div>"#,
                escape_words(note)
            ));
        }
        if let Some((words, address)) = &self.link {
            html.push_str(&format!(
                r#"<div style="margin-top:4px"><a href="{}" target="_blank" rel="noopener" style="color:var(--jp-content-link-color, {})">{}</a></div>"#,
                escape(address),
                colours::ACCENT,
                escape(words)
            ));
        }
        html.push_str("</div>");
        html
    }
}

/// A cell of blocks is a bar: drawn as one, and without styles still the blocks.
fn bar(cell: &str) -> Option<String> {
    let n = cell.chars().count();
    (n > 0 && cell.chars().all(|c| c == '█')).then(|| {
        format!(
            r#"<div style="width:{}px;height:10px;border-radius:2px;background:{};font-size:0">{cell}</div>"#,
            n * 9,
            colours::SERIES[0]
        )
    })
}

#[test]
fn a_card_is_drawn() {
    let rows = [
        ["worker-1".to_string(), "12.0 MiB".to_string()],
        ["worker-2".to_string(), "<b>9</b>".to_string()],
    ];
    let card = Card::new("Cluster: 2 workers")
        .fact("threads", "2")
        .fact("memory", "no limit")
        .table(["worker", "resident"], rows)
        .note("worker-0 died")
        .link("its page", "http://127.0.0.1:1/?token=\"");
    insta::assert_snapshot!("card_text", card.bundle().plain());
    insta::assert_snapshot!("card_html", card.bundle().get("text/html").unwrap());
    let many = Card::new("many").table(["n"], (0..100).map(|n| [n.to_string()]));
    assert!(many.bundle().plain().ends_with("… and 60 more"));
}

#[test]
fn text_fits_its_columns() {
    let row = |n: usize| {
        [
            "worker-1".to_string(),
            "a/long/path/that/nobody/wants/to/see".repeat(n),
            "12.0 MiB of 1.5 GiB".into(),
            "why it is so, in some words".repeat(3 * n),
        ]
    };
    let card = Card::new(
        "Workers that have a long title, longer than a terminal is wide, so that it goes on below"
            .to_string(),
    )
    .fact(
        "state",
        "a fact may be long as well, and then goes on below itself, where it began",
    )
    .note("and so may a note be, which stands below everything else and has no indent");
    for (columns, n) in [(40, 1), (60, 1), (60, 3), (80, 1), (80, 3)] {
        text::set_columns(columns);
        let shown = card
            .clone()
            .table(["worker", "path", "memory", "why"], [row(n)])
            .bundle();
        assert!(
            shown.plain().lines().all(|line| text::width(line) <= columns),
            "{columns}: {}",
            shown.plain()
        );
    }
    text::set_columns(40);
    let shown = card.table(["worker", "path", "memory", "why"], [row(1)]).bundle();
    let words = shown.plain().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("not shown, for want of columns: memory, why"),
        "{words}"
    );
    text::set_columns(80);
}
