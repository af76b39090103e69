//! What every cell has in scope, and how the types of the crates in scope are written.

use skep_cell::{KnownNames, Phrase};
use skep_cluster::{
    Cluster, Delayed, Remote, Reply,
    chaos::Chaos,
    coordination::{Barrier, Event, Lock, Permit, Queue, Semaphore, Subscriber, Topic, Variable},
};
use skep_eval::Control;

/// In front of every cell, on its first line.
pub const PRELUDE: &str = "use ::skep::prelude::*;";

/// Frames, which this process does not link.
pub(crate) const FRAME: &str = "skep_frame::frame::Frame";

/// Where each type is defined, as `type_name` prints it, and where a cell finds it.
const TYPES: &[(&str, &str)] = &[
    (
        "polars_core::frame::dataframe::DataFrame",
        "::skep::polars::prelude::DataFrame",
    ),
    (
        "polars_core::frame::column::Column",
        "::skep::polars::prelude::Column",
    ),
    (
        "polars_core::chunked_array::ChunkedArray",
        "::skep::polars::prelude::ChunkedArray",
    ),
    (
        "polars_core::datatypes::BooleanType",
        "::skep::polars::prelude::BooleanType",
    ),
    ("polars_core::series::Series", "::skep::polars::prelude::Series"),
    (
        "polars_core::datatypes::dtype::DataType",
        "::skep::polars::prelude::DataType",
    ),
    (FRAME, "::skep::Frame"),
    (
        "polars_lazy::frame::LazyFrame",
        "::skep::polars::prelude::LazyFrame",
    ),
    ("polars_plan::dsl::expr::Expr", "::skep::polars::prelude::Expr"),
    ("core::cell::once::OnceCell", "::std::cell::OnceCell"),
    ("core::sync::atomic::AtomicI32", "::std::sync::atomic::AtomicI32"),
    ("core::sync::atomic::AtomicI64", "::std::sync::atomic::AtomicI64"),
    ("core::sync::atomic::AtomicU32", "::std::sync::atomic::AtomicU32"),
    ("core::sync::atomic::AtomicU64", "::std::sync::atomic::AtomicU64"),
    (
        "core::sync::atomic::AtomicUsize",
        "::std::sync::atomic::AtomicUsize",
    ),
    ("std::sync::mpsc::Receiver", "::std::sync::mpsc::Receiver"),
    ("std::sync::mpsc::Sender", "::std::sync::mpsc::Sender"),
    ("std::sync::once_lock::OnceLock", "::std::sync::OnceLock"),
    ("std::sync::poison::rwlock::RwLock", "::std::sync::RwLock"),
    (
        "std::thread::join_handle::JoinHandle",
        "::std::thread::JoinHandle",
    ),
    ("serde_json::value::Value", "::skep::serde_json::Value"),
];

/// Polars' own way to say an as-of join.
const fn as_of(says: &'static str) -> Phrase {
    Phrase {
        says,
        message: "as-of joins are a method of their own here",
        hint: "`trades.join_asof(&quotes, AsOf::on(\"time\").by([\"ticker\"]).within(\"2s\"))`; `forward()` and `nearest()` look the other way",
    }
}

/// Rust's comparisons between columns, of which there are none.
const fn compared(says: &'static str) -> Phrase {
    Phrase {
        says,
        message: "columns are compared by methods",
        hint: "`.gt(100)`, `.gt_eq(…)`, `.lt(…)`, `.lt_eq(…)`, `.eq(…)`, `.neq(…)`; text is `lit(\"…\")`",
    }
}

/// Rust's `&&`, `||` and `!` between conditions on columns.
const fn joined(says: &'static str) -> Phrase {
    Phrase {
        says,
        message: "conditions on columns are joined by methods",
        hint: "`.and(…)`, `.or(…)` and `.not()`: `col(\"a\").gt(1).and(col(\"b\").lt(2))`",
    }
}

/// A function whose error is one library's, in which another one's is met.
const fn other_error(says: &'static str, message: &'static str) -> Phrase {
    Phrase {
        says,
        message,
        hint: "a function that returns `Result<…, Box<dyn std::error::Error>>` takes every error; or `.map_err(|error| error.to_string())?` for a `skep::Error`",
    }
}

/// What goes wrong with tasks and frames, in words about these.
const PHRASES: &[Phrase] = &[
    compared("`Expr` does not implement `Partial"),
    compared("expected `Expr`, found `bool`"),
    joined("expected `bool`, found `Expr`"),
    joined("cannot apply unary operator `!` to type `Expr`"),
    Phrase {
        says: "expected `Expr`, found integer",
        message: "a number that meets a column is a literal",
        hint: "`lit(2)`: `col(\"a\") % lit(2)`; columns are compared by methods, `col(\"a\").eq(lit(2))`",
    },
    Phrase {
        says: "no method named `gather` found for struct `Delayed<",
        message: "a delayed value has not run: there is nothing to gather yet",
        hint: "`.compute()?` runs its graph and brings the result here; `.persist()?` leaves it on the cluster, as a handle",
    },
    Phrase {
        says: "no method named `gather` found for struct `Vec<Remote<",
        message: "many handles are gathered by their cluster",
        hint: "`cluster.gather(handles)?`",
    },
    Phrase {
        says: "no method named `compute` found for struct `Remote<",
        message: "the task of a handle runs already",
        hint: "`.gather()?` waits for its value and brings it here",
    },
    Phrase {
        says: "no method named `result` found for struct `Remote<",
        message: "the value of a handle is gathered",
        hint: "`.gather()?` waits for it and brings it here",
    },
    Phrase {
        says: "no method named `get` found for struct `Remote<",
        message: "the value of a handle is gathered",
        hint: "`.gather()?` waits for it and brings it here",
    },
    Phrase {
        says: "no method named `exception` found for struct `Remote<",
        message: "the error of a task comes from `gather`",
        hint: "`handle.gather().unwrap_err()`; `handle.replay()?` runs the task again, here",
    },
    Phrase {
        says: "the `?` operator cannot be applied to type `Remote<",
        message: "the value of a handle is gathered",
        hint: "`.gather()?` waits for it and brings it here",
    },
    Phrase {
        says: "the `?` operator cannot be applied to type `Vec<Remote<",
        message: "many handles are gathered by their cluster",
        hint: "`cluster.gather(handles)?`",
    },
    Phrase {
        says: " to `Control<",
        message: "a control is not its value",
        hint: "`.value()` is what it is set to",
    },
    Phrase {
        says: "a function sent to workers must not capture anything",
        message: "a function sent to workers must not capture anything, nor be a `fn` pointer",
        hint: "pass the values as arguments: `cluster.map(|(x, k): (i64, i64)| x * k, …)`; name the function itself rather than a variable that holds it",
    },
    Phrase {
        says: "Copy` is not satisfied in `{closure@",
        message: "this closure captures what cannot be copied",
        hint: "a function sent to workers captures nothing: pass the values as arguments: `cluster.map(|(x, name): (i64, String)| …, …)`",
    },
    Phrase {
        says: "TaskFn<_, ",
        message: "it is not clear what this task takes",
        hint: "text for a `&str` goes as a `String`: `\"…\".to_string()`; a closure states the types of its arguments",
    },
    Phrase {
        says: "the trait `Serialize` is not implemented for `Remote<_>`",
        message: "it is not clear what this task takes",
        hint: "a closure states the types of its arguments: `|x: i64| …`",
    },
    Phrase {
        says: "no method named `collect` found for enum `Result<DataFrame",
        message: "this is a table already, when `?` has taken it: there is nothing to collect",
        hint: "`.head(5)?` is the first rows as a table; `.limit(5)` is a step of a query, which `.collect()?` ends",
    },
    Phrase {
        says: "the trait `AsRef<[Expr]>` is not implemented for",
        message: "this takes a list of expressions",
        hint: "`[col(\"a\"), col(\"b\")]`; one alone stands in brackets too",
    },
    Phrase {
        says: ": IntoVec<PlSmallStr>` is not satisfied",
        message: "this takes a list of names",
        hint: "`[\"a\", \"b\"]`; one alone stands in brackets too",
    },
    Phrase {
        says: "no method named `shape` found for struct `skep::Frame`",
        message: "a frame has a length, which is counted, and a schema",
        hint: "`.len()?` counts rows; `.schema()?` is its columns and their types",
    },
    Phrase {
        says: "no method named `columns` found for struct `skep::Frame`",
        message: "the columns of a frame are in its schema",
        hint: "`.schema()?` is its columns and their types",
    },
    Phrase {
        says: "no method named `dtypes` found for struct `skep::Frame`",
        message: "the types of a frame are in its schema",
        hint: "`.schema()?` is its columns and their types",
    },
    Phrase {
        says: "no method named `compute` found for struct `skep::Frame`",
        message: "a frame is collected",
        hint: "`.collect()?` runs its query and brings a table here; `.persist()?` leaves it on the cluster",
    },
    other_error(
        "couldn't convert the error to `skep::Error`",
        "`?` cannot make a `skep::Error` of this one",
    ),
    other_error(
        "couldn't convert the error to `PolarsError`",
        "`?` cannot make a `PolarsError` of this one",
    ),
    as_of("named `AsOf` found for enum"),
    as_of("`AsofStrategy`"),
    as_of("`AsOfOptions`"),
    Phrase {
        says: "implementation of `Deserialize` is not general enough",
        message: "a task cannot take or give references",
        hint: "arguments may be `&T`, `&str` and `&[T]` as they are, but no references within them, and results own what they hold: `String`, `Vec<T>`",
    },
    Phrase {
        says: "implementation of `serde::Deserialize` is not general enough",
        message: "a task cannot take or give references",
        hint: "arguments may be `&T`, `&str` and `&[T]` as they are, but no references within them, and results own what they hold: `String`, `Vec<T>`",
    },
];

/// Where a name may be that a cell misses, best first.
const MODULES: &[&str] = &[
    "skep::polars::prelude",
    "skep::polars::sql",
    "skep",
    "skep::plotters::prelude",
    "skep::serde",
    "skep::serde_json",
    "skep::tokio",
    "skep::tokio::sync",
    "skep::tokio::time",
];

/// A type's path without its parameters, as `type_name` prints it.
pub(crate) fn path_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.split('<').next().unwrap_or(name)
}

/// Whether a type's name, as `type_name` prints it, is that of a `T`, whatever its parameters.
pub(crate) fn is_a<T>(type_name: &str) -> bool {
    type_name.split('<').next() == Some(path_of::<T>())
}

/// Where each type is defined, as `type_name` prints it, and where a cell finds it.
pub fn named_types() -> Vec<(&'static str, &'static str)> {
    let own = [
        (path_of::<Cluster>(), "::skep::Cluster"),
        (path_of::<Remote<()>>(), "::skep::Remote"),
        (path_of::<Delayed<()>>(), "::skep::Delayed"),
        (path_of::<Reply<()>>(), "::skep::Reply"),
        (path_of::<Control<()>>(), "::skep::Control"),
        (path_of::<Chaos>(), "::skep::chaos::Chaos"),
        (path_of::<Lock>(), "::skep::coordination::Lock"),
        (path_of::<Semaphore>(), "::skep::coordination::Semaphore"),
        (path_of::<Permit>(), "::skep::coordination::Permit"),
        (path_of::<Event>(), "::skep::coordination::Event"),
        (path_of::<Barrier>(), "::skep::coordination::Barrier"),
        (path_of::<Queue<()>>(), "::skep::coordination::Queue"),
        (path_of::<Variable<()>>(), "::skep::coordination::Variable"),
        (path_of::<Topic<()>>(), "::skep::coordination::Topic"),
        (path_of::<Subscriber<()>>(), "::skep::coordination::Subscriber"),
    ];
    TYPES.iter().copied().chain(own).collect()
}

pub fn known_names() -> KnownNames {
    KnownNames::new(&named_types())
        .with_handles(&[path_of::<Cluster>()])
        .with_phrases(PHRASES)
        .with_modules(MODULES)
}

#[test]
fn types_are_told_by_name() {
    assert!(
        is_a::<Remote<()>>(std::any::type_name::<Remote<Vec<i64>>>())
            && !is_a::<Remote<()>>(std::any::type_name::<Vec<Remote<i64>>>())
    );
}
