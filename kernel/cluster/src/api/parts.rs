//! Tasks with several outputs: a list whose items are addressed, moved and kept by themselves.

use std::{marker::PhantomData, sync::Arc};

use crate::{
    api::{cluster::Cluster, remote::Handle},
    call::{
        locate::{FnRef, checked},
        thunk::{Inputs, Thunk, unreadable},
    },
    data::{
        segment::Bytes,
        value::{self, Stored, TaskValue},
    },
    graph::{
        node::{Graph, Node},
        task_fn::{IntoArg, TaskFn, handles},
    },
    model::{
        error::{Error, Result, TaskError},
        ids::Key,
        task::{Arg, Output},
    },
};

/// One item of a list that a task returns, or will return: an argument wherever the item is one.
///
/// Only the items that are needed move, each by itself: so a table is cut into pieces by one task for each of its
/// partitions, and put together anew by one task for each piece. The list is freed with its last part.
///
/// ```no_run
/// # use skep_cluster::Cluster;
/// fn halves(text: String) -> Vec<String> {
///     let (a, b) = text.split_at(text.len() / 2);
///     vec![a.to_string(), b.to_string()]
/// }
/// # fn main() -> skep_cluster::Result<()> {
/// # let cluster = Cluster::local().start()?;
/// let parts = cluster.submit_parts(halves, "abcd", 2);
/// assert_eq!(parts[1].gather()?, "cd");
/// let n = cluster.submit(|text: String| text.len(), &parts[0]);
/// # Ok(())
/// # }
/// ```
pub struct Part<T> {
    whole: Whole,
    part: u32,
    of: u32,
    value: PhantomData<fn() -> T>,
}

/// The list.
#[derive(Clone)]
enum Whole {
    Submitted(Handle),
    Delayed(Result<Arc<Node>>),
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Part {
            whole: self.whole.clone(),
            ..*self
        }
    }
}

impl Cluster {
    /// Calls a function that returns a list of `n` items, and gives a handle of each of them.
    ///
    /// Everything else is as with [`Cluster::submit`]. An item beyond those that the function returns fails who needs
    /// it.
    pub fn submit_parts<F, Kind, In, T>(&self, f: F, args: In, n: usize) -> Vec<Part<T>>
    where
        F: TaskFn<Kind, In, Output = Vec<T>>,
        T: TaskValue + Clone,
    {
        let _ = f;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        let whole = self.call(parts_ref::<F, Kind, In, T>(), args, graph);
        parts_of(Whole::Submitted(whole), n)
    }
}

impl<T: TaskValue + Clone> Part<T> {
    /// The items of a list that a call returns which has not run: as [`Cluster::submit_parts`], within graphs.
    pub fn delayed<F, Kind, In>(f: F, args: In, n: usize) -> Vec<Part<T>>
    where
        F: TaskFn<Kind, In, Output = Vec<T>>,
    {
        let _ = f;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        let node = graph.call(parts_ref::<F, Kind, In, T>(), args, false);
        parts_of(Whole::Delayed(node), n)
    }

    /// Waits for the item and brings it here, without the others.
    ///
    /// # Errors
    /// As [`Remote::gather`](crate::Remote::gather); also when the list is shorter, and when it was not submitted and
    /// there is no cluster.
    pub fn gather(&self) -> Result<T> {
        let (key, bytes) = self.whole.fetch(self.part)?;
        value::decode(&bytes).map_err(|error| Error::decode(key, &error))
    }
}

impl<T> Part<T> {
    /// Which item it is, counted from 0.
    pub fn index(&self) -> usize {
        self.part as usize
    }

    /// Of the call that makes the list; `None` if it was refused.
    pub fn key(&self) -> Option<crate::Key> {
        match &self.whole {
            Whole::Delayed(node) => node.as_ref().ok().map(|node| node.key()),
            Whole::Submitted(handle) => handle.held().ok().map(|held| held.key),
        }
    }

    /// The call that makes the list carries this word, as [`Delayed::tag`](crate::Delayed::tag) says. One that was submitted
    /// stays as it is.
    pub fn set_tag(&self, tag: impl Into<String>) {
        if let Whole::Delayed(Ok(node)) = &self.whole {
            node.set_tag(tag.into());
        }
    }

    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        Ok(Arg::Part {
            task: self.whole.add_to(graph)?,
            part: self.part,
            of: self.of,
        })
    }
}

impl<T> std::fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = skep_render::short_type(std::any::type_name::<T>());
        write!(f, "Part<{name}>({} of {})", self.part, self.of)
    }
}

fn parts_of<T>(whole: Whole, n: usize) -> Vec<Part<T>> {
    let of = u32::try_from(n).unwrap_or(u32::MAX);
    let mut parts = Vec::with_capacity(n);
    for part in 0..of {
        parts.push(Part {
            whole: whole.clone(),
            part,
            of,
            value: PhantomData,
        });
    }
    parts
}

impl Whole {
    #[inline(never)]
    fn add_to(&self, graph: &mut Graph) -> Result<Key> {
        match self {
            Whole::Submitted(handle) => {
                handle.add_to(graph)?;
                Ok(handle.held()?.key)
            }
            Whole::Delayed(node) => {
                let node = node.clone()?;
                let key = node.key();
                graph.need(node);
                Ok(key)
            }
        }
    }

    #[inline(never)]
    fn fetch(&self, part: u32) -> Result<(Key, Bytes)> {
        let handle = match self {
            Whole::Submitted(handle) => handle.clone(),
            Whole::Delayed(node) => {
                let node = node.clone()?;
                Cluster::current()?.submit_node(&node, Graph::of(vec![node.clone()]))
            }
        };
        let held = handle.held()?;
        let output = Output {
            task: held.key,
            part: Some(part),
        };
        Ok((held.key, held.client.fetch(output)?))
    }
}

/// What a worker calls: as the function's own, but its list is taken apart.
#[inline(never)]
fn call_in_parts<F, Kind, In, T>(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError>
where
    F: TaskFn<Kind, In, Output = Vec<T>>,
    T: TaskValue + Clone,
{
    F::call(inputs)?
        .take::<Vec<T>>()
        .map(Stored::parts)
        .map_err(unreadable)
}

fn parts_ref<F, Kind, In, T>() -> FnRef
where
    F: TaskFn<Kind, In, Output = Vec<T>>,
    T: TaskValue + Clone,
{
    let thunk: Thunk = call_in_parts::<F, Kind, In, T>;
    checked::<F>(thunk as usize, "task")
}

handles!(Part);
