//! Which cells still stand on definitions that have since changed.
//!
//! A notebook shows results of cells whose functions and variables may have been defined anew below or above
//! them. The program knows who used what: after a redefinition the cells that used the old one are named,
//! once, until they run again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    definition::{Definition, Key},
    model::{Prepared, Variable},
};

#[derive(Default)]
pub(crate) struct Runs(BTreeMap<u32, Run>);

/// The last run of one cell of the notebook.
struct Run {
    cell_id: Option<String>,
    text: String,
    mentions: BTreeSet<String>,
    /// Variables that it took over, with the cell that had made each.
    reads: BTreeMap<String, u32>,
    defines: BTreeSet<String>,
    /// Names of its own items: what it used of these was its own.
    items: BTreeSet<String>,
    is_stale: bool,
}

/// What a cell changed, and who had used it before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Staleness {
    pub changed: Vec<String>,
    pub cells: Vec<u32>,
}

impl Runs {
    /// Takes in a cell that ran. `items` and `variables` are as they were before it; a variable of one of the
    /// types `handles` makes no result old when it gets another value.
    pub fn on_run(
        &mut self,
        prepared: &Prepared,
        is_done: bool,
        items: &[Arc<Definition>],
        variables: &BTreeMap<String, Variable>,
        handles: &[String],
    ) -> Option<Staleness> {
        let bindings: BTreeSet<String> = prepared
            .parsed
            .bindings
            .iter()
            .filter(|_| is_done)
            .map(|binding| binding.name.clone())
            .collect();
        let before = self.previous(prepared);
        let is_same = before.is_some_and(|run| run.text == prepared.parsed.source && !run.is_stale);
        let mut changed = changed_items(&prepared.parsed.items, items);
        // A cell that runs again as it was, on what it had before, makes what it made before.
        // A name that a later cell takes for something else leaves results above it as right as they were.
        let is_rerun = |name: &String| {
            let by = variables
                .get(name)
                .and_then(|variable| self.0.get(&variable.cell))
                .and_then(|run| run.cell_id.as_ref());
            by.is_some() && by == prepared.cell_id.as_ref()
        };
        let rebound: BTreeSet<String> = bindings
            .iter()
            .filter(|name| {
                !is_same
                    && is_rerun(name)
                    && variables
                        .get(*name)
                        .is_some_and(|variable| !handles.contains(&variable.type_name))
            })
            .cloned()
            .collect();
        let told: Vec<String> = changed.iter().chain(&rebound).cloned().collect();
        spread(&mut changed, items);
        let mut mentions = prepared.parsed.mentions.clone();
        mentions.extend(
            prepared
                .parsed
                .items
                .iter()
                .flat_map(|item| item.mentions.iter().cloned()),
        );
        let reads = prepared
            .uses
            .iter()
            .filter_map(|name| Some((name.clone(), variables.get(name)?.cell)))
            .collect();
        if let Some(id) = &prepared.cell_id {
            self.0.retain(|_, run| run.cell_id.as_ref() != Some(id));
        }
        let cells = self.find_stale(&changed, &rebound, variables);
        for cell in &cells {
            self.0.entry(*cell).and_modify(|run| run.is_stale = true);
        }
        let text = prepared.parsed.source.clone();
        let own = prepared
            .parsed
            .items
            .iter()
            .flat_map(names)
            .map(str::to_string)
            .collect();
        self.0.insert(
            prepared.cell,
            Run {
                cell_id: prepared.cell_id.clone(),
                text,
                mentions,
                reads,
                defines: bindings,
                items: own,
                is_stale: false,
            },
        );
        (!cells.is_empty()).then_some(Staleness { changed: told, cells })
    }

    /// The last run of the same cell.
    fn previous(&self, prepared: &Prepared) -> Option<&Run> {
        let id = prepared.cell_id.as_ref()?;
        self.0.values().find(|run| run.cell_id.as_ref() == Some(id))
    }

    fn find_stale(
        &self,
        changed: &BTreeSet<String>,
        rebound: &BTreeSet<String>,
        variables: &BTreeMap<String, Variable>,
    ) -> Vec<u32> {
        let mut stale: BTreeSet<u32> = BTreeSet::new();
        loop {
            let before = stale.len();
            for (cell, run) in &self.0 {
                // A cell that only defines things is compiled anew with everything; and in a terminal, where
                // nobody runs a line again, only lines count whose results are still there.
                let is_done_with = run.cell_id.is_none()
                    && !run
                        .defines
                        .iter()
                        .any(|name| variables.get(name).is_some_and(|variable| variable.cell == *cell));
                if run.is_stale || is_done_with {
                    continue;
                }
                let uses_item = changed.iter().any(|name| {
                    run.mentions.contains(name)
                        && !run.items.contains(name)
                        && !run.defines.contains(name)
                        && !defines_only(run)
                });
                let uses_variable = run
                    .reads
                    .iter()
                    .any(|(name, from)| rebound.contains(name) || stale.contains(from) && *from != *cell);
                if uses_item || uses_variable {
                    stale.insert(*cell);
                }
            }
            if stale.len() == before {
                return stale.into_iter().collect();
            }
        }
    }
}

/// A cell of items alone has no result that could be old.
fn defines_only(run: &Run) -> bool {
    run.defines.is_empty() && run.reads.is_empty() && syn::parse_file(&run.text).is_ok()
}

fn names(definition: &Definition) -> impl Iterator<Item = &str> {
    definition.keys.iter().filter_map(|key| match key {
        Key::Value(name) | Key::Type(name) | Key::Macro(name) => Some(name.as_str()),
        _ => None,
    })
}

fn changed_items(new: &[Definition], old: &[Arc<Definition>]) -> BTreeSet<String> {
    let is_changed = |definition: &&Definition| {
        old.iter()
            .any(|item| item.keys == definition.keys && item.tokens != definition.tokens)
    };
    new.iter()
        .filter(is_changed)
        .flat_map(names)
        .map(str::to_string)
        .collect()
}

/// Functions that call a changed one have changed too.
fn spread(changed: &mut BTreeSet<String>, items: &[Arc<Definition>]) {
    loop {
        let before = changed.len();
        for item in items {
            if item.mentions.iter().any(|name| changed.contains(name)) {
                changed.extend(names(item).map(str::to_string));
            }
        }
        if changed.len() == before || changed.is_empty() {
            return;
        }
    }
}
