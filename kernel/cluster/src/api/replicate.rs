//! Where values are: on which workers, on more than one, or on another one.

use std::{borrow::Borrow, cmp::Reverse, collections::BTreeMap};

use crate::{
    api::{
        cluster::Cluster,
        remote::{Handle, Remote},
    },
    model::{
        cluster::{ClusterSpec, Holding},
        error::Result,
        ids::{Key, WorkerId},
    },
};

impl Cluster {
    /// Which workers have these values, in the order of the handles. Nobody has a value that is not there yet, or that was
    /// lost; a small one may be with the scheduler too.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn who_has<T>(
        &self,
        handles: impl IntoIterator<Item = impl Borrow<Remote<T>>>,
    ) -> Result<Vec<Vec<WorkerId>>> {
        let mut keys = Vec::new();
        for remote in handles {
            keys.push(remote.borrow().key());
        }
        let holdings = self.client.copies()?.holdings()?;
        let of = |key: &Option<Key>| {
            let found = holdings.binary_search_by_key(&(*key)?, |holding| holding.key);
            found.ok().map(|at| holdings[at].workers.clone())
        };
        Ok(keys.iter().map(|key| of(key).unwrap_or_default()).collect())
    }

    /// The values of each worker, the largest first, also of workers that have none.
    ///
    /// ```no_run
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// for (worker, values) in cluster.has_what()? {
    ///     println!("{worker}: {} values", values.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn has_what(&self) -> Result<BTreeMap<WorkerId, Vec<Holding>>> {
        let workers = self.info()?.workers;
        let mut all: BTreeMap<WorkerId, Vec<Holding>> =
            workers.iter().map(|worker| (worker.id, Vec::new())).collect();
        for holding in self.client.copies()?.holdings()? {
            for worker in &holding.workers {
                all.entry(*worker).or_default().push(holding.clone());
            }
        }
        for values in all.values_mut() {
            values.sort_by_key(|holding| Reverse(holding.n_bytes));
        }
        Ok(all)
    }

    /// Copies a value to every worker, so that tasks that need it find it at home wherever they run. Waits
    /// until all copies are there; gives their number.
    ///
    /// On one machine the copies share the memory that they travel in.
    ///
    /// # Errors
    /// When the task failed, or the scheduler is gone.
    pub fn broadcast<T>(&self, value: &Remote<T>) -> Result<u64> {
        self.broadcast_all(&[&value.handle])
    }

    #[inline(never)]
    fn broadcast_all(&self, handles: &[&Handle]) -> Result<u64> {
        let keys = handles
            .iter()
            .map(|handle| Ok(handle.held()?.key))
            .collect::<Result<Vec<Key>>>()?;
        self.client.wait(&keys)?;
        Ok(self.client.copies()?.broadcast(keys)?.0)
    }

    /// Moves values from workers that hold much to those that hold little. Waits until it is done; gives the
    /// number of values and bytes that moved.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn rebalance(&self) -> Result<(u64, u64)> {
        self.client.copies()?.rebalance()
    }
}

impl<T> Remote<T> {
    /// The workers that have this value; see [`Cluster::who_has`].
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn who_has(&self) -> Result<Vec<WorkerId>> {
        let cluster = Cluster::of(self.handle.held()?.client.clone(), ClusterSpec::default());
        Ok(cluster.who_has([self])?.remove(0))
    }
}
