//! Where on the page a control stands, and where what reacts to it shows its results.

use std::sync::atomic::{AtomicU64, Ordering};

/// A place for a control, each time that it is shown.
pub(crate) fn place_of(id: u64) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("skep-control-{id:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The place below a control, for what reacts to it.
pub(crate) fn area_of(id: u64) -> String {
    format!("skep-area-{id:x}")
}
