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

/// The files of a pattern, in order.
pub(crate) fn find(pattern: &str) -> Result<Vec<String>> {
    if let Some((scheme, _)) = pattern.split_once("://") {
        return Err(Error::Source(
            Message::new(format!(
                "`{pattern}`: frames read files of this machine, not {scheme} addresses"
            ))
            .hint("fetch the files first, for example with `curl` or `aws s3 cp`, and read them by path"),
        ));
    }
    let matches = glob::glob(pattern)
        .map_err(|error| Error::Source(format!("`{pattern}` is no pattern: {error}").into()))?;
    let mut paths: Vec<String> = matches
        .flatten()
        .filter(|path| path.is_file())
        .map(|path| {
            fs::canonicalize(&path)
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    paths.sort();
    if paths.is_empty() {
        let here = std::env::current_dir().map_or_else(
            |_| String::new(),
            |here| format!(" (paths begin at {})", here.display()),
        );
        return Err(Error::Source(
            Message::new(format!("no file matches `{pattern}`{here}"))
                .hint("look at the path; `*` matches within one folder, `**` across folders"),
        ));
    }
    Ok(paths)
}
