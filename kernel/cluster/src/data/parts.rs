//! Results that are taken apart: their parts one after the other in the same bytes, and where each is.
//!
//! The places are at the end, so that parts are written as they come: for each part its first byte and its length, then
//! the number of parts, all as little-endian `u64`. Parts begin at multiples of 64 bytes, as readers of columns like.

use std::{
    io::{self, Write},
    ops::Range,
};

const ALIGN: u64 = 64;
const WORD: usize = size_of::<u64>();

/// Counts what goes through.
struct Counted<'w> {
    out: &'w mut dyn Write,
    n: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.n += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes so many parts.
pub(crate) fn write(
    out: &mut dyn Write,
    n_parts: usize,
    mut write: impl FnMut(usize, &mut dyn Write) -> Result<(), String>,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut out = Counted { out, n: 0 };
    let mut places = Vec::with_capacity(n_parts * 2 + 1);
    for part in 0..n_parts {
        let gap = out.n.next_multiple_of(ALIGN) - out.n;
        out.write_all(&[0; ALIGN as usize][..gap as usize])
            .map_err(text)?;
        let start = out.n;
        write(part, &mut out)?;
        places.extend([start, out.n - start]);
    }
    places.push(n_parts as u64);
    let places: Vec<u8> = places.into_iter().flat_map(u64::to_le_bytes).collect();
    out.write_all(&places).map_err(text)
}

/// How many parts there are.
pub(crate) fn count(bytes: &[u8]) -> Result<usize, String> {
    word(bytes, bytes.len().checked_sub(WORD))
        .map(|n| n as usize)
        .filter(|n| {
            n.checked_mul(2 * WORD)
                .is_some_and(|places| places + WORD <= bytes.len())
        })
        .ok_or_else(|| "these bytes are no result in parts".to_string())
}

/// Where a part is.
pub(crate) fn range(bytes: &[u8], part: u32) -> Result<Range<usize>, String> {
    let n_parts = count(bytes)?;
    if part as usize >= n_parts {
        return Err(missing(part, n_parts));
    }
    let at = bytes.len() - WORD - (n_parts - part as usize) * 2 * WORD;
    let place = || {
        let start = word(bytes, Some(at))? as usize;
        let end = start.checked_add(word(bytes, Some(at + WORD))? as usize)?;
        bytes.get(start..end)?;
        Some(start..end)
    };
    place().ok_or_else(|| "these bytes are no result in parts".to_string())
}

pub(crate) fn missing(part: u32, n_parts: usize) -> String {
    format!("part {part} was asked for, and the task made {n_parts}")
}

fn word(bytes: &[u8], at: Option<usize>) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at?..)?.first_chunk()?))
}

#[test]
fn parts_are_found_again_and_nonsense_is_refused() {
    let parts: [&[u8]; 4] = [b"one", b"", &[7; 1000], b"four"];
    let mut bytes = Vec::new();
    write(&mut bytes, parts.len(), |i, out| {
        out.write_all(parts[i]).map_err(|error| error.to_string())
    })
    .unwrap();
    for (i, part) in parts.iter().enumerate() {
        let range = range(&bytes, i as u32).unwrap();
        assert_eq!((range.start % 64, &bytes[range]), (0, *part));
    }
    assert_eq!(count(&bytes), Ok(4));
    assert!(range(&bytes, 4).unwrap_err().contains("made 4"));
    for n in 0..bytes.len() {
        // Whatever is cut off, nothing outside is ever named.
        let cut = &bytes[..n];
        for part in 0..5 {
            if let Ok(range) = range(cut, part) {
                assert!(range.end <= n);
            }
        }
    }
    let mut none = Vec::new();
    write(&mut none, 0, |_, _| Ok(())).unwrap();
    assert_eq!(count(&none), Ok(0));
}
