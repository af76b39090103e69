//! What sees all chunks: sums and their like, by axis or of everything, and products.

use std::sync::Arc;

use ndarray::{Array, Array1, Array2, Axis, Ix1, Ix2};
use skep_cluster::{Delayed, Result};

use crate::{
    axes::Axes,
    blocked::{Blocked, Grid, by_lengths, wrong},
    piece::{Piece, tree, with_piece},
};

/// Number, sum of the distances from the mean squared, and mean, of many numbers; two of them merge into one exactly as well
/// as if all numbers had been there (Chan, Golub and LeVeque, 1983).
pub(crate) type Moments = (u64, f64, f64);

/// What is done with a chunk before the results along an axis are merged.
type Partial = fn(&Piece<Array2<f64>>, u64) -> Delayed<Array2<f64>>;

impl<D: Axes> Blocked<D> {
    fn reduced<A: skep_cluster::TaskValue + Clone>(
        &self,
        partial: impl Fn(&Piece<Array<f64, D>>) -> Delayed<A>,
        merge: impl Fn(&[Delayed<A>]) -> Delayed<A>,
    ) -> Delayed<A> {
        match &self.inner {
            Ok(grid) => tree(grid.pieces.iter().map(partial).collect(), merge),
            Err(error) => Delayed::refused(error.clone()),
        }
    }

    pub fn sum(&self) -> Delayed<f64> {
        self.reduced(D::sum, sum_of_all_of)
    }

    /// The least number; NaN of no numbers.
    pub fn min(&self) -> Delayed<f64> {
        self.reduced(D::least, least_of_all_of)
    }

    /// The greatest number; NaN of no numbers.
    pub fn max(&self) -> Delayed<f64> {
        self.reduced(D::greatest, greatest_of_all_of)
    }

    fn moments(&self) -> Delayed<Moments> {
        self.reduced(D::moments, moments_of)
    }

    /// Arithmetic mean; NaN of no numbers.
    pub fn mean(&self) -> Delayed<f64> {
        then_mean(&self.moments())
    }

    /// Standard deviation of all numbers (divided by their number).
    pub fn std(&self) -> Delayed<f64> {
        then_std(&self.moments())
    }
}

impl Blocked<Ix2> {
    /// The sums along an axis: 0 adds the rows up, which gives a number for each column.
    #[must_use]
    pub fn sum_axis(&self, axis: usize) -> Blocked<Ix1> {
        self.along(axis, |parts| Delayed::call(columns_added, parts), sums_along)
    }

    /// The means along an axis.
    #[must_use]
    pub fn mean_axis(&self, axis: usize) -> Blocked<Ix1> {
        self.along(
            axis,
            |parts| Delayed::call(columns_merged, parts).then(column_means),
            moments_along,
        )
    }

    /// The standard deviations along an axis.
    #[must_use]
    pub fn std_axis(&self, axis: usize) -> Blocked<Ix1> {
        self.along(
            axis,
            |parts| Delayed::call(columns_merged, parts).then(column_stds),
            moments_along,
        )
    }

    fn along(
        &self,
        axis: usize,
        merge: impl Fn(&[Delayed<Array2<f64>>]) -> Delayed<Array1<f64>>,
        partial: Partial,
    ) -> Blocked<Ix1> {
        self.with(|grid| {
            if axis > 1 {
                return Err(wrong(
                    format!("a matrix has no axis {axis}"),
                    "0 goes down the rows, 1 along the columns",
                ));
            }
            let (n_rows, n_columns) = (grid.chunks[0].len(), grid.chunks[1].len());
            let (n_kept, n_gone) = if axis == 0 {
                (n_columns, n_rows)
            } else {
                (n_rows, n_columns)
            };
            let pieces = (0..n_kept)
                .map(|kept| {
                    let line: Vec<Delayed<Array2<f64>>> = (0..n_gone)
                        .map(|gone| {
                            let (row, column) = if axis == 0 { (gone, kept) } else { (kept, gone) };
                            partial(&grid.pieces[row * n_columns + column], axis as u64)
                        })
                        .collect();
                    Piece::Call(merge(&line))
                })
                .collect();
            Ok(Grid {
                chunks: vec![grid.chunks[1 - axis].clone()],
                pieces,
            })
        })
    }
}

fn sums_along(piece: &Piece<Array2<f64>>, axis: u64) -> Delayed<Array2<f64>> {
    with_piece!(piece, |chunk| Delayed::call(column_sums, (chunk, axis)))
}

fn moments_along(piece: &Piece<Array2<f64>>, axis: u64) -> Delayed<Array2<f64>> {
    with_piece!(piece, |chunk| Delayed::call(column_moments, (chunk, axis)))
}

impl<D: Axes> Grid<D> {
    /// The same numbers in chunks of these lengths.
    pub fn in_chunks_of(self: &Arc<Self>, chunks: &[Vec<usize>]) -> Arc<Grid<D>> {
        if self.chunks == chunks {
            return self.clone();
        }
        Arc::new(self.cut_anew(&vec![0; chunks.len()], chunks.to_vec()))
    }
}

/// Products: of two matrices, a matrix and a vector, two vectors.
pub trait Dot<Other> {
    type Product;
    /// Chunks of the right side are cut anew where they do not fit those of the left.
    #[must_use]
    fn dot(&self, other: &Other) -> Self::Product;
}

impl Dot<Blocked<Ix2>> for Blocked<Ix2> {
    type Product = Blocked<Ix2>;
    fn dot(&self, other: &Blocked<Ix2>) -> Blocked<Ix2> {
        let build = || -> Result<Grid<Ix2>> {
            let (left, right) = (self.grid()?, other.grid()?);
            fits(left.shape()[1], right.shape()[0], &left.shape(), &right.shape())?;
            let right = right.in_chunks_of(&[left.chunks[1].clone(), right.chunks[1].clone()]);
            let (n_inner, n_columns) = (left.chunks[1].len(), right.chunks[1].len());
            let mut pieces = Vec::new();
            for row in 0..left.chunks[0].len() {
                for column in 0..n_columns {
                    let products: Vec<Delayed<Array2<f64>>> = (0..n_inner)
                        .map(|inner| {
                            let a = &left.pieces[row * n_inner + inner];
                            let b = &right.pieces[inner * n_columns + column];
                            with_piece!(a, |a| with_piece!(b, |b| Delayed::call(product, (a, b))))
                        })
                        .collect();
                    pieces.push(Piece::Call(added_up(products)));
                }
            }
            Ok(Grid {
                chunks: vec![left.chunks[0].clone(), right.chunks[1].clone()],
                pieces,
            })
        };
        Blocked {
            inner: build().map(Arc::new),
        }
    }
}

impl Dot<Blocked<Ix1>> for Blocked<Ix2> {
    type Product = Blocked<Ix1>;
    fn dot(&self, other: &Blocked<Ix1>) -> Blocked<Ix1> {
        let build = || -> Result<Grid<Ix1>> {
            let (left, right) = (self.grid()?, other.grid()?);
            fits(left.shape()[1], right.shape()[0], &left.shape(), &right.shape())?;
            let right = right.in_chunks_of(&left.chunks[1..]);
            let n_inner = left.chunks[1].len();
            let pieces = (0..left.chunks[0].len())
                .map(|row| {
                    let products: Vec<Delayed<Array1<f64>>> = (0..n_inner)
                        .map(|inner| {
                            let (a, b) = (&left.pieces[row * n_inner + inner], &right.pieces[inner]);
                            with_piece!(a, |a| with_piece!(b, |b| Delayed::call(
                                product_with_vector,
                                (a, b)
                            )))
                        })
                        .collect();
                    Piece::Call(added_up(products))
                })
                .collect();
            Ok(Grid {
                chunks: vec![left.chunks[0].clone()],
                pieces,
            })
        };
        Blocked {
            inner: build().map(Arc::new),
        }
    }
}

impl Dot<Blocked<Ix1>> for Blocked<Ix1> {
    type Product = Delayed<f64>;
    fn dot(&self, other: &Blocked<Ix1>) -> Delayed<f64> {
        (self * other).sum()
    }
}

fn fits(inner: usize, other: usize, left: &[usize], right: &[usize]) -> Result<()> {
    if inner == other {
        return Ok(());
    }
    Err(wrong(
        format!("no product of {} and {}", by_lengths(left), by_lengths(right)),
        "the left one has as many columns as the right one has rows; `.t()` turns one round",
    ))
}

fn added_up<D: Axes>(mut products: Vec<Delayed<Array<f64, D>>>) -> Delayed<Array<f64, D>> {
    if products.len() == 1 {
        return products.remove(0);
    }
    tree(products, D::added)
}

// Calls that need no axes: not generic, so that they are compiled here.

fn sum_of_all_of(parts: &[Delayed<f64>]) -> Delayed<f64> {
    Delayed::call(sum_of_all, parts)
}

fn least_of_all_of(parts: &[Delayed<f64>]) -> Delayed<f64> {
    Delayed::call(least_of_all, parts)
}

fn greatest_of_all_of(parts: &[Delayed<f64>]) -> Delayed<f64> {
    Delayed::call(greatest_of_all, parts)
}

fn moments_of(parts: &[Delayed<Moments>]) -> Delayed<Moments> {
    Delayed::call(moments_merged, parts)
}

fn then_mean(moments: &Delayed<Moments>) -> Delayed<f64> {
    moments.then(mean_of)
}

fn then_std(moments: &Delayed<Moments>) -> Delayed<f64> {
    moments.then(std_of)
}

// What runs as tasks.

pub(crate) fn sum<D: Axes>(chunk: &Array<f64, D>) -> f64 {
    chunk.sum()
}

fn sum_of_all(parts: Vec<f64>) -> f64 {
    parts.iter().sum()
}

pub(crate) fn least<D: Axes>(chunk: &Array<f64, D>) -> f64 {
    chunk.iter().copied().fold(f64::NAN, f64::min)
}

fn least_of_all(parts: Vec<f64>) -> f64 {
    parts.into_iter().fold(f64::NAN, f64::min)
}

pub(crate) fn greatest<D: Axes>(chunk: &Array<f64, D>) -> f64 {
    chunk.iter().copied().fold(f64::NAN, f64::max)
}

fn greatest_of_all(parts: Vec<f64>) -> f64 {
    parts.into_iter().fold(f64::NAN, f64::max)
}

pub(crate) fn moments<D: Axes>(chunk: &Array<f64, D>) -> Moments {
    let Some(mean) = chunk.mean() else {
        return (0, 0.0, 0.0);
    };
    let squares = chunk.fold(0.0, |so_far, x| so_far + (x - mean) * (x - mean));
    (chunk.len() as u64, squares, mean)
}

fn merged((n, squares, mean): Moments, (m, others, other): Moments) -> Moments {
    match (n, m) {
        (_, 0) => (n, squares, mean),
        (0, _) => (m, others, other),
        _ => {
            let (a, b) = (n as f64, m as f64);
            let distance = other - mean;
            (
                n + m,
                squares + others + distance * distance * a * b / (a + b),
                mean + distance * b / (a + b),
            )
        }
    }
}

fn moments_merged(parts: Vec<Moments>) -> Moments {
    parts.into_iter().fold((0, 0.0, 0.0), merged)
}

fn mean_of((n, _, mean): Moments) -> f64 {
    if n == 0 { f64::NAN } else { mean }
}

fn std_of((n, squares, _): Moments) -> f64 {
    (squares / n as f64).sqrt()
}

fn column_sums(chunk: &Array2<f64>, axis: u64) -> Array2<f64> {
    chunk.sum_axis(Axis(axis as usize)).insert_axis(Axis(0))
}

fn columns_added(parts: Vec<Array2<f64>>) -> Array1<f64> {
    let mut parts = parts.into_iter().map(|part| part.row(0).to_owned());
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |so_far, part| so_far + part)
}

/// Rows of the result: numbers, squares, means; a column for each line that is kept.
fn column_moments(chunk: &Array2<f64>, axis: u64) -> Array2<f64> {
    let lanes = chunk.lanes(Axis(axis as usize));
    let each: Vec<Moments> = lanes
        .into_iter()
        .map(|lane| moments::<Ix1>(&lane.to_owned()))
        .collect();
    as_rows(&each)
}

fn as_rows(each: &[Moments]) -> Array2<f64> {
    Array2::from_shape_fn((3, each.len()), |(row, at)| match row {
        0 => each[at].0 as f64,
        1 => each[at].1,
        _ => each[at].2,
    })
}

fn of_column(rows: &Array2<f64>, at: usize) -> Moments {
    (rows[(0, at)] as u64, rows[(1, at)], rows[(2, at)])
}

fn columns_merged(parts: Vec<Array2<f64>>) -> Array2<f64> {
    let n = parts.first().map_or(0, Array2::ncols);
    let each: Vec<Moments> = (0..n)
        .map(|at| {
            parts
                .iter()
                .map(|part| of_column(part, at))
                .fold((0, 0.0, 0.0), merged)
        })
        .collect();
    as_rows(&each)
}

fn column_means(rows: Array2<f64>) -> Array1<f64> {
    (0..rows.ncols())
        .map(|at| mean_of(of_column(&rows, at)))
        .collect()
}

fn column_stds(rows: Array2<f64>) -> Array1<f64> {
    (0..rows.ncols()).map(|at| std_of(of_column(&rows, at))).collect()
}

fn product(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    a.dot(b)
}

fn product_with_vector(a: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    a.dot(b)
}

pub(crate) fn added<D: Axes>(parts: Vec<Array<f64, D>>) -> Array<f64, D> {
    let mut parts = parts.into_iter();
    let first = parts
        .next()
        .unwrap_or_else(|| Array::zeros(D::of(&vec![0; D::N])));
    parts.fold(first, |so_far, part| so_far + part)
}
