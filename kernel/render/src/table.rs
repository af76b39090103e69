//! A data frame's head and tail as an HTML table, in the manner of py-polars: names, types, shape, at most 40
//! rows and 75 columns.

use crate::{Bundle, count, escape};

pub const MOST_ROWS: usize = 40;
pub const MOST_COLUMNS: usize = 75;

/// What to show of a frame; the caller cuts rows and columns and says where.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub n_rows: usize,
    pub n_columns: usize,
    /// Name and type of each shown column.
    pub columns: Vec<(String, String)>,
    /// Shown rows; `None` is a null.
    pub rows: Vec<Vec<Option<String>>>,
    /// After how many shown rows, and columns, something is left out.
    pub rows_cut_at: Option<usize>,
    pub columns_cut_at: Option<usize>,
    /// Columns to align to the right.
    pub is_number: Vec<bool>,
}

impl Table {
    /// `text` is the frame's own text form.
    pub fn bundle(&self, text: String) -> Bundle {
        Bundle::text(text).with_html(self.to_html())
    }

    fn to_html(&self) -> String {
        let mut html = format!(
            r#"<div style="overflow:auto;color:var(--jp-ui-font-color1, inherit)"><div style="font-size:12px;opacity:0.75">shape: ({}, {})</div><table style="border-collapse:collapse;font-size:12px;font-variant-numeric:tabular-nums"><thead>"#,
            count(self.n_rows as u64),
            count(self.n_columns as u64)
        );
        let border = "1px solid rgba(128,128,128,0.45)";
        html.push_str(&self.line(
            |i| {
                format!(
                    r#"<th style="text-align:{};padding:3px 9px">{}</th>"#,
                    self.align(i),
                    escape(&self.columns[i].0)
                )
            },
            "<th>…</th>",
        ));
        html.push_str(&self.line(
            |i| {
                format!(
                    r#"<td style="text-align:{};padding:1px 9px 4px;opacity:0.65;border-bottom:{border}">{}</td>"#,
                    self.align(i),
                    escape(&self.columns[i].1)
                )
            },
            "<td>…</td>",
        ));
        html.push_str("</thead><tbody>");
        for (r, row) in self.rows.iter().enumerate() {
            if self.rows_cut_at == Some(r) {
                html.push_str(&self.line(
                    |i| {
                        format!(
                            r#"<td style="text-align:{};padding:2px 9px">…</td>"#,
                            self.align(i)
                        )
                    },
                    "<td>…</td>",
                ));
            }
            let cell = |i: usize| match &row[i] {
                Some(text) => format!(
                    r#"<td style="text-align:{};padding:2px 9px;white-space:pre">{}</td>"#,
                    self.align(i),
                    escape(text)
                ),
                None => format!(
                    r#"<td style="text-align:{};padding:2px 9px;opacity:0.5">null</td>"#,
                    self.align(i)
                ),
            };
            html.push_str(&self.line(cell, "<td>…</td>"));
        }
        html.push_str("</tbody></table></div>");
        html
    }

    fn align(&self, column: usize) -> &'static str {
        if self.is_number.get(column).copied().unwrap_or(false) {
            "right"
        } else {
            "left"
        }
    }

    fn line(&self, cell: impl Fn(usize) -> String, gap: &str) -> String {
        let mut html = String::from("<tr>");
        for i in 0..self.columns.len() {
            if self.columns_cut_at == Some(i) {
                html.push_str(gap);
            }
            html.push_str(&cell(i));
        }
        html.push_str("</tr>");
        html
    }
}

#[test]
fn a_table_is_drawn() {
    let table = Table {
        n_rows: 1000,
        n_columns: 2,
        columns: vec![("Origin".into(), "str".into()), ("n<1>".into(), "i64".into())],
        rows: vec![
            vec![Some("JFK & co".into()), Some("1".into())],
            vec![None, Some("2".into())],
        ],
        rows_cut_at: Some(1),
        columns_cut_at: None,
        is_number: vec![false, true],
    };
    insta::assert_snapshot!(
        "table_html",
        table.bundle(String::new()).get("text/html").unwrap()
    );
}
