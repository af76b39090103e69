//! Where a function's code is, and the name by which every process knows it.

use std::{any::type_name, collections::HashMap, ffi::c_void};

use crate::{
    call::{code, thunk::Thunk},
    data::type_names::names_of_cells,
    hooks::{Hooks, hooks},
    model::{
        error::{Error, Result},
        ids::{CodeId, FunctionId},
        task::{CodePlace, Function},
    },
};

/// A function as workers know it, and its library as this process knows it.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub function: Function,
    /// The library's path, unless somebody else makes an optimised one.
    pub library: Option<String>,
}

/// A function as a value: what generic code hands to the rest.
#[derive(Clone, Copy)]
pub(crate) struct FnRef {
    /// Where its thunk is in this process.
    address: usize,
    type_name: &'static str,
    /// What the thunk is for: the same function may be a task, and a method.
    role: &'static str,
}

/// The capture check happens here, at compile time.
pub(crate) fn checked<F: Copy>(address: usize, role: &'static str) -> FnRef {
    const {
        assert!(
            size_of::<F>() == 0,
            "a function sent to workers must not capture anything: pass the values as arguments"
        );
    }
    FnRef {
        address,
        type_name: type_name::<F>(),
        role,
    }
}

impl FnRef {
    /// What workers call as it is: it takes its arguments itself.
    pub fn to_thunk(thunk: Thunk, name: &'static str) -> FnRef {
        FnRef {
            address: thunk as usize,
            type_name: name,
            role: "task",
        }
    }

    /// What calls `F` in another way, under its name.
    pub fn in_role<F>(self, role: &'static str) -> FnRef {
        FnRef {
            type_name: type_name::<F>(),
            role,
            ..self
        }
    }
}

type Known = std::sync::Mutex<Option<HashMap<usize, std::sync::Arc<Located>>>>;

static KNOWN: Known = std::sync::Mutex::new(None);

/// The thunk of a function that this program has submitted, in this process.
pub(crate) fn thunk_here(id: FunctionId) -> Option<usize> {
    let known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all = known.as_ref()?.iter();
    all.find(|(_, located)| located.function.id == id)
        .map(|(address, _)| *address)
}

/// Finds where a function's thunk is. Asked once for each function of each library.
pub(crate) fn located(f: FnRef) -> Result<std::sync::Arc<Located>> {
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(located) = known.get(&f.address) {
        return Ok(located.clone());
    }
    let found = find(f)?;
    known.insert(f.address, found.clone());
    Ok(found)
}

fn find(f: FnRef) -> Result<std::sync::Arc<Located>> {
    let stable = stable_id(f.role, f.type_name);
    if let Some(located) = stable.and_then(|id| by_version().get(&id).cloned()) {
        return Ok(located);
    }
    let found = code::locate(f.address as *const c_void).map_err(Error::start)?;
    let is_made_elsewhere = is_made_elsewhere(&found.library);
    let place = if is_made_elsewhere {
        CodePlace::Symbol(code::symbol_at(&found.library, found.offset).map_err(Error::start)?)
    } else {
        CodePlace::Offset(found.offset)
    };
    let id = stable.unwrap_or_else(|| {
        let mut hasher = blake3::Hasher::new();
        function_id(
            hasher
                .update(&found.code.0.to_le_bytes())
                .update(&found.offset.to_le_bytes()),
        )
    });
    let function = Function {
        id,
        name: short_name(f.type_name),
        code: found.code,
        place,
    };
    let located = std::sync::Arc::new(Located {
        function,
        library: (!is_made_elsewhere).then(|| found.library.to_string()),
    });
    if stable.is_some() {
        by_version().insert(id, located.clone());
    }
    Ok(located)
}

fn function_id(hasher: &blake3::Hasher) -> FunctionId {
    FunctionId(u64::from_le_bytes(
        hasher.finalize().as_bytes()[..8]
            .try_into()
            .expect("invariant: a hash has 32 bytes"),
    ))
}

type ByVersion = HashMap<FunctionId, std::sync::Arc<Located>>;

/// Functions that some cell has brought: another cell that calls the same one uses that one's code.
fn by_version() -> std::sync::MutexGuard<'static, ByVersion> {
    static KNOWN: std::sync::LazyLock<std::sync::Mutex<ByVersion>> =
        std::sync::LazyLock::new(std::sync::Mutex::default);
    KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Of each item: what its text and all that it stands on hash to, and what its layout stands on.
type Versions = HashMap<&'static str, (u64, u64)>;

static VERSIONS: std::sync::RwLock<Option<Versions>> = std::sync::RwLock::new(None);

/// Tells which version, and which layout, each function and type of the running cell has; its generated code
/// calls this first.
#[doc(hidden)]
pub fn set_versions(versions: &[(&'static str, u64, u64)]) {
    let versions = versions
        .iter()
        .map(|(name, version, layout)| (*name, (*version, *layout)))
        .collect();
    *VERSIONS
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(versions);
}

/// Tells where the code of functions of the running cell is: name, symbol, and by which name workers ask for the library. With an
/// empty symbol it is where the cell itself is. Called after [`set_versions`].
#[doc(hidden)]
pub fn set_tasks(tasks: &[(&'static str, &str, u64)]) {
    for (name, symbol, code) in tasks {
        let type_name = format!("cell::{name}");
        let Some(id) = stable_id("task", &type_name) else {
            continue;
        };
        let mut known = by_version();
        if symbol.is_empty() {
            known.remove(&id);
            continue;
        }
        known.entry(id).or_insert_with(|| {
            std::sync::Arc::new(Located {
                function: Function {
                    id,
                    name: (*name).to_string(),
                    code: CodeId(*code),
                    place: CodePlace::Symbol((*symbol).to_string()),
                },
                library: None,
            })
        });
    }
}

/// What the layout of a type of cells stands on; 0 for types that are no cell's, and outside notebooks.
pub(crate) fn layout_of(type_name: &str) -> u64 {
    let versions = VERSIONS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(versions) = versions.as_ref() else {
        return 0;
    };
    names_of_cells(type_name)
        .filter_map(|name| versions.get(name))
        .fold(0, |hash, (_, layout)| hash.rotate_left(7) ^ layout)
}

/// Names a function by its text, if everything in its name has a version. Closures have no name of their own.
fn stable_id(role: &str, type_name: &str) -> Option<FunctionId> {
    if type_name.contains("{closure") || type_name.contains("{{closure") || type_name.contains("skep_cell_") {
        return None;
    }
    let versions = VERSIONS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let versions = versions.as_ref()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(role.as_bytes()).update(type_name.as_bytes());
    let mut is_named = false;
    for name in names_of_cells(type_name) {
        hasher.update(&versions.get(name)?.0.to_le_bytes());
        is_named = true;
    }
    is_named.then(|| function_id(&hasher))
}

/// Asks once for each library.
fn is_made_elsewhere(library: &str) -> bool {
    static ANSWERS: std::sync::Mutex<Option<HashMap<String, bool>>> = std::sync::Mutex::new(None);
    let Hooks {
        code_needed: Some(needed),
        ..
    } = hooks()
    else {
        return false;
    };
    let mut answers = ANSWERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *answers
        .get_or_insert_default()
        .entry(library.to_string())
        .or_insert_with(|| needed(library))
}

/// `cell::inc` → `inc`; a closure is named after where it is.
fn short_name(name: &str) -> String {
    if let Some(at) = name.find("::{{closure}}") {
        let outer = name[..at].rsplit("::").next().unwrap_or(name);
        return outer.strip_prefix("skep_cell_").map_or_else(
            || format!("closure in {outer}"),
            |cell| format!("closure in cell {cell}"),
        );
    }
    // `core::num::<impl i64>::pow`, `<A as T>::f`, `scan::<String>`: what is in brackets is not the name.
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '<') - i32::from(*c == '>');
        depth == 0 && *c != '>'
    };
    let base: String = name.chars().filter(outside).collect();
    base.rsplit("::")
        .find(|part| !part.is_empty())
        .unwrap_or(name)
        .to_string()
}

#[test]
fn names_are_short() {
    for (name, expect) in [
        ("cell::inc", "inc"),
        ("cell::skep_cell_3::{{closure}}::{{closure}}", "closure in cell 3"),
        ("skep_frame::stage::scan<alloc::string::String>", "scan"),
        ("core::num::<impl i64>::pow", "pow"),
        ("<cell::A as cell::T<x::Y>>::f", "f"),
    ] {
        assert_eq!(short_name(name), expect);
    }
}
