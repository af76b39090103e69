//! Named objects that all programs and tasks of a cluster share, and what is asked of them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_render::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Lock,
    Semaphore,
    Event,
    Queue,
    Variable,
    Topic,
    Barrier,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Event => "event",
            Kind::Queue => "queue",
            Kind::Variable => "variable",
            Kind::Topic => "topic",
            Kind::Barrier => "barrier",
        }
    }
}

/// Objects of different kinds may have the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    pub kind: Kind,
    pub name: String,
}

/// What an object is made with; who finds it must ask for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Permits of a semaphore, most items of a queue (0: any number), parties of a barrier.
    pub size: u32,
    /// Of the values in it, where it holds any.
    pub type_name: String,
    /// Which version of the type, where cells defined it; 0 where that is not known, as in tasks.
    pub layout: u64,
}

impl Shape {
    /// Whether one object can be both.
    pub fn agrees_with(&self, other: &Shape) -> bool {
        let is_unknown = self.layout == 0 || other.layout == 0;
        self.size == other.size
            && self.type_name == other.type_name
            && (is_unknown || self.layout == other.layout)
    }
}

/// What is asked of an object. An answer may be long in coming.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Make it, or find it.
    Open(Shape),
    /// End it. Whoever waits for it is told.
    Delete,
    /// How many: free permits, items, parties that wait; 1 for an event that is set and a variable that has a value; for a
    /// topic the number of the next message.
    Look,
    /// A permit, as soon as one is free.
    Acquire,
    /// Give a permit back. Has no answer.
    Release,
    Set,
    Clear,
    /// Wait until the event is set.
    Wait,
    /// Into a queue once it has room; a variable's value; a message to a topic.
    Put(ByteBuf),
    /// The first item of a queue, or a variable's value, as soon as there is one.
    Get,
    /// A topic's messages from this number on, as soon as there is one.
    Next(u64),
    /// Wait for all parties of a barrier.
    Arrive,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Number(u64),
    Value(ByteBuf),
    Messages {
        /// The number of the first.
        first: u64,
        messages: Vec<ByteBuf>,
    },
    /// It would have had to wait longer than it wanted to.
    NotYet,
    Refused(Message),
}
