//! What a blocked array asks of its dimensions, and how its chunks travel.

use std::io::Write;

use ndarray::{Array, Array1, Array2, Dimension, Ix1, Ix2};
use serde::{Serialize, de::DeserializeOwned};
use skep_cluster::{Bytes, Codec, register_codec, register_list};

/// One axis or two: vectors and matrices.
pub trait Dims: Dimension + Serialize + DeserializeOwned + 'static {
    #[doc(hidden)]
    const N: usize;
    #[doc(hidden)]
    fn of(lengths: &[usize]) -> Self;
    #[doc(hidden)]
    fn from_pattern(place: Self::Pattern) -> Self;
    #[doc(hidden)]
    const NAME: &'static str;
}

impl Dims for Ix1 {
    const N: usize = 1;
    const NAME: &'static str = "vector";
    fn of(lengths: &[usize]) -> Ix1 {
        ndarray::Dim([lengths[0]])
    }
    fn from_pattern(place: usize) -> Ix1 {
        ndarray::Dim([place])
    }
}

impl Dims for Ix2 {
    const N: usize = 2;
    const NAME: &'static str = "matrix";
    fn of(lengths: &[usize]) -> Ix2 {
        ndarray::Dim([lengths[0], lengths[1]])
    }
    fn from_pattern((row, column): (usize, usize)) -> Ix2 {
        ndarray::Dim([row, column])
    }
}

/// Lengths and places as they are written: a number for a vector, a pair for a matrix.
pub trait Lengths<D>: Copy {
    #[doc(hidden)]
    fn lengths(self) -> Vec<usize>;
    #[doc(hidden)]
    fn place(starts: &[usize], inside: D) -> Self;
}

impl Lengths<Ix1> for usize {
    fn lengths(self) -> Vec<usize> {
        vec![self]
    }
    fn place(starts: &[usize], inside: Ix1) -> usize {
        starts[0] + inside[0]
    }
}

impl Lengths<Ix2> for (usize, usize) {
    fn lengths(self) -> Vec<usize> {
        vec![self.0, self.1]
    }
    fn place(starts: &[usize], inside: Ix2) -> (usize, usize) {
        (starts[0] + inside[0], starts[1] + inside[1])
    }
}

/// Arrays go as their lengths and their numbers in order, as these are in memory.
pub(crate) fn register() {
    register_codec(codec::<Ix1>());
    register_codec(codec::<Ix2>());
    register_list::<Array1<f64>>();
    register_list::<Array2<f64>>();
}

fn codec<D: Dims>() -> Codec<Array<f64, D>> {
    Codec {
        write: |array, out| write(array, out).map_err(|error| error.to_string()),
        read: read::<D>,
        size: |array| (size_of::<Array<f64, D>>() + array.len() * size_of::<f64>()) as u64,
        rows: None,
    }
}

fn write<D: Dims>(array: &Array<f64, D>, out: &mut dyn Write) -> std::io::Result<()> {
    for length in array.shape() {
        out.write_all(&(*length as u64).to_le_bytes())?;
    }
    /// Numbers that are turned into bytes at a time.
    const AT_ONCE: usize = 1 << 17;
    let standard = array.as_standard_layout();
    let numbers = standard
        .as_slice()
        .expect("invariant: the standard layout is one slice");
    let mut buffer = vec![0; numbers.len().min(AT_ONCE) * size_of::<f64>()];
    for some in numbers.chunks(AT_ONCE) {
        let bytes = &mut buffer[..size_of_val(some)];
        let each = bytes.chunks_exact_mut(size_of::<f64>()).zip(some);
        each.for_each(|(bytes, number)| bytes.copy_from_slice(&number.to_le_bytes()));
        out.write_all(bytes)?;
    }
    Ok(())
}

fn read<D: Dims>(bytes: &Bytes) -> Result<Array<f64, D>, String> {
    let (numbers, rest) = bytes.as_slice().as_chunks::<8>();
    let (lengths, numbers) = numbers.split_at_checked(D::N).ok_or("these bytes are no array")?;
    let lengths: Vec<usize> = lengths
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes) as usize)
        .collect();
    if !rest.is_empty() {
        return Err("these bytes are no whole number of `f64`".into());
    }
    let numbers = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    Array::from_shape_vec(D::of(&lengths), numbers).map_err(|error| error.to_string())
}

pub(crate) fn by_lengths(lengths: &[usize]) -> String {
    let each: Vec<String> = lengths.iter().map(|n| skep_render::count(*n as u64)).collect();
    each.join(" × ")
}

#[test]
fn arrays_go_there_and_back() {
    let there_and_back = |array: Array2<f64>| {
        let mut bytes = Vec::new();
        write(&array, &mut bytes).unwrap();
        assert_eq!(read::<Ix2>(&bytes.into()).unwrap(), array);
    };
    let array = Array2::from_shape_fn((3, 4), |(i, j)| (10 * i + j) as f64);
    there_and_back(array.clone());
    there_and_back(array.reversed_axes());
    there_and_back(Array2::zeros((0, 5)));
    assert!(read::<Ix2>(&vec![1, 2, 3].into()).is_err());
}
