//! The public end of iopub: a subscriber that stalls holds up nobody else.
//!
//! The XPUB socket sends to its subscribers one after the other and waits for each, without end. So it
//! listens at a private socket, and each subscriber's connection is passed on by a relay that reads always
//! and holds what its subscriber has not taken yet. One that falls too far behind is disconnected; ZeroMQ
//! clients connect again by themselves.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::mpsc,
};

/// What a subscriber may leave unread, in bytes.
const MOST_HELD: usize = 64 << 20;

/// What all subscribers together have not taken yet.
#[derive(Clone, Default)]
pub struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Waits until all is on its way, or `patience` is over.
    pub async fn drained(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.0.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Passes every connection of `public` on to the socket at `inner`.
pub fn start(public: TcpListener, inner: PathBuf) -> Backlog {
    let backlog = Backlog::default();
    let counted = backlog.clone();
    tokio::spawn(async move {
        loop {
            match public.accept().await {
                Ok((subscriber, _)) => {
                    let (inner, backlog) = (inner.clone(), counted.clone());
                    tokio::spawn(async move {
                        if let Err(error) = pass_on(subscriber, inner, &backlog).await {
                            eprintln!("a subscriber was disconnected: {error}");
                        }
                    });
                }
                // Out of descriptors, most likely: those that are connected go on.
                Err(error) => {
                    eprintln!("a subscriber could not connect: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    backlog
}

async fn pass_on(subscriber: TcpStream, inner: PathBuf, backlog: &Backlog) -> io::Result<()> {
    subscriber.set_nodelay(true)?;
    let (mut from_subscriber, mut to_subscriber) = subscriber.into_split();
    let (mut from_kernel, mut to_kernel) = UnixStream::connect(inner).await?.into_split();
    let (held, mut waiting) = mpsc::unbounded_channel::<Vec<u8>>();
    let n_held = AtomicUsize::new(0);
    let count = |n: usize, is_more: bool| {
        for counter in [&n_held, &*backlog.0] {
            if is_more {
                counter.fetch_add(n, Ordering::Relaxed)
            } else {
                counter.fetch_sub(n, Ordering::Relaxed)
            };
        }
    };
    let read = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = from_kernel.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            count(n, true);
            if n_held.load(Ordering::Relaxed) > MOST_HELD {
                return Err(io::Error::other("it left 64 MiB unread"));
            }
            let _ = held.send(buffer[..n].to_vec());
        }
    };
    let write = async {
        while let Some(bytes) = waiting.recv().await {
            to_subscriber.write_all(&bytes).await?;
            count(bytes.len(), false);
        }
        Ok(())
    };
    let result = tokio::select! {
        copied = tokio::io::copy(&mut from_subscriber, &mut to_kernel) => copied.map(drop),
        read = read => read,
        written = write => written,
    };
    count(n_held.load(Ordering::Relaxed), false);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_read_is_cut_off_and_others_go_on() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let folder = std::env::temp_dir().join(format!("skep-relay-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let inner = folder.join("inner.sock");
            let _ = std::fs::remove_file(&inner);
            let kernel = tokio::net::UnixListener::bind(&inner).unwrap();
            let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = public.local_addr().unwrap();
            let backlog = start(public, inner);
            let stalled = TcpStream::connect(address).await.unwrap();
            let (mut to_stalled, _) = kernel.accept().await.unwrap();
            let mut reader = TcpStream::connect(address).await.unwrap();
            let (mut to_reader, _) = kernel.accept().await.unwrap();
            let chunk = vec![7; 1 << 20];
            let mut n_sent = 0;
            while n_sent < 200 && to_stalled.write_all(&chunk).await.is_ok() {
                n_sent += 1;
            }
            assert!((64..200).contains(&n_sent), "cut off after {n_sent} MiB");
            to_reader.write_all(b"still here").await.unwrap();
            let mut heard = [0; 10];
            reader.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"still here");
            drop(stalled);
            backlog.drained(Duration::from_secs(5)).await;
            assert_eq!(
                backlog.0.load(Ordering::Relaxed),
                0,
                "what was held for it is forgotten"
            );
            std::fs::remove_dir_all(&folder).unwrap();
        });
    }
}
