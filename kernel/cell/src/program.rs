//! The notebook as one growing program.
//!
//! A generated root file holds one line of prologue (what is in scope, the items of earlier cells by `include!`, the
//! variables this cell uses), then the user's statements on their own lines, then what keeps the variables.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
};

use crate::{
    compile::{Compiler, Failure, Optimise},
    names::{KnownNames, mentions_type},
    parse::{self, Definition, Key, Parsed},
    report::{CellError, Diagnostic, Drawn, Place, Sources},
    splice::Spliced,
    stale::{Runs, Staleness},
};

/// A variable that later cells can use.
#[derive(Clone, Debug)]
pub struct Variable {
    pub type_name: String,
    pub size: u64,
    pub cell: u32,
    pub is_mutable: bool,
    /// How a cell writes the type, where it can.
    pub path: Option<String>,
}

pub(crate) struct LiveItem {
    pub cell: u32,
    pub definition: Definition,
}

/// The statements of a cell, kept to infer its variables' types again.
pub(crate) struct Body {
    pub text: String,
    pub uses: Vec<(String, Origin)>,
}

#[derive(Clone)]
pub(crate) struct Origin {
    pub path: Option<String>,
    pub cell: u32,
    pub is_mutable: bool,
}

/// The state of the program between cells.
pub struct Notebook {
    pub(crate) known: KnownNames,
    /// `use` lines of what every cell has in scope.
    pub(crate) prelude: String,
    pub(crate) items: Vec<LiveItem>,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) bodies: BTreeMap<u32, Body>,
    pub(crate) texts: BTreeMap<u32, String>,
    /// Of cells that came from a file.
    titles: BTreeMap<u32, String>,
    pub(crate) spliced: BTreeMap<String, Spliced>,
    /// Variables that a cell which was given up still uses.
    pub(crate) lent: BTreeMap<String, Variable>,
    /// Why a variable is no longer here.
    pub(crate) gone: BTreeMap<String, String>,
    pub(crate) runs: Runs,
    /// Texts of each cell's items, by version.
    pub(crate) items_versions: HashMap<u32, Vec<String>>,
}

/// What a cell is compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    #[default]
    Run,
    /// Nothing runs: the type of the last expression is shown.
    Type,
    /// The cell runs many times and shows how long it takes.
    Bench,
}

/// A cell to compile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'s> {
    pub cell: u32,
    /// The front end's name for the cell, which stays when it runs again under another number.
    pub cell_id: Option<&'s str>,
    /// The file it came from, for messages.
    pub title: Option<&'s str>,
    pub source: &'s str,
    pub purpose: Purpose,
    /// 0 to 3, as rustc's `opt-level`.
    pub level: u8,
}

/// A cell that is ready to be compiled.
pub struct Prepared {
    pub cell: u32,
    pub(crate) cell_id: Option<String>,
    pub(crate) purpose: Purpose,
    level: u8,
    pub(crate) parsed: Parsed,
    pub(crate) root: String,
    pub(crate) uses: Vec<String>,
    /// Variables this cell moves.
    pub(crate) moved: BTreeSet<String>,
    /// Bindings it moved away again before its end.
    pub(crate) unkept: BTreeSet<String>,
    /// Items of earlier cells that no longer compile.
    pub(crate) set_aside: Vec<(u32, Vec<Key>)>,
    /// Line of the root file → the variable that is kept there.
    pub(crate) put_lines: BTreeMap<usize, Kept>,
    pub(crate) is_broken: bool,
}

#[derive(Clone)]
pub(crate) struct Kept {
    pub name: String,
    /// A variable of an earlier cell going back, rather than one of this cell's.
    pub is_restore: bool,
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
            titles: BTreeMap::new(),
            spliced: BTreeMap::new(),
            lent: BTreeMap::new(),
            gone: BTreeMap::new(),
            items_versions: HashMap::new(),
            runs: Runs::default(),
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
    pub fn compile(&mut self, compiler: &Compiler, request: Request<'_>) -> Result<Compiled, CellError> {
        let cell = request.cell;
        self.texts.insert(cell, request.source.to_string());
        if let Some(title) = request.title {
            self.titles.insert(cell, title.to_string());
        }
        let mut prepared = self.prepare(request)?;
        for _ in 0..8 {
            self.write(compiler, &mut prepared).map_err(|error| cannot_write(&error, compiler))?;
            match compiler.compile(&prepared.root, cell, Optimise::Cell(prepared.level)) {
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

    fn prepare(&self, Request { cell, cell_id, source, purpose, level, .. }: Request<'_>) -> Result<Prepared, CellError> {
        let parsed = parse_deeply(source)?;
        if purpose != Purpose::Run && parsed.as_ref().is_some_and(|parsed| parsed.tail.is_none()) {
            let what = if purpose == Purpose::Type { "type" } else { "time to measure" };
            return Err(plain_error("Command", &format!("without a last expression there is no {what}"), "end with an expression, without a semicolon"));
        }
        let is_broken = parsed.is_none();
        let parsed = parsed.unwrap_or_else(|| Parsed { source: source.to_string(), ..Parsed::default() });
        let uses = self.variables.keys().filter(|name| parsed.mentions.contains(*name)).cloned().collect();
        Ok(Prepared {
            cell,
            cell_id: cell_id.map(str::to_string),
            purpose,
            level,
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
        let sources = self.sources();
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
        const NO_CRATE: &str = "you might be missing a crate named `";
        for note in &mut drawn.notes {
            if let Some(name) = note.split(NO_CRATE).nth(1).and_then(|rest| rest.split('`').next()) {
                *note = format!("hint: `:dep {name}` in a line above adds the crate");
            }
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
    pub(crate) fn items_with<'a>(&'a self, prepared: &'a Prepared) -> impl Iterator<Item = (u32, Definition)> + 'a {
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
        if let Some(staleness) = self.runs.on_run(&prepared, is_done, &self.items, &self.variables) {
            commit.notices.push(in_words(&staleness));
        }
        let live: Vec<LiveItem> = self.items_with(&prepared).map(|(cell, definition)| LiveItem { cell, definition }).collect();
        self.items = live;
        // A layout that changed meanwhile must never be read again.
        self.lent.retain(|_, variable| !changed.iter().any(|changed| mentions_type(&variable.type_name, changed)));
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
            // What came back too late, from a cell that had been given up, and that nobody waits for any more.
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
        for name in prepared.uses.iter().filter(|name| !variables.contains_key(*name)) {
            if let Some(variable) = self.variables.remove(name).filter(|_| !prepared.moved.contains(name)) {
                self.lent.insert(name.clone(), variable);
            }
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

    /// Everything is gone but the cells' texts, which old errors still point to.
    pub fn reset(&mut self) {
        let (texts, titles) = (std::mem::take(&mut self.texts), std::mem::take(&mut self.titles));
        let fresh = Notebook::new(&self.prelude, self.known.clone());
        *self = Notebook { texts, titles, ..fresh };
    }

    /// The program so far, as an editor would see it: the items of all cells, one text a cell.
    pub fn items_text(&self) -> Vec<String> {
        self.items
            .iter()
            .map(
                |LiveItem { cell, definition }| {
                    if definition.leaves.is_empty() { self.texts[cell][definition.range.clone()].to_string() } else { definition.leaves.join(" ") }
                },
            )
            .collect()
    }

    /// The statements that made a variable whose type has no name.
    pub fn body_of(&self, variable: &Variable) -> Option<&str> {
        self.bodies.get(&variable.cell).map(|body| body.text.as_str())
    }

    fn sources(&self) -> Sources<'_> {
        Sources { texts: &self.texts, spliced: &self.spliced, titles: &self.titles }
    }

    /// Names cells where a text names generated files.
    pub fn in_cells(&self, text: &str) -> String {
        self.sources().in_cells(text)
    }

    /// Whether something was compiled under this number already.
    pub fn has(&self, cell: u32) -> bool {
        self.texts.contains_key(&cell)
    }

    /// How people call a cell.
    pub fn title(&self, cell: u32) -> String {
        self.titles.get(&cell).cloned().unwrap_or_else(|| format!("cell {cell}"))
    }

    /// Forgets some variables. Returns those that were there.
    pub fn forget(&mut self, names: &[&str]) -> Vec<String> {
        let known: Vec<String> = names.iter().filter(|name| self.variables.remove(**name).is_some()).map(|name| (*name).to_string()).collect();
        for name in &known {
            self.gone.insert(name.clone(), format!("`{name}` was cleared\nhint: run the cell that defines it again"));
        }
        known
    }

    /// Where in the user's cells a generated place is.
    pub fn place(&self, file: &str, line: u32, column: u32) -> Option<Place> {
        self.sources().place(file, line as usize, column as usize)
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

fn in_words(Staleness { changed, cells }: &Staleness) -> String {
    let list = |words: Vec<String>| match words.as_slice() {
        [head @ .., last] if !head.is_empty() => format!("{} and {last}", head.join(", ")),
        words => words.join(""),
    };
    let what = list(changed.iter().map(|name| format!("`{name}`")).collect());
    let cells: Vec<String> = cells.iter().map(u32::to_string).collect();
    let (cell, old, them) = if cells.len() == 1 { ("cell", "the old", "it") } else { ("cells", "the old", "them") };
    format!("{what} changed: {cell} {} used {old} one\nhint: run {them} again to bring the results up to date", list(cells))
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
