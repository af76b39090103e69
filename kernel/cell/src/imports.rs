//! Where a name that is missing could be imported from.
//!
//! rustc looks through crates that are named directly; what the crate of cells exports again is not among
//! them. So the compiler is asked: one program with a `use` for each place that is worth a look, of which
//! those without an error are there.

use std::{collections::BTreeSet, fs};

use crate::{
    compile::{Compiler, Failure, Optimise},
    names::KnownNames,
    report::Diagnostic,
};

/// More names than this come of something else.
const MOST_NAMES: usize = 8;

/// The names that errors miss and for which rustc has no import.
fn missing(errors: &[Diagnostic]) -> BTreeSet<String> {
    let names = errors
        .iter()
        .filter(|error| {
            matches!(
                error.code(),
                Some("E0405" | "E0412" | "E0422" | "E0425" | "E0433" | "E0531")
            )
        })
        .filter(|error| {
            let has_import = |child: &Diagnostic| {
                child.spans.iter().any(|span| {
                    span.suggested_replacement
                        .as_deref()
                        .is_some_and(|new| new.starts_with("use "))
                })
            };
            !error.children.iter().any(has_import)
        });
    names
        .filter_map(|error| error.message.split('`').nth(1))
        .filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .map(str::to_string)
        .collect()
}

/// A `use` line for each missing name that one of the known modules has.
pub(crate) fn find(
    compiler: &Compiler,
    known: &KnownNames,
    cell: u32,
    errors: &[Diagnostic],
) -> Vec<(String, String)> {
    let names = missing(errors);
    if names.is_empty() || names.len() > MOST_NAMES || known.modules().is_empty() {
        return Vec::new();
    }
    let candidates: Vec<(&String, String)> = names
        .iter()
        .flat_map(|name| {
            known
                .modules()
                .iter()
                .map(move |module| (name, format!("{module}::{name}")))
        })
        .collect();
    let root = format!("imports-{cell}.rs");
    let lines: Vec<String> = candidates
        .iter()
        .enumerate()
        .map(|(i, (_, path))| format!("mod m{i} {{ use ::{path}; }}"))
        .collect();
    if fs::write(
        compiler.folder().join(&root),
        format!("#![allow(warnings)] fn main() {{}}\n{}\n", lines.join("\n")),
    )
    .is_err()
    {
        return Vec::new();
    }
    // Without an error all are there, and a program that does nothing was linked.
    let absent: BTreeSet<usize> = match compiler.compile(&root, 0, Optimise::Cell(0)) {
        Ok(_) => BTreeSet::new(),
        Err(Failure::Errors(errors)) => errors
            .iter()
            .flat_map(|error| &error.spans)
            .map(|span| span.line_start)
            .collect(),
        Err(_) => return Vec::new(),
    };
    let mut found: Vec<(String, String)> = Vec::new();
    for (i, (name, path)) in candidates.into_iter().enumerate() {
        if !absent.contains(&(i + 2)) && !found.iter().any(|(known, _)| known == name) {
            found.push((name.clone(), format!("use {path};")));
        }
    }
    found
}
