//! The notebook's variables between cells, each with its exact type.
//!
//! Cells take the variables they use and put back those they did not move. A `TypeId` is equal across separately compiled
//! cells as long as the type's path is; whether its *layout* is still the same is the host's to know, which forgets the
//! variables of a redefined type before the next cell runs.

use std::{
    any::{Any, TypeId, type_name},
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::wire::Variable;

struct Slot {
    value: Box<dyn Any>,
    type_name: &'static str,
    size: usize,
}

// SAFETY: cells run one at a time, each on the evaluation thread, and a value is inside the store only while no cell
// uses it. A new evaluation thread takes over only after the old one was abandoned together with the values it had taken.
unsafe impl Send for Slot {}

static STORE: Mutex<BTreeMap<String, Slot>> = Mutex::new(BTreeMap::new());

fn store() -> MutexGuard<'static, BTreeMap<String, Slot>> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps `value` as `name` for later cells. A value whose type holds a closure is dropped instead: the next cell's
/// compiler could not name it. Returns whether it was kept.
pub(crate) fn put<T: 'static>(name: &str, value: T) -> bool {
    put_any(name, Box::new(value), type_name::<T>(), size_of::<T>())
}

/// Takes variable `name` out. The error says what it is when it is not a `T`, and leaves it where it was.
pub(crate) fn take<T: 'static>(name: &str) -> Result<T, String> {
    match take_any(name, TypeId::of::<T>(), type_name::<T>()) {
        Ok(value) => Ok(*value.downcast().expect("invariant: `take_any` compared the types")),
        Err(message) => Err(message),
    }
}

// What is generic is compiled again in every cell, so the work is done in functions that are not.

#[inline(never)]
fn put_any(name: &str, value: Box<dyn Any>, type_name: &'static str, size: usize) -> bool {
    if type_name.contains("{{closure}}") {
        return false;
    }
    let old = store().insert(name.to_string(), Slot { value, type_name, size });
    drop(old); // outside the lock: a user's `Drop` may take long, or panic
    true
}

#[inline(never)]
fn take_any(name: &str, wanted: TypeId, wanted_name: &str) -> Result<Box<dyn Any>, String> {
    let mut store = store();
    match store.get(name) {
        None => Err(format!("variable `{name}` is no longer here\nhint: run the cell that defines it again")),
        Some(slot) if (*slot.value).type_id() != wanted => {
            let held = slot.type_name;
            Err(format!(
                "variable `{name}` is a `{held}`, but this cell uses it as a `{wanted_name}`\nhint: write its type down where it is defined: `let {name}: {held} = …`"
            ))
        }
        Some(_) => Ok(store.remove(name).expect("invariant: looked up under the same lock").value),
    }
}

pub(crate) fn has(name: &str) -> bool {
    store().contains_key(name)
}

/// Drops variables, in a thread of its own: a user's `Drop` may block, or panic.
pub(crate) fn forget(names: &[String]) {
    let dropped: Vec<_> = names.iter().filter_map(|name| store().remove(name)).collect();
    if !dropped.is_empty() {
        std::thread::spawn(move || drop(dropped));
    }
}

pub(crate) fn variables() -> Vec<Variable> {
    let variable = |(name, slot): (&String, &Slot)| Variable { name: name.clone(), type_name: slot.type_name.to_string(), size: slot.size as u64 };
    store().iter().map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_with_its_own_type_only() {
        assert!(put("a", vec![1u8]));
        assert!(take::<Vec<i8>>("a").unwrap_err().contains("Vec<u8>"));
        assert_eq!(take::<Vec<u8>>("a").unwrap(), [1], "the failed take left it there");
        assert!(take::<Vec<u8>>("a").unwrap_err().contains("hint:"));
    }

    #[test]
    fn closures_are_not_kept() {
        assert!(!put("f", |x: i32| x + 1));
        assert!(!put("it", (0..3).map(|x| x * 2)));
        assert!(put("g", i32::abs as fn(i32) -> i32));
        assert!(has("g"));
        forget(&["g".to_string()]);
        assert!(!has("g"));
    }
}
