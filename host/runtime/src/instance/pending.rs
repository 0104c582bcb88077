//! Commands that have not finished yet, in any process, and the trait of built-in daemons.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dae_plugin_api::abi::status;

use tokio::sync::oneshot;

use super::Instance;
use super::start::{BeginFlag, StartProgress};
use crate::os::sealed_file::SealedFile;
use crate::plugin::completion::Completion;
use crate::plugin::library::PluginFuture;
use crate::process::subprocess::SubprocessCall;
use dae_store::blocking;

/// A command that ends later, in any process. Dropping it cancels it, unless it blocks a thread.
pub(crate) enum Pending {
    /// A future of a plugin in this process.
    InProcess(WatchedFuture),
    /// A call on a thread of the blocking pool.
    Blocking(BlockingCommand),
    /// A call on a thread of its own, which ends once this is dropped.
    Aside(oneshot::Receiver<Completion>),
    /// A call in a subprocess.
    Subprocess(SubprocessCall),
    /// A command of a built-in daemon.
    BuiltIn(AnswerFuture),
}

impl Pending {
    /// Returns whether events that the daemon emits while the command runs go to the guest before the reply. For a
    /// built-in daemon they follow the reply.
    #[must_use]
    pub fn emits_first(&self) -> bool {
        !matches!(self, Pending::BuiltIn(_))
    }

    /// Returns whether and when it began, as far as the host knows.
    pub fn start(&self) -> StartProgress {
        match self {
            Pending::InProcess(_) | Pending::Aside(_) | Pending::BuiltIn(_) => StartProgress::Begun,
            Pending::Blocking(blocking) => StartProgress::Thread(Arc::clone(&blocking.begin)),
            Pending::Subprocess(call) if call.has_begun => StartProgress::Begun,
            Pending::Subprocess(call) => StartProgress::Child(call.start()),
        }
    }

    /// Returns whether it has ended in a process of its own as a future that did not have to wait.
    pub fn was_at_once(&self) -> bool {
        matches!(self, Pending::Subprocess(call) if call.was_at_once)
    }

    /// Takes the result of a save that has ended in a process of its own, if it came as a file.
    pub fn take_file(&mut self) -> Option<SealedFile> {
        match self {
            Pending::Subprocess(call) => call.file.take(),
            _ => None,
        }
    }

    /// Takes back the bytes of its result so that the next command can reuse their memory.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        if let Pending::InProcess(watched) = self {
            watched.later.give_back(bytes);
        }
    }
}

impl Future for Pending {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        match &mut *self {
            Pending::InProcess(later) => Pin::new(later).poll(context),
            Pending::Aside(result) => Pin::new(result).poll(context).map(|ended| {
                ended.unwrap_or_else(|_| Completion {
                    status: status::GONE,
                    bytes: b"its thread has ended without a result".to_vec(),
                })
            }),
            Pending::Subprocess(call) => Pin::new(call).poll(context),
            Pending::BuiltIn(work) => work.as_mut().poll(context).map(|answer| {
                if let Some(after) = answer.after {
                    after();
                }
                answer.ended
            }),
            Pending::Blocking(blocking) => {
                Pin::new(&mut blocking.thread).poll(context).map(|joined| {
                    // The plugin's side catches panics. So this command has not run, or ends with the host.
                    joined.unwrap_or_else(|why| Completion {
                        status: status::GONE,
                        bytes: why.into_bytes(),
                    })
                })
            }
        }
    }
}

/// A command that blocks a thread of its own, or waits for one. If dropped before it begins, it never begins.
pub struct BlockingCommand {
    pub(super) thread: blocking::Blocking<Completion>,
    pub(super) begin: Arc<BeginFlag>,
}

impl Drop for BlockingCommand {
    fn drop(&mut self) {
        self.begin.withdraw();
    }
}

/// A future of a plugin, watched while it is polled: a poll that doesn't return holds a thread as a handler does.
pub struct WatchedFuture {
    // Dropped before the instance, which holds its code.
    pub(super) later: PluginFuture,
    pub(super) instance: Arc<Instance>,
    pub(super) command: u32,
}

impl Future for WatchedFuture {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let this = &mut *self;
        let later = Pin::new(&mut this.later);
        this.instance.in_sight(this.command, || later.poll(context))
    }
}

/// A pending answer of a built-in daemon.
pub type AnswerFuture = Pin<Box<dyn Future<Output = BuiltInAnswer> + Send>>;

/// An answer of a built-in daemon.
pub struct BuiltInAnswer {
    /// The answer.
    pub ended: Completion,
    /// The work that begins after the answer, such as a stream of events.
    pub after: Option<Box<dyn FnOnce() + Send>>,
}

impl From<Completion> for BuiltInAnswer {
    fn from(ended: Completion) -> Self {
        BuiltInAnswer { ended, after: None }
    }
}

/// A daemon that is built into the host: Dae, and its side of the control socket.
pub trait BuiltIn: fmt::Debug + Send + Sync {
    /// Runs one command. `arguments` is strict JSON, or empty.
    fn answer(&self, index: u32, arguments: Vec<u8>, guest: u64) -> AnswerFuture;
}
