//! The local engine: a scheduler and workers on this machine, over sockets.

use std::{
    collections::HashMap,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::{
    data::segment::{Bytes, Segment},
    engine::{Engine, Sink},
    hooks::hooks,
    model::{
        error::{Error, Result},
        ids::{CodeId, FunctionId, Key, Token},
        task::{Arg, Function, Task},
    },
    wire::{
        protocol::{AskId, Carried, FromPeer, Request, ToClient, ToPeer, ToScheduler},
        transport::{read_blocking, write_blocking},
    },
};

/// An interrupt is noticed within this time while a worker is silent.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// A connection to a scheduler of this package.
pub struct Local {
    writer: Mutex<UnixStream>,
    token: Token,
    /// One connection to each worker for values, and one for actors, whose calls may take long.
    values: Peers,
    calls: Peers,
    next_call: AtomicU64,
}

type Peers = Mutex<HashMap<String, Arc<Mutex<UnixStream>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    /// Connects to the scheduler at a socket, with the token that is beside it.
    ///
    /// # Errors
    /// When there is no scheduler, or its token cannot be read.
    pub fn connect(socket: &Path, sink: Arc<dyn Sink>) -> io::Result<Arc<dyn Engine>> {
        let token = Token::beside(socket)?;
        let mut stream = UnixStream::connect(socket)?;
        write_blocking(&mut stream, &vec![ToScheduler::Hello { token }])?;
        let reader = stream.try_clone()?;
        let sink = Arc::downgrade(&sink);
        thread::Builder::new()
            .name("cluster".into())
            .spawn(move || read(&sink, reader))?;
        Ok(Arc::new(Local {
            writer: Mutex::new(stream),
            token,
            values: Mutex::default(),
            calls: Mutex::default(),
            next_call: AtomicU64::new(1),
        }))
    }

    fn send(&self, messages: &[ToScheduler]) -> Result<()> {
        write_blocking(&mut *lock(&self.writer), &messages)
            .map_err(|error| Error::Disconnected(error.to_string()))
    }

    /// Asks a worker something and waits for its answer.
    fn exchange(
        &self,
        peers: &Peers,
        address: &str,
        question: &impl Serialize,
    ) -> Result<(FromPeer, Arc<Mutex<UnixStream>>)> {
        let gone = |error: io::Error| Error::Disconnected(error.to_string());
        let known = lock(peers).get(address).cloned();
        let peer = match known {
            Some(peer) => peer,
            None => {
                let mut stream = UnixStream::connect(address).map_err(gone)?;
                write_blocking(&mut stream, &ToPeer::Hello { token: self.token }).map_err(gone)?;
                let peer = Arc::new(Mutex::new(stream));
                lock(peers).insert(address.to_string(), peer.clone());
                peer
            }
        };
        let answered = (|| {
            let mut stream = lock(&peer);
            write_blocking(&mut *stream, question).map_err(gone)?;
            wait_readable(&stream)?;
            read_blocking::<FromPeer>(&mut *stream).map_err(gone)
        })();
        if answered.is_err() {
            // Its answer may still come, to nobody: the next question gets a connection of its own.
            lock(peers).remove(address);
        }
        Ok((answered?, peer))
    }
}

/// Waits until there is something to read, or the cell is interrupted.
fn wait_readable(stream: &UnixStream) -> Result<()> {
    let hooks = hooks();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(Error::Disconnected(error.to_string())),
        }
        if hooks.interrupted.is_some_and(|interrupted| interrupted()) {
            return Err(Error::Interrupted);
        }
    }
}

impl Engine for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn put_code(&self, functions: Vec<Function>, code: Vec<(CodeId, Option<String>)>) -> Result<()> {
        let mut messages: Vec<ToScheduler> = functions.into_iter().map(ToScheduler::Function).collect();
        messages.extend(code.into_iter().map(|(id, path)| ToScheduler::Code { id, path }));
        self.send(&messages)
    }

    fn submit(&self, tasks: Vec<Task>, wanted: Vec<Key>) -> Result<()> {
        self.send(&[ToScheduler::Submit { tasks, wanted }])
    }

    fn fetch(&self, key: Key, address: &str) -> Result<Option<Result<Bytes>>> {
        let (reply, peer) = match self.exchange(&self.values, address, &ToPeer::Get { key }) {
            Err(Error::Disconnected(_)) => return Ok(None),
            exchanged => exchanged?,
        };
        let FromPeer::Value { value, .. } = reply else {
            return Ok(None);
        };
        Ok(match value {
            None => None,
            Some(Err(error)) => Some(Err(Error::Serialisation(format!(
                "the result could not be sent: {error}"
            )))),
            Some(Ok(Carried::Bytes(bytes))) => Some(Ok(Bytes::from(bytes.into_vec()))),
            Some(Ok(Carried::Segment { path, n_bytes })) => {
                let opened = Segment::open(Path::new(&path), n_bytes);
                let _ = write_blocking(&mut *lock(&peer), &ToPeer::Opened { key });
                opened.ok().map(|segment| Ok(Bytes::Segment(Arc::new(segment))))
            }
        })
    }

    fn release(&self, keys: Vec<Key>) -> Result<()> {
        self.send(&[ToScheduler::Release { keys }])
    }

    fn cancel(&self, keys: Vec<Key>) -> Result<()> {
        self.send(&[ToScheduler::Cancel { keys }])
    }

    fn follow(&self) -> Result<()> {
        self.send(&[ToScheduler::Follow])
    }

    fn close(&self) -> Result<()> {
        self.ask(AskId(0), Request::Shutdown)
    }

    fn ask(&self, id: AskId, request: Request) -> Result<()> {
        self.send(&[ToScheduler::Ask { id, request }])
    }

    fn call(&self, address: &str, actor: Key, function: FunctionId, args: Vec<Arg>) -> Result<Vec<u8>> {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        match self
            .exchange(
                &self.calls,
                address,
                &ToPeer::Call {
                    actor,
                    id,
                    function,
                    args,
                },
            )?
            .0
        {
            FromPeer::Returned { result, .. } => result
                .map(serde_bytes::ByteBuf::into_vec)
                .map_err(|error| Error::Task(Arc::new(error))),
            FromPeer::Value { .. } => Err(Error::Disconnected("the worker answered something else".into())),
        }
    }
}

fn read(sink: &Weak<dyn Sink>, mut stream: UnixStream) {
    loop {
        let read: io::Result<Vec<ToClient>> = read_blocking(&mut stream);
        let Some(sink) = sink.upgrade() else { return };
        match read {
            Ok(messages) => sink.on_messages(messages),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return sink.on_gone("the scheduler has ended".into());
            }
            Err(error) => return sink.on_gone(error.to_string()),
        }
    }
}
