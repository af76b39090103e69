//! What runs graphs for a program: the boundary between handles and whatever is behind them.
//!
//! A program's half ([`crate::Cluster`], handles, graphs) knows an engine only by this trait. The local
//! engine speaks to the scheduler of this package over a socket; another one may speak to another system.
//! What it must do is written down as tests: see [`crate::conformance`].

use std::sync::Arc;

use crate::{
    data::segment::Bytes,
    model::{
        error::{Error, Result},
        ids::{CodeId, FunctionId, Key},
        task::{Arg, Function, Task},
    },
    wire::protocol::{AskId, Request, ToClient},
};

pub mod client;
pub mod local;

/// Something that runs graphs of tasks.
///
/// Calls return when the engine has taken them in, not when they are done; what comes of them is told to the
/// [`Sink`] that the engine was made with. All may be called from any thread.
pub trait Engine: Send + Sync {
    /// What people call it: `local`.
    fn name(&self) -> &'static str;

    /// Makes functions known before tasks name them. A library without a path is one that somebody else will
    /// make.
    ///
    /// # Errors
    /// When the engine is gone; so for all others.
    fn put_code(&self, functions: Vec<Function>, code: Vec<(CodeId, Option<String>)>) -> Result<()>;

    /// Runs tasks, inputs before what needs them. A task with a known key is that task. Each key in `wanted`
    /// is held once more until it is released; the sink is told when it ends, at once if it has.
    fn submit(&self, tasks: Vec<Task>, wanted: Vec<Key>) -> Result<()>;

    /// The bytes of a value that the sink was told is done, from the address it was told; `None` if it is not
    /// there now, in which case the sink is told what becomes of it.
    fn fetch(&self, key: Key, address: &str) -> Result<Option<Result<Bytes>>>;

    /// Holds each of these once less. A value that nothing holds or needs is freed; a task that nobody waits
    /// for is not run.
    fn release(&self, keys: Vec<Key>) -> Result<()>;

    /// Ends tasks that have not ended, and what needs them.
    fn cancel(&self, keys: Vec<Key>) -> Result<()>;

    /// Tells the sink every event from now on.
    fn follow(&self) -> Result<()>;

    /// Ends the workers; their values are lost.
    fn close(&self) -> Result<()>;

    /// Everything beside graphs. The answer, if there is one, goes to the sink, with the number of its
    /// question.
    fn ask(&self, id: AskId, request: Request) -> Result<()> {
        let _ = (id, request);
        Err(unsupported(self.name(), "this"))
    }

    /// Calls a method of an actor and waits for what it returns.
    fn call(&self, address: &str, actor: Key, function: FunctionId, args: Vec<Arg>) -> Result<Vec<u8>> {
        let _ = (address, actor, function, args);
        Err(unsupported(self.name(), "actors"))
    }
}

fn unsupported(engine: &str, what: &str) -> Error {
    Error::Start(format!(
        "the engine `{engine}` does not offer {what}\nhint: a local cluster does"
    ))
}

/// Hears what becomes of tasks.
pub trait Sink: Send + Sync {
    fn on_messages(&self, messages: Vec<ToClient>);
    /// The engine has ended, and why.
    fn on_gone(&self, reason: String);
}

/// Makes an engine that tells `sink` what happens.
pub type Connect = Box<dyn FnOnce(Arc<dyn Sink>) -> std::io::Result<Arc<dyn Engine>>>;
