//! Functions that workers can run: plain `fn` items and closures that capture nothing.

use crate::{
    call::{
        locate::{FnRef, checked},
        thunk::{Inputs, Thunk, conjure, failed, run},
    },
    data::value::{Stored, TaskValue, encode},
    graph::node::Graph,
    model::{
        error::{Error, Result, TaskError},
        task::Arg,
    },
};

/// A value, or the handle of one, where a function takes an `A`.
pub trait IntoArg<A> {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg>;
}

impl<A: TaskValue> IntoArg<A> for A {
    #[allow(private_interfaces)]
    fn into_arg(self, _: &mut Graph) -> Result<Arg> {
        encode(&self)
            .map(|bytes| Arg::Value(bytes.into()))
            .map_err(Error::serialisation)
    }
}

impl IntoArg<String> for &str {
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
        self.to_string().into_arg(graph)
    }
}

/// The handle of a value is an argument wherever the value is one, and so is a list of them.
macro_rules! handles {
    ($handle:ident) => {
        impl<A> IntoArg<A> for &$handle<A> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.add_to(graph)
            }
        }
        impl<A> IntoArg<A> for $handle<A> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.add_to(graph)
            }
        }
        impl<A> IntoArg<Vec<A>> for &[$handle<A>] {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.iter()
                    .map(|handle| handle.add_to(graph))
                    .collect::<Result<_>>()
                    .map(Arg::List)
            }
        }
        impl<A> IntoArg<Vec<A>> for &Vec<$handle<A>> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                IntoArg::<Vec<A>>::into_arg(self.as_slice(), graph)
            }
        }
        impl<A> IntoArg<Vec<A>> for Vec<$handle<A>> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                IntoArg::<Vec<A>>::into_arg(self.as_slice(), graph)
            }
        }
    };
}
pub(crate) use handles;

/// A function that workers can run on inputs `In`: its arguments as a tuple (one argument stands alone), each
/// a value or a handle. `Kind` only tells the numbers of arguments apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run as a task with these arguments",
    note = "hint: pass the arguments as a tuple of values or handles; argument and result types derive `Clone, Serialize, Deserialize`; closures state their argument types"
)]
pub trait TaskFn<Kind, In>: Copy {
    type Output;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn args(input: In, graph: &mut Graph) -> Result<Vec<Arg>>;
    /// What a worker calls: a function of its own, not a closure, so that every build has it under the same
    /// symbol.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn call(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError>;
}

/// Marks functions whose `Err` fails the task.
pub struct Fallible<Kind, Error>(std::marker::PhantomData<(Kind, Error)>);

/// Marks arguments that a function takes by reference: they are not copied, however many tasks use them.
pub struct ByRef<A>(std::marker::PhantomData<A>);

/// How one argument is written: its type, its mark in `Kind`, how it is got, how it is passed on.
macro_rules! argument {
    (type own $a:ident) => { $a };
    (type by_ref $a:ident) => { &$a };
    (mark own $a:ident) => { $a };
    (mark by_ref $a:ident) => { ByRef<$a> };
    (get own $a:ident $inputs:ident) => { $inputs.next::<$a>()? };
    (get by_ref $a:ident $inputs:ident) => { $inputs.next_shared::<$a>()? };
    (pass own $v:ident) => { $v };
    (pass by_ref $v:ident) => { &*$v };
}

/// How a call's arguments are taken apart: a tuple, or one that stands alone.
macro_rules! takes {
    ($input:ty; $($v:ident),*) => {
        #[allow(private_interfaces, unused_variables)]
        fn args(input: $input, graph: &mut Graph) -> Result<Vec<Arg>> {
            #[allow(unused_parens)]
            let ($($v),*) = input;
            Ok(vec![$($v.into_arg(graph)?),*])
        }
    };
}
pub(crate) use takes;

macro_rules! task_fn {
    ($input:ty; $($mode:ident $a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, R, $($a, $x),*> TaskFn<($(argument!(mark $mode $a),)*), $input> for F
        where F: Fn($(argument!(type $mode $a)),*) -> R + Copy, R: TaskValue, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type Output = R;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn call(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
                let f = conjure::<F>();
                $(let $v = argument!(get $mode $a inputs);)*
                run::<F, _>(move || f($(argument!(pass $mode $v)),*)).map(Stored::new)
            }
        }

        #[allow(unused_parens)]
        impl<F, R, E, K, $($a, $x),*> TaskFn<Fallible<($(argument!(mark $mode $a),)*), K>, $input> for F
        where F: Fn($(argument!(type $mode $a)),*) -> std::result::Result<R, E> + Copy, R: TaskValue, E: Fails<K>, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type Output = R;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn call(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
                let f = conjure::<F>();
                $(let $v = argument!(get $mode $a inputs);)*
                match run::<F, _>(move || f($(argument!(pass $mode $v)),*))? {
                    Ok(value) => Ok(Stored::new(value)),
                    Err(error) => Err(failed(error.text())),
                }
            }
        }
    };
}

task_fn!((););
task_fn!(X1; own A1 X1 a1);
task_fn!(X1; by_ref A1 X1 a1);
task_fn!((X1, X2); own A1 X1 a1, own A2 X2 a2);
task_fn!((X1, X2); by_ref A1 X1 a1, own A2 X2 a2);
task_fn!((X1, X2); own A1 X1 a1, by_ref A2 X2 a2);
task_fn!((X1, X2); by_ref A1 X1 a1, by_ref A2 X2 a2);
task_fn!((X1, X2, X3); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!((X1, X2, X3); by_ref A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!((X1, X2, X3); by_ref A1 X1 a1, by_ref A2 X2 a2, own A3 X3 a3);
task_fn!((X1, X2, X3); by_ref A1 X1 a1, by_ref A2 X2 a2, by_ref A3 X3 a3);
task_fn!((X1, X2, X3, X4); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4);
task_fn!((X1, X2, X3, X4, X5); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5);

/// Error types whose `Err` fails the task: those that could not be a value of their own. A `Result<T,
/// String>` is a value, since both of its sides can travel.
pub trait Fails<Kind> {
    fn text(&self) -> String;
}

/// Tells error types from boxes of them, for [`Fails`].
pub struct Boxed;

impl<E: std::error::Error> Fails<()> for E {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Fails<Boxed> for Box<dyn std::error::Error> {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Fails<Boxed> for Box<dyn std::error::Error + Send + Sync> {
    fn text(&self) -> String {
        self.to_string()
    }
}

pub(crate) fn fn_ref<F: TaskFn<Kind, In>, Kind, In>() -> FnRef {
    let thunk: Thunk = <F as TaskFn<Kind, In>>::call;
    checked::<F>(thunk as usize, "task")
}
