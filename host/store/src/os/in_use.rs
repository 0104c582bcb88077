//! Attempts that fail on Windows as long as another program has a file open.
//!
//! Virus scanners and indexers open each new file for a moment and don't share it. So an attempt is repeated for a while.
//! The wait blocks the thread: all disk work runs where that is allowed.

use std::io;
use std::time::{Duration, Instant};

/// The longest time for which an attempt is repeated. It is that of a scanner with a large file.
pub(super) const IN_USE_MAX: Duration = Duration::from_secs(2);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);

/// Makes an attempt until it succeeds, fails with an error that doesn't pass, or has failed for too long.
#[expect(
    clippy::disallowed_methods,
    reason = "no event tells when another program lets go of a file"
)]
pub(super) fn retried<T>(
    may_pass: impl Fn(&io::Error) -> bool,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(error) if may_pass(&error) && began.elapsed() < IN_USE_MAX => {
                std::thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}
