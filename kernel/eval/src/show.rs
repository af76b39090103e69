//! Showing the tail expression of a cell by the richest renderer that its type has.
//!
//! A cell ends with `(&&&&&&&Show(&(tail))).__skep_show()`. Method lookup tries the impls in order of
//! references: one that another crate adds for types that are not its own (`&&&&&&Show`), [`Rich`], lists,
//! `Debug`, `Display`, nothing. One compilation serves all, and the tail is borrowed, not moved.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt::{self, Debug, Display, Write},
    future::Future,
};

use skep_render::{Bundle, Message, Rich};

pub struct Show<'a, T: ?Sized>(pub &'a T);

pub trait ShowRich {
    fn __skep_show(&self);
}
impl<T: Rich + ?Sized> ShowRich for &&&&&Show<'_, T> {
    fn __skep_show(&self) {
        crate::link::result(self.0.bundle());
    }
}

pub trait ShowStd {
    fn __skep_show(&self);
}
impl<T: OfStd> ShowStd for &&&&Show<'_, T> {
    fn __skep_show(&self) {
        self.0.show();
    }
}

pub trait ShowDebug {
    fn __skep_show(&self);
}
impl<T: Debug> ShowDebug for &&&Show<'_, T> {
    fn __skep_show(&self) {
        show_debug(self.0);
    }
}

pub trait ShowDisplay {
    fn __skep_show(&self);
}
impl<T: Display> ShowDisplay for &&Show<'_, T> {
    fn __skep_show(&self) {
        show_display(self.0);
    }
}

pub trait ShowFuture {
    fn __skep_show(&self);
}
impl<T: Future> ShowFuture for &Show<'_, T> {
    fn __skep_show(&self) {
        show_future();
    }
}

pub trait ShowNothing {
    fn __skep_show(&self);
}
impl<T: ?Sized> ShowNothing for Show<'_, T> {
    fn __skep_show(&self) {
        show_name(std::any::type_name::<T>());
    }
}

// Not generic, as nothing should be that need not: what is generic is compiled again in every cell.

#[inline(never)]
fn show_name(type_name: &str) {
    // `display(x)` as the last line has shown what there is.
    if type_name == "skep_eval::display::DisplayHandle" {
        return;
    }
    let name = skep_render::short_type(type_name);
    let is_closure = type_name.contains("{{closure}}") || type_name.contains("dyn core::ops::function::Fn");
    let is_function = type_name.starts_with("cell::") && !name.starts_with(char::is_uppercase);
    if is_closure || is_function {
        let what = if is_closure { "a closure" } else { "a function" };
        return crate::link::result(Bundle::text(format!(
            "{what}, `{name}`: call it to see what it gives"
        )));
    }
    crate::link::result(Bundle::text(
        Message::new(format!("a value of type `{name}`, which has no text form"))
            .hint("`#[derive(Debug)]` gives a type of yours one")
            .to_string(),
    ));
}

#[inline(never)]
fn show_future() {
    crate::link::result(Bundle::text(
        Message::new("a future, which does nothing until it is awaited")
            .hint("add `.await`")
            .to_string(),
    ));
}

#[inline(never)]
fn show_display(value: &dyn Display) {
    crate::link::result(Bundle::text(value.to_string()));
}

#[inline(never)]
fn show_debug(value: &dyn Debug) {
    if let Some(bundle) = debug_bundle(value) {
        crate::link::result(bundle);
    }
}

#[inline(never)]
fn show_list(
    whole: &dyn Debug,
    len: usize,
    brackets: Brackets,
    entries: &mut dyn Iterator<Item = Entry<'_>>,
) {
    crate::link::result(if len <= MOST_ENTRIES {
        match wrapped(len, brackets, entries) {
            Some(text) => Bundle::text(text),
            None => debug_bundle(whole).unwrap_or_default(),
        }
    } else {
        Bundle::text(cut_list(len, brackets, entries))
    });
}

/// An entry that is no wider stands in a line with others.
const WIDEST_IN_LINE: usize = 24;

/// A list of short entries that one line cannot hold: in lines of equal columns. `None` where it is no such list.
fn wrapped(len: usize, brackets: Brackets, entries: &mut dyn Iterator<Item = Entry<'_>>) -> Option<String> {
    let mut texts = Vec::with_capacity(len);
    for entry in entries {
        let Entry::Item(item) = entry else { return None };
        let text = format!("{item:?}");
        if text.contains('\n') || skep_render::text::width(&text) > WIDEST_IN_LINE {
            return None;
        }
        texts.push(text);
    }
    let widths = texts.iter().map(|text| skep_render::text::width(text));
    let (total, widest) = widths.fold((2, 0), |(total, widest), width| {
        (total + width + 2, widest.max(width))
    });
    let columns = skep_render::text::columns();
    let in_line = (columns - 1) / (widest + 2);
    if total - 2 <= columns || in_line < 3 {
        return None;
    }
    let is_number = |text: &String| text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let are_numbers = texts.iter().all(is_number);
    let space = |text: &String| " ".repeat(widest - skep_render::text::width(text));
    let line = |some: &[String]| {
        let mut line = String::new();
        for (i, text) in some.iter().enumerate() {
            let is_last = i + 1 == some.len();
            let comma = if is_last { "" } else { ", " };
            match are_numbers {
                true => line.extend([&space(text), text.as_str(), comma]),
                false if is_last => line.push_str(text),
                false => line.extend([text.as_str(), comma, &space(text)]),
            }
        }
        line
    };
    let lines: Vec<String> = texts.chunks(in_line).map(line).collect();
    Some(format!("{}{}{}", brackets.0, lines.join(",\n "), brackets.1))
}

/// One line while it fits the columns, else indented. `()` shows nothing, so that a tail like `x.push(1)` is
/// silent.
#[inline(never)]
fn debug_bundle(value: &dyn Debug) -> Option<Bundle> {
    let line = format!("{value:?}");
    if line == "()" {
        return None;
    }
    let text = if skep_render::text::width(&line) <= skep_render::text::columns() || is_flat(value) {
        line
    } else {
        format!("{value:#?}")
    };
    Some(Bundle::text(text))
}

/// Sequences of numbers read better wrapped than one to a line; their pretty form is as long as they are.
fn is_flat(value: &dyn Debug) -> bool {
    /// Counts lines, and stops at a thousand.
    struct Lines(usize);
    impl Write for Lines {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.matches('\n').count();
            if self.0 > 1000 { Err(fmt::Error) } else { Ok(()) }
        }
    }
    write!(Lines(0), "{value:#?}").is_err()
}

/// A list that is longer shows its two ends and its length.
const MOST_ENTRIES: usize = 200;
const SHOWN_AT_EACH_END: usize = 20;
/// A single entry may be long as well, in characters.
const MOST_OF_ENTRY: usize = 200;

pub type Brackets = (&'static str, &'static str);

/// An element, or a key and its value.
pub enum Entry<'a> {
    Item(&'a dyn Debug),
    Pair(&'a dyn Debug, &'a dyn Debug),
}

/// Types of the standard library that are shown in a way of their own: lists are shortened, and numbers and
/// text are written by code that is here already. Their `Debug` is inlined into every cell, which costs the
/// compiler 17 ms.
pub trait OfStd {
    fn show(&self);
}

macro_rules! shown_from_here {
    ($($t:ty)*) => { $(impl OfStd for $t {
        fn show(&self) {
            show_debug(self);
        }
    })* };
}
shown_from_here!(bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize String &str);

/// Takes the length, the brackets and the entries of a list.
pub type WithEntries<'f> = dyn FnMut(usize, Brackets, &mut dyn Iterator<Item = Entry<'_>>) + 'f;

/// Lists, which are shortened where they are long.
pub trait Listed: Debug {
    fn with_entries(&self, f: &mut WithEntries<'_>);

    /// Memory of the entries themselves, without what they point to.
    fn entry_bytes(&self) -> u64;
}

fn show_listed<T: Listed>(list: &T) {
    list.with_entries(&mut |len, brackets, entries| show_list(list, len, brackets, entries));
}

macro_rules! listed {
    ($($t:ty, [$($p:ident),*], $brackets:expr;)*) => { $(impl<T: Debug $(, $p)*> OfStd for $t {
        fn show(&self) {
            show_listed(self);
        }
    }

    impl<T: Debug $(, $p)*> Listed for $t {
        fn with_entries(&self, f: &mut WithEntries<'_>) {
            f(self.len(), $brackets, &mut self.iter().map(|item| Entry::Item(item)));
        }

        fn entry_bytes(&self) -> u64 {
            (self.len() * size_of::<T>()) as u64
        }
    })* };
}
listed! {
    Vec<T>, [], ("[", "]");
    &[T], [], ("[", "]");
    VecDeque<T>, [], ("[", "]");
    BTreeSet<T>, [], ("{", "}");
    HashSet<T, S>, [S], ("{", "}");
}

/// A result that nobody took apart: the value, or the error's words.
impl<T: Rich, E: Display> OfStd for Result<T, E> {
    fn show(&self) {
        crate::link::result(match self {
            Ok(value) => value.bundle(),
            Err(error) => failed(error),
        });
    }
}

impl<T: Debug, const N: usize> OfStd for [T; N] {
    fn show(&self) {
        show_listed(self);
    }
}

impl<T: Debug, const N: usize> Listed for [T; N] {
    fn with_entries(&self, f: &mut WithEntries<'_>) {
        f(N, ("[", "]"), &mut self.iter().map(|item| Entry::Item(item)));
    }

    fn entry_bytes(&self) -> u64 {
        0
    }
}

impl<K: Debug, V: Debug> OfStd for BTreeMap<K, V> {
    fn show(&self) {
        show_listed(self);
    }
}

impl<K: Debug, V: Debug> Listed for BTreeMap<K, V> {
    fn with_entries(&self, f: &mut WithEntries<'_>) {
        f(
            self.len(),
            ("{", "}"),
            &mut self.iter().map(|(key, value)| Entry::Pair(key, value)),
        );
    }

    fn entry_bytes(&self) -> u64 {
        (self.len() * size_of::<(K, V)>()) as u64
    }
}

impl<K: Debug, V: Debug, S> OfStd for HashMap<K, V, S> {
    fn show(&self) {
        show_listed(self);
    }
}

impl<K: Debug, V: Debug, S> Listed for HashMap<K, V, S> {
    fn with_entries(&self, f: &mut WithEntries<'_>) {
        f(
            self.len(),
            ("{", "}"),
            &mut self.iter().map(|(key, value)| Entry::Pair(key, value)),
        );
    }

    fn entry_bytes(&self) -> u64 {
        (self.len() * size_of::<(K, V)>()) as u64
    }
}

fn cut_list(len: usize, (open, close): Brackets, entries: &mut dyn Iterator<Item = Entry<'_>>) -> String {
    let short = |entry: Entry<'_>| {
        let text = match entry {
            Entry::Item(item) => format!("{item:?}"),
            Entry::Pair(key, value) => format!("{key:?}: {value:?}"),
        };
        if text.chars().count() <= MOST_OF_ENTRY {
            text
        } else {
            text.chars().take(MOST_OF_ENTRY).collect::<String>() + "…"
        }
    };
    let is_shown = |at: &usize| *at < SHOWN_AT_EACH_END || *at >= len - SHOWN_AT_EACH_END;
    let shown: Vec<String> = entries
        .enumerate()
        .filter(|(at, _)| is_shown(at))
        .map(|(_, entry)| short(entry))
        .collect();
    let (head, tail) = shown.split_at(SHOWN_AT_EACH_END.min(shown.len()));
    let line = format!("{open}{}, …, {}{close}", head.join(", "), tail.join(", "));
    let line = if line.chars().count() <= 400 {
        line
    } else {
        format!(
            "{open}\n    {},\n    …,\n    {},\n{close}",
            head.join(",\n    "),
            tail.join(",\n    ")
        )
    };
    format!("{line}\n{} in all", skep_render::plural(len, "element"))
}

/// What [`crate::display`] accepts: rich values, text, numbers, and lists of anything that has `Debug`.
///
/// `Kind` keeps the ways apart, so that another crate can add one for a type that is not its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be shown here",
    note = "text, numbers, lists, tables, charts and what has `Rich` can; `format!` makes text of anything else"
)]
pub trait Shown<Kind> {
    fn shown(&self) -> Bundle;
}

/// Tells rich values from text, for [`Shown`].
pub struct ByRich;

impl<T: Rich> Shown<ByRich> for T {
    fn shown(&self) -> Bundle {
        self.bundle()
    }
}

impl<T: Debug> Shown<()> for Vec<T> {
    fn shown(&self) -> Bundle {
        debug_bundle(self).unwrap_or_default()
    }
}

impl<T: Debug> Shown<()> for Option<T> {
    fn shown(&self) -> Bundle {
        debug_bundle(self).unwrap_or_default()
    }
}

/// Nothing.
impl Shown<()> for () {
    fn shown(&self) -> Bundle {
        Bundle::default()
    }
}

/// Tells a result by what it holds.
pub struct InResult<Kind>(std::marker::PhantomData<Kind>);

impl<Kind, T: Shown<Kind>, E: Display> Shown<InResult<Kind>> for Result<T, E> {
    fn shown(&self) -> Bundle {
        match self {
            Ok(value) => value.shown(),
            Err(error) => failed(error),
        }
    }
}

#[inline(never)]
fn failed(error: &dyn Display) -> Bundle {
    Bundle::text(format!("error: {error}"))
}

macro_rules! shown_as_text {
    ($($t:ty)*) => { $(impl Shown<()> for $t {
        fn shown(&self) -> Bundle {
            Bundle::text(self.to_string())
        }
    })* };
}
shown_as_text!(&str String bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(list: &dyn Fn(&mut WithEntries<'_>)) -> String {
        let mut text = String::new();
        list(&mut |len, brackets, entries| text = cut_list(len, brackets, entries));
        text
    }

    #[test]
    fn short_entries_stand_in_columns() {
        fn text(list: &impl Listed) -> Option<String> {
            let mut text = None;
            list.with_entries(&mut |len, brackets, entries| text = wrapped(len, brackets, entries));
            text
        }
        let numbers: Vec<i32> = (-1..99).collect();
        let shown = text(&numbers).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.len() < 8 && lines[0].starts_with("[-1,  0,  1,"), "{shown}");
        assert!(
            lines.iter().all(|line| line.len() <= 80) && shown.ends_with("98]"),
            "{shown}"
        );
        let again: Vec<i32> = shown
            .trim_matches(['[', ']'])
            .split(',')
            .map(|n| n.trim().parse().unwrap())
            .collect();
        assert_eq!(again, numbers, "it can be pasted");
        let words: Vec<String> = (0..40).map(|n| "x".repeat(n % 7 + 1)).collect();
        let shown = text(&words).unwrap();
        assert!(shown.starts_with("[\"x\",       \"xx\",      \"xxx\""), "{shown}");
        assert!(shown.ends_with("\"xxxxx\"]") && !shown.contains(" \n"), "{shown}");
        assert_eq!(text(&vec![1, 2, 3]), None, "one line holds it");
        assert_eq!(text(&vec!["x".repeat(30); 9]), None, "each in a line of its own");
        assert_eq!(text(&BTreeMap::from([(1, 2)])), None);
    }

    #[test]
    fn a_long_list_shows_its_ends_and_its_length() {
        let numbers: Vec<i32> = (0..1000).collect();
        let text = shown(&|f| numbers.with_entries(f));
        assert!(
            text.starts_with("[0, 1, 2,")
                && text.contains("19, …, 980")
                && text.ends_with("999]\n1,000 elements in all"),
            "{text}"
        );
        let map: BTreeMap<i32, String> = (0..500).map(|n| (n, "x".repeat(n as usize))).collect();
        let text = shown(&|f| map.with_entries(f));
        assert!(
            text.contains("3: \"xxx\",\n")
                && text.contains("…,\n    480: ")
                && text.ends_with("}\n500 elements in all"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() < 220));
    }
}
