//! How much of each run was sent to a server that wants to know.

use std::collections::BTreeMap;

use rusqlite::params;
use skep_cluster::Result;

use super::{
    FlowLog, StateRow, Store,
    tables::{log_row, state_row},
};

/// What was sent of a run.
pub(crate) struct Sent {
    pub run: String,
    /// The run's id on the server; empty while it does not know the run.
    pub id: String,
    /// The last of its states and of its lines that were sent, by their places in the store.
    pub n_states: i64,
    pub n_logs: i64,
    pub has_artifacts: bool,
    /// It has ended, and all was sent.
    pub is_over: bool,
    /// The ids of its tasks on the server.
    pub tasks: BTreeMap<u32, String>,
}

impl Store {
    /// A run is to be reported, from where it was left if it was before.
    pub(crate) fn report(&self, server: &str, run: &str) -> Result<()> {
        self.transact(|db| {
            db.execute(
                "insert into reports (server, run) values (?1, ?2)
                 on conflict do update set is_over = 0, has_artifacts = 0",
                [server, run],
            )
        })?;
        Ok(())
    }

    /// Runs of which there may be something to be sent, the oldest first.
    pub(crate) fn unsent(&self, server: &str) -> Result<Vec<Sent>> {
        self.ask(|db| {
            let mut tasks_of =
                db.prepare_cached("select no, id from reported_tasks where server = ?1 and run = ?2")?;
            let mut reports = db.prepare_cached(
                "select reports.run, reports.id, n_states, n_logs, has_artifacts from reports
                 left join runs on runs.id = reports.run
                 where server = ?1 and not is_over order by runs.created_us",
            )?;
            let mut all = Vec::new();
            let mut rows = reports.query([server])?;
            while let Some(row) = rows.next()? {
                let run: String = row.get(0)?;
                let tasks = tasks_of
                    .query_map([server, &run], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<rusqlite::Result<_>>()?;
                all.push(Sent {
                    run,
                    id: row.get(1)?,
                    n_states: row.get(2)?,
                    n_logs: row.get(3)?,
                    has_artifacts: row.get(4)?,
                    is_over: false,
                    tasks,
                });
            }
            Ok(all)
        })
    }

    /// So much of a run was sent.
    pub(crate) fn note_sent(&self, server: &str, sent: &Sent) -> Result<()> {
        self.transact(|db| {
            db.prepare_cached(
                "update reports set id = ?3, n_states = ?4, n_logs = ?5, has_artifacts = ?6, is_over = ?7
                 where server = ?1 and run = ?2",
            )?
            .execute(params![
                server,
                sent.run,
                sent.id,
                sent.n_states,
                sent.n_logs,
                sent.has_artifacts,
                sent.is_over
            ])?;
            Ok(())
        })
    }

    /// A task of a run has this id on the server.
    pub(crate) fn note_sent_task(&self, server: &str, run: &str, no: u32, id: &str) -> Result<()> {
        self.transact(|db| {
            db.prepare_cached("insert or ignore into reported_tasks values (?1, ?2, ?3, ?4)")?
                .execute(params![server, run, no, id])
        })?;
        Ok(())
    }

    /// States that come after one, with their places.
    pub(crate) fn states_after(&self, run: &str, after: i64) -> Result<Vec<(i64, StateRow)>> {
        self.ask(|db| {
            db.prepare_cached(
                "select no, at_us, state, reason, attempt, rowid from states where run = ?1 and rowid > ?2 order by rowid",
            )?
            .query_map(params![run, after], |row| Ok((row.get(5)?, state_row(row)?)))?
            .collect()
        })
    }

    /// Lines that come after one, with their places and the numbers of their tasks.
    pub(crate) fn logs_after(&self, run: &str, after: i64) -> Result<Vec<(i64, u32, FlowLog)>> {
        self.ask(|db| {
            db.prepare_cached(
                "select '', worker, is_stderr, text, at_us, rowid, no from logs where run = ?1 and rowid > ?2 order by rowid",
            )?
            .query_map(params![run, after], |row| Ok((row.get(5)?, row.get(6)?, log_row(row)?)))?
            .collect()
        })
    }
}
