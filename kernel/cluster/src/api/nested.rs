//! Handles inside other things: lists of lists, pairs, maps, as arguments and when they are gathered.
//!
//! An option of a handle is no argument: with it a plain `None` would have no type.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash},
};

use crate::{
    api::{cluster::Cluster, delayed::Delayed, parts::Part, remote::Remote},
    data::value::TaskValue,
    graph::{
        node::Graph,
        task_fn::{IntoArg, handles},
    },
    model::{error::Result, task::Arg},
};

// One task puts each inner thing together, where its parts are.

fn list<T>(items: Vec<T>) -> Vec<T> {
    items
}

fn pair<A, B>(a: A, b: B) -> (A, B) {
    (a, b)
}

fn triple<A, B, C>(a: A, b: B, c: C) -> (A, B, C) {
    (a, b, c)
}

fn hash_map<K: Hash + Eq, V>(keys: Vec<K>, values: Vec<V>) -> HashMap<K, V> {
    keys.into_iter().zip(values).collect()
}

fn tree_map<K: Ord, V>(keys: Vec<K>, values: Vec<V>) -> BTreeMap<K, V> {
    keys.into_iter().zip(values).collect()
}

/// What a handle is an argument for, in these.
macro_rules! nested {
    ($handle:ident) => {
        impl<A: TaskValue + Clone> IntoArg<Vec<Vec<A>>> for Vec<Vec<$handle<A>>> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                let lists: Vec<Delayed<Vec<A>>> = self
                    .iter()
                    .map(|items| Delayed::call(list::<A>, items.as_slice()))
                    .collect();
                lists.into_arg(graph)
            }
        }
        impl<A: TaskValue + Clone> IntoArg<Vec<Vec<A>>> for &Vec<Vec<$handle<A>>> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.clone().into_arg(graph)
            }
        }
        impl<A: TaskValue + Clone, B: TaskValue + Clone> IntoArg<(A, B)> for ($handle<A>, $handle<B>) {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                Delayed::call(pair::<A, B>, self).add_to(graph)
            }
        }
        impl<A: TaskValue + Clone, B: TaskValue + Clone, C: TaskValue + Clone> IntoArg<(A, B, C)>
            for ($handle<A>, $handle<B>, $handle<C>)
        {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                Delayed::call(triple::<A, B, C>, self).add_to(graph)
            }
        }
        impl<K, A> IntoArg<HashMap<K, A>> for HashMap<K, $handle<A>>
        where
            K: TaskValue + Clone + Hash + Eq,
            A: TaskValue + Clone,
        {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                let (keys, values): (Vec<K>, Vec<$handle<A>>) = self.into_iter().unzip();
                Delayed::call(hash_map::<K, A>, (keys, values)).add_to(graph)
            }
        }
        impl<K, A> IntoArg<BTreeMap<K, A>> for BTreeMap<K, $handle<A>>
        where
            K: TaskValue + Clone + Ord,
            A: TaskValue + Clone,
        {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                let (keys, values): (Vec<K>, Vec<$handle<A>>) = self.into_iter().unzip();
                Delayed::call(tree_map::<K, A>, (keys, values)).add_to(graph)
            }
        }
    };
}
nested!(Remote);
nested!(Delayed);

/// A handle of any kind, for lists of them.
#[derive(Clone)]
pub enum AnyHandle<T> {
    Remote(Remote<T>),
    Delayed(Delayed<T>),
    Part(Part<T>),
}

impl<T> From<Remote<T>> for AnyHandle<T> {
    fn from(handle: Remote<T>) -> Self {
        AnyHandle::Remote(handle)
    }
}

impl<T> From<Delayed<T>> for AnyHandle<T> {
    fn from(handle: Delayed<T>) -> Self {
        AnyHandle::Delayed(handle)
    }
}

impl<T> From<Part<T>> for AnyHandle<T> {
    fn from(handle: Part<T>) -> Self {
        AnyHandle::Part(handle)
    }
}

impl<T> AnyHandle<T> {
    pub(crate) fn add_to(&self, graph: &mut Graph) -> Result<Arg> {
        match self {
            AnyHandle::Remote(handle) => handle.add_to(graph),
            AnyHandle::Delayed(handle) => handle.add_to(graph),
            AnyHandle::Part(handle) => handle.add_to(graph),
        }
    }
}

handles!(AnyHandle);

/// Handles, and lists, options, tuples and maps of them: see [`Cluster::gather_nested`].
pub trait Nested {
    /// The same with the values in place of the handles.
    type Values;
    #[doc(hidden)]
    fn handles(&self, each: &mut dyn FnMut(crate::Key));
    #[doc(hidden)]
    fn values(&self) -> Result<Self::Values>;
}

impl<T: TaskValue> Nested for Remote<T> {
    type Values = T;
    fn handles(&self, each: &mut dyn FnMut(crate::Key)) {
        if let Some(key) = self.key() {
            each(key);
        }
    }
    fn values(&self) -> Result<T> {
        self.gather()
    }
}

macro_rules! collections {
    ($([$($bound:tt)*] $type:ty => $values:ty, $self:ident, $items:expr, $collected:expr;)*) => { $(
        impl<$($bound)*> Nested for $type {
            type Values = $values;
            fn handles(&$self, each: &mut dyn FnMut(crate::Key)) {
                $items.for_each(|item| item.handles(each));
            }
            fn values(&$self) -> Result<Self::Values> {
                $collected
            }
        }
    )* };
}

collections! {
    [N: Nested] Vec<N> => Vec<N::Values>, self, self.iter(), self.iter().map(Nested::values).collect();
    [N: Nested] Option<N> => Option<N::Values>, self, self.iter(), self.as_ref().map(Nested::values).transpose();
    [K: Clone + Ord, N: Nested] BTreeMap<K, N> => BTreeMap<K, N::Values>, self, self.values(),
        self.iter().map(|(key, item)| Ok((key.clone(), item.values()?))).collect();
    [K: Clone + Eq + Hash, N: Nested, S: BuildHasher + Default] HashMap<K, N, S> => HashMap<K, N::Values, S>, self, self.values(),
        self.iter().map(|(key, item)| Ok((key.clone(), item.values()?))).collect();
}

macro_rules! tuples {
    ($($n:ident $at:tt),*) => {
        impl<$($n: Nested),*> Nested for ($($n,)*) {
            type Values = ($($n::Values,)*);
            fn handles(&self, each: &mut dyn FnMut(crate::Key)) {
                $(self.$at.handles(each);)*
            }
            fn values(&self) -> Result<Self::Values> {
                Ok(($(self.$at.values()?,)*))
            }
        }
    };
}
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);

impl Cluster {
    /// Waits for all handles in lists, options, tuples and maps, and gives the same with their values.
    ///
    /// ```no_run
    /// # use std::collections::HashMap;
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let by_name = HashMap::from([("a", vec![cluster.submit(|x: i64| x + 1, 1)])]);
    /// assert_eq!(cluster.gather_nested(&by_name)?["a"], [2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Cluster::gather`].
    pub fn gather_nested<N: Nested>(&self, nested: &N) -> Result<N::Values> {
        let mut keys = Vec::new();
        nested.handles(&mut |key| keys.push(key));
        self.client.wait(&keys)?;
        nested.values()
    }
}
