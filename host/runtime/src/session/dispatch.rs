//! One command's turn: from a name and its arguments to its end, on whatever stands behind a gate.
//!
//! A connection's task answers whole batches and keeps their order (`guest`); this is the same for one command that comes by
//! no connection, from a daemon of this host to another, and what the two have in common. The same limits apply, the same
//! counts are kept, and the same words are said.

use std::sync::Arc;
use std::time::Instant;

use dae_common_tcp::{ErrorCode, nearest};
use dae_plugin_api::abi::status;
use serde_json::json;

use crate::connection::event_handlers::is_ours;
use crate::connection::guest_handle::GuestHandle;
use crate::connection::pending_calls::{CallError, CallReply, as_array};
use crate::instance::reply;
use crate::plugin::command_table::{CommandEntry, CommandTable, HostCommand, RunsOn};
use crate::plugin::completion::Call;
use crate::session::connect_hooks;
use crate::session::gate::{Gate, GatePhase, Lease};
use crate::threads::counters::BatchCounts;

/// A command on its way to a gate, from a guest who has no connection.
#[derive(Debug, Clone)]
pub(crate) struct DispatchedCommand {
    /// The command.
    pub name: String,
    /// Its arguments, JSON.
    pub arguments: String,
}

/// The answer, where an instance is there and the command answers on the spot.
pub(crate) fn at_once(
    gate: &Gate,
    guest: &GuestHandle,
    (name, arguments): (&str, &str),
) -> Option<CallReply> {
    let phase = gate.phase();
    let GatePhase::Open(lease) = &**phase else {
        return None;
    };
    if connect_hooks::is_due(lease, guest) {
        return None;
    }
    let Some(CommandEntry::Own {
        index,
        runs: RunsOn::Here,
    }) = lease.instance.commands.find(name)
    else {
        return None;
    };
    let began = Instant::now();
    let call = Call {
        index,
        guest: guest.id(),
        arguments,
    };
    let mut bytes = vec![b'['];
    let status = lease.instance.answer_here(call, &mut bytes);
    let (reply, tally) = reply_of(status, bytes);
    gate.count(lease.instance.number(), tally, began.elapsed());
    Some(reply)
}

/// Waits until there is an instance, and it knows of this guest.
pub(crate) async fn admitted(
    gate: &Gate,
    guest: &Arc<GuestHandle>,
) -> Result<Arc<Lease>, CallError> {
    if let GatePhase::Open(lease) = &**gate.phase()
        && !connect_hooks::is_due(lease, guest)
    {
        return Ok(Arc::clone(lease));
    }
    let began = Instant::now();
    loop {
        // In this order: a change between the two looks is not missed.
        let changed = gate.changed();
        let patience = match &**gate.phase() {
            GatePhase::Open(lease) => Ok(Arc::clone(lease)),
            GatePhase::Shut(reason) => {
                return Err(CallError::new(ErrorCode::Unavailable, reason.clone()));
            }
            GatePhase::Waiting => Err(Some(
                gate.limits.instance_wait.saturating_sub(began.elapsed()),
            )),
            // Each step of a change has a limit of its own.
            GatePhase::Changing => Err(None),
        };
        match patience {
            Ok(lease) => {
                if let Some(greeting) = connect_hooks::due(&lease, guest, gate.limits.command) {
                    greeting.await;
                }
                return Ok(lease);
            }
            Err(None) => changed.await,
            Err(Some(left)) => {
                if tokio::time::timeout(left, changed).await.is_err() {
                    return Err(CallError::new(ErrorCode::Unavailable, no_instance(gate)));
                }
            }
        }
    }
}

/// What is said to who waited too long.
pub(crate) fn no_instance(gate: &Gate) -> String {
    let waited = gate.limits.instance_wait;
    format!(
        "no instance of {} answered within {waited:?}; ask Dae for its state",
        gate.name
    )
}

/// Runs a command to its end.
pub(crate) async fn run(
    lease: Arc<Lease>,
    gate: Arc<Gate>,
    guest: Arc<GuestHandle>,
    sent: DispatchedCommand,
) -> CallReply {
    match lease.instance.commands.find(&sent.name) {
        Some(CommandEntry::Own { index, runs }) => {
            let began = Instant::now();
            let call = Call {
                index,
                guest: guest.id(),
                arguments: &sent.arguments,
            };
            let (reply, tally) = run_own(&lease, &gate, &sent.name, (runs, call)).await;
            gate.count(lease.instance.number(), tally, began.elapsed());
            reply
        }
        Some(CommandEntry::Host(command)) => {
            let mut bytes = vec![b'['];
            host_body(command, &lease, &gate, &mut bytes);
            bytes.push(b']');
            Ok(bytes)
        }
        None => {
            let text = unknown(&sent.name, &lease.instance.commands);
            Err(CallError::new(ErrorCode::UnknownCommand, text))
        }
    }
}

async fn run_own(
    lease: &Lease,
    gate: &Gate,
    name: &str,
    (runs, call): (RunsOn, Call<'_>),
) -> (CallReply, BatchCounts) {
    let instance = &lease.instance;
    if runs == RunsOn::Here {
        let mut bytes = vec![b'['];
        let status = instance.answer_here(call, &mut bytes);
        return reply_of(status, bytes);
    }
    let pending = instance.answer_later(runs, call, None);
    instance.flush();
    let start = pending.start();
    let of = (name, instance.fate(call.index));
    let ended = tokio::select! {
        // First, since what it was withdrawn for is told there.
        biased;
        ended = pending => ended,
        given_up = lease.given_up(of, gate.limits.command, start) => given_up,
    };
    // Whoever has called has it now.
    if let Some(mut unread) = instance.unread(call.guest, None) {
        unread.add(ended.bytes.len());
    }
    reply_of(ended.status, [b"[", &ended.bytes[..]].concat())
}

/// What a command came to; `bytes` is `[` and what it left.
fn reply_of(status: u32, mut bytes: Vec<u8>) -> (CallReply, BatchCounts) {
    let mut tally = BatchCounts {
        calls: 1,
        ..BatchCounts::default()
    };
    match status {
        status::DONE => {
            bytes.push(b']');
            (Ok(bytes), tally)
        }
        status::NOTHING => (Ok(b"[]".to_vec()), tally),
        status => {
            tally.errors = 1;
            tally.panics = u64::from(status == status::CRASHED);
            let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
            (Err(CallError::new(reply::code_of(status), text)), tally)
        }
    }
}

/// Hands a line that is no command to those of the daemon's code who listen to this guest; false where nobody does.
pub(crate) fn tell_event(guest: &GuestHandle, name: &str, arguments: &str) -> bool {
    let line = || [name.as_bytes(), b" ", &as_array(arguments)].concat();
    guest.heard.is_of_use() && !is_ours(name) && guest.heard.tell(&line())
}

/// What is said of a name that is no command.
pub fn unknown(name: &str, commands: &CommandTable) -> String {
    match nearest(name, commands.names()) {
        Some(near) => {
            format!("there is no command {name}; did you mean {near}? `options` lists all")
        }
        None => format!("there is no command {name}; `options` lists all"),
    }
}

/// Appends what the host answers for a daemon.
pub(crate) fn host_body(command: HostCommand, lease: &Lease, gate: &Gate, out: &mut Vec<u8>) {
    let instance = &lease.instance;
    match command {
        HostCommand::Options => out.extend_from_slice(instance.commands.options().as_bytes()),
        HostCommand::Help => out.extend_from_slice(instance.commands.help().as_bytes()),
        HostCommand::Dae => {
            out.extend_from_slice(json!(instance.identity.credential()).to_string().as_bytes())
        }
        HostCommand::Stats => {
            out.extend_from_slice(gate.stats.report().to_string().as_bytes());
        }
    }
}
