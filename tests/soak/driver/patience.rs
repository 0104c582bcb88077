//! How long is waited for what must happen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long anything may take that should happen at once. A machine that builds beside this stands still for many seconds.
const LONG: Duration = Duration::from_secs(60);

/// The same for a history that is made shorter: most of what is tried then fails by waiting in vain, and there is to be time
/// for many tries.
const SHORT: Duration = Duration::from_secs(10);

static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// From now on less is waited for.
pub fn shorten() {
    IS_SHORT.store(true, Ordering::Relaxed);
}

/// How long is waited.
pub fn patience() -> Duration {
    match IS_SHORT.load(Ordering::Relaxed) {
        true => SHORT,
        false => LONG,
    }
}
