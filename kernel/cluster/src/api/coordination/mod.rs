//! Locks, semaphores, events, queues, variables, topics and barriers: what tasks and programs agree by.
//!
//! Each has a name, and whoever asks a cluster for the name gets the same object; its handle is also an argument of tasks.
//! What a program or a worker holds is freed when it ends, however it ends. Values in them go through the scheduler:
//! they are for small things, and handles are for large ones.

mod locks;
mod object;
mod values;

pub use locks::{Barrier, Event, Lock, Permit, Semaphore};
pub use values::{Queue, Subscriber, Topic, Variable};
