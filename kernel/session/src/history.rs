//! What was executed, on disk: in this session, in earlier ones, and in others that run now.
//!
//! One JSON object a line, appended under a lock, in the user's state folder. Jupyter's `history_request` and
//! the terminal's arrow keys read the same file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use skep_render::Message;

/// When the file is longer than this, its older half goes.
const MOST_BYTES: u64 = 8 << 20;
/// Of a result this much is kept.
const MOST_OUTPUT: usize = 4 << 10;

/// One executed cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub session: u32,
    pub line: u32,
    pub input: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_failed: bool,
}

/// The history of this session, in front of that of all others.
pub struct History {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Given with the first entry, so that sessions in which nothing was run take no number.
    session: Option<u32>,
    own: Vec<Entry>,
    /// Said once; without a disk the session's own entries are still there.
    is_broken: bool,
}

impl History {
    /// The history in the user's state folder (`XDG_STATE_HOME`, else `~/.local/state`).
    pub fn open() -> History {
        History::at(skep_course::state_folder().join("history.jsonl"))
    }

    pub fn at(path: PathBuf) -> History {
        History {
            path,
            state: Mutex::default(),
        }
    }

    /// Adds a cell. An error says that later sessions will not see it; it is given once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&self, line: u32, input: &str, output: Option<&str>, is_ok: bool) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let output = output.map(|output| output[..output.floor_char_boundary(MOST_OUTPUT)].to_string());
        let mut entry = Entry {
            session: state.session.unwrap_or(0),
            line,
            input: input.to_string(),
            output,
            has_failed: !is_ok,
        };
        let written = if state.is_broken {
            Ok(entry.session)
        } else {
            append(&self.path, &mut entry, state.session)
        };
        state.own.push(entry);
        match written {
            Ok(session) => state.session = Some(session),
            Err(error) => {
                state.is_broken = true;
                let hint =
                    "make the folder writable and free some space; this session's own history still works";
                return Err(io::Error::new(
                    error.kind(),
                    Message::new(format!(
                        "the history {} cannot be written: {error}",
                        self.path.display()
                    ))
                    .hint(hint),
                ));
            }
        }
        Ok(())
    }

    /// The last `n` entries, oldest first, of all sessions; this one's come last.
    pub fn tail(&self, n: usize) -> Vec<Entry> {
        let all = self.all();
        all[all.len().saturating_sub(n)..].to_vec()
    }

    /// Entries of one session by line, `start..stop`. Session 0 is this one, -1 the one before it.
    pub fn range(&self, session: i32, start: i32, stop: i32) -> Vec<Entry> {
        let own = self.state.lock().unwrap_or_else(PoisonError::into_inner).session;
        let all = self.all();
        let session = match session {
            1.. => session as u32,
            0 => own.unwrap_or(0),
            back => {
                let mut sessions: Vec<u32> = all
                    .iter()
                    .map(|entry| entry.session)
                    .filter(|session| Some(*session) != own)
                    .collect();
                sessions.sort_unstable();
                sessions.dedup();
                let Some(at) = sessions.len().checked_sub(back.unsigned_abs() as usize) else {
                    return Vec::new();
                };
                sessions[at]
            }
        };
        all.into_iter()
            .filter(|entry| entry.session == session && (start..stop).contains(&(entry.line as i32)))
            .collect()
    }

    /// The last `n` entries that match a glob; with `unique`, each text once.
    pub fn search(&self, pattern: &str, n: usize, unique: bool) -> Vec<Entry> {
        let mut found: Vec<Entry> = self
            .all()
            .into_iter()
            .filter(|entry| matches_glob(pattern, &entry.input))
            .collect();
        if unique {
            let mut seen = std::collections::HashSet::new();
            found.reverse();
            found.retain(|entry| seen.insert(entry.input.clone()));
            found.reverse();
        }
        found.split_off(found.len().saturating_sub(n))
    }

    /// Entries of this session.
    pub fn own(&self) -> Vec<Entry> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .own
            .clone()
    }

    fn all(&self) -> Vec<Entry> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = read(&self.path);
        all.retain(|entry| Some(entry.session) != state.session);
        all.extend(state.own.iter().cloned());
        all
    }
}

fn append(path: &Path, entry: &mut Entry, session: Option<u32>) -> io::Result<u32> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let session = match session {
        Some(session) => session,
        None => {
            shorten(&mut file, path)?;
            read(path).iter().map(|entry| entry.session).max().unwrap_or(0) + 1
        }
    };
    entry.session = session;
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    // A line that another process left unfinished does not swallow this one.
    if !ends_with_newline(&mut file)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line)?;
    Ok(session)
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Drops the older half of a file that has become too long, in place: others hold it open.
fn shorten(file: &mut File, path: &Path) -> io::Result<()> {
    if file.metadata()?.len() <= MOST_BYTES {
        return Ok(());
    }
    let entries = read(path);
    let mut kept = Vec::new();
    for entry in &entries[entries.len() / 2..] {
        kept.extend(serde_json::to_vec(entry)?);
        kept.push(b'\n');
    }
    file.set_len(0)?;
    file.write_all(&kept)
}

/// Lines that are no entry (cut off, or from a later version) are passed over.
fn read(path: &Path) -> Vec<Entry> {
    let text = fs::read(path).unwrap_or_default();
    text.split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// `*` is any text and `?` any character, as IPython has it.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < t.len() {
        if i < p.len() && p[i] == '*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && (p[i] == '?' || p[i] == t[j]) {
            (i, j) = (i + 1, j + 1);
        } else if let Some((si, sj)) = star {
            (i, j) = (si + 1, sj + 1);
            star = Some((si, sj + 1));
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(entries: &[Entry]) -> Vec<(u32, u32, &str)> {
        entries
            .iter()
            .map(|entry| (entry.session, entry.line, entry.input.as_str()))
            .collect()
    }

    #[test]
    fn sessions_follow_each_other_on_disk() {
        let path = std::env::temp_dir().join(format!("skep-history-{}/h.jsonl", std::process::id()));
        let first = History::at(path.clone());
        first.add(1, "let x = 1;", None, true).unwrap();
        first.add(2, "x", Some("1"), true).unwrap();
        let second = History::at(path.clone());
        let third = History::at(path.clone());
        second.add(1, "let y = 2;", None, true).unwrap();
        third.add(1, "third", None, true).unwrap();
        assert_eq!(
            inputs(&second.tail(3)),
            [(1, 2, "x"), (3, 1, "third"), (2, 1, "let y = 2;")],
            "this session's come last"
        );
        assert_eq!(inputs(&second.range(0, 1, 9)), [(2, 1, "let y = 2;")]);
        assert_eq!(inputs(&third.range(-1, 0, 9)), [(2, 1, "let y = 2;")]);
        assert_eq!(inputs(&third.range(1, 2, 3)), [(1, 2, "x")]);
        assert_eq!(inputs(&second.search("let*", 5, true)).len(), 2);
        fs::write(&path, b"garbage\n{\"session\":1").unwrap();
        second.add(2, "after garbage", None, true).unwrap();
        assert_eq!(
            inputs(&History::at(path.clone()).tail(9)),
            [(2, 2, "after garbage")]
        );
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn without_a_disk_the_session_still_remembers() {
        let history = History::at("/dev/null/nowhere/h.jsonl".into());
        assert!(
            history
                .add(1, "a", None, true)
                .unwrap_err()
                .to_string()
                .contains("hint:")
        );
        history.add(2, "b", None, true).expect("said once");
        assert_eq!(history.tail(5).len(), 2);
    }

    #[test]
    fn history_is_searched_by_glob() {
        for (pattern, text, expect) in [
            ("*", "", true),
            ("let*", "let x = 1", true),
            ("*x*1", "let x = 1", true),
            ("?et x", "let x", true),
            ("x", "let x", false),
        ] {
            assert_eq!(matches_glob(pattern, text), expect, "{pattern} {text}");
        }
    }
}
