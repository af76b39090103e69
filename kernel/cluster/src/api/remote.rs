//! The handle of a value that is, or will be, on the cluster.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    data::{
        segment::Bytes,
        value::{self, TaskValue},
    },
    engine::client::{Client, Status},
    graph::{
        node::Graph,
        task_fn::{IntoArg, handles},
    },
    model::{
        error::{Error, Result},
        history::{Explanation, Journey},
        ids::Key,
        task::{Arg, Output},
    },
};

/// The handle of a value that is, or will be, on the cluster.
///
/// A handle is an argument wherever its value is one; data moves from worker to worker. The value is freed
/// when the last handle is dropped and no task needs it.
pub struct Remote<T> {
    pub(crate) handle: Handle,
    value: PhantomData<fn() -> T>,
}

/// A handle without its type: what is not generic is compiled once, not in every cell.
#[derive(Clone)]
pub(crate) enum Handle {
    Held(Arc<Held>),
    /// The call could not be submitted; whoever gathers it hears why.
    Refused(Error),
}

pub(crate) struct Held {
    pub client: Arc<Client>,
    pub key: Key,
    pub name: Arc<str>,
    /// The same call had been made, and its value was still held.
    pub was_known: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.client.release(self.key);
    }
}

impl Handle {
    pub(crate) fn typed<T>(self) -> Remote<T> {
        Remote {
            handle: self,
            value: PhantomData,
        }
    }

    /// The handle of a value that somebody else holds, and that this program holds from now on too.
    pub(crate) fn adopted(client: &Arc<Client>, key: Key, name: &str) -> Handle {
        Handle::Held(Arc::new(Held {
            client: client.clone(),
            key,
            name: name.into(),
            was_known: true,
        }))
    }

    pub(crate) fn held(&self) -> Result<&Arc<Held>> {
        match self {
            Handle::Held(held) => Ok(held),
            Handle::Refused(error) => Err(error.clone()),
        }
    }

    fn status(&self) -> Option<Status> {
        match self {
            Handle::Held(held) => held.client.status(held.key),
            Handle::Refused(error) => Some(Status::Failed(error.clone())),
        }
    }

    #[inline(never)]
    fn state(&self) -> (&'static str, String) {
        match self.status() {
            Some(Status::Pending) | None => ("pending", String::new()),
            Some(Status::Done {
                n_bytes,
                worker,
                duration_us,
                ..
            }) => {
                let cached = if self.held().is_ok_and(|held| held.was_known) {
                    ", cached: the same call had run"
                } else {
                    ""
                };
                (
                    "done",
                    format!(
                        "{} on {worker}, {}{cached}",
                        skep_render::bytes(n_bytes),
                        skep_render::duration(Duration::from_micros(duration_us))
                    ),
                )
            }
            Some(Status::Failed(error)) => ("failed", error.to_string()),
        }
    }

    #[inline(never)]
    fn journey(&self) -> Result<Journey> {
        let held = self.held()?;
        held.client
            .journey(held.key)?
            .ok_or_else(|| Error::Disconnected("the scheduler does not know this task any more".into()))
    }

    #[inline(never)]
    fn explain(&self) -> Result<Explanation> {
        let held = self.held()?;
        held.client
            .explain(held.key)?
            .ok_or_else(|| Error::Disconnected("the scheduler does not know this task any more".into()))
    }

    #[inline(never)]
    fn fetch(&self) -> Result<(Key, Bytes)> {
        let held = self.held()?;
        Ok((held.key, held.client.fetch(Output::whole(held.key))?))
    }

    #[inline(never)]
    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        let held = self.held()?;
        graph.keep(held.clone());
        graph.note_remote(held.key, &held.name, self.state().0);
        Ok(Arg::Task(held.key))
    }
}

impl<T> Clone for Remote<T> {
    fn clone(&self) -> Self {
        Remote {
            handle: self.handle.clone(),
            value: PhantomData,
        }
    }
}

impl<T> Remote<T> {
    /// Names the task; `None` if it could not be submitted.
    pub fn key(&self) -> Option<Key> {
        self.handle.held().ok().map(|held| held.key)
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        self.handle.held().map_or("?", |held| &held.name)
    }

    pub fn is_done(&self) -> bool {
        matches!(self.handle.status(), Some(Status::Done { .. }))
    }

    /// Bytes of the value in memory, on its worker; `None` while it is not there.
    pub fn n_bytes(&self) -> Option<u64> {
        match self.handle.status() {
            Some(Status::Done { n_bytes, .. }) => Some(n_bytes),
            _ => None,
        }
    }

    /// Where the value is: pending, done (worker, size, time) or failed, in one line.
    pub fn state(&self) -> (&'static str, String) {
        self.handle.state()
    }

    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        self.handle.add_to(graph)
    }

    /// Waits until the value is there, and leaves it on its worker.
    ///
    /// # Errors
    /// As [`Remote::gather`].
    pub fn wait(&self) -> Result<()> {
        let held = self.handle.held()?;
        held.client.wait(&[held.key])
    }

    /// What happened to this task, stage by stage, and why it ran where it ran.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn journey(&self) -> Result<Journey> {
        self.handle.journey()
    }

    /// What the task waits for, in words: inputs, a worker, its code, a retry.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn explain(&self) -> Result<Explanation> {
        self.handle.explain()
    }

    /// Stops the task if it has not ended. One that waits never runs. One that runs is told: `sleep` and
    /// `cancelled()` hear it; one that does not listen loses its thread to the next task, and its value is
    /// dropped.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn cancel(&self) -> Result<()> {
        let held = self.handle.held()?;
        held.client.cancel(vec![held.key])
    }
}

impl<T: TaskValue> Remote<T> {
    /// Waits for the value and brings it here.
    ///
    /// # Errors
    /// The task's own error with its place and worker, the cluster being gone, or an interrupt, which cancels
    /// the task.
    pub fn gather(&self) -> Result<T> {
        let (key, bytes) = self.handle.fetch()?;
        value::decode(&bytes).map_err(|error| Error::decode(key, &error))
    }
}

impl<T: TaskValue> IntoArg<T> for &&Remote<T> {
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
        self.add_to(graph)
    }
}

handles!(Remote);
