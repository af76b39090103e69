//! Runs of flows: what the store of this user says of them, of whatever notebook they are.

use std::collections::HashMap;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use skep_flow::Flow;
use skep_render::Rich;

/// Runs that are listed, the newest.
const MOST_RUNS: usize = 30;

/// The newest runs.
pub(crate) async fn runs() -> Response {
    let found = tokio::task::spawn_blocking(|| Flow::newest(MOST_RUNS)).await;
    match found {
        Ok(Ok(runs)) => {
            let rows: Vec<serde_json::Value> = runs
                .rows()
                .iter()
                .rev()
                .map(|run| {
                    json!({
                        "id": run.id,
                        "flow": run.flow,
                        "state": run.state.name(),
                        "colour": run.state.colour(),
                        "parameters": run.parameters,
                        "reason": run.reason,
                        "began_us": run.started_us.unwrap_or(run.created_us),
                        "ended_us": run.ended_us,
                    })
                })
                .collect();
            let text = serde_json::Value::Array(rows).to_string();
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// One run, as a notebook shows it.
pub(crate) async fn run(Path(parts): Path<HashMap<String, String>>) -> Response {
    let id = parts.get("id").cloned().unwrap_or_default();
    let found = tokio::task::spawn_blocking(move || Flow::run_of(&id).map(|run| run.bundle())).await;
    match found {
        Ok(Ok(bundle)) => {
            let text = bundle.get("text/html").unwrap_or_default().to_string();
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
        }
        Ok(Err(error)) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
