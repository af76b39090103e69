//! The notebook as one growing program.
//!
//! A generated root file holds one line of prologue (what is in scope, the items of earlier cells by `include!`, the
//! variables this cell uses), then the user's statements on their own lines, then what keeps the variables.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::PathBuf,
};

use crate::{
    compile::{Compiler, Failure, Optimise},
    names::{KnownNames, mentions_type},
    parse::{self, Binding, Definition, Key, Parsed},
    report::{CellError, Diagnostic, Drawn, Place, Sources},
    splice::{Spliced, splice},
};

/// A variable that later cells can use.
#[derive(Clone, Debug)]
pub struct Variable {
    pub type_name: String,
    pub size: u64,
    pub cell: u32,
    is_mutable: bool,
    /// How a cell writes the type, where it can.
    path: Option<String>,
}

struct LiveItem {
    cell: u32,
    definition: Definition,
}

/// The statements of a cell, kept to infer its variables' types again.
struct Body {
    text: String,
    uses: Vec<(String, Origin)>,
}

#[derive(Clone)]
struct Origin {
    path: Option<String>,
    cell: u32,
    is_mutable: bool,
}

/// The state of the program between cells.
pub struct Notebook {
    known: KnownNames,
    /// `use` lines of what every cell has in scope.
    prelude: String,
    items: Vec<LiveItem>,
    variables: BTreeMap<String, Variable>,
    bodies: BTreeMap<u32, Body>,
    texts: BTreeMap<u32, String>,
    spliced: BTreeMap<String, Spliced>,
    /// Why a variable is no longer here.
    gone: BTreeMap<String, String>,
    /// Texts of each cell's items, by version.
    items_versions: HashMap<u32, Vec<String>>,
}

/// A cell that is ready to be compiled.
pub struct Prepared {
    pub cell: u32,
    parsed: Parsed,
    root: String,
    uses: Vec<String>,
    /// Variables this cell moves.
    moved: BTreeSet<String>,
    /// Bindings it moved away again before its end.
    unkept: BTreeSet<String>,
    /// Items of earlier cells that no longer compile.
    set_aside: Vec<(u32, Vec<Key>)>,
    /// Line of the root file → the variable that is kept there.
    put_lines: BTreeMap<usize, Kept>,
    is_broken: bool,
}

#[derive(Clone)]
struct Kept {
    name: String,
    /// A variable of an earlier cell going back, rather than one of this cell's.
    is_restore: bool,
}

pub struct Compiled {
    pub prepared: Prepared,
    pub library: PathBuf,
    pub entry: String,
}

impl Prepared {
    pub fn entry(&self) -> String {
        format!("skep_cell_{}", self.cell)
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// Nothing to run: no statement and no item.
    pub fn is_empty(&self) -> bool {
        !self.is_broken && self.parsed.is_empty()
    }
}

impl Notebook {
    /// `prelude` is put in front of every cell, on one line.
    pub fn new(prelude: &str, known: KnownNames) -> Notebook {
        assert!(!prelude.contains('\n'), "invariant: the prologue must not move the user's lines");
        Notebook {
            known,
            prelude: prelude.to_string(),
            items: Vec::new(),
            variables: BTreeMap::new(),
            bodies: BTreeMap::new(),
            texts: BTreeMap::new(),
            spliced: BTreeMap::new(),
            gone: BTreeMap::new(),
            items_versions: HashMap::new(),
        }
    }

    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// Names of items in scope, for completion.
    pub fn item_names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().flat_map(|item| &item.definition.keys).filter_map(|key| match key {
            Key::Value(name) | Key::Type(name) | Key::Macro(name) => Some(name.as_str()),
            Key::Use(name) => (!name.contains(['*', ' '])).then_some(name.as_str()),
            _ => None,
        })
    }

    /// Compiles a cell: once, unless it moves variables or redefines what earlier items need.
    pub fn compile(&mut self, compiler: &Compiler, cell: u32, source: &str) -> Result<Compiled, CellError> {
        self.texts.insert(cell, source.to_string());
        let mut prepared = self.prepare(cell, source)?;
        for _ in 0..8 {
            self.write(compiler, &mut prepared).map_err(|error| cannot_write(&error, compiler))?;
            match compiler.compile(&prepared.root, cell, Optimise::Cell) {
                Ok(library) if !prepared.is_broken => return Ok(Compiled { entry: prepared.entry(), prepared, library }),
                Ok(_) => return Err(plain_error("SyntaxError", "this cell could not be parsed", "write it with syntax that stable Rust has")),
                Err(Failure::Cancelled) => return Err(plain_error("Interrupted", "interrupted while compiling", "nothing was run; variables are as before")),
                Err(Failure::Toolchain(message)) => return Err(toolchain_error(&message)),
                Err(Failure::Errors(errors)) => {
                    if !self.adapt(&mut prepared, &errors) {
                        return Err(self.report(&prepared, &errors));
                    }
                }
            }
        }
        Err(plain_error("CompileError", "the cell could not be made to compile", "run it again in smaller parts"))
    }

    fn prepare(&self, cell: u32, source: &str) -> Result<Prepared, CellError> {
        let parsed = parse_deeply(source)?;
        let is_broken = parsed.is_none();
        let parsed = parsed.unwrap_or_else(|| Parsed { source: source.to_string(), ..Parsed::default() });
        let uses = self.variables.keys().filter(|name| parsed.mentions.contains(*name)).cloned().collect();
        Ok(Prepared {
            cell,
            parsed,
            root: format!("cell-{cell}.rs"),
            uses,
            moved: BTreeSet::new(),
            unkept: BTreeSet::new(),
            set_aside: Vec::new(),
            put_lines: BTreeMap::new(),
            is_broken,
        })
    }

    /// Learns from errors what the cell moves, or which old items it made stale. False if they are the user's.
    fn adapt(&self, prepared: &mut Prepared, errors: &[Diagnostic]) -> bool {
        let mut has_learnt = false;
        for error in errors.iter().filter(|error| matches!(error.code(), Some("E0382" | "E0381" | "E0505" | "E0507"))) {
            for span in error.spans.iter().filter(|span| span.is_primary && span.file_name == prepared.root) {
                let Some(kept) = prepared.put_lines.get(&span.line_start) else { continue };
                let learnt = if kept.is_restore { &mut prepared.moved } else { &mut prepared.unkept };
                has_learnt |= learnt.insert(kept.name.clone());
            }
        }
        if has_learnt || prepared.is_broken {
            return has_learnt;
        }
        let cell_of_error = |error: &Diagnostic| error.all_spans().find(|span| span.is_primary).and_then(|span| crate::report::cell_of(&span.file_name));
        if prepared.parsed.items.is_empty() || errors.iter().any(|error| cell_of_error(error).is_none_or(|cell| cell == prepared.cell)) {
            return false;
        }
        for error in errors {
            for span in error.all_spans().filter(|span| span.is_primary) {
                let Some(cell) = crate::report::cell_of(&span.file_name) else { continue };
                let text = &self.texts[&cell];
                let at = crate::splice::offset_of(text, span.line_start, span.column_start - 1);
                let stale = self.items.iter().find(|item| item.cell == cell && item.definition.range.contains(&at));
                if let Some(stale) = stale {
                    let entry = (cell, stale.definition.keys.clone());
                    if !prepared.set_aside.contains(&entry) {
                        prepared.set_aside.push(entry);
                        has_learnt = true;
                    }
                }
            }
        }
        has_learnt
    }

    fn report(&self, prepared: &Prepared, errors: &[Diagnostic]) -> CellError {
        let sources = Sources { texts: &self.texts, spliced: &self.spliced };
        let mut drawn: Vec<Drawn> = errors.iter().map(|error| self.in_users_words(prepared, error, sources.draw(error))).collect();
        let mut seen = BTreeSet::new();
        drawn.retain(|error| seen.insert((error.message.clone(), error.marks.first().map(|mark| mark.range.start))));
        sources.render(&drawn)
    }

    /// Where rustc speaks of generated lines, or of a variable that is no longer here, says it in the notebook's terms.
    fn in_users_words(&self, prepared: &Prepared, error: &Diagnostic, mut drawn: Drawn) -> Drawn {
        const BORROWS: [&str; 8] = ["E0310", "E0373", "E0499", "E0502", "E0505", "E0515", "E0597", "E0716"];
        let is_borrow = error.code().is_some_and(|code| BORROWS.contains(&code) || code == "E0521" || code == "E0700" || code == "E0712");
        let kept = error.all_spans().filter(|span| span.file_name == prepared.root).find_map(|span| prepared.put_lines.get(&span.line_start));
        if let (true, Some(Kept { name, .. })) = (is_borrow, kept) {
            drawn.message = format!("a borrow cannot outlive its cell: `{name}` is kept for later cells, and it is borrowed or borrows");
            drawn.notes = vec!["hint: keep an owned value (`.clone()`, `.to_owned()`, `.to_vec()`), or put the statements into a block `{ … }`".to_string()];
        }
        if error.code() == Some("E0425")
            && let Some(name) = error.message.split('`').nth(1)
            && let Some(reason) = self.gone.get(name)
        {
            drawn.notes.insert(0, reason.clone());
        }
        if error.code() == Some("E0596") && drawn.marks.iter().all(|mark| mark.cell == prepared.cell) {
            let outer = error.message.split('`').nth(1).filter(|name| self.variables.contains_key(*name));
            if let Some(name) = outer {
                let cell = self.variables[name].cell;
                drawn.notes =
                    vec![format!("hint: make it mutable where it is defined (cell {cell}): `let mut {name} = …`, or here: `let mut {name} = {name};`")];
            }
        }
        drawn
    }

    /// Live items if this cell's definitions replace the old ones.
    fn items_with<'a>(&'a self, prepared: &'a Prepared) -> impl Iterator<Item = (u32, Definition)> + 'a {
        let new = &prepared.parsed.items;
        let is_replaced = |key: &Key| new.iter().flat_map(|item| &item.keys).any(|n| key.is_replaced_by(n));
        let old = self.items.iter().filter_map(move |item| {
            if prepared.set_aside.iter().any(|(cell, keys)| *cell == item.cell && *keys == item.definition.keys) {
                return None;
            }
            keep_unreplaced(&item.definition, &is_replaced).map(|definition| (item.cell, definition))
        });
        old.chain(new.iter().map(|definition| (prepared.cell, definition.clone())))
    }

    fn write(&mut self, compiler: &Compiler, prepared: &mut Prepared) -> io::Result<()> {
        let live: Vec<(u32, Definition)> = self.items_with(prepared).collect();
        let mut by_cell: BTreeMap<u32, Vec<&Definition>> = BTreeMap::new();
        let mut uses = String::new();
        for (cell, definition) in &live {
            // The `use` lines of earlier cells compiled there; only their names matter now.
            if *cell != prepared.cell && !definition.leaves.is_empty() {
                uses.push_str(&definition.leaves.join(" "));
            } else {
                by_cell.entry(*cell).or_default().push(definition);
            }
        }
        // A macro is visible below its definition only, so cells come in the order of their numbers.
        let mut includes = String::new();
        for (cell, definitions) in by_cell {
            let spliced = items_text(&self.texts[&cell], cell, &definitions);
            let file = self.put_items(compiler, cell, &spliced.text)?;
            self.spliced.insert(file.clone(), spliced);
            includes.push_str(&format!("include!(\"{file}\"); "));
        }
        let root = if prepared.is_broken { broken_root(prepared) } else { self.root_text(compiler, prepared, &format!("{uses} {includes}"))? };
        fs::write(compiler.folder().join(&prepared.root), &root.text)?;
        self.spliced.insert(prepared.root.clone(), root);
        Ok(())
    }

    /// A text that changes gets a new file: the optimised build of an earlier cell may still have to read the old one.
    fn put_items(&mut self, compiler: &Compiler, cell: u32, text: &str) -> io::Result<String> {
        let versions = self.items_versions.entry(cell).or_default();
        let version = versions.iter().position(|known| known == text).unwrap_or(versions.len());
        let file = if version == 0 { format!("cell-{cell}.items.rs") } else { format!("cell-{cell}.items-{version}.rs") };
        if version == versions.len() {
            versions.push(text.to_string());
            fs::write(compiler.folder().join(&file), text)?;
        }
        Ok(file)
    }

    fn put_file(&self, compiler: &Compiler, file: &str, text: &str) -> io::Result<()> {
        fs::write(compiler.folder().join(file), text)
    }

    fn root_text(&mut self, compiler: &Compiler, prepared: &mut Prepared, scope: &str) -> io::Result<Spliced> {
        let mut prologue = format!(
            "#![allow(warnings)] #[cfg(skep_release)] macro_rules! skep_poll {{ () => {{}} }} #[cfg(not(skep_release))] macro_rules! skep_poll {{ () => {{ ::skep::cell::poll(); }} }} {} {scope}",
            self.prelude
        );
        prologue.push_str(&format!("#[unsafe(no_mangle)] pub fn {}() -> ::skep::cell::Outcome {{ ", prepared.entry()));
        prologue.push_str(&self.carried(compiler, prepared)?);
        prologue.push_str("let __skep_outcome = ::skep::cell::run(|| -> ::std::result::Result<(), ::skep::cell::Error> { use ::skep::cell::shows::*; ");
        let parsed = &prepared.parsed;
        if parsed.has_await {
            prologue.push_str("::skep::cell::block_on(async { ");
        }
        let mut inserts: Vec<(usize, &str)> = vec![(0, &prologue)];
        inserts.extend(parsed.polls.iter().map(|at| (*at, " skep_poll!();")));
        if let Some(tail) = &parsed.tail {
            inserts.push((tail.start, "(&&&&::skep::cell::Show(&("));
            inserts.push((tail.end, "))).show();"));
        }
        inserts.sort_by_key(|(at, _)| *at);
        let mut root = splice(&parsed.source, &parsed.statements, &inserts);
        root.text.push_str("\n;");
        let mut line = parsed.source.split('\n').count() + 1;
        let mut put_lines = BTreeMap::new();
        let mut add = |text: &mut String, name: &str, is_restore: bool, statement: String| {
            text.push('\n');
            text.push_str(&statement);
            line += 1;
            put_lines.insert(line, Kept { name: name.to_string(), is_restore });
        };
        for Binding { name, .. } in parsed.bindings.iter().filter(|binding| is_kept(prepared, binding)) {
            add(&mut root.text, name, false, format!("::skep::cell::put(\"{name}\", {name});"));
        }
        root.text.push_str(if parsed.has_await { " Ok(()) }) });" } else { " Ok(()) });" });
        for name in prepared.uses.iter().filter(|name| !prepared.moved.contains(*name)) {
            let is_redefined = parsed.bindings.iter().any(|binding| binding.name == *name && is_kept(prepared, binding));
            let guard = if is_redefined { "if ::skep::cell::keeps_old(&__skep_outcome) " } else { "" };
            add(&mut root.text, name, true, format!("{guard}{{ ::skep::cell::restore(\"{name}\", {name}); }}"));
        }
        root.text.push_str("\n__skep_outcome }\n");
        prepared.put_lines = put_lines;
        Ok(root)
    }

    /// The `let` that brings in the variables which this cell uses.
    fn carried(&mut self, compiler: &Compiler, prepared: &Prepared) -> io::Result<String> {
        let mut text = String::new();
        let mut inferred = Vec::new();
        for name in &prepared.uses {
            let variable = &self.variables[name];
            match &variable.path {
                Some(path) => text.push_str(&format!("let {} = ::skep::cell::take::<{path}>(\"{name}\"); ", mutable(variable.is_mutable, name))),
                None => inferred.push(name.clone()),
            }
        }
        if inferred.is_empty() {
            return Ok(text);
        }
        let wanted: Vec<(String, Origin)> = inferred.iter().map(|name| (name.clone(), self.origin(name))).collect();
        let before = format!("before-{}.rs", prepared.cell);
        let block = self.inference_block(&wanted);
        self.put_file(compiler, &before, &block)?;
        let pattern: Vec<String> = inferred.iter().map(|name| mutable(self.variables[name].is_mutable, name)).collect();
        let takes: Vec<String> = inferred.iter().map(|name| format!("::skep::cell::take(\"{name}\")")).collect();
        // Inferred ones first: if one is refused, no other has been taken yet.
        Ok(format!("let ({},) = ::skep::cell::infer(|| async {{ Ok(include!(\"{before}\")) }}, || ({},)); {text}", pattern.join(", "), takes.join(", ")))
    }

    fn origin(&self, name: &str) -> Origin {
        let variable = &self.variables[name];
        Origin { path: variable.path.clone(), cell: variable.cell, is_mutable: variable.is_mutable }
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
            let Some(body) = self.bodies.get(&cell) else { continue };
            block.push_str(&format!("let ({},) = {{ ", names.join(", ")));
            let (nameable, others): (Vec<_>, Vec<_>) = body.uses.iter().cloned().partition(|(_, origin)| origin.path.is_some());
            for (name, origin) in nameable {
                let path = origin.path.unwrap_or_default();
                block.push_str(&format!("let {} = ::skep::cell::take::<{path}>(\"{name}\"); ", mutable(origin.is_mutable, &name)));
            }
            if !others.is_empty() {
                let names: Vec<String> = others.iter().map(|(name, origin)| mutable(origin.is_mutable, name)).collect();
                block.push_str(&format!("let ({},) = {}; ", names.join(", "), self.inference_block(&others)));
            }
            block.push_str(&format!("{}\n; ({},) }};", body.text, names.join(", ")));
        }
        block.push_str(&format!("({},) }}", names.join(", ")));
        block
    }

    /// Takes in a cell that ran. `held` is what the evaluation process now has; returns notices for the user.
    pub fn commit(&mut self, prepared: Prepared, is_done: bool, held: &[(String, String, u64)]) -> Commit {
        let mut commit = Commit::default();
        let changed = self.changed_types(&prepared);
        for (cell, keys) in &prepared.set_aside {
            let what: Vec<String> = keys.iter().map(describe).collect();
            commit.notices.push(format!(
                "{} of cell {cell} no longer compiles with the new definitions and was set aside\nhint: run cell {cell} again, adapted",
                what.join(", ")
            ));
        }
        let live: Vec<LiveItem> = self.items_with(&prepared).map(|(cell, definition)| LiveItem { cell, definition }).collect();
        self.items = live;
        let cell = prepared.cell;
        let uses = prepared.uses.iter().map(|name| (name.clone(), self.origin(name))).collect();
        for name in &prepared.moved {
            if !prepared.parsed.bindings.iter().any(|binding| binding.name == *name) {
                self.gone.insert(
                    name.clone(),
                    format!("`{name}` was moved in cell {cell}\nhint: use `{name}.clone()` there, or run the cell that defines it again"),
                );
            }
        }
        if is_done {
            let body: String = prepared
                .parsed
                .statements
                .iter()
                .filter(|range| prepared.parsed.tail.as_ref() != Some(*range))
                .map(|range| &prepared.parsed.source[range.clone()])
                .collect::<Vec<_>>()
                .join("\n");
            self.bodies.insert(cell, Body { text: body, uses });
        }
        let mut variables = BTreeMap::new();
        for (name, type_name, size) in held {
            if changed.iter().any(|changed| mentions_type(type_name, changed)) && !(is_done && prepared.parsed.bindings.iter().any(|b| b.name == *name)) {
                commit.forget.push(name.clone());
                self.gone
                    .insert(name.clone(), format!("`{name}` was dropped when its type was redefined in cell {cell}\nhint: run the cell that defines it again"));
                commit.notices.push(format!("`{name}` was dropped: its type was redefined in this cell\nhint: run the cell that defines it again"));
                continue;
            }
            let new = prepared.parsed.bindings.iter().find(|binding| binding.name == *name && is_done);
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
        for name in prepared.uses.iter().filter(|name| !variables.contains_key(*name)) {
            self.gone.entry(name.clone()).or_insert_with(|| {
                format!("`{name}` is still in use by cell {cell}, which goes on in the background after its interrupt\nhint: it comes back when that is done; or run the cell that defines it again")
            });
        }
        self.variables = variables;
        for binding in prepared.parsed.bindings.iter().filter(|binding| is_done && binding.is_closure) {
            commit.notices.push(format!(
                "`{0}` was not kept: a closure has no name that a later cell could write\nhint: make it a function: `fn {0}(…) {{ … }}`",
                binding.name
            ));
        }
        commit
    }

    /// Types whose layout this cell may change: those it defines anew with other tokens, and all that contain them.
    fn changed_types(&self, prepared: &Prepared) -> BTreeSet<String> {
        let type_name = |definition: &Definition| match definition.keys.as_slice() {
            [Key::Type(name) | Key::Value(name)] if definition.is_type => Some(name.clone()),
            _ => None,
        };
        let old = |name: &str| self.items.iter().find(|item| type_name(&item.definition).as_deref() == Some(name));
        let mut changed: BTreeSet<String> = BTreeSet::new();
        for definition in &prepared.parsed.items {
            if let Some(name) = type_name(definition)
                && old(&name).is_some_and(|old| old.definition.tokens != definition.tokens)
            {
                changed.insert(name);
            }
        }
        loop {
            let before = changed.len();
            for item in &self.items {
                if let Some(name) = type_name(&item.definition)
                    && item.definition.mentions.iter().any(|mention| changed.contains(mention))
                {
                    changed.insert(name);
                }
            }
            if changed.len() == before {
                return changed;
            }
        }
    }

    /// All variables are gone: the evaluation process died. Returns their names.
    pub fn forget_variables(&mut self) -> Vec<String> {
        let lost: Vec<String> = std::mem::take(&mut self.variables).into_keys().collect();
        for name in &lost {
            self.gone.insert(name.clone(), format!("`{name}` was lost when the evaluation process ended\nhint: run the cell that defines it again"));
        }
        lost
    }

    /// Where in the user's cells a generated place is.
    pub fn place(&self, file: &str, line: u32, column: u32) -> Option<Place> {
        Sources { texts: &self.texts, spliced: &self.spliced }.place(file, line as usize, column as usize)
    }

    /// The user's line at a place.
    pub fn line(&self, place: &Place) -> Option<&str> {
        self.texts.get(&place.cell)?.split('\n').nth(place.line - 1)
    }
}

/// What follows from a cell that ran.
#[derive(Debug, Default)]
pub struct Commit {
    pub notices: Vec<String>,
    /// Variables that the evaluation process must drop.
    pub forget: Vec<String>,
}

fn is_kept(prepared: &Prepared, binding: &Binding) -> bool {
    !binding.is_closure && !prepared.unkept.contains(&binding.name)
}

fn mutable(is_mutable: bool, name: &str) -> String {
    if is_mutable { format!("mut {name}") } else { name.to_string() }
}

fn describe(key: &Key) -> String {
    match key {
        Key::Value(name) | Key::Type(name) | Key::Macro(name) | Key::Use(name) => format!("`{name}`"),
        Key::Impl(header, _) => format!("`{}`", header.trim_end_matches([' ', '{', '}'])),
        Key::Other(_) => "an item".to_string(),
    }
}

/// What is left of a definition after some of its names were defined anew.
fn keep_unreplaced(definition: &Definition, is_replaced: &impl Fn(&Key) -> bool) -> Option<Definition> {
    if definition.leaves.is_empty() {
        return (!definition.keys.iter().any(is_replaced)).then(|| definition.clone());
    }
    let mut kept = definition.clone();
    let pairs = kept.keys.into_iter().zip(kept.leaves).filter(|(key, _)| !is_replaced(key));
    (kept.keys, kept.leaves) = pairs.unzip();
    (!kept.keys.is_empty()).then_some(kept)
}

/// A cell's items on their own lines. A static is defined by the library of its own cell, and later ones refer to that one.
fn items_text(source: &str, cell: u32, definitions: &[&Definition]) -> Spliced {
    let mut keep = Vec::new();
    let mut inserts: Vec<(usize, String)> = Vec::new();
    for definition in definitions {
        keep.push(definition.range.clone());
        inserts.extend(definition.polls.iter().map(|at| (*at, " skep_poll!();".to_string())));
        if let Some((name, ty, is_mutable)) = &definition.global {
            let symbol = format!("skep_static_{cell}_{name}");
            let own = format!("any(skep_release, skep_cell = \"{cell}\")");
            inserts.push((definition.range.start, format!("#[cfg({own})] #[cfg_attr(not(skep_release), unsafe(export_name = \"{symbol}\"))] ")));
            let (safety, mutability) = if *is_mutable { ("unsafe", "mut ") } else { ("safe", "") };
            inserts.push((
                definition.range.end,
                format!(" #[cfg(not({own}))] unsafe extern \"Rust\" {{ #[link_name = \"{symbol}\"] {safety} static {mutability}{name}: {ty}; }}"),
            ));
        }
    }
    inserts.sort_by_key(|(at, _)| *at);
    let inserts: Vec<(usize, &str)> = inserts.iter().map(|(at, text)| (*at, text.as_str())).collect();
    keep.sort_by_key(|range| range.start);
    splice(source, &keep, &inserts)
}

/// For a cell that does not parse: nothing but the user's text in a function, so that rustc's words fit it.
fn broken_root(prepared: &Prepared) -> Spliced {
    let source = &prepared.parsed.source;
    let mut root = splice(source, std::slice::from_ref(&(0..source.len())), &[(0, "fn cell() { ")]);
    root.text.push_str("\n}\n");
    root
}

/// `syn` recurses, and so do the visitors: nesting is limited, and long cells get a deep stack of their own.
fn parse_deeply(source: &str) -> Result<Option<Parsed>, CellError> {
    const DEEPEST: usize = 200;
    let mut depth = 0usize;
    let deepest = source.bytes().fold(0, |most, b| {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most.max(depth)
    });
    if deepest > DEEPEST && source.len() < 1 << 16 || deepest > 4000 {
        return Err(plain_error("SyntaxError", &format!("this cell nests {deepest} brackets deep"), "split it into functions or smaller cells"));
    }
    if source.len() < 1 << 14 && deepest <= DEEPEST {
        return Ok(parse::parse(source).ok());
    }
    let text = source.to_string();
    let thread = std::thread::Builder::new().name("parse".into()).stack_size(1 << 30).spawn(move || parse::parse(&text).ok().map(Sendable));
    let joined = thread.map_err(|error| toolchain_error(&error.to_string()))?.join();
    joined.map(|parsed| parsed.map(|parsed| parsed.0)).map_err(|_| plain_error("SyntaxError", "this cell could not be parsed", "split it into smaller cells"))
}

struct Sendable(Parsed);

fn cannot_write(error: &io::Error, compiler: &Compiler) -> CellError {
    plain_error(
        "CacheError",
        &format!("the cell's program could not be written to {}: {error}", compiler.folder().display()),
        "make the folder writable and free some space, or set SKEP_CACHE to another one",
    )
}

fn toolchain_error(message: &str) -> CellError {
    let (message, hint) = message.split_once("\nhint: ").unwrap_or((message, "run `skep doctor` to see what is missing"));
    plain_error("CompilerError", message, hint)
}

/// An error that has no place in the source.
pub(crate) fn plain_error(name: &str, message: &str, hint: &str) -> CellError {
    let plain = format!("error: {message}\nhint: {hint}");
    CellError { name: name.to_string(), message: message.to_string(), styled: plain.clone(), plain, place: None }
}
