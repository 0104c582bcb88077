//! All that the author of a daemon needs.
//!
//! A daemon is a type with a name. `#[daemon]` on its `impl` makes the crate a plugin that `dae-host` loads, and
//! `#[command]` makes a method a command that daemons, and people with telnet, can send:
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
//! The crate is built as a `cdylib`, and its file is handed to `dae-host install Sample libsample.so`.
//!
//! # Commands
//! - `&self`, then any number of arguments of any type that serde reads; the result is any type that serde writes, or
//!   a `Result` of one, whose error is answered as `failed` with its text.
//! - A number arrives exactly, or the command is refused: an `f64` takes no integer that it would round, and a `json::Value`
//!   none beyond 64 bits, which `i128` and `u128` take. `NaN` and infinities don't exist in JSON: a result or a state that
//!   holds one is an error.
//! - `fn` runs where the command was read, and must not block. `#[command(blocking)]` runs on a thread where it may.
//!   `async fn` is polled at once and, if it waits, by the host's runtime: a daemon needs no thread of its own.
//! - `&str` is read without a copy. Trailing `Option<T>` arguments may be left out. A last `#[rest] more: Vec<T>`
//!   takes all that is left.
//! - An argument of type [`Guest`] or [`Ecosystem`], or a reference to one, is given by the host and isn't counted.
//! - `dae`, `options`, `help`, `stats` and `error` are the host's, for every daemon.
//!
//! # Guests
//! A [`Guest`] is one connection. It is copied and kept as a number is, and used from any thread: [`Guest::emit`] pushes an
//! event, [`Guest::call`] asks the other side, [`Guest::on`] hears what it says. Once it has gone, all of them say so.
//!
//! `#[on(connect)]` and `#[on(disconnect)]` make a method one that is called when a guest has come or gone: `fn` or
//! `async fn`, with `&self` and, in any order, a `Guest` and an `Ecosystem`, or neither; the result is `()` or a `Result`,
//! whose error is logged. `connect` is over before the guest's first command begins. After a reload the new instance is
//! told of each guest that is still there, under the same [`Guest::id`], and the old one of none.
//!
//! # Other daemons
//! An [`Ecosystem`] reaches the others by their names, in whatever process or language they run:
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
//!         // A connection, and a handler of its events. Here they are a tuple; `|n: u64|` would take an only one.
//!         let clock = self.eco.connect("Clock").await?;
//!         clock.on("tick", |(n, unix_ms): (u64, u64)| tracing::info!(n, unix_ms))?;
//!         let () = clock.call("subscribe", ()).await?;
//!         // A topic: what anybody publishes on it, all who have subscribed hear.
//!         let mut alarms = self.eco.subscribe("alarm")?;
//!         while let Some(alarm) = alarms.next().await {
//!             let text: String = alarm.arguments()?;
//!             tracing::warn!(text, "an alarm");
//!         }
//!         Ok(())
//!     }
//!
//!     /// Counts one, at another daemon's.
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
//! - **Order.** What is sent over one connection is read in that order. Handlers run one after the other, in the order of
//!   the events; they must not block.
//! - **Errors.** A call that fails has the other side's words, and its [`Error::code`]: `unknown-command`, `bad-arguments`,
//!   `failed`, `crashed`, `timeout`, `unavailable`. Returned by `?` from a command, it is answered as `failed` with the
//!   same text.
//! - **Reload and crash.** While the other side is reloaded, calls wait. If it crashes, those on their way are answered
//!   `crashed`. A connection that this daemon opened is made again by the host; its handlers hear `disconnect ["why"]`
//!   and `connect [credential]`, and what was asked for over it (as `subscribe` above) is asked for again on `connect`.
//! - **This daemon's own reload** ends the connections, handlers and streams of the old instance; the new one makes its
//!   own, best in `run`, which begins once it has taken over.
//! - **Bounds.** Nothing is kept without end. Of events, 4 MiB wait for a reader; past that a stream ends, with an event
//!   `disconnect ["slow-guest: …"]`, and handlers go on with what comes later. A flood of calls is answered, some of it
//!   with `unavailable`.
//! - [`Ecosystem::every`] ticks without drift, [`Ecosystem::list`], [`Ecosystem::find`] and [`Ecosystem::watch`] tell who is
//!   there.
//!
//! # Lifecycle
//! Methods of these names in the same `impl`, each optional, each `fn` or `async fn`:
//! - `start(Ecosystem, Config) -> Result<Self>`: without it, `Default`. `Config` is any type that serde reads from the
//!   JSON object given at install. One or both arguments may be left out.
//! - `run(&self)`: background work for as long as the daemon lives; may return a `Result`.
//! - `stop(&self)`: the last call before the daemon is dropped.
//!
//! # State
//! What one instance hands to the next, over a reload, a stop and a start, or a restart of the host; any type that serde
//! writes and reads, as JSON:
//! - `save(&self) -> State`, or a `Result` of it, with `start(…, state: Option<State>)`; each may be `async`. Or
//!   `#[daemon(state = State)]` with `From<&Self> for State` and `From<State> for Self`.
//! - `#[daemon(state_version = 2)]` numbers the shape of it, 1 without; `migrate(version: u32, state: json::Value) ->
//!   Result<State>` reads older ones. A state that can't be read refuses the reload.
//! - `#[daemon(exclusive)]`: two instances never run at once. The old one ends before the new one starts, and is started
//!   again if that fails. For a daemon that owns a port or a locked file.
//!
//! # Reload
//! A new file is tried out in a process of its own before it comes near the host: it is loaded there, and reads a copy
//! of the state. What crashes or hangs in that is refused, and the old code runs on.
//! - `#[daemon(trial = "start")]`: the trial also runs `start`, with the config and the copy of the state, and then `stop`.
//!   For a daemon whose `start` can be run twice without harm: it opens nothing that only one can have, sends nothing,
//!   and writes over nothing. Then a start that fails, hangs or crashes is found before any guest waits for it. The owner
//!   has the last word, by `trial` in its settings: `true` only loads, `"start"` starts, `false` does without a trial.
//! - Guests wait while the state moves: for the commands that still run, for `save`, and for `start`, which the host gives
//!   `start_ms` (10 s) and then refuses. So a `start` should be short, and leave what takes long to `run`.
//!
//! The crate of a daemon that derives `Serialize` or `Deserialize` depends on `serde` itself, with its feature `derive`:
//! the derives name that crate.
//!
//! # Panics and threads
//! Whatever panics is caught on this side of the boundary, answered as `crashed`, and logged with its place.
//! A plugin must be built with `panic = "unwind"`, which is cargo's default. With the feature `tokio`, each daemon has a
//! tokio runtime of its own, entered whenever its code runs, so that `tokio::spawn` and all that builds on it work.
//!
//! # Statics
//! Two daemons of one file share its image, and so its `static`s. State belongs into the daemon's type.

pub mod abi;
mod arguments;
mod credential;
mod daemon;
mod ecosystem;
mod error;
mod events;
mod every;
#[doc(hidden)]
pub mod exact;
pub mod export;
#[cfg(test)]
mod fake_host;
mod feed;
mod guest;
mod listeners;
mod log;
#[doc(hidden)]
pub mod misfit;
pub mod operation;
mod panic;
mod reply;
mod runtime;
mod verbatim;
mod wire;

pub use credential::Credential;
pub use dae_plugin_macros::daemon;
pub use ecosystem::Ecosystem;
pub use error::{Error, Result};
pub use events::{Change, ChangeKind, Changes, Event, Events};
pub use every::Every;
pub use guest::Guest;
pub use listeners::Listener;
pub use serde;
pub use serde_json as json;
pub use tracing;

pub use abi::{ABI_VERSION_MAX, ABI_VERSION_MIN};

/// The compiler that built this crate, and so the plugin: `rustc 1.95.0 (…)`.
pub const RUSTC: &str = env!("DAE_RUSTC");
/// The target triple it was built for.
pub const TARGET: &str = env!("DAE_TARGET");
/// This crate's version.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything a daemon's source usually names.
pub mod prelude {
    pub use crate::{Change, ChangeKind, Changes, Credential, Ecosystem, Error, Event, Events};
    pub use crate::{Every, Guest, Listener, Result, daemon, json, tracing};
    pub use serde::{Deserialize, Serialize};
}
