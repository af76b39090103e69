//! Events for whoever watches a hosted cluster: a snapshot to begin with, then everything that happens, numbered.
//!
//! The scheduler's thread never waits for a watcher. Each has a bounded queue; what it does not take in time is
//! dropped, oldest first, and counted, so that it knows that its picture has holes and can begin anew.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::model::{cluster::ClusterInfo, event::Event, history::History};

/// Events that wait for one watcher, at most.
const MOST_WAITING: usize = 100_000;

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The number of the next event: those before it are part of this picture.
    pub next: u64,
    pub info: ClusterInfo,
    pub history: History,
    /// The functions, and the tasks that have not ended, as the events that would make them.
    pub open: Vec<Event>,
}

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Events in order; the first has this number.
    Events { first: u64, events: Vec<Event> },
    /// So many events were not taken in time, and are gone: a new subscription gives the whole picture again.
    Lagged { missed: u64 },
    /// The cluster began anew; nothing of the picture holds any more.
    Reset,
    /// The host has ended.
    Ended,
}

/// A place in the stream of events; see [`super::Host::subscribe`]. Dropping it ends it.
pub struct Subscription {
    pub snapshot: Snapshot,
    queue: Arc<Queue>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    first: u64,
    events: VecDeque<Event>,
    missed: u64,
    is_reset: bool,
    has_ended: bool,
}

/// The host's end: all watchers, and the number of the next event.
#[derive(Default)]
pub(super) struct Feed {
    next: u64,
    queues: Vec<Weak<Queue>>,
}

impl Feed {
    pub fn subscribe(&mut self, info: ClusterInfo, history: History, open: Vec<Event>) -> Subscription {
        let queue = Arc::new(Queue::default());
        queue.lock().first = self.next;
        self.queues.push(Arc::downgrade(&queue));
        Subscription {
            snapshot: Snapshot {
                next: self.next,
                info,
                history,
                open,
            },
            queue,
        }
    }

    pub fn tell(&mut self, events: &[Event]) {
        self.next += events.len() as u64;
        self.each(|state| state.add(events));
    }

    pub fn reset(&mut self) {
        let next = self.next;
        self.each(|state| {
            *state = State {
                first: next,
                is_reset: true,
                ..State::default()
            }
        });
    }

    fn each(&mut self, change: impl Fn(&mut State)) {
        self.queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            change(&mut queue.lock());
            queue.changed.notify_all();
            true
        });
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.each(|state| state.has_ended = true);
    }
}

impl State {
    fn add(&mut self, events: &[Event]) {
        self.events.extend(events.iter().cloned());
        let n_extra = self.events.len().saturating_sub(MOST_WAITING);
        self.events.drain(..n_extra);
        self.first += n_extra as u64;
        self.missed += n_extra as u64;
    }

    fn take(&mut self) -> Option<Update> {
        if std::mem::take(&mut self.is_reset) {
            return Some(Update::Reset);
        }
        if self.missed > 0 {
            return Some(Update::Lagged {
                missed: std::mem::take(&mut self.missed),
            });
        }
        if !self.events.is_empty() {
            let events: Vec<Event> = self.events.drain(..).collect();
            let first = self.first;
            self.first += events.len() as u64;
            return Some(Update::Events { first, events });
        }
        self.has_ended.then_some(Update::Ended)
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next that happens; `None` if nothing does for as long as `patience`.
    pub fn next(&mut self, patience: Duration) -> Option<Update> {
        let until = Instant::now() + patience;
        let mut state = self.queue.lock();
        loop {
            if let Some(update) = state.take() {
                return Some(update);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .queue
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Key;

    fn freed(from: u64, n: u64) -> Vec<Event> {
        (from..from + n)
            .map(|key| Event::Freed { key: Key(key.into()) })
            .collect()
    }

    #[test]
    fn a_watcher_hears_all_from_its_snapshot_on_and_what_it_missed() {
        let mut feed = Feed::default();
        feed.tell(&freed(0, 3));
        let mut early = feed.subscribe(ClusterInfo::default(), History::default(), Vec::new());
        feed.tell(&freed(3, 2));
        let mut late = feed.subscribe(ClusterInfo::default(), History::default(), Vec::new());
        assert_eq!((early.snapshot.next, late.snapshot.next), (3, 5));
        assert_eq!(
            early.next(Duration::ZERO),
            Some(Update::Events {
                first: 3,
                events: freed(3, 2)
            })
        );
        assert_eq!(
            (early.next(Duration::ZERO), late.next(Duration::ZERO)),
            (None, None)
        );
        feed.tell(&freed(5, MOST_WAITING as u64 + 7));
        assert_eq!(late.next(Duration::ZERO), Some(Update::Lagged { missed: 7 }));
        let Some(Update::Events { first, events }) = late.next(Duration::ZERO) else {
            panic!("the rest is there")
        };
        assert_eq!(
            (first, events.len(), &events[0]),
            (12, MOST_WAITING, &freed(12, 1)[0])
        );
        feed.reset();
        assert_eq!(late.next(Duration::ZERO), Some(Update::Reset));
        drop(early);
        feed.tell(&freed(0, 1));
        assert_eq!(feed.queues.len(), 1, "who is gone is forgotten");
        drop(feed);
        assert!(matches!(late.next(Duration::ZERO), Some(Update::Events { .. })));
        assert_eq!(late.next(Duration::ZERO), Some(Update::Ended));
    }
}
