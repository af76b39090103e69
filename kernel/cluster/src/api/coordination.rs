//! Locks, semaphores, events, queues, variables, topics and barriers: what tasks and programs agree by.
//!
//! Each has a name, and whoever asks a cluster for the name gets the same object; its handle is also an argument of tasks.
//! What a program or a worker holds is freed when it ends, however it ends. Values in them go through the scheduler:
//! they are for small things, and handles are for large ones.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_render::Message;

use crate::{
    api::{builder::current_client, cluster::Cluster},
    call::locate::layout_of,
    data::value::{self, TaskValue},
    engine::client::Client,
    model::{
        coordination::{Kind, ObjectName, Op, Reply, Shape},
        error::{Error, Result},
    },
};

/// The handle of an object without its type.
#[derive(Clone, Serialize, Deserialize)]
struct Object {
    name: ObjectName,
    /// In a task it is that of the task's cluster.
    #[serde(skip)]
    client: Option<Arc<Client>>,
}

impl Object {
    #[inline(never)]
    fn open(cluster: &Cluster, kind: Kind, name: &str, size: u32, type_name: &str) -> Result<Object> {
        let object = Object {
            name: ObjectName {
                kind,
                name: name.to_string(),
            },
            client: Some(cluster.client.clone()),
        };
        let shape = Shape {
            size,
            type_name: type_name.to_string(),
            layout: layout_of(type_name),
        };
        object.ask(Op::Open(shape), None)?;
        Ok(object)
    }

    fn client(&self) -> Result<Arc<Client>> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => current_client(),
        }
    }

    #[inline(never)]
    fn ask(&self, op: Op, patience: Option<Duration>) -> Result<Reply> {
        match self.client()?.coordinate(&self.name, op, patience)? {
            Reply::Refused(message) => Err(Error::Name(message)),
            reply => Ok(reply),
        }
    }

    /// Whether it came in time.
    fn in_time(&self, op: Op, patience: Option<Duration>) -> Result<bool> {
        Ok(self.ask(op, patience)? != Reply::NotYet)
    }

    fn number(&self, op: Op) -> Result<u64> {
        match self.ask(op, None)? {
            Reply::Number(n) => Ok(n),
            other => Err(self.unexpected(&other)),
        }
    }

    #[inline(never)]
    fn bytes(&self, op: Op, patience: Option<Duration>) -> Result<Option<Vec<u8>>> {
        match self.ask(op, patience)? {
            Reply::Value(bytes) => Ok(Some(bytes.into_vec())),
            Reply::NotYet => Ok(None),
            other => Err(self.unexpected(&other)),
        }
    }

    fn permit(&self, patience: Option<Duration>) -> Result<Option<Permit>> {
        // It is given back by the connection that holds it.
        let object = Object {
            client: Some(self.client()?),
            ..self.clone()
        };
        Ok(object.in_time(Op::Acquire, patience)?.then(|| Permit { object }))
    }

    fn put<T: TaskValue>(&self, value: &T, patience: Option<Duration>) -> Result<bool> {
        let bytes = value::encode(value).map_err(Error::serialisation)?;
        self.in_time(Op::Put(ByteBuf::from(bytes)), patience)
    }

    fn get<T: TaskValue>(&self, op: Op, patience: Option<Duration>) -> Result<Option<T>> {
        self.bytes(op, patience)?
            .map(|bytes| self.decode(bytes))
            .transpose()
    }

    fn decode<T: TaskValue>(&self, bytes: Vec<u8>) -> Result<T> {
        value::decode(&bytes.into()).map_err(Error::serialisation)
    }

    fn unexpected(&self, reply: &Reply) -> Error {
        let kind = self.name.kind.name();
        Error::Disconnected(format!("the {kind} answered something else: {reply:?}"))
    }
}

/// Without a bound there is an answer.
fn some<T>(found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Error::Disconnected("the scheduler gave up a question by itself".into()))
}

/// What all of them have in common.
macro_rules! common {
    ($type:ident $(<$t:ident>)?) => {
        impl$(<$t>)? $type$(<$t>)? {
            /// What it is called.
            pub fn name(&self) -> &str {
                &self.object.name.name
            }

            /// Ends it for everybody; who waits for it gets an error.
            ///
            /// # Errors
            /// When the scheduler is gone.
            pub fn delete(self) -> Result<()> {
                self.object.ask(Op::Delete, None).map(drop)
            }
        }

        impl$(<$t>)? std::fmt::Debug for $type$(<$t>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} `{}`", self.object.name.kind.name(), self.name())
            }
        }
    };
}

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

/// Items that go in at one end and come out at the other: see [`Cluster::queue`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Queue<T> {
    object: Object,
    items: PhantomData<fn() -> T>,
}

/// A value that can be replaced: see [`Cluster::variable`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Variable<T> {
    object: Object,
    value: PhantomData<fn() -> T>,
}

/// Messages to whoever listens: see [`Cluster::topic`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Topic<T> {
    object: Object,
    messages: PhantomData<fn() -> T>,
}

common!(Lock);
common!(Semaphore);
common!(Event);
common!(Barrier);
common!(Queue<T>);
common!(Variable<T>);
common!(Topic<T>);

macro_rules! clone {
    ($type:ident, $of:ident) => {
        impl<T> Clone for $type<T> {
            fn clone(&self) -> Self {
                $type {
                    object: self.object.clone(),
                    $of: PhantomData,
                }
            }
        }
    };
}
clone!(Queue, items);
clone!(Variable, value);
clone!(Topic, messages);

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

    /// A queue of this name: what goes in first comes out first, each item once, whoever asks.
    ///
    /// ```no_run
    /// # use skep_cluster::coordination::Queue;
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// fn produce(queue: Queue<u64>, n: u64) -> skep_cluster::Result<()> {
    ///     (0..n).try_for_each(|i| queue.put(&i))
    /// }
    /// let queue = cluster.queue::<u64>("numbers")?;
    /// let producer = cluster.submit(produce, (queue.clone(), 3u64));
    /// assert_eq!(queue.get()?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it exists and holds another type, or when the scheduler is gone.
    pub fn queue<T: TaskValue>(&self, name: &str) -> Result<Queue<T>> {
        self.queue_of(name, 0)
    }

    /// A queue that holds so many items: who puts in more waits for room.
    ///
    /// # Errors
    /// As [`Cluster::queue`], and when it exists with another bound, or the bound is 0.
    pub fn bounded_queue<T: TaskValue>(&self, name: &str, most: u32) -> Result<Queue<T>> {
        self.queue_of(name, at_least_one(most, "a bounded queue", "items")?)
    }

    fn queue_of<T: TaskValue>(&self, name: &str, most: u32) -> Result<Queue<T>> {
        Ok(Queue {
            object: Object::open(self, Kind::Queue, name, most, std::any::type_name::<T>())?,
            items: PhantomData,
        })
    }

    /// A variable of this name, without a value at first: the best result so far, or a setting that may change.
    ///
    /// # Errors
    /// As [`Cluster::queue`].
    pub fn variable<T: TaskValue>(&self, name: &str) -> Result<Variable<T>> {
        Ok(Variable {
            object: Object::open(self, Kind::Variable, name, 0, std::any::type_name::<T>())?,
            value: PhantomData,
        })
    }

    /// A topic of this name: each message goes to all who have subscribed before it.
    ///
    /// # Errors
    /// As [`Cluster::queue`].
    pub fn topic<T: TaskValue>(&self, name: &str) -> Result<Topic<T>> {
        Ok(Topic {
            object: Object::open(self, Kind::Topic, name, 0, std::any::type_name::<T>())?,
            messages: PhantomData,
        })
    }
}

fn at_least_one(n: u32, what: &str, of: &str) -> Result<u32> {
    if n == 0 {
        let message = Message::new(format!("{what} with 0 {of} would never let anybody go on"));
        return Err(Error::Name(message.hint("give it one or more")));
    }
    Ok(n)
}

impl Lock {
    /// Waits until it is free, and holds it until what it gives is dropped. Who asks first gets it first. It is not
    /// reentrant: who holds it and asks again waits for themselves.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, or the cell is interrupted.
    pub fn acquire(&self) -> Result<Permit> {
        some(self.object.permit(None)?)
    }

    /// Holds it if it is free now.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn try_acquire(&self) -> Result<Option<Permit>> {
        self.object.permit(Some(Duration::ZERO))
    }

    /// Waits for so long at most.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn acquire_within(&self, patience: Duration) -> Result<Option<Permit>> {
        self.object.permit(Some(patience))
    }

    /// # Errors
    /// As [`Lock::acquire`].
    pub fn is_locked(&self) -> Result<bool> {
        Ok(self.object.number(Op::Look)? == 0)
    }
}

impl Semaphore {
    /// Waits for a permit, and holds it until what it gives is dropped. Who asks first gets one first.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, or the cell is interrupted.
    pub fn acquire(&self) -> Result<Permit> {
        some(self.object.permit(None)?)
    }

    /// A permit if one is free now.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn try_acquire(&self) -> Result<Option<Permit>> {
        self.object.permit(Some(Duration::ZERO))
    }

    /// Waits for so long at most.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_within(&self, patience: Duration) -> Result<Option<Permit>> {
        self.object.permit(Some(patience))
    }

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

impl<T: TaskValue> Queue<T> {
    /// Puts an item at the end; waits for room if the queue is bounded.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, the cell is interrupted, or the item has no bytes.
    pub fn put(&self, item: &T) -> Result<()> {
        self.object.put(item, None).map(drop)
    }

    /// Puts an item in if there is room now; whether there was.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn try_put(&self, item: &T) -> Result<bool> {
        self.object.put(item, Some(Duration::ZERO))
    }

    /// Takes the first item; waits for one if there is none.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn get(&self) -> Result<T> {
        some(self.object.get(Op::Get, None)?)
    }

    /// The first item if there is one now.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn try_get(&self) -> Result<Option<T>> {
        self.object.get(Op::Get, Some(Duration::ZERO))
    }

    /// Waits for so long at most.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn get_within(&self, patience: Duration) -> Result<Option<T>> {
        self.object.get(Op::Get, Some(patience))
    }

    /// # Errors
    /// As [`Queue::put`].
    #[expect(
        clippy::len_without_is_empty,
        reason = "it asks the scheduler, and is old when it is here"
    )]
    pub fn len(&self) -> Result<u64> {
        self.object.number(Op::Look)
    }
}

impl<T: TaskValue> Variable<T> {
    /// Gives it a value, in place of what it had.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, or the value has no bytes.
    pub fn set(&self, value: &T) -> Result<()> {
        self.object.put(value, None).map(drop)
    }

    /// Its value; waits for one if it has none yet.
    ///
    /// # Errors
    /// As [`Variable::set`], and when the cell is interrupted.
    pub fn get(&self) -> Result<T> {
        some(self.object.get(Op::Get, None)?)
    }

    /// Its value if it has one now.
    ///
    /// # Errors
    /// As [`Variable::get`].
    pub fn try_get(&self) -> Result<Option<T>> {
        self.object.get(Op::Get, Some(Duration::ZERO))
    }

    /// Waits for so long at most.
    ///
    /// # Errors
    /// As [`Variable::get`].
    pub fn get_within(&self, patience: Duration) -> Result<Option<T>> {
        self.object.get(Op::Get, Some(patience))
    }

    /// Takes its value away.
    ///
    /// # Errors
    /// As [`Variable::set`].
    pub fn clear(&self) -> Result<()> {
        self.object.ask(Op::Clear, None).map(drop)
    }
}

impl<T: TaskValue> Topic<T> {
    /// Sends a message to all subscribers. It waits for nobody.
    ///
    /// # Errors
    /// When the topic was deleted, its cluster is gone, or the message has no bytes.
    pub fn publish(&self, message: &T) -> Result<()> {
        self.object.put(message, None).map(drop)
    }

    /// Hears every message from now on.
    ///
    /// # Errors
    /// When the topic was deleted, or its cluster is gone.
    pub fn subscribe(&self) -> Result<Subscriber<T>> {
        Ok(Subscriber {
            next: self.object.number(Op::Look)?,
            topic: self.clone(),
            arrived: Vec::new(),
            n_missed: 0,
        })
    }
}

/// Hears the messages of a topic, in order. One that is more than ten thousand of them behind, or 64 MB, misses the oldest.
#[derive(Debug)]
pub struct Subscriber<T> {
    topic: Topic<T>,
    next: u64,
    /// The newest first.
    arrived: Vec<ByteBuf>,
    n_missed: u64,
}

impl<T: TaskValue> Subscriber<T> {
    /// The next message; waits for it.
    ///
    /// # Errors
    /// When the topic was deleted, its cluster is gone, or the cell is interrupted.
    pub fn recv(&mut self) -> Result<T> {
        some(self.receive(None)?)
    }

    /// Waits for so long at most.
    ///
    /// # Errors
    /// As [`Subscriber::recv`].
    pub fn recv_within(&mut self, patience: Duration) -> Result<Option<T>> {
        self.receive(Some(patience))
    }

    /// Messages that were forgotten before they were heard.
    pub fn n_missed(&self) -> u64 {
        self.n_missed
    }

    /// Gives every message until none comes for so long.
    pub fn until_silent(mut self, patience: Duration) -> impl Iterator<Item = Result<T>> {
        std::iter::from_fn(move || self.receive(Some(patience)).transpose())
    }

    fn receive(&mut self, patience: Option<Duration>) -> Result<Option<T>> {
        if self.arrived.is_empty() {
            match self.topic.object.ask(Op::Next(self.next), patience)? {
                Reply::Messages { first, messages } => {
                    self.n_missed += first - self.next;
                    self.next = first + messages.len() as u64;
                    self.arrived = messages;
                    self.arrived.reverse();
                }
                Reply::NotYet => return Ok(None),
                other => return Err(self.topic.object.unexpected(&other)),
            }
        }
        let message = self.arrived.pop().map(ByteBuf::into_vec);
        message.map(|bytes| self.topic.object.decode(bytes)).transpose()
    }
}
