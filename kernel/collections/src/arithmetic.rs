//! Operators between blocked arrays, and between those and numbers.

use std::{ops, sync::Arc};

use ndarray::{Ix1, Ix2};
use skep_cluster::{Delayed, Result};

use crate::{
    axes::Axes,
    blocked::{Blocked, Grid, wrong},
    chunk::{ADD, DIV, MUL, SUB, of_rows},
    dims::by_lengths,
    piece::{Piece, with_piece},
};

fn both<D: Axes>(a: &Blocked<D>, b: &Blocked<D>, operator: u8) -> Blocked<D> {
    let build = || -> Result<Grid<D>> {
        let (left, right) = (a.grid()?, b.grid()?);
        if left.shape() != right.shape() {
            return Err(wrong(
                format!(
                    "an array of {} does not go with one of {}",
                    by_lengths(&left.shape()),
                    by_lengths(&right.shape())
                ),
                "both have the same shape, or the right one is a vector as long as the left one's rows",
            ));
        }
        let right = right.in_chunks_of(&left.chunks);
        let each = left.pieces.iter().zip(&right.pieces);
        let pieces = each
            .map(|(a, b)| Piece::Call(D::of_two(a, b, operator)))
            .collect();
        Ok(Grid {
            chunks: left.chunks.clone(),
            pieces,
        })
    };
    Blocked {
        inner: build().map(Arc::new),
    }
}

fn rows(a: &Blocked<Ix2>, row: &Blocked<Ix1>, operator: u8) -> Blocked<Ix2> {
    let build = || -> Result<Grid<Ix2>> {
        let (left, right) = (a.grid()?, row.grid()?);
        if left.shape()[1] != right.shape()[0] {
            return Err(wrong(
                format!(
                    "rows of {} do not go with a vector of {}",
                    left.shape()[1],
                    right.shape()[0]
                ),
                "the vector is as long as the matrix has columns",
            ));
        }
        let right = right.in_chunks_of(&left.chunks[1..]);
        let n_columns = left.chunks[1].len();
        let each = left.pieces.iter().enumerate();
        let pieces = each
            .map(|(at, a)| {
                Piece::Call(with_piece!(a, |a| with_piece!(
                    &right.pieces[at % n_columns],
                    |row| { Delayed::call(of_rows, (a, row, operator)) }
                )))
            })
            .collect();
        Ok(Grid {
            chunks: left.chunks.clone(),
            pieces,
        })
    };
    Blocked {
        inner: build().map(Arc::new),
    }
}

fn number<D: Axes>(a: &Blocked<D>, number: f64, operator: u8, is_left: bool) -> Blocked<D> {
    a.each(|piece| D::of_number(piece, number, operator, is_left))
}

macro_rules! operators {
    ($($trait:ident $method:ident $operator:ident)*) => { $(
        operators!(both $trait $method $operator [Blocked<D>] [Blocked<D>]);
        operators!(both $trait $method $operator [&Blocked<D>] [Blocked<D>]);
        operators!(both $trait $method $operator [Blocked<D>] [&Blocked<D>]);
        operators!(both $trait $method $operator [&Blocked<D>] [&Blocked<D>]);
        operators!(rows $trait $method $operator [Blocked<Ix2>] [Blocked<Ix1>]);
        operators!(rows $trait $method $operator [&Blocked<Ix2>] [Blocked<Ix1>]);
        operators!(rows $trait $method $operator [Blocked<Ix2>] [&Blocked<Ix1>]);
        operators!(rows $trait $method $operator [&Blocked<Ix2>] [&Blocked<Ix1>]);
        operators!(number $trait $method $operator [Blocked<D>]);
        operators!(number $trait $method $operator [&Blocked<D>]);
    )* };
    (both $trait:ident $method:ident $operator:ident [$left:ty] [$right:ty]) => {
        impl<D: Axes> ops::$trait<$right> for $left {
            type Output = Blocked<D>;
            fn $method(self, other: $right) -> Blocked<D> {
                both(&self, &other, $operator)
            }
        }
    };
    (rows $trait:ident $method:ident $operator:ident [$left:ty] [$right:ty]) => {
        impl ops::$trait<$right> for $left {
            type Output = Blocked<Ix2>;
            fn $method(self, row: $right) -> Blocked<Ix2> {
                rows(&self, &row, $operator)
            }
        }
    };
    (number $trait:ident $method:ident $operator:ident [$array:ty]) => {
        impl<D: Axes> ops::$trait<f64> for $array {
            type Output = Blocked<D>;
            fn $method(self, other: f64) -> Blocked<D> {
                number(&self, other, $operator, false)
            }
        }
        impl<D: Axes> ops::$trait<$array> for f64 {
            type Output = Blocked<D>;
            fn $method(self, other: $array) -> Blocked<D> {
                number(&other, self, $operator, true)
            }
        }
    };
}

operators!(Add add ADD Sub sub SUB Mul mul MUL Div div DIV);

impl<D: Axes> ops::Neg for &Blocked<D> {
    type Output = Blocked<D>;
    fn neg(self) -> Blocked<D> {
        number(self, -1.0, MUL, false)
    }
}

impl<D: Axes> ops::Neg for Blocked<D> {
    type Output = Blocked<D>;
    fn neg(self) -> Blocked<D> {
        -&self
    }
}
