//! The tasks of blocked arrays, for each number of axes.
//!
//! Written out for both, so that their code is in the library, optimised: what is generic would be compiled again in every
//! cell that touches an array, and once more for the workers.

use ndarray::{Array, Array1, Array2, Ix1, Ix2};
use skep_cluster::Delayed;

use crate::{
    chunk::{self, Moments, Ranges},
    dims::Dims,
    piece::{Piece, with_piece},
};

#[doc(hidden)]
#[allow(private_interfaces)]
pub trait Axes: Dims {
    fn full(lengths: Vec<usize>, value: f64) -> Delayed<Array<f64, Self>>;
    fn random(
        starts: Vec<usize>,
        lengths: Vec<usize>,
        seed: u64,
        is_normal: bool,
    ) -> Delayed<Array<f64, Self>>;
    fn given(chunk: Array<f64, Self>) -> Delayed<Array<f64, Self>>;
    fn cut(chunk: &Piece<Array<f64, Self>>, ranges: Ranges) -> Delayed<Array<f64, Self>>;
    fn assembled(
        parts: Vec<Delayed<Array<f64, Self>>>,
        places: Vec<Ranges>,
        lengths: Vec<usize>,
    ) -> Delayed<Array<f64, Self>>;
    fn of_two(
        a: &Piece<Array<f64, Self>>,
        b: &Piece<Array<f64, Self>>,
        operator: u8,
    ) -> Delayed<Array<f64, Self>>;
    fn of_number(
        a: &Piece<Array<f64, Self>>,
        number: f64,
        operator: u8,
        is_left: bool,
    ) -> Delayed<Array<f64, Self>>;
    fn sum(chunk: &Piece<Array<f64, Self>>) -> Delayed<f64>;
    fn least(chunk: &Piece<Array<f64, Self>>) -> Delayed<f64>;
    fn greatest(chunk: &Piece<Array<f64, Self>>) -> Delayed<f64>;
    fn moments(chunk: &Piece<Array<f64, Self>>) -> Delayed<Moments>;
    fn added(parts: &[Delayed<Array<f64, Self>>]) -> Delayed<Array<f64, Self>>;
}

macro_rules! tasks {
    ($($axes:ty, $array:ty;)*) => { $(
        #[allow(private_interfaces)]
        impl Axes for $axes {
            fn full(lengths: Vec<usize>, value: f64) -> Delayed<$array> {
                Delayed::call(chunk::full::<$axes>, (lengths, value))
            }

            fn random(starts: Vec<usize>, lengths: Vec<usize>, seed: u64, is_normal: bool) -> Delayed<$array> {
                Delayed::call(chunk::random::<$axes>, (starts, lengths, seed, is_normal))
            }

            fn given(chunk: $array) -> Delayed<$array> {
                Delayed::call(chunk::given::<$axes>, chunk)
            }

            fn cut(chunk: &Piece<$array>, ranges: Ranges) -> Delayed<$array> {
                with_piece!(chunk, |chunk| Delayed::call(chunk::cut::<$axes>, (chunk, ranges)))
            }

            fn assembled(parts: Vec<Delayed<$array>>, places: Vec<Ranges>, lengths: Vec<usize>) -> Delayed<$array> {
                Delayed::call(chunk::assembled::<$axes>, (parts, places, lengths))
            }

            fn of_two(a: &Piece<$array>, b: &Piece<$array>, operator: u8) -> Delayed<$array> {
                with_piece!(a, |a| with_piece!(b, |b| Delayed::call(chunk::of_two::<$axes>, (a, b, operator))))
            }

            fn of_number(a: &Piece<$array>, number: f64, operator: u8, is_left: bool) -> Delayed<$array> {
                with_piece!(a, |a| Delayed::call(chunk::of_number::<$axes>, (a, number, operator, is_left)))
            }

            fn sum(chunk: &Piece<$array>) -> Delayed<f64> {
                with_piece!(chunk, |chunk| Delayed::call(chunk::sum::<$axes>, chunk))
            }

            fn least(chunk: &Piece<$array>) -> Delayed<f64> {
                with_piece!(chunk, |chunk| Delayed::call(chunk::least::<$axes>, chunk))
            }

            fn greatest(chunk: &Piece<$array>) -> Delayed<f64> {
                with_piece!(chunk, |chunk| Delayed::call(chunk::greatest::<$axes>, chunk))
            }

            fn moments(chunk: &Piece<$array>) -> Delayed<Moments> {
                with_piece!(chunk, |chunk| Delayed::call(chunk::moments::<$axes>, chunk))
            }

            fn added(parts: &[Delayed<$array>]) -> Delayed<$array> {
                Delayed::call(chunk::added::<$axes>, parts)
            }
        }
    )* };
}

tasks! {
    Ix1, Array1<f64>;
    Ix2, Array2<f64>;
}
