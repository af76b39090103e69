//! Errors in the user's own lines: what rustc found, and where panics and failing `?` happened.

use std::{collections::BTreeMap, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use serde::Deserialize;

use crate::splice::{Spliced, offset_of};

/// A place in a cell, 1-based as people count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub cell: u32,
    /// How people call the cell: `cell 3`, or the file that it came from.
    pub title: String,
    pub line: usize,
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.title, self.line)
    }
}

/// An error reply: a short name, one sentence, and the drawn form with the user's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellError {
    pub name: String,
    pub message: String,
    /// Drawn without colour, and with ANSI colour.
    pub plain: String,
    pub styled: String,
    pub place: Option<Place>,
}

impl CellError {
    /// Its last hint, as the line that is drawn.
    pub fn hint(&self) -> Option<&str> {
        self.plain.lines().rfind(|line| line.starts_with("hint: "))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Diagnostic {
    pub message: String,
    pub level: String,
    pub code: Option<Code>,
    pub spans: Vec<Span>,
    pub children: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Code {
    pub code: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Span {
    pub file_name: String,
    pub line_start: usize,
    pub line_end: usize,
    pub column_start: usize,
    pub column_end: usize,
    pub is_primary: bool,
    pub label: Option<String>,
    pub suggested_replacement: Option<String>,
    pub expansion: Option<Box<Expansion>>,
    #[serde(default)]
    pub text: Vec<SpanText>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SpanText {
    pub text: String,
    pub highlight_start: usize,
    pub highlight_end: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Expansion {
    pub span: Span,
}

impl Diagnostic {
    /// The lines of a file that it is about.
    pub fn lines_in(&self, file: &str) -> Vec<usize> {
        let all = self
            .spans
            .iter()
            .chain(self.children.iter().flat_map(|child| &child.spans));
        all.filter(|span| span.is_primary && span.file_name == file)
            .map(|span| span.line_start)
            .collect()
    }

    pub fn is_error(&self) -> bool {
        self.level == "error" && !self.message.starts_with("aborting due to")
    }

    pub fn code(&self) -> Option<&str> {
        self.code.as_ref().map(|code| code.code.as_str())
    }

    /// What it says, and what its notes say.
    pub fn all_messages(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.message.as_str()).chain(self.children.iter().map(|child| child.message.as_str()))
    }

    /// The spans of this message and its notes, each at the place of the user's macro call rather than in the
    /// macro.
    pub fn all_spans(&self) -> impl Iterator<Item = &Span> {
        self.spans
            .iter()
            .chain(self.children.iter().flat_map(|child| &child.spans))
            .map(Span::outermost)
    }
}

impl Span {
    /// What the span covers, if that is one line.
    pub fn highlighted(&self) -> Option<String> {
        let [line] = self.text.as_slice() else { return None };
        Some(
            line.text
                .chars()
                .skip(line.highlight_start - 1)
                .take(line.highlight_end.saturating_sub(line.highlight_start))
                .collect(),
        )
    }

    pub fn outermost(&self) -> &Span {
        let mut span = self;
        while let Some(expansion) = &span.expansion {
            span = &expansion.span;
        }
        span
    }
}

/// What maps generated files back: the text of each cell, and each file's insertions.
pub(crate) struct Sources<'n> {
    pub texts: &'n BTreeMap<u32, String>,
    pub spliced: &'n BTreeMap<String, Spliced>,
    pub titles: &'n BTreeMap<u32, String>,
}

/// `cell-3.rs`, `cell-3.items.rs` and `cell-3.items-2.rs` are cell 3.
pub(crate) fn cell_of(file: &str) -> Option<u32> {
    let name = file
        .rsplit('/')
        .next()?
        .strip_prefix("cell-")?
        .strip_suffix(".rs")?;
    name.split('.').next()?.parse().ok()
}

/// Says `cell 3, line 2` where a text names a generated file and a line in it; `titles` are those of cells
/// that have one.
pub fn in_cells(text: &str, titles: &BTreeMap<u32, String>) -> String {
    Sources {
        texts: &BTreeMap::new(),
        spliced: &BTreeMap::new(),
        titles,
    }
    .in_cells(text)
}

impl Sources<'_> {
    fn title(&self, cell: u32) -> String {
        self.titles
            .get(&cell)
            .cloned()
            .unwrap_or_else(|| format!("cell {cell}"))
    }

    /// Says `cell 3, line 2` where a text names a generated file and a line in it: errors of tasks do.
    pub fn in_cells(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("cell-") {
            let (before, found) = rest.split_at(at);
            out.push_str(before);
            let end = found.find(".rs:").map(|end| end + 3);
            let place = end.and_then(|end| Some((cell_of(&found[..end])?, end)));
            let Some((cell, end)) = place else {
                out.push_str("cell-");
                rest = &found["cell-".len()..];
                continue;
            };
            let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
            let n_line = digits(&found[end + 1..]);
            let line = &found[end + 1..end + 1 + n_line];
            out.push_str(&format!("{}, line {line}", self.title(cell)));
            rest = &found[end + 1 + n_line..];
            if let Some(column) = rest.strip_prefix(':')
                && digits(column) > 0
            {
                rest = &column[digits(column)..];
            }
        }
        out.push_str(rest);
        out
    }

    /// The user's place for a 1-based generated one; none where the text is not the user's.
    pub fn place(&self, file: &str, line: usize, column: usize) -> Option<Place> {
        let cell = cell_of(file)?;
        let text = self.texts.get(&cell)?;
        let line = self
            .spliced
            .get(file)
            .map_or(line, |spliced| spliced.user_line(line));
        if line > text.split('\n').count() {
            return None;
        }
        let column = column.saturating_sub(1);
        let column = self
            .spliced
            .get(file)
            .map_or(column, |spliced| spliced.user_column(line, column));
        Some(Place {
            cell,
            title: self.title(cell),
            line,
            column: column + 1,
        })
    }

    fn range(&self, span: &Span) -> Option<(u32, Range<usize>)> {
        let start = self.place(&span.file_name, span.line_start, span.column_start)?;
        let text = &self.texts[&start.cell];
        let from = offset_of(text, start.line, start.column - 1);
        let to = match self.place(&span.file_name, span.line_end, span.column_end) {
            Some(end) => offset_of(text, end.line, end.column - 1),
            None => text.len(),
        };
        Some((start.cell, from..to.max(from)))
    }

    /// Draws errors, most important first: at most five, then a count.
    pub fn render(&self, errors: &[Drawn]) -> CellError {
        const MOST: usize = 5;
        let first = &errors[0];
        let mut plain = String::new();
        let mut styled = String::new();
        for error in errors.iter().take(MOST) {
            let report = [self.group(error)];
            let plain_renderer = Renderer::plain().decor_style(DecorStyle::Ascii);
            let styled_renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
            plain.push_str(&plain_renderer.render(&report));
            styled.push_str(&styled_renderer.render(&report));
            plain.push_str("\n\n");
            styled.push_str("\n\n");
        }
        if errors.len() > MOST {
            let rest = format!("… and {} more errors\n", errors.len() - MOST);
            plain.push_str(&rest);
            styled.push_str(&rest);
        }
        let place = first.marks.iter().find(|mark| mark.is_primary).map(|mark| {
            let text = &self.texts[&mark.cell];
            let before = &text[..mark.range.start];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            Place {
                cell: mark.cell,
                title: self.title(mark.cell),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
            }
        });
        CellError {
            name: first.name.clone(),
            message: first.message.clone(),
            plain: plain.trim_end().to_string(),
            styled: styled.trim_end().to_string(),
            place,
        }
    }

    fn group<'a>(&'a self, error: &'a Drawn) -> Group<'a> {
        let title = Level::ERROR.primary_title(error.message.as_str());
        let title = if error.name.starts_with('E') && error.name[1..].chars().all(|c| c.is_ascii_digit()) {
            title.id(error.name.as_str())
        } else {
            title
        };
        let mut group = Group::with_title(title);
        let mut cells: Vec<u32> = error.marks.iter().map(|mark| mark.cell).collect();
        cells.sort_by_key(|cell| {
            !error
                .marks
                .iter()
                .any(|mark| mark.cell == *cell && mark.is_primary)
        });
        cells.dedup();
        for cell in cells {
            let annotations = error.marks.iter().filter(|mark| mark.cell == cell).map(|mark| {
                let kind = if mark.is_primary {
                    AnnotationKind::Primary
                } else {
                    AnnotationKind::Context
                };
                kind.span(mark.range.clone()).label(mark.label.as_deref())
            });
            group = group.element(
                Snippet::source(self.texts[&cell].as_str())
                    .path(self.title(cell))
                    .annotations(annotations),
            );
        }
        for note in &error.notes {
            let level = match note {
                Note::Plain(_) => Level::NOTE,
                Note::Hint(_) => Level::HELP.with_name("hint"),
            };
            group = group.element(level.message(note.text()));
        }
        group
    }

    /// rustc's message in the user's terms.
    pub fn draw(&self, diagnostic: &Diagnostic) -> Drawn {
        let marks = diagnostic.spans.iter().filter_map(|span| {
            let (cell, range) = self.range(span.outermost())?;
            Some(Mark {
                cell,
                range,
                is_primary: span.is_primary,
                label: span.label.clone(),
            })
        });
        let mut drawn = Drawn {
            name: diagnostic.code().unwrap_or("error").to_string(),
            message: diagnostic.message.clone(),
            marks: marks.collect(),
            notes: Vec::new(),
        };
        // What a function of the library refuses at compile time is said of its own lines.
        let labels = diagnostic.spans.iter().filter_map(|span| span.label.as_deref());
        if drawn.marks.is_empty()
            && let Some((cell, range)) = labels.filter_map(closure_in).find_map(|place| self.range(&place))
        {
            drawn.marks.push(Mark {
                cell,
                range,
                is_primary: true,
                label: None,
            });
        }
        if !drawn.marks.iter().any(|mark| mark.is_primary)
            && let Some(mark) = drawn.marks.first_mut()
        {
            mark.is_primary = true;
        }
        for child in &diagnostic.children {
            let mut text = without_foreign_impls(&child.message);
            let replacements: Vec<&str> = child
                .spans
                .iter()
                .filter_map(|span| span.suggested_replacement.as_deref())
                .filter(|new| !new.trim().is_empty())
                .collect();
            let short: Vec<String> = replacements
                .iter()
                .map(|new| new.trim())
                .filter(|new| !new.contains('\n') && new.len() < 60)
                .map(|new| format!("`{new}`"))
                .collect();
            // Several are ways to choose from (imports), unless they belong together.
            let is_said = short
                .iter()
                .all(|new| text.contains(new.as_str()) || new.len() <= 5);
            if !is_said
                && short.len() == replacements.len()
                && (short.len() == 1 || short.len() > 1 && short.iter().all(|new| new.starts_with("`use ")))
            {
                text = format!("{text}: {}", short[..short.len().min(2)].join(" or "));
            }
            match child.level.as_str() {
                "help" => drawn.notes.push(Note::hint(text)),
                "note" if text.starts_with("`#[deny(") => {}
                "note"
                    if text.starts_with("the full name for the type has been written")
                        || text.contains("`--verbose`") => {}
                "note" => drawn.notes.push(Note::plain(text)),
                _ => {}
            }
        }
        drawn.notes.truncate(4);
        drawn
    }
}

/// Of the types that implement a trait, those are left out that nobody meant: what crates below Skep add to
/// numbers, and delayed operands.
fn without_foreign_impls(text: &str) -> String {
    if !text.contains("following other types implement") {
        return text.to_string();
    }
    let is_foreign = |line: &&str| {
        ["zerocopy::", "Delayed<", "rug::", "num_bigint::", "simd"]
            .iter()
            .any(|part| line.contains(part))
    };
    text.lines()
        .filter(|line| !is_foreign(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// An error on its way to be drawn.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub name: String,
    pub message: String,
    pub marks: Vec<Mark>,
    pub notes: Vec<Note>,
}

/// A line below the code of an error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    Plain(String),
    /// What to do about it.
    Hint(String),
}

impl Note {
    pub fn plain(text: impl Into<String>) -> Note {
        Note::Plain(text.into())
    }

    pub fn hint(text: impl Into<String>) -> Note {
        Note::Hint(text.into())
    }

    pub fn text(&self) -> &str {
        match self {
            Note::Plain(text) | Note::Hint(text) => text,
        }
    }
}

/// Why something is not there, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub what: String,
    pub hint: String,
}

impl Reason {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Reason {
        Reason {
            what: what.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn notes(&self) -> Vec<Note> {
        vec![Note::plain(&*self.what), Note::hint(&*self.hint)]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub cell: u32,
    pub range: Range<usize>,
    pub is_primary: bool,
    pub label: Option<String>,
}

/// The place of a closure, which is the name of its type: `{closure@cell-3.rs:1:49: 1:62}`.
fn closure_in(text: &str) -> Option<Span> {
    let (_, rest) = text.split_once("{closure@")?;
    let (start, end) = rest.split_once('}')?.0.split_once(": ")?;
    let mut start = start.rsplitn(3, ':');
    let (column_start, line_start, file_name) = (start.next()?, start.next()?, start.next()?);
    let (line_end, column_end) = end.split_once(':')?;
    Some(Span {
        file_name: file_name.to_string(),
        line_start: line_start.parse().ok()?,
        line_end: line_end.parse().ok()?,
        column_start: column_start.parse().ok()?,
        column_end: column_end.parse().ok()?,
        is_primary: true,
        label: None,
        suggested_replacement: None,
        expansion: None,
        text: Vec::new(),
    })
}

#[test]
fn a_closure_is_where_its_type_says() {
    let place =
        closure_in("evaluation of `conjure::<{closure@cell-3.rs:1:49: 1:62}>::{constant#0}` failed here")
            .unwrap();
    assert_eq!(
        (place.file_name.as_str(), place.line_start, place.column_start),
        ("cell-3.rs", 1, 49)
    );
    assert_eq!((place.line_end, place.column_end), (1, 62));
}

#[test]
fn places_in_generated_files_become_cells() {
    let titles = BTreeMap::from([(12, "tools.rs".to_string())]);
    let sources = Sources {
        texts: &BTreeMap::new(),
        spliced: &BTreeMap::new(),
        titles: &titles,
    };
    let text = "task `f` panicked at cell-3.items-1.rs:2:14 on worker-1: cell-x at cell-12.rs:7";
    assert_eq!(
        sources.in_cells(text),
        "task `f` panicked at cell 3, line 2 on worker-1: cell-x at tools.rs, line 7"
    );
}
