//! Handles panics in the host's tasks and threads: logs them and restarts the work.
//!
//! A task that panics affects no other task, but ends silently: a port would accept no more guests, or files would no
//! longer be watched. A panic is a bug in the host; the log must show it, and the work must continue. Long-running work
//! is therefore started by [`keep_alive`] or [`keep_thread_alive`]. Work that runs once and whose result nobody awaits
//! is wrapped in [`logged`]. A guest's task is on the hot path and logs its panic when it is dropped
//! ([`tell_if_panicking`]). A panic in a worker's process ends that process, which is then restarted.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// The pause after a panic, so that repeated panics don't fill the log.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task on `runtime` until it returns. If it panics, logs that and runs a new one from `make`.
pub fn keep_alive<F>(
    runtime: &Handle,
    what: impl Display + Send + Sync + 'static,
    mut make: impl FnMut() -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    runtime.spawn(async move {
        loop {
            // `make` may panic as well.
            let run = AssertUnwindSafe(async { make().await });
            match run.catch_unwind().await {
                Ok(()) => return,
                Err(panic) => tell_restart(&what, &*panic),
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Runs `work` on this thread until it returns. If it panics, logs that and calls it again.
#[expect(clippy::disallowed_methods, reason = "the thread is the work's own")]
pub fn keep_thread_alive(what: impl Display, mut work: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
        tell_restart(&what, &*panic);
        std::thread::sleep(PAUSE);
    }
}

/// Runs work that nobody awaits. Returns `None` if it panicked, which is logged.
pub async fn logged<F: Future>(what: impl Display, work: F) -> Option<F::Output> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => Some(done),
        Err(panic) => {
            let text = panic_text(&*panic);
            tracing::error!(task = %what, "a task of the host panicked: {text}");
            None
        }
    }
}

/// Calls `work` on a foreign thread, which must not see a panic. A panic is logged.
pub fn caught(what: impl Display, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        let text = panic_text(&*panic);
        tracing::error!(task = %what, "a task of the host panicked: {text}");
    }
}

/// Logs a panic if the thread is panicking. To be called in the `Drop` of an object that the task owns; it costs
/// nothing while the task runs. Standard error shows the panic's message.
pub fn tell_if_panicking(what: impl FnOnce() -> String) {
    if std::thread::panicking() {
        let what = what();
        tracing::error!(task = what, "a task of the host panicked");
    }
}

fn tell_restart(what: &impl Display, panic: &(dyn Any + Send)) {
    let text = panic_text(panic);
    tracing::error!(task = %what, "a task of the host panicked, and is started again: {text}");
}

/// Returns the message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked without a text".to_owned())
}

/// Panics at a named point if a test requests it, in debug builds only: a file of that name exists in the directory
/// that the environment variable `DAE_FAULT_POINTS` names. The file is removed first, so that the panic happens once.
#[inline]
pub fn fault_point(name: &str) {
    #[cfg(debug_assertions)]
    {
        use std::path::PathBuf;
        use std::sync::LazyLock;
        static DIRECTORY: LazyLock<Option<PathBuf>> =
            LazyLock::new(|| std::env::var_os("DAE_FAULT_POINTS").map(PathBuf::from));
        if let Some(directory) = &*DIRECTORY
            && std::fs::remove_file(directory.join(name)).is_ok()
        {
            panic!("asked to panic in {name}");
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_until_it_returns() {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let task = keep_alive(&Handle::current(), "test", move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            assert!(number != 0, "it can't be made yet");
            async move { assert!(number >= 2, "not yet") }
        });
        task.await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_thread_that_panics_is_started_again_until_it_returns() {
        let mut calls = 0;
        keep_thread_alive("test", || {
            calls += 1;
            assert!(calls >= 2, "not yet");
        });
        assert_eq!(calls, 2);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_told_and_has_no_result() {
        assert_eq!(logged("test", async { 7 }).await, Some(7));
        assert_eq!(
            logged("test", async { panic!("not at all") }).await,
            None::<()>
        );
    }
}
