//! What travels between client, scheduler and workers. One frame is a batch: a `Vec` of messages, encoded
//! with postcard.

use std::{io, ops::Range, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_render::Message;

use crate::{
    data::segment::{Bytes, Segment},
    model::{
        cluster::{ClusterInfo, ClusterSpec, Holding, Memory, Published},
        coordination::{ObjectName, Op, Reply},
        error::TaskError,
        event::{Elsewhere, Event},
        history::{Explanation, History, Journey, LogLine},
        ids::{ClientId, CodeId, FunctionId, Key, Token, WorkerId},
        recording::Recording,
        task::{Arg, Function, Output, Resource, Task},
    },
};

/// What a program asks of the scheduler beside running graphs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Start workers, or find them as they are.
    Launch(ClusterSpec),
    /// End all workers and start as many new ones; answered as a launch is.
    Restart,
    /// Host another cluster under this name, beside this one.
    Open {
        name: String,
    },
    /// Tell the scheduler at this socket the code that this process makes, from now on.
    Share {
        socket: String,
    },
    Shutdown,
    Info,
    /// What happened to a task.
    Journey {
        key: Key,
    },
    /// What a task waits for.
    Explain {
        key: Key,
    },
    /// A task as it was submitted.
    Task {
        key: Key,
    },
    /// What happened to all tasks.
    History,
    /// Note the tasks that are submitted from now on.
    Record,
    /// What was noted since.
    Recorded,
    /// What tasks printed, and what befell workers.
    Logs,
    /// The address of the page that shows the cluster.
    Dashboard,
    KillWorker {
        worker: WorkerId,
    },
    /// Stop a worker's process for so long, without a word to it.
    PauseWorker {
        worker: WorkerId,
        for_us: u64,
    },
    /// Keep values under a name, also without handles.
    Publish(Published),
    Unpublish {
        name: String,
    },
    /// Which names there are.
    Lookup,
    /// Run this task to its end, whoever holds it.
    Detach {
        key: Key,
    },
    /// Between so many workers from now on.
    Scale {
        least: u32,
        most: u32,
    },
    /// Copy values to all workers.
    Broadcast {
        keys: Vec<Key>,
    },
    /// Spread the values evenly.
    Rebalance,
    /// Which values there are, and where.
    Holdings,
    /// Something of a lock, a queue and their like. The answer may be long in coming.
    Coordinate {
        object: ObjectName,
        op: Op,
    },
    /// That question is given up: if it has no answer yet, it gets one at once.
    Withdraw {
        id: AskId,
    },
    /// Send the worker of this actor a function that is to be called there.
    Prepare {
        actor: Key,
        function: FunctionId,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToScheduler {
    // From a program.
    Hello {
        token: Token,
    },
    Code {
        id: CodeId,
        path: Option<String>,
    },
    Function(Function),
    Submit {
        tasks: Vec<Task>,
        wanted: Vec<Key>,
    },
    Release {
        keys: Vec<Key>,
    },
    Cancel {
        keys: Vec<Key>,
    },
    /// Tell this program every event from now on, or none any more.
    Follow {
        is_on: bool,
    },
    /// A question, or an order that has no answer.
    Ask {
        id: AskId,
        request: Request,
    },
    /// What this program does on a cluster of another engine: this scheduler only shows it.
    Elsewhere(Elsewhere),
    // From a worker.
    Register {
        token: Token,
        pid: u32,
        address: String,
        threads: u32,
        memory_limit: u64,
        resources: Vec<Resource>,
    },
    Done(Ran),
    Failed {
        key: Key,
        error: TaskError,
    },
    /// These inputs of a task could not be fetched.
    Missing {
        key: Key,
        inputs: Vec<(Key, WorkerId)>,
    },
    Heartbeat(Memory),
    /// These had not begun; others that were asked for had.
    GivenBack {
        keys: Vec<Key>,
    },
    /// A value that was to be fetched is here, or could not be had.
    Acquired {
        key: Key,
        is_here: bool,
    },
    /// A task waits for tasks of its own.
    Seceded {
        key: Key,
    },
    /// What a task printed, or a thread that it began.
    Printed {
        key: Option<Key>,
        is_stderr: bool,
        text: String,
    },
    /// How far a task says that it is.
    Progressed {
        key: Key,
        n_done: u64,
        n_total: u64,
    },
    /// The worker is about to end, and why.
    Dying {
        cause: String,
    },
}

/// A task that has ended with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    pub key: Key,
    /// Which [`Assignment`] this is the end of: what comes late is not taken for the end of the next.
    pub attempt: u32,
    /// Size of the value in memory.
    pub n_bytes: u64,
    /// Of a table.
    pub n_rows: Option<u64>,
    /// The value itself, where it is small and plain.
    pub inline: Option<ByteBuf>,
    /// Microseconds since 1970, by the worker's clock.
    pub start_us: u64,
    pub duration_us: u64,
    /// Of that, the time that processors worked on it, if that was asked for.
    pub cpu_us: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub task: Arc<Task>,
    /// Counts the times that the task was given to a worker.
    pub attempt: u32,
    /// For each input that is elsewhere: who has it.
    pub inputs: Vec<(Key, Input)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    Inline(ByteBuf),
    At {
        worker: WorkerId,
        address: String,
        n_bytes: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    Welcome {
        id: WorkerId,
    },
    Function {
        function: Function,
        library: String,
    },
    Compute(Assignment),
    Free {
        keys: Vec<Key>,
    },
    Cancel {
        keys: Vec<Key>,
    },
    /// Those of these tasks that have not begun shall run elsewhere.
    GiveBack {
        keys: Vec<Key>,
        most: u32,
    },
    /// Fetch a value, and hold it.
    Acquire {
        key: Key,
        source: Input,
    },
    /// Tell how long processors work on each task, or no more: to look costs as much as a short task.
    Timed(bool),
    Exit,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Finished {
    Done {
        n_bytes: u64,
        inline: Option<ByteBuf>,
        worker: WorkerId,
        address: String,
        duration_us: u64,
    },
    Failed(Arc<TaskError>),
    /// The value was lost with its worker and is being made again.
    Pending,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    Welcome {
        id: ClientId,
    },
    Finished {
        key: Key,
        how: Finished,
    },
    Events(Vec<Event>),
    /// To the question of this number.
    Answer {
        id: AskId,
        answer: Answer,
    },
}

/// A program's own number of a question: the answer carries it, so that one to a question that was given up
/// is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskId(pub u64);

/// Who asked what: a question of some client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub client: ClientId,
    pub id: AskId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Launched(Result<ClusterInfo, Message>),
    /// Where the cluster of that name listens.
    Opened(Result<String, Message>),
    Shared(Result<(), Message>),
    Info(ClusterInfo),
    Journey(Option<Journey>),
    Published(Vec<Published>),
    Explained(Option<Explanation>),
    Task(Option<Task>),
    History(History),
    Recorded(Box<Recording>),
    Logs(Vec<LogLine>),
    Dashboard(Result<String, Message>),
    Coordinated(Reply),
    Holdings(Vec<Holding>),
    /// The worker of the actor has the function's code: its address. Or it will not get it.
    Prepared(Result<String, Message>),
    /// A broadcast or a rebalancing has ended.
    Transferred {
        n_values: u64,
        n_bytes: u64,
    },
}

/// To a worker's own socket, from another worker or a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToPeer {
    /// Always the first.
    Hello {
        token: Token,
    },
    Get {
        output: Output,
    },
    /// A segment was opened; its worker may let it go.
    Opened {
        key: Key,
    },
    /// A method of an actor. Calls of one connection run in order.
    Call {
        actor: Key,
        id: u64,
        function: FunctionId,
        args: Vec<Arg>,
    },
}

/// A worker's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromPeer {
    /// `None`: it is not here (any more).
    Value {
        /// Of the output: see [`Output::key`].
        key: Key,
        value: Option<Result<Carried, String>>,
    },
    /// What a method returned.
    Returned {
        id: u64,
        result: Result<ByteBuf, TaskError>,
    },
}

/// A value on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Carried {
    Bytes(ByteBuf),
    /// In memory that both processes map, or in a file: only its name travels, and where in it the value is.
    Segment {
        path: String,
        n_bytes: u64,
        range: Option<(u64, u64)>,
    },
}

impl Carried {
    pub fn segment(segment: &Segment, range: Option<Range<usize>>) -> Carried {
        Carried::Segment {
            path: segment.path().to_string_lossy().into_owned(),
            n_bytes: segment.bytes().len() as u64,
            range: range.map(|range| (range.start as u64, range.end as u64)),
        }
    }

    /// # Errors
    /// When a segment is gone, or is not what it was said to be.
    pub fn open(self) -> io::Result<Bytes> {
        let (path, n_bytes, range) = match self {
            Carried::Bytes(bytes) => return Ok(Bytes::from(bytes.into_vec())),
            Carried::Segment { path, n_bytes, range } => (path, n_bytes, range),
        };
        let Some((start, end)) = range else {
            return Ok(Bytes::Segment(Arc::new(Segment::open(
                Path::new(&path),
                n_bytes,
            )?)));
        };
        let segment = Segment::open_shared(Path::new(&path), n_bytes)?;
        Bytes::slice(segment, start as usize..end as usize)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a part is outside its segment"))
    }
}
