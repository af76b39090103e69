//! What runs graphs for a program: the boundary between handles and whatever is behind them.
//!
//! A program's half ([`crate::Cluster`], handles, graphs) knows an engine only by this trait and its capabilities, in
//! types that no engine owns. The local engine speaks to the scheduler of this package over a socket; another one may
//! speak to another system. What it must do is written down as tests: see [`crate::conformance`].

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use skep_render::Message;

use crate::{
    data::segment::Bytes,
    model::{
        cluster::{ClusterInfo, ClusterSpec, Holding, Published},
        coordination::{ObjectName, Op, Reply},
        error::{Error, Result, TaskError},
        event::{Elsewhere, Event},
        history::{Explanation, History, Journey, LogLine},
        ids::{CodeId, FunctionId, Key, WorkerId},
        recording::Recording,
        task::{Arg, Function, Output, Task},
    },
};

pub mod client;
pub mod local;
mod mirror;
pub mod watched;

/// Something that runs graphs of tasks: what every engine does, and which capabilities it has beside that.
///
/// Calls that give nothing back return when the engine has taken them in, not when they are done; what comes of them
/// is told to the [`Sink`] that the engine was made with. All may be called from any thread.
///
/// # Errors
/// Every call fails when the engine is gone. One that waits fails when the cell is interrupted.
pub trait Engine: Send + Sync {
    /// What people call it: `local`.
    fn name(&self) -> &'static str;

    /// Makes functions known before tasks name them. A library without a path is one that somebody else will
    /// make.
    fn put_code(&self, functions: Vec<Function>, code: Vec<(CodeId, Option<String>)>) -> Result<()>;

    /// Runs tasks, inputs before what needs them. A task with a known key is that task. Each key in `wanted`
    /// is held once more until it is released; the sink is told when it ends, at once if it has.
    fn submit(&self, tasks: Vec<Task>, wanted: Vec<Key>) -> Result<()>;

    /// The bytes of a value, or of a part of one, that the sink was told is done on this worker; `None` if it is not
    /// there now, in which case the sink is told what becomes of it.
    fn fetch(&self, output: Output, worker: WorkerId) -> Result<Option<Result<Bytes>>>;

    /// Holds each of these once less. A value that nothing holds or needs is freed; a task that nobody waits
    /// for is not run.
    fn release(&self, keys: Vec<Key>) -> Result<()>;

    /// Runs this task to its end, whoever holds it.
    fn detach(&self, key: Key) -> Result<()>;

    /// Ends tasks that have not ended, and what needs them.
    fn cancel(&self, keys: Vec<Key>) -> Result<()>;

    /// Tells the sink every event from now on, or none any more.
    fn follow(&self, is_on: bool) -> Result<()>;

    /// Ends the workers; their values are lost.
    fn close(&self) -> Result<()>;

    /// Where it wants to be told the code that a notebook makes, in the words of the local scheduler; `None` if it hears of
    /// that anyhow.
    fn code_socket(&self) -> Option<PathBuf> {
        None
    }

    fn workers(&self) -> Option<&dyn Workers> {
        None
    }

    fn neighbours(&self) -> Option<&dyn Neighbours> {
        None
    }

    fn actors(&self) -> Option<&dyn Actors> {
        None
    }

    fn names(&self) -> Option<&dyn Names> {
        None
    }

    fn copies(&self) -> Option<&dyn Copies> {
        None
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        None
    }

    fn stories(&self) -> Option<&dyn Stories> {
        None
    }
}

/// An engine that says which workers there are, and changes that.
pub trait Workers {
    /// Starts workers, or finds them as they are.
    fn launch(&self, spec: ClusterSpec) -> Result<ClusterInfo>;
    fn info(&self) -> Result<ClusterInfo>;
    /// Ends all workers and starts as many new ones.
    fn restart(&self) -> Result<ClusterInfo>;
    /// Between so many workers from now on.
    fn scale(&self, least: u32, most: u32) -> Result<()>;
    /// Ends a worker without a word to it.
    fn kill(&self, worker: WorkerId) -> Result<()>;
    /// Stops a worker for so long, without a word to it; then it goes on.
    fn pause(&self, worker: WorkerId, time: Duration) -> Result<()>;
}

/// An engine that has other clusters beside it.
pub trait Neighbours {
    /// Makes a cluster of this name, or finds it: its address.
    fn open(&self, name: &str) -> Result<String>;
    /// Tells another one, at its address, the code that this program makes.
    fn share(&self, address: &str) -> Result<()>;
    /// Shows what happens on the cluster of another engine as if it happened here.
    fn show(&self, what: Elsewhere) -> Result<()>;
}

/// An engine whose workers hold objects with a state, made by a task with
/// [`is_actor`](crate::model::task::TaskOptions::is_actor).
pub trait Actors {
    /// Calls a method of an actor and waits for what it returns. Calls of one program run in order.
    fn call(&self, actor: Key, function: FunctionId, args: Vec<Arg>) -> Result<Vec<u8>>;
}

/// An engine that keeps values under names, also without handles.
pub trait Names {
    /// Gives all names after it. A name whose values are gone is not among them.
    fn publish(&self, published: Published) -> Result<Vec<Published>>;
    fn unpublish(&self, name: &str) -> Result<()>;
    fn published(&self) -> Result<Vec<Published>>;
}

/// An engine that knows where values are, and is told where copies of them shall be. Calls that copy or move wait, and give
/// the number of values and their bytes.
pub trait Copies {
    /// Copies values to all workers.
    fn broadcast(&self, keys: Vec<Key>) -> Result<(u64, u64)>;
    /// Moves values from workers that hold much to those that hold little.
    fn rebalance(&self) -> Result<(u64, u64)>;
    /// The values that are there, and which workers have them.
    fn holdings(&self) -> Result<Vec<Holding>>;
}

/// An engine with locks, queues and their like, which all its programs and tasks share.
pub trait Coordination {
    /// Asks something of an object, and waits for the answer, for as long as `patience` if it is given. What was granted is
    /// never lost: a wait that ends early has an answer, or asked for nothing.
    fn coordinate(&self, object: ObjectName, op: Op, patience: Option<Duration>) -> Result<Reply>;
    /// Gives a permit back, without waiting for anything.
    fn give_back(&self, object: ObjectName) -> Result<()>;
}

/// An engine that remembers what happened to tasks.
pub trait Stories {
    fn journey(&self, key: Key) -> Result<Option<Journey>>;
    /// What a task waits for.
    fn explain(&self, key: Key) -> Result<Option<Explanation>>;
    /// A task as it was submitted.
    fn task(&self, key: Key) -> Result<Option<Task>>;
    /// What happened to all tasks.
    fn history(&self) -> Result<History>;
    /// Notes the tasks that are submitted from now on.
    fn record(&self) -> Result<()>;
    /// What was noted since.
    fn recorded(&self) -> Result<Recording>;
    /// What tasks printed, and what befell workers: the newest lines, oldest first.
    fn logs(&self) -> Result<Vec<LogLine>>;
    /// The address of a page that shows the cluster while it works.
    fn dashboard(&self) -> Result<String>;
}

/// What becomes of tasks, as an engine tells it.
#[derive(Debug)]
pub enum Told {
    /// A value that is held has come, failed, or was lost.
    Ended { key: Key, how: Ended },
    /// What was asked for with [`Engine::follow`].
    Events(Vec<Event>),
}

/// How a task has ended.
#[derive(Debug)]
pub enum Ended {
    Done {
        /// Of the value in memory.
        n_bytes: u64,
        /// The value itself, where it is small and plain.
        inline: Option<Vec<u8>>,
        worker: WorkerId,
        duration_us: u64,
    },
    Failed(Arc<TaskError>),
    /// Not at all: the value was lost with its worker and is being made again.
    Pending,
}

/// Hears what becomes of tasks.
pub trait Sink: Send + Sync {
    fn on_told(&self, told: Vec<Told>);
    /// The engine has ended, and why.
    fn on_gone(&self, reason: String);
}

/// Who hears events as they come.
pub(crate) type Listener = dyn Fn(&[Event]) + Send + Sync;

/// Connects to what is at an address, and tells `sink` what happens there.
pub type Connector = fn(address: &str, sink: Arc<dyn Sink>) -> Result<Arc<dyn Engine>>;

static CONNECTORS: RwLock<BTreeMap<&'static str, Connector>> = RwLock::new(BTreeMap::new());

/// Makes addresses that begin with `scheme://` this engine's.
pub fn register(scheme: &'static str, connector: Connector) {
    CONNECTORS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(scheme, connector);
}

/// The engine for addresses of this scheme, or the schemes that there are.
pub(crate) fn connector(scheme: &str) -> std::result::Result<Connector, Vec<&'static str>> {
    let known = CONNECTORS.read().unwrap_or_else(PoisonError::into_inner);
    known
        .get(scheme)
        .copied()
        .ok_or_else(|| known.keys().copied().collect())
}

/// Makes an engine that tells `sink` what happens.
pub type Connect = Box<dyn FnOnce(Arc<dyn Sink>) -> std::io::Result<Arc<dyn Engine>>>;

/// The capability, or an error that says who lacks what.
fn has<'e, C: ?Sized>(capability: Option<&'e C>, engine: &str, what: &str) -> Result<&'e C> {
    capability.ok_or_else(|| {
        Error::Unsupported(
            Message::new(format!("the engine `{engine}` does not offer {what}")).hint("a local cluster does"),
        )
    })
}
