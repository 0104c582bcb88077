//! The ecosystem API: the operations that a daemon can request from its host.
//!
//! Like a guest handle, an `Ecosystem` is an id and a table of functions. It can be copied, kept, and used from any
//! thread. After the daemon's end it returns errors. Logging doesn't need it: `tracing::info!` writes to the daemon's
//! log.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::abi::{HostV1, status};
use crate::crossing::{Config, Received, Sent};
use crate::error::Callee;
use crate::event_stream::EventStream;
use crate::events::{Changes, Events};
use crate::every::Every;
use crate::runtime::Entrance;
use crate::{Credential, Error, Guest, Result, exact, log, misfit, operation, panic, wire};
use async_ffi::FutureExt as _;

/// A daemon's access to its host and to other daemons.
#[derive(Clone, Copy)]
pub struct Ecosystem {
    host: HostV1,
}

impl std::fmt::Debug for Ecosystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ecosystem(daemon {})", self.host.daemon)
    }
}

impl Ecosystem {
    pub(crate) fn new(host: HostV1) -> Self {
        Ecosystem { host }
    }

    /// Returns this daemon's own credential.
    ///
    /// # Errors
    /// The daemon has ended.
    pub fn credential(&self) -> Result<Credential> {
        Ok(serde_json::from_slice(
            &self.host.ask(operation::CREDENTIAL, b"")?,
        )?)
    }

    /// Returns the trace of the command whose code asks, as the value of the header `traceparent` of W3C Trace Context. Send
    /// it along with a request to a service outside of the ecosystem. Calls of daemons carry it by themselves.
    ///
    /// Returns `None` if the caller named no trace, on a thread or in a task that the command's code started by other means
    /// than [`spawn`](Self::spawn), and with a host from before traces.
    ///
    /// ```
    /// use dae_plugin_api::prelude::*;
    ///
    /// fn header(eco: &Ecosystem) -> Option<(&'static str, String)> {
    ///     Some(("traceparent", eco.traceparent()?))
    /// }
    /// ```
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        let text = self.host.ask(operation::TRACE_PARENT, b"").ok()?;
        String::from_utf8(text).ok().filter(|text| !text.is_empty())
    }

    /// Returns the JSON object that was given at install, or `{}`, as the author's own type.
    ///
    /// # Errors
    /// The daemon has ended, or the object doesn't fit `T`.
    pub fn config<T: Config>(&self) -> Result<T> {
        let json = self.host.ask(operation::CONFIG, b"")?;
        let text = String::from_utf8(json).map_err(Error::new)?;
        exact::from_str(&text).map_err(|error| {
            Error::new(format!(
                "the config doesn't fit: {}",
                misfit::explain(&error, &text)
            ))
        })
    }

    /// Keeps the daemon's state now: the host runs `save`, and this completes once the state is on the disk. Without it,
    /// a change since the last reload, stop or checkpoint (setting `checkpoint_s`) is lost in a crash.
    ///
    /// It covers every change that was made before the call. Calls that arrive while a save runs share the next one, so
    /// that many commands at once cost few writes. The host logs a warning if the state is larger than 1 MiB.
    ///
    /// Hold no lock that `save` takes while this is awaited. `save` then waits for the lock until its limit
    /// (`stop_grace_ms`), and this returns an error. For a command whose every change must be kept, use
    /// `#[command(saves)]`.
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use dae_plugin_api::{Ecosystem, Result};
    /// # struct Counter { count: AtomicU64 }
    /// # impl Counter {
    /// async fn increment(&self, eco: Ecosystem) -> Result<u64> {
    ///     let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
    ///     if count % 100 == 0 {
    ///         eco.save().await?;
    ///     }
    ///     Ok(count)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The daemon has no `save`; its `save` failed, or took longer than its limit; the disk refused the state; `start`
    /// has not returned yet; the instance is being replaced or stopped, so that the state it hands over is kept instead;
    /// or the host is too old for it.
    pub async fn save(&self) -> Result<()> {
        self.later(operation::SAVE, Vec::new()).await.map(drop)
    }

    /// Waits without blocking a thread.
    pub async fn sleep(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.host.sleep(ms).await;
    }

    /// Returns the time of the host's timers: the real time, or that on the clock of a test host.
    pub(crate) fn now(&self) -> Instant {
        #[cfg(any(test, feature = "testing"))]
        if let Some(now) = crate::testing::now(self.host) {
            return now;
        }
        Instant::now()
    }

    /// Returns a timer that ticks every `period`, for the first time one period from now.
    #[must_use]
    pub fn every(&self, period: Duration) -> Every {
        Every::new(*self, period)
    }

    /// Runs `future` on the host's runtime until it ends or the daemon ends. A panic in it is logged and ends only this
    /// future.
    ///
    /// # Errors
    /// The daemon has ended.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let task = Task {
            host: self.host,
            entrance: Entrance::here(),
            future: Some(Box::pin(future)),
        };
        match self.host.spawn(task.into_ffi()) {
            status::DONE | status::NOTHING => Ok(()),
            _ => Err(Error::new(
                "this daemon has ended, so nothing more can be spawned",
            )),
        }
    }
}

/// Access to the other daemons.
impl Ecosystem {
    /// Connects to a daemon by its name. The connection lasts until [`Guest::close`] or this daemon's end, even while
    /// the other daemon is away: see [`Guest`].
    ///
    /// # Errors
    /// There is no daemon of that name, or it can't be reached: [`Error::code`] is `unavailable`.
    pub async fn connect(&self, daemon: &str) -> Result<Guest> {
        let answer = self.later(operation::CONNECT, daemon.into()).await?;
        let (id, _credential) = wire::number_of(&answer)
            .ok_or_else(|| Error::new("the host's answer to `connect` can't be read"))?;
        Ok(Guest::new(self.host, id))
    }

    /// Sends one command to a daemon by its name, and waits for the reply. It works like [`Guest::call`], on a
    /// connection that the host keeps for this.
    ///
    /// # Errors
    /// The same as [`Guest::call`].
    pub async fn call<T: Received>(
        &self,
        daemon: &str,
        command: &str,
        arguments: impl Sent,
    ) -> Result<T> {
        let mut named = daemon.as_bytes().to_vec();
        named.extend(wire::line(command, arguments)?);
        let request = wire::numbered(daemon.len() as u64, &named);
        let answer = self.host.ask_later(operation::CALL, request).await;
        let reply =
            answer.map_err(|fault| Error::of_call(&fault, command, &Callee::Daemon(daemon)))?;
        wire::read_reply(&reply)
            .map_err(|text| Error::new(format!("the reply to {command} of {daemon}: {text}")))
    }

    /// Returns the credentials of all daemons that run, including the host's own (`Dae`) and foreign ones.
    ///
    /// # Errors
    /// This daemon has ended.
    pub async fn list(&self) -> Result<Vec<Credential>> {
        let answer = self.later(operation::LIST, Vec::new()).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Returns the credential of the daemon of that name, or `None` if none runs.
    ///
    /// # Errors
    /// This daemon has ended.
    pub async fn find(&self, daemon: &str) -> Result<Option<Credential>> {
        let answer = self.later(operation::FIND, daemon.into()).await?;
        match answer.is_empty() {
            true => Ok(None),
            false => Ok(Some(serde_json::from_slice(&answer)?)),
        }
    }

    /// Returns the daemons that appear, change and go after this call. To get those already there, call
    /// [`Ecosystem::list`] afterwards.
    ///
    /// # Errors
    /// This daemon has ended.
    pub fn watch(&self) -> Result<Changes> {
        let stream = EventStream::open(self.host, operation::QUEUE_WATCH, b"");
        let stream = stream.map_err(|fault| Error::of_host(&fault, "watch"))?;
        Ok(Changes::new(stream))
    }

    /// Publishes an event to all subscribers of `topic`, in this ecosystem and outside of it, including this daemon if
    /// it subscribed. `arguments` has the same form as for [`Guest::emit`].
    ///
    /// # Errors
    /// The topic isn't a valid name (see [`Guest::emit`]), the arguments can't be written as JSON, or this daemon has
    /// ended.
    pub fn publish(&self, topic: &str, arguments: impl Sent) -> Result<()> {
        let line = wire::line(topic, arguments)?;
        let told = self.host.ask(operation::PUBLISH, &line);
        told.map_err(|fault| Error::of_host(&fault, "publish"))?;
        Ok(())
    }

    /// Returns the events that any daemon publishes on `topic` after this call. The topic is the events' name.
    ///
    /// # Errors
    /// The topic isn't a valid name (see [`Guest::emit`]), or this daemon has ended.
    pub fn subscribe(&self, topic: &str) -> Result<Events> {
        wire::check_name(topic)?;
        let stream = EventStream::open(self.host, operation::QUEUE_SUBSCRIBE, topic.as_bytes());
        let stream = stream.map_err(|fault| Error::of_host(&fault, "subscribe"))?;
        Ok(Events::new(stream))
    }

    #[cfg(feature = "bridge")]
    pub(crate) fn host(&self) -> HostV1 {
        self.host
    }

    pub(crate) async fn later(&self, operation: &str, request: Vec<u8>) -> Result<Vec<u8>> {
        let answer = self.host.ask_later(operation, request).await;
        answer.map_err(|fault| Error::of_host(&fault, operation))
    }
}

/// A spawned future. Its polls and its drop run the daemon's code, as a command does.
struct Task {
    host: HostV1,
    entrance: Entrance,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let _scope = log::Scope::enter(this.host);
        let _entered = this.entrance.enter();
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        // The hook has logged the panic with its place.
        panic::caught(|| future.as_mut().poll(context)).unwrap_or(Poll::Ready(()))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _scope = log::Scope::enter(self.host);
        let _entered = self.entrance.enter();
        let future = self.future.take();
        let _ = panic::caught(|| drop(future));
    }
}
