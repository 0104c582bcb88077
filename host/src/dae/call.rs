//! Calls of the embedding program to the daemons of its ecosystem, without a socket.

use std::fmt;
use std::sync::Arc;

use dae_common_tcp::{ErrorCode, Line, read_line};
use dae_plugin_api::abi::status;
use dae_plugin_api::coded::RawData;
use dae_plugin_api::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::{Dae, Inner};
use crate::supervise::DaeEvents;
use dae_runtime::connection::pending_calls::CallError;
use dae_runtime::plugin::completion::{Completion, HostAnswer};
use dae_runtime::plugin::host_api::PeerAccess as _;
use dae_runtime::plugin::host_request::DeferredRequest;

/// The reason why a call of the embedding program has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFault {
    code: Option<String>,
    text: String,
    data: Option<Value>,
}

impl CallFault {
    /// Returns the error code: one of the daemon's own, such as `not-found`, or one of Common TCP: `failed`,
    /// `bad-arguments`, `unknown-command`, `crashed`, `timeout`, `unavailable`. Returns `None` if the arguments could not be written, the result could not be read as the wanted
    /// type, or the host has a fault. In the last two cases the command may have run.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns the data that the daemon's error has for programs. Integers of more than 64 bits are rounded.
    ///
    /// ```no_run
    /// # async fn get(dae: &dae_host::Dae) {
    /// let got: Result<u64, _> = dae.call("Store", "get", ("a",)).await;
    /// if let Err(fault) = got
    ///     && fault.code() == Some("not-found")
    /// {
    ///     println!("there is no {:?}", fault.data());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        self.data.as_ref()
    }

    fn local(text: impl fmt::Display) -> Self {
        CallFault {
            code: None,
            text: text.to_string(),
            data: None,
        }
    }
}

impl From<CallError> for CallFault {
    fn from(error: CallError) -> Self {
        let data = error.data.as_ref().map(RawData::get);
        CallFault {
            code: Some(error.code),
            text: error.message,
            data: data.and_then(|json| serde_json::from_str(json).ok()),
        }
    }
}

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({code})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for CallFault {}

impl Dae {
    /// Calls a command of a daemon by the daemon's name, and returns its result as `T`. `arguments` is a tuple or a
    /// list with one element for each argument, `()` for none, or a single value that is no list. Dae itself and foreign
    /// daemons can be called, too.
    ///
    /// The calls of a program to one daemon share a connection, which needs no socket if the daemon is of this
    /// ecosystem. While the daemon is reloaded or restarted, a call waits, as it does for a guest. If the future is
    /// dropped, a call that has not begun doesn't run, and an async command that has begun is cancelled.
    ///
    /// ```no_run
    /// # async fn greet(dae: &dae_host::Dae) -> Result<(), Box<dyn std::error::Error>> {
    /// let greeting: String = dae.call("Sample", "greet", ("Ada",)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The daemon's own error, or one of the way to it: [`CallFault::code`] distinguishes them. The code is `unavailable` if
    /// there is no such daemon, if it is stopped, or after [`Dae::shutdown`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        daemon: &str,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<T, CallFault> {
        let line = wire::line(command, arguments).map_err(CallFault::local)?;
        let reply = tokio::select! {
            biased;
            () = self.inner.lifetime.ended.cancelled() => Err(has_ended()),
            reply = self.inner.ask(daemon.to_owned(), line) => reply,
        };
        wire::read_reply(&reply?)
            .map_err(|text| CallFault::local(format!("the reply to {command} of {daemon}: {text}")))
    }

    /// Returns the events of the ecosystem from now on: what is installed, started, reloaded, refused, crashed, stopped
    /// and so on. [`Dae::list`] returns what is there already. Call it after this, so that no change is missed.
    ///
    /// A reader that falls behind gets [`Missed`](crate::event::DaeEventKind::Missed) with the number of events that were
    /// dropped. It never holds the host up.
    ///
    /// ```no_run
    /// # async fn watch(dae: &dae_host::Dae) {
    /// use dae_host::event::DaeEventKind;
    ///
    /// let mut events = dae.events();
    /// while let Some(event) = events.next().await {
    ///     if let DaeEventKind::Crashed { cause, .. } = event.kind {
    ///         println!("{} crashed: {cause}", event.daemon);
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> DaeEvents {
        self.inner.shared.events.subscribe()
    }
}

fn has_ended() -> CallFault {
    CallError::new(ErrorCode::Unavailable, "the ecosystem has ended").into()
}

impl Inner {
    /// Sends a command, one line, and returns the arguments of the reply.
    ///
    /// The daemon's code may run within a poll of the call. So the call is a task of the guests' runtime, which has the
    /// threads for that: the program's own runtime may have one thread, and its timers must go on.
    async fn ask(&self, daemon: String, line: Vec<u8>) -> Result<Vec<u8>, CallFault> {
        let caller = self.endpoint.caller.get().map(Arc::clone);
        let caller = caller.ok_or_else(has_ended)?;
        let asking = self.shared.runtime.spawn(async move {
            let Line::Message(message) = read_line(&line) else {
                let text = "the command and its arguments are no line";
                return Err(CallFault::local(text));
            };
            let daemon = daemon.as_str();
            match caller.ask_later(DeferredRequest::Call { daemon, message }) {
                HostAnswer::Now(ended) => reply_of(ended),
                HostAnswer::Later(work) => reply_of(work.await),
            }
        });
        // A dropped call is cancelled.
        match AbortOnDropHandle::new(asking).await {
            Ok(reply) => reply,
            Err(error) if error.is_panic() => Err(CallFault::local(
                "the call ended by a fault of the host; the cause is in its log",
            )),
            Err(_) => Err(has_ended()),
        }
    }
}

fn reply_of(ended: Completion) -> Result<Vec<u8>, CallFault> {
    if ended.status == status::DONE {
        return Ok(ended.bytes);
    }
    let error = serde_json::from_slice::<CallError>(&ended.bytes);
    Err(error.map_or_else(
        |_| CallFault::local(String::from_utf8_lossy(&ended.bytes)),
        CallFault::from,
    ))
}
