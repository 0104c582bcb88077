//! The API for authors of daemons: everything that a plugin of `dae-host` needs.
//!
//! A daemon is a Rust type. The attribute `#[daemon]` on its `impl` makes the crate a plugin that `dae-host` loads. The
//! attribute `#[command]` makes a method a command, which other daemons, programs and people with telnet can send:
//!
//! ```
//! use dae_plugin_api::prelude::*;
//!
//! /// Greets people.
//! #[derive(Default)]
//! struct Sample;
//!
//! #[daemon(name = "Sample")]
//! impl Sample {
//!     /// Greets `who`.
//!     #[command]
//!     fn greet(&self, who: String) -> String {
//!         format!("Hello, {who}!")
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Build the crate as a `cdylib`, and install the file with `dae-host install Sample libsample.so`.
//!
//! # Commands
//! - **Signature.** A command takes `&self` and up to 12 arguments of types that serde reads. It returns a type that
//!   serde writes, or a `Result` of one. The host answers an `Err` as `failed`, with the error's text, or with a code of its
//!   own.
//! - **Errors.** [`bail!`] and [`ensure!`] return an [`Error`] with a text, and `?` makes one of any `std::error::Error`.
//!   [`Error::coded`] has a code for programs to match on, and [`Error::with`] adds data. An error of another type needs a
//!   text by `Display`, such as in `Result<u32, String>`.
//! - **Name.** A command has the name of its method, or the one in `#[command(name = "…")]`.
//! - **Time limit.** `#[command(timeout_s = 5)]` sets the limit of one command (seconds, from 0.001 to 86400), in place of
//!   the host's setting `command_ms` (30 s). At its end the host answers `timeout`. An `async fn` is cancelled. A `fn` goes
//!   on, and its result is dropped; one with a limit runs on a thread where it may block.
//! - **Saving.** `#[command(saves)]` keeps the daemon's state before the answer is sent, as [`Ecosystem::save`] does. If that
//!   fails, the answer is an error that says that the command ran.
//! - **Numbers.** A number arrives exactly, or the command is refused. An `f64` takes no integer that it would round. A
//!   `json::Value` takes no integer of more than 64 bits; `i128` and `u128` do. JSON has no `NaN` and no infinities: a
//!   result or a state that holds one is an error.
//! - **Threads.** A `fn` runs on the thread that read the command, so it must not block. A `fn` with
//!   `#[command(blocking)]` runs on a thread where it may. An `async fn` starts at once, and the host's runtime polls
//!   it until it ends. A daemon needs no thread of its own.
//! - **Strings and options.** `&str` is read without a copy. Callers may leave out trailing arguments of type
//!   `Option<T>`. A last argument `#[rest] more: Vec<T>` takes all that are left.
//! - **Bytes.** A [`Bytes`] crosses as one string in base64. A `Vec<u8>` crosses as an array of numbers.
//! - **Host arguments.** The host supplies arguments of type [`Guest`] and [`Ecosystem`], or references to them.
//!   Callers don't send these.
//! - **Reserved names.** The host answers `dae`, `options`, `help`, `stats` and `error` for every daemon.
//!
//! # Guests
//! A [`Guest`] is a handle on one connection. It is a small value that can be copied, kept, and used from any thread.
//! [`Guest::emit`] sends an event, [`Guest::call`] sends a command and waits for the reply, and [`Guest::on`] registers
//! a handler of events. Once the guest has gone, they return errors.
//!
//! A method with `#[on(connect)]` runs when a guest has connected, and one with `#[on(disconnect)]` when it has gone.
//! It is a `fn` or an `async fn` that takes `&self` and optionally a `Guest` and an `Ecosystem`, in any order. It
//! returns `()` or a `Result`, whose error is logged. The guest's first command begins only after `connect` has ended.
//! After a reload, the new instance gets a `connect` for each guest that is still connected, under the same
//! [`Guest::id`]. The old instance gets no `disconnect` for them.
//!
//! # Other daemons
//! An [`Ecosystem`] reaches other daemons by their names, in whatever process or language they run:
//!
//! ```
//! use dae_plugin_api::prelude::*;
//!
//! struct Watcher {
//!     eco: Ecosystem,
//! }
//!
//! #[daemon]
//! impl Watcher {
//!     fn start(eco: Ecosystem) -> Self {
//!         Watcher { eco }
//!     }
//!
//!     async fn run(&self) -> Result<()> {
//!         // Opens a connection and handles its events. An event with two arguments is read as a tuple, one with a
//!         // single argument also as `|n: u64|`.
//!         let clock = self.eco.connect("Clock").await?;
//!         clock.on("tick", |(n, unix_ms): (u64, u64)| tracing::info!(n, unix_ms))?;
//!         let () = clock.call("subscribe", ()).await?;
//!         // Subscribes to a topic: every event that any daemon publishes on it arrives here.
//!         let mut alarms = self.eco.subscribe("alarm")?;
//!         while let Some(alarm) = alarms.next().await {
//!             let text: String = alarm.arguments()?;
//!             tracing::warn!(text, "an alarm");
//!         }
//!         Ok(())
//!     }
//!
//!     /// Increments the counter of another daemon.
//!     #[command]
//!     async fn count(&self) -> Result<u64> {
//!         match self.eco.call("Counter", "increment", ()).await {
//!             Err(error) if error.code() == Some("unavailable") => Ok(0),
//!             reply => reply,
//!         }
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! With the feature `client`, a trait with `#[daemon_client]` names the commands and their types once. It becomes a struct, the
//! client:
//!
//! ```
//! # #[cfg(feature = "client")]
//! # mod client {
//! use dae_plugin_api::prelude::*;
//!
//! #[daemon_client]
//! trait Counter {
//!     /// Adds `by`, or 1, and returns the count.
//!     async fn increment(&self, by: Option<u64>) -> Result<u64>;
//! }
//!
//! async fn count_two(eco: &Ecosystem) -> Result<u64> {
//!     let counter = Counter::at(eco).await?;
//!     counter.increment(None).await?;
//!     counter.increment(Some(1)).await
//! }
//! # }
//! ```
//!
//! `at` compares the trait with the schemas that the daemon shows in `help`. What doesn't fit is an error that names the command
//! and the argument. A type of your own is compared if it derives `JsonSchema`, with the feature `schema`. See `daemon_client`.
//!
//! - **Order.** Whatever is sent over one connection is read in the same order. Handlers run one after the other, in
//!   the order of the events. They must not block.
//! - **Errors.** A failed call returns the other side's text, its [`Error::code`] and its [`Error::data`]. The code is one of
//!   that daemon's author, or `unknown-command`, `bad-arguments`, `failed`, `crashed`, `timeout` or `unavailable`. If a
//!   command returns such an error by `?`, an author's code and data are answered as they are. Any other code is answered
//!   `failed` with the same text, and stands in the data as `cause`.
//! - **Reload and crash of the other side.** Calls wait while the other daemon is reloaded. If it crashes, calls in
//!   flight fail as `crashed`. The connection stays, or is made again if it went over TCP. Its handlers receive
//!   `disconnect ["why"]` and then `connect [credential]`. On `connect`, request again what was requested over the
//!   connection, such as `subscribe` above.
//! - **Reload of this daemon.** It ends the connections, handlers and streams of the old instance. The new instance
//!   opens its own, best in `run`, which begins after the new instance has taken over.
//! - **Limits.** All queues are bounded. Up to 4 MiB of events wait for a reader. Beyond that, a stream ends with the
//!   event `disconnect ["slow-guest: …"]`, and handlers continue with later events. If a daemon makes too many calls at
//!   once, some fail as `unavailable`.
//! - [`Ecosystem::every`] ticks without drift. [`Ecosystem::list`], [`Ecosystem::find`] and [`Ecosystem::watch`] report
//!   which daemons run.
//!
//! # Replies in parts
//! A command that returns `impl Stream<Item = T>`, or a `Result` of it, sends each item as soon as it is there to a caller
//! that has asked for parts. All others get the items in one list. [`stream_iter`] makes a stream of an iterator. A command
//! that takes a [`Progress`] sends reports in the same way, beside its result.
//!
//! # Lifecycle
//! The methods below are optional. Each is a `fn` or an `async fn` of this name in the same `impl`:
//! - `start(Ecosystem, Config) -> Result<Self>` creates the daemon; without it, `Default` does. `Config` is any type
//!   that serde reads from the daemon's config: the JSON object given by `dae-host install --config`, or `{}`.
//!   [`Ecosystem::config`] returns it later. Each argument may be left out, and so may the `Result`.
//! - `run(&self)` does background work for as long as the daemon lives. It may return a `Result`.
//! - `stop(&self)` is the last call before the daemon is dropped. It may return a `Result`.
//!
//! # State
//! One instance can hand a state to the next, over a reload, a stop and a start, or a restart of the host. The state is
//! of any type that serde writes and reads as JSON. There are two ways to declare it:
//! - The methods `save(&self) -> State`, or a `Result` of it, and `start(…, state: Option<State>)`. Each may be
//!   `async`.
//! - The option `#[daemon(state = State)]` with `From<&Self> for State` and `From<State> for Self`.
//!
//! `#[daemon(state_version = 2)]` numbers the shape of the state; the default is 1. Older shapes are read by the
//! function `migrate(version: u32, state: json::Value) -> Result<State>`. If the new code can't read the state, the
//! reload is refused.
//!
//! `#[daemon(delta = Delta)]` hands a large state over in two phases, so that guests don't wait for all of it: the old instance
//! saves a `snapshot(&self) -> State` and serves on, the new one starts from it, and then takes over by `apply(&self, Delta)`
//! what has changed since, the `delta(&self) -> Delta` of the old one. Each may return a `Result`. The page `host/docs/reload.md`
//! has the rules.
//!
//! `#[daemon(built_in)]` makes a daemon that is only linked into a program with the library `dae-host`; the crate is no
//! plugin, and may have several such daemons. The page `host/docs/embedding.md` shows it.
//!
//! `#[daemon(exclusive)]` never runs two instances at once. The old one ends before the new one starts, and starts
//! again if the new one fails. Use it for a daemon that owns a port or a locked file.
//!
//! The derives `Serialize` and `Deserialize` of the prelude are serde's, for a crate that doesn't depend on serde itself.
//! A crate that does may use serde's own. It imports them by name, `use serde::{Deserialize, Serialize};`, which takes
//! precedence over the prelude. After `use serde::*`, the compiler can't choose between the two (E0659).
//!
//! # Reload
//! The host tries a new file in a separate process before it loads the file itself. This preflight loads the file and
//! has it read a copy of the state. If the file crashes or hangs there, the host refuses it and keeps the old code.
//! - `#[daemon(preflight = "start")]` makes the preflight also run `start`, with the config and the copy of the state, and
//!   then `stop`. So a `start` that fails, hangs or crashes is found before any guest waits for it. Use it only if
//!   `start` can run twice without harm: it opens nothing that only one instance can have, sends nothing, and
//!   overwrites nothing.
//! - The owner's setting `preflight` takes precedence: `true` only loads the file, `"start"` also starts the daemon, and
//!   `false` skips the preflight.
//! - Guests wait while the state moves: for commands that still run, for `save`, and for `start`. If `start` takes
//!   longer than `start_ms` (10 s), the host refuses the reload. So keep `start` short, and do slow work in `run`.
//!
//! # Panics and threads
//! A panic in a daemon's code never crosses into the host. It is caught, answered as `crashed`, and logged with its
//! place. Build the plugin with `panic = "unwind"`, which is cargo's default.
//!
//! With the feature `tokio`, each daemon has
//! a tokio runtime of its own. It is entered whenever the daemon's code runs, so `tokio::spawn` and libraries for tokio
//! work. Without the feature, such code panics, and the answer and the log name the feature.
//!
//! `tracing::info!` writes to the daemon's log. `println!` does so only from a subprocess; in the host's process it writes
//! to the standard output of the host.
//!
//! # Statics
//! Two daemons from the same file share its library and therefore its `static`s. Keep state in the daemon's type.
//!
//! # Tests
//! The attribute leaves the methods as they are, so a unit test can call them:
//!
//! ```
//! # use dae_plugin_api::prelude::*;
//! # #[derive(Default)] struct Sample;
//! # #[daemon(name = "Sample")] impl Sample {
//! # #[command] fn greet(&self, who: String) -> String { format!("Hello, {who}!") }
//! # }
//! # fn main() {
//! assert_eq!(Sample.greet("Ada".to_owned()), "Hello, Ada!");
//! # }
//! ```
//!
//! Only a host makes a [`Guest`] or an [`Ecosystem`]. The module `testing` is a host for unit tests, which needs no
//! program, no socket and no plugin file. It starts the daemon, calls it, reloads it, moves its clock, and plays the
//! daemons and guests around it. It needs the feature `testing` in the dev-dependencies. The page
//! `host/docs/writing-daemons.md` shows it, and tests that run a real host.

pub mod abi;
mod arguments;
#[cfg(feature = "bridge")]
pub mod bridge;
mod bytes;
#[cfg(feature = "client")]
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod coded;
mod credential;
pub mod crossing;
mod daemon;
mod ecosystem;
mod error;
mod event_stream;
mod events;
mod every;
#[doc(hidden)]
pub mod exact;
pub mod export;
#[cfg(test)]
mod fake_host;
mod guest;
mod keep;
mod listeners;
mod log;
#[doc(hidden)]
pub mod misfit;
pub mod operation;
mod panic;
pub mod parts;
mod reply;
mod runtime;
mod saved_state;
mod schema;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verbatim;
#[doc(hidden)]
pub mod wire;

pub use bytes::Bytes;
pub use credential::Credential;
#[cfg(not(feature = "client"))]
#[doc(hidden)]
pub use dae_plugin_macros::__daemon_client_without_feature as daemon_client;
#[doc(hidden)]
pub use dae_plugin_macros::__removed;
#[cfg(feature = "client")]
pub use dae_plugin_macros::daemon_client;
pub use dae_plugin_macros::{command, daemon, on};
pub use ecosystem::Ecosystem;
pub use error::{Error, Result};
pub use events::{Change, ChangeKind, Changes, Event, Events};
pub use every::Every;
pub use futures_core::Stream;
pub use guest::Guest;
pub use listeners::Listener;
pub use parts::{Progress, stream_iter};
#[cfg(feature = "schema")]
pub use schemars;
pub use serde;
pub use serde_json as json;
pub use tracing;

pub use abi::{ABI_VERSION_MAX, ABI_VERSION_MIN};

/// The version of the compiler that built this crate and therefore the plugin, such as `rustc 1.95.0 (…)`.
pub const RUSTC: &str = env!("DAE_RUSTC");
/// The target triple of the build.
pub const TARGET: &str = env!("DAE_TARGET");
/// The version of this crate.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The names that a daemon's source usually needs.
pub mod prelude {
    pub use crate::{Bytes, Change, ChangeKind, Changes, Credential, Ecosystem, Error, Event};
    pub use crate::{Events, Every, Guest, Listener, Progress, Result, Stream, stream_iter};
    pub use crate::{bail, command, daemon, daemon_client, ensure, json, on, tracing};
    // The traits are serde's own; the derives of the same names also work in a crate that doesn't depend on serde.
    #[cfg(feature = "schema")]
    pub use crate::schema::names::JsonSchema;
    pub use dae_plugin_macros::{Deserialize, Serialize};
    pub use serde::de::Deserialize;
    pub use serde::ser::Serialize;
}
