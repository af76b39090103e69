//! `:dep`: crates from a registry or a folder, built once per user into dylibs that cells link.
//!
//! Cargo resolves and builds, from Skep's own lock file, so that shared crates get the versions that `libskep.so` has. Each
//! call of rustc goes through [`crate::wrap_rustc`]: a crate that is inside `libskep.so` already, with all features that are asked
//! for, is not compiled but taken from there. That is what makes a `serde::Serialize` of a new crate the one that Skep
//! knows. What is new goes into one dylib, so that its statics exist once, however many cells use them; a later `:dep`
//! makes another dylib on top of the first.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;
use skep_cell::{CellError, Extra};
use skep_render::{Bundle, card::Card};

use crate::{
    Home, Output, cache_folder,
    commands::{Call, failed},
    session::{Session, session_error},
    wrap::{Built, Job},
};

/// The crates that a session added, and what they were built on.
pub(crate) struct Dependencies {
    /// Name → what stands behind `=` in a Cargo.toml.
    wanted: BTreeMap<String, String>,
    /// The dylibs so far, oldest first.
    built: Vec<Built>,
    build_id: String,
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
    let args = of_folder(call.args).map_err(|message| failed(&message))?;
    let (name, value) = parse(&args).map_err(|message| failed(&message))?;
    if session.dependencies.wanted.get(&name) == Some(&value) {
        return Ok(Some(Bundle::text(format!("`{name}` is there already"))));
    }
    if let Some(text) = inside_skep(&session.home, &name, &value) {
        return Ok(Some(Bundle::text(text)));
    }
    let built = Build::new(session, &name, &value).run(session, call.cell)?;
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
    session.dependencies.wanted.insert(name, value);
    session.dependencies.built.push(built);
    session.compiler.set_extra(session.dependencies.extra());
    Ok(None)
}

/// `:dep /path/to/crate` names the crate by its folder.
fn of_folder(args: &str) -> Result<String, String> {
    if !args.starts_with(['/', '.', '~']) {
        return Ok(args.to_string());
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let folder = PathBuf::from(args.strip_prefix('~').map_or_else(|| args.to_string(), |rest| format!("{home}{rest}")));
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| format!("{} cannot be read: {error}\nhint: give the folder of a crate", manifest.display()))?;
    let package = text.split("[package]").nth(1).unwrap_or_default();
    let name = package.lines().find_map(|line| line.trim().strip_prefix("name")?.trim().strip_prefix('=')?.trim().strip_prefix('"')?.strip_suffix('"'));
    let name = name.ok_or_else(|| format!("{} names no package\nhint: give the folder of a crate, not of a workspace", manifest.display()))?;
    Ok(format!("{name} = {{ path = {:?} }}", folder.display().to_string()))
}

/// What to say of a crate that is part of Skep, and need not be built: the version fits, and no feature is asked for that its copy
/// lacks. `None` for all others.
fn inside_skep(home: &Home, name: &str, value: &str) -> Option<String> {
    let name = name.replace('-', "_");
    if !home.toolchain().externs.iter().any(|(known, _)| *known == name)
        || ["path", "git", "default-features", "package", "branch"].iter().any(|key| value.contains(key))
    {
        return None;
    }
    let all: Vec<crate::Prebuilt> = serde_json::from_slice(&fs::read(home.prebuilt()).ok()?).ok()?;
    let mut strings = value.split('"').skip(1).step_by(2).peekable();
    let is_version_first = value.starts_with('"') || value.split('"').next().is_some_and(|before| before.contains("version"));
    let wanted = if is_version_first { strings.next().unwrap_or("*") } else { "*" };
    let features: Vec<&str> = strings.collect();
    let fits = |prebuilt: &&crate::Prebuilt| {
        prebuilt.name == name && is_compatible(wanted, &prebuilt.version) && features.iter().all(|feature| prebuilt.features.iter().any(|has| has == feature))
    };
    let prebuilt = all.iter().find(fits)?;
    Some(format!("`{name}` {} is part of Skep, and this copy is used, so that its types are those of Skep and Polars", prebuilt.version))
}

/// As cargo reads a plain requirement.
fn is_compatible(wanted: &str, version: &str) -> bool {
    semver::VersionReq::parse(wanted).is_ok_and(|wanted| semver::Version::parse(version).is_ok_and(|version| wanted.matches(&version)))
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
    /// Only the new crate: what was added before stays as it was built, whatever features this one asks for.
    fn new(session: &Session, name: &str, value: &str) -> Build {
        let dependencies = &session.dependencies;
        let below: Vec<(String, PathBuf)> = dependencies.built.iter().map(|built| (built.krate.clone(), built.dylib.clone())).collect();
        let line = format!("{name} = {value}");
        let identity = format!("{} {line:?} {below:?} {}", dependencies.build_id, session.home.root().display());
        let hash = stable_hash(identity.as_bytes());
        let krate = format!("skep_dep_{hash:016x}");
        let folder = cache_folder().join("deps").join(&krate);
        let manifest = format!(
            "[package]\nname = \"{krate}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\ncrate-type = [\"dylib\"]\n\n[workspace]\n\n[dependencies]\n{}\n",
            line
        );
        let names = std::iter::once("skep").chain(below.iter().map(|(krate, _)| krate.as_str()));
        let lib: String = names.map(|name| format!("extern crate {name} as _;\n")).chain([format!("pub use ::{};\n", name.replace('-', "_"))]).collect();
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
            holds: session.dependencies.built.iter().flat_map(|built| built.holds.iter().cloned()).collect(),
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
}
