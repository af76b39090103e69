//! The flows of this process, by their names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use skep_cluster::{Error, Result};
use skep_render::Message;

use crate::definition::Definition;

/// The newest of each name.
static FLOWS: Mutex<BTreeMap<String, Arc<Definition>>> = Mutex::new(BTreeMap::new());

/// The newest flow of a name takes the place of those before it.
pub(crate) fn register(flow: Definition) -> Arc<Definition> {
    let flow = Arc::new(flow);
    FLOWS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(flow.name.to_string(), flow.clone());
    flow
}

pub(crate) fn flow_named(name: &str) -> Result<Arc<Definition>> {
    let flows = FLOWS.lock().unwrap_or_else(PoisonError::into_inner);
    flows.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = flows.keys().map(String::as_str).collect();
        Error::Argument(
            Message::new(format!("the flow `{name}` is not defined here")).hint(if known.is_empty() {
                format!("run the cell with `Flow::new(\"{name}\", …)` first")
            } else {
                format!(
                    "run the cell with `Flow::new(\"{name}\", …)` first; here are: {}",
                    known.join(", ")
                )
            }),
        )
    })
}

pub(crate) fn all_flows() -> Vec<Arc<Definition>> {
    let flows = FLOWS.lock().unwrap_or_else(PoisonError::into_inner);
    flows.values().cloned().collect()
}
