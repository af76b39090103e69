//! What sees all chunks: sums and their like, by axis or of everything, and products.

use std::sync::Arc;

use ndarray::{Array, Array1, Array2, Ix1, Ix2};
use skep_cluster::{Delayed, Result};

use crate::{
    axes::Axes,
    blocked::{Blocked, Grid, wrong},
    chunk::{
        Moments, column_means, column_moments, column_stds, column_sums, columns_added, columns_merged,
        greatest_of_all, least_of_all, mean_of, moments_merged, product, product_with_vector, std_of,
        sum_of_all,
    },
    dims::by_lengths,
    piece::{Piece, tree, with_piece},
};

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
