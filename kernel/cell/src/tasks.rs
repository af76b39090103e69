//! Functions of cells as workers call them: a library of their own, built for speed while the cell runs.
//!
//! A task's code could come from the cell that submits it, and of closures and generic functions it does. But that cell is
//! only known when it runs, holds more than the function, and names no types. Here each plain function gets a thunk under
//! a symbol that stands for its version, with the types of its arguments as they are written: so a function can be built
//! where it is defined, and a type with a codec of its own (a frame) needs none of serde's code.
//!
//! What cannot be an argument of a task is found out by the thunk itself, which then answers with an error; nobody asks
//! it, since a call of such a function does not compile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use quote::ToTokens;
use syn::{FnArg, Item, ReturnType, Type};

use crate::{
    compile::{Compiler, Failure, Optimise},
    definition::{Key, Kind},
    model::Prepared,
    reach::Reach,
};

/// How a function takes an argument; the type is that of the value behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Own(String),
    ByRef(String),
    ByStr,
    BySlice(String),
}

/// The arguments of a function that workers could call, as far as its text tells.
pub(crate) fn signature(item: &Item) -> Option<Vec<Takes>> {
    let Item::Fn(f) = item else { return None };
    let s = &f.sig;
    let is_plain = s.generics.params.is_empty()
        && s.asyncness.is_none()
        && s.unsafety.is_none()
        && s.abi.is_none()
        && s.variadic.is_none()
        && s.inputs.len() <= 16
        && s.ident != "main"
        && !s.ident.to_string().starts_with("r#")
        && f.attrs.iter().all(|attr| {
            [
                "doc",
                "allow",
                "expect",
                "inline",
                "must_use",
                "deprecated",
                "rustfmt",
            ]
            .iter()
            .any(|known| {
                attr.path()
                    .segments
                    .first()
                    .is_some_and(|first| first.ident == known)
            })
        });
    let returns = match &s.output {
        ReturnType::Default => true,
        ReturnType::Type(_, of) => can_be_written(of),
    };
    if !is_plain || !returns {
        return None;
    }
    s.inputs
        .iter()
        .map(|input| {
            let FnArg::Typed(input) = input else { return None };
            if !can_be_written(&input.ty) {
                return None;
            }
            let text = |of: &Type| of.to_token_stream().to_string();
            Some(match &*input.ty {
                Type::Reference(r) if r.mutability.is_some() => return None,
                Type::Reference(r) => match &*r.elem {
                    Type::Slice(slice) => Takes::BySlice(text(&slice.elem)),
                    Type::Path(path) if path.path.is_ident("str") => Takes::ByStr,
                    // Names that stand for types without a size.
                    Type::Path(path)
                        if ["Path", "OsStr", "CStr"]
                            .iter()
                            .any(|name| path.path.segments.last().is_some_and(|last| last.ident == name)) =>
                    {
                        return None;
                    }
                    of => Takes::ByRef(text(of)),
                },
                of => Takes::Own(text(of)),
            })
        })
        .collect()
}

/// Whether a type can be written again elsewhere, and could be one that travels.
fn can_be_written(of: &Type) -> bool {
    let text = of.to_token_stream().to_string();
    let is_word = |word: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|part| part == word)
    };
    !text.contains('\'')
        && !text.contains("& mut")
        && !["dyn", "impl", "fn", "Fn", "FnMut", "FnOnce", "Self"]
            .iter()
            .any(|word| is_word(word))
        && !text.contains('*')
        && !text.contains('!')
}

/// A function in a library for workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub name: String,
    /// Changes with its text and all that it stands on.
    pub version: u64,
    /// The library's name, see [`TaskLibrary`].
    pub code: u64,
}

impl Task {
    fn symbol(&self) -> String {
        format!("skep_task_{:016x}", self.version)
    }
}

/// What is known of libraries for workers.
#[derive(Default)]
pub(crate) struct Tasks {
    /// By version: the libraries that have a function, or will.
    known: BTreeMap<u64, Task>,
    refused: Refused,
}

/// Libraries and versions whose thunk did not compile: these functions go the way of closures.
type Refused = Arc<Mutex<BTreeSet<(u64, u64)>>>;

/// A library for workers that is to be built.
pub struct TaskLibrary {
    root: String,
    epoch: u32,
    /// By which workers ask for it. No hash of the library: that is not there yet.
    pub code: u64,
    pub tasks: Vec<Task>,
    refused: Refused,
}

impl Tasks {
    /// The statement that tells a program where the code of its functions is. `new` will be built.
    pub fn statement(&self, functions: &[(String, u64)], new: &[Task]) -> String {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let all = functions.iter().filter_map(|(name, version)| {
            let mut both = self.known.get(version).into_iter().chain(new);
            let task = both.find(|task| task.version == *version && task.name == *name)?;
            let symbol = if refused.contains(&(task.code, *version)) {
                String::new()
            } else {
                task.symbol()
            };
            Some(format!("(\"{name}\", \"{symbol}\", {})", task.code))
        });
        let all: Vec<String> = all.collect();
        if all.is_empty() {
            String::new()
        } else {
            format!("::skep::cell::set_tasks(&[{}]); ", all.join(", "))
        }
    }

    pub fn add(&mut self, tasks: &[Task]) {
        for task in tasks {
            self.known.insert(task.version, task.clone());
        }
    }

    fn is_known(&self, version: u64) -> bool {
        self.known.contains_key(&version)
    }
}

/// The functions of a program with what their arguments are, and their versions.
pub(crate) struct Functions {
    pub all: Vec<(String, u64)>,
    takes: Vec<Vec<Takes>>,
}

impl Functions {
    pub fn of(prepared: &Prepared, reach: &Reach<'_>) -> Functions {
        let mut functions = Functions {
            all: Vec::new(),
            takes: Vec::new(),
        };
        for at in &prepared.included {
            let definition = &prepared.candidates[*at].definition;
            if let (Kind::Named, Some(takes), Some(Key::Value(name))) =
                (definition.kind, &definition.takes, definition.keys.first())
            {
                functions.all.push((name.clone(), reach.version(name)));
                functions.takes.push(takes.clone());
            }
        }
        functions
    }
}

impl Tasks {
    /// Writes the root file of a library with those functions that no library has. `head` is what stands above a cell's own
    /// code: what is in scope, and the items.
    pub fn write(
        &self,
        compiler: &Compiler,
        prepared: &Prepared,
        functions: &Functions,
        head: &str,
    ) -> io::Result<Option<TaskLibrary>> {
        let code = code_of(compiler, prepared);
        let (mut text, mut tasks) = (String::from(head), Vec::new());
        for ((name, version), takes) in functions.all.iter().zip(&functions.takes) {
            if self.is_known(*version) {
                continue;
            }
            let task = Task {
                name: name.clone(),
                version: *version,
                code,
            };
            text.push('\n');
            text.push_str(&thunk(&task, takes));
            tasks.push(task);
        }
        if tasks.is_empty() {
            return Ok(None);
        }
        text.push('\n');
        let root = prepared.root.replace(".rs", &format!(".tasks-{code:016x}.rs"));
        fs::write(compiler.folder().join(&root), &text)?;
        Ok(Some(TaskLibrary {
            root,
            epoch: prepared.epoch,
            code,
            tasks,
            refused: self.refused.clone(),
        }))
    }
}

/// Another one for each cell of each notebook on the machine.
fn code_of(compiler: &Compiler, prepared: &Prepared) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((compiler.folder(), prepared.cell))
}

/// One line for each function, so that an error's line names it.
fn thunk(task: &Task, takes: &[Takes]) -> String {
    let (mut lets, mut passed) = (String::new(), Vec::new());
    for (at, takes) in takes.iter().enumerate() {
        let (of, how, pass) = match takes {
            Takes::Own(of) => (of.clone(), "own", format!("__a{at}")),
            Takes::ByRef(of) => (of.clone(), "shared", format!("&*__a{at}")),
            Takes::ByStr => (
                "::std::string::String".to_string(),
                "shared",
                format!("__a{at}.as_str()"),
            ),
            Takes::BySlice(of) => (
                format!("::std::vec::Vec<{of}>"),
                "shared",
                format!("__a{at}.as_slice()"),
            ),
        };
        lets.push_str(&format!(
            "let __a{at} = (&&&::skep::cell::Take::<{of}>::new()).{how}(__inputs)?; "
        ));
        passed.push(pass);
    }
    format!(
        "#[unsafe(no_mangle)] pub fn {}(__inputs: &mut ::skep::cell::Inputs<'_>) -> ::skep::cell::TaskResult {{ use ::skep::cell::thunks::*; {lets}(&&&&::skep::cell::Give::new(::skep::cell::called({1}, move || {1}({2}))?)).give() }}",
        task.symbol(),
        task.name,
        passed.join(", "),
    )
}

impl TaskLibrary {
    /// Builds it. Functions whose thunk does not compile are left out, and go the way of closures from the next cell on.
    ///
    /// # Errors
    /// When nothing is left, or the compiler does not work.
    pub fn build(mut self, compiler: &Compiler) -> Result<PathBuf, Failure> {
        loop {
            let errors = match compiler.compile(&self.root, self.epoch, Optimise::Release) {
                Err(Failure::Errors(errors)) => errors,
                done => return done,
            };
            let path = compiler.folder().join(&self.root);
            let text = fs::read_to_string(&path).unwrap_or_default();
            let wrong: BTreeSet<usize> = errors
                .iter()
                .flat_map(|error| error.lines_in(&self.root))
                .collect();
            let (mut kept, mut refused) = (Vec::new(), BTreeSet::new());
            for (at, line) in text.lines().enumerate() {
                let task = self.tasks.iter().find(|task| line.contains(&task.symbol()));
                match task {
                    Some(task) if wrong.contains(&(at + 1)) => drop(refused.insert(task.version)),
                    _ => kept.push(line),
                }
            }
            let is_hopeless = refused.is_empty() || refused.len() == self.tasks.len();
            if is_hopeless {
                refused = self.tasks.iter().map(|task| task.version).collect();
            }
            self.tasks.retain(|task| !refused.contains(&task.version));
            self.refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(refused.into_iter().map(|version| (self.code, version)));
            if is_hopeless || fs::write(&path, kept.join("\n") + "\n").is_err() {
                return Err(Failure::Errors(errors));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_workers_could_call() {
        let of = |text: &str| signature(&syn::parse_str(text).unwrap());
        let own = |text: &str| Takes::Own(text.to_string());
        for (text, takes) in [
            ("fn f() {}", vec![]),
            (
                "fn f(a: i64, mut b: Vec<String>) -> bool {}",
                vec![own("i64"), own("Vec < String >")],
            ),
            ("fn f((a, b): (i64, i64)) {}", vec![own("(i64 , i64)")]),
            (
                "/// Doc.\n#[inline] fn f(a: &str, b: &[f64], c: &DataFrame) -> Result<i64, String> {}",
                vec![
                    Takes::ByStr,
                    Takes::BySlice("f64".into()),
                    Takes::ByRef("DataFrame".into()),
                ],
            ),
        ] {
            assert_eq!(of(text), Some(takes), "{text}");
        }
        for text in [
            "fn f<T>(a: T) {}",
            "fn f(a: impl Fn()) {}",
            "fn f(a: &mut i64) {}",
            "fn f(a: Box<dyn Fn()>) {}",
            "fn f(a: fn(i64)) {}",
            "fn f(a: &Path) {}",
            "fn f(a: Cow<'_, str>) {}",
            "async fn f() {}",
            "unsafe fn f() {}",
            "extern \"C\" fn f() {}",
            "fn main() {}",
            "fn f() -> ! { loop {} }",
            "fn f() -> impl Iterator<Item = i64> {}",
            "#[cfg(test)] fn f() {}",
            "struct S;",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
