//! How clusters, remote values and delayed calls show themselves.

use std::fmt;

use skep_render::{Bundle, Rich, bytes, card::Card, plural, short_type};

use crate::{
    api::{actor::Actor, cluster::Cluster, delayed::Delayed, remote::Remote},
    data::value::TaskValue,
    model::{
        cluster::{ClusterInfo, Memory, WorkerInfo},
        history::Explanation,
    },
};

impl Rich for Cluster {
    fn bundle(&self) -> Bundle {
        match self.info() {
            Ok(info) => {
                let caching = if self.is_caching() {
                    "on: the same call runs once for as long as its value is held"
                } else {
                    "off: every call runs"
                };
                let mut card = card(&info).fact("caching", caching);
                let name = &self.spec().name;
                if !name.is_empty() {
                    card = card.fact("name", name);
                }
                if let Ok(page) = self.dashboard_link() {
                    card = card.link("The cluster's page", page);
                }
                card.note("`.dashboard()?` shows what it does while it works")
                    .bundle()
            }
            Err(error) => Card::new("Cluster")
                .state("failed")
                .fact("state", error.to_string())
                .bundle(),
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        let name = if spec.name.is_empty() {
            String::new()
        } else {
            format!("{}: ", spec.name)
        };
        write!(
            f,
            "Cluster({name}{} workers × {} threads)",
            spec.workers, spec.threads
        )
    }
}

/// The card of a cluster.
pub fn card(info: &ClusterInfo) -> Card {
    let threads: usize = info.workers.iter().map(|worker| worker.threads as usize).sum();
    let limit = |n: u64| if n == 0 { "no limit".to_string() } else { bytes(n) };
    let memory = info
        .workers
        .first()
        .map_or_else(|| "–".to_string(), |worker| limit(worker.memory_limit));
    let rows = info.workers.iter().map(|worker| {
        [
            worker.id.to_string(),
            worker.pid.to_string(),
            worker.threads.to_string(),
            if worker.memory.resident == 0 {
                "–".to_string()
            } else {
                bytes(worker.memory.resident)
            },
            worker.n_assigned.to_string(),
            format!("{} ({})", worker.n_values, bytes(worker.held_bytes)),
        ]
    });
    let title = format!(
        "Cluster: {}, {}",
        plural(info.workers.len(), "worker"),
        plural(threads, "thread")
    );
    let card = Card::new(title)
        .fact("memory", format!("{memory} for each worker"))
        .fact("tasks", format!("{} done, {} failed", info.n_done, info.n_failed))
        .table(["worker", "pid", "threads", "resident", "tasks", "holds"], rows);
    match info.losses.as_slice() {
        [] => card,
        losses => card.note(format!(
            "lost: {}",
            losses[losses.len().saturating_sub(3)..].join("; ")
        )),
    }
}

/// The workers one by one, and all that were lost.
pub fn workers_card(info: &ClusterInfo) -> Card {
    let rows = info.workers.iter().map(|worker| {
        let memory = worker.memory;
        let used = match worker.memory_limit {
            0 => bytes(memory.resident),
            limit => format!(
                "{} of {}, {:.0} %",
                bytes(memory.resident),
                bytes(limit),
                100.0 * memory.resident as f64 / limit as f64
            ),
        };
        [
            worker.id.to_string(),
            worker.pid.to_string(),
            state_of(worker).to_string(),
            used,
            if memory.spilled == 0 {
                "–".to_string()
            } else {
                bytes(memory.spilled)
            },
            worker.n_assigned.to_string(),
            worker.n_values.to_string(),
            bytes(worker.held_bytes),
            resources(worker),
        ]
    });
    let head = [
        "worker",
        "pid",
        "state",
        "memory",
        "on disk",
        "tasks",
        "values",
        "values' size",
        "resources",
    ];
    let card = Card::new(format!("Workers: {}", info.workers.len())).table(head, rows);
    let failures: u64 = info
        .workers
        .iter()
        .map(|worker| worker.memory.n_spill_failures)
        .sum();
    let mut notes = Vec::new();
    if failures > 0 {
        notes.push(format!(
            "values could not be written to disk {}: is it full?",
            plural(failures as usize, "time")
        ));
    }
    if !info.losses.is_empty() {
        notes.push(format!("lost:\n{}", info.losses.join("\n")));
    }
    if notes.is_empty() {
        card
    } else {
        card.note(notes.join("\n"))
    }
}

fn state_of(worker: &WorkerInfo) -> &'static str {
    match worker {
        WorkerInfo { is_silent: true, .. } => "silent",
        WorkerInfo {
            memory: Memory { is_paused: true, .. },
            ..
        } => "paused",
        WorkerInfo { n_assigned: 0, .. } => "idle",
        _ => "busy",
    }
}

fn resources(worker: &WorkerInfo) -> String {
    let each: Vec<String> = worker
        .resources
        .iter()
        .map(|resource| format!("{} = {}", resource.name, resource.amount))
        .collect();
    if each.is_empty() {
        "–".to_string()
    } else {
        each.join(", ")
    }
}

impl Rich for Explanation {
    fn bundle(&self) -> Bundle {
        let title = format!("{} ({}): {}", self.function, self.key, self.state);
        let state = match self.state.as_str() {
            "done" => "done",
            "failed" => "failed",
            "assigned" => "running",
            _ => "pending",
        };
        let card = Card::new(title).state(state);
        let reasons = self
            .reasons
            .iter()
            .enumerate()
            .map(|(i, reason)| (if i == 0 { "why" } else { "and" }, reason));
        reasons
            .fold(card, |card, (name, reason)| card.fact(name, reason.clone()))
            .bundle()
    }
}

impl<S> Rich for Actor<S> {
    fn bundle(&self) -> Bundle {
        let card = Card::new(format!("Actor {}", short_type(std::any::type_name::<S>())));
        match self.worker() {
            Ok(worker) => card
                .state("done")
                .fact("worker", worker)
                .note(".call(Type::method, arguments)? calls it where it is"),
            Err(error) => card.state("failed").fact("why", error.to_string()),
        }
        .bundle()
    }
}

impl<T> Remote<T> {
    fn card(&self) -> Card {
        let (state, detail) = self.state();
        let card = Card::new(format!("Remote {}: {state}", self.name()))
            .state(state)
            .fact("type", short_type(std::any::type_name::<T>()));
        let card = if state == "failed" {
            card
        } else {
            card.note(".gather()? brings the value here")
        };
        if detail.is_empty() {
            card
        } else {
            card.fact(if state == "failed" { "why" } else { "value" }, detail)
        }
    }
}

impl Rich for crate::Error {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.to_string())
    }
}

/// Many handles as one card: how many are in which state, and the first of them.
pub fn remotes_card<T>(remotes: &[Remote<T>]) -> Card {
    const MOST: usize = 20;
    let rows: Vec<(&'static str, [String; 3])> = remotes
        .iter()
        .map(|remote| {
            let (state, detail) = remote.state();
            (state, [remote.name().to_string(), state.to_string(), detail])
        })
        .collect();
    remotes_card_of(short_type(std::any::type_name::<T>()), rows, MOST)
}

#[inline(never)]
fn remotes_card_of(type_name: String, rows: Vec<(&'static str, [String; 3])>, most: usize) -> Card {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (state, _) in &rows {
        match counts.iter_mut().find(|(known, _)| known == state) {
            Some((_, n)) => *n += 1,
            None => counts.push((state, 1)),
        }
    }
    let states: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let overall = ["failed", "running", "pending"]
        .into_iter()
        .find(|state| counts.iter().any(|(known, _)| known == state))
        .unwrap_or("done");
    let n = rows.len();
    let card = Card::new(format!(
        "{} of {type_name}: {}",
        plural(n, "remote value"),
        states.join(", ")
    ))
    .state(overall);
    let card = card.table(
        ["task", "state", "value"],
        rows.into_iter().take(most).map(|(_, row)| row),
    );
    if n > most {
        card.note(format!(
            "the first {most} of {n}; cluster.gather(&handles)? brings all values here"
        ))
    } else {
        card.note("cluster.gather(&handles)? brings the values here")
    }
}

impl<T> Rich for Remote<T> {
    fn bundle(&self) -> Bundle {
        self.card().bundle()
    }
}

impl<T> fmt::Debug for Remote<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, detail) = self.state();
        write!(
            f,
            "Remote<{}>({}: {state}",
            short_type(std::any::type_name::<T>()),
            self.name()
        )?;
        if detail.is_empty() {
            write!(f, ")")
        } else {
            write!(f, ", {detail})")
        }
    }
}

impl<T: TaskValue> Rich for Delayed<T> {
    fn bundle(&self) -> Bundle {
        Card::new(format!("Delayed {}", self.name()))
            .state("pending")
            .fact("type", short_type(std::any::type_name::<T>()))
            .fact("graph", plural(self.n_tasks(), "task"))
            .note("nothing has run: .compute()? runs it, .graph() draws it")
            .bundle()
    }
}

impl<T> fmt::Debug for Delayed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Delayed<{}>({}: {})",
            short_type(std::any::type_name::<T>()),
            self.name(),
            plural(self.n_tasks(), "task")
        )
    }
}
