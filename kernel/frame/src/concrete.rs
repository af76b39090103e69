//! Frames in the generated thunks of a notebook's functions: by their codec, without serde; see
//! [`skep_cluster::concrete`].

use polars::prelude::DataFrame;
use skep_cluster::{
    Codec, Inputs, Shared, TaskError,
    concrete::{Give, Take, TaskResult, given, given_or_failed},
    registered,
};

/// Types whose codec is registered.
pub trait Coded: Clone + Send + Sync + 'static {}

impl Coded for DataFrame {}

impl Coded for Vec<DataFrame> {}

fn codec<T: Coded>() -> &'static Codec<T> {
    registered().expect("invariant: every process that takes part has called `init`")
}

pub trait TakeFrame<T: 'static> {
    fn own(&self, inputs: &mut Inputs<'_>) -> Result<T, TaskError>;
    fn shared(&self, inputs: &mut Inputs<'_>) -> Result<Shared<T>, TaskError>;
}

impl<T: Coded> TakeFrame<T> for &&Take<T> {
    fn own(&self, inputs: &mut Inputs<'_>) -> Result<T, TaskError> {
        self.own_with(inputs, codec())
    }

    fn shared(&self, inputs: &mut Inputs<'_>) -> Result<Shared<T>, TaskError> {
        self.shared_with(inputs, codec())
    }
}

pub trait GiveFrame {
    fn give(&self) -> TaskResult;
}

impl<R: Coded> GiveFrame for &&&Give<R> {
    fn give(&self) -> TaskResult {
        Ok(given(self.value(), codec()))
    }
}

pub trait GiveFrameOrFail<Kind> {
    fn give(&self) -> TaskResult;
}

impl<R: Coded, E: skep_cluster::Fails<Kind>, Kind> GiveFrameOrFail<Kind> for &&&Give<Result<R, E>> {
    fn give(&self) -> TaskResult {
        given_or_failed(self.value(), codec())
    }
}
