//! Bridges: daemons that bring daemons of other hosts into this one.
//!
//! A bridge needs the grant `bridge`: `dae-host install NAME FILE --grant bridge`. It provides a daemon of another host by
//! its credential, with the name of that host in `host`. From then on the daemon is found here as `NAME@HOST`, and as `NAME`
//! while no other daemon has that name. `list`, `call`, [`Ecosystem::call`], [`Ecosystem::connect`], [`Ecosystem::watch`] and
//! clients with types treat it like every other daemon.
//!
//! Its commands come to the bridge's own command `provided`, which has the arguments of the example below: the name that
//! the caller means, the command, and its arguments. The guest is the caller's connection; what the bridge emits to it are
//! events of the daemon. The first command of a connection is `dae`, whose result is the daemon's credential. A name
//! without a host means any host that has the daemon: each of them calls it `shared`.
//!
//! ```
//! use dae_plugin_api::bridge::CarriedError;
//! use dae_plugin_api::prelude::*;
//!
//! struct Bridge;
//!
//! #[daemon]
//! impl Bridge {
//!     fn start() -> Self {
//!         Bridge
//!     }
//!
//!     /// Calls `command` of the daemon `name` of another host.
//!     #[command]
//!     async fn provided(&self, name: String, command: String, arguments: Vec<json::Value>) -> Result<json::Value> {
//!         let _ = (name, command, arguments);
//!         Err(CarriedError::new("unavailable", "that host can't be reached").into())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! A provided name stays over a reload and a crash of the bridge, and its calls wait, as those of the bridge's own guests
//! do. It goes when the bridge withdraws it, is stopped or uninstalled, or loses its grant. [`Ecosystem::list`] shows the
//! names that an earlier instance has left: those whose `provider` is the bridge.

use serde_json::value::RawValue;

use crate::abi::HostFault;
use crate::coded::CodedError;
use crate::event_stream::EventStream;
use crate::{Credential, Ecosystem, Error, Events, Result, operation, wire};

/// The error of a daemon as it was sent: what a bridge carries from one host to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedError {
    /// The code: one of the daemon's author, or one of Common TCP.
    pub code: String,
    /// The text for a person.
    pub message: String,
    /// The data for a program, as JSON.
    pub data: Option<String>,
}

impl CarriedError {
    /// Creates an error without data.
    pub fn new(code: &str, message: impl std::fmt::Display) -> Self {
        CarriedError {
            code: code.to_owned(),
            message: message.to_string(),
            data: None,
        }
    }
}

/// A daemon of another host that this daemon provides. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Provided {
    ecosystem: Ecosystem,
    name: String,
}

impl Provided {
    /// Returns the name that the daemon has here, `NAME@HOST`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Withdraws the daemon.
    ///
    /// # Errors
    /// The same as [`Ecosystem::withdraw`].
    pub async fn withdraw(self) -> Result<()> {
        self.ecosystem.withdraw(&self.name).await
    }
}

impl Ecosystem {
    /// Provides a daemon of another host, or changes what is known of it. `credential` is the daemon's own, with the name of
    /// its host in `host`: 1 to 64 bytes without white space, control characters, `#` or `@`.
    ///
    /// # Errors
    /// This daemon doesn't have the grant `bridge`; the name or the host is none; another bridge provides a daemon of that
    /// name; the host has 10,000 such daemons already; or the host is too old for it.
    pub async fn provide(&self, credential: &Credential) -> Result<Provided> {
        let credential = serde_json::to_vec(credential)?;
        let name = self.later(operation::PROVIDE, credential).await?;
        let name = String::from_utf8(name).map_err(Error::new)?;
        Ok(Provided {
            ecosystem: *self,
            name,
        })
    }

    /// Sends a command to a daemon of this host for a caller of another one, and returns the result as JSON: `null` if there
    /// is none, and a list if there are several. `arguments` is a JSON array. Otherwise it works like [`Ecosystem::call`].
    /// The command is sent when the future is polled for the first time, so that a bridge keeps the order of the commands
    /// that it gets.
    ///
    /// # Errors
    /// The daemon's own error, or that of its host.
    pub async fn forward(
        &self,
        daemon: &str,
        command: &str,
        arguments: &str,
    ) -> Result<String, CarriedError> {
        if let Err(error) = wire::check_name(command) {
            return Err(CarriedError::new("bad-name", error));
        }
        let named = format!("{daemon}{command} {arguments}");
        let request = wire::numbered(daemon.len() as u64, named.as_bytes());
        let answer = self.host().ask_later(operation::CALL, request).await;
        let reply = answer.map_err(|fault| carried_of(&fault))?;
        result_of(&reply).map_err(|error| CarriedError::new("failed", error))
    }

    /// Returns the events that anybody but this daemon publishes on any topic after this call. The topic is the events'
    /// name.
    ///
    /// # Errors
    /// This daemon doesn't have the grant `bridge`: the stream then ends at once, if this isn't an error already. Or it has
    /// ended, or the host is too old for it.
    pub fn subscribe_all(&self) -> Result<Events> {
        let stream = EventStream::open(self.host(), operation::QUEUE_SUBSCRIBE_ALL, b"");
        let stream = stream.map_err(|fault| Error::of_host(&fault, "subscribe_all"))?;
        Ok(Events::new(stream))
    }

    /// Withdraws the daemon of another host that has this name, `NAME@HOST`. One that isn't there, or that another bridge
    /// provides, stays as it is.
    ///
    /// # Errors
    /// This daemon doesn't have the grant `bridge`, or the host is too old for it.
    pub async fn withdraw(&self, name: &str) -> Result<()> {
        self.later(operation::WITHDRAW, name.into()).await.map(drop)
    }
}

/// Returns the error that the host reports for a call.
fn carried_of(fault: &HostFault) -> CarriedError {
    match serde_json::from_str::<CodedError>(&fault.message) {
        Ok(CodedError {
            code,
            message,
            data,
        }) => CarriedError {
            code,
            message,
            data: data.map(|data| data.get().to_owned()),
        },
        Err(_) => CarriedError::new("unavailable", fault),
    }
}

/// Returns the result in the arguments of a reply.
fn result_of(reply: &[u8]) -> Result<String, serde_json::Error> {
    let arguments: Vec<&RawValue> = serde_json::from_slice(reply)?;
    Ok(match &arguments[..] {
        [] => "null".to_owned(),
        [one] => one.get().to_owned(),
        _ => String::from_utf8_lossy(reply).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::status;

    #[test]
    fn a_reply_becomes_a_result_and_keeps_its_digits() {
        let result = |reply: &str| result_of(reply.as_bytes()).unwrap();
        assert_eq!(result("[]"), "null");
        assert_eq!(result("[1.50]"), "1.50");
        assert_eq!(result("[1, 2]"), "[1, 2]");
        assert!(result_of(b"1").is_err());
    }

    #[test]
    fn an_error_is_carried_as_it_was_sent() {
        let fault = |message: &str| HostFault {
            status: status::FAILED,
            message: message.to_owned(),
        };
        let own = carried_of(&fault(
            r#"{"code":"full","message":"m","data":{"n":18446744073709551616},"daemon":"Kv"}"#,
        ));
        let expected = r#"{"n":18446744073709551616}"#;
        assert_eq!(
            (own.code.as_str(), own.data.as_deref()),
            ("full", Some(expected))
        );
        let gone = carried_of(&HostFault {
            status: status::GONE,
            message: String::new(),
        });
        assert_eq!(gone.code, "unavailable");
    }
}
