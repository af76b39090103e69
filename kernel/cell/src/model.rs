//! What a notebook knows of its cells, variables and items, and of the cell that it is about to compile.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    definition::Definition,
    parse::{Guess, Parsed},
    report::CellError,
    task_library::TaskLibrary,
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

#[derive(Clone)]
pub(crate) struct LiveItem {
    pub cell: u32,
    pub definition: Arc<Definition>,
}

/// The statements of a cell, kept to infer its variables' types again.
pub(crate) struct Statements {
    pub text: String,
    pub mentions: BTreeSet<String>,
    pub uses: Vec<(String, Origin)>,
}

#[derive(Clone)]
pub(crate) struct Origin {
    pub path: Option<String>,
    pub cell: u32,
    pub is_mutable: bool,
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
    /// Whether the value of the last expression becomes a variable, see [`crate::output_name`].
    pub keeps_value: bool,
    /// Whether workers may soon call its functions: then libraries of them are asked for.
    pub for_workers: bool,
}

/// A cell that is ready to be compiled.
pub struct Prepared {
    pub cell: u32,
    pub(crate) cell_id: Option<String>,
    pub(crate) purpose: Purpose,
    pub(crate) level: u8,
    pub(crate) parsed: Parsed,
    pub(crate) guess: Guess,
    pub(crate) root: String,
    pub(crate) uses: Vec<String>,
    /// All items that could be part of this cell's program.
    pub(crate) candidates: Vec<Candidate>,
    /// Of those, the ones that are, and the ones it cannot do without.
    pub(crate) included: BTreeSet<usize>,
    pub(crate) core: BTreeSet<usize>,
    /// Items that do not compile with this cell's.
    pub(crate) dropped: BTreeSet<usize>,
    /// Items that a newer one of the same name has replaced.
    pub(crate) yielded: BTreeSet<usize>,
    /// Whether reaching by name found too little, so that all items are taken.
    pub(crate) takes_all: bool,
    /// Whether the last expression is shown by its own `evcxr_display`, as in notebooks written for evcxr.
    pub(crate) shows_itself: bool,
    /// Whether the last expression has a value to show.
    pub(crate) shows_tail: bool,
    /// The variable that the last expression's value becomes.
    pub(crate) output: Option<String>,
    /// Whether `?` takes errors that have `Debug` alone.
    pub(crate) takes_debug_errors: bool,
    /// Variables this cell moves.
    pub(crate) moved: BTreeSet<String>,
    /// Bindings that cannot be kept, and why.
    pub(crate) unkept: BTreeMap<String, Unkept>,
    /// Variables that a newer item of the same name has replaced.
    pub(crate) hidden: BTreeSet<String>,
    /// Line of the root file → the variable that is kept there.
    pub(crate) put_lines: BTreeMap<usize, Kept>,
    /// Variables of a type that this cell defines anew: what they hold is of the old one.
    pub(crate) outdated: BTreeSet<String>,
    /// Columns of the first line → the item that stands there.
    pub(crate) pieces: Vec<(Range<usize>, usize)>,
    pub(crate) is_broken: bool,
    /// The epoch that begins with this cell, if it changes a layout.
    pub(crate) epoch: u32,
    /// A `use` line for names that the cell misses.
    pub(crate) imports: Vec<(String, String)>,
    /// What is said if nothing helps.
    pub(crate) first_error: Option<CellError>,
    pub(crate) for_workers: bool,
    /// The library of its functions for workers, where one is wanted.
    pub(crate) tasks: Option<TaskLibrary>,
}

/// An item, and which of the notebook's lists it is from.
pub(crate) struct Candidate {
    pub cell: u32,
    pub definition: Arc<Definition>,
    pub from: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Own,
    Live,
    Aside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    Moved,
    Borrows,
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
    /// Counts changes of layouts: types of cells are the same types within an epoch.
    pub epoch: u32,
}

impl Prepared {
    pub fn entry(&self) -> String {
        format!("skep_cell_{}", self.cell)
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// Goes on without keeping the value of the last expression. False if it was not to be kept.
    pub(crate) fn give_up_output(&mut self) -> bool {
        let Some(name) = self.output.take() else {
            return false;
        };
        self.parsed.bindings.retain(|binding| binding.name != name);
        true
    }

    /// Nothing to run: no statement and no item.
    pub fn is_empty(&self) -> bool {
        !self.is_broken && self.parsed.is_empty()
    }
}
