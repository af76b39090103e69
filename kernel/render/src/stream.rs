//! The task stream: a row for each worker's lane, a bar for each task, time from left to right.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Bundle,
    card::Card,
    colours::{INK, SERIES, WAITING},
    count, duration, escape, plural, text,
};

/// A task that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    pub worker: String,
    pub name: String,
    /// Microseconds, from any zero that all bars share.
    pub start_us: u64,
    pub duration_us: u64,
}

/// A pause longer than this between tasks starts a new picture: the last burst of work is what people ask
/// about.
const PAUSE_US: u64 = 5_000_000;
const WIDTH: f64 = 560.0;
const ROW: f64 = 18.0;

/// Lanes that are drawn; what runs on others is counted.
const MOST_LANES: usize = 64;

/// Draws the last burst of work.
pub fn bundle(bars: &[Bar]) -> Bundle {
    drawn(&last_burst(bars))
}

/// Draws all of the work.
pub fn all(bars: &[Bar]) -> Bundle {
    drawn(&bars.iter().collect::<Vec<_>>())
}

/// Which part of all the time was over when the last burst of work began: from 0 to 1.
pub fn last_burst_begins(bars: &[Bar]) -> f64 {
    let begin = bars.iter().map(|bar| bar.start_us).min().unwrap_or(0);
    let end = bars.iter().map(|bar| bar.start_us + bar.duration_us).max();
    let burst = last_burst(bars).first().map_or(begin, |bar| bar.start_us);
    (burst - begin) as f64 / (end.unwrap_or(0) - begin).max(1) as f64
}

fn drawn(bars: &[&Bar]) -> Bundle {
    let Some(picture) = Picture::of(bars) else {
        return Bundle::text("no task has run yet");
    };
    Bundle::text(picture.text()).with_svg(picture.svg())
}

/// A card, and below it the last burst of work.
pub fn below(card: Card, bars: &[Bar]) -> Bundle {
    one_below_the_other(&card, &bundle(bars))
}

/// A card, and below it all of the work.
pub fn whole(card: Card, bars: &[Bar]) -> Bundle {
    one_below_the_other(&card, &all(bars))
}

fn one_below_the_other(card: &Card, picture: &Bundle) -> Bundle {
    let card = card.bundle();
    let html = format!(
        "{}{}",
        card.get("text/html").unwrap_or_default(),
        picture.get("image/svg+xml").unwrap_or_default()
    );
    Bundle::text(format!("{}\n{}", card.plain(), picture.plain())).with_html(html)
}

fn last_burst(bars: &[Bar]) -> Vec<&Bar> {
    let mut sorted: Vec<&Bar> = bars.iter().collect();
    sorted.sort_by_key(|bar| bar.start_us);
    let mut begin = 0;
    let mut end = 0;
    for (i, bar) in sorted.iter().enumerate() {
        if i > 0 && bar.start_us > end + PAUSE_US {
            begin = i;
        }
        end = end.max(bar.start_us + bar.duration_us);
    }
    sorted.split_off(begin)
}

struct Picture<'b> {
    bars: &'b [&'b Bar],
    /// For each bar its row.
    rows: Vec<usize>,
    /// What stands in front of each row.
    titles: Vec<String>,
    /// Lanes that are not drawn.
    n_left_out: usize,
    /// Functions, most time first.
    functions: Vec<(&'b str, u64, u64)>,
    start_us: u64,
    span_us: u64,
}

impl<'b> Picture<'b> {
    fn of(bars: &'b [&'b Bar]) -> Option<Picture<'b>> {
        let start_us = bars.iter().map(|bar| bar.start_us).min()?;
        let end_us = bars.iter().map(|bar| bar.start_us + bar.duration_us).max()?;
        // Tasks of one worker that overlap run on different threads: each lane takes what it has room for.
        let mut lanes: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut lane_of = Vec::new();
        for bar in bars {
            let lanes = lanes.entry(&bar.worker).or_default();
            let free = lanes
                .iter()
                .position(|end| *end <= bar.start_us)
                .unwrap_or(lanes.len());
            if free == lanes.len() {
                lanes.push(0);
            }
            lanes[free] = bar.start_us + bar.duration_us;
            lane_of.push(free);
        }
        let mut names: Vec<&str> = lanes.keys().copied().collect();
        names.sort_by_key(|name| (name.len(), *name));
        let mut first = BTreeMap::new();
        let mut titles = Vec::new();
        for name in names {
            first.insert(name, titles.len());
            let n = lanes[name].len();
            titles.extend((0..n).map(|lane| {
                if lane == 0 {
                    name.to_string()
                } else {
                    String::new()
                }
            }));
        }
        let n_lanes = titles.len();
        titles.truncate(MOST_LANES);
        let rows = bars
            .iter()
            .zip(&lane_of)
            .map(|(bar, lane)| first[bar.worker.as_str()] + lane)
            .collect();
        let mut totals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for bar in bars {
            let total = totals.entry(&bar.name).or_default();
            (total.0, total.1) = (total.0 + 1, total.1 + bar.duration_us);
        }
        let mut functions: Vec<(&str, u64, u64)> =
            totals.into_iter().map(|(name, (n, us))| (name, n, us)).collect();
        functions.sort_by_key(|(name, _, us)| (std::cmp::Reverse(*us), *name));
        Some(Picture {
            bars,
            rows,
            n_left_out: n_lanes - titles.len(),
            titles,
            functions,
            start_us,
            span_us: (end_us - start_us).max(1),
        })
    }

    /// The bars that are drawn, with their rows.
    fn on_lanes(&self) -> impl Iterator<Item = (&&'b Bar, &usize)> {
        let all = self.bars.iter().zip(&self.rows);
        all.filter(|(_, row)| **row < self.titles.len())
    }

    fn headline(&self) -> String {
        let busy: u64 = self.bars.iter().map(|bar| bar.duration_us).sum();
        let n_lanes = self.titles.len() + self.n_left_out;
        let share = 100.0 * busy as f64 / (self.span_us as f64 * n_lanes as f64);
        let span = duration(Duration::from_micros(self.span_us));
        let left_out = match self.n_left_out {
            0 => String::new(),
            n => format!("; {MOST_LANES} of {n_lanes} lanes are drawn, {n} are not"),
        };
        format!(
            "{} in {span}; lanes busy {share:.0} % of the time{left_out}",
            plural(self.bars.len(), "task")
        )
    }

    fn colour(&self, name: &str) -> &'static str {
        let at = self
            .functions
            .iter()
            .position(|(function, _, _)| *function == name)
            .unwrap_or(0);
        SERIES[at % SERIES.len()]
    }

    fn legend(&self, (name, n, us): &(&str, u64, u64)) -> String {
        format!(
            "{name}: {} × {}",
            count(*n),
            duration(Duration::from_micros(us / n.max(&1)))
        )
    }

    fn svg(&self) -> String {
        let left = 10.0
            + 7.0
                * self
                    .titles
                    .iter()
                    .map(|title| title.chars().count())
                    .max()
                    .unwrap_or(0) as f64;
        let n_legend = self.functions.len().min(SERIES.len());
        let bottom = 34.0 + ROW * self.titles.len() as f64;
        let (width, height) = (left + WIDTH + 20.0, bottom + 26.0 + 16.0 * n_legend as f64);
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" style="max-width:100%;height:auto" font-family="sans-serif" font-size="12"><text x="10" y="20" fill="{INK}">{}</text>"#,
            escape(&self.headline())
        );
        for (row, title) in self.titles.iter().enumerate() {
            let y = 32.0 + ROW * row as f64;
            svg.push_str(&format!(
                r#"<text x="10" y="{:.1}" fill="{INK}">{}</text>"#,
                y + 12.0,
                escape(title)
            ));
            svg.push_str(&format!(
                r#"<rect x="{left:.1}" y="{y:.1}" width="{WIDTH:.0}" height="{:.1}" fill="{WAITING}" fill-opacity="0.15"/>"#,
                ROW - 2.0
            ));
        }
        for (bar, row) in self.on_lanes() {
            let x = left + WIDTH * (bar.start_us - self.start_us) as f64 / self.span_us as f64;
            let w = (WIDTH * bar.duration_us as f64 / self.span_us as f64).max(0.5);
            let title = format!(
                "{}, {}",
                bar.name,
                duration(Duration::from_micros(bar.duration_us))
            );
            svg.push_str(&format!(
                r#"<rect x="{x:.1}" y="{:.1}" width="{w:.1}" height="{:.1}" fill="{}"><title>{}</title></rect>"#,
                32.0 + ROW * *row as f64,
                ROW - 2.0,
                self.colour(&bar.name),
                escape(&title)
            ));
        }
        svg.push_str(&format!(
            r#"<text x="{left:.1}" y="{:.1}" fill="{INK}" font-size="11">0</text>"#,
            bottom + 12.0
        ));
        svg.push_str(&format!(
            r#"<text x="{:.1}" y="{:.1}" fill="{INK}" font-size="11" text-anchor="end">{}</text>"#,
            left + WIDTH,
            bottom + 12.0,
            duration(Duration::from_micros(self.span_us))
        ));
        for (i, function) in self.functions.iter().take(n_legend).enumerate() {
            let y = bottom + 18.0 + 16.0 * i as f64;
            svg.push_str(&format!(
                r#"<rect x="{left:.1}" y="{y:.1}" width="10" height="10" fill="{}"/>"#,
                SERIES[i]
            ));
            let more = if i + 1 == n_legend && self.functions.len() > n_legend {
                format!("; and {} more functions", self.functions.len() - n_legend)
            } else {
                String::new()
            };
            svg.push_str(&format!(
                r#"<text x="{:.1}" y="{:.1}" fill="{INK}">{}</text>"#,
                left + 16.0,
                y + 10.0,
                escape(&(self.legend(function) + &more))
            ));
        }
        svg.push_str("</svg>");
        svg
    }

    fn text(&self) -> String {
        const MARKS: [char; 8] = ['█', '▓', '▒', '░', '■', '▪', '◆', '●'];
        let widest = self
            .titles
            .iter()
            .map(|title| title.chars().count())
            .max()
            .unwrap_or(0);
        let columns = text::columns().saturating_sub(widest + 2).clamp(20, 120);
        let mut lanes = vec![vec![' '; columns]; self.titles.len()];
        for (bar, row) in self.on_lanes() {
            let column =
                |us: u64| ((us - self.start_us) as f64 / self.span_us as f64 * columns as f64) as usize;
            let from = column(bar.start_us).min(columns - 1);
            let to = column(bar.start_us + bar.duration_us).clamp(from + 1, columns);
            let at = self
                .functions
                .iter()
                .position(|(function, _, _)| *function == bar.name)
                .unwrap_or(0);
            lanes[*row][from..to].fill(MARKS[at % MARKS.len()]);
        }
        let mut lines = text::wrapped(&self.headline(), text::columns());
        for (title, lane) in self.titles.iter().zip(&lanes) {
            lines.push(format!(
                "{title:<widest$} │{}",
                lane.iter().collect::<String>().trim_end()
            ));
        }
        for (i, function) in self.functions.iter().take(MARKS.len()).enumerate() {
            lines.push(text::cut(
                &format!("  {} {}", MARKS[i], self.legend(function)),
                text::columns(),
            ));
        }
        lines.join("\n")
    }
}

#[test]
fn a_stream_has_a_lane_for_each_thread_and_shows_the_last_burst() {
    let bar = |worker: &str, name: &str, start_us, duration_us| Bar {
        worker: worker.into(),
        name: name.into(),
        start_us,
        duration_us,
    };
    let bars = [
        bar("worker-1", "old", 0, 1_000),
        bar("worker-1", "inc", 20_000_000, 500_000),
        bar("worker-1", "inc", 20_100_000, 500_000),
        bar("worker-2", "<add>", 20_500_000, 500_000),
    ];
    let shown = bundle(&bars);
    assert!((last_burst_begins(&bars) - 20.0 / 21.0).abs() < 1e-9);
    assert_eq!(
        (last_burst_begins(&bars[..1]), last_burst_begins(&[])),
        (0.0, 0.0)
    );
    insta::assert_snapshot!("stream_text", shown.plain());
    insta::assert_snapshot!("stream_svg", shown.get("image/svg+xml").unwrap());
    assert_eq!(bundle(&[]).plain(), "no task has run yet");
    let all = whole(Card::new("all"), &bars).plain().to_string();
    assert!(
        all.contains("old: 1 ×") && all.contains("4 tasks in 21.0 s"),
        "{all}"
    );
    let many: Vec<Bar> = (0..1000)
        .map(|n| bar(&format!("worker-{n}"), "inc", 0, 10))
        .collect();
    let shown = bundle(&many);
    assert!(shown.plain().lines().count() < 70, "{}", shown.plain());
    let words = shown.plain().replace('\n', " ");
    assert!(
        words.contains("64 of 1000 lanes are drawn, 936 are not"),
        "{words}"
    );
    assert!(!shown.get("image/svg+xml").unwrap().contains("worker-64<"));
}
