//! Functions that can be flows: their parameters and their results, of any number and kind.

use std::{marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use skep_cluster::{Fails, TaskValue};

/// What a parameter of a flow can be: anything that serde can turn into bytes and back, and that can be cloned.
pub trait Parameter: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Parameter for T {}

/// A value where a flow takes an `A`.
#[diagnostic::on_unimplemented(
    message = "this flow takes `{A}`, and is given `{Self}`",
    label = "its parameters are not these",
    note = "hint: no parameter is `()`, one goes as it is, several as a tuple: `flow.run((1, 2))`"
)]
pub trait IntoParameter<A> {
    #[doc(hidden)]
    fn into_parameter(self) -> A;
}

impl<A: Parameter> IntoParameter<A> for A {
    fn into_parameter(self) -> A {
        self
    }
}

impl IntoParameter<String> for &str {
    fn into_parameter(self) -> String {
        self.to_string()
    }
}

/// What a flow is run with, for one whose parameters are `Args`: a tuple; one stands alone.
#[diagnostic::on_unimplemented(
    message = "this flow's parameters are `{Args}`, and it is given `{Self}`",
    label = "its parameters are not these",
    note = "hint: no parameter is `()`, one goes as it is, several as a tuple: `flow.run((1, 2))`"
)]
pub trait IntoArgs<Args> {
    #[doc(hidden)]
    fn into_args(self) -> Args;
}

/// Marks flows whose `Err` is their failure.
pub struct Fallible<K>(PhantomData<K>);

/// Marks flows that return their value as it is.
pub struct Plain;

/// What the function of a flow returns: a value, or a `Result` whose error says why it failed.
pub trait FlowResult<Kind> {
    type Value;
    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Value, String>;
}

impl<T: TaskValue> FlowResult<Plain> for T {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        Ok(self)
    }
}

impl<T: TaskValue, E: Fails<K>, K> FlowResult<Fallible<K>> for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.map_err(|error| error.text())
    }
}

/// A flow's function, without its type.
pub type Body<Args, Out> = Arc<dyn Fn(Args) -> Result<Out, String> + Send + Sync>;

/// A function that can be a flow: see [`Flow`](crate::Flow).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a flow",
    note = "hint: parameters and the result derive `Clone, Serialize, Deserialize`; an error is one of the standard library's kind; closures state their parameters' types"
)]
pub trait FlowFn<Kind> {
    type Args: Parameter;
    type Out: TaskValue;
    #[doc(hidden)]
    fn into_body(self) -> Body<Self::Args, Self::Out>;
}

macro_rules! flow_fn {
    ($input:ty; $($a:ident $x:ident $v:ident),*) => {
        impl<F, R, K, $($a),*> FlowFn<(K, R, ($($a,)*))> for F
        where
            F: Fn($($a),*) -> R + Send + Sync + 'static,
            R: FlowResult<K>,
            R::Value: TaskValue,
            $($a: Parameter,)*
        {
            type Args = ($($a,)*);
            type Out = R::Value;

            fn into_body(self) -> Body<Self::Args, Self::Out> {
                Arc::new(move |($($v,)*)| self($($v),*).into_result())
            }
        }

        #[allow(unused_parens)]
        impl<$($a, $x: IntoParameter<$a>),*> IntoArgs<($($a,)*)> for $input {
            #[allow(clippy::unused_unit)]
            fn into_args(self) -> ($($a,)*) {
                #[allow(unused_parens)]
                let ($($v),*) = self;
                ($($v.into_parameter(),)*)
            }
        }
    };
}

flow_fn!((););
flow_fn!(X1; A1 X1 a1);
flow_fn!((X1, X2); A1 X1 a1, A2 X2 a2);
flow_fn!((X1, X2, X3); A1 X1 a1, A2 X2 a2, A3 X3 a3);
flow_fn!((X1, X2, X3, X4); A1 X1 a1, A2 X2 a2, A3 X3 a3, A4 X4 a4);
flow_fn!((X1, X2, X3, X4, X5); A1 X1 a1, A2 X2 a2, A3 X3 a3, A4 X4 a4, A5 X5 a5);
flow_fn!((X1, X2, X3, X4, X5, X6); A1 X1 a1, A2 X2 a2, A3 X3 a3, A4 X4 a4, A5 X5 a5, A6 X6 a6);
