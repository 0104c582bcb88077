//! The daemon of this worker, as its [hand-offs](crate::hand_off) see it.

use std::io;
use std::sync::Arc;

use dae_common_tcp::Message;

use super::wire::{self, HostConnection};
use crate::hand_off::{HandedBack, ServedDaemon};
use crate::instance::Instance;
use crate::instance::reply::{ImmediateCommand, ReplyLines};
use crate::plugin::command_table::{CommandTable, ResolvedCommand};
use crate::threads::counters::BatchCounts;

/// The instance of the daemon, and the connection to the host.
pub(super) struct InstanceOfWorker {
    pub(super) instance: Arc<Instance>,
    pub(super) wire: Arc<HostConnection>,
}

impl ServedDaemon for InstanceOfWorker {
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

    fn hand_back(&self, id: u64, back: HandedBack) {
        self.wire.hand_back(id, back);
    }

    async fn drain(&self) -> io::Result<()> {
        self.wire.drain().await
    }

    fn want_reads(&self) {
        self.wire.tell_want(true);
    }
}
