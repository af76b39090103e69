//! What a browser asks for. All links are relative: behind a proxy the page stands under some prefix.

use std::{collections::HashMap, convert::Infallible, fmt::Write, sync::Arc};

use axum::{
    Router,
    extract::{OriginalUri, Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Redirect, Response,
        sse::{self, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::stream::{self, Stream};
use serde_json::json;
use skep_cluster::Key;
use skep_render::Rich;

use crate::{
    flows,
    shared::{Shared, lock},
    updates::Since,
    what_if,
};

const PAGE: &str = include_str!("../../../assets/dashboard/page.html");
const STYLE: &str = include_str!("../../../assets/dashboard/page.css");
const SCRIPT: &str = include_str!("../../../assets/dashboard/page.js");

/// The panes, by the name in their address.
pub(crate) const PANES: [(&str, &str); 10] = [
    ("stream", "Task stream"),
    ("progress", "Progress"),
    ("graph", "Task graph"),
    ("workers", "Workers"),
    ("frames", "Frames"),
    ("flows", "Flows"),
    ("map", "Cluster map"),
    ("what-if", "What if"),
    ("events", "Events and logs"),
    ("journey", "Journey of a task"),
];

/// Tasks that are drawn one by one: more of them in a row could not be read.
const MOST_NODES: usize = 16;

type Shown = State<Arc<Shared>>;

pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/", get(page))
        .route("/status", get(page))
        .route("/pane/{name}", get(pane))
        .route("/state", get(state))
        .route("/events", get(events))
        .route("/between", get(between))
        .route("/journey/{key}", get(journey))
        .route("/graph", get(graph))
        .route("/flows", get(flows::runs))
        .route("/flows/{id}", get(flows::run))
        .route("/metrics", get(metrics))
        .route("/what-if", get(what_if::state))
        .route("/what-if/record", post(what_if::record))
        .route("/what-if/stop", post(what_if::stop))
        .route("/what-if/forecast", get(what_if::forecast))
        .route("/with/{token}/", get(|| async { html("", "") }))
        .layer(middleware::from_fn_with_state(shared.clone(), admit));
    let all = Router::new()
        .merge(guarded)
        .route("/page.css", get(|| async { typed("text/css", STYLE) }))
        .route("/page.js", get(|| async { typed("text/javascript", SCRIPT) }))
        .route("/health", get(|| async { "ok" }))
        .route("/individual-plots.json", get(individual_plots));
    Router::new()
        .merge(all.clone())
        // For who takes the address of a page and joins names to it, as `dask-labextension` does: a query would be lost.
        .nest("/with/{token}", all)
        .with_state(shared)
}

fn typed(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Only who has the token: in the address, or in the cookie that the page was given with it.
async fn admit(
    State(shared): Shown,
    OriginalUri(uri): OriginalUri,
    query: Query<HashMap<String, String>>,
    request: Request,
    next: Next,
) -> Response {
    let cookie = format!("skep-dashboard={}", shared.token);
    let cookies = request
        .headers()
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok());
    let has_cookie = cookies.is_some_and(|all| all.split("; ").any(|one| one == cookie));
    let has_token = query.get("token").is_some_and(|token| *token == shared.token);
    let mut parts = uri.path().split('/').skip(1);
    let is_with_token = parts.next() == Some("with") && parts.next() == Some(&shared.token);
    if !has_cookie && !has_token && !is_with_token {
        let text = "This page needs its token: open the whole link that `:dashboard` shows.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let mut response = next.run(request).await;
    if has_token && let Ok(value) = format!("{cookie}; HttpOnly; SameSite=Lax; Path=/").parse() {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

fn html(base: &str, only: &str) -> Response {
    let text = PAGE.replace("{{base}}", base).replace("{{only}}", only);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

async fn page(State(shared): Shown, OriginalUri(uri): OriginalUri) -> Response {
    match uri.path().rsplit_once('/') {
        // The page's links are relative: they need the slash at the end.
        Some(("/with", token)) if token == shared.token => {
            Redirect::temporary(&format!("./{token}/")).into_response()
        }
        Some(("/with", _)) => (StatusCode::NOT_FOUND, "there is no such page\n").into_response(),
        _ => html("", ""),
    }
}

/// The part of a path that has this name; under `/with/…` it is not the only one.
type Parts = Path<HashMap<String, String>>;

async fn pane(Path(parts): Parts) -> Response {
    let name = parts.get("name").map_or("", String::as_str);
    match PANES.iter().find(|(known, _)| *known == name) {
        Some((known, _)) => html("../", known),
        None => {
            let names: Vec<&str> = PANES.iter().map(|(name, _)| *name).collect();
            let text = format!("There is no pane `{name}`; there are {}.\n", names.join(", "));
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

/// As `dask-labextension` asks for it: a name and an address for each pane. Names alone tell nothing, so they need no token.
async fn individual_plots() -> impl IntoResponse {
    let plots: serde_json::Map<String, serde_json::Value> = PANES
        .iter()
        .map(|(name, title)| (format!("Skep {title}"), json!(format!("pane/{name}"))))
        .collect();
    axum::response::Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .body(axum::body::Body::from(
            serde_json::Value::Object(plots).to_string(),
        ))
        .unwrap_or_default()
}

fn seen(query: &HashMap<String, String>) -> Option<u64> {
    query.get("since")?.parse().ok()
}

/// What comes after what the viewer saw last, as texts, and the number of the last of them.
async fn since(shared: &Arc<Shared>, seen: Option<u64>) -> (u64, Vec<Arc<str>>) {
    if let Since::These(updates) = shared.updates.since(seen) {
        let last = updates.last().map_or(seen.unwrap_or(0), |(seq, _)| *seq);
        return (last, updates.into_iter().map(|(_, text)| text).collect());
    }
    // It asks the scheduler how things are.
    let shared = shared.clone();
    let whole = tokio::task::spawn_blocking(move || shared.whole())
        .await
        .unwrap_or_default();
    let text = serde_json::to_string(&whole).unwrap_or_default();
    (whole.seq, vec![text.into()])
}

fn list(texts: &[Arc<str>]) -> String {
    format!("[{}]", texts.join(","))
}

/// For where streams do not come through: asked again and again.
async fn state(State(shared): Shown, Query(query): Query<HashMap<String, String>>) -> Response {
    // Who asks is a viewer for a moment: what is new is written while one is there.
    let mut watch = shared.updates.watch();
    if seen(&query).is_some() {
        let patience = tokio::time::sleep(std::time::Duration::from_secs(1));
        tokio::select! { _ = watch.changed() => {}, () = patience => {} }
    }
    let (_, texts) = since(&shared, seen(&query)).await;
    ([(header::CONTENT_TYPE, "application/json")], list(&texts)).into_response()
}

/// Server-sent events: a browser that lost the connection says by itself which one it saw last.
async fn events(
    State(shared): Shown,
    Query(query): Query<HashMap<String, String>>,
    headers: axum::http::HeaderMap,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let seen = last.or(seen(&query));
    let watch = shared.updates.watch();
    let stream = stream::unfold((shared, watch, seen), |(shared, mut watch, seen)| async move {
        loop {
            watch.borrow_and_update();
            let (last, texts) = since(&shared, seen).await;
            if texts.is_empty() {
                watch.changed().await.ok()?;
                continue;
            }
            // Several as one: the number is of the last, so that what a viewer has begun to read it has read.
            let event = sse::Event::default().id(last.to_string()).data(list(&texts));
            return Some((Ok(event), (shared, watch, Some(last))));
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn between(State(shared): Shown, Query(query): Query<HashMap<String, String>>) -> Response {
    let time = |name: &str| query.get(name).and_then(|text| text.parse().ok());
    let (Some(from), Some(to)) = (time("from"), time("to")) else {
        return (
            StatusCode::BAD_REQUEST,
            "it needs `from` and `to`, in microseconds since 1970\n",
        )
            .into_response();
    };
    let bars = lock(&shared.picture).between(from, to);
    let text = serde_json::to_string(&bars).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn journey(State(shared): Shown, Path(parts): Parts) -> Response {
    let key = parts.get("key").map_or("", String::as_str);
    let missing = |text: &str| (StatusCode::NOT_FOUND, text.to_string()).into_response();
    let Some(key) = u128::from_str_radix(key.trim_start_matches("0x"), 16)
        .ok()
        .map(Key)
    else {
        return missing("this is no task's key\n");
    };
    let host = shared.host.clone();
    let told = tokio::task::spawn_blocking(move || host.upgrade()?.journey(key)).await;
    match told {
        Ok(Some(journey)) => {
            let shown = journey.bundle();
            let text = shown.get("text/html").unwrap_or_default().to_string();
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
        }
        _ => missing("this task is not known any more\n"),
    }
}

/// Drawn in a thread of its own: ten thousand tasks take a moment.
async fn graph(State(shared): Shown) -> Response {
    let graph = lock(&shared.picture).graph();
    if graph.n_nodes() == 0 {
        return StatusCode::NO_CONTENT.into_response();
    }
    let svg = tokio::task::spawn_blocking(move || graph.compact(MOST_NODES).to_svg())
        .await
        .unwrap_or_default();
    ([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response()
}

/// In Prometheus' text format.
async fn metrics(State(shared): Shown) -> Response {
    let info = tokio::task::spawn_blocking(move || shared.info())
        .await
        .unwrap_or_default();
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, kind: &str, values: &[(String, u64)]| {
        let _ = writeln!(text, "# HELP skep_{name} {help}\n# TYPE skep_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "skep_{name}{labels} {value}");
        }
    };
    let alone = |value: u64| vec![(String::new(), value)];
    gauge(
        "workers",
        "Workers that are there.",
        "gauge",
        &alone(info.workers.len() as u64),
    );
    gauge(
        "tasks",
        "Tasks that the scheduler knows.",
        "gauge",
        &alone(info.n_tasks),
    );
    gauge(
        "tasks_done_total",
        "Tasks that gave a value.",
        "counter",
        &alone(info.n_done),
    );
    gauge(
        "tasks_failed_total",
        "Tasks that failed.",
        "counter",
        &alone(info.n_failed),
    );
    let each = |of: fn(&skep_cluster::model::cluster::WorkerInfo) -> u64| -> Vec<(String, u64)> {
        info.workers
            .iter()
            .map(|worker| (format!("{{worker=\"{}\"}}", worker.id), of(worker)))
            .collect()
    };
    gauge(
        "worker_resident_bytes",
        "Memory of the process.",
        "gauge",
        &each(|worker| worker.memory.resident),
    );
    gauge(
        "worker_managed_bytes",
        "Memory of values.",
        "gauge",
        &each(|worker| worker.memory.managed),
    );
    gauge(
        "worker_spilled_bytes",
        "Values on disk.",
        "gauge",
        &each(|worker| worker.memory.spilled),
    );
    gauge(
        "worker_tasks",
        "Tasks that a worker has been given.",
        "gauge",
        &each(|worker| worker.n_assigned),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
