//! The guard around host code that a daemon calls.
//!
//! A plugin calls the host through C functions, and a panic that leaves such a function ends the process, with every
//! daemon in it. So each of these functions runs its code in this guard. A panic is a fault of the host: the guard logs
//! it as such, and the daemon gets an error in place of an answer. Panics of the daemon's own code do not arrive here:
//! the plugin's side catches them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use dae_plugin_api::abi::status;
use serde_json::json;

use crate::plugin::completion::Completion;

/// A panic of the host at a daemon's request.
#[derive(Debug)]
pub(super) struct HostPanic {
    operation: String,
}

impl HostPanic {
    /// Returns the answer for the daemon.
    pub(super) fn ended(&self) -> Completion {
        let text = format!(
            "the host failed at `{}`, which is a fault of dae-host; the log of Dae says more",
            self.operation
        );
        let fault = json!({"code": "failed", "message": text});
        Completion {
            status: status::FAILED,
            bytes: fault.to_string().into_bytes(),
        }
    }
}

/// Runs host code on a daemon's behalf.
///
/// # Errors
/// A panic, which has been logged.
#[inline]
pub(super) fn guarded<T>(operation: &str, code: impl FnOnce() -> T) -> Result<T, HostPanic> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| broken(operation, payload))
}

#[cold]
fn broken(operation: &str, payload: Box<dyn Any + Send>) -> HostPanic {
    let panic = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
        .to_owned();
    // The part that panicked may be needed for logging, and a payload may panic in its own `Drop`.
    quietly(|| {
        tracing::error!(
            operation,
            panic,
            "the host panicked at what a daemon asked for; this is a fault of dae-host: please report it"
        );
    });
    quietly(|| drop(payload));
    HostPanic {
        operation: operation.to_owned(),
    }
}

/// Runs code and ignores its panic, because there is no place left to report it.
fn quietly(code: impl FnOnce()) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(code)) {
        std::mem::forget(second);
    }
}

/// Host work that a daemon's code polls and drops.
pub(super) struct GuardedWork<F> {
    operation: &'static str,
    /// The work; `None` once it has panicked.
    work: Option<F>,
}

impl<F: Future + Unpin> GuardedWork<F> {
    pub(super) fn new(operation: &'static str, work: F) -> Self {
        GuardedWork {
            operation,
            work: Some(work),
        }
    }
}

impl<F: Future + Unpin> Future for GuardedWork<F> {
    type Output = Result<F::Output, HostPanic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let operation = self.operation;
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        match guarded(operation, || Pin::new(work).poll(context)) {
            Ok(polled) => polled.map(Ok),
            Err(broken) => {
                self.forget();
                Poll::Ready(Err(broken))
            }
        }
    }
}

impl<F> GuardedWork<F> {
    fn forget(&mut self) {
        let work = self.work.take();
        // The panic has been logged, and there is nothing to answer any more.
        let _ = guarded(self.operation, || drop(work));
    }
}

impl<F> Drop for GuardedWork<F> {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_ffi::FutureExt as _;
    use dae_plugin_api::abi::HostV1;

    use super::super::{HostApi, HostRegistration, HostedInstance};
    use super::*;
    use crate::plugin::completion::HostAnswer;
    use crate::plugin::host_request::{DeferredRequest, Instruction, RequestBytes};
    use crate::plugin::identity::Identity;
    use dae_store::log::Record;

    /// A host that panics at everything.
    #[derive(Debug)]
    struct Panicking;

    /// Work that panics when it is polled, or when it is dropped.
    struct Late {
        when_polled: bool,
    }

    impl Future for Late {
        type Output = Completion;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Completion> {
            assert!(!self.when_polled, "asked to panic in a poll");
            Poll::Pending
        }
    }

    impl Drop for Late {
        fn drop(&mut self) {
            panic!("asked to panic in a drop");
        }
    }

    impl HostApi for Panicking {
        fn log(&self, _: Record) {
            panic!("asked to panic in `log`");
        }
        fn emit(&self, _: u64, _: &[u8]) -> bool {
            panic!("asked to panic in `emit`");
        }
        fn is_open(&self, _: u64) -> bool {
            panic!("asked to panic in `is_open`");
        }
        fn instruct(&self, bytes: RequestBytes<'_>, _: Instruction<'_>) -> Completion {
            panic!("asked to panic in {}", bytes.operation);
        }
        fn ask_later(&self, _: RequestBytes<'_>, request: DeferredRequest<'_>) -> HostAnswer {
            let when_polled = match request {
                DeferredRequest::List => true,
                DeferredRequest::Find(_) => false,
                other => panic!("asked to panic in {other:?}"),
            };
            HostAnswer::Later(Box::pin(Late { when_polled }))
        }
    }

    fn registration() -> HostRegistration {
        let hosted = HostedInstance {
            identity: Arc::new(Identity::of_test()),
            config: "{}".to_owned(),
            outlet: Arc::new(Panicking),
        };
        HostRegistration::take(hosted, tokio::runtime::Handle::current())
    }

    /// Each of these would end the process if the panic left the C function.
    #[tokio::test]
    async fn a_panic_of_the_host_is_an_error_for_the_daemon_and_ends_nothing() {
        let registration = registration();
        let host: HostV1 = registration.host();
        host.log(3, "a", "text", "");
        assert_eq!(host.emit(1, b"tick []"), status::FAILED);
        for (operation, payload) in [
            ("guest.open", &b"1"[..]),
            ("publish", b"tick []"),
            ("feed.subscribe", b"\x01\0\0\0\0\0\0\0tick"),
        ] {
            let fault = host.ask(operation, payload).unwrap_err();
            assert_eq!(fault.status, status::FAILED);
            assert!(fault.message.contains("fault of dae-host"), "{fault}");
        }
        for operation in ["connect", "list"] {
            let fault = host.ask_later(operation, Vec::new()).await.unwrap_err();
            assert_eq!(fault.status, status::FAILED, "{operation}");
            assert!(fault.message.contains("fault of dae-host"), "{fault}");
        }
        {
            let mut dropped = std::pin::pin!(host.ask_later("find", Vec::new()));
            assert!(futures_util::poll!(&mut dropped).is_pending());
        }
        let spawned = host.spawn(async { panic!("asked to panic in a task") }.into_ffi());
        assert_eq!(spawned, status::NOTHING);
        host.sleep(1).await;
        registration.cancel_spawned().await;
    }

    /// A timer panics when it is polled after its runtime's end.
    #[test]
    fn a_sleep_that_outlives_the_hosts_threads_ends() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let registration = runtime.block_on(async { registration() });
        let asleep = registration.host().sleep(60_000);
        runtime.shutdown_timeout(Duration::from_secs(10));
        let waiting = tokio::runtime::Builder::new_current_thread();
        let waiting = { waiting }.build().unwrap();
        waiting.block_on(asleep);
    }
}
