//! One call that a subprocess has, as its sender sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

use super::limits::CallStart;
use super::{Link, lock};
use crate::os::sealed_file::SealedFile;
use crate::plugin::completion::{Completion, host_status};
use crate::process::ipc::FrameKind;

/// The end of a call.
#[derive(Debug)]
pub(super) struct CallEnd {
    pub(super) completion: Completion,
    /// True if the command was a future that did not have to wait.
    pub(super) was_at_once: bool,
    /// The result, if it came as a file.
    pub(super) file: Option<SealedFile>,
}

impl From<Completion> for CallEnd {
    fn from(completion: Completion) -> Self {
        CallEnd {
            completion,
            was_at_once: false,
            file: None,
        }
    }
}

impl SubprocessCall {
    /// Lets the call go on despite the reply budget.
    pub fn go_on(&self) {
        self.link.go_on(self.id);
    }

    /// Returns what the host knows about the start of the call.
    pub fn start(&self) -> CallStart {
        CallStart {
            link: Arc::clone(&self.link),
            id: self.id,
            since: Instant::now(),
        }
    }
}

/// A call that the subprocess has not answered. Dropping it cancels the call.
pub(crate) struct SubprocessCall {
    pub(super) id: u64,
    pub(super) guest: u64,
    pub(super) receiver: oneshot::Receiver<CallEnd>,
    pub(super) link: Arc<Link>,
    pub(super) is_over: bool,
    /// True if it had begun before the host knew of it.
    pub(crate) has_begun: bool,
    /// True once it has ended, if it was a future that did not have to wait.
    pub(crate) was_at_once: bool,
    /// The result once it has ended, if it came as a file.
    pub(crate) file: Option<SealedFile>,
}

impl Future for SubprocessCall {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let polled = Pin::new(&mut self.receiver).poll(context);
        polled.map(|ended| {
            self.is_over = true;
            let ended = ended.unwrap_or_else(|_| {
                let bytes = b"its process ended".to_vec();
                let status = host_status::DIED;
                Completion { status, bytes }.into()
            });
            self.was_at_once = ended.was_at_once;
            self.file = ended.file;
            ended.completion
        })
    }
}

impl Drop for SubprocessCall {
    fn drop(&mut self) {
        if !self.is_over
            && let Ok(ended) = self.receiver.try_recv()
        {
            // The call has ended, and its reply was not taken.
            return self.link.has_read(self.guest, ended.completion.bytes.len());
        }
        if !self.is_over && lock(&self.link.calls).by_id.remove(&self.id).is_some() {
            lock(&self.link.outgoing).put(FrameKind::Cancel, self.id, &[]);
            self.link.flush();
        }
    }
}
