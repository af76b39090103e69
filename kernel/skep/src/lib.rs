//! Skep, as a cell sees it: partitioned frames, a cluster, and the means to show them.
//!
//! In a notebook everything here is in scope already. In a Cargo project it is an ordinary library:
//! `use skep::prelude::*;` and paste the cell into `main`.
//!
//! The crate is built as one dynamic library, so that every cell shares one copy of Polars, of the variables
//! and of the connection to the cluster. It holds no logic of its own, but the
//! checks of the course's exercises, which look at everything.
//!
//! Without its feature `frames` there is no Polars in it: what a first start opens with, while Polars compiles.

pub use plotters;
pub use rusqlite;
pub use serde;
pub use serde_json;
pub use skep_cluster::{
    Actor, ActorPool, AsCompleted, Cluster, Delayed, Error, Forecast, Logs, Nested, Part, Performance,
    Remote, Reply, WhatIf, chaos, coordination, progress,
};
pub use skep_collections::{Bag, Blocked, Dot, ndarray};
pub use skep_eval::{Bundle, Control, Rich, interrupted as cancelled};
pub use skep_flow as flow;
pub use skep_flow::{Flow, Run, Task, TaskRun};
#[cfg(feature = "frames")]
pub use skep_frame::{AsOf, Frame, JoinAsof, Table, Tolerance, polars, sql};
pub use tokio;

/// What every engine must do, for tests that run it in cells.
#[doc(hidden)]
pub use skep_cluster::conformance;

pub mod course;
mod entry;
#[doc(hidden)]
pub mod instances;

/// What the generated code of a cell calls.
#[doc(hidden)]
pub mod cell {
    pub use skep_eval::{
        cell::{
            DebugError, Error, Local, Probe, Show, TypeSlot, bench, block_on, discard, enter_runtime, infer,
            keeps_old, never, of_main, poll, put, restore, run, take,
        },
        wire::Outcome,
    };

    pub use skep_cluster::{
        Inputs,
        concrete::{Give, Take, TaskResult, called},
        set_tasks, set_versions,
    };

    /// The ways in which a function's arguments are read and its result is given, best first by the number of references
    /// they take.
    pub mod thunks {
        pub use skep_cluster::concrete::{
            GiveFallible as _, GiveNothing as _, GiveValue as _, TakeNothing as _, TakeValue as _,
        };
        #[cfg(feature = "frames")]
        pub use skep_frame::concrete::{GiveFrame as _, GiveFrameOrFail as _, TakeFrame as _};
    }

    pub use skep_eval::look::{Look, row, show_rows};

    /// The ways to look at a variable, best first by the number of references they take.
    pub mod looks {
        pub use skep_eval::look::{
            HeapOfList as _, HeapUnknown as _, LookDebug as _, LookDisplay as _, LookList as _,
            LookNothing as _, LookRich as _,
        };
        #[cfg(feature = "frames")]
        pub use skep_frame::{HeapOfFrame as _, HeapOfSerde as _, LookFrame as _};
    }

    /// The ways to show a tail expression, richest first by the number of references they take.
    pub mod shows {
        pub use skep_eval::{
            cell::{IsNotSend as _, IsSend as _},
            show::{
                ShowDebug as _, ShowDisplay as _, ShowFuture as _, ShowNothing as _, ShowRich as _,
                ShowStd as _,
            },
        };
        #[cfg(feature = "frames")]
        pub use skep_frame::ShowFrame as _;
    }
}

/// `delayed!(add(inc(1), inc(x) * 2))`: an expression as a graph that has not run. Each function call and
/// each operator between delayed values is a task; arguments are plain values, handles, or delayed values.
///
/// ```no_run
/// use skep::prelude::*;
/// fn inc(x: i64) -> i64 { x + 1 }
/// fn add(a: i64, b: i64) -> i64 { a + b }
/// let shared = delayed!(inc(1));
/// let total = delayed!(add(inc(2), &shared) + shared * 10);
/// assert_eq!(total.n_tasks(), 5);
/// ```
///
/// Method calls and macros are made at once, as part of plain arguments.
#[macro_export]
macro_rules! delayed {
    ($($expression:tt)+) => { $crate::__delayed!([] $($expression)+) };
}

/// Takes an expression token by token: `[what is done] what is to do`. Of a path followed by arguments it
/// makes a call.
#[doc(hidden)]
#[macro_export]
macro_rules! __delayed {
    ([$($out:tt)*]) => { $($out)* };
    // A method call belongs to the plain value before it.
    ([$($out:tt)*] . $name:ident $args:tt $($rest:tt)*) => { $crate::__delayed!([$($out)* . $name $args] $($rest)*) };
    ([$($out:tt)*] $name:ident $($rest:tt)*) => { $crate::__delayed!(@path [$($out)*] [$name] $($rest)*) };
    ([$($out:tt)*] () $($rest:tt)*) => { $crate::__delayed!([$($out)* ()] $($rest)*) };
    ([$($out:tt)*] ( $($inner:tt)* ) $($rest:tt)*) => { $crate::__delayed!(@args [$($out)*] [] [] [] [$($inner)*] $($rest)*) };
    ([$($out:tt)*] $token:tt $($rest:tt)*) => { $crate::__delayed!([$($out)* $token] $($rest)*) };

    (@path [$($out:tt)*] [$($path:tt)+] :: $name:ident $($rest:tt)*) => { $crate::__delayed!(@path [$($out)*] [$($path)+ :: $name] $($rest)*) };
    (@path [$($out:tt)*] [$($path:tt)+] :: < $($type:ty),+ > $($rest:tt)*) => {
        $crate::__delayed!(@path [$($out)*] [$($path)+ :: < $($type),+ >] $($rest)*)
    };
    (@path [$($out:tt)*] [$($path:tt)+] ! $args:tt $($rest:tt)*) => { $crate::__delayed!([$($out)* $($path)+ ! $args] $($rest)*) };
    (@path [$($out:tt)*] [$($path:tt)+] ( $($args:tt)* ) $($rest:tt)*) => {
        $crate::__delayed!(@args [$($out)*] [$($path)+] [] [] [$($args)*] $($rest)*)
    };
    (@path [$($out:tt)*] [$($path:tt)+] $($rest:tt)*) => { $crate::__delayed!([$($out)* $($path)+] $($rest)*) };

    // Arguments: of what, those that are done, the tokens of the next, the rest.
    (@args [$($out:tt)*] [] [$($done:tt)*] [$($next:tt)*] [] $($rest:tt)*) => {
        $crate::__delayed!([$($out)* ($($done)* $crate::__delayed!([] $($next)*))] $($rest)*)
    };
    (@args [$($out:tt)*] [$($path:tt)+] [$($done:tt)*] [] [] $($rest:tt)*) => {
        $crate::__delayed!([$($out)* $crate::Delayed::call($($path)+, ($($done)*))] $($rest)*)
    };
    (@args [$($out:tt)*] [$($path:tt)+] [] [$($next:tt)+] [] $($rest:tt)*) => {
        $crate::__delayed!([$($out)* $crate::Delayed::call($($path)+, $crate::__delayed!([] $($next)+))] $($rest)*)
    };
    (@args [$($out:tt)*] [$($path:tt)+] [$($done:tt)+] [$($next:tt)+] [] $($rest:tt)*) => {
        $crate::__delayed!([$($out)* $crate::Delayed::call($($path)+, ($($done)+ $crate::__delayed!([] $($next)+)))] $($rest)*)
    };
    // A comma at the end, after one argument: no tuple of one.
    (@args $out:tt $path:tt [] [$($next:tt)+] [,] $($rest:tt)*) => { $crate::__delayed!(@args $out $path [] [$($next)+] [] $($rest)*) };
    (@args $out:tt $path:tt [$($done:tt)*] [$($next:tt)+] [, $($more:tt)*] $($rest:tt)*) => {
        $crate::__delayed!(@args $out $path [$($done)* $crate::__delayed!([] $($next)+),] [] [$($more)*] $($rest)*)
    };
    (@args $out:tt $path:tt $done:tt [$($next:tt)*] [$token:tt $($more:tt)*] $($rest:tt)*) => {
        $crate::__delayed!(@args $out $path $done [$($next)* $token] [$($more)*] $($rest)*)
    };
}

/// `compute!(a, b)?`: several delayed results at once, with the work that they share done once. Gives a
/// tuple.
#[macro_export]
macro_rules! compute {
    ($($delayed:expr),+ $(,)?) => {
        $crate::Cluster::current().and_then(|cluster| cluster.compute_roots(::std::vec![$(($delayed).root()),+])).and_then(|computed| {
            let mut computed = computed.into_iter();
            Ok(($({ computed.next().expect("invariant: one for each").typed(&$delayed).gather()? },)+))
        })
    };
}

/// `skep::show!(total)`: what a notebook shows below a cell that ends so, of any type. The value is looked at, and stays. Outside a
/// notebook its text is printed.
///
/// ```no_run
/// #[derive(Debug)]
/// struct Flower { petals: u32 }
/// skep::show!(Flower { petals: 5 });
/// ```
#[macro_export]
macro_rules! show {
    ($value:expr) => {{
        #[allow(unused_imports)]
        use $crate::cell::shows::*;
        (&&&&&&&$crate::cell::Show(&$value)).__skep_show();
    }};
}

/// Everything that a cell has in scope without imports.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::course;
    pub use crate::{compute, delayed};
    pub use serde::{Deserialize, Serialize};
    pub use skep_cluster::coordination::{Barrier, Event, Lock, Queue, Semaphore, Topic, Variable};
    pub use skep_cluster::{Actor, Cluster, Delayed, Remote, progress};
    pub use skep_collections::{Bag, Blocked, Dot as _, ndarray};
    pub use skep_dask::OnDask as _;
    pub use skep_eval::{
        Bundle, Rich, clear_output, display, input, interrupted as cancelled, password, sleep,
    };
    pub use skep_eval::{button, checkbox, interact, number, select, slider, text};
    pub use skep_flow::{Chain as _, Flow, Group as _, Reprocess, TaskRun, task};
    // All of Polars' own; the names above and below, and those that a cell defines, go before it.
    #[cfg(feature = "frames")]
    pub use skep_frame::polars::{self, df, prelude::*};
    #[cfg(feature = "frames")]
    pub use skep_frame::{AsOf, Frame, JoinAsof as _, Plottable as _, ToFrame as _};
    pub use skep_render::media::{Html, Image, Markdown, Svg};
}
