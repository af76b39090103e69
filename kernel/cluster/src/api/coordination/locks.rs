//! What holds back: locks, semaphores, events and barriers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::object::{Object, at_least_one, common, some};
use crate::{
    api::cluster::Cluster,
    graph::{node::Graph, task_fn::IntoArg},
    model::{
        coordination::{Kind, ObjectName, Op, Reply},
        error::Result,
        task::Arg,
    },
};

/// Held by one at a time, on the whole cluster: see [`Cluster::lock`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Lock {
    object: Object,
}

/// Held by a given number at a time: see [`Cluster::semaphore`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Semaphore {
    object: Object,
}

/// What was acquired: it is free again when this is dropped, or its process ends.
#[must_use = "it is given back at once"]
pub struct Permit {
    object: Object,
}

/// A flag that can be waited for: see [`Cluster::event`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Event {
    object: Object,
}

/// A point that tasks reach together: see [`Cluster::barrier`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Barrier {
    object: Object,
}

common!(Lock);
common!(Semaphore);
common!(Event);
common!(Barrier);

impl Cluster {
    /// A lock of this name: one task or program holds it at a time.
    ///
    /// ```no_run
    /// # use skep_cluster::coordination::Lock;
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// fn append(lock: Lock, line: u32) -> skep_cluster::Result<u32> {
    ///     let _held = lock.acquire()?;
    ///     // one task at a time is here, whichever worker it runs on
    ///     Ok(line)
    /// }
    /// let lock = cluster.lock("log")?;
    /// let written = cluster.map(append, (0..10).map(|line| (lock.clone(), line)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let object = Object::open(self, Kind::Lock, name, 1, "")?;
        Ok(Lock { object })
    }

    /// A semaphore of this name, with so many permits: as many hold it at a time. Say, calls of a service that allows three.
    ///
    /// # Errors
    /// When it exists with another number, when the number is 0, or when the scheduler is gone.
    pub fn semaphore(&self, name: &str, permits: u32) -> Result<Semaphore> {
        let size = at_least_one(permits, "a semaphore", "permits")?;
        let object = Object::open(self, Kind::Semaphore, name, size, "")?;
        Ok(Semaphore { object })
    }

    /// A flag of this name, not set at first.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn event(&self, name: &str) -> Result<Event> {
        let object = Object::open(self, Kind::Event, name, 0, "")?;
        Ok(Event { object })
    }

    /// A barrier of this name: who waits at it goes on when so many wait. They must be able to run at the same time: more
    /// of them than there are threads is fine, since one that waits gives its thread to others.
    ///
    /// # Errors
    /// As [`Cluster::semaphore`].
    pub fn barrier(&self, name: &str, parties: u32) -> Result<Barrier> {
        let size = at_least_one(parties, "a barrier", "parties")?;
        let object = Object::open(self, Kind::Barrier, name, size, "")?;
        Ok(Barrier { object })
    }
}

/// It is given back by the connection that holds it.
fn permit(object: &Object, patience: Option<Duration>) -> Result<Option<Permit>> {
    let object = Object {
        client: Some(object.client()?),
        ..object.clone()
    };
    let is_held = object.in_time(Op::Acquire, patience)?;
    Ok(is_held.then(|| Permit { object }))
}

macro_rules! acquired {
    ($type:ident) => {
        impl $type {
            /// Waits until it can be had, and holds it until what this gives is dropped. Who asks first gets it first. Who holds
            /// all there is and asks again waits for themselves.
            ///
            /// # Errors
            /// When it was deleted, its cluster is gone, or the cell is interrupted.
            pub fn acquire(&self) -> Result<Permit> {
                some(permit(&self.object, None)?)
            }

            /// Holds it if it can be had now.
            ///
            /// # Errors
            /// As `acquire`.
            pub fn try_acquire(&self) -> Result<Option<Permit>> {
                permit(&self.object, Some(Duration::ZERO))
            }

            /// Waits for so long at most.
            ///
            /// # Errors
            /// As `acquire`.
            pub fn acquire_within(&self, patience: Duration) -> Result<Option<Permit>> {
                permit(&self.object, Some(patience))
            }
        }
    };
}
acquired!(Lock);
acquired!(Semaphore);

impl Lock {
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn is_locked(&self) -> Result<bool> {
        Ok(self.object.number(Op::Look)? == 0)
    }
}

impl Semaphore {
    /// Permits that nobody holds now.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn n_free(&self) -> Result<u64> {
        self.object.number(Op::Look)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // If the scheduler is gone, so is what was held.
        let _ = self.object.client().and_then(|client| {
            let name = self.object.name.clone();
            client.coordination()?.give_back(name)
        });
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ObjectName { kind, name } = &self.object.name;
        write!(f, "a permit of the {} `{name}`", kind.name())
    }
}

impl Event {
    /// Lets all go on who wait, and who will, until it is cleared.
    ///
    /// # Errors
    /// When it was deleted, or its cluster is gone.
    pub fn set(&self) -> Result<()> {
        self.object.ask(Op::Set, None).map(drop)
    }

    /// # Errors
    /// As [`Event::set`].
    pub fn clear(&self) -> Result<()> {
        self.object.ask(Op::Clear, None).map(drop)
    }

    /// # Errors
    /// As [`Event::set`].
    pub fn is_set(&self) -> Result<bool> {
        Ok(self.object.number(Op::Look)? == 1)
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// As [`Event::set`], and when the cell is interrupted.
    pub fn wait(&self) -> Result<()> {
        self.object.ask(Op::Wait, None).map(drop)
    }

    /// Waits for so long at most; whether it is set.
    ///
    /// # Errors
    /// As [`Event::wait`].
    pub fn wait_within(&self, patience: Duration) -> Result<bool> {
        self.object.in_time(Op::Wait, Some(patience))
    }
}

impl Barrier {
    /// Waits until all parties do. Gives who of them this is, from 0; the barrier can then be used again.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, or the cell is interrupted.
    pub fn wait(&self) -> Result<u64> {
        self.object.number(Op::Arrive)
    }

    /// Waits for so long at most; `None`: the others did not come in time, and this one is not waited for either.
    ///
    /// # Errors
    /// As [`Barrier::wait`].
    pub fn wait_within(&self, patience: Duration) -> Result<Option<u64>> {
        match self.object.ask(Op::Arrive, Some(patience))? {
            Reply::Number(n) => Ok(Some(n)),
            Reply::NotYet => Ok(None),
            other => Err(self.object.unexpected(&other)),
        }
    }

    /// Parties that wait now.
    ///
    /// # Errors
    /// As [`Barrier::wait`].
    pub fn n_waiting(&self) -> Result<u64> {
        self.object.number(Op::Look)
    }
}
