//! `handle.await`: a value in an async cell, beside others and beside whatever else the cell waits for.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    api::{futures::AsCompleted, remote::Remote},
    data::value::TaskValue,
    hooks::hooks,
    model::error::Result,
};

/// Waits for a value without holding its thread, and brings it here: what `handle.await` makes.
pub struct Awaited<T> {
    remote: Remote<T>,
}

impl<T: TaskValue> Future for Awaited<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if let Ok(held) = self.remote.handle.held() {
            let is_interrupted = || hooks().interrupted.is_some_and(|interrupted| interrupted());
            if held.client.is_pending(held.key, cx.waker()) && !is_interrupted() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.remote.gather())
    }
}

impl<T: TaskValue> IntoFuture for Remote<T> {
    type Output = Result<T>;
    type IntoFuture = Awaited<T>;

    /// What `handle.await` gives is what [`Remote::gather`] gives; meanwhile other futures go on. A large value is brought
    /// here in one go when its task has ended.
    ///
    /// ```no_run
    /// # fn slow(x: i64) -> i64 { x }
    /// # async fn cell() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let (a, b) = (cluster.submit(slow, 1), cluster.submit(slow, 2));
    /// assert_eq!(a.await? + b.await?, 3);
    /// # Ok(())
    /// # }
    /// ```
    fn into_future(self) -> Awaited<T> {
        Awaited { remote: self }
    }
}

impl<T> AsCompleted<T> {
    /// The next handle whose task has ended, for async code: `while let Some(done) = all.next_done().await { … }`. As the
    /// iterator's `next`, without holding the thread.
    pub async fn next_done(&mut self) -> Option<Remote<T>> {
        std::future::poll_fn(|cx| {
            let is_interrupted = hooks().interrupted.is_some_and(|interrupted| interrupted());
            if !is_interrupted && self.all_pending(cx.waker()) {
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        self.next()
    }
}

impl<T: TaskValue> IntoFuture for &Remote<T> {
    type Output = Result<T>;
    type IntoFuture = Awaited<T>;

    fn into_future(self) -> Awaited<T> {
        self.clone().into_future()
    }
}
