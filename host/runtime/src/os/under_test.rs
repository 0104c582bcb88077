//! The parts that this folder's tests share: a wait, and whether Wine runs them.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// The longest time for things that should happen at once.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for a condition.
///
/// # Panics
/// Panics if it doesn't come about within the limit.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Returns whether Wine runs the tests, and says on standard error that it lacks something.
pub(crate) fn is_lacking_in_wine(what: &str) -> bool {
    // `.ci/cross-toolchain` runs it with this variable.
    let is_wine = std::env::var_os("WINEPREFIX").is_some();
    if is_wine {
        // Ignores failures: the test is left out in any case.
        let _ = writeln!(io::stderr(), "SKIPPED: Wine doesn't have {what}");
    }
    is_wine
}
