//! Tasks of the host that must not end: one that panics is logged, and made anew.
//!
//! A task that ends by a panic takes nothing else with it, and nobody hears of it: the port accepts no more, foreign
//! daemons are not looked for any more. A panic is a fault of ours, which the log must show, and no reason to stop working.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How long to wait after a panic: one that comes again and again must not fill the log.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task on `runtime` until it returns. Where it panics, that is logged and `make` makes another.
pub(crate) fn keep_alive<F>(
    runtime: &Handle,
    what: &'static str,
    mut make: impl FnMut() -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    runtime.spawn(async move {
        while let Err(panic) = AssertUnwindSafe(make()).catch_unwind().await {
            let text = panic_text(&*panic);
            tracing::error!(
                task = what,
                "a fault of the host ended a task, which is made anew: {text}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Returns what a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_is_made_anew_until_it_returns() {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let task = keep_alive(&Handle::current(), "test", move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(number >= 1, "not yet") }
        });
        task.await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }
}
