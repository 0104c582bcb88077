//! The daemon of this worker, as its [hand-offs](crate::hand_off) see it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dae_common_tcp::Message;

use super::running::CallOf;
use super::wire::{self, HostConnection};
use crate::hand_off::{HandedBack, ServedDaemon, Started, WaitingCommand};
use crate::instance::reply::{ImmediateCommand, ReplyLines};
use crate::instance::{Instance, Pending};
use crate::plugin::command_table::{CommandTable, ResolvedCommand, RunsOn};
use crate::plugin::completion::Call;
use crate::threads::counters::BatchCounts;

/// The instance of the daemon, and the connection to the host.
pub(super) struct InstanceOfWorker {
    pub(super) instance: Arc<Instance>,
    pub(super) wire: Arc<HostConnection>,
}

impl ServedDaemon for InstanceOfWorker {
    type Waiting = Pending;

    #[inline]
    fn commands(&self) -> &CommandTable {
        &self.instance.commands
    }

    #[inline]
    fn answer(
        &self,
        message: Message<'_>,
        (guest, index, known): (u64, u32, &ResolvedCommand),
        (out, tally): (&mut Vec<u8>, &mut BatchCounts),
    ) -> bool {
        wire::begin_to_listen();
        let command = ImmediateCommand {
            guest,
            index,
            known,
        };
        ReplyLines { out, tally }.answer_on_the_spot(&self.instance, message, command);
        wire::has_told()
    }

    fn start(
        &self,
        message: Message<'_>,
        (guest, index): (u64, u32),
        (out, tally): (&mut Vec<u8>, &mut BatchCounts),
    ) -> Started<Pending> {
        wire::begin_to_listen();
        let call = Call {
            index,
            guest,
            arguments: message.arguments,
            parts: 0,
        };
        let mut pending = self.instance.answer_later(RunsOn::Later, call, None);
        // If it waits, it is polled again with a waker of its own.
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(ended) = Pin::new(&mut pending).poll(context) else {
            return Started::Waits(pending);
        };
        ReplyLines { out, tally }.write_ended((&message).into(), ended.status, &ended.bytes);
        pending.give_back(ended.bytes);
        Started::Ended(wire::has_told())
    }

    fn hand_back(&self, id: u64, back: HandedBack) {
        self.wire.hand_back(id, back);
    }

    fn go_on(&self, (id, guest): (u64, u64), waiting: WaitingCommand<Pending>) {
        let command = waiting.index;
        self.wire
            .go_on_with(CallOf { id, guest, command }, waiting.command);
    }

    async fn drain(&self) -> io::Result<()> {
        self.wire.drain().await
    }

    fn want_reads(&self) {
        self.wire.tell_want(true);
    }
}
