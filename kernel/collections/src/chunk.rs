//! What is done with the chunks of blocked arrays: functions that run as tasks.

use std::ops::Range;

use ndarray::{Array, Array1, Array2, Axis, Ix1, Ix2, Slice};
use skep_cluster::function_of;

use crate::dims::{Dims, Lengths, by_lengths};

/// Ranges of one chunk, by axis: start and end.
pub(crate) type Ranges = Vec<(usize, usize)>;

/// Number, sum of the distances from the mean squared, and mean, of many numbers; two of them merge into one exactly as well
/// as if all numbers had been there (Chan, Golub and LeVeque, 1983).
pub(crate) type Moments = (u64, f64, f64);

pub(crate) fn full<D: Dims>(lengths: Vec<usize>, value: f64) -> Array<f64, D> {
    Array::from_elem(D::of(&lengths), value)
}

/// A generator of its own for each chunk, from the seed and where the chunk begins.
pub(crate) fn random<D: Dims>(
    starts: Vec<usize>,
    lengths: Vec<usize>,
    seed: u64,
    is_normal: bool,
) -> Array<f64, D> {
    let place = starts.iter().fold(seed, |hash, at| {
        (hash ^ *at as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    });
    let mut rng = fastrand::Rng::with_seed(place);
    let mut next = || {
        if is_normal {
            // Box and Muller's way, of which one of the two numbers is used.
            (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
        } else {
            rng.f64()
        }
    };
    Array::from_shape_simple_fn(D::of(&lengths), &mut next)
}

pub(crate) fn given<D: Dims>(chunk: Array<f64, D>) -> Array<f64, D> {
    chunk
}

pub(crate) fn mapped<F: Fn(f64) -> f64 + Copy, D: Dims>(chunk: Array<f64, D>) -> Array<f64, D> {
    chunk.mapv_into(function::<F>())
}

pub(crate) fn blocks_mapped<F: Fn(Array<f64, D>) -> Array<f64, D> + Copy, D: Dims>(
    chunk: Array<f64, D>,
) -> std::result::Result<Array<f64, D>, Box<dyn std::error::Error>> {
    let before = chunk.shape().to_vec();
    let after = function::<F>()(chunk);
    if after.shape() == before {
        Ok(after)
    } else {
        Err(format!(
            "the function gave a chunk of {} for one of {}: a chunk keeps its shape",
            by_lengths(after.shape()),
            by_lengths(&before)
        )
        .into())
    }
}

pub(crate) fn made<F: Fn(L) -> f64 + Copy, L: Lengths<D>, D: Dims>(
    starts: Vec<usize>,
    lengths: Vec<usize>,
) -> Array<f64, D> {
    let f = function::<F>();
    Array::from_shape_fn(D::of(&lengths), |inside| {
        f(L::place(&starts, D::from_pattern(inside)))
    })
}

pub(crate) fn transposed(chunk: &Array<f64, Ix2>) -> Array<f64, Ix2> {
    chunk.t().as_standard_layout().into_owned()
}

pub(crate) fn cut_out<D: Dims>(chunk: &Array<f64, D>, ranges: &[Range<usize>]) -> Array<f64, D> {
    chunk
        .slice_each_axis(|axis| Slice::from(ranges[axis.axis.index()].clone()))
        .as_standard_layout()
        .into_owned()
}

pub(crate) fn cut<D: Dims>(chunk: &Array<f64, D>, ranges: Ranges) -> Array<f64, D> {
    let ranges: Vec<Range<usize>> = ranges.into_iter().map(|(start, end)| start..end).collect();
    cut_out(chunk, &ranges)
}

pub(crate) fn assembled<D: Dims>(
    parts: Vec<Array<f64, D>>,
    places: Vec<Ranges>,
    lengths: Vec<usize>,
) -> std::result::Result<Array<f64, D>, Box<dyn std::error::Error>> {
    let places: Vec<Vec<Range<usize>>> = places
        .into_iter()
        .map(|place| place.into_iter().map(|(start, end)| start..end).collect())
        .collect();
    put_together(parts, &places, &lengths).map_err(Into::into)
}

pub(crate) fn put_together<D: Dims>(
    parts: Vec<Array<f64, D>>,
    places: &[Vec<Range<usize>>],
    lengths: &[usize],
) -> std::result::Result<Array<f64, D>, String> {
    let mut whole = Array::zeros(D::of(lengths));
    for (part, place) in parts.into_iter().zip(places) {
        let mut target = whole.slice_each_axis_mut(|axis| Slice::from(place[axis.axis.index()].clone()));
        if target.shape() != part.shape() {
            return Err(format!(
                "a chunk is {}, where {} is expected",
                by_lengths(part.shape()),
                by_lengths(target.shape())
            ));
        }
        target.assign(&part);
    }
    Ok(whole)
}

pub(crate) fn function<F: Copy>() -> F {
    // SAFETY: only called in functions above, which are generic over the type of a function that a method was given; so
    // one exists.
    unsafe { function_of::<F>() }
}

// Operators.

/// Which operator a task does.
pub(crate) const ADD: u8 = 0;
pub(crate) const SUB: u8 = 1;
pub(crate) const MUL: u8 = 2;
pub(crate) const DIV: u8 = 3;

pub(crate) fn of_two<D: Dims>(a: Array<f64, D>, b: &Array<f64, D>, operator: u8) -> Array<f64, D> {
    match operator {
        ADD => a + b,
        SUB => a - b,
        MUL => a * b,
        _ => a / b,
    }
}

/// A vector beside a matrix stands for each of its rows.
pub(crate) fn of_rows(a: Array<f64, Ix2>, row: &Array<f64, Ix1>, operator: u8) -> Array<f64, Ix2> {
    match operator {
        ADD => a + row,
        SUB => a - row,
        MUL => a * row,
        _ => a / row,
    }
}

pub(crate) fn of_number<D: Dims>(
    a: Array<f64, D>,
    number: f64,
    operator: u8,
    is_left: bool,
) -> Array<f64, D> {
    match (operator, is_left) {
        (ADD, _) => a + number,
        (SUB, false) => a - number,
        (SUB, true) => number - a,
        (MUL, _) => a * number,
        (_, false) => a / number,
        (_, true) => number / a,
    }
}

// Reductions.

pub(crate) fn sum<D: Dims>(chunk: &Array<f64, D>) -> f64 {
    chunk.sum()
}

pub(crate) fn sum_of_all(parts: Vec<f64>) -> f64 {
    parts.iter().sum()
}

pub(crate) fn least<D: Dims>(chunk: &Array<f64, D>) -> f64 {
    chunk.iter().copied().fold(f64::NAN, f64::min)
}

pub(crate) fn least_of_all(parts: Vec<f64>) -> f64 {
    parts.into_iter().fold(f64::NAN, f64::min)
}

pub(crate) fn greatest<D: Dims>(chunk: &Array<f64, D>) -> f64 {
    chunk.iter().copied().fold(f64::NAN, f64::max)
}

pub(crate) fn greatest_of_all(parts: Vec<f64>) -> f64 {
    parts.into_iter().fold(f64::NAN, f64::max)
}

pub(crate) fn moments<D: Dims>(chunk: &Array<f64, D>) -> Moments {
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

pub(crate) fn moments_merged(parts: Vec<Moments>) -> Moments {
    parts.into_iter().fold((0, 0.0, 0.0), merged)
}

pub(crate) fn mean_of((n, _, mean): Moments) -> f64 {
    if n == 0 { f64::NAN } else { mean }
}

pub(crate) fn std_of((n, squares, _): Moments) -> f64 {
    (squares / n as f64).sqrt()
}

pub(crate) fn column_sums(chunk: &Array2<f64>, axis: u64) -> Array2<f64> {
    chunk.sum_axis(Axis(axis as usize)).insert_axis(Axis(0))
}

pub(crate) fn columns_added(parts: Vec<Array2<f64>>) -> Array1<f64> {
    let mut parts = parts.into_iter().map(|part| part.row(0).to_owned());
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |so_far, part| so_far + part)
}

/// Rows of the result: numbers, squares, means; a column for each line that is kept.
pub(crate) fn column_moments(chunk: &Array2<f64>, axis: u64) -> Array2<f64> {
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

pub(crate) fn columns_merged(parts: Vec<Array2<f64>>) -> Array2<f64> {
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

pub(crate) fn column_means(rows: Array2<f64>) -> Array1<f64> {
    (0..rows.ncols())
        .map(|at| mean_of(of_column(&rows, at)))
        .collect()
}

pub(crate) fn column_stds(rows: Array2<f64>) -> Array1<f64> {
    (0..rows.ncols()).map(|at| std_of(of_column(&rows, at))).collect()
}

pub(crate) fn product(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    a.dot(b)
}

pub(crate) fn product_with_vector(a: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    a.dot(b)
}

pub(crate) fn added<D: Dims>(parts: Vec<Array<f64, D>>) -> Array<f64, D> {
    let mut parts = parts.into_iter();
    let first = parts
        .next()
        .unwrap_or_else(|| Array::zeros(D::of(&vec![0; D::N])));
    parts.fold(first, |so_far, part| so_far + part)
}
