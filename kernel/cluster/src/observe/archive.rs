//! Stories of tasks that are over, in a sixth of the space: a notebook that stays open for days keeps a million of them.

use std::collections::{HashMap, VecDeque};

use crate::model::{
    event::Reason,
    history::{Attempt, End},
    ids::{FunctionId, Key, WorkerId},
};

/// A story with one attempt, as it is kept while it may go on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Story {
    pub function: FunctionId,
    pub submitted_us: u64,
    pub ready_us: u64,
    pub freed_us: u64,
    pub attempt: Attempt,
}

/// Packed stories, in the order in which they ended.
#[derive(Default)]
pub(super) struct Archive {
    chunks: VecDeque<Vec<Packed>>,
    /// The number of the first story of the first chunk.
    first: u32,
    /// From one half of the key to the number of its story, which has the other half.
    places: HashMap<u64, u32, std::hash::BuildHasherDefault<crate::model::ids::KeyHasher>>,
    functions: Vec<FunctionId>,
}

const CHUNK: usize = 4096;
const FORGOTTEN_AT_ONCE: usize = 16;

/// Times are what has passed since the one before; all are in microseconds.
struct Packed {
    key: u64,
    submitted_us: u64,
    function: u32,
    worker: u32,
    ready: u32,
    assigned: u32,
    start: u32,
    duration: u32,
    ended: u32,
    freed: u32,
    moved_bytes: u32,
    n_bytes: u32,
    why: Reason,
    end: End,
}

/// From one time to a later one, where that has a place.
fn passed(before: u64, after: u64) -> Option<u32> {
    u32::try_from(after.checked_sub(before)?).ok()
}

impl Archive {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Takes a story in; `false` for one of the few that have no place in so little: an hour long, or gigabytes.
    pub fn add(&mut self, key: Key, story: &Story) -> bool {
        self.pack(key, story).is_some()
    }

    fn pack(&mut self, key: Key, story: &Story) -> Option<()> {
        let Story {
            function,
            submitted_us,
            ready_us,
            freed_us,
            attempt,
        } = story;
        let packed = Packed {
            key: (key.0 >> 64) as u64,
            submitted_us: *submitted_us,
            function: self.number_of(*function),
            worker: attempt.worker?.0,
            ready: passed(*submitted_us, *ready_us)?,
            assigned: passed(*submitted_us, attempt.assigned_us)?,
            start: passed(*submitted_us, attempt.start_us)?,
            duration: u32::try_from(attempt.duration_us).ok()?,
            ended: passed(*submitted_us, attempt.ended_us)?,
            freed: passed(*submitted_us, *freed_us)?,
            moved_bytes: u32::try_from(attempt.moved_bytes).ok()?,
            n_bytes: u32::try_from(attempt.n_bytes).ok()?,
            why: attempt.why,
            end: attempt.end,
        };
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        let at = self.first.wrapping_add(((self.chunks.len() - 1) * CHUNK) as u32);
        let chunk = self.chunks.back_mut()?;
        self.places
            .insert(key.0 as u64, at.wrapping_add(chunk.len() as u32));
        chunk.push(packed);
        Some(())
    }

    /// There are few functions, and the newest is asked for most.
    fn number_of(&mut self, function: FunctionId) -> u32 {
        let known = self.functions.iter().rposition(|known| *known == function);
        known.unwrap_or_else(|| {
            self.functions.push(function);
            self.functions.len() - 1
        }) as u32
    }

    fn packed(&self, key: Key) -> Option<&Packed> {
        let at = self.places.get(&(key.0 as u64))?.wrapping_sub(self.first) as usize;
        let packed = self.chunks.get(at / CHUNK)?.get(at % CHUNK)?;
        (packed.key == (key.0 >> 64) as u64).then_some(packed)
    }

    pub fn get(&self, key: Key) -> Option<Story> {
        let packed = self.packed(key)?;
        let at = |passed: u32| packed.submitted_us + u64::from(passed);
        Some(Story {
            function: self.functions[packed.function as usize],
            submitted_us: packed.submitted_us,
            ready_us: at(packed.ready),
            freed_us: at(packed.freed),
            attempt: Attempt {
                assigned_us: at(packed.assigned),
                worker: Some(WorkerId(packed.worker)),
                why: packed.why,
                moved_bytes: packed.moved_bytes.into(),
                start_us: at(packed.start),
                duration_us: packed.duration.into(),
                ended_us: at(packed.ended),
                end: packed.end,
                n_bytes: packed.n_bytes.into(),
            },
        })
    }

    /// Takes a story out, which goes on.
    pub fn take(&mut self, key: Key) -> Option<Story> {
        let story = self.get(key)?;
        self.places.remove(&(key.0 as u64));
        Some(story)
    }

    /// Forgets those that ended first; gives their keys.
    pub fn forget_some(&mut self) -> Vec<Key> {
        // Many at a time, since it takes a look at every place.
        let n = FORGOTTEN_AT_ONCE.min(self.chunks.len());
        let chunks: Vec<Vec<Packed>> = self.chunks.drain(..n).collect();
        let first = self.first;
        let mut forgotten = Vec::new();
        // One may have been taken out, and have come back as a later one.
        self.places.retain(|half, at| {
            let at = at.wrapping_sub(first) as usize;
            let gone = chunks.get(at / CHUNK).and_then(|chunk| chunk.get(at % CHUNK));
            if let Some(packed) = gone {
                forgotten.push(Key(u128::from(packed.key) << 64 | u128::from(*half)));
            }
            gone.is_none()
        });
        self.first = first.wrapping_add((n * CHUNK) as u32);
        forgotten
    }
}

#[test]
fn stories_come_out_as_they_went_in() {
    let story = |n: u64| Story {
        function: FunctionId(n % 3),
        submitted_us: 1_000_000 + n,
        ready_us: 1_000_010 + n,
        freed_us: 1_000_090 + n,
        attempt: Attempt {
            assigned_us: 1_000_020 + n,
            worker: Some(WorkerId(n as u32 % 5)),
            why: Reason::Pinned,
            moved_bytes: n,
            start_us: 1_000_030 + n,
            duration_us: 7,
            ended_us: 1_000_050 + n,
            end: End::Done,
            n_bytes: 8,
        },
    };
    let key = |n: u64| Key(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let n = (FORGOTTEN_AT_ONCE + 1) as u64 * CHUNK as u64 + 7;
    let mut archive = Archive {
        first: u32::MAX - 5,
        ..Archive::default()
    };
    for i in 0..n {
        assert!(archive.add(key(i), &story(i)));
    }
    assert!((0..n).all(|i| archive.get(key(i)) == Some(story(i))));
    // One goes on, and comes back later.
    assert_eq!(archive.take(key(3)), Some(story(3)));
    assert_eq!(archive.get(key(3)), None);
    archive.add(key(3), &story(99));
    assert_eq!(archive.forget_some().len(), FORGOTTEN_AT_ONCE * CHUNK - 1);
    assert_eq!(
        (archive.get(key(2)), archive.get(key(3))),
        (None, Some(story(99)))
    );
    assert_eq!(archive.get(key(n - 1)), Some(story(n - 1)));
    // A day long.
    let mut long = story(1);
    long.attempt.ended_us += 86_400_000_000;
    assert!(!archive.add(key(n), &long));
    assert!(size_of::<Packed>() <= 64);
}
