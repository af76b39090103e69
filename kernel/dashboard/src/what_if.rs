//! What a run would have been on other workers: the page has the scheduler record one, and plays it.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use skep_cluster::WhatIf;
use skep_render::Rich;

use crate::shared::{Run, Shared, lock};

type Shown = State<Arc<Shared>>;
type Words = Query<HashMap<String, String>>;

/// From here on tasks that are submitted are noted.
pub(crate) async fn record(State(shared): Shown) -> Response {
    {
        let mut run = lock(&shared.run);
        if !matches!(*run, Run::Begun) {
            let Some(host) = shared.host.upgrade() else {
                return gone();
            };
            host.record();
            *run = Run::Begun;
        }
    }
    how_it_stands(&shared)
}

pub(crate) async fn stop(State(shared): Shown) -> Response {
    let stopping = shared.clone();
    let told = tokio::task::spawn_blocking(move || {
        // The scheduler may take a moment, and others ask how it stands meanwhile.
        let is_begun = {
            let mut run = lock(&stopping.run);
            let is_begun = matches!(*run, Run::Begun);
            if is_begun {
                *run = Run::Nothing;
            }
            is_begun
        };
        if is_begun {
            let recorded = stopping.host.upgrade().and_then(|host| host.recorded());
            *lock(&stopping.run) =
                recorded.map_or(Run::Nothing, |recording| Run::Recorded(Arc::new(recording)));
        }
    });
    let _ = told.await;
    how_it_stands(&shared)
}

pub(crate) async fn state(State(shared): Shown) -> Response {
    how_it_stands(&shared)
}

fn how_it_stands(shared: &Shared) -> Response {
    let told = match &*lock(&shared.run) {
        Run::Nothing => json!({ "state": "nothing" }),
        Run::Begun => json!({ "state": "begun" }),
        Run::Recorded(recording) => json!({
            "state": "recorded",
            "n_tasks": recording.tasks.iter().filter(|task| task.ended_us > 0).count(),
            "n_workers": recording.workers.len(),
        }),
    };
    ([(header::CONTENT_TYPE, "application/json")], told.to_string()).into_response()
}

fn gone() -> Response {
    (StatusCode::GONE, "the notebook has ended\n").into_response()
}

fn wrong(text: String) -> Response {
    (StatusCode::BAD_REQUEST, text + "\n").into_response()
}

/// The forecast as HTML, for the workers that are asked for; what is not said is as it was.
pub(crate) async fn forecast(State(shared): Shown, Query(words): Words) -> Response {
    let recording = match &*lock(&shared.run) {
        Run::Recorded(recording) => recording.clone(),
        _ => return wrong("no run was recorded: record one first".to_string()),
    };
    let made = tokio::task::spawn_blocking(move || {
        let what_if = asked(WhatIf::of(&recording), &words)?;
        let forecast = what_if.start().map_err(|error| error.to_string())?;
        Ok::<_, String>(forecast.bundle())
    });
    match made.await {
        Ok(Ok(bundle)) => {
            let html = bundle.get("text/html").unwrap_or_default().to_string();
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
        }
        Ok(Err(text)) => wrong(text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the forecast failed\n").into_response(),
    }
}

fn asked<'r>(mut what_if: WhatIf<'r>, words: &HashMap<String, String>) -> Result<WhatIf<'r>, String> {
    let said = |name: &str| {
        words
            .get(name)
            .map(|word| word.trim())
            .filter(|word| !word.is_empty())
    };
    let number = |name: &str| {
        said(name)
            .map(|word| {
                word.parse::<u32>()
                    .map_err(|_| format!("`{word}` is no number of {name}"))
            })
            .transpose()
    };
    if let Some(n) = number("workers")? {
        what_if = what_if.workers(n);
    }
    if let Some(n) = number("threads")? {
        what_if = what_if.threads(n);
    }
    if let Some(n) = number("cores")? {
        what_if = what_if.cores(n);
    }
    if let Some(size) = said("memory") {
        what_if = what_if.memory(size);
    }
    if let Some(size) = said("bandwidth") {
        what_if = what_if.bandwidth(size);
    }
    Ok(what_if)
}
