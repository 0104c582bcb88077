//! Attempts that fail on Windows as long as another program has a file open.
//!
//! Virus scanners and indexers open each new file for a moment and don't share it. So an attempt is repeated for a while.
//! The wait blocks the thread: all disk work runs where that is allowed.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

/// The longest time for which an attempt is repeated. It is that of a scanner with a large file.
pub(super) const IN_USE_MAX: Duration = Duration::from_secs(2);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);

thread_local! {
    /// The end of all waits in the work that this thread does as a whole.
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does work with several files, all of whose waits together take no longer than that for one file.
pub(super) fn with_one_wait<T>(work: impl FnOnce() -> T) -> T {
    let before = END.replace(Some(Instant::now() + IN_USE_MAX));
    let done = work();
    END.set(before);
    done
}

/// Makes an attempt until it succeeds, fails with an error that doesn't pass, or has failed for too long.
#[expect(
    clippy::disallowed_methods,
    reason = "no event tells when another program lets go of a file"
)]
pub(super) fn retried<T>(
    may_pass: impl Fn(&io::Error) -> bool,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let end = END.get().unwrap_or_else(|| Instant::now() + IN_USE_MAX);
    loop {
        match attempt() {
            Err(error) if may_pass(&error) && Instant::now() < end => {
                std::thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> io::Result<()> {
        retried(|_| true, || Err(io::ErrorKind::ResourceBusy.into()))
    }

    #[test]
    fn the_waits_of_one_work_have_one_end() {
        let began = Instant::now();
        let failed = with_one_wait(|| [fails(), fails(), fails()]);
        assert!(failed.iter().all(Result::is_err));
        let took = began.elapsed();
        assert!(took >= IN_USE_MAX && took < 2 * IN_USE_MAX, "{took:?}");
        let began = Instant::now();
        fails().unwrap_err();
        assert!(began.elapsed() >= IN_USE_MAX, "it waits by itself again");
    }
}
