//! A command of a guest that is under way, with the place of its reply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dae_plugin_api::abi::status;

use crate::instance::reply::{ReplyLines, ReplyTo};
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
    /// The index of the command, and its counts.
    pub(super) counts: (u32, BatchCounts),
    pub(super) took: Duration,
}

impl Future for GuestCommand {
    type Output = FinishedCommand;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FinishedCommand> {
        let this = &mut *self;
        let EndedRun { completion, took } = ready!(Pin::new(&mut this.run).poll(context));
        let result = completion.bytes.len();
        let to = ReplyTo {
            name: this.run.name(),
            tag: this.tag.as_deref(),
        };
        let (line, counts) = finished_line(to, completion);
        Poll::Ready(FinishedCommand {
            lease: Arc::clone(this.run.lease()),
            place: this.place,
            emits_first: this.emits_first,
            line,
            result,
            arguments: this.arguments,
            counts: (this.run.index(), counts),
            took,
        })
    }
}

/// Returns the line of a command that has ended, and its counts.
fn finished_line(to: ReplyTo<'_>, ended: Completion) -> (Vec<u8>, BatchCounts) {
    let Completion { status, bytes } = ended;
    let (mut line, mut tally) = (Vec::new(), BatchCounts::default());
    let is_large = status == status::DONE && bytes.len() >= LARGE_BYTES;
    if !is_large {
        line.reserve(to.name.len() + bytes.len() + 8);
    }
    let mut lines = ReplyLines {
        out: &mut line,
        tally: &mut tally,
    };
    match is_large {
        true => lines.write_large(to, bytes, 0),
        false => lines.write_ended(to, status, &bytes),
    }
    (line, tally)
}
