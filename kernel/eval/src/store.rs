//! The notebook's variables between cells, each with its exact type.
//!
//! Cells take the variables they use and put back those they did not move. Types are told apart by their
//! `TypeId`, which is equal across separately compiled cells as long as the path is and no layout has changed
//! in between (an *epoch*). Across epochs the name of the type decides: the host forgets the variables of a
//! redefined type before the next cell runs, so what is still here has the layout that its name stands for.

use std::{
    any::{Any, TypeId, type_name},
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use skep_render::Message;

use crate::wire::Variable;

struct Slot {
    value: Box<dyn Any>,
    type_name: &'static str,
    size: usize,
    is_send: bool,
    owner: ThreadId,
    epoch: u32,
}

// SAFETY: a value that is not `Send` is touched on the thread that put it here alone: `take` refuses it
// elsewhere, `forget` runs on the evaluation thread, which owns all values but those of a thread that was
// given up, and `leak_what_cannot_move` takes these out, without dropping them, before any other thread comes
// to the store.
unsafe impl Send for Slot {}

static STORE: Mutex<Store> = Mutex::new(Store {
    slots: BTreeMap::new(),
    sends: BTreeMap::new(),
});

struct Store {
    slots: BTreeMap<String, Slot>,
    /// Which types may cross threads, as the cells that first kept a value of each found out.
    sends: BTreeMap<&'static str, bool>,
}

thread_local! {
    /// The epoch of the cell that this thread runs.
    static EPOCH: Cell<u32> = const { Cell::new(0) };
}

fn store() -> MutexGuard<'static, Store> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The types of the cell that runs next are those of this epoch.
pub(crate) fn begin_epoch(epoch: u32) {
    EPOCH.set(epoch);
}

/// What became of a value that was to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Kept,
    /// Its type holds a closure: the next cell's compiler could not name it.
    Unnameable,
    /// Kept, but the value that had the name before panicked while it was dropped.
    DropPanicked(String),
}

/// Keeps `value` as `name` for later cells.
pub(crate) fn put<T: 'static>(name: &str, is_send: bool, value: T) -> Put {
    put_any(
        name,
        Some(is_send),
        Box::new(value),
        type_name::<T>(),
        size_of::<T>(),
    )
}

/// Puts back what was taken.
pub(crate) fn restore<T: 'static>(name: &str, value: T) {
    put_any(name, None, Box::new(value), type_name::<T>(), size_of::<T>());
}

/// Whether a value of this type may be on another thread than the one it was made on. False where no cell has
/// said so.
pub(crate) fn is_send(type_name: &'static str) -> bool {
    store().sends.get(type_name).copied().unwrap_or(false)
}

/// Takes variable `name` out. The error says what it is when it is not a `T`, and leaves it where it was.
pub(crate) fn take<T: 'static>(name: &str) -> Result<T, Message> {
    let value = take_any(name, TypeId::of::<T>(), type_name::<T>())?;
    // SAFETY: the value is a `T`. Its `TypeId` says so; or it was put by a cell of an earlier epoch, its type
    // has the same name, and the host has forgotten every variable whose type stands on a definition that has
    // changed since.
    Ok(*unsafe { Box::from_raw(Box::into_raw(value).cast::<T>()) })
}

// What is generic is compiled again in every cell, so the work is done in functions that are not.

#[inline(never)]
fn put_any(
    name: &str,
    is_send: Option<bool>,
    value: Box<dyn Any>,
    type_name: &'static str,
    size: usize,
) -> Put {
    if type_name.contains("{{closure}}") {
        return Put::Unnameable;
    }
    let old = {
        let mut store = store();
        if let Some(is_send) = is_send {
            store.sends.insert(type_name, is_send);
        }
        let is_send = store.sends.get(type_name).copied().unwrap_or(false);
        store.slots.insert(
            name.to_string(),
            Slot {
                value,
                type_name,
                size,
                is_send,
                owner: thread::current().id(),
                epoch: EPOCH.get(),
            },
        )
    };
    // Outside the lock: a user's `Drop` may take long, or panic.
    match catch_unwind(AssertUnwindSafe(|| drop(old))) {
        Ok(()) => Put::Kept,
        Err(payload) => Put::DropPanicked(crate::panics::panic_message(&*payload)),
    }
}

#[inline(never)]
fn take_any(name: &str, wanted: TypeId, wanted_name: &str) -> Result<Box<dyn Any>, Message> {
    let mut store = store();
    let Some(slot) = store.slots.get(name) else {
        return Err(Message::new(format!("variable `{name}` is no longer here"))
            .hint("run the cell that defines it again"));
    };
    let is_of_cells = mentions_cells(slot.type_name);
    let is_same_name = slot.type_name == wanted_name;
    if (*slot.value).type_id() != wanted && !(is_same_name && is_of_cells && slot.epoch != EPOCH.get()) {
        let held = skep_render::short_type(slot.type_name);
        let wanted = skep_render::short_type(wanted_name);
        return Err(if is_same_name {
            Message::new(format!(
                "variable `{name}` is a `{held}` of another build of its crate: a later `:dep` has changed it"
            ))
            .hint(format!("run the cell that defines `{name}` again"))
        } else {
            Message::new(format!(
                "variable `{name}` is a `{held}`, but this cell uses it as a `{wanted}`"
            ))
            .hint(format!(
                "write its type down where it is defined: `let {name}: {held} = …`"
            ))
        });
    }
    if !slot.is_send && slot.owner != thread::current().id() {
        return Err(Message::new(format!(
            "variable `{name}` is not `Send`, and the thread that it belongs to was given up"
        ))
        .hint("run the cell that defines it again"));
    }
    Ok(store
        .slots
        .remove(name)
        .expect("invariant: looked up under the same lock")
        .value)
}

/// Whether a type's name mentions a type of the notebook, whose crate is called `cell`; `core::cell` is
/// another one.
fn mentions_cells(type_name: &str) -> bool {
    let is_start =
        |at: usize| !type_name[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    type_name.match_indices("cell::").any(|(at, _)| is_start(at))
}

pub(crate) fn has(name: &str) -> bool {
    store().slots.contains_key(name)
}

/// Drops variables. Runs on the evaluation thread, which they belong to; a `Drop` that panics harms nobody.
pub(crate) fn forget(names: &[String]) {
    for name in names {
        let dropped = store().slots.remove(name);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(dropped)));
    }
}

/// Takes out what may not leave the thread of a cell that was given up, for ever. Returns the names.
pub(crate) fn leak_what_cannot_move() -> Vec<String> {
    let mut store = store();
    let names: Vec<String> = store
        .slots
        .iter()
        .filter(|(_, slot)| !slot.is_send)
        .map(|(name, _)| name.clone())
        .collect();
    for name in &names {
        std::mem::forget(store.slots.remove(name));
    }
    names
}

pub(crate) fn variables() -> Vec<Variable> {
    let variable = |(name, slot): (&String, &Slot)| Variable {
        name: name.clone(),
        type_name: slot.type_name.to_string(),
        size: slot.size as u64,
    };
    store().slots.iter().map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_with_its_own_type_only() {
        assert_eq!(put("a", true, vec![1u8]), Put::Kept);
        assert!(take::<Vec<i8>>("a").unwrap_err().what.contains("Vec<u8>"));
        assert_eq!(
            take::<Vec<u8>>("a").unwrap(),
            [1],
            "the failed take left it there"
        );
        assert!(take::<Vec<u8>>("a").unwrap_err().hint.is_some());
    }

    #[test]
    fn only_types_of_the_notebook_go_by_name() {
        for (name, expect) in [
            ("alloc::vec::Vec<cell::P>", true),
            ("cell::P", true),
            ("core::cell::RefCell<chrono::Date>", false),
            ("supercell::P", false),
        ] {
            assert_eq!(mentions_cells(name), expect, "{name}");
        }
    }

    #[test]
    fn closures_are_not_kept() {
        assert_eq!(put("f", true, |x: i32| x + 1), Put::Unnameable);
        assert_eq!(put("it", true, (0..3).map(|x| x * 2)), Put::Unnameable);
        assert_eq!(put("g", true, i32::abs as fn(i32) -> i32), Put::Kept);
        assert!(has("g"));
        forget(&["g".to_string()]);
        assert!(!has("g"));
    }

    #[test]
    fn what_is_not_send_stays_with_its_thread() {
        put("rc", false, std::rc::Rc::new(1));
        let elsewhere = thread::spawn(|| take::<std::rc::Rc<i32>>("rc").map(drop))
            .join()
            .unwrap();
        assert!(elsewhere.unwrap_err().what.contains("not `Send`"));
        let rc = take::<std::rc::Rc<i32>>("rc").unwrap();
        restore("rc", rc);
        assert!(
            !is_send(type_name::<std::rc::Rc<i32>>()),
            "what was known when it was put is known when it goes back"
        );
        assert_eq!(leak_what_cannot_move(), ["rc"]);
        assert!(!has("rc"));
    }

    #[test]
    fn a_drop_that_panics_leaves_the_new_value() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom")
            }
        }
        put("bomb", true, Bomb);
        assert_eq!(put("bomb", true, 7i32), Put::DropPanicked("boom".to_string()));
        assert_eq!(take::<i32>("bomb").unwrap(), 7);
    }
}
