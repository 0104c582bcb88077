//! Waiting for a condition, with a limit.
//!
//! A test that sleeps and hopes is slow where it passes and wrong where it fails. Here the condition is asked again
//! and again, and what was waited for stands in the panic when it never came.

use std::time::{Duration, Instant};

/// Between two askings: short against what people notice, long against what the question costs.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `limit`; `what` says what was waited for.
#[track_caller]
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    until_some(limit, what, || condition().then_some(()));
}

/// Waits until `attempt` has a value, and returns it.
///
/// # Panics
/// When it has none within `limit`; `what` says what was waited for.
#[track_caller]
pub fn until_some<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}
