//! A guest: one Common TCP connection, as a daemon sees it, whichever side has opened it.
//!
//! The value is an id; the connection is the host's. It may be kept for as long as one likes and used from any thread:
//! once the guest has gone, everything answers with an error, and nothing dangles.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::{HostV1, status};
use crate::events::Events;
use crate::feed::Feed;
use crate::listeners::{self, Handler, Listener};
use crate::{Credential, Error, Result, operation, wire};

/// One connection: of somebody who has come to this daemon, or to a daemon that this one has connected to.
///
/// ```
/// # use dae_plugin_api::prelude::*;
/// # #[derive(Default)] struct Teller;
/// # #[daemon(name = "Teller")] impl Teller {
/// /// Counts to `n`, one event a number.
/// #[command]
/// fn count(&self, guest: Guest, n: u32) -> Result<()> {
///     for i in 1..=n {
///         guest.emit("number", (i,))?;
///     }
///     Ok(())
/// }
/// # }
/// # fn main() {}
/// ```
///
/// # Its end
/// A guest that came is gone once its connection ends. A connection that this daemon opened is made again by the host, by
/// the other daemon's name, when that one is reloaded, restarted or has crashed: handlers and streams stay, and hear
/// `disconnect ["why"]` and later `connect [credential]`. Calls that were on their way are answered `crashed`, and those
/// made meanwhile wait for as long as the host waits, then are `unavailable`. It is gone for good once [`Guest::close`] is
/// called or this daemon ends.
#[derive(Clone, Copy)]
pub struct Guest {
    host: HostV1,
    id: u64,
}

impl Guest {
    pub(crate) fn new(host: HostV1, id: u64) -> Self {
        Guest { host, id }
    }

    /// A number for this connection; never given twice in the life of a host.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends a command, and waits for its reply.
    ///
    /// `arguments` is as for [`Guest::emit`]. `T` is read from the reply's one argument; from `null` if there is none, which
    /// `()` and `Option` take; and from the list of them if there are several.
    ///
    /// # Errors
    /// The other side's, with its [`Error::code`]: `unknown-command`, `bad-arguments`, `failed`, `crashed`, `timeout`,
    /// `unavailable`. None of them where the name or the arguments are not fit to be sent, or the reply is no `T`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<T> {
        let request = wire::numbered(self.id, &wire::line(command, arguments)?);
        let answer = self.host.ask_later(operation::GUEST_CALL, request).await;
        let reply = answer.map_err(|fault| Error::of_call(&fault, command, self.spoken()))?;
        wire::read_reply(&reply).map_err(|text| {
            Error::new(format!(
                "the reply to {command} of {}: {text}",
                self.spoken()
            ))
        })
    }

    /// Asks the other side who it is. One that doesn't speak Common TCP, a person at a telnet, never answers, and the call
    /// ends as `timeout`.
    ///
    /// # Errors
    /// As [`Guest::call`].
    pub async fn credential(&self) -> Result<Credential> {
        self.call("dae", ()).await
    }

    /// Sends an event: a line that answers nothing. `arguments` is written as a JSON array: a tuple, a slice, a `Vec`;
    /// a value that isn't one becomes the only argument.
    ///
    /// It returns once the line is queued. A guest that doesn't read is closed as `slow-guest` when 4 MiB wait for it.
    ///
    /// # Errors
    /// The guest has gone, the name is not one (1 to 128 bytes without white space, control characters or `#`), or
    /// the arguments can't be written as JSON.
    pub fn emit(&self, name: &str, arguments: impl Serialize) -> Result<()> {
        let line = wire::line(name, arguments)?;
        match self.host.emit(self.id, &line) {
            status::DONE | status::NOTHING => Ok(()),
            _ => Err(Error::new(format!("{} has gone", self.spoken()))),
        }
    }

    /// Has `handler` called for each event of this name, from now on until the guest has gone for good or this daemon ends.
    ///
    /// The handlers of a guest are called one after the other, in the order of its events and of their registration. They
    /// must not block; what takes long is spawned. One that panics is logged, and called again at the next event. Events
    /// whose arguments don't fit `T` (see [`Event::arguments`](crate::Event::arguments)) are logged as warnings.
    ///
    /// ```
    /// # use dae_plugin_api::prelude::*;
    /// # fn example(clock: Guest) -> Result<()> {
    /// clock.on("tick", |(n, unix_ms): (u64, u64)| tracing::info!(n, unix_ms, "ticked"))?;
    /// clock.on("disconnect", |why: String| tracing::warn!(why, "the clock is away"))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The guest has gone, the name is none, or this daemon has ended.
    pub fn on<T: DeserializeOwned>(
        &self,
        name: &str,
        handler: impl FnMut(T) + Send + 'static,
    ) -> Result<Listener> {
        listeners::add(self.host, self.id, Handler::new(name, false, handler)?)
    }

    /// As [`Guest::on`], for the next event of this name only.
    ///
    /// # Errors
    /// As [`Guest::on`].
    pub fn once<T: DeserializeOwned>(
        &self,
        name: &str,
        handler: impl FnMut(T) + Send + 'static,
    ) -> Result<Listener> {
        listeners::add(self.host, self.id, Handler::new(name, true, handler)?)
    }

    /// Takes a handler back; false where it is registered no more. It may be called from a handler. A call of it that is
    /// going on in another thread goes on.
    pub fn off(&self, listener: Listener) -> bool {
        listeners::remove(self.host, self.id, listener)
    }

    /// Its events from now on, of all names, for those who would rather loop.
    ///
    /// # Errors
    /// The guest has gone, or this daemon has ended.
    pub fn events(&self) -> Result<Events> {
        let feed = Feed::of_guest(self.host, self.id);
        let feed = feed.map_err(|fault| Error::of_call(&fault, "events", self.spoken()))?;
        Ok(Events::new(feed))
    }

    /// Waits until it has gone for good.
    pub async fn closed(&self) {
        while let Ok(mut feed) = Feed::of_guest(self.host, self.id) {
            while feed.next().await.is_some() {}
            if !feed.was_full() {
                return;
            }
        }
    }

    /// Closes the connection, once what is on its way to the other side is written. There is nothing to do for one that
    /// has gone.
    pub fn close(&self) {
        let _ = self
            .host
            .ask(operation::GUEST_CLOSE, &self.id.to_le_bytes());
    }

    /// Whether the connection is still open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let request = self.id.to_string();
        self.host
            .ask(operation::GUEST_OPEN, request.as_bytes())
            .is_ok()
    }

    /// As errors name it.
    fn spoken(&self) -> String {
        format!("guest {}", self.id)
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest({})", self.id)
    }
}

impl PartialEq for Guest {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Guest {}

impl std::hash::Hash for Guest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

#[cfg(test)]
mod tests;
