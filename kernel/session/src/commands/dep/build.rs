//! Building a crate with cargo: its progress, its end, its files.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;
use skep_cell::CellError;
use skep_render::{Bundle, Message};

use crate::{
    deps::{
        stable_hash,
        wrap::{Built, Job},
    },
    errors::session_error,
    frontend::Output,
    home::cache_folder,
    state::Session,
};

pub(crate) struct Build {
    folder: PathBuf,
    krate: String,
    manifest: String,
    lib: String,
    lock: PathBuf,
    /// Earlier dylibs of this session, which this one builds on.
    below: Vec<(String, PathBuf)>,
    /// Of this very `libskep.so`: what is taken from it is the same crate only there.
    target: PathBuf,
    name: String,
}

impl Build {
    /// Only the new crate: what was added before stays as it was built, whatever features this one asks for.
    pub(crate) fn new(session: &Session, name: &str, value: &str) -> Build {
        let dependencies = &session.dependencies;
        let below: Vec<(String, PathBuf)> = dependencies
            .built
            .iter()
            .map(|built| (built.krate.clone(), built.dylib.clone()))
            .collect();
        let line = format!("{name} = {value}");
        let identity = format!(
            "{} {line:?} {below:?} {}",
            dependencies.build_id,
            session.home.root().display()
        );
        let hash = stable_hash(identity.as_bytes());
        let krate = format!("skep_dep_{hash:016x}");
        let folder = cache_folder().join("deps").join(&krate);
        let manifest = format!(
            "[package]\nname = \"{krate}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\ncrate-type = [\"dylib\"]\n\n[workspace]\n\n[dependencies]\n{}\n",
            line
        );
        let names = std::iter::once("skep").chain(below.iter().map(|(krate, _)| krate.as_str()));
        let lib: String = names
            .map(|name| format!("extern crate {name} as _;\n"))
            .chain([format!("pub use ::{};\n", name.replace('-', "_"))])
            .collect();
        let lock = match dependencies.built.last() {
            Some(built) => cache_folder().join("deps").join(&built.krate).join("Cargo.lock"),
            None => session.home.lock_file(),
        };
        let target = cache_folder().join(format!(
            "deps/target-{:016x}",
            stable_hash(format!("{} {}", dependencies.build_id, session.home.root().display()).as_bytes())
        ));
        Build {
            folder,
            krate,
            manifest,
            lib,
            lock,
            below,
            target,
            name: name.to_string(),
        }
    }

    pub(crate) fn run(&self, session: &Session, cell: u32) -> Result<Built, CellError> {
        let done = self.folder.join("built.json");
        let known: Option<Built> = fs::read(&done)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(built) =
            known.filter(|built| built.dylib.exists() && built.externs.iter().all(|(_, file)| file.exists()))
        {
            return Ok(built);
        }
        self.write(session).map_err(|error| {
            let hint = "free some space, or set SKEP_CACHE to another folder";
            session_error(
                "Dependency",
                Message::new(format!(
                    "the build folder {} cannot be written: {error}",
                    self.folder.display()
                ))
                .hint(hint),
            )
        })?;
        // What is on this machine already is enough for most; only then the registry is asked.
        let mut outcome = self.cargo(session, cell, true)?;
        if let Outcome::Failed(said) = &outcome
            && is_about_the_network(said)
        {
            outcome = self.cargo(session, cell, false)?;
        }
        match outcome {
            Outcome::Failed(said) => Err(session_error("Dependency", self.explain(&said))),
            Outcome::Done => {
                let record = fs::read(self.folder.join("linked.json"))
                    .ok()
                    .and_then(|text| serde_json::from_slice::<Built>(&text).ok());
                let built = record.ok_or_else(|| {
                    session_error(
                        "Dependency",
                        Message::new("cargo built nothing")
                            .hint("remove the folder `deps` of the cache and try again"),
                    )
                })?;
                let _ = serde_json::to_vec(&built).map(|text| fs::write(&done, text));
                Ok(built)
            }
        }
    }

    fn write(&self, session: &Session) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("Cargo.toml"), &self.manifest)?;
        fs::write(self.folder.join("lib.rs"), &self.lib)?;
        if self.lock.exists() {
            fs::copy(&self.lock, self.folder.join("Cargo.lock"))?;
        }
        let toolchain = session.home.toolchain();
        let job = Job {
            krate: self.krate.clone(),
            folder: self.folder.clone(),
            dylib: toolchain.dylib.clone(),
            deps: toolchain.deps.clone(),
            prebuilt: session.home.prebuilt(),
            below: self.below.clone(),
            holds: session
                .dependencies
                .built
                .iter()
                .flat_map(|built| built.holds.iter().cloned())
                .collect(),
            target: self.target.clone(),
            build_id: session.dependencies.build_id.clone(),
        };
        fs::write(self.folder.join("job.json"), serde_json::to_vec(&job)?)
    }

    fn cargo(&self, session: &Session, cell: u32, is_offline: bool) -> Result<Outcome, CellError> {
        let rustc = &session.home.toolchain().rustc;
        let mut command = Command::new(session.home.cargo());
        command
            .args(["build", "--release", "--message-format=json-render-diagnostics"])
            .current_dir(&self.folder);
        if is_offline {
            command.arg("--offline");
        }
        command
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTC", rustc)
            .env("SKEP_HOME", session.home.root())
            .env("RUSTC_WRAPPER", session.home.root().join("bin/skep-rustc"));
        command.env("SKEP_DEP_JOB", self.folder.join("job.json"));
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            session_error(
                "Dependency",
                Message::new(format!("cargo could not be started: {error}"))
                    .hint("install Rust with rustup, or put cargo on the PATH"),
            )
        })?;
        let (built, crates) = mpsc::channel();
        let stdout = child.stdout.take().expect("invariant: stdout is piped");
        thread::spawn(move || read_artifacts(stdout, &built));
        let mut stderr = child.stderr.take().expect("invariant: stderr is piped");
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        let mut shown = Shown::new(session, cell, &self.name);
        session.begin_compiling();
        let status = loop {
            if session.compiler.is_cancelled() {
                end_group(&mut child);
                shown.end("stopped");
                return Err(session_error(
                    "Interrupted",
                    Message::new(format!("interrupted while building `{}`", self.name))
                        .hint("what was built so far is kept; `:dep` again goes on from there"),
                ));
            }
            match crates.recv_timeout(Duration::from_millis(100)) {
                Ok(name) => shown.count(&name),
                Err(mpsc::RecvTimeoutError::Timeout) => shown.tick(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break child.wait(),
            }
        };
        let said = said.join().unwrap_or_default();
        if status.is_ok_and(|status| status.success()) {
            shown.end("built");
            return Ok(Outcome::Done);
        }
        shown.end("not built");
        Ok(Outcome::Failed(said))
    }

    /// Cargo's words, without those about our own package.
    fn explain(&self, said: &str) -> Message {
        const NOISE: [&str; 5] = ["Compiling", "Updating", "Blocking", "Locking", "Adding"];
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !NOISE.iter().any(|word| line.trim_start().starts_with(word)))
            .collect();
        let mut text = lines
            .join("\n")
            .replace(&format!(" ({})", self.folder.display()), "")
            .replace(&format!("{} v0.0.0", self.krate), "this notebook");
        text = text.replace(&self.krate, "this notebook");
        if text.len() > 6_000 {
            text = format!("…{}", &text[text.ceil_char_boundary(text.len() - 6_000)..]);
        }
        let hint = if is_about_the_network(said) {
            format!(
                "is `{}` spelt right, and is the registry reachable? Crates that were built before work without a network",
                self.name
            )
        } else {
            format!(
                "the compiler's message is above; another version of `{}` may do",
                self.name
            )
        };
        Message::new(format!("`{}` could not be built\n{}", self.name, text.trim())).hint(hint)
    }
}

pub(crate) enum Outcome {
    Done,
    Failed(String),
}

pub(crate) fn is_about_the_network(said: &str) -> bool {
    [
        "offline",
        "no matching package",
        "failed to download",
        "failed to get",
        "could not be found in registry",
        "Unable to update registry",
        "failed to select a version",
        "download of",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// Cargo's children go with it.
pub(crate) fn end_group(child: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

pub(crate) fn read_artifacts(stdout: impl Read, built: &mpsc::Sender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if message["reason"] == "compiler-artifact"
            && message["fresh"] == false
            && let Some(name) = message["target"]["name"].as_str()
        {
            let _ = built.send(name.to_string());
        }
    }
}

/// The line of progress, once there is something to wait for.
pub(crate) struct Shown<'s> {
    session: &'s Session,
    cell: u32,
    name: String,
    id: String,
    is_shown: bool,
    n_crates: usize,
    last: String,
    started: std::time::Instant,
    drawn: std::time::Instant,
}

impl<'s> Shown<'s> {
    pub(crate) fn new(session: &'s Session, cell: u32, name: &str) -> Shown<'s> {
        let now = std::time::Instant::now();
        let id = format!("skep-progress-dep-{}-{cell}-{name}", std::process::id());
        Shown {
            session,
            cell,
            name: name.to_string(),
            id,
            is_shown: false,
            n_crates: 0,
            last: String::new(),
            started: now,
            drawn: now,
        }
    }

    fn count(&mut self, name: &str) {
        self.n_crates += 1;
        self.last = name.to_string();
        self.tick();
    }

    fn tick(&mut self) {
        if self.drawn.elapsed() < Duration::from_millis(400) {
            return;
        }
        let last = if self.last.is_empty() {
            String::new()
        } else {
            format!("; last: {}", self.last)
        };
        let n = skep_render::plural(self.n_crates, "crate");
        self.show(format!(
            "building `{}`: {n} compiled in {}{last}; an interrupt stops it",
            self.name,
            skep_render::duration(self.started.elapsed())
        ));
    }

    fn show(&mut self, text: String) {
        let bundle = Bundle::text(text);
        let id = self.id.clone();
        let output = if self.is_shown {
            Output::UpdateDisplay { id, bundle }
        } else {
            Output::Display { id: Some(id), bundle }
        };
        crate::frontend::Frontend::output(&*self.session.frontend, self.cell, output);
        (self.is_shown, self.drawn) = (true, std::time::Instant::now());
    }

    fn end(&mut self, how: &str) {
        if self.is_shown {
            let n = skep_render::plural(self.n_crates, "crate");
            self.show(format!(
                "{how} `{}`: {n} compiled in {}",
                self.name,
                skep_render::duration(self.started.elapsed())
            ));
        }
    }
}
