//! Values on more than one worker, or on another one.

use crate::{
    api::{
        cluster::Cluster,
        remote::{Handle, Remote},
    },
    model::{error::Result, ids::Key},
};

impl Cluster {
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
