//! Runs in the store: beginning, finding, forgetting.

use std::{fs, time::Duration};

use rusqlite::{OptionalExtension, params};
use skep_cluster::{Error, Result};
use skep_render::Message;

use super::{
    FlowLog, Kept, RunRow, StateRow, Store, TaskRow, now_us, short,
    tables::{RUN, blob, hash_at, kept_of, log_row, run_of, state_row, task_of, time},
};
use crate::state::State;

/// A run that is about to begin.
pub(crate) struct NewRun<'r> {
    pub id: &'r str,
    pub flow: &'r str,
    pub gives: &'r str,
    pub parent: Option<&'r str>,
    pub identity: Option<u128>,
    pub parameters: &'r str,
    pub args: &'r [u8],
    pub state: State,
}

pub(crate) fn unknown_run(id: &str) -> Error {
    Error::Argument(
        Message::new(format!("there is no run `{id}`"))
            .hint("`:flows` lists those that there are, and `skep flow runs` in a shell"),
    )
}

impl Store {
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
                "insert into runs (id, flow, parent, identity, state, parameters, args, process, created_us, started_us, gives)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
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
                    (run.state == State::Running).then_some(now),
                    run.gives
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
        if run.state.is_open() {
            return Err(Error::Argument(
                Message::new(format!("the run {} is running", short(id)))
                    .hint("`run.result()?` waits for it; where it runs, `run.cancel()?` stops it"),
            ));
        }
        let now = now_us() as i64;
        let n = self.transact(|db| {
            // One of two that want it at once finds it running.
            let n = db.execute(
                "update runs set process = ?2, state = 'Running', reason = '', ended_us = null, started_us = ifnull(started_us, ?4)
                 where id = ?1 and process = ?3 and (process <> ?2 or state not in ('Running', 'Pending', 'AwaitingRetry'))",
                params![id, self.process, run.process, now],
            )?;
            if n > 0 {
                let why = match run.state {
                    State::Scheduled => "",
                    _ => "it goes on",
                };
                db.execute(
                    "insert into states values (?1, 0, ?2, 'Running', ?3, 1)",
                    params![id, now, why],
                )?;
            }
            Ok(n)
        })?;
        if n == 0 {
            return Err(Error::Argument(Message::new(format!(
                "the run {} was taken up elsewhere a moment ago",
                short(id)
            ))));
        }
        Ok(())
    }

    /// Runs, the newest last: those that nobody called, or all of one flow.
    pub fn runs(&self, flow: Option<&str>) -> Result<Vec<RunRow>> {
        let rows = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where iif(?1 is null, parent is null, flow = ?1) order by created_us, rowid"
            ))?
            .query_map([flow], run_of)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(self.listed(rows))
    }

    /// What a process that is gone would have begun is nothing to look at.
    fn listed(&self, rows: Vec<RunRow>) -> Vec<RunRow> {
        rows.into_iter()
            .filter(|run| run.state != State::Scheduled || self.is_alive(&run.process))
            .map(|run| self.as_it_is(run))
            .collect()
    }

    /// The newest run of a flow that has begun.
    pub(crate) fn newest_of(&self, flow: &str) -> Result<Option<RunRow>> {
        let found = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where flow = ?1 and state <> 'Scheduled' order by created_us desc, rowid desc limit 1"
            ))?
            .query_row([flow], run_of)
            .optional()
        })?;
        Ok(found.map(|run| self.as_it_is(run)))
    }

    /// The newest runs, so many at most; the newest last.
    pub fn newest(&self, n: usize) -> Result<Vec<RunRow>> {
        let rows = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where parent is null order by created_us desc, rowid desc limit ?1"
            ))?
            .query_map([n as i64], run_of)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(self.listed(rows.into_iter().rev().collect()))
    }

    /// The run whose id begins so.
    ///
    /// # Errors
    /// When several do, or the store cannot be read.
    pub fn run(&self, id: &str) -> Result<Option<RunRow>> {
        let mut found = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where id = ?1 or (substr(id, 1, length(?1)) = ?1 and ?1 <> '') order by id = ?1 desc,
                 created_us desc limit 9"
            ))?
            .query_map([id], run_of)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let is_one = found.len() < 2 || found[0].id == id;
        if !is_one {
            let ids: Vec<&str> = found.iter().take(8).map(|run| short(&run.id)).collect();
            let more = if found.len() > 8 { ", …" } else { "" };
            return Err(Error::Argument(
                Message::new(format!(
                    "the ids of several runs begin with `{id}`: {}{more}",
                    ids.join(", ")
                ))
                .hint("give more of it"),
            ));
        }
        found.truncate(1);
        Ok(found.pop().map(|run| self.as_it_is(run)))
    }

    /// The runs that a run called, in order.
    pub fn called_by(&self, parent: &str) -> Result<Vec<RunRow>> {
        let rows = self.ask(|db| {
            db.prepare_cached(&format!(
                "select {RUN} from runs where parent = ?1 order by created_us, rowid"
            ))?
            .query_map([parent], run_of)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(rows.into_iter().map(|run| self.as_it_is(run)).collect())
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
                "select {RUN} from runs where flow = ?1 and parameters = ?2 and parent is null and state <> 'Scheduled'
                 order by created_us desc, rowid desc limit 1"
            ))?
            .query_row([flow, parameters], run_of)
            .optional()
        })?;
        Ok(found.map(|run| self.as_it_is(run)))
    }

    /// A run whose process is gone has crashed.
    fn as_it_is(&self, mut run: RunRow) -> RunRow {
        if let Some(end) = self.ends().get(&run.id) {
            (run.state, run.reason) = (end.state, end.reason.clone());
            run.ended_us = Some(end.at_us);
            run.result = end.result.clone();
            return run;
        }
        if !self.is_alive(&run.process) {
            if run.state.is_open() {
                run.state = State::Crashed;
                run.reason = "the process that ran it is gone".into();
            }
            if run.state == State::Scheduled {
                run.state = State::Cancelled;
                run.reason = "the process that served it is gone".into();
            }
        }
        run
    }

    /// Says when a run begins that has not begun.
    pub(crate) fn put_off(&self, id: &str, when: &str) -> Result<()> {
        self.transact(|db| {
            db.execute(
                "update runs set reason = ?2 where id = ?1 and state = 'Scheduled'",
                [id, when],
            )
        })?;
        Ok(())
    }

    /// Removes the runs that never begin: those that this process was to begin, and those of processes that are gone.
    pub(crate) fn forget_scheduled(&self) -> Result<()> {
        let scheduled: Vec<(String, String)> = self.ask(|db| {
            db.prepare("select id, process from runs where state = 'Scheduled'")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        for (id, process) in scheduled {
            if process == self.process || !self.is_alive(&process) {
                self.forget(&id)?;
            }
        }
        Ok(())
    }

    /// Removes what tasks with a cache gave, and says how many values that were. Runs keep theirs.
    pub(crate) fn clear_cache(&self) -> Result<usize> {
        let (n, orphans) = self.transact(|db| {
            let orphans = db
                .prepare(
                    "select distinct hash from cache where value is null and hash not in
                     (select hash from tasks where hash is not null)",
                )?
                .query_map([], |row| hash_at(row, 0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((db.execute("delete from cache", [])?, orphans))
        })?;
        for hash in orphans.into_iter().flatten() {
            let _ = fs::remove_file(self.path_of(hash));
        }
        Ok(n)
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
            .query_map([run], state_row)?
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
            .query_map([run], log_row)?
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
            for table in ["tasks", "states", "logs", "approvals", "reports", "reported_tasks"] {
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

#[test]
fn a_clock_that_is_set_back_makes_no_value_older() {
    let folder = std::env::temp_dir().join(format!("skep-flows-clock-{}", std::process::id()));
    let store = Store::open(&folder).unwrap();
    let hour = 3_600_000_000;
    // Written before the clock was set back by an hour, now, and before it was set on by one.
    for (key, at_us) in [(1, now_us() + hour), (2, now_us()), (3, now_us() - hour)] {
        let kept = Kept {
            hash: key,
            n_bytes: 1,
            inline: Some(vec![7].into()),
        };
        let name = "step".into();
        store
            .write(&[super::Record::Cached {
                key,
                name,
                kept,
                at_us,
            }])
            .unwrap();
    }
    let is_there = |key, limit| store.cached(key, limit).unwrap().is_some();
    let minute = Some(Duration::from_secs(60));
    assert_eq!([1, 2, 3].map(|key| is_there(key, minute)), [true, true, false]);
    assert!(is_there(3, None));
    assert_eq!(store.clear_cache().unwrap(), 3);
    assert!(!is_there(1, None));
    let _ = fs::remove_dir_all(&folder);
}
