//! Working with many handles: as they finish, all of them, or for a while; and values that begin here.

use std::{
    borrow::Borrow,
    collections::VecDeque,
    task::Waker,
    time::{Duration, Instant},
};

use skep_render::Message;

use crate::{
    api::{
        cluster::Cluster,
        delayed::Delayed,
        remote::{Handle, Remote},
    },
    call::{locate::FnRef, thunk::conjure},
    data::value::TaskValue,
    graph::{
        node::Graph,
        task_fn::{IntoArg, TaskFn, fn_ref},
    },
    model::{
        cluster::ClusterSpec,
        error::{Error, Result},
        ids::WorkerId,
    },
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

    /// Whether there are handles, and none has ended; wakes when one does.
    pub(crate) fn all_pending(&self, waker: &Waker) -> bool {
        let is_pending = |remote: &Remote<T>| {
            remote
                .handle
                .held()
                .is_ok_and(|held| held.client.is_pending(held.key, waker))
        };
        self.ready.is_empty() && !self.pending.is_empty() && self.pending.iter().all(is_pending)
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
    pub fn as_completed<T>(
        &self,
        handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>,
    ) -> AsCompleted<T> {
        AsCompleted {
            cluster: self.clone(),
            pending: owned(handles),
            ready: VecDeque::new(),
        }
    }

    /// Waits for all of these to end, well or badly, and leaves their values where they are.
    ///
    /// # Errors
    /// When the scheduler is gone, or the cell is interrupted.
    pub fn wait<T>(&self, handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>) -> Result<()> {
        let mut pending: Vec<Remote<T>> = owned(handles);
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
    pub fn wait_for<T>(
        &self,
        handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>,
        patience: Duration,
    ) -> Result<(Vec<Remote<T>>, Vec<Remote<T>>)> {
        let until = Instant::now() + patience;
        let (mut done, mut pending): (Vec<Remote<T>>, Vec<Remote<T>>) = (Vec::new(), owned(handles));
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

    /// As [`Cluster::gather`], but each handle gives its own value or its own error, in order: one failure among many
    /// loses nothing. `.into_iter().flatten()` leaves out those that failed.
    ///
    /// ```no_run
    /// fn parse(text: String) -> Result<i64, std::num::ParseIntError> { text.parse() }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let handles = cluster.map(parse, ["1", "two", "3"]);
    /// let good: Vec<i64> = cluster.try_gather(handles)?.into_iter().flatten().collect();
    /// assert_eq!(good, [1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Cluster::wait`].
    pub fn try_gather<T: TaskValue>(
        &self,
        handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>,
    ) -> Result<Vec<Result<T>>> {
        let handles = owned(handles);
        self.wait(&handles)?;
        Ok(handles.iter().map(Remote::gather).collect())
    }

    /// As [`Cluster::gather`], for at most `patience`; the tasks go on.
    ///
    /// # Errors
    /// As [`Cluster::gather`]; [`Error::TimedOut`] when some have not ended by then.
    pub fn gather_within<T: TaskValue>(
        &self,
        handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>,
        patience: Duration,
    ) -> Result<Vec<T>> {
        let handles = owned(handles);
        let (_, pending) = self.wait_for(&handles, patience)?;
        if pending.is_empty() {
            self.gather(handles)
        } else {
            let (n, of) = (pending.len(), handles.len());
            let took = skep_render::duration(patience);
            let who = if of == 1 {
                "the task has".to_string()
            } else {
                format!("{n} of {of} tasks have")
            };
            Err(Error::TimedOut(
                Message::new(format!("{who} not ended within {took}"))
                    .hint("they go on: gather again, `cancel` them, or look at `:explain` and `:tasks`"),
            ))
        }
    }

    /// Calls `f` once for each item, `size` of them in one task: for functions so short that the way to a worker takes longer
    /// than they do. Each handle stands for a list; gathered, the lists are in order.
    ///
    /// ```no_run
    /// fn square(x: u64) -> u64 { x * x }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let lists = cluster.map_batches(square, 0..1_000_000, 10_000);
    /// let squares: Vec<u64> = cluster.gather(lists)?.concat();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Several lists of arguments are zipped: a function of two arguments is called as `|(a, b)| f(a, b)`.
    ///
    /// # Panics
    /// When `size` is 0.
    #[track_caller]
    pub fn map_batches<F, A, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = A>,
        size: usize,
    ) -> Vec<Remote<Vec<R>>>
    where
        F: Fn(A) -> R + Copy,
        A: TaskValue + Clone,
        R: TaskValue,
    {
        assert!(
            size > 0,
            "a batch of 0 items would never end: give it a size of 1 or more"
        );
        let _ = f;
        let f = batch_ref::<F, A, R, _, _>(each::<F, A, R>);
        let (mut graph, mut nodes) = (Graph::default(), Vec::new());
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let batch: Vec<A> = items.by_ref().take(size).collect();
            let args = IntoArg::<Vec<A>>::into_arg(batch, &mut graph).map(|arg| vec![arg]);
            nodes.push(graph.call(f, args, !self.is_caching()));
        }
        self.submit_all(nodes, graph)
            .into_iter()
            .map(Handle::typed)
            .collect()
    }

    /// Calls `f` once on every worker that is there, and gives what each returned: to set something up, or to look.
    ///
    /// ```no_run
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// for (worker, pid) in cluster.run_on_all(|| std::process::id())? {
    ///     println!("{worker} is process {pid}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Cluster::gather`]; a worker that ends meanwhile is an error too.
    pub fn run_on_all<F, Kind>(&self, f: F) -> Result<Vec<(WorkerId, F::Output)>>
    where
        F: TaskFn<Kind, ()>,
        F::Output: TaskValue,
    {
        let mut workers = Vec::new();
        let mut handles = Vec::new();
        for worker in self.info()?.workers {
            workers.push(worker.id);
            handles.push(self.impure().on_workers([worker.id.0]).submit(f, ()));
        }
        Ok(workers.into_iter().zip(self.gather(handles)?).collect())
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

impl<T: TaskValue> Remote<T> {
    /// As [`Remote::gather`], for at most `patience`; the task goes on.
    ///
    /// # Errors
    /// As [`Remote::gather`]; [`Error::TimedOut`] when it has not ended by then.
    pub fn gather_within(&self, patience: Duration) -> Result<T> {
        let mut values = Cluster::of(self.handle.held()?.client.clone(), ClusterSpec::default())
            .gather_within([self], patience)?;
        Ok(values.remove(0))
    }
}

fn owned<T>(handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>) -> Vec<Remote<T>> {
    handles
        .into_iter()
        .map(|handle| handle.borrow().clone())
        .collect()
}

fn each<F: Fn(A) -> R + Copy, A, R>(items: Vec<A>) -> Vec<R> {
    items.into_iter().map(conjure::<F>()).collect()
}

/// A batch bears the name of the function that it calls.
fn batch_ref<F: Copy, A, R, Each, Kind>(_: Each) -> FnRef
where
    Each: TaskFn<Kind, Vec<A>, Output = Vec<R>>,
{
    fn_ref::<Each, Kind, Vec<A>>().in_role::<F>("batch")
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
