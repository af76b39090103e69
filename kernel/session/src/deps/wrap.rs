//! Cargo's wrapper around rustc, for `:dep`: what is inside `libskep.so` is taken from there, not compiled
//! again.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};
use skep_render::Message;

use crate::home::Home;

/// What one `:dep` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Built {
    pub krate: String,
    pub dylib: PathBuf,
    pub externs: Vec<(String, PathBuf)>,
    /// Crates that Skep has too, but not with the features that were asked for: their types differ from
    /// Skep's.
    pub apart: Vec<String>,
    /// All crates that went into the dylib.
    #[serde(default)]
    pub holds: Vec<Prebuilt>,
}

/// A crate inside `libskep.so`, or inside the dylib of an earlier `:dep`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prebuilt {
    pub name: String,
    pub version: String,
    pub features: Vec<String>,
    /// Where its code is, for what runs while others compile; of what is inside a dylib, metadata is enough.
    pub rlib: Option<PathBuf>,
    pub rmeta: PathBuf,
}

/// Reads what is known of the crates of a home: their files are named from its folder on.
pub(crate) fn read_prebuilt(file: &Path) -> io::Result<Vec<Prebuilt>> {
    let mut all: Vec<Prebuilt> = serde_json::from_slice(&fs::read(file)?)?;
    let home = file.parent().unwrap_or(Path::new(""));
    for prebuilt in &mut all {
        prebuilt.rmeta = home.join(&prebuilt.rmeta);
        prebuilt.rlib = prebuilt.rlib.as_ref().map(|rlib| home.join(rlib));
    }
    Ok(all)
}

/// What the wrapped rustc must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub krate: String,
    pub folder: PathBuf,
    pub dylib: PathBuf,
    pub deps: PathBuf,
    pub prebuilt: PathBuf,
    pub below: Vec<(String, PathBuf)>,
    /// What those dylibs hold.
    pub holds: Vec<Prebuilt>,
    /// The folder in which cargo builds.
    #[serde(default)]
    pub target: PathBuf,
    /// Of the library that this stands on.
    #[serde(default)]
    pub build_id: String,
}

/// Cargo's `RUSTC_WRAPPER`: takes crates out of `libskep.so` where it can, and runs rustc where it cannot.
/// Returns the exit code.
///
/// # Errors
/// When a prebuilt crate cannot be put in place, or rustc cannot be started.
pub fn wrap_rustc(arguments: &[OsString]) -> io::Result<i32> {
    let (rustc, args) = arguments.split_first().ok_or_else(|| {
        io::Error::other(Message::new("no compiler was named").hint("cargo calls this; there is no need to"))
    })?;
    let job: Option<Job> = std::env::var_os("SKEP_DEP_JOB")
        .and_then(|path| fs::read(path).ok())
        .and_then(|text| serde_json::from_slice(&text).ok());
    let mut command = Command::new(rustc);
    command.args(args);
    if std::env::var_os("SKEP_PROJECT").is_some() {
        return wrap_project(args, command);
    }
    if let (Some(job), Some(unit)) = (job, Unit::of(args)) {
        if unit.krate == job.krate {
            return link(&job, &unit, command);
        }
        unit.note()?;
        if let Some(prebuilt) = unit.find(&job.prebuilt, &job.holds)? {
            unit.take(&prebuilt)?;
            return Ok(0);
        }
        command.arg("-L").arg(with_prefix("dependency=", &job.deps));
    }
    Ok(command.status()?.code().unwrap_or(101))
}

/// A crate of a project that `skep new` made: its own code sees Skep as a cell does, and shares its crates.
fn wrap_project(args: &[OsString], mut command: Command) -> io::Result<i32> {
    let run = |mut command: Command| Ok(command.status()?.code().unwrap_or(101));
    let Some(unit) = Unit::of(args) else {
        return run(command);
    };
    let home = Home::locate()?;
    let toolchain = home.toolchain();
    if std::env::var_os("CARGO_PRIMARY_PACKAGE").is_none() {
        unit.note()?;
        if let Some(prebuilt) = unit.find(&home.prebuilt(), &[])? {
            unit.take(&prebuilt)?;
            return Ok(0);
        }
        command.arg("-L").arg(with_prefix("dependency=", &toolchain.deps));
        return run(command);
    }
    if unit.krate == "build_script_build" {
        return run(command);
    }
    let own = [("skep".to_string(), toolchain.dylib.clone())];
    for (name, file) in own.iter().chain(&toolchain.externs) {
        if unit.externs.iter().all(|(known, _)| known != name) {
            command
                .arg("--extern")
                .arg(with_prefix(&format!("{name}="), file));
        }
    }
    let library = home.library_folder();
    command
        .arg("-Cprefer-dynamic")
        .arg("-L")
        .arg(with_prefix("dependency=", &toolchain.deps))
        .arg(with_prefix("-Clink-arg=-Wl,-rpath,", &library));
    // What was compiled against an earlier library cannot be linked with this one.
    let stamp = unit.out_dir.join("skep-build");
    let build = super::build_id(&toolchain.dylib);
    let before = fs::read_to_string(&stamp).ok();
    let code = run(command)?;
    if code == 0 {
        fs::write(&stamp, &build)?;
        unit.depend_on(&toolchain.dylib)?;
    } else if before.is_some_and(|before| before != build) {
        eprintln!(
            "note: Skep was updated since this was built; if the error is about crates, `cargo clean` mends it"
        );
    }
    Ok(code)
}

fn with_prefix(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

/// The last crate: the dylib, on top of Skep's and of earlier ones.
fn link(job: &Job, unit: &Unit, mut command: Command) -> io::Result<i32> {
    command
        .arg("-Cprefer-dynamic")
        .arg("--extern")
        .arg(with_prefix("skep=", &job.dylib))
        .arg("-L")
        .arg(with_prefix("dependency=", &job.deps));
    command.arg("-L").arg(with_prefix(
        "dependency=",
        job.dylib.parent().unwrap_or(Path::new(".")),
    ));
    for (krate, dylib) in &job.below {
        command
            .arg("--extern")
            .arg(with_prefix(&format!("{krate}="), dylib));
    }
    command.arg(with_prefix("-Clink-arg=-Wl,-rpath,", &unit.out_dir));
    let code = command.status()?.code().unwrap_or(101);
    if code == 0 {
        // Metadata is enough for rustc here, but a cell has to find the code.
        let externs: Vec<(String, PathBuf)> = unit
            .externs
            .iter()
            .map(|(name, file)| (name.clone(), file.with_extension("rlib")))
            .filter(|(_, file)| file.exists())
            .collect();
        let macros = unit
            .externs
            .iter()
            .filter(|(_, file)| file.extension() == Some(OsStr::new("so")))
            .cloned();
        let dylib = unit
            .out_dir
            .join(format!("lib{}{}.so", unit.krate, unit.extra_filename));
        let apart = built_apart(&unit.externs);
        let holds = all_inside(&unit.externs);
        for prebuilt in &holds {
            fs::write(marker(&prebuilt.rmeta), "")?;
        }
        let built = Built {
            krate: unit.krate.clone(),
            dylib,
            externs: externs.into_iter().chain(macros).collect(),
            apart,
            holds,
        };
        fs::write(job.folder.join("linked.json"), serde_json::to_vec(&built)?)?;
    }
    Ok(code)
}

/// Crates that go into the dylib although Skep has them too. What only macros use while compiling does not
/// count.
fn built_apart(externs: &[(String, PathBuf)]) -> Vec<String> {
    let mut open: Vec<PathBuf> = externs.iter().map(|(_, file)| file.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut apart = BTreeSet::new();
    while let Some(file) = open.pop() {
        if file.extension() == Some(OsStr::new("so")) || !seen.insert(file.with_extension("")) {
            continue;
        }
        apart.extend(fs::read_to_string(file.with_extension("apart")));
        open.extend(
            fs::read_to_string(file.with_extension("externs"))
                .unwrap_or_default()
                .lines()
                .map(PathBuf::from),
        );
    }
    apart.into_iter().collect()
}

/// The crates that a dylib of these holds: they, and what they are made of.
fn all_inside(externs: &[(String, PathBuf)]) -> Vec<Prebuilt> {
    let mut open: Vec<PathBuf> = externs.iter().map(|(_, file)| file.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(file) = open.pop() {
        if file.extension() == Some(OsStr::new("so")) || !seen.insert(file.with_extension("")) {
            continue;
        }
        let described = fs::read(file.with_extension("unit"))
            .ok()
            .and_then(|text| serde_json::from_slice::<Prebuilt>(&text).ok());
        let is_there = |prebuilt: &Prebuilt| {
            prebuilt.rmeta.exists() && prebuilt.rlib.as_ref().is_some_and(|rlib| rlib.exists())
        };
        found.extend(described.filter(is_there));
        open.extend(
            fs::read_to_string(file.with_extension("externs"))
                .unwrap_or_default()
                .lines()
                .map(PathBuf::from),
        );
    }
    found
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
    /// Whether it runs while others compile: cargo optimises only the rest.
    is_of_host: bool,
}

impl Unit {
    fn of(args: &[OsString]) -> Option<Unit> {
        let args: Vec<&str> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
        let after = |name: &str| {
            args.iter()
                .zip(args.iter().skip(1))
                .filter(|(flag, _)| **flag == name)
                .map(|(_, value)| *value)
                .collect::<Vec<_>>()
        };
        let quoted = |cfg: &str| Some(cfg.strip_prefix("feature=\"")?.strip_suffix('"')?.to_string());
        Some(Unit {
            krate: after("--crate-name").first()?.to_string(),
            out_dir: PathBuf::from(after("--out-dir").first()?),
            extra_filename: after("-C")
                .iter()
                .find_map(|value| value.strip_prefix("extra-filename="))
                .unwrap_or_default()
                .to_string(),
            features: after("--cfg").into_iter().filter_map(quoted).collect(),
            externs: after("--extern")
                .into_iter()
                .filter_map(|value| value.split_once('='))
                .map(|(name, file)| (bare(name).to_string(), PathBuf::from(file)))
                .collect(),
            source: PathBuf::from(args.iter().find(|arg| arg.ends_with(".rs"))?),
            is_of_host: !after("-C").iter().any(|value| value.starts_with("opt-level=")),
            is_lib: after("--crate-type")
                .iter()
                .all(|kind| *kind == "lib" || *kind == "rlib"),
        })
    }

    /// The crate inside `libskep.so` that this one can be: the same version, with all features, on the same
    /// crates below.
    fn find(&self, prebuilt: &Path, holds: &[Prebuilt]) -> io::Result<Option<Prebuilt>> {
        if !self.is_lib {
            return Ok(None);
        }
        let mut all = read_prebuilt(prebuilt)?;
        all.extend(holds.iter().cloned());
        let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
        let of_name: Vec<&Prebuilt> = all
            .iter()
            .filter(|prebuilt| prebuilt.name == self.krate)
            .collect();
        let is_macro = |file: &Path| file.extension() == Some(OsStr::new("so"));
        let is_on_same = self
            .externs
            .iter()
            .all(|(_, file)| is_macro(file) || marker(file).exists());
        let fitting = of_name.iter().find(|prebuilt| {
            (prebuilt.rlib.is_some() || !self.is_of_host)
                && prebuilt.version == version
                && self
                    .features
                    .iter()
                    .all(|feature| prebuilt.features.contains(feature))
        });
        match fitting {
            Some(prebuilt) if is_on_same => Ok(Some((*prebuilt).clone())),
            _ => {
                let _ = fs::remove_file(marker(&self.output()));
                if of_name
                    .iter()
                    .any(|prebuilt| prebuilt.version.split('.').next() == version.split('.').next())
                {
                    fs::write(self.output().with_extension("apart"), &self.krate)?;
                }
                Ok(None)
            }
        }
    }

    fn output(&self) -> PathBuf {
        self.out_dir
            .join(format!("lib{}{}.rlib", self.krate, self.extra_filename))
    }

    /// Remembers what this crate is made of, for [`built_apart`].
    fn note(&self) -> io::Result<()> {
        if !self.is_lib {
            return Ok(());
        }
        let externs: Vec<String> = self
            .externs
            .iter()
            .map(|(_, file)| file.display().to_string())
            .collect();
        let rlib = self.output();
        let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
        let rmeta = rlib.with_extension("rmeta");
        let unit = Prebuilt {
            name: self.krate.clone(),
            version,
            features: self.features.clone(),
            rmeta,
            rlib: Some(rlib.clone()),
        };
        fs::write(rlib.with_extension("unit"), serde_json::to_vec(&unit)?)?;
        fs::write(rlib.with_extension("externs"), externs.join("\n"))
    }

    /// Has cargo compile this anew when a file has changed.
    fn depend_on(&self, file: &Path) -> io::Result<()> {
        let dep_info = self
            .out_dir
            .join(format!("{}{}.d", self.krate, self.extra_filename));
        let text = fs::read_to_string(&dep_info)?;
        let name = file.display().to_string().replace(' ', "\\ ");
        // Cargo reads the first rule.
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        fs::write(&dep_info, format!("{first} {name}\n{rest}"))
    }

    /// Puts the prebuilt crate where cargo looks for what it asked to be compiled.
    fn take(&self, prebuilt: &Prebuilt) -> io::Result<()> {
        let stem = format!("lib{}{}", self.krate, self.extra_filename);
        // Copies: cargo sets the dates of what it takes for its own work, and a link's date is that of the library's own crates, which
        // would all be compiled again.
        let place = |from: &Path, extension: &str| {
            let to = self.out_dir.join(format!("{stem}.{extension}"));
            let _ = fs::remove_file(&to);
            fs::copy(from, &to).map(drop)
        };
        place(&prebuilt.rmeta, "rmeta")?;
        match &prebuilt.rlib {
            Some(rlib) => place(rlib, "rlib")?,
            None => write_without_code(&prebuilt.rmeta, &self.output())?,
        }
        fs::write(marker(&self.output()), "")?;
        let _ = fs::remove_file(self.output().with_extension("apart"));
        let dep_info = self
            .out_dir
            .join(format!("{}{}.d", self.krate, self.extra_filename));
        fs::write(
            &dep_info,
            format!("{}: {}\n", dep_info.display(), self.source.display()),
        )
    }
}

/// The library of a crate whose code is in a dylib: an archive (`ar`) that holds the metadata alone.
fn write_without_code(rmeta: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::read(rmeta)?;
    let size = metadata.len();
    let mut archive = format!(
        "!<arch>\n{:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
        "lib.rmeta/", 0, 0, 0, 644
    )
    .into_bytes();
    archive.extend(metadata);
    // Members end at even places.
    archive.resize(archive.len().next_multiple_of(2), b'\n');
    let _ = fs::remove_file(to);
    fs::write(to, archive)
}

/// `--extern` may carry options: `priv:regex`.
fn bare(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// Says that a file of cargo's is one of `libskep.so`'s crates.
fn marker(file: &Path) -> PathBuf {
    file.with_extension("prebuilt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_rustc_is_understood() {
        let args: Vec<OsString> = "--crate-name serde --edition=2021 src/lib.rs --crate-type lib --cfg feature=\"std\" -C metadata=1 -C extra-filename=-12 --out-dir /t --extern serde_core=/t/libserde_core-3.rmeta"
            .split(' ')
            .map(OsString::from)
            .collect();
        let unit = Unit::of(&args).unwrap();
        assert_eq!(
            (
                unit.krate.as_str(),
                unit.extra_filename.as_str(),
                unit.features.as_slice()
            ),
            ("serde", "-12", &["std".to_string()][..])
        );
        assert_eq!(
            unit.externs,
            [(
                "serde_core".to_string(),
                PathBuf::from("/t/libserde_core-3.rmeta")
            )]
        );
        assert!(unit.is_lib && unit.is_of_host && Unit::of(&["-vV".into()]).is_none());
    }
}
