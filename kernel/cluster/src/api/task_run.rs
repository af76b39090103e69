//! The handle of a call that another part of the program runs: when, how often, and whether at all is decided there.

use std::{marker::PhantomData, sync::Arc};

use crate::{
    data::{
        segment::Bytes,
        value::{self, TaskValue},
    },
    graph::{
        node::Graph,
        task_fn::{IntoArg, handles},
    },
    model::{
        error::{Error, Result},
        ids::Key,
        task::Arg,
    },
};

/// What a [`TaskRun`] asks those who run it.
pub trait Managed: Send + Sync {
    /// Under which its value will be on the cluster.
    ///
    /// # Errors
    /// When the call was refused.
    fn key(&self) -> Result<Key>;
    fn name(&self) -> String;
    /// Its state, and why it is in it.
    fn state(&self) -> (&'static str, String);
    /// Waits until it has ended well.
    ///
    /// # Errors
    /// When it ended otherwise, or the cell is interrupted.
    fn wait(&self) -> Result<()>;
    /// Waits as well, and brings the value here.
    ///
    /// # Errors
    /// As [`Managed::wait`].
    fn bytes(&self) -> Result<Bytes>;
}

/// A call of a task in a flow. It is an argument wherever its value is one, and so is a list of them.
pub struct TaskRun<T> {
    run: Arc<dyn Managed>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for TaskRun<T> {
    fn clone(&self) -> Self {
        TaskRun::of(self.run.clone())
    }
}

impl<T> TaskRun<T> {
    #[doc(hidden)]
    pub fn of(run: Arc<dyn Managed>) -> TaskRun<T> {
        TaskRun {
            run,
            value: PhantomData,
        }
    }

    /// The task's name.
    pub fn name(&self) -> String {
        self.run.name()
    }

    /// `Pending`, `Running`, `AwaitingRetry`, `Completed`, `Cached`, `Failed`, `Crashed` or `Cancelled`.
    pub fn state(&self) -> &'static str {
        self.run.state().0
    }

    /// Why it is in this state; empty where there is nothing to say.
    pub fn reason(&self) -> String {
        self.run.state().1
    }

    /// Waits until it has ended well, and leaves the value where it is.
    ///
    /// # Errors
    /// What it failed with when its retries were used up, or why it never ran; an interrupt.
    pub fn wait(&self) -> Result<()> {
        self.run.wait()
    }

    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        let key = self.run.key()?;
        graph.keep(Arc::new(self.run.clone()));
        graph.note_remote(key, &self.run.name().into(), "pending");
        Ok(Arg::Task(key))
    }
}

impl<T: TaskValue> TaskRun<T> {
    /// Waits for the value and brings it here.
    ///
    /// # Errors
    /// As [`TaskRun::wait`].
    pub fn result(&self) -> Result<T> {
        let bytes = self.run.bytes()?;
        let key = self.run.key()?;
        value::decode(&bytes).map_err(|error| Error::decode(key, &error))
    }
}

handles!(TaskRun);
