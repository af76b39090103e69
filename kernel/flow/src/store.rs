//! The journal of flows on disk: runs, their tasks, what became of them, their values.
//!
//! SQLite, in one file that all processes of a user share: a write-ahead log lets them read while one writes, and whoever
//! finds the store busy waits. Everything that a turn of the driver has to say goes into one transaction. Values of up to
//! [`MOST_INLINE`] bytes are in the store itself, larger ones in files beside it, named by their content.
//!
//! A process holds a lock on a file of its own for as long as it lives, however it ends; a run whose process is gone has
//! crashed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use rustix::fs::{FlockOperation, flock};
use skep_cluster::{Error, Result};
use skep_render::Message;

use crate::state::State;

/// Larger values are in files.
const MOST_INLINE: usize = 64 << 10;

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The layout of the tables; a store of another one is refused.
const VERSION: i64 = 1;

const TABLES: &str = "
create table runs (
    id text primary key,
    flow text not null,
    -- The run of the flow that called this one, and the call there.
    parent text,
    identity blob,
    state text not null,
    reason text not null default '',
    parameters text not null,
    args blob not null,
    result blob,
    process text not null,
    created_us integer not null,
    started_us integer,
    ended_us integer
) strict;
create index runs_by_flow on runs (flow, created_us);
create index runs_by_parent on runs (parent);
create table tasks (
    run text not null,
    no integer not null,
    name text not null,
    arguments text not null,
    -- What tells the call from others of its run: its function and inputs, and which of the same it is.
    identity blob not null,
    nth integer not null,
    inputs text not null,
    tags text not null,
    state text not null,
    reason text not null default '',
    attempt integer not null default 0,
    created_us integer not null,
    started_us integer,
    ended_us integer,
    hash blob,
    n_bytes integer,
    value blob,
    primary key (run, no)
) strict, without rowid;
create table states (
    run text not null,
    -- 0 is the run itself.
    no integer not null,
    at_us integer not null,
    state text not null,
    reason text not null,
    attempt integer not null
) strict;
create index states_by_run on states (run);
create table logs (
    run text not null,
    no integer not null,
    at_us integer not null,
    worker text not null,
    is_stderr integer not null,
    text text not null
) strict;
create index logs_by_run on logs (run);
create table cache (
    key blob primary key,
    created_us integer not null,
    name text not null,
    hash blob not null,
    n_bytes integer not null,
    value blob
) strict, without rowid;
create table approvals (
    run text not null,
    name text not null,
    is_granted integer not null,
    at_us integer not null,
    primary key (run, name)
) strict, without rowid;
";

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// A value that was kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub hash: u128,
    pub n_bytes: u64,
    /// `None`: it is in a file.
    pub inline: Option<Arc<[u8]>>,
}

/// Something to be written.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Task {
        run: Arc<str>,
        no: u32,
        name: Arc<str>,
        arguments: String,
        identity: u128,
        nth: u32,
        inputs: Vec<u32>,
        tags: Vec<String>,
        at_us: u64,
    },
    TaskState {
        run: Arc<str>,
        no: u32,
        state: State,
        reason: String,
        attempt: u32,
        at_us: u64,
    },
    /// The value of a task.
    Kept { run: Arc<str>, no: u32, kept: Kept },
    /// A value for later runs with the same key.
    Cached {
        key: u128,
        name: Arc<str>,
        kept: Kept,
        at_us: u64,
    },
    RunState {
        run: Arc<str>,
        state: State,
        reason: String,
        result: Option<Vec<u8>>,
        at_us: u64,
    },
    Log {
        run: Arc<str>,
        no: u32,
        worker: String,
        is_stderr: bool,
        text: String,
        at_us: u64,
    },
}

/// A run, as it is in the store.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub id: String,
    pub flow: String,
    /// The run that called it.
    pub parent: Option<String>,
    pub state: State,
    pub reason: String,
    /// As JSON.
    pub parameters: String,
    /// Microseconds since 1970, as all times here.
    pub created_us: u64,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    pub(crate) args: Vec<u8>,
    pub(crate) result: Option<Vec<u8>>,
    pub(crate) process: String,
}

/// A task of a run, as it is in the store.
#[derive(Clone, Debug)]
pub struct TaskRow {
    pub no: u32,
    pub name: String,
    pub arguments: String,
    /// Numbers of the tasks whose values it needs.
    pub inputs: Vec<u32>,
    pub tags: Vec<String>,
    pub state: State,
    pub reason: String,
    pub attempt: u32,
    pub created_us: u64,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    pub(crate) identity: u128,
    pub(crate) nth: u32,
    pub(crate) kept: Option<Kept>,
}

/// A line that a task printed.
#[derive(Clone, Debug)]
pub struct FlowLog {
    pub task: String,
    pub worker: String,
    pub is_stderr: bool,
    pub text: String,
    pub at_us: u64,
}

/// What a run went through.
#[derive(Clone, Debug)]
pub struct StateRow {
    /// Number of the task; 0 is the run itself.
    pub no: u32,
    pub at_us: u64,
    pub state: State,
    pub reason: String,
    pub attempt: u32,
}

/// A run that is about to begin.
pub(crate) struct NewRun<'r> {
    pub id: &'r str,
    pub flow: &'r str,
    pub parent: Option<&'r str>,
    pub identity: Option<u128>,
    pub parameters: &'r str,
    pub args: &'r [u8],
    pub state: State,
}

/// The store of this user.
pub struct Store {
    db: Mutex<Connection>,
    folder: PathBuf,
    process: String,
    /// Locked for as long as this process lives.
    _alive: File,
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

    /// Writes records, all or none.
    pub(crate) fn write(&self, records: &[Record]) -> Result<()> {
        self.transact(|db| records.iter().try_for_each(|record| insert(db, record)))
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

    /// A value for this key, if there is one that is not older than `expires`.
    pub(crate) fn cached(&self, key: u128, expires: Option<Duration>) -> Result<Option<Kept>> {
        let found: Option<(u64, Kept)> = self.ask(|db| {
            db.prepare_cached("select created_us, hash, n_bytes, value from cache where key = ?1")?
                .query_row([blob(key)], |row| {
                    Ok((
                        time(row, 0)?.unwrap_or(0),
                        kept_of(row, 1)?.expect("invariant: not null"),
                    ))
                })
                .optional()
        })?;
        let Some((created_us, kept)) = found else {
            return Ok(None);
        };
        // A clock that was set back makes nothing older than it is.
        let age = Duration::from_micros(now_us().saturating_sub(created_us));
        let is_fresh = expires.is_none_or(|limit| age <= limit);
        Ok((is_fresh && self.has(&kept)).then_some(kept))
    }

    pub(crate) fn begin(&self, run: &NewRun<'_>) -> Result<()> {
        let now = now_us() as i64;
        self.transact(|db| {
            db.execute(
                "insert into runs (id, flow, parent, identity, state, parameters, args, process, created_us, started_us)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    run.id,
                    run.flow,
                    run.parent,
                    run.identity.map(blob),
                    run.state.name(),
                    run.parameters,
                    run.args,
                    self.process,
                    now,
                    (run.state == State::Running).then_some(now)
                ],
            )?;
            db.execute(
                "insert into states values (?1, 0, ?2, ?3, '', 1)",
                params![run.id, now, run.state.name()],
            )
        })?;
        Ok(())
    }

    /// Makes a run this process's own, so that it can go on here.
    ///
    /// # Errors
    /// When it runs elsewhere, or is not known.
    pub(crate) fn take_over(&self, id: &str) -> Result<()> {
        let Some(run) = self.run(id)? else {
            return Err(unknown_run(id));
        };
        if run.state == State::Running {
            return Err(Error::Argument(
                Message::new(format!(
                    "the run {} is running, in another notebook or program",
                    short(id)
                ))
                .hint("it can go on here once it has ended there"),
            ));
        }
        let now = now_us() as i64;
        let n = self.transact(|db| {
            db.execute(
                "insert into states values (?1, 0, ?2, 'Running', 'it goes on', 1)",
                params![id, now],
            )?;
            db.execute(
                "update runs set process = ?2, state = 'Running', reason = '', ended_us = null, started_us = ifnull(started_us, ?4)
                 where id = ?1 and process = ?3",
                params![id, self.process, run.process, now],
            )
        })?;
        if n == 0 {
            return Err(Error::Argument(Message::new(format!(
                "the run {} was taken up elsewhere a moment ago",
                short(id)
            ))));
        }
        Ok(())
    }

    /// Runs, the newest last; those of one flow, if it is named. Runs that other runs called are not among them.
    pub fn runs(&self, flow: Option<&str>) -> Result<Vec<RunRow>> {
        let rows = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where parent is null and (?1 is null or flow = ?1) order by created_us, rowid"
            ))?
            .query_map([flow], run_of)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(rows.into_iter().map(|run| self.as_it_is(run)).collect())
    }

    /// The run whose id begins so.
    pub fn run(&self, id: &str) -> Result<Option<RunRow>> {
        let found = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where substr(id, 1, length(?1)) = ?1 order by created_us desc limit 1"
            ))?
            .query_row([id], run_of)
            .optional()
        })?;
        Ok(found.map(|run| self.as_it_is(run)))
    }

    /// The run that a call of another run made.
    pub(crate) fn run_called(&self, parent: &str, identity: u128) -> Result<Option<RunRow>> {
        let found = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where parent = ?1 and identity = ?2"
            ))?
            .query_row(params![parent, blob(identity)], run_of)
            .optional()
        })?;
        Ok(found.map(|run| self.as_it_is(run)))
    }

    /// The newest run of a flow with these parameters.
    pub(crate) fn run_with(&self, flow: &str, parameters: &str) -> Result<Option<RunRow>> {
        let found = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where flow = ?1 and parameters = ?2 and parent is null
                 order by created_us desc, rowid desc limit 1"
            ))?
            .query_row([flow, parameters], run_of)
            .optional()
        })?;
        Ok(found.map(|run| self.as_it_is(run)))
    }

    /// A run whose process is gone has crashed.
    fn as_it_is(&self, mut run: RunRow) -> RunRow {
        let is_open = matches!(run.state, State::Running | State::Pending);
        if is_open && !self.is_alive(&run.process) {
            run.state = State::Crashed;
            run.reason = "the process that ran it is gone".into();
        }
        run
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

    pub fn tasks(&self, run: &str) -> Result<Vec<TaskRow>> {
        self.ask(|db| {
            db.prepare_cached(
                "select no, name, arguments, identity, nth, inputs, tags, state, reason, attempt, created_us, started_us,
                 ended_us, hash, n_bytes, value from tasks where run = ?1 order by no",
            )?
            .query_map([run], task_of)?
            .collect()
        })
    }

    /// What a run and its tasks went through, in order.
    pub fn states(&self, run: &str) -> Result<Vec<StateRow>> {
        self.ask(|db| {
            db.prepare_cached(
                "select no, at_us, state, reason, attempt from states where run = ?1 order by rowid",
            )?
            .query_map([run], |row| {
                Ok(StateRow {
                    no: row.get(0)?,
                    at_us: time(row, 1)?.unwrap_or(0),
                    state: state_of(row, 2)?,
                    reason: row.get(3)?,
                    attempt: row.get(4)?,
                })
            })?
            .collect()
        })
    }

    pub fn logs(&self, run: &str) -> Result<Vec<FlowLog>> {
        self.ask(|db| {
            db.prepare_cached(
                "select ifnull(tasks.name, ''), logs.worker, logs.is_stderr, logs.text, logs.at_us from logs
                 left join tasks on tasks.run = logs.run and tasks.no = logs.no
                 where logs.run = ?1 order by logs.rowid",
            )?
            .query_map([run], |row| {
                Ok(FlowLog {
                    task: row.get(0)?,
                    worker: row.get(1)?,
                    is_stderr: row.get(2)?,
                    text: row.get(3)?,
                    at_us: time(row, 4)?.unwrap_or(0),
                })
            })?
            .collect()
        })
    }

    /// Whether somebody approved, or refused; `None` while nobody has.
    pub(crate) fn approval(&self, run: &str, name: &str) -> Result<Option<bool>> {
        self.ask(|db| {
            db.prepare_cached("select is_granted from approvals where run = ?1 and name = ?2")?
                .query_row([run, name], |row| row.get(0))
                .optional()
        })
    }

    pub(crate) fn approve(&self, run: &str, name: &str, is_granted: bool) -> Result<()> {
        self.transact(|db| {
            db.execute(
                "insert or replace into approvals values (?1, ?2, ?3, ?4)",
                params![run, name, is_granted, now_us() as i64],
            )
        })?;
        Ok(())
    }

    /// Removes a run, the runs that it called, and values that nothing else has.
    pub(crate) fn forget(&self, id: &str) -> Result<()> {
        let orphans: Vec<u128> = self.transact(|db| {
            db.execute_batch("create temp table if not exists gone (id text)")?;
            db.execute("delete from temp.gone", [])?;
            db.execute(
                "insert into temp.gone with recursive below(id) as (select ?1 union select runs.id from runs
                 join below on runs.parent = below.id) select id from below",
                [id],
            )?;
            let hashes = db
                .prepare(
                    "select distinct hash from tasks where run in (select id from temp.gone) and hash is not null
                     and value is null",
                )?
                .query_map([], |row| hash_at(row, 0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for table in ["tasks", "states", "logs", "approvals"] {
                db.execute(&format!("delete from {table} where run in (select id from temp.gone)"), [])?;
            }
            db.execute("delete from runs where id in (select id from temp.gone)", [])?;
            let mut still = db.prepare(
                "select exists(select 1 from tasks where hash = ?1) or exists(select 1 from cache where hash = ?1)",
            )?;
            let mut orphans = Vec::new();
            for hash in hashes.into_iter().flatten() {
                if !still.query_row([blob(hash)], |row| row.get::<_, bool>(0))? {
                    orphans.push(hash);
                }
            }
            Ok(orphans)
        })?;
        for hash in orphans {
            let _ = fs::remove_file(self.path_of(hash));
        }
        Ok(())
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

pub(crate) fn unknown_run(id: &str) -> Error {
    Error::Argument(
        Message::new(format!("there is no run `{id}`")).hint("`Flow::runs()?` lists those that there are"),
    )
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

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(PATIENCE)?;
    db.query_row("pragma journal_mode = wal", [], |_| Ok(()))?;
    // A transaction survives the process; a machine that loses its power may lose the newest ones, never the store.
    db.execute_batch("pragma synchronous = normal")?;
    let version: i64 = db.query_row("pragma user_version", [], |row| row.get(0))?;
    if version == 0 {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("pragma user_version", [], |row| row.get(0))?;
        if version == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(&format!("pragma user_version = {VERSION}"))?;
        }
        transaction.commit()?;
    }
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

fn insert(db: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Task {
            run,
            no,
            name,
            arguments,
            identity,
            nth,
            inputs,
            tags,
            at_us,
        } => db
            .prepare_cached(
                "insert or ignore into tasks (run, no, name, arguments, identity, nth, inputs, tags, state, created_us)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'Pending', ?9)",
            )?
            .execute(params![
                &**run,
                no,
                &**name,
                arguments,
                blob(*identity),
                nth,
                numbers(inputs),
                tags.join("\n"),
                *at_us as i64
            ])?,
        Record::TaskState {
            run,
            no,
            state,
            reason,
            attempt,
            at_us,
        } => {
            let at = *at_us as i64;
            let started = (*state == State::Running).then_some(at);
            let ended = state.is_final().then_some(at);
            db.prepare_cached(
                "update tasks set state = ?3, reason = ?4, attempt = ?5, started_us = ifnull(?6, started_us), ended_us = ?7
                 where run = ?1 and no = ?2",
            )?
            .execute(params![&**run, no, state.name(), reason, attempt, started, ended])?;
            db.prepare_cached("insert into states values (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![&**run, no, at, state.name(), reason, attempt])?
        }
        Record::Kept { run, no, kept } => db
            .prepare_cached("update tasks set hash = ?3, n_bytes = ?4, value = ?5 where run = ?1 and no = ?2")?
            .execute(params![&**run, no, blob(kept.hash), kept.n_bytes as i64, kept.inline.as_deref()])?,
        Record::Cached {
            key,
            name,
            kept,
            at_us,
        } => db
            .prepare_cached("insert or replace into cache values (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                blob(*key),
                *at_us as i64,
                &**name,
                blob(kept.hash),
                kept.n_bytes as i64,
                kept.inline.as_deref()
            ])?,
        Record::RunState {
            run,
            state,
            reason,
            result,
            at_us,
        } => {
            let at = *at_us as i64;
            let ended = state.is_final().then_some(at);
            db.prepare_cached(
                "update runs set state = ?2, reason = ?3, result = ifnull(?4, result), ended_us = ?5 where id = ?1",
            )?
            .execute(params![&**run, state.name(), reason, result, ended])?;
            db.prepare_cached("insert into states values (?1, 0, ?2, ?3, ?4, 1)")?
                .execute(params![&**run, at, state.name(), reason])?
        }
        Record::Log {
            run,
            no,
            worker,
            is_stderr,
            text,
            at_us,
        } => db
            .prepare_cached("insert into logs values (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![&**run, no, *at_us as i64, worker, is_stderr, text])?,
    };
    Ok(())
}

fn numbers(all: &[u32]) -> String {
    let words: Vec<String> = all.iter().map(u32::to_string).collect();
    words.join(" ")
}

fn blob(hash: u128) -> [u8; 16] {
    hash.to_le_bytes()
}

fn hash_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u128>> {
    row.get::<_, Option<[u8; 16]>>(at)
        .map(|bytes| bytes.map(u128::from_le_bytes))
}

fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(at)
        .map(|time| time.map(|time| time.max(0) as u64))
}

/// A name of a state that this version does not know is one that nothing can be said about.
fn state_of(row: &Row<'_>, at: usize) -> rusqlite::Result<State> {
    let name: String = row.get(at)?;
    Ok(State::from_name(&name).unwrap_or(State::Crashed))
}

fn kept_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Kept>> {
    let Some(hash) = hash_at(row, at)? else {
        return Ok(None);
    };
    let inline: Option<Vec<u8>> = row.get(at + 2)?;
    Ok(Some(Kept {
        hash,
        n_bytes: time(row, at + 1)?.unwrap_or(0),
        inline: inline.map(Into::into),
    }))
}

const RUN: &str =
    "id, flow, parent, state, reason, parameters, created_us, started_us, ended_us, args, result, process";

fn run_of(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        id: row.get(0)?,
        flow: row.get(1)?,
        parent: row.get(2)?,
        state: state_of(row, 3)?,
        reason: row.get(4)?,
        parameters: row.get(5)?,
        created_us: time(row, 6)?.unwrap_or(0),
        started_us: time(row, 7)?,
        ended_us: time(row, 8)?,
        args: row.get(9)?,
        result: row.get(10)?,
        process: row.get(11)?,
    })
}

fn task_of(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    let words: String = row.get(5)?;
    let tags: String = row.get(6)?;
    Ok(TaskRow {
        no: row.get(0)?,
        name: row.get(1)?,
        arguments: row.get(2)?,
        identity: hash_at(row, 3)?.unwrap_or(0),
        nth: row.get(4)?,
        inputs: words.split(' ').filter_map(|word| word.parse().ok()).collect(),
        tags: tags.lines().map(str::to_string).collect(),
        state: state_of(row, 7)?,
        reason: row.get(8)?,
        attempt: row.get(9)?,
        created_us: time(row, 10)?.unwrap_or(0),
        started_us: time(row, 11)?,
        ended_us: time(row, 12)?,
        kept: kept_of(row, 13)?,
    })
}
