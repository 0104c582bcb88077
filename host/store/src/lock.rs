//! The one way in which this crate's tables are locked.
//!
//! No code of others runs under these locks, and what is done under them is short; so one that a panic has poisoned is as
//! good as new.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
