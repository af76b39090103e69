//! Numbered updates, the newest of which are kept: a viewer asks for what comes after the one that it saw last.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// At five updates a second, a minute.
const MOST_KEPT: usize = 300;

pub(crate) struct Updates {
    kept: Mutex<VecDeque<(u64, Arc<str>)>>,
    newest: watch::Sender<u64>,
}

/// What a viewer has to be sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Since {
    These(Vec<(u64, Arc<str>)>),
    /// It has seen nothing yet, or was away for too long.
    Whole,
}

impl Updates {
    pub fn new() -> Updates {
        Updates {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    pub fn add(&self, seq: u64, text: Arc<str>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((seq, text));
        if kept.len() > MOST_KEPT {
            kept.pop_front();
        }
        drop(kept);
        self.newest.send_replace(seq);
    }

    pub fn since(&self, seen: Option<u64>) -> Since {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = seen.filter(|seen| *seen <= self.newest()) else {
            return Since::Whole;
        };
        match kept.front() {
            Some((first, _)) if *first > seen + 1 => Since::Whole,
            _ => Since::These(kept.iter().filter(|(seq, _)| *seq > seen).cloned().collect()),
        }
    }

    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub fn has_viewers(&self) -> bool {
        self.newest.receiver_count() > 0
    }
}

#[test]
fn who_was_away_for_too_long_begins_anew() {
    let updates = Updates::new();
    assert_eq!(updates.since(Some(0)), Since::These(vec![]));
    for seq in 1..=400 {
        updates.add(seq, seq.to_string().into());
    }
    assert_eq!(updates.since(None), Since::Whole);
    assert_eq!(updates.since(Some(50)), Since::Whole);
    assert_eq!(
        updates.since(Some(398)),
        Since::These(vec![(399, "399".into()), (400, "400".into())])
    );
    assert_eq!(updates.since(Some(400)), Since::These(vec![]));
    assert_eq!(
        updates.since(Some(401)),
        Since::Whole,
        "of another page's cluster"
    );
}
