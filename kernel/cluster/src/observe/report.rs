//! What happened on a cluster, as files to keep or to send: a report for people, a trace for Chrome's viewer
//! or Perfetto.

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use skep_render::{bytes, colours::SERIES, count, duration, escape, plural, stream};

use crate::model::{
    history::{Bar, History},
    ids::WorkerId,
};

/// Points of the memory curve of one worker, at most.
const MOST_POINTS: usize = 300;

fn took(us: u64) -> String {
    duration(Duration::from_micros(us))
}

pub(crate) fn page(history: &History) -> String {
    let n_tasks: u64 = history.totals.iter().map(|total| total.n_done).sum();
    let span = history
        .bars
        .iter()
        .map(|(bar, _)| bar.start_us + bar.duration_us)
        .max()
        .unwrap_or(0)
        - history
            .bars
            .iter()
            .map(|(bar, _)| bar.start_us)
            .min()
            .unwrap_or(0);
    let busy: u64 = history.totals.iter().map(|total| total.total_us).sum();
    let moved: u64 = history.totals.iter().map(|total| total.moved_bytes).sum();
    let mut body = String::new();
    let _ = write!(
        body,
        "<h1>Cluster report</h1><p>{} by {}; {} of work in {} of time; {} moved between workers.</p>",
        plural(n_tasks as usize, "task"),
        plural(history.workers.len(), "worker"),
        took(busy),
        took(span),
        bytes(moved)
    );
    section(
        &mut body,
        "Functions",
        &[
            "function", "done", "failed", "repeated", "total", "mean", "longest", "results", "moved",
        ],
        history.totals.iter().map(|total| {
            let mean = total.total_us / total.n_done.max(1);
            let numbers = [
                count(total.n_done),
                count(total.n_failed),
                count(total.n_repeated),
                took(total.total_us),
                took(mean),
                took(total.longest_us),
            ];
            [total.function.clone()]
                .into_iter()
                .chain(numbers)
                .chain([bytes(total.n_bytes), bytes(total.moved_bytes)])
                .collect()
        }),
    );
    body.push_str("<h2>Task stream</h2>");
    let newest = history.newest();
    match stream::all(&newest).get("image/svg+xml") {
        Some(svg) => {
            // What ran last is what people ask about; what was before is a key away.
            let from = stream::last_burst_begins(&newest);
            let begin = newest.iter().map(|bar| bar.start_us).min();
            let end = newest.iter().map(|bar| bar.start_us + bar.duration_us).max();
            let drawn = end.unwrap_or(0) - begin.unwrap_or(0);
            let _ = write!(
                body,
                "<div id=\"stream\" tabindex=\"0\" data-from=\"{from}\" data-span-us=\"{drawn}\"><p>Drag over a time to see it larger; \
                 ← → + − move and zoom. <button>All of it</button></p>{svg}</div>"
            );
        }
        None => body.push_str("<p>No task has run.</p>"),
    }
    body.push_str("<h2>Memory</h2>");
    body.push_str(&memory(history));
    let first = history
        .workers
        .iter()
        .map(|life| life.joined_us)
        .min()
        .unwrap_or(0);
    section(
        &mut body,
        "Workers",
        &["worker", "process", "joined", "left", "why"],
        history.workers.iter().map(|life| {
            let left = if life.left_us == 0 {
                "–".to_string()
            } else {
                took(life.left_us - first)
            };
            vec![
                life.worker.clone(),
                life.pid.to_string(),
                took(life.joined_us - first),
                left,
                life.why.clone(),
            ]
        }),
    );
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Cluster report</title><style>{STYLE}</style></head><body>{body}<script>{SCRIPT}</script></body></html>\n"
    )
}

const SCRIPT: &str = include_str!("report.js");

const STYLE: &str = "#stream svg{touch-action:none;cursor:crosshair}.key{display:inline-block;width:.7rem;height:.7rem;margin-right:.3rem}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.15rem .7rem;text-align:right;border-bottom:1px solid #8884}\
th:first-child,td:first-child,td:last-child{text-align:left}svg{max-width:100%;height:auto}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

fn section(body: &mut String, title: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = write!(body, "<h2>{}</h2><table><tr>", escape(title));
    head.iter()
        .for_each(|cell| body.push_str(&format!("<th>{}</th>", escape(cell))));
    body.push_str("</tr>");
    for row in rows {
        body.push_str("<tr>");
        row.iter()
            .for_each(|cell| body.push_str(&format!("<td>{}</td>", escape(cell))));
        body.push_str("</tr>");
    }
    body.push_str("</table>");
}

fn name_of(history: &History, function: u32) -> String {
    history
        .totals
        .get(function as usize)
        .map(|total| total.function.clone())
        .unwrap_or_default()
}

/// A line for each worker: resident memory over time.
fn memory(history: &History) -> String {
    const WIDTH: f64 = 700.0;
    const HEIGHT: f64 = 160.0;
    let samples = &history.memory;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return "<p>No worker has reported yet.</p>".into();
    };
    let most = samples
        .iter()
        .map(|sample| sample.resident.max(sample.spilled))
        .max()
        .unwrap_or(1)
        .max(1);
    let span = (last.at_us - first.at_us).max(1);
    let mut by_worker: HashMap<WorkerId, Vec<(f64, f64)>> = HashMap::new();
    for sample in samples {
        let x = (sample.at_us - first.at_us) as f64 / span as f64 * WIDTH;
        let y = HEIGHT - sample.resident as f64 / most as f64 * (HEIGHT - 10.0);
        by_worker.entry(sample.worker).or_default().push((x, y));
    }
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"memory over time\">",
        HEIGHT + 4.0
    );
    let mut legend = String::new();
    let mut workers: Vec<&WorkerId> = by_worker.keys().collect();
    workers.sort();
    for (i, worker) in workers.iter().enumerate() {
        let points = &by_worker[*worker];
        let step = points.len().div_ceil(MOST_POINTS);
        let line: Vec<String> = points
            .iter()
            .step_by(step)
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let colour = SERIES[i % SERIES.len()];
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"><title>{worker}</title></polyline>",
            line.join(" ")
        );
        if i < SERIES.len() {
            let _ = write!(
                legend,
                "<span style=\"margin-right:1rem\"><span class=\"key\" style=\"background:{colour}\"></span>{worker}</span>"
            );
        }
    }
    svg.push_str("</svg>");
    if workers.len() > SERIES.len() {
        let _ = write!(
            legend,
            "and {} more, in the same colours",
            workers.len() - SERIES.len()
        );
    }
    format!(
        "{svg}<p>{legend}</p><p>Resident memory of each worker, over {}; the highest point is {}.</p>",
        took(span),
        bytes(most)
    )
}

/// The format of Chrome's trace viewer: one complete event for each task.
pub(crate) fn trace(history: &History) -> String {
    let mut events: Vec<serde_json::Value> = history
        .workers
        .iter()
        .map(|life| {
            let pid = life
                .worker
                .trim_start_matches("worker-")
                .parse::<u32>()
                .unwrap_or(0);
            serde_json::json!({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": life.worker}})
        })
        .collect();
    // A worker's threads are not named in what it reports: tasks that overlap are on different ones.
    let mut bars: Vec<&(Bar, u32)> = history.bars.iter().collect();
    bars.sort_by_key(|(bar, _)| bar.start_us);
    let mut free_at: HashMap<WorkerId, Vec<u64>> = HashMap::new();
    for (bar, function) in bars {
        let lanes = free_at.entry(bar.worker).or_default();
        let lane = lanes
            .iter()
            .position(|free| *free <= bar.start_us)
            .unwrap_or_else(|| {
                lanes.push(0);
                lanes.len() - 1
            });
        lanes[lane] = bar.start_us + bar.duration_us;
        events.push(serde_json::json!({
            "name": name_of(history, *function), "cat": "task", "ph": "X", "ts": bar.start_us, "dur": bar.duration_us,
            "pid": bar.worker.0, "tid": lane, "args": {"key": bar.key.to_string()},
        }));
    }
    serde_json::json!({"traceEvents": events, "displayTimeUnit": "ms"}).to_string()
}
