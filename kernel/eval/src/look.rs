//! What `:vars` says of a variable beyond its type: its length or shape, how much memory it takes, how it
//! begins.
//!
//! As in [`crate::show`], method lookup finds the best that a type has: `(&&&&&Look(&x)).__skep_look()`, and
//! for memory `(&&&Look(&x)).__skep_heap()`. The levels that need serde, clusters or Polars are added by
//! other crates.

use std::{
    any::Any,
    fmt::{self, Debug, Display, Write},
};

use skep_render::{Bundle, Rich, bytes, card::Card, count, short_type, text};

use crate::show::Listed;

pub struct Look<'a, T>(pub &'a T);

/// Empty where a type does not say.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// `3 elements`, `(1,000, 3)`.
    pub shape: String,
    pub preview: String,
}

/// As much of a value as a table has room for.
const PREVIEW: usize = 60;

impl Details {
    pub fn new(shape: impl Into<String>, preview: &str) -> Details {
        let line = preview.lines().next().unwrap_or_default();
        let cut = text::cut(line, PREVIEW);
        let is_cut = cut.ends_with('…') || preview.len() == line.len();
        Details {
            shape: shape.into(),
            preview: if is_cut { cut } else { cut + " …" },
        }
    }
}

pub trait LookRich {
    fn __skep_look(&self) -> Details;
}
impl<T: Rich> LookRich for &&&&Look<'_, T> {
    fn __skep_look(&self) -> Details {
        Details::new("", self.0.bundle().plain().lines().next().unwrap_or_default())
    }
}

pub trait LookList {
    fn __skep_look(&self) -> Details;
}
impl<T: Listed> LookList for &&&Look<'_, T> {
    fn __skep_look(&self) -> Details {
        let mut n = 0;
        self.0.with_entries(&mut |len, _, _| n = len);
        Details::new(elements(n), &beginning(&|out| write!(out, "{:?}", self.0)))
    }
}

pub trait LookDebug {
    fn __skep_look(&self) -> Details;
}
impl<T: Debug + 'static> LookDebug for &&Look<'_, T> {
    fn __skep_look(&self) -> Details {
        let shape = (self.0 as &dyn Any)
            .downcast_ref::<String>()
            .map(|text| skep_render::plural(text.chars().count(), "char"))
            .unwrap_or_default();
        Details::new(shape, &beginning(&|out| write!(out, "{:?}", self.0)))
    }
}

pub trait LookDisplay {
    fn __skep_look(&self) -> Details;
}
impl<T: Display> LookDisplay for &Look<'_, T> {
    fn __skep_look(&self) -> Details {
        Details::new("", &beginning(&|out| write!(out, "{}", self.0)))
    }
}

pub trait LookNothing {
    fn __skep_look(&self) -> Details;
}
impl<T> LookNothing for Look<'_, T> {
    fn __skep_look(&self) -> Details {
        Details::default()
    }
}

fn elements(n: usize) -> String {
    format!("{} long", count(n as u64))
}

/// Stops a value's own formatting early: a list of a billion numbers must not be written out.
#[inline(never)]
fn beginning(write: &dyn Fn(&mut dyn Write) -> fmt::Result) -> String {
    struct Short(String);
    impl Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.push_str(text);
            if self.0.len() > 8 * PREVIEW {
                Err(fmt::Error)
            } else {
                Ok(())
            }
        }
    }
    let mut short = Short(String::new());
    let _ = write(&mut short);
    short.0
}

/// Memory behind a value: what its vectors and strings hold, in bytes. `None` where that cannot be told.
pub trait HeapOfList {
    fn __skep_heap(&self) -> Option<u64>;
}
impl<T: Listed> HeapOfList for &Look<'_, T> {
    fn __skep_heap(&self) -> Option<u64> {
        Some(self.0.entry_bytes())
    }
}

pub trait HeapUnknown {
    fn __skep_heap(&self) -> Option<u64>;
}
impl<T> HeapUnknown for Look<'_, T> {
    fn __skep_heap(&self) -> Option<u64> {
        // What has nothing to drop has nothing elsewhere.
        (!std::mem::needs_drop::<T>()).then_some(0)
    }
}

/// A line of `:vars`.
pub struct Row([String; 6]);

pub fn row<T>(name: &str, from: &str, place: &str, _: &T, details: Details, heap: Option<u64>) -> Row {
    row_of(
        name,
        from,
        place,
        std::any::type_name::<T>(),
        size_of::<T>() as u64,
        details,
        heap,
    )
}

#[inline(never)]
fn row_of(
    name: &str,
    from: &str,
    place: &str,
    type_name: &str,
    own: u64,
    details: Details,
    heap: Option<u64>,
) -> Row {
    let size = match heap {
        Some(heap) => bytes(own + heap),
        None => format!("≥ {}", bytes(own)),
    };
    let shape = if details.shape.is_empty() {
        place.to_string()
    } else {
        details.shape
    };
    Row([
        name.to_string(),
        short_type(type_name),
        shape,
        size,
        details.preview,
        from.to_string(),
    ])
}

/// Shows the lines as the card of `:vars`; `n` variables there are.
pub fn show_rows(n: usize, rows: Vec<Row>) {
    let n_left_out = n - rows.len();
    let head = ["name", "type", "shape", "size", "value", "from"];
    let card = Card::new(format!("Variables: {n}"))
        .table(head, rows.into_iter().map(|row| row.0))
        .cut_cells();
    let card = if n_left_out > 0 {
        card.note(format!("the newest; {n_left_out} older ones are not shown"))
    } else {
        card
    };
    crate::link::result(card.bundle());
}

/// The same before a variable could be looked at: types alone.
pub fn plain_rows(rows: impl IntoIterator<Item = [String; 4]>, why: &str) -> Bundle {
    let rows: Vec<[String; 4]> = rows.into_iter().collect();
    Card::new(format!("Variables: {}", rows.len()))
        .table(["name", "type", "size", "from"], rows)
        .note(why)
        .bundle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::needless_borrow,
        reason = "as generated code writes it, whatever the type"
    )]
    fn the_best_that_a_type_has_is_said() {
        struct Plain;
        let details = (&&&&&Look(&vec![1, 2, 3])).__skep_look();
        assert_eq!(
            (details.shape.as_str(), details.preview.as_str()),
            ("3 long", "[1, 2, 3]")
        );
        let details = (&&&&&Look(&"naïve".to_string())).__skep_look();
        assert_eq!(
            (details.shape.as_str(), details.preview.as_str()),
            ("5 chars", "\"naïve\"")
        );
        assert_eq!((&&&&&Look(&Plain)).__skep_look().preview, "");
        let long = (&&&&&Look(&vec![7u64; 50_000_000])).__skep_look().preview;
        assert!(
            long.starts_with("[7, 7") && text::width(&long) <= PREVIEW,
            "{long}"
        );
        assert_eq!((&&&Look(&vec![0u64; 1000])).__skep_heap(), Some(8000));
        assert_eq!(
            (
                (&&&Look(&1u8)).__skep_heap(),
                (&&&Look(&Box::new(1u8))).__skep_heap()
            ),
            (Some(0), None)
        );
    }
}
