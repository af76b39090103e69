//! Running delayed graphs, one or several at once.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    api::{
        cluster::Cluster,
        delayed::Delayed,
        remote::{Handle, Remote},
    },
    data::value::TaskValue,
    graph::node::{Graph, Node},
    model::{error::Result, ids::Key},
};

/// The root of a graph, and its result on the cluster, without their types: what `compute!` passes around.
#[doc(hidden)]
pub struct Root(pub(crate) Result<Arc<Node>>);

#[doc(hidden)]
pub struct Computed(Handle);

impl Computed {
    #[doc(hidden)]
    pub fn typed<T>(self, _: &Delayed<T>) -> Remote<T> {
        self.0.typed()
    }
}

impl Cluster {
    /// Submits several graphs as one, so that what they share runs once; see `compute!`.
    #[doc(hidden)]
    pub fn compute_roots(&self, roots: Vec<Root>) -> Result<Vec<Computed>> {
        let nodes = roots.into_iter().map(|root| root.0).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key> = nodes.iter().map(|node| node.key()).collect();
        self.submit_graph(Graph::of(nodes.clone()), &keys)?;
        Ok(nodes
            .iter()
            .map(|node| Computed(self.held(node, false)))
            .collect())
    }

    /// Submits the graphs of several delayed values as one, so that what they share runs once, and holds their results
    /// on the cluster, in order.
    ///
    /// ```no_run
    /// # use skep_cluster::{Cluster, Delayed};
    /// fn inc(x: i64) -> i64 { x + 1 }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = Cluster::local().start()?;
    /// let shared = Delayed::call(inc, 1);
    /// let results: Vec<Delayed<i64>> = vec![Delayed::call(inc, &shared), Delayed::call(inc, &shared)];
    /// assert_eq!(cluster.gather(&cluster.compute_all(&results)?)?, [3, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a graph could not be built, or the scheduler is gone.
    pub fn compute_all<T: TaskValue>(&self, delayed: &[Delayed<T>]) -> Result<Vec<Remote<T>>> {
        let mut roots = Vec::with_capacity(delayed.len());
        for one in delayed {
            roots.push(one.root());
        }
        let mut remotes = Vec::with_capacity(roots.len());
        for computed in self.compute_roots(roots)? {
            remotes.push(computed.0.typed());
        }
        Ok(remotes)
    }

    /// Submits the graph of a delayed value, and holds its result on the cluster.
    pub fn compute<T: TaskValue>(&self, delayed: &Delayed<T>) -> Remote<T> {
        match &delayed.node {
            Ok(node) => self.submit_node(node, Graph::of(vec![node.clone()])).typed(),
            Err(error) => Handle::Refused(error.clone()).typed(),
        }
    }
}

impl<T: TaskValue> Delayed<T> {
    /// Runs the graph on the current cluster and brings the result here.
    ///
    /// # Errors
    /// When there is no cluster, or as [`Remote::gather`].
    pub fn compute(&self) -> Result<T> {
        let value = self.persist()?.gather()?;
        if let Ok(node) = &self.node {
            node.has_run.store(true, Ordering::Relaxed);
        }
        Ok(value)
    }

    /// Runs the graph on the current cluster and leaves the result there.
    ///
    /// # Errors
    /// When there is no cluster, or the graph could not be built.
    pub fn persist(&self) -> Result<Remote<T>> {
        self.node.clone()?;
        Ok(Cluster::current()?.compute(self))
    }
}

impl<T> Delayed<T> {
    #[doc(hidden)]
    pub fn root(&self) -> Root {
        Root(self.node.clone())
    }
}
