//! What happens on the cluster of another engine, told to the notebook's own scheduler, which shows it as its own: progress, the
//! journeys of tasks, the page, the commands that ask how the cluster is.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::{
    engine::{Engine, Listener, has},
    model::{
        cluster::ClusterInfo,
        error::{Error, Result},
        event::{Elsewhere, Event},
        ids::{Key, KeySet},
    },
};

/// How the cluster is, is asked at most this often.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Something that happened shows in what is answered after this time.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);

/// Tasks that have not ended: when the cluster goes, they never will.
type Open = Arc<Mutex<KeySet>>;

/// Begins to tell `own`, the notebook's, of `engine`: by what is returned, which hears the events of that from now on, and for as
/// long as it is there.
pub(super) fn begin(
    engine: Arc<dyn Engine>,
    own: Arc<dyn Engine>,
    is_gone: impl Fn() -> bool + Send + 'static,
) -> Result<Arc<Listener>> {
    let info = workers_of(&*engine)?;
    let joined = info.workers.iter().map(|worker| Event::WorkerJoined {
        worker: worker.id,
        pid: worker.pid,
    });
    let joined = joined.collect();
    show(&*own, Elsewhere::Began(info))?;
    show(&*own, Elsewhere::Happened(joined))?;
    let open = Open::default();
    let (happened, happens) = sync_channel(1);
    let listener = listener(own.clone(), open.clone(), happened);
    thread::Builder::new()
        .name("mirror".into())
        .spawn(move || keep_up(&*engine, &*own, is_gone, &open, &happens))
        .map_err(|error| Error::start(error.to_string()))?;
    Ok(Arc::new(listener))
}

fn workers_of(engine: &dyn Engine) -> Result<ClusterInfo> {
    has(engine.workers(), engine.name(), "workers of its own")?.info()
}

fn show(own: &dyn Engine, what: Elsewhere) -> Result<()> {
    has(own.neighbours(), own.name(), "clusters beside it")?.show(what)
}

/// In the thread that hears the engine: what a task printed is told before its value can be had.
fn listener(own: Arc<dyn Engine>, open: Open, happened: SyncSender<()>) -> impl Fn(&[Event]) + Send + Sync {
    move |events| {
        {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                match event {
                    Event::Submitted { key, .. } | Event::Retried { key, .. } => drop(open.insert(*key)),
                    Event::Done { key, .. } | Event::Failed { key, .. } | Event::Cancelled { key } => {
                        open.remove(key);
                    }
                    _ => {}
                }
            }
        }
        // A notebook that has ended shows nothing any more.
        let _ = show(&*own, Elsewhere::Happened(events.to_vec()));
        // One that is not taken yet says the same.
        let _ = happened.try_send(());
    }
}

/// Tells how the cluster is, whenever something has happened there, until it is gone.
fn keep_up(
    engine: &dyn Engine,
    own: &dyn Engine,
    is_gone: impl Fn() -> bool,
    open: &Open,
    happens: &Receiver<()>,
) {
    loop {
        let has_happened = match happens.recv_timeout(ASK_EVERY) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if is_gone() {
            break;
        }
        if !has_happened {
            continue;
        }
        // What comes of it is known to all a moment later.
        thread::sleep(SETTLES_WITHIN);
        if workers_of(engine).is_ok_and(|info| show(own, Elsewhere::Is(info)).is_err()) {
            return;
        }
        thread::sleep(ASK_EVERY);
    }
    let open: Vec<Key> = open
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain()
        .collect();
    let ended = open.into_iter().map(|key| Event::Cancelled { key }).collect();
    let _ = show(own, Elsewhere::Happened(ended)).and_then(|()| show(own, Elsewhere::Gone));
}
