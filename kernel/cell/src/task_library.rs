//! A library of functions for workers, and how it is built beside the cell.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::compile::{Compiler, Failure, Optimise};

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
    pub(crate) fn symbol(&self) -> String {
        format!("skep_task_{:016x}", self.version)
    }
}

/// Libraries and versions whose thunk did not compile: these functions go the way of closures.
pub(crate) type Refused = Arc<Mutex<BTreeSet<(u64, u64)>>>;

/// A library for workers that is to be built.
pub struct TaskLibrary {
    pub(crate) root: String,
    pub(crate) epoch: u32,
    /// By which workers ask for it. No hash of the library: that is not there yet.
    pub code: u64,
    pub tasks: Vec<Task>,
    pub(crate) refused: Refused,
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
