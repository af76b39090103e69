//! Crates that a notebook adds: what was asked for, what Skep holds already, and what has to be built.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use skep_cell::Extra;
use skep_render::{Bundle, Message, card::Card};

use crate::{deps::wrap::Built, home::Home};

pub(crate) mod wrap;

/// The crates that a session added, and what they were built on.
pub(crate) struct Dependencies {
    /// Name → what stands behind `=` in a Cargo.toml.
    pub(crate) wanted: BTreeMap<String, String>,
    /// The dylibs so far, oldest first.
    pub(crate) built: Vec<Built>,
    pub(crate) build_id: String,
}

impl Dependencies {
    pub fn new(home: &Home) -> Dependencies {
        Dependencies {
            wanted: BTreeMap::new(),
            built: Vec::new(),
            build_id: build_id(&home.toolchain().dylib),
        }
    }

    pub(crate) fn list(&self) -> Bundle {
        if self.wanted.is_empty() {
            return Bundle::text("no crate was added yet; for example `:dep regex = \"1\"`");
        }
        let rows = self
            .wanted
            .iter()
            .map(|(name, value)| [name.clone(), value.clone()]);
        Card::new("Dependencies")
            .table(["crate", "as in Cargo.toml"], rows)
            .bundle()
    }

    pub(crate) fn extra(&self) -> Extra {
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

/// Tells one build of a library from another.
fn build_id(dylib: &Path) -> String {
    let built_at = fs::metadata(dylib).ok().and_then(|dylib| {
        let modified = dylib.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((dylib.len(), since.as_nanos()))
    });
    format!("{built_at:?}")
}

/// The folders below the cache's `deps` that were built on libraries that are not there any more: they cannot be loaded again.
pub fn crates_of_earlier_builds(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let (crates, targets): (Vec<PathBuf>, Vec<PathBuf>) = entries
        .map(|entry| entry.path())
        .partition(|path| path.join("lib.rs").exists());
    let job = |folder: &Path| -> Option<wrap::Job> {
        serde_json::from_slice(&fs::read(folder.join("job.json")).ok()?).ok()
    };
    let mut needed = Vec::new();
    let mut old: Vec<PathBuf> = Vec::new();
    for path in crates {
        match job(&path).filter(|job| job.build_id == build_id(&job.dylib)) {
            Some(job) => needed.push(job.target),
            None => old.push(path),
        }
    }
    old.extend(targets.into_iter().filter(|target| !needed.contains(target)));
    old
}

/// `:dep /path/to/crate` names the crate by its folder.
pub(crate) fn of_folder(args: &str) -> Result<String, Message> {
    if !args.starts_with(['/', '.', '~']) {
        return Ok(args.to_string());
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let folder = PathBuf::from(
        args.strip_prefix('~')
            .map_or_else(|| args.to_string(), |rest| format!("{home}{rest}")),
    );
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| {
        Message::new(format!("{} cannot be read: {error}", manifest.display()))
            .hint("give the folder of a crate")
    })?;
    let package = text.split("[package]").nth(1).unwrap_or_default();
    let name = package.lines().find_map(|line| {
        line.trim()
            .strip_prefix("name")?
            .trim()
            .strip_prefix('=')?
            .trim()
            .strip_prefix('"')?
            .strip_suffix('"')
    });
    let name = name.ok_or_else(|| {
        Message::new(format!("{} names no package", manifest.display()))
            .hint("give the folder of a crate, not of a workspace")
    })?;
    Ok(format!(
        "{name} = {{ path = {:?} }}",
        folder.display().to_string()
    ))
}

/// The crates of Skep's that cells and projects may name, with their versions.
pub(crate) fn named_inside_skep(home: &Home) -> Vec<(String, String)> {
    let all = wrap::read_prebuilt(&home.prebuilt()).unwrap_or_default();
    let externs = &home.toolchain().externs;
    externs
        .iter()
        .filter_map(|(name, _)| all.iter().find(|prebuilt| prebuilt.name == *name))
        .map(|prebuilt| (prebuilt.name.clone(), prebuilt.version.clone()))
        .collect()
}

/// What to say of a crate that is part of Skep, and need not be built: the version fits, and no feature is
/// asked for that its copy lacks. `None` for all others.
pub(crate) fn inside_skep(home: &Home, name: &str, value: &str) -> Option<String> {
    let name = name.replace('-', "_");
    if !home.toolchain().externs.iter().any(|(known, _)| *known == name)
        || ["path", "git", "default-features", "package", "branch"]
            .iter()
            .any(|key| value.contains(key))
    {
        return None;
    }
    let all = wrap::read_prebuilt(&home.prebuilt()).ok()?;
    let mut strings = value.split('"').skip(1).step_by(2).peekable();
    let is_version_first = value.starts_with('"')
        || value
            .split('"')
            .next()
            .is_some_and(|before| before.contains("version"));
    let wanted = if is_version_first {
        strings.next().unwrap_or("*")
    } else {
        "*"
    };
    let features: Vec<&str> = strings.collect();
    let fits = |prebuilt: &&crate::Prebuilt| {
        prebuilt.name == name
            && is_compatible(wanted, &prebuilt.version)
            && features
                .iter()
                .all(|feature| prebuilt.features.iter().any(|has| has == feature))
    };
    let prebuilt = all.iter().find(fits)?;
    Some(format!(
        "`{name}` {} is part of Skep, and this copy is used, so that its types are those of Skep and Polars",
        prebuilt.version
    ))
}

/// As cargo reads a plain requirement.
pub(crate) fn is_compatible(wanted: &str, version: &str) -> bool {
    semver::VersionReq::parse(wanted)
        .is_ok_and(|wanted| semver::Version::parse(version).is_ok_and(|version| wanted.matches(&version)))
}

/// `regex`, `regex = "1"`, `regex = { version = "1", features = ["unicode"] }`.
pub(crate) fn parse(args: &str) -> Result<(String, String), Message> {
    let (name, value) = args
        .split_once('=')
        .map_or((args.trim(), "\"*\""), |(name, value)| {
            (name.trim(), value.trim())
        });
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !is_name {
        return Err(Message::new(format!("`{name}` is no crate's name"))
            .hint("as in a Cargo.toml: `:dep regex = \"1\"`"));
    }
    let is_value = (value.starts_with('"') && value.ends_with('"') && value.len() > 1)
        || (value.starts_with('{') && value.ends_with('}'));
    if !is_value || value.contains('\n') {
        return Err(Message::new(format!("`{value}` is no version")).hint(format!("as in a Cargo.toml: `:dep {name} = \"1\"` or `:dep {name} = {{ version = \"1\", features = [\"…\"] }}`")));
    }
    Ok((name.to_string(), absolute_path(value)))
}

/// A relative `path = "…"` is meant from here, not from the cache.
pub(crate) fn absolute_path(value: &str) -> String {
    // The key, not a feature or an address that has these letters.
    let is_key =
        |at: &usize| value[..*at].ends_with(['{', ',', ' ']) && value[at + 4..].trim_start().starts_with('=');
    let Some(at) = value.match_indices("path").map(|(at, _)| at).find(is_key) else {
        return value.to_string();
    };
    let mut quotes = value[at..].match_indices('"').map(|(i, _)| at + i);
    let (Some(open), Some(close)) = (quotes.next(), quotes.next()) else {
        return value.to_string();
    };
    let path = Path::new(&value[open + 1..close]);
    match path
        .is_relative()
        .then(|| std::env::current_dir().map(|here| here.join(path)))
    {
        Some(Ok(path)) => format!(
            "{}{:?}{}",
            &value[..open],
            path.display().to_string(),
            &value[close + 1..]
        ),
        _ => value.to_string(),
    }
}

/// FNV-1a: the same in every build and on every machine, which the standard library's hasher does not
/// promise.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(crate) fn what_can_stand_behind_dep() {
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
                (Err(message), Err(expect)) => {
                    assert!(
                        message.what.contains(expect) && message.hint.is_some(),
                        "{message}"
                    )
                }
                (found, expect) => panic!("{args}: {found:?} instead of {expect:?}"),
            }
        }
        let feature = "{ version = \"1\", features = [\"path\", \"std\"] }";
        assert_eq!(absolute_path(feature), feature);
        assert!(
            parse("m = { path = \"../mine\" }")
                .unwrap()
                .1
                .contains("path = \"/")
        );
    }
}
