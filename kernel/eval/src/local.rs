//! Thread-local variables that are the same ones in every cell.

use std::{cell::UnsafeCell, ops::Deref, thread::LocalKey};

/// What a cell's `thread_local!` becomes: it is exported like any static, so that every cell's library
/// reaches the one of the library that was loaded first, and with it the same variables of each thread. Used
/// like a [`LocalKey`].
pub struct Local<T: 'static> {
    // In a cell of its own the compiler must not take the key's content for known, which differs from library
    // to library.
    key: UnsafeCell<LocalKey<T>>,
}

// SAFETY: nothing ever writes to the key, and a `LocalKey` is `Sync` whatever it leads to.
unsafe impl<T: 'static> Sync for Local<T> {}

impl<T: 'static> Local<T> {
    pub const fn new(key: LocalKey<T>) -> Local<T> {
        Local {
            key: UnsafeCell::new(key),
        }
    }
}

impl<T: 'static> Deref for Local<T> {
    type Target = LocalKey<T>;

    fn deref(&self) -> &LocalKey<T> {
        // SAFETY: it is never written, and generated code only makes statics of it, so that it lives as long
        // as the process.
        unsafe { &*self.key.get() }
    }
}
