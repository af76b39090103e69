//! What carries values: queues, variables and topics.

use std::{marker::PhantomData, time::Duration};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::object::{Object, at_least_one, common, some};
use crate::{
    api::cluster::Cluster,
    data::value::TaskValue,
    graph::{node::Graph, task_fn::IntoArg},
    model::{
        coordination::{Kind, Op, Reply},
        error::Result,
        task::Arg,
    },
};

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
    /// A queue of this name: what goes in first comes out first, each item once, whoever asks.
    ///
    /// ```no_run
    /// # use skep_cluster::coordination::Queue;
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// fn produce(queue: Queue<u64>, n: u64) -> skep_cluster::Result<()> {
    ///     (0..n).try_for_each(|i| queue.put(i))
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

impl<T: TaskValue> Queue<T> {
    /// Puts an item at the end; waits for room if the queue is bounded.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, the cell is interrupted, or the item has no bytes.
    pub fn put(&self, item: T) -> Result<()> {
        self.object.put(&item, None).map(drop)
    }

    /// Puts an item in if there is room now; whether there was.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn try_put(&self, item: T) -> Result<bool> {
        self.object.put(&item, Some(Duration::ZERO))
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
    pub fn len(&self) -> Result<u64> {
        self.object.number(Op::Look)
    }

    /// # Errors
    /// As [`Queue::put`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl<T: TaskValue> Variable<T> {
    /// Gives it a value, in place of what it had.
    ///
    /// # Errors
    /// When it was deleted, its cluster is gone, or the value has no bytes.
    pub fn set(&self, value: T) -> Result<()> {
        self.object.put(&value, None).map(drop)
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
    pub fn publish(&self, message: T) -> Result<()> {
        self.object.put(&message, None).map(drop)
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
