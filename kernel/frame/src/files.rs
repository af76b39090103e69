//! Files of a pattern, and what tells one version of a file from the next.

use std::{fs, path::Path, time::UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use skep_render::Message;

use crate::{Error, Result};

/// Length and date of a file: a file that changed is another input, so that no old result is taken for its
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub n_bytes: u64,
    modified_ns: u64,
}

impl Stamp {
    pub fn of(path: &Path) -> Result<Stamp> {
        let meta = fs::metadata(path)
            .map_err(|error| Error::Source(format!("{}: {error}", path.display()).into()))?;
        let modified = meta
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Stamp {
            n_bytes: meta.len(),
            modified_ns: modified.map_or(0, |since| since.as_nanos() as u64),
        })
    }
}

/// The files of a pattern, in order. A folder stands for all that is in it and below, but for what is hidden, if it is of one kind.
pub(crate) fn find(pattern: &str) -> Result<Vec<String>> {
    if let Some((scheme, _)) = pattern.split_once("://") {
        return Err(Error::Source(
            Message::new(format!(
                "`{pattern}`: frames read files of this machine, not {scheme} addresses"
            ))
            .hint("fetch the files first, for example with `curl` or `aws s3 cp`, and read them by path"),
        ));
    }
    let is_folder = Path::new(pattern).is_dir();
    // A path may have characters that mean something in a pattern.
    let named = Path::new(pattern)
        .is_file()
        .then(|| Path::new(pattern).to_path_buf());
    let in_folder = || format!("{}/**/*", glob::Pattern::escape(pattern.trim_end_matches('/')));
    let asked = if is_folder {
        in_folder()
    } else {
        pattern.to_string()
    };
    let matches = glob::glob(&asked)
        .map_err(|error| Error::Source(format!("`{pattern}` is no pattern: {error}").into()))?;
    let base = fs::canonicalize(pattern).unwrap_or_default();
    // What a link leads out of the folder has only its name there.
    let below = |path: &Path| {
        let name = || path.file_name().map_or(path, Path::new);
        path.strip_prefix(&base).unwrap_or_else(|_| name()).to_path_buf()
    };
    let is_hidden = |path: &Path| {
        below(path)
            .iter()
            .any(|part| part.to_string_lossy().starts_with(['.', '_']))
    };
    let mut paths: Vec<String> = named
        .into_iter()
        .chain(matches.flatten())
        .filter(|path| path.is_file())
        .map(|path| fs::canonicalize(&path).unwrap_or(path))
        .filter(|path| !(is_folder && is_hidden(path)))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        let here = std::env::current_dir().map_or_else(
            |_| String::new(),
            |here| format!(" (paths begin at {})", here.display()),
        );
        let what = if is_folder {
            format!("the folder `{pattern}` is empty{here}")
        } else {
            format!("no file matches `{pattern}`{here}")
        };
        return Err(Error::Source(Message::new(what).hint(
            "look at the path; `*` matches within one folder, `**` across folders",
        )));
    }
    let is_by_keys = |path: &String| {
        let path = below(Path::new(path));
        path.parent()
            .is_some_and(|folder| folder.to_string_lossy().contains('='))
    };
    if is_folder && paths.iter().any(is_by_keys) {
        return Err(Error::Source(
            Message::new(format!("the folder `{pattern}` was written by keys, whose values its files do not have"))
                .hint("`Frame::from(LazyFrame::scan_parquet(…)?)` reads the keys too; a pattern reads the files alone"),
        ));
    }
    let kind = |path: &String| Path::new(path).extension().map(ToOwned::to_owned);
    if is_folder && paths.iter().any(|path| kind(path) != kind(&paths[0])) {
        return Err(Error::Source(
            Message::new(format!("the folder `{pattern}` has files of several kinds")).hint(format!(
                "a pattern names which: `{}/*.csv`",
                pattern.trim_end_matches('/')
            )),
        ));
    }
    Ok(paths)
}
