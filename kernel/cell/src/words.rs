//! rustc's errors in the notebook's terms.

use std::collections::BTreeSet;

use crate::{
    captures::captured,
    definition::Key,
    model::{Kept, Prepared},
    names::Phrase,
    program::{Notebook, plain_error},
    recover::BORROWS,
    report::{CellError, Diagnostic, Drawn, Mark, Note, Reason},
};

const NO_TYPE: &str = "type annotations needed: nothing says what type this is";

impl Notebook {
    pub(crate) fn report(&self, prepared: &Prepared, errors: &[Diagnostic]) -> CellError {
        let sources = self.sources();
        // Where the syntax is broken nothing was in scope, so that only errors of syntax count; they have no
        // code.
        let is_of_syntax = |error: &&Diagnostic| !prepared.is_broken || error.code().is_none();
        let counted: Vec<&Diagnostic> = errors.iter().filter(is_of_syntax).collect();
        let counted = if counted.is_empty() {
            errors.iter().collect()
        } else {
            counted
        };
        if let Some(error) = self.lost_type(prepared, &counted) {
            return error;
        }
        let mut drawn: Vec<Drawn> = counted
            .into_iter()
            .map(|error| self.in_users_words(prepared, error, sources.draw(error)))
            .collect();
        let mut seen = BTreeSet::new();
        drawn.retain(|error| {
            seen.insert((
                error.message.clone(),
                error
                    .marks
                    .first()
                    .map(|mark| mark.range.start)
                    .filter(|_| error.message != NO_TYPE),
            ))
        });
        sources.render(&drawn)
    }

    /// A variable's type is inferred from the statements that made it, which a newer definition may have
    /// broken.
    fn lost_type(&self, prepared: &Prepared, errors: &[&Diagnostic]) -> Option<CellError> {
        let inferred = format!("before-{}.rs", prepared.cell);
        let is_inferred = |error: &&&Diagnostic| {
            error
                .spans
                .iter()
                .any(|span| span.is_primary && span.outermost().file_name == inferred)
        };
        let error = errors.iter().find(is_inferred)?;
        let names: Vec<String> = prepared
            .uses
            .iter()
            .filter(|name| self.variables[*name].path.is_none())
            .map(|name| format!("`{name}`"))
            .collect();
        let cells: BTreeSet<u32> = prepared
            .uses
            .iter()
            .map(|name| &self.variables[name])
            .filter(|variable| variable.path.is_none())
            .map(|variable| variable.cell)
            .collect();
        let cells: Vec<String> = cells.iter().map(u32::to_string).collect();
        Some(plain_error(
            "TypeLost",
            &format!(
                "the type of {} is not known any more: the statements that made it (cell {}) no longer compile with newer definitions: {}",
                names.join(", "),
                cells.join(", "),
                error.message
            ),
            &format!("run cell {} again, adapted", cells.join(", ")),
        ))
    }

    /// Where rustc speaks of generated lines, or of a variable that is no longer here, says it in the
    /// notebook's terms.
    fn in_users_words(&self, prepared: &Prepared, error: &Diagnostic, mut drawn: Drawn) -> Drawn {
        if prepared.is_broken {
            end_of_cell(prepared, &mut drawn);
        }
        about_the_cell(error, self.known.phrases(), &mut drawn);
        if error.code() == Some("E0080") {
            self.name_captured(prepared, &mut drawn);
        }
        let is_borrow = error.code().is_some_and(|code| BORROWS.contains(&code));
        let kept = error
            .all_spans()
            .filter(|span| span.file_name == prepared.root)
            .find_map(|span| prepared.put_lines.get(&span.line_start));
        if let (true, Some(Kept { name, .. })) = (is_borrow, kept) {
            drawn.message = format!(
                "a borrow cannot outlive its cell: `{name}` is kept for later cells, and it is borrowed or borrows"
            );
            drawn.notes = vec![Note::hint(
                "keep an owned value (`.clone()`, `.to_owned()`, `.to_vec()`), or put the statements into a block `{ … }`",
            )];
        }
        let is_for_a_thread = || {
            drawn.marks.iter().any(|mark| {
                mark.label
                    .as_deref()
                    .is_some_and(|label| label.contains("is borrowed for `'static`"))
            })
        };
        if error.code() == Some("E0597")
            && let Some(name) = error
                .message
                .split('`')
                .nth(1)
                .filter(|name| prepared.uses.iter().any(|used| used == name))
            && is_for_a_thread()
        {
            drawn.message = format!("`{name}` is borrowed by what may outlive the cell, such as a thread");
            drawn.marks.retain(|mark| mark.is_primary);
            drawn.marks.iter_mut().for_each(|mark| mark.label = None);
            drawn.notes = vec![Note::hint(format!(
                "give it the value: `move ||`; with `let {name} = {name}.clone();` before it the notebook keeps its own"
            ))];
        }
        if matches!(error.code(), Some("E0005" | "E0530"))
            && drawn.marks.iter().all(|mark| mark.cell == prepared.cell)
        {
            self.explain_constant(prepared, &mut drawn);
        }
        let missing = matches!(
            error.code(),
            Some("E0405" | "E0412" | "E0422" | "E0423" | "E0425" | "E0433" | "E0432" | "E0574" | "E0531")
        ) || error.message.starts_with("cannot find");
        if let Some(name) = error.message.split('`').nth(1).filter(|_| missing) {
            self.explain_missing(prepared, name, &mut drawn);
        }
        if error.code() == Some("E0599")
            && let Some(name) = error.message.split('`').nth(1)
            && let Some(item) = self.aside.iter().find(|item| {
                matches!(item.definition.keys.first(), Some(Key::Impl(..)))
                    && item.definition.mentions.contains(name)
            })
        {
            drawn.notes = vec![
                Note::plain(format!(
                    "an `impl` of cell {} with `{name}` was set aside: it does not compile with newer definitions",
                    item.cell
                )),
                Note::hint(format!("run cell {} again, adapted", item.cell)),
            ];
        }
        let is_of_tail = |mark: &Mark| {
            prepared
                .parsed
                .tail
                .as_ref()
                .is_some_and(|tail| tail.contains(&mark.range.start))
        };
        let is_open = matches!(error.code(), Some("E0282" | "E0283" | "E0284"))
            || error.message.starts_with("the trait bound `!: ");
        let is_explained = |phrase: &Phrase| drawn.message == phrase.message;
        if is_open && drawn.marks.iter().any(is_of_tail) && !self.known.phrases().iter().any(is_explained) {
            drawn.message = NO_TYPE.to_string();
            drawn.marks.iter_mut().for_each(|mark| mark.label = None);
            drawn.notes = vec![Note::hint(
                "give it one: `let x: i32 = …;`, `….parse::<i32>()`, `….collect::<Vec<_>>()`",
            )];
        }
        const NO_CRATE: &str = "you might be missing a crate named `";
        for note in &mut drawn.notes {
            if let Some(name) = note
                .text()
                .split(NO_CRATE)
                .nth(1)
                .and_then(|rest| rest.split('`').next())
            {
                *note = Note::hint(format!("`:dep {name}` in a line above adds the crate"));
            }
        }
        if error.code() == Some("E0596") && drawn.marks.iter().all(|mark| mark.cell == prepared.cell) {
            let outer = error
                .message
                .split('`')
                .nth(1)
                .filter(|name| self.variables.contains_key(*name));
            if let Some(name) = outer {
                let cell = self.variables[name].cell;
                drawn.notes = vec![Note::hint(format!(
                    "make it mutable where it is defined (cell {cell}): `let mut {name} = …`, or here: `let mut {name} = {name};`"
                ))];
            }
        }
        self.explain_stand_in(prepared, &mut drawn);
        let mut seen = BTreeSet::new();
        drawn.notes.retain(|note| seen.insert(note.clone()));
        drawn
    }

    /// Of an earlier cell, or of this one.
    fn is_variable(&self, prepared: &Prepared, name: &str) -> bool {
        let mut bindings = prepared.parsed.bindings.iter();
        self.variables.contains_key(name) || bindings.any(|binding| binding.name == name)
    }

    fn name_captured(&self, prepared: &Prepared, drawn: &mut Drawn) {
        let parsed = &prepared.parsed;
        for mark in drawn.marks.iter_mut().filter(|mark| mark.cell == prepared.cell) {
            let at = mark.range.start;
            let mut statements = parsed.statements.iter().chain(&parsed.tail);
            let Some(statement) = statements.find(|statement| statement.contains(&at)) else {
                continue;
            };
            let is_variable = |name: &str| self.is_variable(prepared, name);
            let names = captured(&parsed.source, statement, at, &is_variable);
            if !names.is_empty() {
                mark.label = Some(format!("captures `{}`", names.join("`, `")));
            }
        }
    }

    fn explain_missing(&self, prepared: &Prepared, name: &str, drawn: &mut Drawn) {
        if prepared.outdated.contains(name) {
            drawn.notes = vec![
                Note::plain(format!(
                    "`{name}` is of a type that this cell defines anew, and is dropped when it runs"
                )),
                Note::hint(format!(
                    "take what you need of `{name}` in a cell of its own before, or make it again here"
                )),
            ];
            return;
        }
        if self.is_variable(prepared, name) {
            drawn.notes = vec![Note::hint(format!(
                "functions do not see variables of cells: pass `{name}` as an argument, or make it a `const` or `static`"
            ))];
            return;
        }
        if let Some(reason) = self.gone.get(name) {
            drawn.notes = reason.notes();
            return;
        }
        let is_assigned = |mark: &Mark| {
            let rest = prepared.parsed.source.get(mark.range.end..).unwrap_or_default();
            let rest = rest.trim_start();
            mark.cell == prepared.cell
                && rest.starts_with('=')
                && !rest.starts_with("==")
                && !rest.starts_with("=>")
        };
        if drawn
            .marks
            .iter()
            .any(|mark| mark.is_primary && is_assigned(mark))
        {
            drawn.notes = vec![Note::hint(format!("`let {name} = …` makes a variable"))];
            return;
        }
        if let Some((_, import)) = prepared.imports.iter().find(|(known, _)| known == name) {
            drawn
                .notes
                .insert(0, Note::hint(format!("import it: `{import}`")));
            return;
        }
        if let Some(notes) = self.aside_notes(prepared, name) {
            drawn.notes.splice(..0, notes);
        }
    }

    /// What is said of an item that was set aside.
    fn aside_notes(&self, prepared: &Prepared, name: &str) -> Option<[Note; 2]> {
        let dropped = prepared
            .dropped
            .iter()
            .map(|at| &prepared.candidates[*at])
            .map(|candidate| (candidate.cell, &candidate.definition));
        let mut aside = dropped.chain(self.aside.iter().map(|item| (item.cell, &item.definition)));
        let (cell, _) =
            aside.find(|(_, definition)| definition.keys.iter().any(|key| key.name() == Some(name)))?;
        Some([
            Note::plain(format!(
                "`{name}` of cell {cell} was set aside: it does not compile with newer definitions"
            )),
            Note::hint(format!("run cell {cell} again, adapted")),
        ])
    }

    /// Why a name is no variable any more, where the cell has nothing else of that name but what every cell has in scope.
    pub(crate) fn gone_for(&self, prepared: &Prepared, name: &str) -> Option<&Reason> {
        let is_item = prepared
            .candidates
            .iter()
            .any(|candidate| candidate.definition.provides.contains(name));
        self.gone
            .get(name)
            .filter(|_| !is_item && !self.is_variable(prepared, name))
    }

    /// A name of what every cell has in scope stands for an item of that name that was set aside, or a variable that is gone.
    fn explain_stand_in(&self, prepared: &Prepared, drawn: &mut Drawn) {
        let texts = drawn.marks.iter().filter(|mark| mark.cell == prepared.cell);
        let notes = texts
            .filter_map(|mark| prepared.parsed.source.get(mark.range.clone()))
            .filter(|text| !self.is_variable(prepared, text))
            .find_map(|text| {
                let aside = self.aside_notes(prepared, text).map(Vec::from);
                aside.or_else(|| self.gone_for(prepared, text).map(Reason::notes))
            });
        if let Some(notes) = notes.filter(|notes| !drawn.notes.contains(&notes[0])) {
            drawn.notes.splice(..0, notes);
        }
    }

    /// A pattern of a constant's name compares with it.
    fn explain_constant(&self, prepared: &Prepared, drawn: &mut Drawn) {
        let Some(mark) = drawn.marks.iter().find(|mark| mark.is_primary) else {
            return;
        };
        let text = prepared.parsed.source.get(mark.range.clone()).unwrap_or_default();
        let is_constant = |key: &Key| matches!(key, Key::Value(name) | Key::Type(name) if name == text);
        if let Some(item) = self
            .items
            .iter()
            .find(|item| item.definition.is_constant && item.definition.keys.iter().any(is_constant))
        {
            drawn.notes = vec![
                Note::plain(format!(
                    "`{text}` is a constant (cell {}), and a pattern of its name compares with it",
                    item.cell
                )),
                Note::hint("use another name for the variable"),
            ];
        }
    }
}

/// The statements of a cell stand in a closure that returns a `Result`, of which nobody who writes a cell
/// needs to know; and what is in scope has words of its own for what can go wrong with it.
fn about_the_cell(error: &Diagnostic, phrases: &[Phrase], drawn: &mut Drawn) {
    let says = |words: &str| error.message.contains(words);
    let is_labelled = |words: &str| {
        error
            .spans
            .iter()
            .any(|span| span.label.as_deref().is_some_and(|label| label.contains(words)))
    };
    let about = if says("the `?` operator can only be used on `Result`s, not `Option`s") {
        Some((
            "`?` takes a `Result` here, and this is an `Option`",
            "`.ok_or(\"…\")?` makes it one; `.unwrap()` takes the value",
        ))
    } else if error.code() == Some("E0308")
        && (is_labelled("skep::cell::Error") || is_labelled("skep::cell::DebugError"))
    {
        Some((
            "a cell has no value to return",
            "end it with the expression, without `return`",
        ))
    } else if error.code() == Some("E0267") {
        Some((
            "`break` and `continue` stand outside of a loop",
            "`return;` ends a cell",
        ))
    } else {
        phrases
            .iter()
            .find(|phrase| {
                is_labelled(phrase.says) || error.all_messages().any(|text| text.contains(phrase.says))
            })
            .map(|phrase| (phrase.message, phrase.hint))
    };
    let Some((message, hint)) = about else { return };
    (drawn.message, drawn.notes) = (message.to_string(), vec![Note::hint(hint)]);
    drawn.marks.retain(|mark| mark.is_primary);
    drawn.marks.iter_mut().for_each(|mark| mark.label = None);
}

/// For a cell that ends too early rustc speaks of the brace that stands behind it.
fn end_of_cell(prepared: &Prepared, drawn: &mut Drawn) {
    let end = prepared.parsed.source.trim_end().len();
    let is_behind = drawn
        .marks
        .iter()
        .filter(|mark| mark.is_primary)
        .all(|mark| mark.range.start >= end);
    if is_behind && drawn.message.contains("found `}`") {
        drawn.message = drawn.message.replace("found `}`", "found the end of the cell");
    }
    let is_unclosed = drawn.message.contains("unclosed delimiter")
        || drawn.message.starts_with("mismatched closing delimiter: `}`");
    if let (true, Some(open)) = (
        is_unclosed,
        crate::completeness::unclosed(&prepared.parsed.source),
    ) {
        drawn.message = format!("`{}` is never closed", &prepared.parsed.source[open..=open]);
        drawn.marks = vec![Mark {
            cell: prepared.cell,
            range: open..open + 1,
            is_primary: true,
            label: Some("opened here".to_string()),
        }];
    }
    if drawn.marks.is_empty() && end > 0 {
        let start = prepared.parsed.source[..end]
            .char_indices()
            .next_back()
            .map_or(0, |(at, _)| at);
        drawn.marks.push(Mark {
            cell: prepared.cell,
            range: start..end,
            is_primary: true,
            label: None,
        });
    }
    for mark in &mut drawn.marks {
        mark.range.end = mark.range.end.min(end.max(mark.range.start));
        if mark.label.as_deref().is_some_and(|label| label.contains('}')) {
            mark.label = None;
        }
    }
}
