//! Dispatch: runs one command, from its name and arguments to its end, on the instance behind a gate.
//!
//! A connection's task answers whole batches and keeps their order (`guest`). This module does the same for a single
//! command without a connection, from one daemon of this host to another. It also holds the code that both share. The
//! limits, counts and error texts are the same.

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

/// A command on its way to a gate, from a guest that has no connection.
#[derive(Debug, Clone)]
pub(crate) struct DispatchedCommand {
    /// The command.
    pub name: String,
    /// The arguments (JSON).
    pub arguments: String,
}

/// Returns the reply, if the gate is open and the command answers on the spot.
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

/// Waits for an instance, and until its connect hook has run for this guest.
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
        // Subscribe before looking at the phase, so that no change in between is missed.
        let changed = gate.changed();
        let patience = match &**gate.phase() {
            GatePhase::Open(lease) => Ok(Arc::clone(lease)),
            GatePhase::Shut(reason) => {
                return Err(CallError::new(ErrorCode::Unavailable, reason.clone()));
            }
            GatePhase::Waiting => Err(Some(
                gate.limits.instance_wait.saturating_sub(began.elapsed()),
            )),
            // No limit here: each step of a change has its own.
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

/// Returns the error text for a command that waited too long for an instance.
pub(crate) fn no_instance(gate: &Gate) -> String {
    let waited = gate.limits.instance_wait;
    format!(
        "no instance of {} answered within {waited:?}; ask Dae for its state",
        gate.name
    )
}

/// Returns the error text for a command that had not begun when its connection was closed.
pub(crate) fn closing(gate: &Gate) -> String {
    match &**gate.phase() {
        GatePhase::Shut(reason) => reason.clone(),
        _ => "the connection is closed before it began; it never runs".to_owned(),
    }
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
        // Polled first: a withdrawn command ends there, with the reason.
        biased;
        ended = pending => ended,
        given_up = lease.given_up(of, gate.limits.command, start) => given_up,
    };
    // The caller has the reply now, so it counts as read.
    if let Some(mut unread) = instance.unread(call.guest, None) {
        unread.add(ended.bytes.len());
    }
    reply_of(ended.status, [b"[", &ended.bytes[..]].concat())
}

/// Returns a command's reply and its counts. `bytes` is `[` and the command's result or error text.
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

/// Passes a line that is no command to the daemon's event handlers for this guest. Returns false if there are none.
pub(crate) fn tell_event(guest: &GuestHandle, name: &str, arguments: &str) -> bool {
    let line = || [name.as_bytes(), b" ", &as_array(arguments)].concat();
    guest.heard.is_of_use() && !is_ours(name) && guest.heard.tell(&line())
}

/// Returns the error text for a name that is no command.
pub fn unknown(name: &str, commands: &CommandTable) -> String {
    match nearest(name, commands.names()) {
        Some(near) => {
            format!("there is no command {name}; did you mean {near}? `options` lists all")
        }
        None => format!("there is no command {name}; `options` lists all"),
    }
}

/// Appends the reply to a command that the host answers for a daemon.
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
