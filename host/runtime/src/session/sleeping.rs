//! A daemon that sleeps: its port listens and no code of it runs.
//!
//! The host answers what it knows without the code: `dae`, `stats`, `options`, `help`, and a name that is no command. The
//! first command of the daemon's own wakes it ([`Gate::wake`]) and waits at the gate like at a reload. Nothing is built
//! for a daemon that nobody asks: its command table is made at the first question that needs it.

use std::sync::{Arc, OnceLock};

use dae_common_tcp::ErrorCode;
use serde_json::json;

use crate::connection::pending_calls::{CallError, CallReply};
use crate::plugin::command_table::{CommandEntry, CommandTable, HostCommand};
use crate::plugin::identity::Identity;
use crate::session::dispatch;
use crate::session::gate::{Gate, GatePhase};
use dae_store::manifest::Manifest;
use dae_store::report::Credential;

/// A sleeping daemon, as its gate knows it.
#[derive(Debug)]
pub struct SleepingDaemon {
    identity: Arc<Identity>,
    manifest: Arc<Manifest>,
    commands: OnceLock<Box<CommandTable>>,
}

/// The side that a line to a sleeping daemon is for.
#[derive(Debug)]
pub(crate) enum SleepAnswer {
    /// The host answers with this JSON.
    Body(Vec<u8>),
    /// There is no such command, or none that `help` could describe.
    Unknown(String),
    /// Only the daemon's code can answer.
    Wakes,
}

impl SleepingDaemon {
    /// Creates a sleeping daemon. The pid in `identity` is that of the host, which owns the port.
    #[must_use]
    pub fn new(identity: Arc<Identity>, manifest: Arc<Manifest>) -> Arc<Self> {
        Arc::new(SleepingDaemon {
            identity,
            manifest,
            commands: OnceLock::new(),
        })
    }

    /// Returns the answer to `dae`: that of an instance, without a time for which it runs.
    #[must_use]
    pub fn credential(&self) -> Credential {
        Credential {
            uptime_ms: None,
            generation: (self.identity.generation > 0).then_some(self.identity.generation),
            ..self.identity.credential()
        }
    }

    /// Returns the answer to a line, if it needs no code of the daemon.
    pub(crate) fn answer(&self, gate: &Gate, (name, arguments): (&str, &str)) -> SleepAnswer {
        match self.commands().find(name) {
            Some(CommandEntry::Host(command)) => self.host_body((command, arguments), gate),
            // A connect hook may listen to its guest, and then any line is for the daemon's code.
            None if self.manifest.connect.is_none() => {
                SleepAnswer::Unknown(dispatch::unknown(name, self.commands()))
            }
            Some(CommandEntry::Own { .. }) | None => SleepAnswer::Wakes,
        }
    }

    fn host_body(&self, (command, arguments): (HostCommand, &str), gate: &Gate) -> SleepAnswer {
        let body = match command {
            HostCommand::Dae => json!(self.credential()).to_string(),
            HostCommand::Stats => gate.stats.report().to_string(),
            HostCommand::Options => self.commands().options().to_owned(),
            HostCommand::Help => match dispatch::help(self.commands(), arguments) {
                Ok(help) => help.into_owned(),
                Err(text) => return SleepAnswer::Unknown(text),
            },
        };
        SleepAnswer::Body(body.into_bytes())
    }

    fn commands(&self) -> &CommandTable {
        self.commands
            .get_or_init(|| Box::new(CommandTable::of(&self.manifest)))
    }
}

/// Returns the reply to a call of a local client, if the daemon sleeps and needn't wake for it.
pub(crate) fn reply(gate: &Gate, call: (&str, &str)) -> Option<CallReply> {
    let phase = gate.phase();
    let GatePhase::Asleep(sleeping) = &**phase else {
        return None;
    };
    match sleeping.answer(gate, call) {
        SleepAnswer::Body(body) => Some(Ok([b"[", &body[..], b"]"].concat())),
        SleepAnswer::Unknown(text) => Some(Err(CallError::new(ErrorCode::UnknownCommand, text))),
        SleepAnswer::Wakes => None,
    }
}
