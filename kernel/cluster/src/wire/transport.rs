//! Framed messages over Unix sockets, any number of them in one thread.
//!
//! A frame is a little-endian `u64` length and its bytes. Nothing blocks: what a slow peer does not take
//! waits in a buffer.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{UnixListener, UnixStream},
};
use serde::{Serialize, de::DeserializeOwned};

/// No frame is larger: 16 GiB.
pub const MAX_FRAME: u64 = 16 << 30;

/// Nor, from one that has not been let in, than this: a greeting has less than a hundred bytes.
const MAX_STRANGER_FRAME: u64 = 64 << 10;

const HEADER: usize = 8;

const LISTENER: Token = Token(0);

const WAKER: Token = Token(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(usize);

pub enum TransportEvent {
    Opened,
    Frame(ConnId, Vec<u8>),
    Closed(ConnId),
    Woken,
}

pub struct Transport {
    poll: Poll,
    events: Events,
    listener: Option<UnixListener>,
    conns: HashMap<ConnId, Conn>,
    next: usize,
    waker: Arc<Waker>,
}

struct Conn {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    n_sent: usize,
    is_dirty: bool,
    max_frame: u64,
}

impl Transport {
    /// With `listen`, accepts connections there.
    pub fn new(listen: Option<&Path>) -> io::Result<Transport> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listener = listen.map(UnixListener::bind).transpose()?;
        if let Some(listener) = &mut listener {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        Ok(Transport {
            poll,
            events: Events::with_capacity(256),
            listener,
            conns: HashMap::new(),
            next: 2,
            waker,
        })
    }

    /// Ends a wait from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    pub fn connect(&mut self, path: &Path) -> io::Result<ConnId> {
        let stream = UnixStream::connect(path)?;
        self.add(stream, MAX_FRAME)
    }

    /// Takes large frames from a connection whose other end has shown that it belongs here.
    pub fn admit(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.max_frame = MAX_FRAME;
        }
    }

    fn add(&mut self, mut stream: UnixStream, max_frame: u64) -> io::Result<ConnId> {
        let id = ConnId(self.next);
        self.next += 1;
        self.poll
            .registry()
            .register(&mut stream, Token(id.0), Interest::READABLE | Interest::WRITABLE)?;
        self.conns.insert(
            id,
            Conn {
                stream,
                incoming: Vec::new(),
                outgoing: Vec::new(),
                n_sent: 0,
                is_dirty: false,
                max_frame,
            },
        );
        Ok(id)
    }

    pub fn close(&mut self, id: ConnId) {
        if let Some(mut conn) = self.conns.remove(&id) {
            let _ = self.poll.registry().deregister(&mut conn.stream);
        }
    }

    /// Queues a message; [`Transport::wait`] and [`Transport::flush`] send it.
    pub fn send(&mut self, id: ConnId, message: &impl Serialize) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let start = conn.outgoing.len();
        let buffer = std::mem::take(&mut conn.outgoing);
        conn.outgoing = append_frame(buffer, message).unwrap_or_else(|mut buffer| {
            buffer.truncate(start);
            buffer
        });
        conn.is_dirty = true;
    }

    pub fn flush(&mut self) {
        for conn in self.conns.values_mut().filter(|conn| conn.is_dirty) {
            // An error shows up as a closed connection at the next wait.
            let _ = conn.write();
        }
    }

    /// Sends what is queued, then waits for something to happen.
    pub fn wait(&mut self, timeout: Option<Duration>, happened: &mut Vec<TransportEvent>) -> io::Result<()> {
        self.flush();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let ready: Vec<(Token, bool, bool)> = self
            .events
            .iter()
            .map(|event| {
                (
                    event.token(),
                    event.is_readable() || event.is_read_closed(),
                    event.is_writable(),
                )
            })
            .collect();
        for (token, is_readable, is_writable) in ready {
            match token {
                LISTENER => self.accept(happened),
                WAKER => happened.push(TransportEvent::Woken),
                Token(id) => self.serve(ConnId(id), is_readable, is_writable, happened),
            }
        }
        Ok(())
    }

    fn accept(&mut self, happened: &mut Vec<TransportEvent>) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            if self.add(stream, MAX_STRANGER_FRAME).is_ok() {
                happened.push(TransportEvent::Opened);
            }
        }
    }

    fn serve(
        &mut self,
        id: ConnId,
        is_readable: bool,
        is_writable: bool,
        happened: &mut Vec<TransportEvent>,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let written = if is_writable { conn.write() } else { Ok(()) };
        let read = if is_readable { conn.read() } else { Ok(true) };
        let framed = conn.frames(|frame| happened.push(TransportEvent::Frame(id, frame)));
        if matches!((written, read, framed), (Ok(()), Ok(true), Ok(()))) {
            return;
        }
        self.close(id);
        happened.push(TransportEvent::Closed(id));
    }
}

impl Conn {
    fn write(&mut self) -> io::Result<()> {
        while self.n_sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.n_sent..]) {
                Ok(n) => self.n_sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.outgoing.shrink_to(1 << 20);
        (self.n_sent, self.is_dirty) = (0, false);
        Ok(())
    }

    /// Reads all there is. False at the end of the stream.
    fn read(&mut self) -> io::Result<bool> {
        loop {
            let filled = self.incoming.len();
            let room = frame_length(&self.incoming, self.max_frame)?.map_or(1 << 16, |n| {
                (HEADER + n).saturating_sub(filled).clamp(1 << 16, 8 << 20)
            });
            self.incoming.resize(filled + room, 0);
            let read = self.stream.read(&mut self.incoming[filled..]);
            self.incoming.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn frames(&mut self, mut each: impl FnMut(Vec<u8>)) -> io::Result<()> {
        let mut at = 0;
        while let Some(n) = frame_length(&self.incoming[at..], self.max_frame)? {
            let Some(frame) = self.incoming.get(at + HEADER..at + HEADER + n) else {
                break;
            };
            each(frame.to_vec());
            at += HEADER + n;
        }
        self.incoming.drain(..at);
        self.incoming.shrink_to(1 << 20);
        Ok(())
    }
}

fn frame_length(bytes: &[u8], max: u64) -> io::Result<Option<usize>> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let n = u64::from_le_bytes(*header);
    if n > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {n} bytes is over the limit"),
        ));
    }
    Ok(Some(n as usize))
}

/// Gives the buffer back as an error when the message cannot be encoded.
fn append_frame(mut buffer: Vec<u8>, message: &impl Serialize) -> Result<Vec<u8>, Vec<u8>> {
    let start = buffer.len();
    buffer.extend([0; HEADER]);
    let Ok(mut buffer) = postcard::to_extend(message, buffer) else {
        return Err(Vec::new());
    };
    let n = (buffer.len() - start - HEADER) as u64;
    buffer[start..start + HEADER].copy_from_slice(&n.to_le_bytes());
    Ok(buffer)
}

/// Blocking, for clients: one thread writes.
pub fn write_blocking(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let frame = append_frame(Vec::new(), message)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a message could not be encoded"))?;
    stream.write_all(&frame)
}

/// Blocking, for clients: one thread reads.
pub fn read_blocking<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let n = frame_length(&header, MAX_FRAME)?.expect("invariant: the header is whole");
    let mut body = Vec::new();
    stream.take(n as u64).read_to_end(&mut body)?;
    if body.len() < n {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&body)
}

pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    postcard::from_bytes(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_or_refused() {
        let mut bytes = Vec::new();
        write_blocking(&mut bytes, &vec![1u32, 2, 3]).unwrap();
        assert_eq!(
            read_blocking::<Vec<u32>>(&mut bytes.as_slice()).unwrap(),
            [1, 2, 3]
        );
        assert!(
            read_blocking::<Vec<u32>>(&mut &bytes[..bytes.len() - 1]).is_err(),
            "truncated"
        );
        assert!(
            read_blocking::<Vec<u32>>(&mut [255u8; 32].as_slice()).is_err(),
            "oversized"
        );
    }
}
