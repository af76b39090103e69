//! How far a reader has come: a small file in the user's state folder.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What Skep remembers of a user: `skep` in `XDG_STATE_HOME`, else in `~/.local/state`.
pub fn state_folder() -> PathBuf {
    let xdg = std::env::var_os("XDG_STATE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    xdg.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/state"))
        .join("skep")
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    NotBegun,
    /// Checked, and not right yet.
    Tried,
    Done,
}

/// What is known of one exercise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub state: State,
    pub n_tries: u32,
    pub n_hints: u32,
}

/// What is known of all exercises, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    exercises: BTreeMap<String, Entry>,
}

impl Progress {
    /// `SKEP_PROGRESS`, else `course.json` in the user's state folder.
    pub fn path() -> PathBuf {
        if let Some(path) = std::env::var_os("SKEP_PROGRESS") {
            return path.into();
        }
        state_folder().join("course.json")
    }

    /// What is not there or cannot be read is nothing.
    pub fn read(path: &Path) -> Progress {
        fs::read(path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // In one step: another notebook may be reading.
        let new = path.with_extension(format!("new-{}", std::process::id()));
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, path)
    }

    pub fn of(&self, id: &str) -> Entry {
        self.exercises.get(id).cloned().unwrap_or_default()
    }

    /// Takes in what a check found.
    pub fn checked(&mut self, id: &str, is_right: bool) {
        let entry = self.exercises.entry(id.to_string()).or_default();
        entry.n_tries += 1;
        // What was right once stays so.
        if is_right {
            entry.state = State::Done;
        } else if entry.state == State::NotBegun {
            entry.state = State::Tried;
        }
    }

    /// One hint more; how many were seen before.
    pub fn hinted(&mut self, id: &str) -> u32 {
        let entry = self.exercises.entry(id.to_string()).or_default();
        entry.n_hints += 1;
        entry.n_hints - 1
    }

    /// Forgets the exercises of a lesson.
    pub fn forget(&mut self, lesson: u32) {
        self.exercises
            .retain(|id, _| !id.starts_with(&format!("{lesson}.")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_kept_and_what_was_right_stays_so() {
        let path = std::env::temp_dir().join(format!("skep-progress-{}/course.json", std::process::id()));
        let mut progress = Progress::read(&path);
        progress.checked("2.1", false);
        assert_eq!(progress.of("2.1").state, State::Tried);
        progress.checked("2.1", true);
        progress.checked("2.1", false);
        assert_eq!(progress.hinted("2.2"), 0);
        progress.write(&path).expect("the temporary folder takes a file");
        let mut again = Progress::read(&path);
        assert_eq!(again, progress);
        assert_eq!((again.of("2.1").state, again.of("2.1").n_tries), (State::Done, 3));
        again.forget(2);
        assert_eq!(again, Progress::default());
        fs::remove_dir_all(path.parent().expect("it has one")).expect("it is there");
    }
}
