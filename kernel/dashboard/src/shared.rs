//! What the threads and the answers have in common.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use skep_cluster::{
    host::{Host, Subscription, Update},
    model::{cluster::ClusterInfo, recording::Recording},
};

use crate::{picture::Picture, told::Told, updates::Updates};

/// Updates of the page come this often.
pub(crate) const EVERY: Duration = Duration::from_millis(200);

/// A run that people asked the page to record.
#[derive(Default)]
pub(crate) enum Run {
    #[default]
    Nothing,
    Begun,
    Recorded(Arc<Recording>),
}

pub(crate) struct Shared {
    pub host: Weak<Host>,
    pub token: String,
    pub updates: Updates,
    pub picture: Mutex<Picture>,
    pub info: Mutex<ClusterInfo>,
    pub has_ended: AtomicBool,
    pub run: Mutex<Run>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

impl Shared {
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Everything, for who begins to look, and goes on with what comes after it: so what is new is told to the others first.
    pub fn whole(&self) -> Told {
        let info = self.info();
        let mut picture = lock(&self.picture);
        self.tell(&mut picture, &info);
        picture.whole(&info, now_us())
    }

    /// The workers as they are; those of the last time if the scheduler has ended.
    pub fn info(&self) -> ClusterInfo {
        let fresh = self.host.upgrade().and_then(|host| host.info());
        let mut known = lock(&self.info);
        if let Some(fresh) = fresh {
            *known = fresh;
        }
        known.clone()
    }

    fn tell(&self, picture: &mut Picture, info: &ClusterInfo) {
        let news = picture.news(info, now_us());
        if let Ok(text) = serde_json::to_string(&news) {
            self.updates.add(news.seq, text.into());
        }
    }

    /// Takes in what happens, until the cluster or the page has ended.
    pub fn follow(&self, mut subscription: Subscription) {
        let mut told = Instant::now();
        while !self.has_ended() {
            let update = subscription.next(EVERY);
            let is_last = matches!(update, Some(Update::Ended));
            match update {
                Some(update) => lock(&self.picture).update(update, now_us()),
                // It is calm: what was missed can be made up for.
                None if lock(&self.picture).has_holes() => {
                    if let Some(fresh) = self.host.upgrade().and_then(|host| host.subscribe()) {
                        lock(&self.picture).renew(&fresh.snapshot, now_us());
                        subscription = fresh;
                    }
                }
                None => {}
            }
            if told.elapsed() < EVERY && !is_last {
                continue;
            }
            told = Instant::now();
            // Nobody looks: the picture grows, and nothing is written.
            if !self.updates.has_viewers() && !is_last {
                continue;
            }
            let info = self.info();
            self.tell(&mut lock(&self.picture), &info);
            if is_last {
                break;
            }
        }
        self.has_ended.store(true, Ordering::Relaxed);
    }
}
