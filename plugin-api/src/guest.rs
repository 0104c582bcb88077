//! The guest handle: one Common TCP connection as a daemon sees it, no matter which side opened it.
//!
//! The handle is only an id; the connection belongs to the host. It may be kept for any time and used from any thread.
//! Once the guest has gone, all methods return errors, and nothing dangles.

use std::fmt;

use crate::abi::{HostV1, status};
use crate::crossing::{Received, Sent};
use crate::error::Callee;
use crate::event_stream::EventStream;
use crate::events::Events;
use crate::listeners::{self, Handler, Listener};
use crate::{Credential, Error, Result, operation, wire};

/// A connection from a guest to this daemon, or from this daemon to another one.
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
/// # End of a connection
/// A guest that connected to this daemon has gone once its connection ends. A connection that this daemon opened is
/// different: if the other daemon is reloaded, restarted or crashes, the host reconnects by its name. Handlers and
/// streams stay, and receive `disconnect ["why"]` and later `connect [credential]`. Calls in flight fail as `crashed`.
/// New calls wait for as long as the host waits, and then fail as `unavailable`. Such a connection ends for good when
/// [`Guest::close`] is called or this daemon ends.
#[derive(Clone, Copy)]
pub struct Guest {
    host: HostV1,
    id: u64,
}

impl Guest {
    pub(crate) fn new(host: HostV1, id: u64) -> Self {
        Guest { host, id }
    }

    /// Returns the number of this connection, which a host never uses twice.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends a command, and waits for its reply.
    ///
    /// `arguments` has the same form as for [`Guest::emit`]. `T` is read from the reply's single argument. If there is
    /// none, it is read from `null`, which `()` and `Option` take. If there are several, it is read from the list of
    /// them.
    ///
    /// # Errors
    /// The other side's error has its [`Error::code`]: `unknown-command`, `bad-arguments`, `failed`, `crashed`,
    /// `timeout`, `unavailable` or one of its author. It has its [`Error::data`], too. The error has no code if the name or
    /// the arguments can't be sent, or the reply doesn't fit `T`.
    pub async fn call<T: Received>(&self, command: &str, arguments: impl Sent) -> Result<T> {
        let line = wire::line(command, arguments)?;
        let reply = self.ask(&line, command, &self.callee()).await?;
        wire::read_reply(&reply).map_err(|text| {
            Error::new(format!(
                "the reply to {command} of {}: {text}",
                self.callee()
            ))
        })
    }

    /// Sends a line, and returns the arguments of its reply. Errors name the other side by `to`.
    pub(crate) async fn ask(&self, line: &[u8], command: &str, to: &Callee<'_>) -> Result<Vec<u8>> {
        let request = wire::numbered(self.id, line);
        let answer = self.host.ask_later(operation::GUEST_CALL, request).await;
        answer.map_err(|fault| Error::of_call(&fault, command, to))
    }

    /// Requests the other side's credential. If it doesn't speak Common TCP, such as a person with telnet, the call
    /// fails as `timeout`.
    ///
    /// # Errors
    /// The same as [`Guest::call`].
    pub async fn credential(&self) -> Result<Credential> {
        self.call("dae", ()).await
    }

    /// Sends an event, which is a line without a reply. `arguments` is written as a JSON array: a tuple, a slice or a
    /// `Vec`. A value of another kind becomes the only argument.
    ///
    /// It returns once the line is queued. If a guest doesn't read and 4 MiB wait for it, it is closed as `slow-guest`.
    ///
    /// # Errors
    /// The guest has gone, the name isn't valid (1 to 128 bytes without white space, control characters or `#`), or the
    /// arguments can't be written as JSON.
    pub fn emit(&self, name: &str, arguments: impl Sent) -> Result<()> {
        let line = wire::line(name, arguments)?;
        match self.host.emit(self.id, &line) {
            status::DONE | status::NOTHING => Ok(()),
            _ => Err(Error::new(format!("{} has gone", self.callee()))),
        }
    }

    /// Calls `handler` for each later event of this name, until the guest has gone for good or this daemon ends.
    ///
    /// The handlers of a guest run one after the other, in the order of its events and of their registration. They must
    /// not block: spawn a task for slow work. If a handler panics, the panic is logged, and the handler is called again
    /// at the next event. Events whose arguments don't fit `T` (see [`Event::arguments`](crate::Event::arguments)) are
    /// logged as warnings.
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
    /// The guest has gone, the name isn't valid (see [`Guest::emit`]), or this daemon has ended.
    pub fn on<T: Received>(
        &self,
        name: &str,
        handler: impl FnMut(T) + Send + 'static,
    ) -> Result<Listener> {
        listeners::add(self.host, self.id, Handler::new(name, false, handler)?)
    }

    /// Calls `handler` like [`Guest::on`], but only for the next event of this name.
    ///
    /// # Errors
    /// The same as [`Guest::on`].
    pub fn once<T: Received>(
        &self,
        name: &str,
        handler: impl FnMut(T) + Send + 'static,
    ) -> Result<Listener> {
        listeners::add(self.host, self.id, Handler::new(name, true, handler)?)
    }

    /// Removes a handler. Returns false if it is no longer registered. A handler may call this. If the handler is
    /// running in another thread, that call continues.
    pub fn off(&self, listener: Listener) -> bool {
        listeners::remove(self.host, self.id, listener)
    }

    /// Returns a stream of the guest's later events, of all names, for authors who prefer a loop.
    ///
    /// # Errors
    /// The guest has gone, or this daemon has ended.
    pub fn events(&self) -> Result<Events> {
        let stream = EventStream::of_guest(self.host, self.id);
        let stream = stream.map_err(|fault| Error::of_call(&fault, "events", &self.callee()))?;
        Ok(Events::new(stream))
    }

    /// Waits until the guest has gone for good.
    pub async fn closed(&self) {
        while let Ok(mut stream) = EventStream::of_guest(self.host, self.id) {
            while stream.next().await.is_some() {}
            if !stream.was_full() {
                return;
            }
        }
    }

    /// Closes the connection after all pending output is written. It has no effect on a guest that has gone.
    pub fn close(&self) {
        let _ = self
            .host
            .ask(operation::GUEST_CLOSE, &self.id.to_le_bytes());
    }

    /// Returns whether the connection is still open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let request = self.id.to_string();
        self.host
            .ask(operation::GUEST_OPEN, request.as_bytes())
            .is_ok()
    }

    /// Returns the guest as error messages name it.
    fn callee(&self) -> Callee<'static> {
        Callee::Guest(self.id)
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
