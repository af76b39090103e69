//! Settings for all that a block of code runs, whoever submits it: frames, delayed values, collections.

use std::cell::RefCell;

use crate::api::cluster::Cluster;

thread_local! {
    static SCOPES: RefCell<Vec<Cluster>> = const { RefCell::new(Vec::new()) };
}

/// The cluster of the innermost block.
pub(crate) fn innermost() -> Option<Cluster> {
    SCOPES.with_borrow(|scopes| scopes.last().cloned())
}

impl Cluster {
    /// Runs a block of code in which this is the current cluster, with its settings: retries, priority, resources, workers and
    /// tags also hold for what is submitted by others there, such as a frame or `compute`.
    ///
    /// ```no_run
    /// # fn flaky(x: i64) -> i64 { x }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # use skep_cluster::Delayed;
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let total = cluster.retries(3).priority(10).scope(|| Delayed::call(flaky, 1).compute())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<R>(&self, block: impl FnOnce() -> R) -> R {
        /// The block may panic.
        struct Ends;
        impl Drop for Ends {
            fn drop(&mut self) {
                SCOPES.with_borrow_mut(Vec::pop);
            }
        }
        SCOPES.with_borrow_mut(|scopes| scopes.push(self.clone()));
        let _ends = Ends;
        block()
    }
}
