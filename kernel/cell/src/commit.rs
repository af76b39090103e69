//! Taking in a cell that ran: what it defined, moved, replaced and made obsolete.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    definition::{Definition, Key, Kind},
    model::{Candidate, From, LiveItem, Prepared, Statements, Unkept, Variable},
    names::mentions_type,
    program::Notebook,
    reach::Reach,
    report::Reason,
    stale::Staleness,
};

/// What follows from a cell that ran.
#[derive(Debug, Default)]
pub struct Commit {
    pub notices: Vec<String>,
    /// Variables that the evaluation process must drop.
    pub forget: Vec<String>,
}

impl Notebook {
    /// The notebook's items after this cell.
    fn items_after(prepared: &Prepared) -> Vec<LiveItem> {
        let is_in = |(at, candidate): &(usize, &Candidate)| {
            let is_out = prepared.dropped.contains(at) || prepared.yielded.contains(at);
            !is_out && (candidate.from != From::Aside || prepared.included.contains(at))
        };
        let item = |(_, candidate): (usize, &Candidate)| LiveItem {
            cell: candidate.cell,
            definition: candidate.definition.clone(),
        };
        prepared
            .candidates
            .iter()
            .enumerate()
            .filter(is_in)
            .map(item)
            .collect()
    }

    /// Takes in a cell that ran. `held` is what the evaluation process now has; returns notices for the user.
    pub fn commit(&mut self, prepared: Prepared, is_done: bool, held: &[(String, String, u64)]) -> Commit {
        let mut commit = Commit::default();
        let cell = prepared.cell;
        let changed = self.changed_types(&prepared);
        self.epoch = prepared
            .epoch
            .max(self.epoch + u32::from(!changed.is_empty() && prepared.epoch == self.epoch));
        commit.notices.extend(set_aside(&prepared));
        let tail = prepared.parsed.tail.clone();
        if let Some(reason) = tail.and_then(|tail| self.gone_for(&prepared, &prepared.parsed.source[tail])) {
            commit.notices.push(format!("{}; {}", reason.what, reason.hint));
        }
        for name in &prepared.parsed.tests {
            commit.notices.push(format!(
                "`{name}` is a `#[test]`, which only a test build has: without the attribute it can be called"
            ));
        }
        let before: Vec<Arc<Definition>> = self.items.iter().map(|item| item.definition.clone()).collect();
        if let Some(staleness) =
            self.runs
                .on_run(&prepared, is_done, &before, &self.variables, self.known.handles())
        {
            commit.notices.push(in_words(&staleness));
        }
        let (live, aside) = (Self::items_after(&prepared), Self::aside_after(&prepared));
        (self.items, self.aside) = (live, aside);
        // A layout that changed meanwhile must never be read again.
        self.lent.retain(|_, variable| {
            !changed
                .iter()
                .any(|changed| mentions_type(&variable.type_name, changed))
        });
        let uses = prepared
            .uses
            .iter()
            .map(|name| (name.clone(), self.origin(name)))
            .collect();
        let is_new = |name: &str| {
            is_done
                && prepared
                    .parsed
                    .bindings
                    .iter()
                    .any(|binding| binding.name == name)
        };
        for name in &prepared.moved {
            if !is_new(name) {
                self.gone.insert(
                    name.clone(),
                    Reason::new(
                        format!("`{name}` was moved in cell {cell}"),
                        format!("use `{name}.clone()` there, or run the cell that defines it again"),
                    ),
                );
            }
        }
        if is_done {
            let text = body_text(&prepared);
            self.bodies.insert(
                cell,
                Statements {
                    text,
                    mentions: prepared.parsed.mentions.clone(),
                    uses,
                },
            );
        }
        let mut variables = BTreeMap::new();
        let mut dropped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, type_name, size) in held {
            let of_changed = changed
                .iter()
                .find(|changed| mentions_type(type_name, changed))
                .filter(|_| !is_new(name));
            if let Some(changed) = of_changed {
                commit.forget.push(name.clone());
                self.gone.insert(
                    name.clone(),
                    Reason::new(
                        format!("`{name}` was dropped when its type was redefined in cell {cell}"),
                        "run the cell that defines it again",
                    ),
                );
                dropped.entry(changed).or_default().push(name);
                continue;
            }
            if prepared.hidden.contains(name) && !is_new(name) {
                commit.forget.push(name.clone());
                self.gone.insert(
                    name.clone(),
                    Reason::new(
                        format!("the variable `{name}` gave way to the item of that name in cell {cell}"),
                        "give one of the two another name",
                    ),
                );
                continue;
            }
            let new = prepared
                .parsed
                .bindings
                .iter()
                .find(|binding| binding.name == *name && is_done);
            // What came back too late, from a cell that had been given up, and that nobody waits for any
            // more.
            if new.is_none() && !self.variables.contains_key(name) {
                if !self.lent.contains_key(name) {
                    commit.forget.push(name.clone());
                }
                continue;
            }
            let variable = match (new, self.variables.remove(name)) {
                (None, Some(old)) => old,
                (new, _) => Variable {
                    type_name: type_name.clone(),
                    size: *size,
                    cell,
                    is_mutable: new.is_some_and(|binding| binding.is_mutable),
                    path: self.known.nameable(type_name),
                },
            };
            self.gone.remove(name);
            variables.insert(name.clone(), variable);
        }
        for (changed, names) in dropped {
            commit.notices.push(format!(
                "dropped {}: the type `{changed}` was redefined",
                list(names.iter().map(|name| format!("`{name}`")))
            ));
        }
        for name in prepared.uses.iter().filter(|name| !variables.contains_key(*name)) {
            if let Some(variable) = self
                .variables
                .remove(name)
                .filter(|_| !prepared.moved.contains(name))
            {
                self.lent.insert(name.clone(), variable);
            }
            self.gone.entry(name.clone()).or_insert_with(|| {
                Reason::new(format!("`{name}` is still in use by cell {cell}, which goes on in the background after its interrupt"), "it comes back when that is done; or run the cell that defines it again")
            });
        }
        self.variables = variables;
        if is_done {
            self.remember_macros(&prepared);
            self.explain_unkept(&prepared, &mut commit);
        } else {
            self.remember_failure(&prepared, "failed before its end");
        }
        commit
    }

    /// A `let` that a macro makes is nobody's to see before it is expanded. Whoever looks for the variable is
    /// told.
    fn remember_macros(&mut self, prepared: &Prepared) {
        let is_own = |name: &str| {
            self.items.iter().any(|item| {
                item.definition.kind == Kind::Macro
                    && item.definition.keys.iter().any(|key| key.name() == Some(name))
            })
        };
        let mut unknown = Vec::new();
        for (name, arguments) in prepared.parsed.calls.iter().filter(|(name, _)| is_own(name)) {
            for argument in arguments
                .iter()
                .filter(|argument| !self.variables.contains_key(*argument))
            {
                unknown.push((
                    argument.clone(),
                    Reason::new(format!("if `{name}!` in cell {} made `{argument}`: variables that a macro makes are not kept", prepared.cell), format!("`let {argument} = …` in the cell itself is")),
                ));
            }
        }
        for (argument, reason) in unknown {
            self.gone.entry(argument).or_insert(reason);
        }
    }

    fn aside_after(prepared: &Prepared) -> Vec<LiveItem> {
        let is_aside = |(at, candidate): &(usize, &Candidate)| match candidate.from {
            From::Own => false,
            From::Live => prepared.dropped.contains(at) && !prepared.yielded.contains(at),
            From::Aside => {
                !prepared.yielded.contains(at)
                    && (prepared.dropped.contains(at) || !prepared.included.contains(at))
            }
        };
        let item = |(_, candidate): (usize, &Candidate)| LiveItem {
            cell: candidate.cell,
            definition: candidate.definition.clone(),
        };
        prepared
            .candidates
            .iter()
            .enumerate()
            .filter(is_aside)
            .map(item)
            .collect()
    }

    /// Says which of the cell's variables are not there for later cells, and remembers why.
    fn explain_unkept(&mut self, prepared: &Prepared, commit: &mut Commit) {
        let cell = prepared.cell;
        let (mut borrow, mut closures) = (Vec::new(), Vec::new());
        for binding in &prepared.parsed.bindings {
            let name = &binding.name;
            if self
                .variables
                .get(name)
                .is_some_and(|variable| variable.cell == cell)
                || prepared.output.as_ref() == Some(name)
            {
                continue;
            }
            let reason = match prepared.unkept.get(name) {
                Some(Unkept::Borrows) => {
                    borrow.push(format!("`{name}`"));
                    Reason::new(
                        format!(
                            "`{name}` of cell {cell} borrows from another value, and a borrow ends with its cell"
                        ),
                        "keep an owned value there: `.clone()`, `.to_owned()`, `.to_vec()`",
                    )
                }
                Some(Unkept::Moved) => Reason::new(
                    format!("`{name}` was moved in cell {cell}, or never given a value"),
                    format!("use `{name}.clone()` there"),
                ),
                None if binding.is_closure => {
                    closures.push(format!("`{name}`"));
                    Reason::new(
                        format!("`{name}` of cell {cell} is a closure, whose type no later cell can name"),
                        format!(
                            "make it a function, or give it a type there: `let {name}: fn(…) -> … = …` or `Box<dyn Fn(…) -> …>`"
                        ),
                    )
                }
                None if !prepared.parsed.returns.is_empty() => Reason::new(
                    format!("`{name}` was not kept: cell {cell} returned before its end"),
                    format!("give `{name}` its value before the `return`, in a cell of its own"),
                ),
                None => Reason::new(
                    format!("`{name}` of cell {cell} was not kept: no later cell can name its type"),
                    "collect the iterator, or make the closure a `fn`",
                ),
            };
            self.gone.insert(name.clone(), reason);
        }
        let was = |names: &[String]| if names.len() == 1 { "was" } else { "were" };
        if !borrow.is_empty() {
            let names = list(borrow.iter().cloned());
            commit
                .notices
                .push(format!("{names} {} not kept: a borrow ends with its cell; `.clone()`, `.to_owned()` or `.to_vec()` keep a copy", was(&borrow)));
        }
        if !closures.is_empty() {
            let names = list(closures.iter().cloned());
            commit.notices.push(format!(
                "{names} {} not kept: a closure's type has no name; make it a `fn`, or write a type: `let f: fn(i32) -> i32 = …`, or `Box<dyn Fn(i32) -> i32>` if it captures",
                was(&closures)
            ));
        }
    }

    /// A cell that had been given up is done, and what it used is held again.
    pub fn take_back<'h>(&mut self, held: impl Iterator<Item = &'h str>) {
        for name in held {
            if let Some(variable) = self.lent.remove(name)
                && !self.variables.contains_key(name)
            {
                self.gone.remove(name);
                self.variables.insert(name.to_string(), variable);
            }
        }
    }

    /// Variables that could not leave the thread of a cell that was given up.
    pub fn lose(&mut self, names: &[String]) {
        for name in names {
            self.variables.remove(name);
            self.gone.insert(
                name.clone(),
                Reason::new(format!("`{name}` was lost when a cell was given up: its type is not `Send`, so it may not leave that cell's thread"), "run the cell that defines it again"),
            );
        }
    }

    /// Types whose layout this cell may change: those it defines anew, and all that stand on them.
    pub(crate) fn changed_types(&self, prepared: &Prepared) -> BTreeSet<String> {
        if prepared.parsed.items.iter().all(|item| !item.decides_layout) && prepared.dropped.is_empty() {
            return BTreeSet::new();
        }
        let old = Reach::new(self.items.iter().map(|item| &*item.definition));
        let live = Self::items_after(prepared);
        let new = Reach::new(live.iter().map(|item| &*item.definition));
        let new = new.layouts();
        old.layouts()
            .into_iter()
            .filter(|(name, layout)| new.get(name).is_some_and(|new| new != layout))
            .map(|(name, _)| name.to_string())
            .collect()
    }
}

/// One line for all items that no longer compile.
fn set_aside(prepared: &Prepared) -> Option<String> {
    let newly: Vec<&Candidate> = prepared
        .dropped
        .iter()
        .map(|at| &prepared.candidates[*at])
        .filter(|candidate| candidate.from == From::Live)
        .collect();
    let what: BTreeSet<String> = newly
        .iter()
        .flat_map(|candidate| {
            candidate
                .definition
                .keys
                .iter()
                .map(describe)
                .map(|what| format!("{what} (cell {})", candidate.cell))
        })
        .collect();
    let cells: BTreeSet<u32> = newly.iter().map(|candidate| candidate.cell).collect();
    let (verb, was) = if what.len() == 1 {
        ("compiles", "was")
    } else {
        ("compile", "were")
    };
    (!what.is_empty()).then(|| {
        format!(
            "{} no longer {verb} with the new definitions and {was} set aside; run {} {} again, adapted",
            list(what.into_iter()),
            if cells.len() == 1 { "cell" } else { "cells" },
            list(cells.iter().map(u32::to_string))
        )
    })
}

/// The statements without the tail, for inferring types; what returns early never does there.
fn body_text(prepared: &Prepared) -> String {
    let parsed = &prepared.parsed;
    let mut text = String::new();
    for range in parsed
        .statements
        .iter()
        .filter(|range| parsed.tail.as_ref() != Some(*range))
    {
        let mut from = range.start;
        for at in parsed
            .returns
            .iter()
            .copied()
            .filter(|at| range.contains(at) || *at == range.end)
        {
            text.push_str(&parsed.source[from..at]);
            text.push_str(" ::core::unreachable!()");
            from = at;
        }
        text.push_str(&parsed.source[from..range.end]);
        text.push('\n');
    }
    if let (Some(tail), Some(name)) = (&parsed.tail, &prepared.output) {
        text.push_str(&format!("let {name} = ({});\n", &parsed.source[tail.clone()]));
    }
    text
}

fn list(words: impl Iterator<Item = String>) -> String {
    match words.collect::<Vec<_>>().as_slice() {
        [head @ .., last] if !head.is_empty() => format!("{} and {last}", head.join(", ")),
        words => words.join(""),
    }
}

fn in_words(Staleness { changed, cells }: &Staleness) -> String {
    let what = list(changed.iter().map(|name| format!("`{name}`")));
    let (cell, them) = if cells.len() == 1 {
        ("cell", "it")
    } else {
        ("cells", "them")
    };
    format!(
        "{what} changed: {cell} {} used the old one; run {them} again to bring the results up to date",
        list(cells.iter().map(u32::to_string))
    )
}

fn describe(key: &Key) -> String {
    match key {
        Key::Value(name) | Key::Type(name) | Key::Macro(name) | Key::Use(name) => format!("`{name}`"),
        Key::Impl(header, _) => format!("`{}`", header.trim_end_matches([' ', '{', '}'])),
        Key::Other(_) => "an item".to_string(),
    }
}
