//! The text of a cell's program: one root file, and a file for the items of each earlier cell.
//!
//! Of the root's first line the user sees nothing: it brings in scope, items and variables. Their statements
//! follow on their own lines, and below them what keeps the variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::Arc,
};

use crate::{
    compile::Compiler,
    definition::{Definition, Key, Kind},
    model::{From, Kept, Origin, Prepared, Purpose},
    parse::Binding,
    program::Notebook,
    reach::{Reach, versions_statement},
    splice::{Spliced, splice},
    statics,
    tasks::Functions,
};

impl Notebook {
    pub(crate) fn write(&mut self, compiler: &Compiler, prepared: &mut Prepared) -> io::Result<()> {
        let included: Vec<(u32, Arc<Definition>)> = prepared
            .included
            .iter()
            .map(|at| &prepared.candidates[*at])
            .map(|c| (c.cell, c.definition.clone()))
            .collect();
        let live = prepared.candidates.iter().enumerate().filter(|(at, c)| {
            let is_out = prepared.dropped.contains(at) || prepared.yielded.contains(at);
            !is_out && (c.from != From::Aside || prepared.included.contains(at))
        });
        let reach = Reach::new(live.map(|(_, c)| &*c.definition));
        let own_types = own_types(prepared);
        let mut by_cell: BTreeMap<u32, Vec<&Definition>> = BTreeMap::new();
        for (cell, definition) in included.iter().filter(|(cell, definition)| {
            definition.kind != Kind::Macro && (definition.leaf.is_none() || *cell == prepared.cell)
        }) {
            by_cell.entry(*cell).or_default().push(definition);
        }
        let mut includes = String::new();
        for (cell, definitions) in by_cell {
            let spliced = items_text(&self.texts[&cell], cell, &definitions, &reach, &own_types);
            let file = self.put_items(compiler, cell, &spliced.text)?;
            self.spliced.insert(file.clone(), spliced);
            includes.push_str(&format!("::core::include!(\"{file}\"); "));
        }
        let definitions: Vec<&Definition> = included.iter().map(|(_, definition)| &**definition).collect();
        let mut versions = versions_statement(&reach, &definitions);
        let functions = Functions::of(prepared, &reach);
        drop(reach);
        let root = if prepared.is_broken {
            broken_root(prepared)
        } else {
            let head = self.head(compiler, prepared, &includes);
            prepared.tasks = match prepared.for_workers {
                true => self.tasks.write(compiler, prepared, &functions, &head)?,
                false => None,
            };
            let new = prepared.tasks.as_ref().map_or(&[][..], |library| &library.tasks);
            versions.push_str(&self.tasks.statement(&functions.all, new));
            self.root_text(compiler, prepared, head, &versions)?
        };
        fs::write(compiler.folder().join(&prepared.root), &root.text)?;
        self.spliced.insert(prepared.root.clone(), root);
        Ok(())
    }

    /// A text that changes gets a new file: the optimised build of an earlier cell may still have to read the
    /// old one.
    fn put_items(&mut self, compiler: &Compiler, cell: u32, text: &str) -> io::Result<String> {
        let versions = self.items_versions.entry(cell).or_default();
        let version = versions
            .iter()
            .position(|known| known == text)
            .unwrap_or(versions.len());
        let file = if version == 0 {
            format!("cell-{cell}.items.rs")
        } else {
            format!("cell-{cell}.items-{version}.rs")
        };
        if version == versions.len() {
            fs::write(compiler.folder().join(&file), text)?;
            versions.push(text.to_string());
        }
        Ok(file)
    }

    fn put_file(&self, compiler: &Compiler, file: &str, text: &str) -> io::Result<()> {
        fs::write(compiler.folder().join(file), text)
    }

    /// What stands above a cell's own code: what is in scope, and the items.
    fn head(&self, compiler: &Compiler, prepared: &mut Prepared, includes: &str) -> String {
        let mut head = String::from(
            "#![allow(warnings, static_mut_refs)] #![recursion_limit = \"1024\"] #[cfg(skep_release)] macro_rules! __skep_poll { () => {} } #[cfg(not(skep_release))] macro_rules! __skep_poll { () => { ::skep::cell::poll(); } } ",
        );
        head.push_str(&self.extra_crates(compiler));
        head.push_str(&self.prelude);
        head.push(' ');
        // Macros stand here, not in included files: there they would count as made by a macro, and no name of
        // the standard library's could be theirs. And the `use` lines of earlier cells compiled there; only
        // their names matter now.
        let mut pieces = Vec::new();
        let own_types = own_types(prepared);
        for at in &prepared.included {
            let candidate = &prepared.candidates[*at];
            let text = match &candidate.definition.leaf {
                Some(leaf) if candidate.from != From::Own => match &candidate.definition.path {
                    Some((_, first)) if own_types.contains(first) => leaf.replacen("use ", "use crate::", 1),
                    _ => leaf.clone(),
                },
                None if candidate.definition.kind == Kind::Macro => candidate.definition.tokens.clone(),
                _ => continue,
            };
            let start = head.rsplit('\n').next().unwrap_or_default().chars().count();
            head.push_str(&text);
            pieces.push((start..start + text.chars().count(), *at));
            head.push(' ');
        }
        prepared.pieces = pieces;
        head.push_str(includes);
        head
    }

    fn root_text(
        &mut self,
        compiler: &Compiler,
        prepared: &mut Prepared,
        head: String,
        versions: &str,
    ) -> io::Result<Spliced> {
        let carried = self.carried(compiler, prepared)?;
        let frame = Frame::of(prepared, &carried);
        let mut prologue = head;
        let error = if prepared.takes_debug_errors {
            "DebugError"
        } else {
            "Error"
        };
        prologue.push_str(&format!(
            " #[unsafe(no_mangle)] pub fn {}() -> ::skep::cell::Outcome {{ {versions}{}let __skep_outcome = ::skep::cell::run(|| -> ::core::result::Result<(), ::skep::cell::{error}> {{ use ::skep::cell::shows::*; {}",
            prepared.entry(),
            frame.before_body,
            frame.open,
        ));
        let parsed = &prepared.parsed;
        let mut inserts: Vec<(usize, &str)> = vec![(0, &prologue)];
        inserts.extend(parsed.polls.iter().map(|at| (*at, " __skep_poll!();")));
        inserts.extend(
            parsed
                .returns
                .iter()
                .map(|at| (*at, " ::core::result::Result::Ok(())")),
        );
        let output = prepared.output.as_deref().unwrap_or_default();
        let (output_open, output_close) = (
            format!("let {output} = ("),
            format!("); (&&&&&&&::skep::cell::Show(&{output})).__skep_show();"),
        );
        match (&parsed.tail, prepared.purpose) {
            (Some(tail), Purpose::Run) if prepared.shows_itself => {
                inserts.push((tail.start, "("));
                inserts.push((tail.end, ").evcxr_display();"));
            }
            (Some(_), Purpose::Run) if !prepared.shows_tail => {}
            (Some(tail), Purpose::Run) if prepared.output.is_some() => {
                inserts.push((tail.start, &output_open));
                inserts.push((tail.end, &output_close));
            }
            (Some(tail), Purpose::Run) => {
                inserts.push((tail.start, "(&&&&&&&::skep::cell::Show(&("));
                inserts.push((tail.end, "))).__skep_show();"));
            }
            (Some(tail), Purpose::Type) => {
                inserts.push((tail.start, "__skep_slot.is(&("));
                inserts.push((tail.end, "));"));
            }
            _ => {}
        }
        inserts.sort_by_key(|(at, _)| *at);
        let mut root = splice(&parsed.source, &parsed.statements, &inserts);
        root.text.push_str(if prepared.purpose == Purpose::Run {
            "\n;"
        } else {
            "\n"
        });
        if let (Some(is_async), Purpose::Run) = (parsed.main, prepared.purpose) {
            root.text.push_str(if is_async {
                " ::skep::cell::of_main(main().await)?;"
            } else {
                " ::skep::cell::of_main(main())?;"
            });
        }
        let mut line = root.lines_before + parsed.source.split('\n').count() + 1;
        let mut put_lines = BTreeMap::new();
        let mut add = |text: &mut String, name: &str, is_restore: bool, statement: String| {
            text.push('\n');
            text.push_str(&statement);
            line += 1;
            put_lines.insert(
                line,
                Kept {
                    name: name.to_string(),
                    is_restore,
                },
            );
        };
        if prepared.purpose == Purpose::Run {
            for Binding { name, .. } in parsed
                .bindings
                .iter()
                .filter(|binding| is_kept(prepared, binding))
            {
                add(
                    &mut root.text,
                    name,
                    false,
                    format!(
                        "::skep::cell::put(\"{name}\", (&::skep::cell::Probe(&{name})).is_send(), {name});"
                    ),
                );
            }
        }
        root.text.push_str(&frame.close);
        let carried_back = prepared
            .uses
            .iter()
            .filter(|name| prepared.purpose != Purpose::Type && !prepared.moved.contains(*name));
        for name in carried_back {
            let is_redefined = prepared.purpose == Purpose::Run
                && parsed
                    .bindings
                    .iter()
                    .any(|binding| binding.name == *name && is_kept(prepared, binding));
            let (guard, otherwise) = match is_redefined {
                true => (
                    "if ::skep::cell::keeps_old(&__skep_outcome) ",
                    format!(" else {{ ::skep::cell::discard(\"{name}\", {name}); }}"),
                ),
                false => ("", String::new()),
            };
            add(
                &mut root.text,
                name,
                true,
                format!("{guard}{{ ::skep::cell::restore(\"{name}\", {name}); }}{otherwise}"),
            );
        }
        root.text.push_str("\n__skep_outcome }\n");
        prepared.put_lines = put_lines;
        Ok(root)
    }

    /// Crates of `:dep`, which only exist in cells from then on.
    fn extra_crates(&self, compiler: &Compiler) -> String {
        compiler
            .extra_dylibs()
            .iter()
            .map(|name| format!("extern crate {name} as _; "))
            .collect()
    }

    /// What brings in the variables that this cell uses.
    fn carried(&mut self, compiler: &Compiler, prepared: &Prepared) -> io::Result<Vec<Carried>> {
        let mut carried = Vec::new();
        let mut inferred = Vec::new();
        for name in &prepared.uses {
            let variable = &self.variables[name];
            match &variable.path {
                Some(path) => carried.push(Carried {
                    names: vec![(name.clone(), variable.is_mutable)],
                    is_tuple: false,
                    value: format!("::skep::cell::take::<{path}>(\"{name}\")"),
                }),
                None => inferred.push(name.clone()),
            }
        }
        if inferred.is_empty() {
            return Ok(carried);
        }
        let wanted: Vec<(String, Origin)> = inferred
            .iter()
            .map(|name| (name.clone(), self.origin(name)))
            .collect();
        let before = format!("before-{}.rs", prepared.cell);
        let block = self.inference_block(&wanted);
        self.put_file(compiler, &before, &block)?;
        let names = inferred
            .iter()
            .map(|name| (name.clone(), self.variables[name].is_mutable))
            .collect();
        let takes: Vec<String> = inferred
            .iter()
            .map(|name| format!("::skep::cell::take(\"{name}\")"))
            .collect();
        let value = format!(
            "::skep::cell::infer(|| async {{ ::core::result::Result::Ok(::core::include!(\"{before}\")) }}, || ({},))",
            takes.join(", ")
        );
        // Inferred ones first: if one is refused, no other has been taken yet.
        carried.insert(
            0,
            Carried {
                names,
                is_tuple: true,
                value,
            },
        );
        Ok(carried)
    }

    pub(crate) fn origin(&self, name: &str) -> Origin {
        let variable = &self.variables[name];
        Origin {
            path: variable.path.clone(),
            cell: variable.cell,
            is_mutable: variable.is_mutable,
        }
    }

    /// A block expression that is a tuple of the wanted variables, with their types as their cells made them.
    fn inference_block(&self, wanted: &[(String, Origin)]) -> String {
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let mut block = String::from("{ ");
        let mut by_cell: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (name, origin) in wanted {
            by_cell.entry(origin.cell).or_default().push(name);
        }
        for (cell, names) in by_cell {
            let Some(body) = self.bodies.get(&cell) else {
                continue;
            };
            block.push_str(&format!("let ({},) = {{ ", names.join(", ")));
            let (nameable, others): (Vec<_>, Vec<_>) = body
                .uses
                .iter()
                .cloned()
                .partition(|(_, origin)| origin.path.is_some());
            for (name, origin) in nameable {
                let path = origin.path.unwrap_or_default();
                block.push_str(&format!(
                    "let {} = ::skep::cell::take::<{path}>(\"{name}\"); ",
                    mutable(origin.is_mutable, &name)
                ));
            }
            if !others.is_empty() {
                let names: Vec<String> = others
                    .iter()
                    .map(|(name, origin)| mutable(origin.is_mutable, name))
                    .collect();
                block.push_str(&format!(
                    "let ({},) = {}; ",
                    names.join(", "),
                    self.inference_block(&others)
                ));
            }
            block.push_str(&format!("{}\n; ({},) }};", body.text, names.join(", ")));
        }
        block.push_str(&format!("({},) }}", names.join(", ")));
        block
    }
}

/// Variables that come in together, and where from.
struct Carried {
    /// With whether each is mutable.
    names: Vec<(String, bool)>,
    is_tuple: bool,
    value: String,
}

impl Carried {
    fn pattern(&self, name: impl Fn(&(String, bool)) -> String) -> String {
        let names: Vec<String> = self.names.iter().map(name).collect();
        if self.is_tuple {
            format!("({},)", names.join(", "))
        } else {
            names.join(", ")
        }
    }

    fn binding(&self) -> String {
        format!(
            "let {} = {}; ",
            self.pattern(|(name, is_mutable)| mutable(*is_mutable, name)),
            self.value
        )
    }
}

/// What stands around the user's statements, by what the cell is for.
struct Frame {
    /// Before the body: variables live here, so that they outlast a panic.
    before_body: String,
    open: String,
    close: String,
}

impl Frame {
    fn of(prepared: &Prepared, carried: &[Carried]) -> Frame {
        let each = |text: fn(&Carried) -> String| carried.iter().map(text).collect::<String>();
        let parsed = &prepared.parsed;
        const OK: &str = " ::core::result::Result::Ok(())";
        let (block_on, end) = if parsed.has_await || parsed.main == Some(true) {
            ("::skep::cell::block_on(async { ", format!("{OK} }}) }});"))
        } else if parsed.needs_runtime {
            (
                "let __skep_runtime = ::skep::cell::enter_runtime(); ",
                format!("{OK} }});"),
            )
        } else {
            ("", format!("{OK} }});"))
        };
        match prepared.purpose {
            Purpose::Run => Frame { before_body: each(Carried::binding), open: block_on.to_string(), close: end },
            // The branch is only type-checked, so nothing is taken and nothing is moved. The type is shown
            // before it, so that it may borrow from what only lives in there.
            Purpose::Type => Frame {
                before_body: String::new(),
                open: format!(
                    "{block_on}let __skep_slot = ::skep::cell::TypeSlot::new(); __skep_slot.show(); if ::skep::cell::never() {{ {}",
                    each(Carried::binding)
                ),
                close: format!(" }}{end}"),
            },
            Purpose::Bench => Frame {
                before_body: each(Carried::binding),
                open: "::skep::cell::bench(|| -> ::core::result::Result<_, ::skep::cell::Error> { ::core::result::Result::Ok({ ".to_string(),
                close: format!(" }}) }})?;{OK} }});"),
            },
        }
    }
}

pub(crate) fn is_kept(prepared: &Prepared, binding: &Binding) -> bool {
    !binding.is_closure && !prepared.unkept.contains_key(&binding.name)
}

fn mutable(is_mutable: bool, name: &str) -> String {
    if is_mutable {
        format!("mut {name}")
    } else {
        name.to_string()
    }
}

/// Names of the notebook's own types and modules. A `use` of what is in them says that they are of this
/// crate: items come by `include!`, and a name that a macro brought does not simply win over one of the
/// prelude's.
fn own_types(prepared: &Prepared) -> BTreeSet<String> {
    let included = prepared
        .included
        .iter()
        .map(|at| &prepared.candidates[*at].definition)
        .filter(|definition| matches!(definition.kind, Kind::Named | Kind::Expansion));
    let keys = included.flat_map(|definition| {
        definition.keys.iter().filter_map(|key| {
            if let Key::Type(name) = key {
                Some(name.clone())
            } else {
                None
            }
        })
    });
    keys.collect()
}

/// A cell's items on their own lines.
fn items_text(
    source: &str,
    cell: u32,
    definitions: &[&Definition],
    reach: &Reach<'_>,
    own_types: &BTreeSet<String>,
) -> Spliced {
    let mut keep = Vec::new();
    let mut inserts: Vec<(usize, String)> = Vec::new();
    for definition in definitions {
        keep.push(definition.range.clone());
        // As an item a call in parentheses needs a semicolon, which the end of a cell does without.
        if definition.kind == Kind::Expansion && source[definition.range.clone()].ends_with([')', ']']) {
            inserts.push((definition.range.end, ";".to_string()));
        }
        if let Some((at, first)) = &definition.path
            && own_types.contains(first)
            && !inserts.iter().any(|(known, _)| known == at)
        {
            inserts.push((*at, "crate::".to_string()));
        }
        inserts.extend(
            definition
                .polls
                .iter()
                .map(|at| (*at, " __skep_poll!();".to_string())),
        );
        for found in &definition.statics {
            let layout = reach.layout(found.mentions.iter().map(String::as_str));
            inserts.extend(found.inserts(&statics::symbol(cell, found.range.start, layout)));
        }
    }
    inserts.sort_by_key(|(at, _)| *at);
    let inserts: Vec<(usize, &str)> = inserts.iter().map(|(at, text)| (*at, text.as_str())).collect();
    keep.sort_by_key(|range| range.start);
    // The leaves of one `use` stand in one place.
    keep.dedup();
    splice(source, &keep, &inserts)
}

/// For a cell that does not parse: nothing but the user's text in a function, so that rustc's words fit it.
fn broken_root(prepared: &Prepared) -> Spliced {
    let source = &prepared.parsed.source;
    let mut root = splice(
        source,
        std::slice::from_ref(&(0..source.len())),
        &[(0, "fn cell() { ")],
    );
    root.text.push_str("\n}\n");
    root
}
