//! Running `rustc` directly on a cell, against the prebuilt dylib. No cargo.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::report::{Diagnostic, Reason};

/// What mends a compiler that does not run.
const SET_UP_AGAIN: &str = "run ./install/start again";

/// Where the compiler and the prebuilt crates are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Toolchain {
    /// The real `rustc`, not rustup's proxy, which costs 30 ms a call.
    pub rustc: PathBuf,
    /// The dylib that cells and workers link.
    pub dylib: PathBuf,
    /// The folder with the metadata of everything inside the dylib.
    pub deps: PathBuf,
    /// Other crates that a cell can name, and their files.
    pub externs: Vec<(String, PathBuf)>,
}

impl Toolchain {
    /// With its files below a folder, but for those that are named by absolute paths.
    pub fn below(mut self, folder: &Path) -> Toolchain {
        let files = [&mut self.rustc, &mut self.dylib, &mut self.deps];
        for file in files
            .into_iter()
            .chain(self.externs.iter_mut().map(|(_, file)| file))
        {
            *file = folder.join(&*file);
        }
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimise {
    /// At rustc's `opt-level`. Level 0 is quick to compile, and Polars inside the dylib is optimised anyway.
    Cell(u8),
    /// As `cargo build --release`: what workers run.
    Release,
}

#[derive(Debug)]
pub enum Failure {
    /// What the compiler said, parsed.
    #[allow(private_interfaces)]
    Errors(Vec<Diagnostic>),
    Cancelled,
    /// The compiler could not do its work: not there, no space, killed.
    Toolchain(Reason),
}

/// What `:dep` added to a notebook.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Crates that cells can name from now on, and their files. A later one of a name replaces an earlier
    /// one.
    pub externs: Vec<(String, PathBuf)>,
    /// Of those, the dylibs that hold the code of the others.
    pub dylibs: Vec<String>,
    pub folders: Vec<PathBuf>,
}

/// One notebook's build folder and the running compiler in it.
pub struct Compiler {
    toolchain: Toolchain,
    folder: PathBuf,
    running: Arc<Mutex<Vec<(Child, bool)>>>,
    is_cancelled: Arc<AtomicBool>,
    extra: Mutex<Extra>,
    /// The epoch that each root file was compiled in.
    epochs: Mutex<HashMap<String, u32>>,
}

/// Ends the compilation of the current cell from another thread.
#[derive(Clone)]
pub struct Cancel {
    running: Arc<Mutex<Vec<(Child, bool)>>>,
    is_cancelled: Arc<AtomicBool>,
}

impl Cancel {
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        // Release builds of earlier cells go on: workers wait for them.
        for (child, _) in self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter_mut()
            .filter(|(_, is_cell)| *is_cell)
        {
            let _ = child.kill();
        }
    }
}

impl Compiler {
    pub fn new(toolchain: Toolchain, folder: PathBuf) -> io::Result<Compiler> {
        fs::create_dir_all(&folder)?;
        Ok(Compiler {
            toolchain,
            folder,
            running: Arc::default(),
            is_cancelled: Arc::default(),
            extra: Mutex::default(),
            epochs: Mutex::default(),
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Crates for the cells from now on.
    pub fn set_extra(&self, extra: Extra) {
        *self.extra.lock().unwrap_or_else(PoisonError::into_inner) = extra;
    }

    pub fn extra(&self) -> Extra {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn extra_dylibs(&self) -> Vec<String> {
        self.extra
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .dylibs
            .clone()
    }

    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    pub fn canceller(&self) -> Cancel {
        Cancel {
            running: self.running.clone(),
            is_cancelled: self.is_cancelled.clone(),
        }
    }

    /// Forgets an old cancellation; called when a cell begins.
    pub fn arm(&self) {
        self.is_cancelled.store(false, Ordering::SeqCst);
    }

    /// Whether the current cell was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    /// Compiles the library of a cell again, as workers want it. Both have the same symbols.
    pub fn compile_for_workers(&self, library: &Path) -> Result<PathBuf, Failure> {
        let stem = library
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.strip_prefix("lib"))
            .unwrap_or_default();
        let root = format!("{stem}.rs");
        let epoch = self
            .epochs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&root)
            .copied()
            .unwrap_or(0);
        self.compile(&root, epoch, Optimise::Release)
    }

    /// Compiles `root` (a file of the build folder) to a shared library. Types of cells are the same ones
    /// within an epoch.
    pub fn compile(&self, root: &str, epoch: u32, optimise: Optimise) -> Result<PathBuf, Failure> {
        let stem = root.trim_end_matches(".rs");
        self.epochs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(root.to_string(), epoch);
        let library = self.folder.join(match optimise {
            Optimise::Cell(_) => format!("lib{stem}.so"),
            Optimise::Release => format!("lib{stem}.release.so"),
        });
        let mut command = self.command(root, epoch, optimise, &library);
        let mut child = command.spawn().map_err(|error| {
            Failure::Toolchain(Reason::new(
                format!(
                    "`{}` could not be started: {error}",
                    self.toolchain.rustc.display()
                ),
                SET_UP_AGAIN,
            ))
        })?;
        let mut stderr = child.stderr.take().expect("invariant: stderr is piped");
        let pid = child.id();
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((child, optimise != Optimise::Release));
        if matches!(optimise, Optimise::Cell(_)) && self.is_cancelled.load(Ordering::SeqCst) {
            self.canceller().cancel();
        }
        let mut said = Vec::new();
        let read = stderr.read_to_end(&mut said);
        let child = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let at = running
                .iter()
                .position(|(child, _)| child.id() == pid)
                .expect("invariant: nobody else removes it");
            running.swap_remove(at).0
        };
        let status =
            wait(child).map_err(|error| Failure::Toolchain(Reason::new(error.to_string(), SET_UP_AGAIN)))?;
        if status.success() && read.is_ok() {
            return Ok(library);
        }
        if optimise != Optimise::Release && self.is_cancelled.load(Ordering::SeqCst) {
            return Err(Failure::Cancelled);
        }
        let said = String::from_utf8_lossy(&said);
        let errors: Vec<Diagnostic> = said
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(Diagnostic::is_error)
            .collect();
        if errors.is_empty() {
            return Err(Failure::Toolchain(Reason::new(
                format!("rustc ended with {status}: {}", said.trim()),
                SET_UP_AGAIN,
            )));
        }
        Err(Failure::Errors(errors))
    }

    fn command(&self, root: &str, epoch: u32, optimise: Optimise, library: &Path) -> Command {
        let t = &self.toolchain;
        let mut command = Command::new(&t.rustc);
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        command.args([
            root,
            "--edition=2024",
            "--crate-name=cell",
            "--crate-type=cdylib",
            "--error-format=json",
        ]);
        command.args([
            "-Cprefer-dynamic",
            "-Cdebuginfo=0",
            "-Csymbol-mangling-version=v0",
        ]);
        // It is part of every `TypeId`: a type that was defined anew is another one, also behind a `dyn Any`.
        command.arg(format!("-Cmetadata=skep-cell-{epoch}"));
        match optimise {
            Optimise::Cell(level) => {
                command.args([&format!("-Copt-level={}", level.min(3)), "-Ccodegen-units=2"])
            }
            Optimise::Release => {
                command.args(["-Copt-level=3", "--cfg", "skep_release", "--cap-lints=allow"])
            }
        };
        command.arg("--extern").arg(format!("skep={}", t.dylib.display()));
        let extra = self.extra.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two crates of one name `:dep`'s is the one that is meant; rustc would not choose.
        let own = t
            .externs
            .iter()
            .filter(|(name, _)| !extra.externs.iter().any(|(newer, _)| newer == name));
        for (name, file) in own.chain(&extra.externs) {
            command.arg("--extern").arg(format!("{name}={}", file.display()));
        }
        for folder in std::iter::once(&t.deps).chain(&extra.folders) {
            command.arg("-L").arg(format!("dependency={}", folder.display()));
        }
        // The dylibs of `:dep` name `libskep.so` as theirs, and what a crate names is looked for in folders
        // only.
        if let (false, Some(folder)) = (extra.folders.is_empty(), t.dylib.parent()) {
            command.arg("-L").arg(format!("dependency={}", folder.display()));
        }
        for folder in &extra.folders {
            command.arg(format!("-Clink-arg=-Wl,-rpath,{}", folder.display()));
        }
        command.arg("-o").arg(library);
        command.env_remove("RUST_LOG").env_remove("RUSTFLAGS");
        command
    }
}

fn wait(mut child: Child) -> io::Result<std::process::ExitStatus> {
    child.wait()
}
