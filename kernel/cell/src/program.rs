//! The notebook as one growing program.
//!
//! A cell is compiled together with those items of earlier cells that it reaches. A generated root file holds
//! one line of prologue (what is in scope, the items by `include!`, the variables this cell uses), then the
//! user's statements on their own lines, then what keeps the variables.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    compile::{Compiler, Failure, Optimise},
    definition::{Definition, Key, Kind},
    imports,
    model::{Candidate, Compiled, From, LiveItem, Origin, Prepared, Purpose, Request, Statements, Variable},
    names::{KnownNames, mentions_type},
    outputs::output_name,
    parse::{self, Binding, Guess, Parsed},
    reach::Reach,
    report::{CellError, Place, Reason, Sources},
    splice::Spliced,
    stale::Runs,
    task_library::{Task, TaskLibrary},
    tasks::Tasks,
};

/// The state of the program between cells.
pub struct Notebook {
    pub(crate) known: KnownNames,
    /// `use` lines of what every cell has in scope.
    pub(crate) prelude: String,
    pub(crate) items: Vec<LiveItem>,
    /// Items that no longer compile with newer definitions; they come back when they do.
    pub(crate) aside: Vec<LiveItem>,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) bodies: BTreeMap<u32, Statements>,
    pub(crate) texts: BTreeMap<u32, String>,
    /// Of cells that came from a file.
    titles: BTreeMap<u32, String>,
    pub(crate) spliced: BTreeMap<String, Spliced>,
    /// Variables that a cell which was given up still uses.
    pub(crate) lent: BTreeMap<String, Variable>,
    /// Why a name is no longer here, or never was.
    pub(crate) gone: BTreeMap<String, Reason>,
    pub(crate) runs: Runs,
    /// Texts of each cell's items, by version.
    pub(crate) items_versions: HashMap<u32, Vec<String>>,
    /// How often the layout of a type has changed.
    pub(crate) epoch: u32,
    /// Libraries of functions for workers.
    pub(crate) tasks: Tasks,
}

impl Notebook {
    /// `prelude` is put in front of every cell, on one line.
    pub fn new(prelude: &str, known: KnownNames) -> Notebook {
        assert!(
            !prelude.contains('\n'),
            "invariant: the prologue must not move the user's lines"
        );
        Notebook {
            known,
            prelude: prelude.to_string(),
            items: Vec::new(),
            aside: Vec::new(),
            variables: BTreeMap::new(),
            bodies: BTreeMap::new(),
            texts: BTreeMap::new(),
            titles: BTreeMap::new(),
            spliced: BTreeMap::new(),
            lent: BTreeMap::new(),
            gone: BTreeMap::new(),
            items_versions: HashMap::new(),
            runs: Runs::default(),
            epoch: 0,
            tasks: Tasks::default(),
        }
    }

    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// Names of items in scope, for completion.
    pub fn item_names(&self) -> impl Iterator<Item = &str> {
        self.items
            .iter()
            .flat_map(|item| &item.definition.keys)
            .filter_map(Key::name)
    }

    /// Compiles a cell: once, unless it moves variables or redefines what earlier items need. What workers shall have of it is
    /// handed to `build` meanwhile.
    pub fn compile(
        &mut self,
        compiler: &Compiler,
        request: Request<'_>,
        build: &dyn Fn(TaskLibrary),
    ) -> Result<Compiled, CellError> {
        let cell = request.cell;
        self.texts.insert(cell, request.source.to_string());
        if let Some(title) = request.title {
            self.titles.insert(cell, title.to_string());
        }
        let mut prepared = self.prepare(request)?;
        // An item that lacked its semicolon has it from here on.
        if prepared.parsed.source.len() > request.source.len() {
            self.texts.insert(cell, format!("{};", request.source));
        }
        match self.try_to_compile(compiler, &mut prepared, build) {
            Ok((library, tasks)) => {
                self.tasks.add(&tasks);
                Ok(Compiled {
                    entry: prepared.entry(),
                    epoch: prepared.epoch,
                    prepared,
                    library,
                })
            }
            Err(error) => {
                self.remember_failure(&prepared, "did not compile");
                Err(error)
            }
        }
    }

    /// A library for workers of all functions that have none: for those that were defined before there was a cluster. `cell`
    /// is a number of its own.
    pub fn tasks(&mut self, compiler: &Compiler, cell: u32) -> Option<TaskLibrary> {
        let functions = self
            .items
            .iter()
            .filter(|item| item.definition.takes.is_some())
            .filter_map(|item| item.definition.keys.first()?.name());
        let mentions: Vec<&str> = functions.collect();
        if mentions.is_empty() {
            return None;
        }
        let source = format!("{};", mentions.join("; "));
        let request = Request {
            cell,
            source: &source,
            for_workers: true,
            ..Request::default()
        };
        let mut prepared = self.prepare(request).ok()?;
        self.write(compiler, &mut prepared).ok()?;
        let library = prepared.tasks.take()?;
        self.tasks.add(&library.tasks);
        Some(library)
    }

    fn try_to_compile(
        &mut self,
        compiler: &Compiler,
        prepared: &mut Prepared,
        build: &dyn Fn(TaskLibrary),
    ) -> Result<(PathBuf, Vec<Task>), CellError> {
        const MOST_TRIES: usize = 16;
        for _ in 0..MOST_TRIES {
            self.write(compiler, prepared)
                .map_err(|error| cannot_write(&error, compiler))?;
            let mut tasks = Vec::new();
            if let Some(library) = prepared.tasks.take() {
                tasks.clone_from(&library.tasks);
                build(library);
            }
            match compiler.compile(&prepared.root, prepared.epoch, Optimise::Cell(prepared.level)) {
                Ok(library) if !prepared.is_broken => return Ok((library, tasks)),
                Ok(_) => {
                    return Err(plain_error(
                        "SyntaxError",
                        "this cell could not be parsed",
                        "write it with syntax that stable Rust has",
                    ));
                }
                Err(Failure::Cancelled) => {
                    return Err(plain_error(
                        "Interrupted",
                        "interrupted while compiling",
                        "nothing was run; variables are as before",
                    ));
                }
                Err(Failure::Toolchain(reason)) => return Err(toolchain_error(&reason)),
                Err(Failure::Errors(errors)) => {
                    if !self.recover(prepared, &errors)? {
                        prepared.imports = imports::find(compiler, &self.known, prepared.cell, &errors);
                        return Err(prepared
                            .first_error
                            .take()
                            .unwrap_or_else(|| self.report(prepared, &errors)));
                    }
                }
            }
        }
        Err(plain_error(
            "CompileError",
            "the cell could not be made to compile",
            "run it again in smaller parts",
        ))
    }

    /// What a cell that failed would have defined is not there; whoever looks for it is told.
    pub(crate) fn remember_failure(&mut self, prepared: &Prepared, how: &str) {
        let items = prepared
            .parsed
            .items
            .iter()
            .filter(|_| how == "did not compile")
            .flat_map(|item| &item.keys)
            .filter_map(Key::name);
        let names: Vec<String> = prepared
            .parsed
            .bindings
            .iter()
            .map(|binding| binding.name.as_str())
            .chain(items)
            .map(str::to_string)
            .collect();
        for name in names {
            let is_there = self.variables.contains_key(&name)
                || self
                    .items
                    .iter()
                    .any(|item| item.definition.keys.iter().any(|key| key.name() == Some(&name)));
            if !is_there {
                let reason = Reason::new(
                    format!("`{name}` is defined in cell {}, which {how}", prepared.cell),
                    "mend that cell, and run it again",
                );
                self.gone.insert(name, reason);
            }
        }
    }

    fn prepare(
        &self,
        Request {
            cell,
            cell_id,
            source,
            purpose,
            level,
            keeps_value,
            for_workers,
            ..
        }: Request<'_>,
    ) -> Result<Prepared, CellError> {
        let make_items = self
            .items
            .iter()
            .filter(|item| item.definition.kind == Kind::Macro && item.definition.makes_items);
        let make_items = make_items
            .flat_map(|item| &item.definition.keys)
            .filter_map(Key::name)
            .map(str::to_string)
            .collect();
        let guess = Guess {
            make_items,
            are_statements: Vec::new(),
        };
        let parsed = parse_deeply(source, &guess)?;
        if purpose != Purpose::Run && parsed.as_ref().is_some_and(|parsed| parsed.tail.is_none()) {
            let what = if purpose == Purpose::Type {
                "type"
            } else {
                "time to measure"
            };
            return Err(plain_error(
                "Command",
                &format!("without a last expression there is no {what}"),
                "end with an expression, without a semicolon",
            ));
        }
        if let Some((what, hint)) = parsed
            .iter()
            .flat_map(|parsed| &parsed.items)
            .find_map(|item| item.refusal.as_ref())
        {
            return Err(plain_error("Refused", what, hint));
        }
        let is_broken = parsed.is_none();
        let parsed = parsed.unwrap_or_else(|| Parsed {
            source: source.to_string(),
            ..Parsed::default()
        });
        let mut prepared = Prepared {
            cell,
            cell_id: cell_id.map(str::to_string),
            purpose,
            level,
            parsed,
            guess,
            root: format!("cell-{cell}.rs"),
            uses: Vec::new(),
            candidates: Vec::new(),
            included: BTreeSet::new(),
            core: BTreeSet::new(),
            dropped: BTreeSet::new(),
            yielded: BTreeSet::new(),
            takes_all: false,
            shows_itself: false,
            shows_tail: true,
            output: None,
            takes_debug_errors: false,
            moved: BTreeSet::new(),
            unkept: BTreeMap::new(),
            hidden: BTreeSet::new(),
            outdated: BTreeSet::new(),
            put_lines: BTreeMap::new(),
            pieces: Vec::new(),
            is_broken,
            epoch: self.epoch,
            imports: Vec::new(),
            first_error: None,
            for_workers: for_workers && purpose == Purpose::Run,
            tasks: None,
        };
        if keeps_value && purpose == Purpose::Run && prepared.parsed.tail_makes_value {
            let name = output_name(cell);
            prepared.parsed.bindings.push(Binding {
                name: name.clone(),
                is_mutable: false,
                is_closure: false,
                is_whole: true,
            });
            prepared.output = Some(name);
        }
        self.gather(&mut prepared);
        if prepared.shows_itself {
            prepared.give_up_output();
        }
        Ok(prepared)
    }

    /// Parses the cell again, after some of its macro calls turned out to be statements.
    pub(crate) fn prepare_again(&self, prepared: &mut Prepared) -> Result<(), CellError> {
        let source = self.texts[&prepared.cell].clone();
        if let Some(parsed) = parse_deeply(&source, &prepared.guess)? {
            prepared.parsed = parsed;
            prepared.output = None;
            prepared.dropped.clear();
            prepared.yielded.clear();
            self.gather(prepared);
        }
        Ok(())
    }

    /// Finds the items and variables that the cell could need.
    fn gather(&self, prepared: &mut Prepared) {
        let own: Vec<Arc<Definition>> = prepared.parsed.items.iter().cloned().map(Arc::new).collect();
        let is_replaced = |item: &&LiveItem| {
            !item.definition.keys.iter().any(|key| {
                own.iter()
                    .flat_map(|own| &own.keys)
                    .any(|new| key.is_replaced_by(new))
            })
        };
        let candidate = |from| {
            move |item: &LiveItem| Candidate {
                cell: item.cell,
                definition: item.definition.clone(),
                from,
            }
        };
        let live = self.items.iter().filter(is_replaced).map(candidate(From::Live));
        let aside = self.aside.iter().filter(is_replaced).map(candidate(From::Aside));
        let new = own.iter().map(|definition| Candidate {
            cell: prepared.cell,
            definition: definition.clone(),
            from: From::Own,
        });
        prepared.candidates = live.chain(aside).chain(new).collect();
        let defines = |name: &str| {
            own.iter().any(|own| {
                own.keys
                    .iter()
                    .any(|key| key.name() == Some(name) && !is_only_type(own, key))
            })
        };
        prepared.hidden = self
            .variables
            .keys()
            .filter(|name| defines(name))
            .cloned()
            .collect();
        let changed = self.changed_types(prepared);
        let is_changed = |variable: &Variable| {
            changed
                .iter()
                .any(|changed| mentions_type(&variable.type_name, changed))
        };
        prepared.outdated = self
            .variables
            .iter()
            .filter(|(_, variable)| is_changed(variable))
            .map(|(name, _)| name.clone())
            .collect();
        let is_used = |name: &&String| {
            prepared.parsed.values.contains(*name)
                && !prepared.hidden.contains(*name)
                && !prepared.outdated.contains(*name)
        };
        prepared.uses = self.variables.keys().filter(is_used).cloned().collect();
        // A pattern of a constant's name compares; it binds only where nothing else is in it, and then the
        // newer name wins.
        let candidates = &prepared.candidates;
        let is_constant = |name: &str, from: fn(From) -> bool| {
            candidates
                .iter()
                .any(|c| from(c.from) && c.definition.is_constant && c.definition.provides.contains(name))
        };
        prepared.parsed.bindings.retain(|binding| {
            !is_constant(&binding.name, |from| from == From::Own)
                && (binding.is_whole || !is_constant(&binding.name, |from| from == From::Live))
        });
        self.select(prepared);
        let is_of_evcxr = |names: &BTreeSet<String>| names.iter().any(|name| name.starts_with("evcxr_"));
        let own = prepared
            .included
            .iter()
            .map(|at| &prepared.candidates[*at].definition);
        prepared.shows_itself = prepared.parsed.tail.is_some()
            && own
                .map(|own| &own.mentions)
                .chain([&prepared.parsed.mentions])
                .any(is_of_evcxr);
        prepared.epoch = self.epoch + u32::from(!changed.is_empty());
    }

    /// Chooses the items of the program: what the cell reaches, and what its new definitions could break.
    pub(crate) fn select(&self, prepared: &mut Prepared) {
        let usable: Vec<usize> = (0..prepared.candidates.len())
            .filter(|at| !prepared.dropped.contains(at) && !prepared.yielded.contains(at))
            .collect();
        let reach = Reach::new(usable.iter().map(|at| &*prepared.candidates[*at].definition));
        let own: Vec<usize> = usable
            .iter()
            .copied()
            .filter(|at| prepared.candidates[*at].from == From::Own)
            .collect();
        let own_definitions = || own.iter().map(|at| &prepared.candidates[*at].definition);
        // In statements a variable of a constant's name is the variable.
        let is_hidden = |name: &str| {
            let is_variable = prepared.uses.iter().any(|used| used == name)
                || prepared
                    .parsed
                    .bindings
                    .iter()
                    .any(|binding| binding.name == name);
            is_variable
                && usable.iter().any(|at| {
                    prepared.candidates[*at].from != From::Own
                        && prepared.candidates[*at].definition.is_constant
                        && prepared.candidates[*at].definition.provides.contains(name)
                })
        };
        let mut seeds: BTreeSet<&str> = prepared
            .parsed
            .mentions
            .iter()
            .map(String::as_str)
            .filter(|name| !is_hidden(name))
            .collect();
        seeds.extend(
            own_definitions()
                .flat_map(|own| &own.mentions)
                .map(String::as_str),
        );
        let of_types = self.mentions_of_variables(&prepared.uses);
        seeds.extend(of_types.iter().map(String::as_str));
        let to_candidates = |found: BTreeSet<usize>| found.into_iter().map(|at| usable[at]);
        let mut core: BTreeSet<usize> = to_candidates(reach.from(seeds.iter().copied(), |_| true)).collect();
        core.extend(&own);
        let mut included = core.clone();
        if prepared.takes_all {
            included.extend(
                usable
                    .iter()
                    .copied()
                    .filter(|at| prepared.candidates[*at].from != From::Aside),
            );
        }
        // What has one of its names, in whatever namespace, and what stands on a name that now means
        // something else.
        let names: BTreeSet<&str> = own_definitions()
            .filter(|own| !matches!(own.kind, Kind::Impl { .. }))
            .flat_map(|own| own.provides.iter().map(String::as_str))
            .collect();
        let is_namesake = |at: &usize| {
            let candidate = &prepared.candidates[*at];
            candidate
                .definition
                .keys
                .iter()
                .any(|key| key.name().is_some_and(|name| names.contains(name)))
                || candidate.definition.kind == Kind::Expansion
                    && candidate
                        .definition
                        .provides
                        .iter()
                        .any(|name| names.contains(name.as_str()))
        };
        included.extend(
            usable
                .iter()
                .copied()
                .filter(|at| prepared.candidates[*at].from == From::Live)
                .filter(is_namesake),
        );
        let is_changed = |name: &&&str| {
            let old = self
                .items
                .iter()
                .chain(&self.aside)
                .find(|item| item.definition.keys.iter().any(|key| key.name() == Some(**name)));
            old.is_none_or(|old| !own_definitions().any(|own| own.tokens == old.definition.tokens))
        };
        let changed: BTreeSet<&str> = names.iter().filter(is_changed).copied().collect();
        if !changed.is_empty() {
            let dependents: BTreeSet<usize> = to_candidates(reach.dependents(&changed)).collect();
            let mut needs: BTreeSet<&str> = BTreeSet::new();
            for at in dependents.iter().filter(|at| !core.contains(at)) {
                needs.extend(
                    prepared.candidates[*at]
                        .definition
                        .mentions
                        .iter()
                        .map(String::as_str),
                );
            }
            included.extend(dependents);
            included.extend(to_candidates(reach.from(needs, |_| true)));
        }
        prepared.core = core;
        prepared.included = included;
    }

    /// What the types of variables mention, and the statements that their types are inferred from.
    fn mentions_of_variables(&self, names: &[String]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<(String, Origin)> = names
            .iter()
            .map(|name| (name.clone(), self.origin(name)))
            .collect();
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        while let Some((_, origin)) = open.pop() {
            if let Some(path) = &origin.path {
                found.extend(
                    path.split(|c: char| !(c.is_alphanumeric() || c == '_'))
                        .filter(|part| !part.is_empty())
                        .map(str::to_string),
                );
            } else if let Some(body) = self.bodies.get(&origin.cell).filter(|_| seen.insert(origin.cell)) {
                found.extend(body.mentions.iter().cloned());
                open.extend(body.uses.iter().cloned());
            }
        }
        found
    }

    /// All variables are gone: the evaluation process died. Returns their names.
    pub fn forget_variables(&mut self) -> Vec<String> {
        let lost: Vec<String> = std::mem::take(&mut self.variables).into_keys().collect();
        for name in &lost {
            self.gone.insert(
                name.clone(),
                Reason::new(
                    format!("`{name}` was lost when the evaluation process ended"),
                    "run the cell that defines it again",
                ),
            );
        }
        lost
    }

    /// Everything is gone but the cells' texts, which old errors still point to.
    pub fn reset(&mut self) {
        let (texts, titles) = (std::mem::take(&mut self.texts), std::mem::take(&mut self.titles));
        let fresh = Notebook::new(&self.prelude, self.known.clone());
        *self = Notebook {
            texts,
            titles,
            epoch: self.epoch + 1,
            ..fresh
        };
    }

    /// The program so far, as an editor would see it: the items of all cells, one text a cell.
    pub fn items_text(&self) -> Vec<String> {
        let text = |LiveItem { cell, definition }: &LiveItem| match &definition.leaf {
            Some(leaf) => leaf.clone(),
            None => self.texts[cell][definition.range.clone()].to_string(),
        };
        self.items.iter().map(text).collect()
    }

    /// The statements that made a variable whose type has no name.
    pub fn body_of(&self, variable: &Variable) -> Option<&str> {
        self.bodies.get(&variable.cell).map(|body| body.text.as_str())
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            texts: &self.texts,
            spliced: &self.spliced,
            titles: &self.titles,
        }
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
        self.titles
            .get(&cell)
            .cloned()
            .unwrap_or_else(|| format!("cell {cell}"))
    }

    /// Names of cells that have one of their own.
    pub fn titles(&self) -> &BTreeMap<u32, String> {
        &self.titles
    }

    /// Forgets some variables. Returns those that were there.
    pub fn forget(&mut self, names: &[&str]) -> Vec<String> {
        let known: Vec<String> = names
            .iter()
            .filter(|name| self.variables.remove(**name).is_some())
            .map(|name| (*name).to_string())
            .collect();
        for name in &known {
            self.gone.insert(
                name.clone(),
                Reason::new(
                    format!("`{name}` was cleared"),
                    "run the cell that defines it again",
                ),
            );
        }
        known
    }

    /// Where in the user's cells a generated place is.
    pub fn place(&self, file: &str, line: u32, column: u32) -> Option<Place> {
        self.sources().place(file, line as usize, column as usize)
    }

    /// How people call the cell that a generated file belongs to.
    pub fn cell_of(&self, file: &str) -> Option<String> {
        crate::report::cell_of(file).map(|cell| self.title(cell))
    }

    /// The user's line at a place.
    pub fn line(&self, place: &Place) -> Option<&str> {
        self.texts.get(&place.cell)?.split('\n').nth(place.line - 1)
    }
}

/// Whether a name of an item stands for a type alone, so that a variable of the same name is no rival.
fn is_only_type(definition: &Definition, key: &Key) -> bool {
    matches!(key, Key::Type(_)) && !definition.is_constant
}

/// `syn` recurses, and so do the visitors: nesting is limited, and long cells get a deep stack of their own.
fn parse_deeply(source: &str, guess: &Guess) -> Result<Option<Parsed>, CellError> {
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
        return Err(plain_error(
            "SyntaxError",
            &format!("this cell nests {deepest} brackets deep"),
            "split it into functions or smaller cells",
        ));
    }
    if source.len() < 1 << 14 && deepest <= DEEPEST {
        // `let x = 5` as it is typed at a prompt lacks only its semicolon.
        let completed = || {
            (!source.trim_end().ends_with([';', '}']))
                .then(|| parse::parse_with(&format!("{source};"), guess).ok())
                .flatten()
        };
        return Ok(parse::parse_with(source, guess).ok().or_else(completed));
    }
    let (text, guess) = (source.to_string(), guess.clone());
    let thread = std::thread::Builder::new()
        .name("parse".into())
        .stack_size(1 << 30)
        .spawn(move || parse::parse_with(&text, &guess).ok().map(Sendable));
    let joined = thread
        .map_err(|error| {
            let what = format!("no thread could be started: {error}");
            plain_error("Resources", &what, "end some programs, and run the cell again")
        })?
        .join();
    joined.map(|parsed| parsed.map(|parsed| parsed.0)).map_err(|_| {
        plain_error(
            "SyntaxError",
            "this cell could not be parsed",
            "split it into smaller cells",
        )
    })
}

struct Sendable(Parsed);

fn cannot_write(error: &io::Error, compiler: &Compiler) -> CellError {
    plain_error(
        "CacheError",
        &format!(
            "the cell's program could not be written to {}: {error}",
            compiler.folder().display()
        ),
        "make the folder writable and free some space, or set SKEP_CACHE to another one",
    )
}

fn toolchain_error(reason: &Reason) -> CellError {
    plain_error("CompilerError", &reason.what, &reason.hint)
}

/// An error that has no place in the source.
pub(crate) fn plain_error(name: &str, message: &str, hint: &str) -> CellError {
    let plain = format!("error: {message}\nhint: {hint}");
    CellError {
        name: name.to_string(),
        message: message.to_string(),
        styled: plain.clone(),
        plain,
        place: None,
    }
}
