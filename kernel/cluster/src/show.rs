//! How clusters, remote values and delayed calls show themselves.

use std::fmt;

use skep_render::{Bundle, Rich, bytes, card::Card, plural, short_type};

use crate::{Cluster, Delayed, Remote, TaskValue, message::ClusterInfo};

impl Rich for Cluster {
    fn bundle(&self) -> Bundle {
        match self.info() {
            Ok(info) => card(&info).bundle(),
            Err(error) => Card::new("Cluster").state("failed").fact("state", error.to_string()).bundle(),
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        write!(f, "Cluster({} workers × {} threads)", spec.workers, spec.threads)
    }
}

/// The card of a cluster.
pub fn card(info: &ClusterInfo) -> Card {
    let threads: usize = info.workers.iter().map(|worker| worker.threads as usize).sum();
    let limit = |n: u64| if n == 0 { "no limit".to_string() } else { bytes(n) };
    let memory = info.workers.first().map_or_else(|| "–".to_string(), |worker| limit(worker.memory_limit));
    let rows = info.workers.iter().map(|worker| {
        [
            worker.id.to_string(),
            worker.pid.to_string(),
            worker.threads.to_string(),
            if worker.memory.resident == 0 { "–".to_string() } else { bytes(worker.memory.resident) },
            worker.n_assigned.to_string(),
            format!("{} ({})", worker.n_values, bytes(worker.held_bytes)),
        ]
    });
    let title = format!("Cluster: {}, {}", plural(info.workers.len(), "worker"), plural(threads, "thread"));
    let card = Card::new(title)
        .fact("memory", format!("{memory} for each worker"))
        .fact("tasks", format!("{} done, {} failed", info.n_done, info.n_failed))
        .table(["worker", "pid", "threads", "resident", "tasks", "holds"], rows);
    match info.losses.as_slice() {
        [] => card,
        losses => card.note(format!("lost: {}", losses[losses.len().saturating_sub(3)..].join("; "))),
    }
}

/// The workers one by one, and all that were lost.
pub fn workers_card(info: &ClusterInfo) -> Card {
    let limit = |n: u64| if n == 0 { "no limit".to_string() } else { bytes(n) };
    let rows = info.workers.iter().map(|worker| {
        let used =
            if worker.memory_limit > 0 { format!("{:.0} %", 100.0 * worker.memory.resident as f64 / worker.memory_limit as f64) } else { "–".to_string() };
        [
            worker.id.to_string(),
            worker.pid.to_string(),
            worker.threads.to_string(),
            format!("{} of {}", bytes(worker.memory.resident), limit(worker.memory_limit)),
            used,
            worker.n_assigned.to_string(),
            worker.n_values.to_string(),
            bytes(worker.held_bytes),
        ]
    });
    let card =
        Card::new(format!("Workers: {}", info.workers.len())).table(["worker", "pid", "threads", "resident", "used", "tasks", "values", "values' size"], rows);
    if info.losses.is_empty() { card } else { card.note(format!("lost:\n{}", info.losses.join("\n"))) }
}

impl<T> Remote<T> {
    fn card(&self) -> Card {
        let (state, detail) = self.state();
        let card = Card::new(format!("Remote {}: {state}", self.name())).state(state).fact("type", short_type(std::any::type_name::<T>()));
        let card = if state == "failed" { card } else { card.note(".gather()? brings the value here") };
        if detail.is_empty() { card } else { card.fact(if state == "failed" { "why" } else { "value" }, detail) }
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
        write!(f, "Remote<{}>({}: {state}", short_type(std::any::type_name::<T>()), self.name())?;
        if detail.is_empty() { write!(f, ")") } else { write!(f, ", {detail})") }
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
        write!(f, "Delayed<{}>({}: {})", short_type(std::any::type_name::<T>()), self.name(), plural(self.n_tasks(), "task"))
    }
}
