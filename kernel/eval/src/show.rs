//! Showing the tail expression of a cell by the richest renderer that its type has.
//!
//! A cell ends with `(&&&&Show(&(tail))).show()`. Method lookup tries the impls in order of references: one that another
//! crate adds for types that are not its own (`&&&Show`), [`Rich`], `Debug`, nothing. One compilation serves all three, and the tail is borrowed, not moved.

use std::fmt::Debug;

use skep_render::{Bundle, Rich};

pub struct Show<'a, T: ?Sized>(pub &'a T);

pub trait ShowRich {
    fn show(&self);
}
impl<T: Rich + ?Sized> ShowRich for &&Show<'_, T> {
    fn show(&self) {
        crate::process::result(self.0.bundle());
    }
}

pub trait ShowDebug {
    fn show(&self);
}
impl<T: Debug> ShowDebug for &Show<'_, T> {
    fn show(&self) {
        show_debug(self.0);
    }
}

pub trait ShowNothing {
    fn show(&self);
}
impl<T: ?Sized> ShowNothing for Show<'_, T> {
    fn show(&self) {
        show_name(std::any::type_name::<T>());
    }
}

#[inline(never)]
fn show_name(type_name: &str) {
    let name = skep_render::short_type(type_name);
    crate::process::result(Bundle::text(format!("a value of type `{name}`, which has no text form\nhint: `#[derive(Debug)]` gives a type of yours one")));
}

// Not generic, as nothing should be that need not: what is generic is compiled again in every cell.
#[inline(never)]
fn show_debug(value: &dyn Debug) {
    if let Some(bundle) = debug_bundle(value) {
        crate::process::result(bundle);
    }
}

/// One line while it fits 80 columns, else indented. `()` shows nothing, so that a tail like `x.push(1)` is silent.
#[inline(never)]
fn debug_bundle(value: &dyn Debug) -> Option<Bundle> {
    let line = format!("{value:?}");
    if line == "()" {
        return None;
    }
    let text = if line.chars().count() <= 80 || is_flat(value) { line } else { format!("{value:#?}") };
    Some(Bundle::text(text))
}

/// Sequences of numbers read better wrapped than one to a line; their pretty form is as long as they are.
fn is_flat(value: &dyn Debug) -> bool {
    format!("{value:#?}").lines().take(1001).count() > 1000
}

/// What [`crate::display`] accepts: rich values, text, numbers, and lists of anything that has `Debug`.
///
/// `Kind` keeps the ways apart, so that another crate can add one for a type that is not its own.
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

macro_rules! shown_as_text {
    ($($t:ty)*) => { $(impl Shown<()> for $t {
        fn shown(&self) -> Bundle {
            Bundle::text(self.to_string())
        }
    })* };
}
shown_as_text!(&str String bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);
