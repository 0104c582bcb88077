//! The longest wait for things that must happen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The usual limit for things that should happen at once. A machine that builds at the same time can stall for many
/// seconds.
const LONG: Duration = Duration::from_secs(60);

/// The limit while a history is shrunk. Most shortened histories fail by a timeout, and there must be time for many.
const SHORT: Duration = Duration::from_secs(10);

static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Switches to the short limit for the rest of the process.
pub fn shorten() {
    IS_SHORT.store(true, Ordering::Relaxed);
}

/// Returns the longest wait.
pub fn patience() -> Duration {
    match IS_SHORT.load(Ordering::Relaxed) {
        true => SHORT,
        false => LONG,
    }
}
