//! What becomes of a task or thread of the host that panics: it is logged, and started again.
//!
//! A task that panics takes nothing else with it, and by itself it ends without a word: a port accepts no more, files are
//! not watched any more. A panic is a bug of the host, which the log must show, and no reason to stop working. So whatever
//! runs for long is started by [`keep_alive`] or [`keep_thread_alive`]. What runs once and has nobody who waits for its
//! result is wrapped in [`told`]. A guest's task, which is on the hot path, says it when it is dropped ([`tell_if_panicking`]);
//! in a worker's process the process ends, and is restarted.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How long to wait after a panic: one that comes again and again must not fill the log.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task on `runtime` until it returns. Where it panics, that is logged and `make` makes another.
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
            // Making it may panic as well.
            let run = AssertUnwindSafe(async { make().await });
            match run.catch_unwind().await {
                Ok(()) => return,
                Err(panic) => tell_restart(&what, &*panic),
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Runs a thread's work on this thread until it returns. Where it panics, that is logged and it is called again.
pub fn keep_thread_alive(what: impl Display, mut work: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
        tell_restart(&what, &*panic);
        std::thread::sleep(PAUSE);
    }
}

/// Runs to its end what nobody waits for. `None` where it panicked, which is logged.
pub async fn told<F: Future>(what: impl Display, work: F) -> Option<F::Output> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => Some(done),
        Err(panic) => {
            let text = panic_text(&*panic);
            tracing::error!(task = %what, "a task of the host panicked: {text}");
            None
        }
    }
}

/// Calls what a thread of somebody else's calls, which must not end by a panic.
pub fn caught(what: impl Display, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        let text = panic_text(&*panic);
        tracing::error!(task = %what, "a task of the host panicked: {text}");
    }
}

/// Logs that a task has panicked, where that is why this is called: to be called by the `Drop` of what the task owns. It
/// costs the task nothing while it runs. What the panic says is on standard error.
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

/// Returns what a panic says.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked without a text".to_owned())
}

/// Panics where a test asks for it, in a debug build: if the directory that the environment's `DAE_FAULT_POINTS` names has
/// a file of that name. The file is removed first, so that it happens once.
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
            panic!("told to panic in {name}");
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
        assert_eq!(told("test", async { 7 }).await, Some(7));
        assert_eq!(
            told("test", async { panic!("not at all") }).await,
            None::<()>
        );
    }
}
