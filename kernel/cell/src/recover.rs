//! What is learnt from a compiler's errors, so that the next try does without: what a cell moves or lends
//! out, which older items no longer compile or were replaced, what a macro call is.
//!
//! Errors in the user's own text are the user's. All else is the notebook's business: an item of an earlier
//! cell can fail a cell only if that cell needs it.

use std::collections::BTreeSet;

use crate::{
    model::{From, Prepared, Unkept},
    program::{Notebook, plain_error},
    report::{CellError, Diagnostic, Span, cell_of},
    splice::offset_of,
};

/// Something is there twice; the newer one stays.
const DUPLICATES: [&str; 7] = ["E0119", "E0252", "E0254", "E0255", "E0260", "E0428", "E0592"];
pub(crate) const BORROWS: [&str; 12] = [
    "E0310", "E0373", "E0499", "E0502", "E0505", "E0506", "E0515", "E0521", "E0597", "E0700", "E0712",
    "E0716",
];

/// Whose text an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Culprit {
    /// The cell's own statements and items.
    Own,
    /// A candidate of an earlier cell.
    Item(usize),
    /// Text that nobody wrote.
    Generated,
}

impl Notebook {
    /// Changes what is compiled next, by what these errors tell. False if they are the user's.
    pub(crate) fn recover(&self, prepared: &mut Prepared, errors: &[Diagnostic]) -> Result<bool, CellError> {
        if prepared.is_broken {
            return Ok(false);
        }
        // `*m.lock()?`: an error that borrows a variable may leave the cell as its text, and the variable stays.
        if !prepared.takes_debug_errors && errors.iter().any(|error| lends_to_question_mark(prepared, error))
        {
            prepared.takes_debug_errors = true;
            return Ok(true);
        }
        // Whatever is wrong: a value that nobody asked to keep must not be the reason.
        let output = prepared.output.clone();
        let is_learnt = learn_what_is_kept(prepared, errors);
        if output.is_some_and(|output| !is_learnt || prepared.unkept.remove(&output).is_some())
            && prepared.give_up_output()
        {
            return Ok(true);
        }
        if is_learnt || self.learn_what_is_hidden(prepared, errors)? {
            self.select(prepared);
            return Ok(true);
        }
        if prepared.shows_itself
            && errors
                .iter()
                .any(|error| error.code() == Some("E0599") && error.message.contains("`evcxr_display`"))
        {
            prepared.shows_itself = false;
            return Ok(true);
        }
        let is_never = |error: &Diagnostic| error.message.starts_with("the trait bound `!: ");
        if prepared.shows_tail && errors.iter().any(is_never) {
            // Nothing says what type the value has, or there never is one: it may run all the same.
            prepared.shows_tail = false;
            let first = self.report(prepared, errors);
            prepared.first_error.get_or_insert(first);
            return Ok(true);
        }
        if self.give_way_to_binding(prepared, errors) || self.replace_older(prepared, errors) {
            self.select(prepared);
            return Ok(true);
        }
        if !prepared.takes_all && self.lacks_something(prepared, errors) {
            prepared.takes_all = true;
            self.select(prepared);
            return Ok(true);
        }
        if self.drop_broken(prepared, errors) {
            self.select(prepared);
            return Ok(true);
        }
        if !prepared.takes_debug_errors && errors.iter().any(|error| is_about_question_mark(prepared, error))
        {
            prepared.takes_debug_errors = true;
            return Ok(true);
        }
        self.take_macro_for_statement(prepared, errors)
    }

    fn culprit(&self, prepared: &Prepared, span: &Span) -> Culprit {
        if span.file_name == prepared.root {
            let column = span.column_start - 1;
            let prologue = self
                .spliced
                .get(&prepared.root)
                .map_or(0, |root| root.prologue_width());
            return match prepared
                .pieces
                .iter()
                .find(|(columns, _)| span.line_start == 1 && columns.contains(&column))
            {
                Some((_, at)) => Culprit::Item(*at),
                None if span.line_start == 1 && column < prologue => Culprit::Generated,
                None if self
                    .sources()
                    .place(&span.file_name, span.line_start, span.column_start)
                    .is_none() =>
                {
                    Culprit::Generated
                }
                None => Culprit::Own,
            };
        }
        let Some(place) = self
            .sources()
            .place(&span.file_name, span.line_start, span.column_start)
        else {
            return Culprit::Generated;
        };
        if cell_of(&span.file_name) == Some(prepared.cell) {
            return Culprit::Own;
        }
        let at = offset_of(&self.texts[&place.cell], place.line, place.column - 1);
        let is_here = |at_item: &&usize| {
            let candidate = &prepared.candidates[**at_item];
            candidate.cell == place.cell
                && candidate.from != From::Own
                && (candidate.definition.range.contains(&at) || candidate.definition.range.end == at)
        };
        prepared
            .included
            .iter()
            .find(is_here)
            .map_or(Culprit::Generated, |at| Culprit::Item(*at))
    }

    fn primary_culprit(&self, prepared: &Prepared, error: &Diagnostic) -> Culprit {
        let span = error
            .spans
            .iter()
            .find(|span| span.is_primary)
            .or_else(|| error.spans.first());
        span.map_or(Culprit::Generated, |span| {
            self.culprit(prepared, span.outermost())
        })
    }

    /// A variable whose name a constant has by now cannot come in: a pattern of that name compares. The newer
    /// of the two stays.
    fn learn_what_is_hidden(
        &self,
        prepared: &mut Prepared,
        errors: &[Diagnostic],
    ) -> Result<bool, CellError> {
        let mut has_learnt = false;
        for error in errors
            .iter()
            .filter(|error| matches!(error.code(), Some("E0005" | "E0530" | "E0308" | "E0532")))
        {
            let generated: Vec<&Span> = error
                .spans
                .iter()
                .filter(|span| span.is_primary && self.culprit(prepared, span) == Culprit::Generated)
                .collect();
            for span in generated {
                let Some(name) = span.highlighted().filter(|name| prepared.uses.contains(name)) else {
                    continue;
                };
                let variable = self.variables[&name].cell;
                let is_older = |at: &&usize| {
                    prepared.candidates[**at].definition.provides.contains(&name)
                        && prepared.candidates[**at].cell < variable
                };
                if let Some(at) = prepared.included.iter().find(is_older) {
                    let constant = prepared.candidates[*at].cell;
                    let message = format!(
                        "`{name}` is a variable (cell {variable}), and a constant (cell {constant}) that this cell needs as well"
                    );
                    return Err(plain_error(
                        "NameConflict",
                        &message,
                        &format!(
                            "give the variable another name: `let other = {name};` in a cell of its own"
                        ),
                    ));
                }
                prepared.uses.retain(|used| *used != name);
                has_learnt |= prepared.hidden.insert(name);
            }
        }
        Ok(has_learnt)
    }

    /// `let PI = …` after `use …::PI`: a pattern of an imported constant's name compares with it. The newer
    /// of the two stays.
    fn give_way_to_binding(&self, prepared: &mut Prepared, errors: &[Diagnostic]) -> bool {
        let mut has_learnt = false;
        for error in errors
            .iter()
            .filter(|error| matches!(error.code(), Some("E0005" | "E0308" | "E0530")))
        {
            let own = error
                .spans
                .iter()
                .filter(|span| self.culprit(prepared, span) == Culprit::Own)
                .filter_map(Span::highlighted);
            let is_bound = |name: &String| {
                prepared
                    .parsed
                    .bindings
                    .iter()
                    .any(|binding| binding.name == *name && binding.is_whole)
            };
            for name in own.filter(is_bound).collect::<Vec<_>>() {
                let is_import = |at: &&usize| {
                    let candidate = &prepared.candidates[**at];
                    candidate.from != From::Own
                        && candidate.definition.leaf.is_some()
                        && candidate.definition.provides.contains(&name)
                };
                if let Some(at) = prepared.included.iter().find(is_import).copied() {
                    has_learnt |= prepared.yielded.insert(at);
                }
            }
        }
        has_learnt
    }

    /// Of two things that cannot both be there, the older one goes.
    fn replace_older(&self, prepared: &mut Prepared, errors: &[Diagnostic]) -> bool {
        let mut has_learnt = false;
        for error in errors
            .iter()
            .filter(|error| error.code().is_some_and(|code| DUPLICATES.contains(&code)))
        {
            let culprits: BTreeSet<usize> = error
                .all_spans()
                .filter_map(|span| match self.culprit(prepared, span) {
                    Culprit::Item(at) => Some(at),
                    _ => None,
                })
                .collect();
            let is_rivalled = culprits.len() > 1
                || error
                    .all_spans()
                    .any(|span| self.culprit(prepared, span) == Culprit::Own);
            if let Some(oldest) = culprits
                .into_iter()
                .min_by_key(|at| prepared.candidates[*at].cell)
                .filter(|_| is_rivalled)
            {
                has_learnt |= prepared.yielded.insert(oldest);
            }
        }
        has_learnt
    }

    /// Whether what an error misses could be in an item that was not taken.
    fn lacks_something(&self, prepared: &Prepared, errors: &[Diagnostic]) -> bool {
        let is_out = |at: &usize| {
            !prepared.included.contains(at)
                && !prepared.dropped.contains(at)
                && !prepared.yielded.contains(at)
        };
        let left: Vec<usize> = (0..prepared.candidates.len())
            .filter(is_out)
            .filter(|at| prepared.candidates[*at].from == From::Live)
            .collect();
        if left.is_empty() {
            return false;
        }
        errors.iter().any(|error| {
            if matches!(self.primary_culprit(prepared, error), Culprit::Item(at) if prepared.candidates[at].from == From::Live) {
                return true;
            }
            let said = error.spans.iter().filter_map(|span| span.label.as_deref()).chain([error.message.as_str()]);
            let words: BTreeSet<&str> = said
                .flat_map(|text| text.split('`').skip(1).step_by(2))
                .flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_')))
                .filter(|word| !word.is_empty())
                .collect();
            left.iter().any(|at| {
                let definition = &prepared.candidates[*at].definition;
                words.iter().any(|word| definition.mentions.contains(*word) || definition.provides.contains(*word))
            })
        })
    }

    /// Leaves out older items that do not compile with this cell's: first those that the cell can do without.
    fn drop_broken(&self, prepared: &mut Prepared, errors: &[Diagnostic]) -> bool {
        let mut broken = BTreeSet::new();
        for error in errors {
            if let Culprit::Item(at) = self.primary_culprit(prepared, error) {
                broken.insert(at);
            }
        }
        let needed = |at: &usize| prepared.core.contains(at) && prepared.candidates[*at].from == From::Live;
        let spare: Vec<usize> = broken.iter().copied().filter(|at| !needed(at)).collect();
        if !spare.is_empty() {
            prepared.dropped.extend(spare);
            return true;
        }
        if broken.is_empty() {
            return false;
        }
        // The cell mentions it, which need not mean that it uses it.
        let first = self.report(prepared, errors);
        prepared.first_error.get_or_insert(first);
        prepared.dropped.extend(broken);
        true
    }

    /// What looked like items may have been statements.
    fn take_macro_for_statement(
        &self,
        prepared: &mut Prepared,
        errors: &[Diagnostic],
    ) -> Result<bool, CellError> {
        let text = &self.texts[&prepared.cell];
        let is_inside = |range: &std::ops::Range<usize>| {
            errors
                .iter()
                .flat_map(|error| error.spans.iter().map(Span::outermost))
                .any(|span| {
                    let place = self
                        .sources()
                        .place(&span.file_name, span.line_start, span.column_start)
                        .filter(|place| place.cell == prepared.cell);
                    place.is_some_and(|place| range.contains(&offset_of(text, place.line, place.column - 1)))
                })
        };
        let Some(range) = prepared
            .parsed
            .guessed
            .iter()
            .find(|range| is_inside(range))
            .cloned()
        else {
            return Ok(false);
        };
        if prepared.first_error.is_none() {
            prepared.first_error = Some(self.report(prepared, errors));
        }
        prepared.guess.are_statements.push(range);
        self.prepare_again(prepared)?;
        Ok(true)
    }
}

/// What the cell moves away, or what borrows, cannot be kept.
fn learn_what_is_kept(prepared: &mut Prepared, errors: &[Diagnostic]) -> bool {
    let mut has_learnt = false;
    for error in errors {
        let Some(code) = error.code() else { continue };
        let kept_at = |span: &Span| {
            prepared
                .put_lines
                .get(&span.line_start)
                .filter(|_| span.file_name == prepared.root)
                .cloned()
        };
        let is_lent = |span: &&Span| {
            span.label.as_deref().is_some_and(|label| {
                label.contains("'static")
                    || label.contains("later used here")
                    || label.contains("argument requires")
            })
        };
        let borrower = BORROWS
            .contains(&code)
            .then(|| {
                error
                    .all_spans()
                    .filter(is_lent)
                    .find_map(kept_at)
                    .filter(|kept| !kept.is_restore)
            })
            .flatten();
        if let Some(kept) = borrower {
            has_learnt |= prepared.unkept.insert(kept.name, Unkept::Borrows).is_none();
            continue;
        }
        if !matches!(code, "E0382" | "E0381" | "E0505" | "E0507") {
            continue;
        }
        for kept in error
            .spans
            .iter()
            .filter(|span| span.is_primary)
            .filter_map(kept_at)
            .collect::<Vec<_>>()
        {
            has_learnt |= if kept.is_restore {
                prepared.moved.insert(kept.name)
            } else {
                prepared.unkept.insert(kept.name, Unkept::Moved).is_none()
            };
        }
    }
    has_learnt
}

/// What stands before a `?` lends a variable to the error that would leave the cell.
fn lends_to_question_mark(prepared: &Prepared, error: &Diagnostic) -> bool {
    let stands_before_it = |span: &Span| {
        span.highlighted()
            .is_some_and(|text| prepared.parsed.source.contains(&format!("{text}?")))
    };
    lent_for_good(error).any(stands_before_it)
}

/// Where an error says that something is borrowed for as long as the program runs.
fn lent_for_good(error: &Diagnostic) -> impl Iterator<Item = &Span> {
    let is_borrow = error.code().is_some_and(|code| BORROWS.contains(&code));
    error.all_spans().filter(move |span| {
        is_borrow
            && span
                .label
                .as_deref()
                .is_some_and(|label| label.contains("'static"))
    })
}

/// An error that `?` met has `Debug` alone, or borrows.
fn is_about_question_mark(prepared: &Prepared, error: &Diagnostic) -> bool {
    let has_question_mark = || {
        prepared
            .parsed
            .statements
            .iter()
            .any(|range| prepared.parsed.source[range.clone()].contains('?'))
    };
    let is_conversion =
        error.code() == Some("E0277") && error.message.starts_with("`?` couldn't convert the error");
    (is_conversion || lent_for_good(error).next().is_some()) && has_question_mark()
}
