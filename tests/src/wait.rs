//! Waiting for a condition, with a limit.
//!
//! A test with a fixed sleep is slow when it passes and unreliable when it fails. Here the condition is checked
//! repeatedly, and the panic message says which condition never came true.

use std::time::{Duration, Instant};

/// The time between two checks: short compared with what people notice, long compared with the cost of a check.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// Panics if it does not hold within `limit`. The message contains `what`.
#[track_caller]
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    until_some(limit, what, || condition().then_some(()));
}

/// Waits until `attempt` returns a value, and returns that value.
///
/// # Panics
/// Panics if there is no value within `limit`. The message contains `what`.
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
