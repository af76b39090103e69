//! Running delayed graphs, one or several at once.

use std::sync::Arc;

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

    /// Submits the graph of a delayed value, and holds its result on the cluster.
    pub fn compute<T: TaskValue>(&self, delayed: &Delayed<T>) -> Remote<T> {
        self.submit_node(delayed.node(), delayed.graph_of()).typed()
    }
}

impl<T: TaskValue> Delayed<T> {
    /// Runs the graph on the current cluster and brings the result here.
    ///
    /// # Errors
    /// When there is no cluster, or as [`Remote::gather`].
    pub fn compute(&self) -> Result<T> {
        self.persist()?.gather()
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
