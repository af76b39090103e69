//! Working with many handles: as they finish, all of them, or for a while; and values that begin here.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    api::{cluster::Cluster, delayed::Delayed, remote::Remote},
    data::value::TaskValue,
    graph::task_fn::TaskFn,
    model::error::Result,
};

/// Handles in the order in which their tasks end; see [`Cluster::as_completed`].
pub struct AsCompleted<T> {
    cluster: Cluster,
    pending: Vec<Remote<T>>,
    ready: VecDeque<Remote<T>>,
}

impl<T> AsCompleted<T> {
    /// Adds a handle, also while iterating: results may lead to more work.
    pub fn add(&mut self, remote: Remote<T>) {
        self.pending.push(remote);
    }

    /// Handles whose tasks have not ended.
    pub fn n_pending(&self) -> usize {
        self.pending.len()
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = Remote<T>;

    /// Waits for the next one. A task that failed comes too: its `gather` says why. An interrupt ends the
    /// cell.
    fn next(&mut self) -> Option<Remote<T>> {
        if self.ready.is_empty() && !self.pending.is_empty() {
            let ended = self
                .cluster
                .ended(&self.pending, None)
                .unwrap_or_else(|_| vec![true; self.pending.len()]);
            let mut ended = ended.into_iter();
            let (ready, pending) = std::mem::take(&mut self.pending)
                .into_iter()
                .partition(|_| ended.next().unwrap_or(true));
            self.pending = pending;
            let ready: Vec<Remote<T>> = ready;
            self.ready.extend(ready);
        }
        self.ready.pop_front()
    }
}

impl Cluster {
    /// Handles in the order in which their tasks end, each as soon as it does.
    ///
    /// ```no_run
    /// # fn slow(x: i64) -> i64 { x }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let handles = cluster.map(slow, 0..10);
    /// for done in cluster.as_completed(&handles) {
    ///     println!("{}", done.gather()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn as_completed<'r, T: 'r>(
        &self,
        handles: impl IntoIterator<Item = &'r Remote<T>>,
    ) -> AsCompleted<T> {
        AsCompleted {
            cluster: self.clone(),
            pending: handles.into_iter().cloned().collect(),
            ready: VecDeque::new(),
        }
    }

    /// Waits for all of these to end, well or badly, and leaves their values where they are.
    ///
    /// # Errors
    /// When the scheduler is gone, or the cell is interrupted.
    pub fn wait<'r, T: 'r>(&self, handles: impl IntoIterator<Item = &'r Remote<T>>) -> Result<()> {
        let mut pending: Vec<Remote<T>> = handles.into_iter().cloned().collect();
        while !pending.is_empty() {
            let mut ended = self.ended(&pending, None)?.into_iter();
            pending.retain(|_| !ended.next().unwrap_or(true));
        }
        Ok(())
    }

    /// Waits for at most `patience`. Returns those whose tasks have ended, and the others.
    ///
    /// # Errors
    /// As [`Cluster::wait`].
    #[expect(clippy::type_complexity, reason = "two lists of handles are what it is")]
    pub fn wait_for<'r, T: 'r>(
        &self,
        handles: impl IntoIterator<Item = &'r Remote<T>>,
        patience: Duration,
    ) -> Result<(Vec<Remote<T>>, Vec<Remote<T>>)> {
        let until = Instant::now() + patience;
        let (mut done, mut pending): (Vec<Remote<T>>, Vec<Remote<T>>) =
            (Vec::new(), handles.into_iter().cloned().collect());
        while !pending.is_empty() {
            let ended = self.ended(&pending, Some(until))?;
            if !ended.contains(&true) {
                break;
            }
            let mut ended = ended.into_iter();
            let (now_done, rest) = pending.into_iter().partition(|_| ended.next().unwrap_or(true));
            let now_done: Vec<Remote<T>> = now_done;
            done.extend(now_done);
            pending = rest;
        }
        Ok((done, pending))
    }

    /// A value of this program on the cluster, to be the argument of many calls. It travels once; workers get
    /// it from each other. The scheduler keeps its bytes, so that it outlasts every worker.
    pub fn scatter<T: TaskValue + Clone>(&self, value: T) -> Remote<T> {
        self.submit(keep::<T>, value)
    }

    /// Lets a task run to its end although nobody holds its handle: for what it does, not for what it
    /// returns.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn fire_and_forget<T>(&self, remote: &Remote<T>) -> Result<()> {
        self.detach(remote.key())
    }
}

fn keep<T>(value: T) -> T {
    value
}

fn gathered<T>(values: Vec<T>) -> Vec<T> {
    values
}

impl<T: TaskValue + Clone> Delayed<T> {
    /// Another call on this one's result: `a.then(f)` is `delayed!(f(a))`, and reads in the order in which it
    /// runs.
    #[must_use]
    pub fn then<F, Kind>(&self, f: F) -> Delayed<F::Output>
    where
        F: TaskFn<Kind, Delayed<T>>,
        F::Output: TaskValue,
    {
        Delayed::call(f, self.clone())
    }

    /// Many results as one: a list, in order.
    #[must_use]
    pub fn group(results: &[Delayed<T>]) -> Delayed<Vec<T>> {
        Delayed::call(gathered::<T>, results)
    }

    /// A call on many results at once, when all of them are there.
    #[must_use]
    pub fn chord<F, Kind, R>(results: &[Delayed<T>], f: F) -> Delayed<R>
    where
        F: for<'d> TaskFn<Kind, &'d [Delayed<T>], Output = R>,
        R: TaskValue,
    {
        Delayed::call(f, results)
    }
}
