//! Skep, as a cell sees it: partitioned frames, a cluster, and the means to show them.
//!
//! In a notebook everything here is in scope already. In a Cargo project it is an ordinary library:
//! `use skep::prelude::*;` and paste the cell into `main`.
//!
//! The crate is built as one dynamic library, so that every cell shares one copy of Polars, of the variables and of the
//! connection to the cluster. It holds no logic of its own.

pub use plotters;
pub use serde;
pub use serde_json;
pub use skep_cluster::{Actor, Cluster, Delayed, Error, Remote, progress};
pub use skep_course as course;
pub use skep_eval::{Bundle, Rich, interrupted as cancelled};
pub use skep_frame::{Frame, Table, polars, sql};
pub use tokio;

mod entry;

/// What the generated code of a cell calls.
#[doc(hidden)]
pub mod cell {
    pub use skep_eval::{
        cell::{Error, Show, TypeSlot, bench, block_on, infer, keeps_old, never, poll, put, restore, run, take},
        wire::Outcome,
    };

    /// The ways to show a tail expression, richest first by the number of references they take.
    pub mod shows {
        pub use skep_eval::show::{ShowDebug as _, ShowNothing as _, ShowRich as _};
        pub use skep_frame::ShowFrame as _;
    }
}

/// `delayed!(f(a, b))`: the call as a node of a graph. Arguments are values, handles, or delayed calls.
#[macro_export]
macro_rules! delayed {
    ($f:ident ( $($arg:expr),* $(,)? )) => { $crate::Delayed::call($f, ($($arg),*)) };
    ($f:path => $($arg:expr),*) => { $crate::Delayed::call($f, ($($arg),*)) };
    ($($path:ident)::+ ( $($arg:expr),* $(,)? )) => { $crate::Delayed::call($($path)::+, ($($arg),*)) };
}

/// `compute!(a, b)?`: several delayed results at once, with the work that they share done once. Gives a tuple.
#[macro_export]
macro_rules! compute {
    ($($delayed:expr),+ $(,)?) => {
        $crate::Cluster::current().and_then(|cluster| cluster.compute_roots(::std::vec![$(($delayed).root()),+])).and_then(|computed| {
            let mut computed = computed.into_iter();
            Ok(($({ computed.next().expect("invariant: one for each").typed(&$delayed).gather()? },)+))
        })
    };
}

/// Everything that a cell has in scope without imports.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{compute, delayed};
    pub use serde::{Deserialize, Serialize};
    pub use skep_cluster::{Actor, Cluster, Delayed, Remote, progress};
    pub use skep_course as course;
    pub use skep_eval::{Bundle, Rich, clear_output, display, input, interrupted as cancelled, password, sleep};
    pub use skep_frame::Frame;
    pub use skep_frame::polars::{
        self, df,
        prelude::{
            AnyValue, BooleanChunked, Column, DataFrame, DataType, Expr, Field, IntoLazy, LazyFrame, NamedFrom, PolarsError, PolarsResult, Schema, Series,
            SortMultipleOptions, TimeUnit, col, lit, when,
        },
    };
}
