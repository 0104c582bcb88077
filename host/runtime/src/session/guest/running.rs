//! A command of a guest that is under way, with the place of its reply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dae_plugin_api::abi::status;

use crate::instance::reply::{write_ended, write_large};
use crate::plugin::completion::Completion;
use crate::process::ipc::LARGE_BYTES;
use crate::session::dispatch::run::{CommandRun, EndedRun};
use crate::session::gate::Lease;
use crate::threads::counters::BatchCounts;

/// The place of a running command's reply.
#[derive(Clone, Copy)]
pub(super) enum ReplyPlace {
    /// The reply with that number in the order.
    Ordered(u64),
    /// Not in the order: the reply is sent as soon as it is ready.
    Tagged,
}

/// A guest's command under way.
pub(super) struct GuestCommand {
    pub(super) run: CommandRun,
    pub(super) place: ReplyPlace,
    pub(super) tag: Option<Box<str>>,
    pub(super) emits_first: bool,
    /// The size of its arguments (bytes).
    pub(super) arguments: usize,
}

/// A finished command.
pub(super) struct FinishedCommand {
    pub(super) lease: Arc<Lease>,
    pub(super) place: ReplyPlace,
    pub(super) emits_first: bool,
    pub(super) line: Vec<u8>,
    /// The size of its result (bytes).
    pub(super) result: usize,
    /// The size of its arguments (bytes).
    pub(super) arguments: usize,
    pub(super) tally: BatchCounts,
    pub(super) took: Duration,
}

impl Future for GuestCommand {
    type Output = FinishedCommand;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FinishedCommand> {
        let this = &mut *self;
        let EndedRun { completion, took } = ready!(Pin::new(&mut this.run).poll(context));
        let result = completion.bytes.len();
        let (line, tally) = finished_line(this.run.name(), this.tag.as_deref(), completion);
        Poll::Ready(FinishedCommand {
            lease: Arc::clone(this.run.lease()),
            place: this.place,
            emits_first: this.emits_first,
            line,
            result,
            arguments: this.arguments,
            tally,
            took,
        })
    }
}

/// Returns the line of a command that has ended, and its counts.
fn finished_line(name: &str, tag: Option<&str>, ended: Completion) -> (Vec<u8>, BatchCounts) {
    let mut tally = BatchCounts::default();
    if ended.status == status::DONE && ended.bytes.len() >= LARGE_BYTES {
        let mut line = Vec::new();
        write_large(&mut line, (name, tag), (ended.bytes, 0), &mut tally);
        return (line, tally);
    }
    let mut line = Vec::with_capacity(name.len() + ended.bytes.len() + 8);
    let end = (ended.status, &ended.bytes[..]);
    write_ended(&mut line, (name, tag), end, &mut tally);
    (line, tally)
}
