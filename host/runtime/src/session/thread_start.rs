//! Prepares each thread of a runtime when it starts.
//!
//! A library that hangs in its constructor holds the lock of the system's loader. A thread takes that lock at its first
//! use of a thread-local variable that has a destructor. So each thread uses all of these variables at its start.

use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::session::guest;
use crate::threads::watchdog;

/// A wait that has not passed yet when it begins.
const SHORT: Duration = Duration::from_micros(200);

/// Prepares this thread for a time when the loader's lock is held. Must be called when the thread starts.
pub fn prepare() {
    watchdog::prepare_thread();
    guest::prepare_thread();
    tracing::dispatcher::get_default(|_| ());
    // Reading and dropping such a pointer uses arc_swap's list of readers.
    drop(ArcSwap::from_pointee(()).load_full());
    // A wait for a message between threads. One without time ends before it uses the variable.
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(SHORT);
    // The parker that tokio blocks a thread with.
    let (sender, receiver) = oneshot::channel::<()>();
    drop(sender);
    let _ = receiver.blocking_recv();
}
