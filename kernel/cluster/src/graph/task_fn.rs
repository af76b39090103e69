//! Functions that workers can run: plain `fn` items and closures that capture nothing.

use crate::{
    call::{
        locate::{FnRef, checked},
        thunk::{Inputs, Thunk, conjure, failed, run},
    },
    data::value::{Stored, TaskValue, as_argument, encode},
    graph::node::Graph,
    model::{
        error::{Error, Result, TaskError},
        task::Arg,
    },
};

/// A value, or the handle of one, where a function takes an `A`.
#[diagnostic::on_unimplemented(
    message = "this task takes `{A}`, and is given `{Self}`",
    label = "its arguments are not these",
    note = "hint: one argument goes as it is, several as a tuple: `cluster.submit(add, (1, 2))`; numbers have the type that the function states: `3i64`, `n as i64`"
)]
pub trait IntoArg<A> {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg>;
}

impl<A: TaskValue> IntoArg<A> for A {
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
        graph.note_value::<A>();
        as_argument(|| encode(&self))
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

/// Marks arguments that a function takes as `&str`.
pub struct ByStr;

/// Marks arguments that a function takes as a slice of these.
pub struct BySlice<A>(std::marker::PhantomData<A>);

/// How one argument is written: its type, its mark in `Kind`, how it is got, how it is passed on.
macro_rules! argument {
    (type own $a:ident) => { $a };
    (type by_ref $a:ident) => { &$a };
    (type by_str $a:ident) => { &str };
    (type by_slice $a:ident) => { &[$a] };
    (mark own $a:ident) => { $a };
    (mark by_ref $a:ident) => { ByRef<$a> };
    (mark by_str $a:ident) => { ByStr };
    (mark by_slice $a:ident) => { BySlice<$a> };
    (value own $a:ident) => { $a };
    (value by_ref $a:ident) => { $a };
    (value by_str $a:ident) => { String };
    (value by_slice $a:ident) => { Vec<$a> };
    (get own $a:ident $inputs:ident) => { $inputs.next::<$a>()? };
    (get by_ref $a:ident $inputs:ident) => { $inputs.next_shared::<$a>()? };
    (get by_str $a:ident $inputs:ident) => { $inputs.next_shared::<String>()? };
    (get by_slice $a:ident $inputs:ident) => { $inputs.next_shared::<Vec<$a>>()? };
    (pass own $v:ident) => { $v };
    (pass by_ref $v:ident) => { &*$v };
    (pass by_str $v:ident) => { $v.as_str() };
    (pass by_slice $v:ident) => { $v.as_slice() };
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
    ([$($g:ident),*] $input:ty; $($mode:ident $a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, R, $($g),*> TaskFn<($(argument!(mark $mode $a),)*), $input> for F
        where F: Fn($(argument!(type $mode $a)),*) -> R + Copy, R: TaskValue, $(argument!(value $mode $a): TaskValue + Clone, $x: IntoArg<argument!(value $mode $a)>),*
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
        impl<F, R, E, K, $($g),*> TaskFn<Fallible<($(argument!(mark $mode $a),)*), K>, $input> for F
        where F: Fn($(argument!(type $mode $a)),*) -> std::result::Result<R, E> + Copy, R: TaskValue, E: Fails<K>, $(argument!(value $mode $a): TaskValue + Clone, $x: IntoArg<argument!(value $mode $a)>),*
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

task_fn!([] (););
task_fn!([A1, X1] X1; own A1 X1 a1);
task_fn!([A1, X1] X1; by_ref A1 X1 a1);
task_fn!([X1] X1; by_str A1 X1 a1);
task_fn!([A1, X1] X1; by_slice A1 X1 a1);
task_fn!([A1, X1, A2, X2] (X1, X2); own A1 X1 a1, own A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); own A1 X1 a1, by_ref A2 X2 a2);
task_fn!([A1, X1, X2] (X1, X2); own A1 X1 a1, by_str A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); own A1 X1 a1, by_slice A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); by_ref A1 X1 a1, own A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); by_ref A1 X1 a1, by_ref A2 X2 a2);
task_fn!([A1, X1, X2] (X1, X2); by_ref A1 X1 a1, by_str A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); by_ref A1 X1 a1, by_slice A2 X2 a2);
task_fn!([X1, A2, X2] (X1, X2); by_str A1 X1 a1, own A2 X2 a2);
task_fn!([X1, A2, X2] (X1, X2); by_str A1 X1 a1, by_ref A2 X2 a2);
task_fn!([X1, X2] (X1, X2); by_str A1 X1 a1, by_str A2 X2 a2);
task_fn!([X1, A2, X2] (X1, X2); by_str A1 X1 a1, by_slice A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); by_slice A1 X1 a1, own A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); by_slice A1 X1 a1, by_ref A2 X2 a2);
task_fn!([A1, X1, X2] (X1, X2); by_slice A1 X1 a1, by_str A2 X2 a2);
task_fn!([A1, X1, A2, X2] (X1, X2); by_slice A1 X1 a1, by_slice A2 X2 a2);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); by_ref A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); by_ref A1 X1 a1, by_ref A2 X2 a2, own A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); by_ref A1 X1 a1, by_ref A2 X2 a2, by_ref A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); own A1 X1 a1, by_ref A2 X2 a2, own A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); own A1 X1 a1, own A2 X2 a2, by_ref A3 X3 a3);
task_fn!([X1, A2, X2, A3, X3] (X1, X2, X3); by_str A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!([X1, X2, A3, X3] (X1, X2, X3); by_str A1 X1 a1, by_str A2 X2 a2, own A3 X3 a3);
task_fn!([X1, X2, X3] (X1, X2, X3); by_str A1 X1 a1, by_str A2 X2 a2, by_str A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); by_slice A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); by_slice A1 X1 a1, by_slice A2 X2 a2, own A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3] (X1, X2, X3); by_slice A1 X1 a1, by_slice A2 X2 a2, by_slice A3 X3 a3);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4] (X1, X2, X3, X4); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5] (X1, X2, X3, X4, X5); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6] (X1, X2, X3, X4, X5, X6); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7] (X1, X2, X3, X4, X5, X6, X7); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8] (X1, X2, X3, X4, X5, X6, X7, X8); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9] (X1, X2, X3, X4, X5, X6, X7, X8, X9); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10, A11, X11] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10, own A11 X11 a11);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10, A11, X11, A12, X12] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10, own A11 X11 a11, own A12 X12 a12);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10, A11, X11, A12, X12, A13, X13] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10, own A11 X11 a11, own A12 X12 a12, own A13 X13 a13);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10, A11, X11, A12, X12, A13, X13, A14, X14] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10, own A11 X11 a11, own A12 X12 a12, own A13 X13 a13, own A14 X14 a14);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10, A11, X11, A12, X12, A13, X13, A14, X14, A15, X15] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10, own A11 X11 a11, own A12 X12 a12, own A13 X13 a13, own A14 X14 a14, own A15 X15 a15);
task_fn!([A1, X1, A2, X2, A3, X3, A4, X4, A5, X5, A6, X6, A7, X7, A8, X8, A9, X9, A10, X10, A11, X11, A12, X12, A13, X13, A14, X14, A15, X15, A16, X16] (X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15, X16); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5, own A6 X6 a6, own A7 X7 a7, own A8 X8 a8, own A9 X9 a9, own A10 X10 a10, own A11 X11 a11, own A12 X12 a12, own A13 X13 a13, own A14 X14 a14, own A15 X15 a15, own A16 X16 a16);

/// Error types whose `Err` fails the task, and whose `Ok` is the task's value by itself: those that could not be a value
/// of their own. The `Err` of a `Result<T, String>` fails the task too, but since both of its sides can travel, the
/// value stays a `Result`.
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
