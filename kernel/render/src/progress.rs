//! Progress of tasks, by function: bars in HTML and in text. The last state is what a saved notebook keeps.

use std::time::Duration;

use crate::{Bundle, colours, count, duration, escape, plural, text};

/// How far the tasks of one function are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub name: String,
    pub n_waiting: u64,
    pub n_running: u64,
    pub n_done: u64,
    pub n_failed: u64,
    pub n_cancelled: u64,
    /// What the running ones say that they have done, in tasks: 0.5 is half of one.
    pub told: f64,
}

impl Row {
    pub fn total(&self) -> u64 {
        self.n_waiting + self.n_running + self.n_done + self.n_failed + self.n_cancelled
    }

    fn part(&self, n: u64) -> f64 {
        n as f64 / self.total().max(1) as f64
    }

    fn numbers(&self) -> String {
        let mut text = format!("{} / {}", count(self.n_done), count(self.total()));
        if self.n_failed > 0 {
            text.push_str(&format!(", {} failed", count(self.n_failed)));
        }
        if self.n_cancelled > 0 {
            text.push_str(&format!(", {} cancelled", count(self.n_cancelled)));
        }
        if self.told > 0.0 && self.n_running > 0 {
            text.push_str(&format!(
                ", the running ones at {:.0} %",
                100.0 * (self.told / self.n_running as f64).min(1.0)
            ));
        }
        text
    }
}

/// Rows beyond this are summed up in one.
const MOST_ROWS: usize = 12;

/// Draws progress. `notes` are events worth a line: a worker that died.
pub fn bundle(rows: &[Row], elapsed: Duration, notes: &[String]) -> Bundle {
    let rows = shortened(rows);
    Bundle::text(text(&rows, elapsed, notes)).with_html(html(&rows, elapsed, notes))
}

fn shortened(rows: &[Row]) -> Vec<Row> {
    if rows.len() <= MOST_ROWS {
        return rows.to_vec();
    }
    let (shown, rest) = rows.split_at(MOST_ROWS - 1);
    let mut sum = Row {
        name: format!("{} more", rest.len()),
        ..Row::default()
    };
    for row in rest {
        sum.n_waiting += row.n_waiting;
        sum.n_running += row.n_running;
        sum.n_done += row.n_done;
        sum.n_failed += row.n_failed;
        sum.n_cancelled += row.n_cancelled;
        sum.told += row.told;
    }
    shown.iter().cloned().chain([sum]).collect()
}

fn headline(rows: &[Row], elapsed: Duration) -> String {
    let (done, total): (u64, u64) = rows.iter().fold((0, 0), |(done, total), row| {
        (done + row.n_done, total + row.total())
    });
    let n_failed: u64 = rows.iter().map(|row| row.n_failed).sum();
    let n_cancelled: u64 = rows.iter().map(|row| row.n_cancelled).sum();
    let state = match (done + n_failed + n_cancelled == total, n_failed, n_cancelled) {
        (true, 0, 0) => "done".to_string(),
        (true, 0, n) => format!("{} cancelled", count(n)),
        (true, n, _) => format!("{} failed", count(n)),
        (false, _, _) => "running".to_string(),
    };
    format!(
        "{}: {} of {}, {}",
        state,
        count(done),
        plural(total as usize, "task"),
        duration(elapsed)
    )
}

fn text(rows: &[Row], elapsed: Duration, notes: &[String]) -> String {
    const WIDEST_BAR: usize = 24;
    let columns = text::columns();
    let widest = rows
        .iter()
        .map(|row| text::width(&row.name))
        .max()
        .unwrap_or(0)
        .min(24);
    let numbers = rows
        .iter()
        .map(|row| text::width(&row.numbers()))
        .max()
        .unwrap_or(0);
    let bar = columns.saturating_sub(widest + numbers + 2).clamp(8, WIDEST_BAR);
    let mut lines = vec![text::cut(&headline(rows, elapsed), columns)];
    for row in rows {
        let name = text::padded(&text::cut(&row.name, widest), widest);
        let done = (row.part(row.n_done) * bar as f64) as usize;
        let failed = ((row.part(row.n_failed) * bar as f64).ceil() as usize).min(bar - done);
        let running = ((row.part(row.n_running) * bar as f64).ceil() as usize).min(bar - done - failed);
        let rest = bar - done - failed - running;
        let line = format!(
            "{name} {}{}{}{} {}",
            "█".repeat(done),
            "✗".repeat(failed),
            "▒".repeat(running),
            "·".repeat(rest),
            row.numbers()
        );
        lines.push(text::cut(&line, columns));
    }
    lines.extend(
        notes
            .iter()
            .flat_map(|note| text::wrapped(&format!("! {note}"), columns)),
    );
    lines.join("\n")
}

fn html(rows: &[Row], elapsed: Duration, notes: &[String]) -> String {
    let mut html = format!(
        r#"<div style="font-family:var(--jp-ui-font-family, sans-serif);font-size:13px;color:var(--jp-ui-font-color1, inherit);max-width:640px"><div style="margin-bottom:4px;opacity:0.8">{}</div>"#,
        escape(&headline(rows, elapsed))
    );
    for row in rows {
        let bar = |n: u64, colour: &str, opacity: &str| {
            if n == 0 {
                return String::new();
            }
            format!(
                r#"<div style="width:{:.2}%;height:12px;background:{colour};opacity:{opacity}"></div>"#,
                100.0 * row.part(n)
            )
        };
        html.push_str(&format!(
            r#"<div style="display:flex;align-items:center;gap:8px;margin:3px 0"><div style="width:150px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-family:var(--jp-code-font-family, monospace)" title="{name}">{name}</div><div style="flex:1;display:flex;border-radius:3px;overflow:hidden;background:rgba(128,128,128,0.22)">{}{}{}</div><div style="width:150px;font-variant-numeric:tabular-nums">{}</div></div>"#,
            bar(row.n_done, colours::DONE, "1"),
            bar(row.n_failed, colours::FAILED, "1"),
            bar(row.n_running, colours::RUNNING, "0.85"),
            escape(&row.numbers()),
            name = escape(&row.name),
        ));
    }
    for note in notes {
        html.push_str(&format!(
            r#"<div style="color:var(--jp-error-color1, {})">{}</div>"#,
            colours::FAILED,
            escape(note)
        ));
    }
    html.push_str("</div>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row {
                name: "load".into(),
                n_done: 10,
                ..Row::default()
            },
            Row {
                name: "<sum>".into(),
                n_waiting: 2,
                n_running: 1,
                n_done: 1,
                n_failed: 1,
                ..Row::default()
            },
        ]
    }

    #[test]
    fn progress_is_drawn() {
        let bundle = bundle(
            &rows(),
            Duration::from_millis(2340),
            &["worker-2 died: killed by SIGKILL".into()],
        );
        insta::assert_snapshot!("progress_text", bundle.plain());
        insta::assert_snapshot!("progress_html", bundle.get("text/html").unwrap());
    }

    #[test]
    fn many_functions_are_summed_up() {
        let many: Vec<Row> = (0..40)
            .map(|i| Row {
                name: format!("f{i}"),
                n_done: 1,
                ..Row::default()
            })
            .collect();
        let text = bundle(&many, Duration::ZERO, &[]);
        assert!(text.plain().contains("29 more"), "{}", text.plain());
        assert_eq!(
            bundle(&[], Duration::ZERO, &[]).plain(),
            "done: 0 of 0 tasks, 0 µs"
        );
    }
}
