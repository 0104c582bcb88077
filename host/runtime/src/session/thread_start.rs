//! What each thread of a runtime does when it begins.
//!
//! A library that hangs in its constructor holds the lock of the system's loader, and a thread's first use of a variable
//! of its own that has a destructor takes that lock. So each thread uses all of its variables when it begins.

use tokio::sync::oneshot;

use crate::session::guest;
use crate::threads::watchdog;

/// Prepares this thread for a time when the loader's lock is held. To be called when the thread begins.
pub fn prepare() {
    watchdog::prepare_thread();
    guest::prepare_thread();
    tracing::dispatcher::get_default(|_| ());
    // What tokio blocks a thread with.
    let (sender, receiver) = oneshot::channel::<()>();
    drop(sender);
    let _ = receiver.blocking_recv();
}
