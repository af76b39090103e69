//! The journal of flows on disk: runs, their tasks, what became of them, their values.
//!
//! SQLite, in one file that all processes of a user share: a write-ahead log lets them read while one writes, and whoever
//! finds the store busy waits. Everything that a turn of the driver has to say goes into one transaction. Values of up to
//! 64 KiB are in the store itself, larger ones in files beside it, named by their content.
//!
//! A process holds a lock on a file of its own for as long as it lives, however it ends; a run whose process is gone has
//! crashed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};
use skep_cluster::{Error, Result};
use skep_render::Message;

mod records;
mod reports;
mod runs;
mod tables;

pub use records::{FlowLog, RunRow, StateRow, TaskRow};
pub(crate) use records::{Kept, Record};
pub(crate) use reports::Sent;
pub(crate) use runs::{NewRun, unknown_run};
use tables::{VERSION, connect, insert};

use crate::state::State;

/// Larger values are in files.
const MOST_INLINE: usize = 64 << 10;

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// The store of this user.
pub struct Store {
    db: Mutex<Connection>,
    folder: PathBuf,
    process: String,
    /// How runs ended of which that is not written yet.
    ends: Mutex<BTreeMap<String, End>>,
    /// Locked for as long as this process lives.
    _alive: File,
}

/// How a run ended.
#[derive(Clone)]
struct End {
    state: State,
    reason: String,
    result: Option<Vec<u8>>,
    at_us: u64,
}

/// `SKEP_FLOWS`, else `skep/flows` in the user's state folder.
pub fn default_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("SKEP_FLOWS") {
        return folder.into();
    }
    let state = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || PathBuf::from(set("HOME").unwrap_or_else(|| "/tmp".into())).join(".local/state");
    state.unwrap_or_else(home).join("skep/flows")
}

/// The store of this process.
pub(crate) fn store() -> Result<Arc<Store>> {
    static STORE: OnceLock<Mutex<Option<Arc<Store>>>> = OnceLock::new();
    let mut store = STORE
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let folder = default_folder();
    if let Some(store) = store.as_ref().filter(|store| store.folder == folder) {
        return Ok(store.clone());
    }
    let opened = Arc::new(Store::open(&folder)?);
    *store = Some(opened.clone());
    Ok(opened)
}

impl Store {
    /// Opens the store in a folder, or makes one.
    ///
    /// # Errors
    /// When the folder cannot be written, or what is there is no store of this version.
    pub fn open(folder: &Path) -> Result<Store> {
        let cannot = |error: &dyn std::fmt::Display| {
            Error::File(
                Message::new(format!(
                    "the store of flows in {} cannot be opened: {error}",
                    folder.display()
                ))
                .hint("SKEP_FLOWS names another folder, which this user can write"),
            )
        };
        for needed in ["alive", "values"] {
            fs::create_dir_all(folder.join(needed)).map_err(|error| cannot(&error))?;
        }
        clean(&folder.join("alive"));
        let process = uuid::Uuid::new_v4().simple().to_string();
        let alive = File::create(folder.join("alive").join(&process)).map_err(|error| cannot(&error))?;
        flock(&alive, FlockOperation::NonBlockingLockExclusive).map_err(|error| cannot(&error))?;
        let db = patiently(|| connect(&folder.join("flows.db"))).map_err(|error| cannot(&error))?;
        let version: i64 = db
            .query_row("pragma user_version", [], |row| row.get(0))
            .map_err(|error| cannot(&error))?;
        if version != VERSION {
            return Err(cannot(&format!(
                "it has version {version}, and this Skep knows {VERSION}"
            )));
        }
        Ok(Store {
            db: Mutex::new(db),
            folder: folder.to_path_buf(),
            process,
            ends: Mutex::default(),
            _alive: alive,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong with the store, in words.
    pub(crate) fn error(&self, error: &rusqlite::Error) -> Error {
        let place = self.folder.display();
        let message = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                Message::new(format!("the disk of the store of flows ({place}) is full"))
                    .hint("free some space, or name another folder in SKEP_FLOWS")
            }
            Some(ErrorCode::DatabaseBusy) => Message::new(format!(
                "another process has been writing to the store of flows ({place}) for {} s",
                PATIENCE.as_secs()
            )),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Message::new(format!("the store of flows ({place}) is damaged: {error}"))
                    .hint("move the folder away; a new store is made in its place")
            }
            _ => Message::new(format!("the store of flows ({place}): {error}")),
        };
        Error::File(message)
    }

    fn ask<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        work(&self.db()).map_err(|error| self.error(&error))
    }

    /// A run has ended so, also while that cannot be written.
    pub(crate) fn note_end(&self, record: &Record) {
        let Record::RunState {
            run,
            state,
            reason,
            result,
            at_us,
        } = record
        else {
            return;
        };
        let end = End {
            state: *state,
            reason: reason.clone(),
            result: result.clone(),
            at_us: *at_us,
        };
        self.ends().insert(run.to_string(), end);
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<String, End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes records, all or none.
    pub(crate) fn write(&self, records: &[Record]) -> Result<()> {
        self.transact(|db| records.iter().try_for_each(|record| insert(db, record)))?;
        for record in records {
            if let Record::RunState { run, .. } = record {
                self.ends().remove(&**run);
            }
        }
        Ok(())
    }

    fn transact<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        let mut db = self.db();
        let done = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        done.map_err(|error| self.error(&error))
    }

    /// Keeps a value: in the store if it is small, else in a file.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Result<Kept> {
        let hash = hash_of(bytes);
        let kept = Kept {
            hash,
            n_bytes: bytes.len() as u64,
            inline: (bytes.len() <= MOST_INLINE).then(|| bytes.into()),
        };
        if kept.inline.is_none() {
            let path = self.path_of(hash);
            if fs::metadata(&path).map(|file| file.len()).ok() != Some(kept.n_bytes) {
                self.write_file(&path, bytes).map_err(|error| {
                    Error::File(
                        Message::new(format!(
                            "a value of a flow cannot be written to {}: {error}",
                            path.display()
                        ))
                        .hint("free some space, or name another folder in SKEP_FLOWS"),
                    )
                })?;
            }
        }
        Ok(kept)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = path.with_extension(format!("{}-{}", self.process, now_us()));
        let written = File::create(&aside)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&aside, path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// Where a value is that is not in the store itself.
    pub(crate) fn path_of(&self, hash: u128) -> PathBuf {
        self.folder.join("values").join(format!("{hash:032x}"))
    }

    /// The bytes of a kept value; `None` if its file is gone.
    pub(crate) fn value(&self, kept: &Kept) -> Option<Arc<[u8]>> {
        match &kept.inline {
            Some(bytes) => Some(bytes.clone()),
            None => fs::read(self.path_of(kept.hash)).ok().map(Into::into),
        }
    }

    /// Whether a kept value can be read.
    pub(crate) fn has(&self, kept: &Kept) -> bool {
        kept.inline.is_some()
            || fs::metadata(self.path_of(kept.hash)).is_ok_and(|file| file.len() == kept.n_bytes)
    }

    fn is_alive(&self, process: &str) -> bool {
        if process == self.process {
            return true;
        }
        let Ok(file) = File::open(self.folder.join("alive").join(process)) else {
            return false;
        };
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.folder.join("alive").join(&self.process));
    }
}

pub(crate) fn hash_of(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(
        blake3::hash(bytes).as_bytes()[..16]
            .try_into()
            .expect("invariant: a hash has 32 bytes"),
    )
}

/// The first letters of an id, as people name it.
pub(crate) fn short(id: &str) -> &str {
    &id[..id.len().min(8)]
}

/// Removes the files of processes that are gone. One that begins has made its file and not locked it yet: those of the last
/// day stay.
fn clean(alive: &Path) {
    const OLD: Duration = Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(alive).into_iter().flatten().flatten() {
        let changed = entry.metadata().and_then(|file| file.modified());
        let is_old = changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD));
        let is_free = || {
            File::open(entry.path())
                .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_ok())
        };
        if is_old && is_free() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Two processes that make a new store at once may find each other busy where SQLite does not wait.
fn patiently<R>(mut work: impl FnMut() -> rusqlite::Result<R>) -> rusqlite::Result<R> {
    let until = Instant::now() + PATIENCE;
    loop {
        match work() {
            Err(error)
                if matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                ) && Instant::now() < until =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}
