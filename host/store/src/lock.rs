//! The function that locks this crate's mutexes.
//!
//! No foreign code runs under these locks, and the work under them is short. The data is therefore still valid after a
//! panic has poisoned the mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the mutex, even if it is poisoned.
#[expect(clippy::disallowed_methods, reason = "this is the replacement")]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
