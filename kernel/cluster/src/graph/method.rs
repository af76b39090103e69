//! Functions that make actors, and methods of actors.

use std::{
    any::Any,
    io,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    call::thunk::{self, Inputs},
    data::{
        type_names::names_of_cells,
        value::{AnyValue, Stored, TaskValue},
    },
    graph::{
        node::Graph,
        task_fn::{IntoArg, takes},
    },
    model::{
        error::{Result, TaskError},
        task::Arg,
    },
};

/// The state of an actor on its worker.
struct State<S>(Mutex<S>);

impl<S: Send + 'static> State<S> {
    /// The state behind a value. A method of a later cell may know the type under another `TypeId`, by the
    /// same name.
    fn of(state: Arc<dyn AnyValue>) -> std::result::Result<Arc<State<S>>, TaskError> {
        let wanted = std::any::type_name::<S>();
        if (&*state as &dyn Any).is::<State<S>>() {
            return state.into_any().downcast().map_err(|_| another_type(wanted));
        }
        if state.type_name() != wanted || names_of_cells(wanted).next().is_none() {
            return Err(another_type(wanted));
        }
        // SAFETY: it is the state of an actor, which nothing but `State` is, of a type of this name. A handle
        // of an actor goes with its variable when the notebook defines the type anew, so whoever calls has
        // the layout that the actor was made with.
        Ok(unsafe { Arc::from_raw(Arc::into_raw(state).cast::<State<S>>()) })
    }
}

impl<S: Send + 'static> AnyValue for State<S> {
    fn write(&self, _: &mut dyn io::Write) -> std::result::Result<(), String> {
        Err("an actor stays on its worker: call its methods".into())
    }

    fn size(&self) -> u64 {
        size_of::<S>() as u64
    }

    fn inline(&self) -> Option<Vec<u8>> {
        None
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<S>()
    }

    fn is_movable(&self) -> bool {
        false
    }
}

/// A function that makes an actor's state of arguments `In`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make an actor of these arguments",
    note = "hint: pass the arguments as a tuple; argument types derive `Clone, Serialize, Deserialize`, the actor's own type is `Send`"
)]
pub trait NewActor<Kind, In>: Copy {
    type State: Send + 'static;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn args(input: In, graph: &mut Graph) -> Result<Vec<Arg>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn make(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError>;
}

/// A method of an actor `S`: a function that takes `&mut S` first, or `&S`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no method of this actor for these arguments",
    note = "hint: a method takes `&mut` the actor first, then values; `actor.call(Counter::add, 5)`, `actor.call(Counter::get, ())`"
)]
pub trait Method<S, Kind, In>: Copy {
    type Output;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn args(input: In, graph: &mut Graph) -> Result<Vec<Arg>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn call(inputs: &mut Inputs, state: Arc<dyn AnyValue>) -> std::result::Result<Vec<u8>, TaskError>;
}

/// Marks methods that take `&S`.
pub struct Shared<Kind>(PhantomData<Kind>);

macro_rules! actor_fn {
    ($input:ty; $($a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, S, $($a, $x),*> NewActor<($($a,)*), $input> for F
        where F: Fn($($a),*) -> S + Copy, S: Send + 'static, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type State = S;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn make(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
                let f = thunk::conjure::<F>();
                $(let $v = inputs.next::<$a>()?;)*
                thunk::run::<F, _>(move || f($($v),*)).map(|state| Stored::Typed(Arc::new(State(Mutex::new(state)))))
            }
        }
        actor_fn!(method [&mut S] [Exclusive] $input; $($a $x $v),*);
        actor_fn!(method [&S] [Shared] $input; $($a $x $v),*);
    };
    (method [$state:ty] [$mark:ident] $input:ty; $($a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, S, R, $($a, $x),*> Method<S, $mark<($($a,)*)>, $input> for F
        where F: Fn($state, $($a),*) -> R + Copy, S: Send + 'static, R: TaskValue, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type Output = R;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn call(inputs: &mut Inputs, state: Arc<dyn AnyValue>) -> std::result::Result<Vec<u8>, TaskError> {
                let f = thunk::conjure::<F>();
                $(let $v = inputs.next::<$a>()?;)*
                let state = State::<S>::of(state)?;
                // A method that panicked may have left anything behind; the next call sees it, as in any
                // other program.
                let result = thunk::run::<F, _>(move || f(&mut *state.0.lock().unwrap_or_else(PoisonError::into_inner), $($v),*))?;
                crate::data::value::encode(&result).map_err(thunk::unreadable)
            }
        }
    };
}

/// Marks methods that take `&mut S`.
pub struct Exclusive<Kind>(PhantomData<Kind>);

actor_fn!((););

actor_fn!(X1; A1 X1 a1);

actor_fn!((X1, X2); A1 X1 a1, A2 X2 a2);

actor_fn!((X1, X2, X3); A1 X1 a1, A2 X2 a2, A3 X3 a3);

fn another_type(wanted: &str) -> TaskError {
    thunk::unreadable(format!(
        "the actor is not a `{}`",
        skep_render::short_type(wanted)
    ))
}
