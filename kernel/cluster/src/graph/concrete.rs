//! What the generated thunks of a notebook's functions are made of.
//!
//! A thunk knows each type as it is written. So the compiler can choose, by the number of references that a method call goes
//! through, how a value is read and given: by a codec that was registered, where some crate says so for its types; by serde;
//! or not at all, since the type cannot travel. Generic code cannot choose without compiling every way.

use std::{cell::Cell, marker::PhantomData};

use crate::{
    call::thunk::{Inputs, failed, run, unreadable},
    data::value::{Codec, Shared, Stored, TaskValue, codec},
    graph::task_fn::Fails,
    model::error::TaskError,
};

pub type TaskResult = std::result::Result<Stored, TaskError>;

/// An argument of this type.
pub struct Take<T>(PhantomData<fn() -> T>);

impl<T> Take<T> {
    #[expect(clippy::new_without_default, reason = "generated code calls it")]
    pub const fn new() -> Take<T> {
        Take(PhantomData)
    }
}

impl<T: Clone + Send + Sync + 'static> Take<T> {
    /// The next argument, by the codec of its type.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn own_with(&self, inputs: &mut Inputs<'_>, codec: &'static Codec<T>) -> Result<T, TaskError> {
        inputs.next_with(codec)
    }

    /// The next argument where it is, by the codec of its type.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn shared_with(
        &self,
        inputs: &mut Inputs<'_>,
        codec: &'static Codec<T>,
    ) -> Result<Shared<T>, TaskError> {
        inputs.next_shared_with(codec)
    }
}

pub trait TakeValue<T: 'static> {
    fn own(&self, inputs: &mut Inputs<'_>) -> Result<T, TaskError>;
    fn shared(&self, inputs: &mut Inputs<'_>) -> Result<Shared<T>, TaskError>;
}

impl<T: TaskValue + Clone> TakeValue<T> for &Take<T> {
    fn own(&self, inputs: &mut Inputs<'_>) -> Result<T, TaskError> {
        self.own_with(inputs, codec())
    }

    fn shared(&self, inputs: &mut Inputs<'_>) -> Result<Shared<T>, TaskError> {
        self.shared_with(inputs, codec())
    }
}

/// For types that cannot travel.
pub trait TakeNothing<T: 'static> {
    fn own(&self, inputs: &mut Inputs<'_>) -> Result<T, TaskError>;
    fn shared(&self, inputs: &mut Inputs<'_>) -> Result<Shared<T>, TaskError>;
}

impl<T: 'static> TakeNothing<T> for Take<T> {
    fn own(&self, _: &mut Inputs<'_>) -> Result<T, TaskError> {
        Err(cannot_travel::<T>())
    }

    fn shared(&self, _: &mut Inputs<'_>) -> Result<Shared<T>, TaskError> {
        Err(cannot_travel::<T>())
    }
}

fn cannot_travel<T>() -> TaskError {
    unreadable(format!(
        "a `{}` cannot travel",
        skep_render::short_type(std::any::type_name::<T>())
    ))
}

/// What a function returned.
pub struct Give<R>(Cell<Option<R>>);

impl<R> Give<R> {
    pub fn new(value: R) -> Give<R> {
        Give(Cell::new(Some(value)))
    }

    pub fn value(&self) -> R {
        self.0.take().expect("invariant: a thunk gives its value once")
    }
}

pub trait GiveValue {
    fn give(&self) -> TaskResult;
}

impl<R: TaskValue> GiveValue for &&Give<R> {
    fn give(&self) -> TaskResult {
        Ok(Stored::new(self.value()))
    }
}

pub trait GiveFallible<Kind> {
    fn give(&self) -> TaskResult;
}

impl<R: TaskValue, E: Fails<Kind>, Kind> GiveFallible<Kind> for &Give<Result<R, E>> {
    fn give(&self) -> TaskResult {
        self.value()
            .map(Stored::new)
            .map_err(|error| failed(error.text()))
    }
}

/// For types that cannot travel.
pub trait GiveNothing {
    fn give(&self) -> TaskResult;
}

impl<R> GiveNothing for Give<R> {
    fn give(&self) -> TaskResult {
        Err(cannot_travel::<R>())
    }
}

/// A value by the codec of its type.
pub fn given<R: Send + Sync + 'static>(value: R, codec: &'static Codec<R>) -> Stored {
    Stored::with(value, codec)
}

/// The value of a function that may fail, by the codec of its type.
///
/// # Errors
/// Those of the function.
pub fn given_or_failed<R: Send + Sync + 'static, E: Fails<Kind>, Kind>(
    value: Result<R, E>,
    codec: &'static Codec<R>,
) -> TaskResult {
    value
        .map(|value| Stored::with(value, codec))
        .map_err(|error| failed(error.text()))
}

/// The call itself; a panic is an error.
///
/// # Errors
/// When the function panics.
pub fn called<F, R>(_: F, call: impl FnOnce() -> R) -> Result<R, TaskError> {
    run::<F, R>(call)
}
