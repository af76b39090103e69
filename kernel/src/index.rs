//! The index of what types have, for completing names without an analyser: read from the sources that Skep is
//! built from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::Value;
use skep_cell::{Member, members};

/// Types and traits of Polars and Skep that cells meet.
const WANTED: [&str; 53] = [
    "Actor",
    "ActorPool",
    "AsCompleted",
    "AsOf",
    "Bag",
    "Barrier",
    "Blocked",
    "Bundle",
    "ChunkedArray",
    "Cluster",
    "ClusterBuilder",
    "Column",
    "Control",
    "DataFrame",
    "DateLikeNameSpace",
    "Delayed",
    "DisplayHandle",
    "Event",
    "Expr",
    "Flow",
    "Forecast",
    "Frame",
    "GroupBy",
    "Grouped",
    "Image",
    "IntoLazy",
    "JoinAsof",
    "Journey",
    "LazyCsvReader",
    "LazyFrame",
    "LazyGroupBy",
    "Lock",
    "Logs",
    "Nested",
    "Performance",
    "Queue",
    "Remote",
    "Reply",
    "Rich",
    "Run",
    "Schema",
    "Semaphore",
    "Series",
    "StringNameSpace",
    "Table",
    "Task",
    "TaskRun",
    "Then",
    "Tolerance",
    "Topic",
    "Variable",
    "WhatIf",
    "When",
];

/// Functions and macros that every cell has in scope, and the crates that they come from.
const FUNCTIONS: [(&str, &[&str]); 6] = [
    (
        "skep_eval",
        &[
            "button",
            "checkbox",
            "clear_output",
            "display",
            "input",
            "interact",
            "number",
            "password",
            "select",
            "slider",
            "sleep",
            "text",
        ],
    ),
    ("skep_flow", &["task"]),
    ("skep_frame", &["sql"]),
    ("polars_core", &["df"]),
    ("polars_plan", &["col", "lit", "when"]),
    ("skep", &["compute", "delayed"]),
];

/// Of the standard library, and the files that define them.
const STD: [(&str, &str); 24] = [
    ("Arc", "alloc/src/sync.rs"),
    ("BTreeMap", "alloc/src/collections/btree/map.rs"),
    ("BTreeSet", "alloc/src/collections/btree/set.rs"),
    ("Box", "alloc/src/boxed.rs"),
    ("Cell", "core/src/cell.rs"),
    ("Duration", "core/src/time.rs"),
    ("HashMap", "std/src/collections/hash/map.rs"),
    ("HashSet", "std/src/collections/hash/set.rs"),
    ("Instant", "std/src/time.rs"),
    ("Iterator", "core/src/iter/traits/iterator.rs"),
    ("JoinHandle", "std/src/thread/join_handle.rs"),
    ("Mutex", "std/src/sync/poison/mutex.rs"),
    ("Option", "core/src/option.rs"),
    ("Path", "std/src/path.rs"),
    ("PathBuf", "std/src/path.rs"),
    ("Rc", "alloc/src/rc.rs"),
    ("RefCell", "core/src/cell.rs"),
    ("Result", "core/src/result.rs"),
    ("String", "alloc/src/string.rs"),
    ("Vec", "alloc/src/vec/mod.rs"),
    ("VecDeque", "alloc/src/collections/vec_deque/mod.rs"),
    ("char", "core/src/char/methods.rs"),
    ("slice", "core/src/slice/mod.rs"),
    ("str", "core/src/str/mod.rs"),
];

/// The index of the crates that cargo's messages name, with that of the standard library, which is kept in
/// the checkout.
pub fn write(messages: &str, checkout: &Path, to: &Path) -> anyhow::Result<()> {
    const CRATES: [&str; 10] = [
        "polars_core",
        "polars_lazy",
        "polars_plan",
        "skep",
        "skep_cluster",
        "skep_collections",
        "skep_eval",
        "skep_flow",
        "skep_frame",
        "skep_render",
    ];
    let std = checkout.join("assets/members-std.json");
    let text = fs::read(&std).with_context(|| format!("reading {}", std.display()))?;
    let mut found: Vec<Member> =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", std.display()))?;
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if message["reason"] != "compiler-artifact" || !CRATES.contains(&name) {
            continue;
        }
        let features: Vec<&str> = message["features"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let functions = FUNCTIONS
            .iter()
            .find(|(of, _)| *of == name)
            .map_or(&[] as &[&str], |(_, all)| all);
        let root = message["target"]["src_path"]
            .as_str()
            .map(Path::new)
            .and_then(Path::parent)
            .context("invariant: a crate has a source")?;
        for file in sources(root) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            found.extend(members(
                &text,
                false,
                &|name| WANTED.contains(&name) || functions.contains(&name),
                &|feature| features.contains(&feature),
            ));
        }
    }
    fs::write(to, serde_json::to_string(&found)?).with_context(|| format!("writing {}", to.display()))
}

/// What `assets/members-std.json` holds, from the standard library's sources.
pub fn write_std(library: &Path, to: &Path) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for (name, file) in STD {
        let path = library.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        found.extend(members(&text, false, &|wanted| wanted == name, &|_| false));
    }
    for member in &mut found {
        member.summary.truncate(member.summary.floor_char_boundary(100));
    }
    fs::write(to, serde_json::to_string_pretty(&found)? + "\n")
        .with_context(|| format!("writing {}", to.display()))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
