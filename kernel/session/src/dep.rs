//! `:dep`: crates from a registry or a folder, built once per user into dylibs that cells link.
//!
//! Cargo resolves and builds, from Skep's own lock file, so that shared crates get the versions that `libskep.so` has. Each
//! call of rustc goes through [`wrap_rustc`]: a crate that is inside `libskep.so` already, with all features that are asked
//! for, is not compiled but taken from there. That is what makes a `serde::Serialize` of a new crate the one that Skep
//! knows. What is new goes into one dylib, so that its statics exist once, however many cells use them; a later `:dep`
//! makes another dylib on top of the first.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_cell::{CellError, Extra};
use skep_render::{Bundle, card::Card};

use crate::{
    Home, Output, cache_folder,
    commands::{Call, failed},
    session::{Session, session_error},
};

/// The crates that a session added, and what they were built on.
pub(crate) struct Dependencies {
    /// Name → what stands behind `=` in a Cargo.toml.
    wanted: BTreeMap<String, String>,
    /// The dylibs so far, oldest first.
    built: Vec<Built>,
    build_id: String,
}

/// What one `:dep` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Built {
    krate: String,
    dylib: PathBuf,
    externs: Vec<(String, PathBuf)>,
    /// Crates that Skep has too, but not with the features that were asked for: their types differ from Skep's.
    apart: Vec<String>,
}

/// A crate inside `libskep.so`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prebuilt {
    pub name: String,
    pub version: String,
    pub features: Vec<String>,
    pub rlib: PathBuf,
    pub rmeta: PathBuf,
}

impl Dependencies {
    pub fn new(home: &Home) -> Dependencies {
        let dylib = fs::metadata(&home.toolchain().dylib).ok();
        let built_at = dylib.and_then(|dylib| Some((dylib.len(), dylib.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos())));
        Dependencies { wanted: BTreeMap::new(), built: Vec::new(), build_id: format!("{built_at:?}") }
    }

    fn list(&self) -> Bundle {
        if self.wanted.is_empty() {
            return Bundle::text("no crate was added yet; for example `:dep regex = \"1\"`");
        }
        let rows = self.wanted.iter().map(|(name, value)| [name.clone(), value.clone()]);
        Card::new("Dependencies").table(["crate", "as in Cargo.toml"], rows).bundle()
    }

    fn extra(&self) -> Extra {
        let mut extra = Extra::default();
        for built in &self.built {
            extra.externs.push((built.krate.clone(), built.dylib.clone()));
            extra.dylibs.push(built.krate.clone());
            for (name, file) in &built.externs {
                extra.externs.retain(|(known, _)| known != name);
                extra.externs.push((name.clone(), file.clone()));
            }
            let folder = built.dylib.parent().map(Path::to_path_buf).unwrap_or_default();
            if !extra.folders.contains(&folder) {
                extra.folders.push(folder);
            }
        }
        extra
    }
}

/// The command.
pub(crate) fn dep(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    if call.args.is_empty() {
        return Ok(Some(session.dependencies.list()));
    }
    let (name, value) = parse(call.args).map_err(|message| failed(&message))?;
    if session.dependencies.wanted.get(&name) == Some(&value) {
        return Ok(Some(Bundle::text(format!("`{name}` is there already"))));
    }
    let mut wanted = session.dependencies.wanted.clone();
    wanted.insert(name.clone(), value);
    let built = Build::new(session, &wanted, &name).run(session, call.cell)?;
    // Of the rest nobody sees the types.
    let known = session.home.toolchain().externs.iter().map(|(name, _)| name.as_str()).chain(["chrono", "serde_core", "rayon"]);
    let apart: Vec<&str> = known.filter(|name| built.apart.iter().any(|apart| apart == name)).collect();
    if !apart.is_empty() {
        let text = format!(
            "note: built anew, with features or a version that Skep's own copy lacks: {}; types of these are not those that Skep and Polars use",
            apart.join(", ")
        );
        session.say(call.cell, &text);
    }
    session.dependencies.wanted = wanted;
    session.dependencies.built.push(built);
    session.compiler.set_extra(session.dependencies.extra());
    Ok(None)
}

/// `regex`, `regex = "1"`, `regex = { version = "1", features = ["unicode"] }`.
fn parse(args: &str) -> Result<(String, String), String> {
    let (name, value) = args.split_once('=').map_or((args.trim(), "\"*\""), |(name, value)| (name.trim(), value.trim()));
    let is_name =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !name.starts_with(|c: char| c.is_ascii_digit());
    if !is_name {
        return Err(format!("`{name}` is no crate's name\nhint: as in a Cargo.toml: `:dep regex = \"1\"`"));
    }
    let is_value = (value.starts_with('"') && value.ends_with('"') && value.len() > 1) || (value.starts_with('{') && value.ends_with('}'));
    if !is_value || value.contains('\n') {
        return Err(format!(
            "`{value}` is no version\nhint: as in a Cargo.toml: `:dep {name} = \"1\"` or `:dep {name} = {{ version = \"1\", features = [\"…\"] }}`"
        ));
    }
    Ok((name.to_string(), absolute_path(value)))
}

/// A relative `path = "…"` is meant from here, not from the cache.
fn absolute_path(value: &str) -> String {
    // The key, not a feature or an address that has these letters.
    let is_key = |at: &usize| value[..*at].ends_with(['{', ',', ' ']) && value[at + 4..].trim_start().starts_with('=');
    let Some(at) = value.match_indices("path").map(|(at, _)| at).find(is_key) else { return value.to_string() };
    let mut quotes = value[at..].match_indices('"').map(|(i, _)| at + i);
    let (Some(open), Some(close)) = (quotes.next(), quotes.next()) else { return value.to_string() };
    let path = Path::new(&value[open + 1..close]);
    match path.is_relative().then(|| std::env::current_dir().map(|here| here.join(path))) {
        Some(Ok(path)) => format!("{}{:?}{}", &value[..open], path.display().to_string(), &value[close + 1..]),
        _ => value.to_string(),
    }
}

struct Build {
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
    fn new(session: &Session, wanted: &BTreeMap<String, String>, name: &str) -> Build {
        let dependencies = &session.dependencies;
        let below: Vec<(String, PathBuf)> = dependencies.built.iter().map(|built| (built.krate.clone(), built.dylib.clone())).collect();
        let lines: Vec<String> = wanted.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let identity = format!("{} {lines:?} {below:?} {}", dependencies.build_id, session.home.root().display());
        let hash = stable_hash(identity.as_bytes());
        let krate = format!("skep_dep_{hash:016x}");
        let folder = cache_folder().join("deps").join(&krate);
        let manifest = format!(
            "[package]\nname = \"{krate}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\ncrate-type = [\"dylib\"]\n\n[workspace]\n\n[dependencies]\n{}\n",
            lines.join("\n")
        );
        let names = std::iter::once("skep").chain(below.iter().map(|(krate, _)| krate.as_str()));
        let lib: String = names
            .map(|name| format!("extern crate {name} as _;\n"))
            .chain(wanted.keys().map(|name| format!("pub use ::{};\n", name.replace('-', "_"))))
            .collect();
        let lock = match dependencies.built.last() {
            Some(built) => cache_folder().join("deps").join(&built.krate).join("Cargo.lock"),
            None => session.home.checkout().join("Cargo.lock"),
        };
        let target =
            cache_folder().join(format!("deps/target-{:016x}", stable_hash(format!("{} {}", dependencies.build_id, session.home.root().display()).as_bytes())));
        Build { folder, krate, manifest, lib, lock, below, target, name: name.to_string() }
    }

    fn run(&self, session: &Session, cell: u32) -> Result<Built, CellError> {
        let done = self.folder.join("built.json");
        let known: Option<Built> = fs::read(&done).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(built) = known.filter(|built| built.dylib.exists() && built.externs.iter().all(|(_, file)| file.exists())) {
            return Ok(built);
        }
        self.write(session).map_err(|error| {
            let hint = "free some space, or set SKEP_CACHE to another folder";
            session_error("Dependency", &format!("the build folder {} cannot be written: {error}\nhint: {hint}", self.folder.display()))
        })?;
        // What is on this machine already is enough for most; only then the registry is asked.
        let mut outcome = self.cargo(session, cell, true)?;
        if let Outcome::Failed(said) = &outcome
            && is_about_the_network(said)
        {
            outcome = self.cargo(session, cell, false)?;
        }
        match outcome {
            Outcome::Failed(said) => Err(session_error("Dependency", &self.explain(&said))),
            Outcome::Done => {
                let record = fs::read(self.folder.join("linked.json")).ok().and_then(|text| serde_json::from_slice::<Built>(&text).ok());
                let built =
                    record.ok_or_else(|| session_error("Dependency", "cargo built nothing\nhint: remove the folder `deps` of the cache and try again"))?;
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
        };
        fs::write(self.folder.join("job.json"), serde_json::to_vec(&job)?)
    }

    fn cargo(&self, session: &Session, cell: u32, is_offline: bool) -> Result<Outcome, CellError> {
        let rustc = &session.home.toolchain().rustc;
        let beside = rustc.with_file_name("cargo");
        let mut command = Command::new(if beside.exists() { beside } else { PathBuf::from("cargo") });
        command.args(["build", "--release", "--message-format=json-render-diagnostics"]).current_dir(&self.folder);
        if is_offline {
            command.arg("--offline");
        }
        command.env("CARGO_TARGET_DIR", &self.target).env("RUSTC", rustc).env("RUSTC_WRAPPER", session.home.root().join("bin/skep-rustc"));
        command.env("SKEP_DEP_JOB", self.folder.join("job.json"));
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| {
            session_error("Dependency", &format!("cargo could not be started: {error}\nhint: install Rust with rustup, or put cargo on the PATH"))
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
                    &format!("interrupted while building `{}`\nhint: what was built so far is kept; `:dep` again goes on from there", self.name),
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
    fn explain(&self, said: &str) -> String {
        const NOISE: [&str; 5] = ["Compiling", "Updating", "Blocking", "Locking", "Adding"];
        let lines: Vec<&str> = said.lines().filter(|line| !NOISE.iter().any(|word| line.trim_start().starts_with(word))).collect();
        let mut text = lines.join("\n").replace(&format!(" ({})", self.folder.display()), "").replace(&format!("{} v0.0.0", self.krate), "this notebook");
        text = text.replace(&self.krate, "this notebook");
        if text.len() > 6_000 {
            text = format!("…{}", &text[text.ceil_char_boundary(text.len() - 6_000)..]);
        }
        let hint = if is_about_the_network(said) {
            format!("is `{}` spelt right, and is the registry reachable? Crates that were built before work without a network", self.name)
        } else {
            format!("the compiler's message is above; another version of `{}` may do", self.name)
        };
        format!("`{}` could not be built\n{}\nhint: {hint}", self.name, text.trim())
    }
}

enum Outcome {
    Done,
    Failed(String),
}

fn is_about_the_network(said: &str) -> bool {
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
fn end_group(child: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn read_artifacts(stdout: impl Read, built: &mpsc::Sender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message["reason"] == "compiler-artifact"
            && message["fresh"] == false
            && let Some(name) = message["target"]["name"].as_str()
        {
            let _ = built.send(name.to_string());
        }
    }
}

/// The line of progress, once there is something to wait for.
struct Shown<'s> {
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
    fn new(session: &'s Session, cell: u32, name: &str) -> Shown<'s> {
        let now = std::time::Instant::now();
        let id = format!("skep-progress-dep-{}-{cell}-{name}", std::process::id());
        Shown { session, cell, name: name.to_string(), id, is_shown: false, n_crates: 0, last: String::new(), started: now, drawn: now }
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
        let last = if self.last.is_empty() { String::new() } else { format!("; last: {}", self.last) };
        let n = skep_render::plural(self.n_crates, "crate");
        self.show(format!("building `{}`: {n} compiled in {}{last}; an interrupt stops it", self.name, skep_render::duration(self.started.elapsed())));
    }

    fn show(&mut self, text: String) {
        let bundle = Bundle::text(text);
        let id = self.id.clone();
        let output = if self.is_shown { Output::UpdateDisplay { id, bundle } } else { Output::Display { id: Some(id), bundle } };
        crate::Face::output(&*self.session.face, self.cell, output);
        (self.is_shown, self.drawn) = (true, std::time::Instant::now());
    }

    fn end(&mut self, how: &str) {
        if self.is_shown {
            let n = skep_render::plural(self.n_crates, "crate");
            self.show(format!("{how} `{}`: {n} compiled in {}", self.name, skep_render::duration(self.started.elapsed())));
        }
    }
}

/// What the wrapped rustc must know.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    krate: String,
    folder: PathBuf,
    dylib: PathBuf,
    deps: PathBuf,
    prebuilt: PathBuf,
    below: Vec<(String, PathBuf)>,
}

/// Cargo's `RUSTC_WRAPPER`: takes crates out of `libskep.so` where it can, and runs rustc where it cannot. Returns the exit code.
///
/// # Errors
/// When a prebuilt crate cannot be put in place, or rustc cannot be started.
pub fn wrap_rustc(arguments: &[OsString]) -> io::Result<i32> {
    let (rustc, args) = arguments.split_first().ok_or_else(|| io::Error::other("no compiler was named\nhint: cargo calls this; there is no need to"))?;
    let job: Option<Job> = std::env::var_os("SKEP_DEP_JOB").and_then(|path| fs::read(path).ok()).and_then(|text| serde_json::from_slice(&text).ok());
    let mut command = Command::new(rustc);
    command.args(args);
    if let (Some(job), Some(unit)) = (job, Unit::of(args)) {
        if unit.krate == job.krate {
            return link(&job, &unit, command);
        }
        unit.note()?;
        if let Some(prebuilt) = unit.find(&job)? {
            unit.take(&prebuilt)?;
            return Ok(0);
        }
        command.arg("-L").arg(with_prefix("dependency=", &job.deps));
    }
    Ok(command.status()?.code().unwrap_or(101))
}

fn with_prefix(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

/// The last crate: the dylib, on top of Skep's and of earlier ones.
fn link(job: &Job, unit: &Unit, mut command: Command) -> io::Result<i32> {
    command.arg("-Cprefer-dynamic").arg("--extern").arg(with_prefix("skep=", &job.dylib)).arg("-L").arg(with_prefix("dependency=", &job.deps));
    command.arg("-L").arg(with_prefix("dependency=", job.dylib.parent().unwrap_or(Path::new("."))));
    for (krate, dylib) in &job.below {
        command.arg("--extern").arg(with_prefix(&format!("{krate}="), dylib));
    }
    command.arg(with_prefix("-Clink-arg=-Wl,-rpath,", &unit.out_dir));
    let code = command.status()?.code().unwrap_or(101);
    if code == 0 {
        // Metadata is enough for rustc here, but a cell has to find the code.
        let externs: Vec<(String, PathBuf)> =
            unit.externs.iter().map(|(name, file)| (name.clone(), file.with_extension("rlib"))).filter(|(_, file)| file.exists()).collect();
        let macros = unit.externs.iter().filter(|(_, file)| file.extension() == Some(OsStr::new("so"))).cloned();
        let dylib = unit.out_dir.join(format!("lib{}{}.so", unit.krate, unit.extra_filename));
        let apart = built_apart(&unit.externs);
        let built = Built { krate: unit.krate.clone(), dylib, externs: externs.into_iter().chain(macros).collect(), apart };
        fs::write(job.folder.join("linked.json"), serde_json::to_vec(&built)?)?;
    }
    Ok(code)
}

/// Crates that go into the dylib although Skep has them too. What only macros use while compiling does not count.
fn built_apart(externs: &[(String, PathBuf)]) -> Vec<String> {
    let mut open: Vec<PathBuf> = externs.iter().map(|(_, file)| file.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut apart = BTreeSet::new();
    while let Some(file) = open.pop() {
        if file.extension() == Some(OsStr::new("so")) || !seen.insert(file.with_extension("")) {
            continue;
        }
        apart.extend(fs::read_to_string(file.with_extension("apart")));
        open.extend(fs::read_to_string(file.with_extension("externs")).unwrap_or_default().lines().map(PathBuf::from));
    }
    apart.into_iter().collect()
}

/// One call of rustc by cargo.
struct Unit {
    krate: String,
    out_dir: PathBuf,
    extra_filename: String,
    features: Vec<String>,
    externs: Vec<(String, PathBuf)>,
    source: PathBuf,
    is_lib: bool,
}

impl Unit {
    fn of(args: &[OsString]) -> Option<Unit> {
        let args: Vec<&str> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
        let after = |name: &str| args.iter().zip(args.iter().skip(1)).filter(|(flag, _)| **flag == name).map(|(_, value)| *value).collect::<Vec<_>>();
        let quoted = |cfg: &str| Some(cfg.strip_prefix("feature=\"")?.strip_suffix('"')?.to_string());
        Some(Unit {
            krate: after("--crate-name").first()?.to_string(),
            out_dir: PathBuf::from(after("--out-dir").first()?),
            extra_filename: after("-C").iter().find_map(|value| value.strip_prefix("extra-filename=")).unwrap_or_default().to_string(),
            features: after("--cfg").into_iter().filter_map(quoted).collect(),
            externs: after("--extern")
                .into_iter()
                .filter_map(|value| value.split_once('='))
                .map(|(name, file)| (bare(name).to_string(), PathBuf::from(file)))
                .collect(),
            source: PathBuf::from(args.iter().find(|arg| arg.ends_with(".rs"))?),
            is_lib: after("--crate-type").iter().all(|kind| *kind == "lib" || *kind == "rlib"),
        })
    }

    /// The crate inside `libskep.so` that this one can be: the same version, with all features, on the same crates below.
    fn find(&self, job: &Job) -> io::Result<Option<Prebuilt>> {
        if !self.is_lib {
            return Ok(None);
        }
        let all: Vec<Prebuilt> = serde_json::from_slice(&fs::read(&job.prebuilt)?)?;
        let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
        let of_name: Vec<&Prebuilt> = all.iter().filter(|prebuilt| prebuilt.name == self.krate).collect();
        let is_macro = |file: &Path| file.extension() == Some(OsStr::new("so"));
        let is_on_same = self.externs.iter().all(|(_, file)| is_macro(file) || marker(file).exists());
        let fitting = of_name.iter().find(|prebuilt| prebuilt.version == version && self.features.iter().all(|feature| prebuilt.features.contains(feature)));
        match fitting {
            Some(prebuilt) if is_on_same => Ok(Some((*prebuilt).clone())),
            _ => {
                let _ = fs::remove_file(marker(&self.output()));
                if of_name.iter().any(|prebuilt| prebuilt.version.split('.').next() == version.split('.').next()) {
                    fs::write(self.output().with_extension("apart"), &self.krate)?;
                }
                Ok(None)
            }
        }
    }

    fn output(&self) -> PathBuf {
        self.out_dir.join(format!("lib{}{}.rlib", self.krate, self.extra_filename))
    }

    /// Remembers what this crate is made of, for [`built_apart`].
    fn note(&self) -> io::Result<()> {
        if !self.is_lib {
            return Ok(());
        }
        let externs: Vec<String> = self.externs.iter().map(|(_, file)| file.display().to_string()).collect();
        fs::write(self.output().with_extension("externs"), externs.join("\n"))
    }

    /// Puts the prebuilt crate where cargo looks for what it asked to be compiled.
    fn take(&self, prebuilt: &Prebuilt) -> io::Result<()> {
        let stem = format!("lib{}{}", self.krate, self.extra_filename);
        for (from, extension) in [(&prebuilt.rlib, "rlib"), (&prebuilt.rmeta, "rmeta")] {
            let to = self.out_dir.join(format!("{stem}.{extension}"));
            let _ = fs::remove_file(&to);
            fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop))?;
        }
        fs::write(marker(&self.output()), "")?;
        let _ = fs::remove_file(self.output().with_extension("apart"));
        let dep_info = self.out_dir.join(format!("{}{}.d", self.krate, self.extra_filename));
        fs::write(&dep_info, format!("{}: {}\n", dep_info.display(), self.source.display()))
    }
}

/// `--extern` may carry options: `priv:regex`.
fn bare(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// Says that a file of cargo's is one of `libskep.so`'s crates.
fn marker(file: &Path) -> PathBuf {
    file.with_extension("prebuilt")
}

/// FNV-1a: the same in every build and on every machine, which the standard library's hasher does not promise.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_stand_behind_dep() {
        for (args, expect) in [
            ("regex", Ok(("regex", "\"*\""))),
            ("regex = \"1\"", Ok(("regex", "\"1\""))),
            ("a-b={version=\"1\"}", Ok(("a-b", "{version=\"1\"}"))),
            ("m = { path = \"/abs\" }", Ok(("m", "{ path = \"/abs\" }"))),
            ("1x", Err("no crate's name")),
            ("x = 1", Err("no version")),
            ("x = \"", Err("no version")),
        ] {
            match (parse(args), expect) {
                (Ok((name, value)), Ok(expect)) => assert_eq!((name.as_str(), value.as_str()), expect),
                (Err(message), Err(expect)) => assert!(message.contains(expect) && message.contains("hint:"), "{message}"),
                (found, expect) => panic!("{args}: {found:?} instead of {expect:?}"),
            }
        }
        let feature = "{ version = \"1\", features = [\"path\", \"std\"] }";
        assert_eq!(absolute_path(feature), feature);
        assert!(parse("m = { path = \"../mine\" }").unwrap().1.contains("path = \"/"));
    }

    #[test]
    fn a_call_of_rustc_is_understood() {
        let args: Vec<OsString> = "--crate-name serde --edition=2021 src/lib.rs --crate-type lib --cfg feature=\"std\" -C metadata=1 -C extra-filename=-12 --out-dir /t --extern serde_core=/t/libserde_core-3.rmeta"
            .split(' ')
            .map(OsString::from)
            .collect();
        let unit = Unit::of(&args).unwrap();
        assert_eq!((unit.krate.as_str(), unit.extra_filename.as_str(), unit.features.as_slice()), ("serde", "-12", &["std".to_string()][..]));
        assert_eq!(unit.externs, [("serde_core".to_string(), PathBuf::from("/t/libserde_core-3.rmeta"))]);
        assert!(unit.is_lib && Unit::of(&["-vV".into()]).is_none());
    }
}
