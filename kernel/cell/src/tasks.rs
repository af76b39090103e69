//! Functions of cells as workers call them: a library of their own, built for speed while the cell runs.
//!
//! A task's code could come from the cell that submits it, and of closures and generic functions it does. But that cell is
//! only known when it runs, holds more than the function, and names no types. Here each plain function gets a thunk under
//! a symbol that stands for its version, with the types of its arguments as they are written: so a function can be built
//! where it is defined, and a type with a codec of its own (a frame) needs none of serde's code.
//!
//! What cannot be an argument of a task is found out by the thunk itself, which then answers with an error; nobody asks
//! it, since a call of such a function does not compile.

use std::{collections::BTreeMap, fs, io, sync::PoisonError};

use crate::{
    compile::Compiler,
    definition::{Key, Kind},
    model::Prepared,
    reach::Reach,
    signature::Takes,
    task_library::{Refused, Task, TaskLibrary},
};

/// What is known of libraries for workers.
#[derive(Default)]
pub(crate) struct Tasks {
    /// By version: the libraries that have a function, or will.
    known: BTreeMap<u64, Task>,
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
