//! One piece of a collection, and trees over pieces.

use skep_cluster::{Cluster, Delayed, Remote, TaskValue};

/// A call that has not run, or its result on the cluster.
pub(crate) enum Piece<T> {
    Call(Delayed<T>),
    Held(Remote<T>),
}

impl<T> Clone for Piece<T> {
    fn clone(&self) -> Self {
        match self {
            Piece::Call(call) => Piece::Call(call.clone()),
            Piece::Held(remote) => Piece::Held(remote.clone()),
        }
    }
}

/// Does the same with a piece in both of its forms, which are arguments of tasks alike.
macro_rules! with_piece {
    ($piece:expr, |$name:ident| $body:expr) => {
        match $piece {
            $crate::piece::Piece::Call($name) => $body,
            $crate::piece::Piece::Held($name) => $body,
        }
    };
}
pub(crate) use with_piece;

fn same<T>(value: T) -> T {
    value
}

impl<T: TaskValue + Clone> Piece<T> {
    /// As a call: for lists of arguments, which are all of one form.
    pub fn to_call(&self) -> Delayed<T> {
        match self {
            Piece::Call(call) => call.clone(),
            Piece::Held(remote) => Delayed::call(same::<T>, remote),
        }
    }
}

/// Submits all pieces as one graph.
pub(crate) fn submit<T: TaskValue>(
    cluster: &Cluster,
    pieces: &[Piece<T>],
) -> skep_cluster::Result<Vec<Remote<T>>> {
    let calls: Vec<Delayed<T>> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Call(call) => Some(call.clone()),
            Piece::Held(_) => None,
        })
        .collect();
    let mut computed = cluster.compute_all(&calls)?.into_iter();
    Ok(pieces
        .iter()
        .map(|piece| match piece {
            Piece::Call(_) => computed.next().expect("invariant: one for each call"),
            Piece::Held(remote) => remote.clone(),
        })
        .collect())
}

/// So many values are merged by one task.
const FAN_IN: usize = 16;

/// Merges many values into one, level by level.
pub(crate) fn tree<T>(mut parts: Vec<Delayed<T>>, merge: impl Fn(&[Delayed<T>]) -> Delayed<T>) -> Delayed<T> {
    loop {
        parts = parts.chunks(FAN_IN).map(&merge).collect();
        if parts.len() <= 1 {
            return parts.pop().unwrap_or_else(|| merge(&[]));
        }
    }
}
