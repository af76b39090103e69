//! Blocked arrays: how they are made, cut anew, and brought together.

use std::{fmt, ops::Range, sync::Arc};

use ndarray::{Array, Ix1, Ix2};
use skep_cluster::{Cluster, Delayed, Error, Result};
use skep_render::{Bundle, Message, Rich, bytes, card::Card, grid};

use crate::{
    axes::Axes,
    chunk::{blocks_mapped, cut_out, made, mapped, put_together, transposed},
    dims::{Lengths, by_lengths},
    piece::{Piece, submit, with_piece},
};

/// A matrix or vector of `f64` in chunks, each a task of its own: for arrays that one process could not hold, or that
/// several should compute.
///
/// ```no_run
/// # use skep_collections::Blocked;
/// let x = Blocked::random((20_000, 20_000), (2_000, 2_000), 42);   // 3.2 GB, of which nothing exists yet
/// let y = (&x + x.t()).mean_axis(0);
/// println!("{:.3}", y.std().compute()?);
/// # Ok::<(), skep_cluster::Error>(())
/// ```
///
/// Lengths of chunks are given by axis; the last chunk of an axis is what remains.
pub struct Blocked<D: Axes = Ix2> {
    pub(crate) inner: Result<Arc<Grid<D>>>,
}

/// The chunks, and where they are.
pub(crate) struct Grid<D: Axes> {
    /// Of each axis the lengths of its chunks.
    pub chunks: Vec<Vec<usize>>,
    /// The last axis runs fastest.
    pub pieces: Vec<Piece<Array<f64, D>>>,
}

impl<D: Axes> Clone for Blocked<D> {
    fn clone(&self) -> Self {
        Blocked {
            inner: self.inner.clone(),
        }
    }
}

impl<D: Axes> Blocked<D> {
    /// The same number everywhere.
    pub fn full(shape: impl Lengths<D>, chunk: impl Lengths<D>, value: f64) -> Blocked<D> {
        Blocked::built(shape.lengths(), &chunk.lengths(), |_, lengths| {
            D::full(lengths, value)
        })
    }

    pub fn zeros(shape: impl Lengths<D>, chunk: impl Lengths<D>) -> Blocked<D> {
        Blocked::full(shape, chunk, 0.0)
    }

    pub fn ones(shape: impl Lengths<D>, chunk: impl Lengths<D>) -> Blocked<D> {
        Blocked::full(shape, chunk, 1.0)
    }

    /// The number at a place is `f` of that: `|(row, column)| …` for a matrix, `|i| …` for a vector.
    pub fn from_fn<L, F>(shape: L, chunk: L, f: F) -> Blocked<D>
    where
        L: Lengths<D>,
        F: Fn(L) -> f64 + Copy,
    {
        let _ = f;
        Blocked::built(shape.lengths(), &chunk.lengths(), |starts, lengths| {
            Delayed::around::<F, _, _, _>(made::<F, L, D>, (starts, lengths), "blocked from_fn")
        })
    }

    /// Numbers from [0, 1), evenly distributed: the same ones for the same seed and chunks.
    pub fn random(shape: impl Lengths<D>, chunk: impl Lengths<D>, seed: u64) -> Blocked<D> {
        Blocked::built(shape.lengths(), &chunk.lengths(), |starts, lengths| {
            D::random(starts, lengths, seed, false)
        })
    }

    /// Normally distributed numbers of mean 0 and standard deviation 1: the same ones for the same seed and chunks.
    pub fn random_normal(shape: impl Lengths<D>, chunk: impl Lengths<D>, seed: u64) -> Blocked<D> {
        Blocked::built(shape.lengths(), &chunk.lengths(), |starts, lengths| {
            D::random(starts, lengths, seed, true)
        })
    }

    /// An array of this program, cut into chunks.
    pub fn from_array(array: &Array<f64, D>, chunk: impl Lengths<D>) -> Blocked<D> {
        Blocked::built(array.shape().to_vec(), &chunk.lengths(), |starts, lengths| {
            let ranges: Vec<Range<usize>> = starts.iter().zip(&lengths).map(|(at, n)| *at..at + n).collect();
            D::given(cut_out(array, &ranges))
        })
    }

    pub(crate) fn built(
        shape: Vec<usize>,
        chunk: &[usize],
        make: impl Fn(Vec<usize>, Vec<usize>) -> Delayed<Array<f64, D>>,
    ) -> Blocked<D> {
        Blocked {
            inner: chunks_of(&shape, chunk).map(|chunks| {
                let pieces = places(&chunks)
                    .map(|place| Piece::Call(make(place.starts, place.lengths)))
                    .collect();
                Arc::new(Grid { chunks, pieces })
            }),
        }
    }

    /// `f` of each number.
    #[must_use]
    pub fn map<F>(&self, f: F) -> Blocked<D>
    where
        F: Fn(f64) -> f64 + Copy,
    {
        let _ = f;
        self.each(|piece| {
            with_piece!(piece, |chunk| Delayed::around::<F, _, _, _>(
                mapped::<F, D>,
                chunk,
                "blocked map"
            ))
        })
    }

    /// `f` of each chunk, which it gives back in the same shape.
    #[must_use]
    pub fn map_blocks<F>(&self, f: F) -> Blocked<D>
    where
        F: Fn(Array<f64, D>) -> Array<f64, D> + Copy,
    {
        let _ = f;
        self.each(|piece| {
            with_piece!(piece, |chunk| Delayed::around::<F, _, _, _>(
                blocks_mapped::<F, D>,
                chunk,
                "blocked map_blocks"
            ))
        })
    }

    /// The same with a task added to each chunk.
    pub(crate) fn each(&self, call: impl Fn(&Piece<Array<f64, D>>) -> Delayed<Array<f64, D>>) -> Blocked<D> {
        self.with(|grid| {
            Ok(Grid {
                chunks: grid.chunks.clone(),
                pieces: grid.pieces.iter().map(|piece| Piece::Call(call(piece))).collect(),
            })
        })
    }

    pub(crate) fn with<E: Axes>(&self, build: impl FnOnce(&Grid<D>) -> Result<Grid<E>>) -> Blocked<E> {
        Blocked {
            inner: self.grid().and_then(|grid| build(grid)).map(Arc::new),
        }
    }

    pub(crate) fn grid(&self) -> Result<&Arc<Grid<D>>> {
        self.inner.as_ref().map_err(Clone::clone)
    }

    /// The same numbers in other chunks.
    #[must_use]
    pub fn rechunk(&self, chunk: impl Lengths<D>) -> Blocked<D> {
        let chunk = chunk.lengths();
        self.with(|grid| {
            let shape = grid.shape();
            Ok(grid.cut_anew(&vec![0; shape.len()], chunks_of(&shape, &chunk)?))
        })
    }

    pub(crate) fn slice_of(&self, ranges: &[Range<usize>]) -> Blocked<D> {
        self.with(|grid| {
            let mut chunks = Vec::new();
            for ((range, lengths), length) in ranges.iter().zip(&grid.chunks).zip(grid.shape()) {
                if range.start > range.end || range.end > length {
                    return Err(wrong(
                        format!("{range:?} is no range of an axis of length {length}"),
                        "ranges are as in Rust: `0..10` is the first ten",
                    ));
                }
                let mut kept = Vec::new();
                for held in ranges_of(lengths) {
                    let (start, end) = (held.start.max(range.start), held.end.min(range.end));
                    if start < end {
                        kept.push(end - start);
                    }
                }
                if kept.is_empty() {
                    kept.push(0);
                }
                chunks.push(kept);
            }
            let starts: Vec<usize> = ranges.iter().map(|range| range.start).collect();
            Ok(grid.cut_anew(&starts, chunks))
        })
    }

    /// All of it, here.
    ///
    /// # Errors
    /// When it was built wrongly, there is no cluster, or a task fails.
    pub fn compute(&self) -> Result<Array<f64, D>> {
        let grid = self.grid()?;
        let cluster = Cluster::current()?;
        let remotes = submit(&cluster, &grid.pieces)?;
        let pieces = cluster.gather(&remotes)?;
        let placed: Vec<Vec<Range<usize>>> = places(&grid.chunks).map(|place| place.ranges()).collect();
        put_together(pieces, &placed, &grid.shape())
            .map_err(|error| wrong(error, "does a function of `map_blocks` change the shape?"))
    }

    /// Runs all chunks and leaves them on the workers: what is built on the result begins there.
    ///
    /// # Errors
    /// As [`Blocked::compute`].
    pub fn persist(&self) -> Result<Blocked<D>> {
        let grid = self.grid()?;
        let cluster = Cluster::current()?;
        let remotes = submit(&cluster, &grid.pieces)?;
        cluster.wait(&remotes)?;
        for remote in &remotes {
            remote.wait()?;
        }
        Ok(Blocked {
            inner: Ok(Arc::new(Grid {
                chunks: grid.chunks.clone(),
                pieces: remotes.into_iter().map(Piece::Held).collect(),
            })),
        })
    }

    /// The length of each axis.
    ///
    /// # Errors
    /// When it was built wrongly.
    pub fn shape(&self) -> Result<Vec<usize>> {
        Ok(self.grid()?.shape())
    }

    /// Of each axis the lengths of its chunks.
    ///
    /// # Errors
    /// When it was built wrongly.
    pub fn chunks(&self) -> Result<Vec<Vec<usize>>> {
        Ok(self.grid()?.chunks.clone())
    }

    /// Bytes of all numbers together.
    ///
    /// # Errors
    /// When it was built wrongly.
    pub fn n_bytes(&self) -> Result<u64> {
        Ok(self.grid()?.n_bytes())
    }

    /// Number of chunks; 0 of an array that was built wrongly.
    pub fn n_chunks(&self) -> usize {
        self.inner.as_ref().map_or(0, |grid| grid.pieces.len())
    }

    /// The chunks, as delayed values; the last axis runs fastest.
    ///
    /// # Errors
    /// When it was built wrongly.
    pub fn to_delayed(&self) -> Result<Vec<Delayed<Array<f64, D>>>> {
        Ok(self.grid()?.pieces.iter().map(Piece::to_call).collect())
    }

    /// The tasks that will run.
    ///
    /// # Errors
    /// When it was built wrongly.
    pub fn graph(&self) -> Result<skep_render::graph::Graph> {
        Ok(Delayed::graph_of_all(&self.to_delayed()?))
    }
}

impl Blocked<Ix2> {
    /// Some rows and columns: `x.slice(0..10, 5..8)`.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>, columns: Range<usize>) -> Blocked<Ix2> {
        self.slice_of(&[rows, columns])
    }

    /// Rows become columns.
    #[must_use]
    pub fn t(&self) -> Blocked<Ix2> {
        self.with(|grid| {
            let (n_rows, n_columns) = (grid.chunks[0].len(), grid.chunks[1].len());
            let each = (0..n_columns).flat_map(|column| (0..n_rows).map(move |row| row * n_columns + column));
            Ok(Grid {
                chunks: vec![grid.chunks[1].clone(), grid.chunks[0].clone()],
                pieces: each
                    .map(|at| {
                        Piece::Call(with_piece!(&grid.pieces[at], |chunk| Delayed::call(
                            transposed, chunk
                        )))
                    })
                    .collect(),
            })
        })
    }
}

impl Blocked<Ix1> {
    /// Some of its numbers: `x.slice(0..10)`.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Blocked<Ix1> {
        self.slice_of(&[range])
    }
}

impl<D: Axes> Grid<D> {
    pub fn shape(&self) -> Vec<usize> {
        self.chunks.iter().map(|lengths| lengths.iter().sum()).collect()
    }

    pub fn n_bytes(&self) -> u64 {
        self.shape().iter().map(|n| *n as u64).product::<u64>() * size_of::<f64>() as u64
    }

    /// The numbers from `starts` on, in these chunks: each is put together of what it needs of the old ones.
    pub fn cut_anew(&self, starts: &[usize], chunks: Vec<Vec<usize>>) -> Grid<D> {
        let held: Vec<Vec<Range<usize>>> = self.chunks.iter().map(|lengths| ranges_of(lengths)).collect();
        let pieces = places(&chunks)
            .map(|place| {
                let wanted: Vec<Range<usize>> = place
                    .ranges()
                    .into_iter()
                    .zip(starts)
                    .map(|(range, start)| range.start + start..range.end + start)
                    .collect();
                self.gathered(&held, &wanted, place.lengths)
            })
            .collect();
        Grid { chunks, pieces }
    }

    fn gathered(
        &self,
        held: &[Vec<Range<usize>>],
        wanted: &[Range<usize>],
        lengths: Vec<usize>,
    ) -> Piece<Array<f64, D>> {
        // Of each axis the chunks that overlap with what is wanted.
        let overlapping: Vec<Vec<usize>> = held
            .iter()
            .zip(wanted)
            .map(|(held, wanted)| {
                (0..held.len())
                    .filter(|at| held[*at].start < wanted.end && wanted.start < held[*at].end)
                    .collect()
            })
            .collect();
        let (mut parts, mut at_places) = (Vec::new(), Vec::new());
        for choice in choices(&overlapping) {
            let at = choice
                .iter()
                .zip(held)
                .fold(0, |at, (chosen, held)| at * held.len() + chosen);
            let (mut inside, mut place) = (Vec::new(), Vec::new());
            for ((chosen, held), wanted) in choice.iter().zip(held).zip(wanted) {
                let held = &held[*chosen];
                let (start, end) = (held.start.max(wanted.start), held.end.min(wanted.end));
                inside.push((start - held.start, end - held.start));
                place.push((start - wanted.start, end - wanted.start));
            }
            let is_whole = choice
                .iter()
                .zip(held)
                .zip(&inside)
                .all(|((chosen, held), (start, end))| *start == 0 && *end == held[*chosen].len());
            if is_whole
                && place
                    .iter()
                    .zip(&lengths)
                    .all(|((start, end), n)| *start == 0 && end == n)
            {
                return self.pieces[at].clone();
            }
            parts.push(D::cut(&self.pieces[at], inside));
            at_places.push(place);
        }
        Piece::Call(D::assembled(parts, at_places, lengths))
    }
}

/// Where a chunk is.
pub(crate) struct Place {
    pub starts: Vec<usize>,
    pub lengths: Vec<usize>,
}

impl Place {
    fn ranges(&self) -> Vec<Range<usize>> {
        self.starts
            .iter()
            .zip(&self.lengths)
            .map(|(at, n)| *at..at + n)
            .collect()
    }
}

/// Every chunk's place, the last axis fastest.
pub(crate) fn places(chunks: &[Vec<usize>]) -> impl Iterator<Item = Place> {
    let ranges: Vec<Vec<Range<usize>>> = chunks.iter().map(|lengths| ranges_of(lengths)).collect();
    let numbers: Vec<Vec<usize>> = ranges.iter().map(|ranges| (0..ranges.len()).collect()).collect();
    choices(&numbers).into_iter().map(move |choice| {
        let chosen = || choice.iter().zip(&ranges).map(|(at, ranges)| &ranges[*at]);
        Place {
            starts: chosen().map(|range| range.start).collect(),
            lengths: chosen().map(|range| range.len()).collect(),
        }
    })
}

fn ranges_of(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut at = 0;
    lengths
        .iter()
        .map(|length| {
            at += length;
            at - length..at
        })
        .collect()
}

/// Every way to choose one of each list, the last list fastest.
fn choices(lists: &[Vec<usize>]) -> Vec<Vec<usize>> {
    lists.iter().fold(vec![Vec::new()], |so_far, list| {
        so_far
            .iter()
            .flat_map(|begun| {
                list.iter().map(|next| {
                    let mut longer = begun.clone();
                    longer.push(*next);
                    longer
                })
            })
            .collect()
    })
}

/// More tasks than this for one array are taken for a mistake: a chunk length that was meant as a number of chunks.
const MOST_CHUNKS: usize = 1_000_000;

fn chunks_of(shape: &[usize], chunk: &[usize]) -> Result<Vec<Vec<usize>>> {
    if chunk.contains(&0) {
        return Err(wrong(
            "a chunk of length 0 holds nothing".to_string(),
            "give the length of chunks by axis, 1 or more",
        ));
    }
    let n_chunks = shape.iter().zip(chunk).try_fold(1usize, |n, (length, chunk)| {
        n.checked_mul(length.div_ceil(*chunk).max(1))
    });
    if n_chunks.is_none_or(|n| n > MOST_CHUNKS) {
        return Err(wrong(
            format!(
                "an array of shape {shape:?} in chunks of {chunk:?} would be more than {MOST_CHUNKS} tasks"
            ),
            "larger chunks: 10 to 100 MB each work well, which is 1,000 × 1,000 to 3,500 × 3,500 numbers",
        ));
    }
    Ok(shape
        .iter()
        .zip(chunk)
        .map(|(length, chunk)| {
            let mut lengths = vec![*chunk; length / chunk];
            if length % chunk > 0 || lengths.is_empty() {
                lengths.push(length % chunk);
            }
            lengths
        })
        .collect())
}

pub(crate) fn wrong(what: String, hint: &str) -> Error {
    Error::Shape(Message::new(what).hint(hint))
}

impl<D: Axes> Blocked<D> {
    fn card(&self) -> (Card, Option<grid::Grid>) {
        let grid = match &self.inner {
            Ok(grid) => grid,
            Err(error) => {
                let card = Card::new(format!("Blocked {} that cannot run", D::NAME))
                    .state("failed")
                    .fact("why", error.to_string());
                return (card, None);
            }
        };
        let longest: Vec<usize> = grid
            .chunks
            .iter()
            .map(|lengths| lengths.iter().copied().max().unwrap_or(0))
            .collect();
        let chunk_bytes = longest.iter().map(|n| *n as u64).product::<u64>() * size_of::<f64>() as u64;
        let counts: Vec<usize> = grid.chunks.iter().map(Vec::len).collect();
        let is_held = grid.pieces.iter().all(|piece| matches!(piece, Piece::Held(_)));
        let note = if is_held {
            "its chunks are on the workers: `.compute()?` brings all here"
        } else {
            "nothing has run: `.compute()?` runs it, `.graph()?` draws the tasks"
        };
        let card = Card::new(format!("Blocked {}: {}", D::NAME, by_lengths(&grid.shape())))
            .fact("bytes", bytes(grid.n_bytes()))
            .fact(
                "chunks",
                format!(
                    "{} of {} ({})",
                    by_lengths(&counts),
                    by_lengths(&longest),
                    bytes(chunk_bytes)
                ),
            )
            .note(note);
        let (rows, columns) = match grid.chunks.as_slice() {
            [columns] => (vec![1], columns.clone()),
            [rows, columns, ..] => (rows.clone(), columns.clone()),
            [] => (vec![], vec![]),
        };
        (card, Some(grid::Grid::new(rows, columns)))
    }
}

impl<D: Axes> Rich for Blocked<D> {
    fn bundle(&self) -> Bundle {
        match self.card() {
            (card, Some(grid)) => grid.beside(&card),
            (card, None) => card.bundle(),
        }
    }
}

impl<D: Axes> fmt::Debug for Blocked<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Ok(grid) => write!(
                f,
                "Blocked({}, {} chunks)",
                by_lengths(&grid.shape()),
                grid.pieces.len()
            ),
            Err(error) => write!(f, "Blocked({error})"),
        }
    }
}
