//! Who sent what to whom.

use std::{cmp::Reverse, collections::BTreeMap};

use skep_cluster::WorkerId;

/// Pairs of workers between which bytes are counted, and those that are told.
const MOST_PAIRS: usize = 20_000;
const MOST_PAIRS_TOLD: usize = 300;

#[derive(Default)]
pub(crate) struct Moves {
    bytes: BTreeMap<(u32, u32), u64>,
    have_changed: bool,
}

impl Moves {
    pub fn add(&mut self, from: WorkerId, to: WorkerId, n_bytes: u64) {
        let pair = (from.0, to.0);
        if self.bytes.len() < MOST_PAIRS || self.bytes.contains_key(&pair) {
            *self.bytes.entry(pair).or_default() += n_bytes;
            self.have_changed = true;
        }
    }

    /// Bytes from one to another, the most first.
    pub fn all(&self) -> Vec<(u32, u32, u64)> {
        let pairs = self.bytes.iter();
        let mut moves: Vec<_> = pairs
            .map(|((from, to), n_bytes)| (*from, *to, *n_bytes))
            .collect();
        moves.sort_by_key(|(_, _, n_bytes)| Reverse(*n_bytes));
        moves.truncate(MOST_PAIRS_TOLD);
        moves
    }

    /// The same, if it has changed since this was called last.
    pub fn news(&mut self) -> Option<Vec<(u32, u32, u64)>> {
        std::mem::take(&mut self.have_changed).then(|| self.all())
    }
}

#[test]
fn the_largest_are_told_once() {
    let mut moves = Moves::default();
    assert_eq!(moves.news(), None);
    moves.add(WorkerId(1), WorkerId(2), 5);
    moves.add(WorkerId(2), WorkerId(1), 7);
    moves.add(WorkerId(1), WorkerId(2), 5);
    let both = vec![(1, 2, 10), (2, 1, 7)];
    assert_eq!(
        (moves.news(), moves.news(), moves.all()),
        (Some(both.clone()), None, both)
    );
    for to in 0..30_000 {
        moves.add(WorkerId(3), WorkerId(to), 1);
    }
    assert_eq!((moves.all().len(), moves.all()[0]), (MOST_PAIRS_TOLD, (1, 2, 10)));
}
