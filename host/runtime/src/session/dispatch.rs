//! Dispatch: runs one command, from its name and arguments to its end, on the instance behind a gate.
//!
//! Guests with a socket and local clients are two front ends of this code. Both ask for an instance in the same way
//! ([`crate::session::admission`]). Both start commands by the same table, run those that end later as a
//! [`run::CommandRun`], and have the same limits, counts and error texts. Each front end adds the form of its replies:
//! a guest gets lines in the order of its lines ([`crate::session::guest`]), a local client gets a value for each call
//! ([`at_once`], [`call`]).

pub(crate) mod run;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use dae_common_tcp::{ErrorCode, TraceParent, nearest};
use dae_plugin_api::abi::status;
use dae_plugin_api::coded::CodedError;
use serde::Deserialize;
use serde_json::json;

use crate::connection::event_handlers::is_ours;
use crate::connection::guest_handle::GuestHandle;
use crate::connection::pending_calls::{CallError, CallReply, as_array};
use crate::instance::reply;
use crate::plugin::command_table::{CommandEntry, CommandTable, HostCommand, OwnCommand, RunsOn};
use crate::plugin::completion::Call;
use crate::session::gate::{Gate, GatePhase, Lease};
use crate::threads::counters::BatchCounts;
use crate::threads::trace::{self, TraceSpan};
use dae_store::json5_text;
use run::{CommandRun, RunOf};

/// The most commands of one guest that run or wait for their reply. Bounds the memory that a flood of slow commands
/// holds. Further commands of a socket stay there; further calls of a local client are refused.
pub(crate) const IN_FLIGHT_MAX: usize = 1024;

/// The longest arguments of a `help` for one command (bytes): a name has at most 128, each perhaps escaped. Longer ones are
/// not read.
const HELP_ARGUMENTS_MAX: usize = 1024;

/// A command on its way to a gate, from a guest that has no connection.
#[derive(Debug, Clone)]
pub(crate) struct DispatchedCommand {
    /// The guest that it comes from.
    pub guest: u64,
    /// The command.
    pub name: String,
    /// The arguments (JSON).
    pub arguments: String,
    /// The trace that it belongs to, if any.
    pub trace: Option<TraceParent>,
}

impl DispatchedCommand {
    fn call(&self, index: u32) -> Call<'_> {
        Call {
            index,
            guest: self.guest,
            arguments: &self.arguments,
            // The reply of a local client is whole.
            parts: 0,
        }
    }
}

/// Returns the reply, if the guest is admitted and the command answers on the spot.
pub(crate) fn at_once(
    gate: &Gate,
    guest: &GuestHandle,
    (name, arguments): (&str, &str),
) -> Option<CallReply> {
    let phase = gate.phase();
    let lease = phase.admits(guest)?;
    let (index, _) = lease.instance.commands.known(name)?.here()?;
    let call = Call {
        index,
        guest: guest.id(),
        arguments,
        parts: 0,
    };
    let span = trace::current_parent().map(TraceSpan::below);
    Some(answer_here(lease, gate, call, span))
}

/// Returns the error text for a command that had not begun when its connection was closed.
pub(crate) fn closing(gate: &Gate) -> String {
    match &**gate.phase() {
        GatePhase::Shut(reason) => reason.clone(),
        _ => "the connection is closed before it began; it never runs".to_owned(),
    }
}

/// Runs a command of a local client to its end. `entry` is the command behind its name.
pub(crate) async fn call(
    lease: Arc<Lease>,
    gate: &Gate,
    entry: Option<CommandEntry>,
    sent: DispatchedCommand,
) -> CallReply {
    match entry {
        Some(CommandEntry::Own {
            index,
            runs: RunsOn::Here,
        }) => {
            let span = sent.trace.map(TraceSpan::below);
            answer_here(&lease, gate, sent.call(index), span)
        }
        Some(CommandEntry::Own { index, runs }) => {
            answer_later(lease, gate, OwnCommand { index, runs }, sent).await
        }
        Some(CommandEntry::Host(command)) => {
            let mut bytes = vec![b'['];
            host_body((command, &sent.arguments), &lease, gate, &mut bytes)
                .map_err(|text| CallError::new(ErrorCode::UnknownCommand, text))?;
            bytes.push(b']');
            Ok(bytes)
        }
        None => {
            let text = unknown(&sent.name, &lease.instance.commands);
            Err(CallError::new(ErrorCode::UnknownCommand, text))
        }
    }
}

/// Runs a command that answers on the spot, and counts it.
fn answer_here(lease: &Lease, gate: &Gate, call: Call<'_>, span: Option<TraceSpan>) -> CallReply {
    let began = Instant::now();
    let mut bytes = vec![b'['];
    let index = call.index;
    let status = trace::during(span, || lease.instance.answer_here(call, &mut bytes));
    let (reply, counts) = reply_of(status, bytes);
    let took = began.elapsed();
    gate.count_one(lease, (index, counts), took);
    if let Some(span) = span {
        let name = lease.instance.command_name(index);
        span.end((&gate.name, name), took, counts.errors > 0);
    }
    reply
}

/// Runs a command that ends later, and counts it.
async fn answer_later(
    lease: Arc<Lease>,
    gate: &Gate,
    command: OwnCommand,
    sent: DispatchedCommand,
) -> CallReply {
    let began = Instant::now();
    let OwnCommand { index, runs } = command;
    let span = sent.trace.map(TraceSpan::below);
    let call = sent.call(index);
    let pending = trace::during(span, || lease.instance.answer_later(runs, call, None));
    lease.instance.flush();
    let of = RunOf {
        name: sent.name.into_boxed_str(),
        index,
        began,
        limit: lease.instance.commands.limit(index, gate.limits.command),
        parts: None,
        span,
    };
    let mut run = CommandRun::new(of, pending, lease, None);
    let ended = (&mut run).await;
    let (status, bytes) = (ended.completion.status, ended.completion.bytes);
    let instance = &run.lease().instance;
    // The caller has the reply now, so it counts as read.
    if let Some(mut unread) = instance.unread(sent.guest, None) {
        unread.add(bytes.len());
    }
    let (reply, counts) = reply_of(status, [b"[", &bytes[..]].concat());
    gate.count_one(run.lease(), (index, counts), ended.took);
    reply
}

/// Returns a command's reply and its counts. `bytes` is `[` and the command's result or error text.
fn reply_of(status: u32, mut bytes: Vec<u8>) -> (CallReply, BatchCounts) {
    let mut tally = BatchCounts::default();
    reply::count_ended(&mut tally, status);
    let reply = match status {
        status::DONE => {
            bytes.push(b']');
            Ok(bytes)
        }
        status::NOTHING => Ok(b"[]".to_vec()),
        status::CODED => Err(CodedError::read(&bytes[1..]).into()),
        status => {
            let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
            Err(CallError::new(reply::code_of(status), text))
        }
    };
    (reply, tally)
}

/// Passes a line that is no command to the daemon's event handlers for this guest. Returns false if there are none.
pub(crate) fn notify_handlers(guest: &GuestHandle, name: &str, arguments: &str) -> bool {
    let line = || [name.as_bytes(), b" ", &as_array(arguments)].concat();
    guest.heard.is_of_use() && !is_ours(name) && guest.heard.notify(&line())
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
///
/// # Errors
/// The arguments name a command that the daemon doesn't have.
pub(crate) fn host_body(
    (command, arguments): (HostCommand, &str),
    lease: &Lease,
    gate: &Gate,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let instance = &lease.instance;
    match command {
        HostCommand::Options => out.extend_from_slice(instance.commands.options().as_bytes()),
        HostCommand::Help => {
            out.extend_from_slice(help(&instance.commands, arguments)?.as_bytes());
        }
        HostCommand::Dae => {
            out.extend_from_slice(json!(instance.identity.credential()).to_string().as_bytes())
        }
        HostCommand::Stats => {
            out.extend_from_slice(gate.stats.report().to_string().as_bytes());
        }
    }
    Ok(())
}

/// Returns the answer to `help`: that for one command, if the arguments name one.
///
/// # Errors
/// The arguments name a command that the daemon doesn't have.
pub(crate) fn help<'c>(
    commands: &'c CommandTable,
    arguments: &str,
) -> Result<Cow<'c, str>, String> {
    match asked_for(arguments) {
        Some(name) => {
            let help = commands.help_of(&name).map(Cow::Owned);
            help.ok_or_else(|| unknown(&name, commands))
        }
        None => Ok(Cow::Borrowed(commands.help())),
    }
}

/// The argument of `help`, in each form that an argument may have.
#[derive(Deserialize)]
#[serde(untagged)]
enum AskedHelp {
    Listed([String; 1]),
    Alone(String),
    Named { command: String },
}

/// Returns the command that a `help` asks for, if its only argument is a string. Anything else asks for all of them, as
/// before `help` took an argument.
fn asked_for(arguments: &str) -> Option<String> {
    if arguments.len() > HELP_ARGUMENTS_MAX {
        return None;
    }
    let asked = serde_json::from_str(arguments).or_else(|_| {
        let strict = json5_text::to_strict(arguments).map_err(serde::de::Error::custom)?;
        serde_json::from_str(&strict)
    });
    match asked.ok()? {
        AskedHelp::Listed([name]) | AskedHelp::Alone(name) | AskedHelp::Named { command: name } => {
            Some(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use dae_store::manifest::Manifest;

    use super::*;
    use crate::plugin::completion::Completion;
    use crate::session::test_daemon::{TestDaemon, command, gate_of};

    fn sent(name: &str) -> DispatchedCommand {
        DispatchedCommand {
            guest: 1,
            name: name.to_owned(),
            arguments: String::new(),
            trace: None,
        }
    }

    #[test]
    fn help_takes_the_name_of_a_command_in_every_form_of_an_argument() {
        for one in [
            r#"["greet"]"#,
            r#""greet""#,
            r#"{"command":"greet"}"#,
            "['greet',]",
            "{command: 'greet'}",
        ] {
            assert_eq!(asked_for(one).as_deref(), Some("greet"), "{one}");
        }
        let long = format!("[\"{}\"]", "a".repeat(HELP_ARGUMENTS_MAX));
        for all in [
            "",
            "[]",
            "[1]",
            r#"["a","b"]"#,
            r#"{"a":"b"}"#,
            "[null]",
            "[",
            &long,
        ] {
            assert_eq!(asked_for(all), None, "{all}");
        }
    }

    #[test]
    fn a_coded_error_keeps_its_data_and_counts_as_an_error() {
        let sunk = br#"[{"code":"full","message":"no","data":{"n":1}}"#.to_vec();
        let (reply, tally) = reply_of(status::CODED, sunk);
        let refusal = reply.unwrap_err();
        assert_eq!(
            (refusal.code.as_str(), refusal.message.as_str()),
            ("full", "no")
        );
        assert_eq!(refusal.data.unwrap().get(), r#"{"n":1}"#);
        assert_eq!((tally.calls, tally.errors, tally.panics), (1, 1, 0));
    }

    #[tokio::test]
    async fn every_kind_of_command_has_its_reply_or_its_error() {
        let (daemon, end) = TestDaemon::that_waits();
        let manifest = Manifest {
            commands: vec![command("slow")],
            ..Manifest::default()
        };
        let (gate, _lease_return) = gate_of(daemon, manifest);
        let guest = gate.guests.enter();
        let run = async |name: &str| {
            let lease = gate.phase().admits(&guest).cloned().expect("open");
            let entry = lease.instance.commands.find(name);
            call(lease, &gate, entry, sent(name)).await
        };
        assert!(at_once(&gate, &guest, ("slow", "")).is_none(), "later");
        let done = Completion {
            status: status::DONE,
            bytes: b"3".to_vec(),
        };
        end.send(done).expect("nobody else takes it");
        assert_eq!(run("slow").await.unwrap(), b"[3]");
        assert_eq!(run("options").await.unwrap()[..2], *b"[{");
        let refusal = run("slaw").await.unwrap_err();
        assert_eq!(refusal.code, "unknown-command");
        assert!(refusal.message.contains("did you mean slow?"));
    }
}
