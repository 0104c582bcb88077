//! Keeps the state of a daemon after a command with `#[command(saves)]`, before its answer is sent.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::Ecosystem;
use crate::abi::{Output, status};

/// Keeps the daemon's state after a command with `#[command(saves)]` that ended with `status`. Returns the status of the
/// answer. A command that failed keeps nothing, since its answer promises nothing.
pub async fn kept(status: u32, out: &mut Output, ecosystem: Ecosystem) -> u32 {
    if !matches!(status, status::DONE | status::NOTHING) {
        return status;
    }
    match ecosystem.save().await {
        Ok(()) => status,
        Err(error) => {
            out.replace(&format!(
                "the command ran, but the state was not kept: {error}"
            ));
            status::FAILED
        }
    }
}

/// Does the same as [`kept`] on a thread that may block.
pub fn kept_blocking(status: u32, out: &mut Output, ecosystem: Ecosystem) -> u32 {
    let mut kept = pin!(kept(status, out, ecosystem));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match kept.as_mut().poll(&mut context) {
            Poll::Ready(status) => return status,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A waker for a thread that waits for one future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
