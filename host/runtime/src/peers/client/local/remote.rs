//! Lines for a daemon of another host, as the bridge that provides it gets them.
//!
//! The bridge has the command [`COMMAND`]. Its arguments are the daemon's name, the name of a command, and the arguments
//! of that command as a list. Its result is that of the daemon. An error of the daemon whose code is an author's is the
//! bridge's own answer; every other one is the `cause` in the data of a `failed`, as when a daemon passes on the error of
//! another ([`dae_plugin_api::coded`]), and is taken out of it here. So a caller sees the daemon's error, and the bridge
//! stands in none of them.

use std::sync::Arc;

use dae_common_tcp::{ErrorCode, Message};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{CallProgress, Client};
use super::LocalClient;
use crate::connection::pending_calls::{CallError, CallReply};
use crate::session::dispatch::DispatchedCommand;
use crate::session::gate::Lease;
use crate::threads::trace;
use dae_plugin_api::coded::{FAILED, RawData};
use dae_store::report::Credential;

/// The command of a bridge that gets the lines for the daemons that it provides.
pub(crate) const COMMAND: &str = "provided";

/// A call to a daemon of another host.
#[derive(Debug)]
struct RemoteCall {
    /// The name by which the bridge knows the daemon.
    daemon: String,
    /// The command.
    command: String,
}

/// The data of an error that stands for another one.
#[derive(Deserialize)]
struct PassedOn {
    cause: Cause,
}

#[derive(Deserialize)]
struct Cause {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<RawData>,
}

/// Sends a command to a daemon of another host.
pub(super) fn call(
    here: Arc<LocalClient>,
    client: &Arc<Client>,
    daemon: String,
    (name, arguments): (&str, &str),
) -> CallProgress {
    let wrapped = match wrapped(&daemon, name, arguments) {
        Ok(wrapped) => wrapped,
        Err(refusal) => return CallProgress::Now(Err(refusal)),
    };
    let call = RemoteCall {
        daemon,
        command: name.to_owned(),
    };
    match here.call_gate(client, COMMAND, &wrapped) {
        CallProgress::Now(reply) => CallProgress::Now(call.unwrapped(reply)),
        CallProgress::Later(reply) => {
            CallProgress::Later(Box::pin(async move { call.unwrapped(reply.await) }))
        }
    }
}

/// Returns the name and the arguments of a line without a reply, as the gate gets it. `daemon` is the daemon of another
/// host that it is for, if any. Returns `None` if it can't be sent.
pub(super) fn event<'m>(daemon: Option<&str>, message: &Message<'m>) -> Option<(&'m str, String)> {
    let Some(daemon) = daemon else {
        return Some((message.name, message.arguments.to_owned()));
    };
    let wrapped = wrapped(daemon, message.name, message.arguments).ok()?;
    Some((COMMAND, wrapped))
}

/// Returns the arguments of [`COMMAND`] for a line.
///
/// # Errors
/// The arguments of the line are no JSON array.
fn wrapped(daemon: &str, name: &str, arguments: &str) -> Result<String, CallError> {
    let arguments = match arguments.trim() {
        "" => "[]",
        arguments => arguments,
    };
    let is_array = arguments.starts_with('[');
    if !is_array || serde_json::from_str::<&RawValue>(arguments).is_err() {
        let text = format!("a daemon of another host takes a JSON array of arguments for {name}");
        return Err(CallError::new(ErrorCode::BadArguments, text));
    }
    let daemon = serde_json::Value::from(daemon);
    let name = serde_json::Value::from(name);
    Ok(format!("[{daemon},{name},{arguments}]"))
}

impl RemoteCall {
    /// Returns the daemon's reply, from that of the bridge.
    fn unwrapped(&self, reply: CallReply) -> CallReply {
        reply.map_err(|error| self.unwrapped_error(error))
    }

    fn unwrapped_error(&self, error: CallError) -> CallError {
        let data = error.data.as_ref().filter(|_| error.code == FAILED);
        let passed_on = data.and_then(|data| serde_json::from_str::<PassedOn>(data.get()).ok());
        if let Some(PassedOn { cause }) = passed_on {
            return CallError {
                code: cause.code,
                message: cause.message,
                data: cause.data,
                daemon: error.daemon,
            };
        }
        let is_of_bridge = dae_plugin_api::coded::is_own_code(&error.code);
        match is_of_bridge {
            // An author's error of the daemon itself.
            true => error,
            false => CallError {
                message: format!(
                    "{} of {}: its bridge has answered: {}",
                    self.command, self.daemon, error.message
                ),
                ..error
            },
        }
    }
}

/// Asks the daemon who it is. Its bridge learns from it that this guest is connected to the daemon.
///
/// # Errors
/// The daemon doesn't answer, or no credential.
pub(super) async fn welcomed(
    here: &LocalClient,
    daemon: &str,
    lease: Arc<Lease>,
) -> Result<Credential, CallError> {
    let sent = DispatchedCommand {
        guest: here.guest.id(),
        name: COMMAND.to_owned(),
        arguments: wrapped(daemon, "dae", "[]")?,
        trace: trace::current_parent(),
    };
    let call = RemoteCall {
        daemon: daemon.to_owned(),
        command: "dae".to_owned(),
    };
    let reply = call.unwrapped(here.run(lease, sent, true).await)?;
    let [credential] = serde_json::from_slice::<[Credential; 1]>(&reply).map_err(|error| {
        let text = format!("{daemon} has answered `dae` with no credential: {error}");
        CallError::new(ErrorCode::Unavailable, text)
    })?;
    Ok(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> RemoteCall {
        RemoteCall {
            daemon: "Counter@box2".to_owned(),
            command: "increment".to_owned(),
        }
    }

    fn error(code: &str, data: &str) -> CallError {
        CallError {
            code: code.to_owned(),
            message: "m".to_owned(),
            data: RawData::read(data.to_owned()),
            daemon: None,
        }
    }

    #[test]
    fn a_line_is_wrapped_as_it_is_and_nothing_gets_out_of_its_place() {
        let wrapped = |arguments| wrapped("C@b", "set", arguments);
        assert_eq!(wrapped("").unwrap(), r#"["C@b","set",[]]"#);
        let exact = "[18446744073709551616, 1.50]";
        assert_eq!(wrapped(exact).unwrap(), format!(r#"["C@b","set",{exact}]"#));
        for wrong in ["[1],[2]", "1", "{}", "[1", "[1]]", "[1] x"] {
            let refusal = wrapped(wrong).unwrap_err();
            assert_eq!(refusal.code, "bad-arguments", "{wrong}");
        }
    }

    #[test]
    fn an_error_of_the_daemon_is_told_as_the_daemon_has_told_it() {
        let own = call().unwrapped_error(error("not-found", r#"{"key":1}"#));
        assert_eq!(own, error("not-found", r#"{"key":1}"#));
        let cause = r#"{"cause":{"code":"crashed","message":"it panicked"}}"#;
        let crashed = call().unwrapped_error(error("failed", cause));
        assert_eq!(
            (crashed.code.as_str(), crashed.message.as_str()),
            ("crashed", "it panicked")
        );
        // The daemon itself has passed on an error: one layer is the bridge's, the other one the daemon's.
        let twice = format!(r#"{{"cause":{{"code":"failed","message":"x","data":{cause}}}}}"#);
        let passed_on = call().unwrapped_error(error("failed", &twice));
        assert_eq!(passed_on.code, "failed");
        assert_eq!(passed_on.data.unwrap().get(), cause);
    }

    #[test]
    fn an_error_of_the_bridge_names_the_daemon_and_the_bridge() {
        let late = call().unwrapped_error(error("timeout", "null"));
        assert_eq!(late.code, "timeout");
        assert_eq!(
            late.message,
            "increment of Counter@box2: its bridge has answered: m"
        );
    }
}
