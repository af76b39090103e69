//! Runs on a Prefect server: what the journal says of them is sent to its REST API, so that its page shows them.
//!
//! The journal is the outbox: of each run it holds how much of it was sent, so that a server which is away holds up nothing,
//! and what it missed is sent when it is back, also by a later process. The server knows Prefect's own orchestration; states
//! are forced on it, since here they have been decided.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use skep_cluster::{Error, Result};
use skep_render::Message;

use crate::{
    show::View,
    state::State,
    store::{Sent, StateRow, Store, TaskRow, now_us, short, store},
};

/// How often the journal is looked through.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A server that did not answer is asked again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// One request takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// States that are sent later than this say when they were.
const LATE_US: u64 = 30_000_000;

/// Lines of a log in one request.
const MOST_LINES: usize = 200;

struct Reporter {
    /// The API of the server, without a slash at the end.
    server: String,
    /// How often the journal was looked through to its end, and whether the server answered last.
    n_rounds: u64,
    answers: bool,
}

static REPORTER: Mutex<Option<Reporter>> = Mutex::new(None);
static ROUND: Condvar = Condvar::new();

/// Runs that begin from now on are reported to this server, and those that it missed before.
pub(crate) fn report_to(server: &str) -> Result<()> {
    let is_address = server.starts_with("http://") && server.len() > "http://".len();
    if !is_address {
        return Err(Error::Argument(
            Message::new(format!("`{server}` is not the address of a Prefect server"))
                .hint("`http://127.0.0.1:4200/api` is where `prefect server start` listens"),
        ));
    }
    let server = server.trim_end_matches('/').to_string();
    let mut reporter = REPORTER.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = reporter.is_none();
    *reporter = Some(Reporter {
        server: server.clone(),
        n_rounds: 0,
        answers: true,
    });
    drop(reporter);
    if is_new {
        thread::Builder::new()
            .name("prefect".into())
            .spawn(work)
            .map_err(|error| Error::Start(Message::new(format!("no thread for the reports: {error}"))))?;
    }
    Ok(())
}

/// Where a run shall be reported to, if anywhere.
pub(crate) fn server() -> Option<String> {
    let reporter = REPORTER.lock().unwrap_or_else(PoisonError::into_inner);
    reporter.as_ref().map(|reporter| reporter.server.clone())
}

/// Waits until what has happened so far is sent; for a moment, and only for a server that answers.
pub(crate) fn catch_up(patience: Duration) {
    let reporter = REPORTER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(until) = reporter.as_ref().map(|reporter| reporter.n_rounds + 2) else {
        return;
    };
    let is_behind = |reporter: &mut Option<Reporter>| {
        reporter
            .as_ref()
            .is_some_and(|reporter| reporter.answers && reporter.n_rounds < until)
    };
    drop(ROUND.wait_timeout_while(reporter, patience, is_behind));
}

fn work() {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let mut told = None;
    loop {
        let Some(server) = server() else { return };
        let sent = store()
            .map_err(|error| error.to_string())
            .and_then(|store| send_all(&agent, &server, &store));
        if let Err(why) = &sent
            && told.as_ref() != Some(why)
        {
            skep_eval::note(&format!(
                "the Prefect server at {server} was not told: {why}; runs go on, and it is told later"
            ));
        }
        {
            let mut reporter = REPORTER.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(reporter) = &mut *reporter {
                reporter.n_rounds += 1;
                reporter.answers = sent.is_ok();
            }
        }
        ROUND.notify_all();
        let pause = if sent.is_ok() { LOOK_EVERY } else { TRY_AGAIN };
        told = sent.err();
        thread::sleep(pause);
    }
}

fn send_all(agent: &ureq::Agent, server: &str, store: &Store) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    for mut sent in store.unsent(server).map_err(text)? {
        let told = Told { agent, server, store };
        told.run(&mut sent)?;
    }
    Ok(())
}

struct Told<'t> {
    agent: &'t ureq::Agent,
    server: &'t str,
    store: &'t Store,
}

impl Told<'_> {
    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/{path}", self.server);
        let text = body.to_string();
        let mut answer = self
            .agent
            .post(&url)
            .header("content-type", "application/json")
            .send(&text)
            .map_err(|error| error.to_string())?;
        let said = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            let said: String = said.chars().take(200).collect();
            return Err(format!("{path} answered {}: {said}", answer.status()));
        }
        Ok(serde_json::from_str(&said).unwrap_or(Value::Null))
    }

    fn id_of(&self, path: &str, body: &Value) -> Result<String, String> {
        let made = self.post(path, body)?;
        made["id"]
            .as_str()
            .map(str::to_string)
            .ok_or_else(|| format!("{path} gave no id"))
    }

    /// Sends what has happened to a run since it was told of last.
    fn run(&self, sent: &mut Sent) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let Some(run) = self.store.run(&sent.run).map_err(text)? else {
            sent.is_over = true;
            return self.store.note_sent(self.server, sent).map_err(text);
        };
        if sent.id.is_empty() {
            let flow = self.id_of("flows/", &json!({ "name": run.flow }))?;
            let parameters = match serde_json::from_str::<Value>(&run.parameters) {
                Ok(Value::Array(all)) => named(all),
                Ok(value) => named(vec![value]),
                Err(_) => json!({}),
            };
            let body = json!({
                "flow_id": flow,
                "name": format!("{}-{}", run.flow, short(&run.id)),
                "parameters": parameters,
                "tags": ["skep"],
                "state": { "type": "PENDING", "name": "Pending" },
            });
            sent.id = self.id_of("flow_runs/", &body)?;
            self.store.note_sent(self.server, sent).map_err(text)?;
        }
        let tasks: BTreeMap<u32, TaskRow> = self
            .store
            .tasks(&run.id)
            .map_err(text)?
            .into_iter()
            .map(|task| (task.no, task))
            .collect();
        for (row, state) in self.store.states_after(&run.id, sent.n_states).map_err(text)? {
            self.state(sent, &tasks, &state)?;
            sent.n_states = row;
            self.store.note_sent(self.server, sent).map_err(text)?;
        }
        self.logs(sent, &run.id)?;
        if run.state.is_final() {
            if !sent.has_artifacts {
                self.artifacts(sent, &View::stored(self.store, &run).map_err(text)?)?;
                sent.has_artifacts = true;
            }
            sent.is_over = true;
            // One that goes on later is told again: it has new states then.
            self.store.note_sent(self.server, sent).map_err(text)?;
        }
        Ok(())
    }

    fn state(&self, sent: &mut Sent, tasks: &BTreeMap<u32, TaskRow>, state: &StateRow) -> Result<(), String> {
        let body = json!({ "state": prefect_state(state), "force": true });
        if state.no == 0 {
            return self
                .post(&format!("flow_runs/{}/set_state", sent.id), &body)
                .map(drop);
        }
        let Some(task) = tasks.get(&state.no) else {
            return Ok(());
        };
        let id = match sent.tasks.get(&state.no) {
            Some(id) => id.clone(),
            None => {
                let inputs: Vec<Value> = task
                    .inputs
                    .iter()
                    .filter_map(|no| sent.tasks.get(no))
                    .map(|id| json!({ "input_type": "task_run", "id": id }))
                    .collect();
                let mut tags = task.tags.clone();
                tags.push("skep".into());
                let id = self.id_of(
                    "task_runs/",
                    &json!({
                        "flow_run_id": sent.id,
                        "name": format!("{}-{}", task.name, task.no),
                        "task_key": task.name,
                        "dynamic_key": task.no.to_string(),
                        "task_inputs": { "inputs": inputs },
                        "tags": tags,
                        "state": { "type": "PENDING", "name": "Pending" },
                    }),
                )?;
                self.store
                    .note_sent_task(self.server, &sent.run, state.no, &id)
                    .map_err(|error| error.to_string())?;
                sent.tasks.insert(state.no, id.clone());
                id
            }
        };
        self.post(&format!("task_runs/{id}/set_state"), &body).map(drop)
    }

    fn logs(&self, sent: &mut Sent, run: &str) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let lines = self.store.logs_after(run, sent.n_logs).map_err(text)?;
        for some in lines.chunks(MOST_LINES) {
            let body: Vec<Value> = some
                .iter()
                .map(|(_, no, line)| {
                    json!({
                        "name": "skep",
                        "level": if line.is_stderr { 30 } else { 20 },
                        "message": format!("{}: {}", line.worker, line.text),
                        "timestamp": timestamp(line.at_us),
                        "flow_run_id": sent.id,
                        "task_run_id": sent.tasks.get(no),
                    })
                })
                .collect();
            self.post("logs/", &Value::Array(body))?;
            sent.n_logs = some.last().map_or(sent.n_logs, |(row, ..)| *row);
            self.store.note_sent(self.server, sent).map_err(text)?;
        }
        Ok(())
    }

    /// The tasks as a table, and their graph as Markdown.
    fn artifacts(&self, sent: &Sent, view: &View) -> Result<(), String> {
        let rows: Vec<Value> = view
            .tasks
            .iter()
            .take(1000)
            .map(|task| {
                json!({
                    "task": task.name,
                    "arguments": task.arguments,
                    "state": task.state.name(),
                    "attempts": task.attempt,
                    "worker": task.worker,
                })
            })
            .collect();
        let key = |what: &str| format!("skep-{what}-{}", short(&view.id));
        let table = json!({
            "key": key("tasks"), "type": "table", "description": "The tasks of this run",
            "data": Value::Array(rows).to_string(), "flow_run_id": sent.id,
        });
        self.post("artifacts/", &table)?;
        let graph = json!({
            "key": key("graph"), "type": "markdown", "description": "The graph of its tasks",
            "data": format!("```text\n{}\n```", view.graph().to_text()), "flow_run_id": sent.id,
        });
        self.post("artifacts/", &graph).map(drop)
    }
}

/// Prefect's parameters have names; those of a Rust function are known by their places.
fn named(values: Vec<Value>) -> Value {
    let named = values
        .into_iter()
        .enumerate()
        .map(|(at, value)| (format!("parameter_{}", at + 1), value));
    Value::Object(named.collect())
}

fn prefect_state(state: &StateRow) -> Value {
    let kind = match state.state {
        State::Scheduled | State::AwaitingRetry => "SCHEDULED",
        State::Pending => "PENDING",
        State::Running => "RUNNING",
        State::Cached | State::Completed => "COMPLETED",
        State::Failed => "FAILED",
        State::Crashed => "CRASHED",
        State::Cancelled => "CANCELLED",
        State::Paused => "PAUSED",
    };
    // The server says when it heard of a state, and takes no other time. Where that is later by much, the words say when it was.
    let late_us = now_us().saturating_sub(state.at_us);
    let message = if late_us > LATE_US {
        format!("{} (at {})", state.reason, timestamp(state.at_us))
    } else {
        state.reason.clone()
    };
    let mut body = json!({ "type": kind, "name": state.state.name(), "message": message });
    if kind == "SCHEDULED" {
        body["state_details"] = json!({ "scheduled_time": timestamp(state.at_us) });
    }
    body
}

fn timestamp(at_us: u64) -> String {
    chrono::DateTime::from_timestamp_micros(at_us as i64)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
