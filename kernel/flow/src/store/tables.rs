//! The tables, and how records and rows go in and out.

use std::path::Path;

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::{FlowLog, Kept, PATIENCE, Record, RunRow, StateRow, TaskRow};
use crate::state::State;

/// The layout of the tables; a store of another one is refused.
pub(super) const VERSION: i64 = 1;

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
    -- The type of its value.
    gives text not null,
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
-- How much of a run was sent to a Prefect server.
create table reports (
    server text not null,
    run text not null,
    id text not null default '',
    n_states integer not null default 0,
    n_logs integer not null default 0,
    has_artifacts integer not null default 0,
    is_over integer not null default 0,
    primary key (server, run)
) strict, without rowid;
-- The ids that its tasks have there.
create table reported_tasks (
    server text not null,
    run text not null,
    no integer not null,
    id text not null,
    primary key (server, run, no)
) strict, without rowid;
create table approvals (
    run text not null,
    name text not null,
    is_granted integer not null,
    at_us integer not null,
    primary key (run, name)
) strict, without rowid;
";

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
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

pub(super) fn insert(db: &Connection, record: &Record) -> rusqlite::Result<()> {
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
        Record::Ran {
            run,
            no,
            from_us,
            to_us,
        } => db
            .prepare_cached("update tasks set started_us = ?3, ended_us = ?4 where run = ?1 and no = ?2")?
            .execute(params![&**run, no, *from_us as i64, *to_us as i64])?,
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

pub(super) fn blob(hash: u128) -> [u8; 16] {
    hash.to_le_bytes()
}

pub(super) fn hash_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u128>> {
    row.get::<_, Option<[u8; 16]>>(at)
        .map(|bytes| bytes.map(u128::from_le_bytes))
}

pub(super) fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(at)
        .map(|time| time.map(|time| time.max(0) as u64))
}

/// A name of a state that this version does not know is one that nothing can be said about.
pub(super) fn state_of(row: &Row<'_>, at: usize) -> rusqlite::Result<State> {
    let name: String = row.get(at)?;
    Ok(State::from_name(&name).unwrap_or(State::Crashed))
}

pub(super) fn kept_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Kept>> {
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

pub(super) const RUN: &str = "id, flow, parent, state, reason, parameters, created_us, started_us, ended_us, args, result, process, gives";

pub(super) fn run_of(row: &Row<'_>) -> rusqlite::Result<RunRow> {
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
        gives: row.get(12)?,
    })
}

pub(super) fn task_of(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
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

/// A row that begins with number, time, state, reason and attempt.
pub(super) fn state_row(row: &Row<'_>) -> rusqlite::Result<StateRow> {
    Ok(StateRow {
        no: row.get(0)?,
        at_us: time(row, 1)?.unwrap_or(0),
        state: state_of(row, 2)?,
        reason: row.get(3)?,
        attempt: row.get(4)?,
    })
}

/// A row that begins with task, worker, stream, text and time.
pub(super) fn log_row(row: &Row<'_>) -> rusqlite::Result<FlowLog> {
    Ok(FlowLog {
        task: row.get(0)?,
        worker: row.get(1)?,
        is_stderr: row.get(2)?,
        text: row.get(3)?,
        at_us: time(row, 4)?.unwrap_or(0),
    })
}
