//! A first start opens before Polars is compiled: what cells that name it are told until then, and that it is there.

use std::fs::{self, File, TryLockError};

use skep_cell::CellError;
use skep_render::Message;

use crate::{
    errors::red,
    home::{Home, cache_folder},
    state::{Handle, Session},
};

/// `./install/start` says there how far it is, once a minute at least.
const PROGRESS: &str = "build.log";
/// It is locked there while a script compiles.
const LOCK: &str = "lock";

/// Names of a cell that come from Polars, or from frames.
const NAMES: [&str; 32] = [
    "AsOf",
    "CsvReadOptions",
    "CsvReader",
    "DataFrame",
    "DataType",
    "Expr",
    "Frame",
    "IntoLazy",
    "JoinArgs",
    "JoinType",
    "LazyCsvReader",
    "LazyFrame",
    "NamedFrom",
    "ParquetReader",
    "ParquetWriter",
    "PolarsError",
    "PolarsResult",
    "Series",
    "SortMultipleOptions",
    "Table",
    "all",
    "check_5_1",
    "check_5_2",
    "check_9_3",
    "col",
    "cols",
    "df",
    "len",
    "lit",
    "polars",
    "sql",
    "when",
];

impl Home {
    /// Whether cells have Polars; while a first start compiles it they have not.
    pub fn has_frames(&self) -> bool {
        self.toolchain().externs.iter().any(|(name, _)| name == "polars")
    }

    /// A library with frames has taken this one's place.
    fn is_followed(&self) -> bool {
        self.named()
            .canonicalize()
            .is_ok_and(|there| there != self.root())
    }

    /// Why there are no frames, and when there will be; `None` where they are.
    pub fn no_frames(&self) -> Option<Message> {
        if self.has_frames() {
            return None;
        }
        if self.is_followed() {
            return Some(Message::new("this kernel began without frames, which are ready now").hint(RESTART));
        }
        let log = cache_folder().join(PROGRESS);
        if !is_compiling() {
            return Some(Message::new("frames are not compiled yet, and nothing compiles them now").hint(format!(
                "run ./install/start in the checkout: it goes on from where it stopped; {} has what was said",
                log.display()
            )));
        }
        let so_far = fs::read_to_string(&log).ok().and_then(|log| last_said(&log));
        let so_far = so_far.map_or(String::new(), |so_far| format!(": {so_far}"));
        Some(
            Message::new(format!("frames are still being compiled{so_far}"))
                .hint("all else works meanwhile; a note says when they are there"),
        )
    }
}

const RESTART: &str =
    "restart the kernel (Kernel, Restart Kernel; a terminal is left and started again) and run its cells";

fn is_compiling() -> bool {
    File::open(cache_folder().join(LOCK))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// `210 of about 348 crates, about 12 minutes left`, of lines such as `Compiling: 210 of about 348 crates, 900 s so far, about 12
/// minutes left (polars_core)`.
fn last_said(log: &str) -> Option<String> {
    let line = log
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("Compiling: "))?;
    let said = line.split(" (").next().unwrap_or(line);
    let parts: Vec<&str> = said
        .split(", ")
        .filter(|part| !part.ends_with("so far"))
        .collect();
    Some(parts.join(", "))
}

/// Whether the compiler misses something of Polars.
fn names_frames(error: &str) -> bool {
    error
        .lines()
        .filter(|line| line.starts_with("error"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .flat_map(|quoted| quoted.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .any(|word| NAMES.contains(&word))
}

impl Handle {
    /// Why nothing is known of a name, where frames are not there yet and it is one of theirs.
    pub(crate) fn missing_of_frames(&self, name: &str) -> Option<Message> {
        let first = name.split([':', '!', '.', '(']).next().unwrap_or(name);
        self.0
            .first
            .as_ref()
            .filter(|_| NAMES.contains(&first))
            .and_then(Home::no_frames)
    }
}

impl Session {
    /// An error of a cell that needs what is not compiled yet says so.
    pub(crate) fn with_frames_in_mind(&self, mut error: CellError) -> CellError {
        if !self.home.has_frames()
            && names_frames(&error.plain)
            && let Some(why) = self.home.no_frames()
        {
            let why = format!("{}\nhint: {}", why.what, why.hint.unwrap_or_default());
            // A crate of its own would be compiled for as long, and its types would be others.
            let rest = |text: &str| -> String {
                text.lines()
                    .filter(|line| !line.contains("`:dep polars"))
                    .map(|line| format!("\n{line}"))
                    .collect()
            };
            error.plain = format!("error: {why}\n{}", rest(&error.plain));
            error.styled = format!("{}\n{}", red(&format!("error: {why}")), rest(&error.styled));
        }
        error
    }

    /// Once, below the cell that ran when they came.
    pub(crate) fn say_when_frames_are_there(&mut self) {
        if self.waits_for_frames && self.home.is_followed() {
            self.waits_for_frames = false;
            self.note(&format!("frames are ready: {RESTART}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_build() {
        let log = "Compiling: 12 of about 348 crates, 3 s so far, about 23 minutes left (libc)\nCompiling: 210 of about 348 crates, 900 s so far, about 12 minutes left (polars_core, polars_io)\n";
        assert_eq!(
            last_said(log).unwrap(),
            "210 of about 348 crates, about 12 minutes left"
        );
        assert_eq!(
            last_said("Compiling: 1 of about 3 crates, 3 s so far").unwrap(),
            "1 of about 3 crates"
        );
        assert_eq!(last_said(""), None);
    }

    #[test]
    fn errors_that_miss_frames_are_told_from_others() {
        for missing in [
            "error[E0433]: cannot find type `Frame` in this scope",
            "error: cannot find macro `df` in this scope",
            "error[E0432]: unresolved import `polars::prelude`",
            "error[E0425]: cannot find function `check_5_1` in module `course`",
        ] {
            assert!(names_frames(missing), "{missing}");
        }
        assert!(!names_frames(
            "error[E0425]: cannot find value `framed` in this scope\n1 | Frame"
        ));
    }
}
