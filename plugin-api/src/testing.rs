//! A host for tests: it runs a daemon in the process of its unit test, without a program, a socket or a plugin file.
//!
//! It needs the feature `testing`, as a dev-dependency of the author's crate:
//!
//! ```toml
//! [dev-dependencies]
//! dae-plugin-api = { path = "path/to/dae-host/plugin-api", features = ["testing"] }
//! ```
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use dae_plugin_api::prelude::*;
//! use dae_plugin_api::testing;
//!
//! struct Counter(AtomicU64);
//!
//! #[daemon]
//! impl Counter {
//!     fn start(state: Option<u64>) -> Self {
//!         Counter(AtomicU64::new(state.unwrap_or(0)))
//!     }
//!
//!     fn save(&self) -> u64 {
//!         self.0.load(Ordering::SeqCst)
//!     }
//!
//!     #[command]
//!     fn increment(&self, by: Option<u64>) -> u64 {
//!         let by = by.unwrap_or(1);
//!         self.0.fetch_add(by, Ordering::SeqCst) + by
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let host = testing::host();
//! let counter = host.start::<Counter>(())?;
//! assert_eq!(counter.call("increment", (5,))?, 5);
//! counter.reload()?;
//! assert_eq!(counter.call("increment", ())?, 6);
//! # Ok(())
//! # }
//! ```
//!
//! # The same as a real host
//! A daemon is called through the functions that its plugin exports. Arguments, replies, events and the state cross as
//! JSON. A command has the same error codes, panics are answered `crashed`, a command is cancelled after 30 s. A reload
//! saves, starts the new instance, and lets the old one go on if either fails. Connect hooks run before a guest's first
//! command. [`FakeDaemon`] stands for the daemons that this one calls.
//!
//! # Different from a real host
//! - **One thread.** All tasks run on one thread of the host, one after the other, and only while the test waits for a
//!   method of this module. So a test takes the same steps each time. A blocking command and a plain `fn run` have
//!   threads of their own, and so has tokio with the feature `tokio`.
//! - **The clock.** `eco.sleep`, `eco.every` and time limits wait for [`TestHost::advance`]. While the test waits for a
//!   `start`, a `save` or a `stop`, or for commands to end at a reload or stop, the clock moves by itself to the next timer.
//!   `Instant::now`, `SystemTime` and tokio's timers are real.
//! - **No restarts.** A daemon that has crashed or whose `run` has failed stays so until [`TestDaemon::start`].
//! - **No text.** Arguments are what serde writes. A real host also reads what a person types, such as `greet Ada`.
//! - **No process.** [`TestDaemon::crash`] runs the daemon's `Drop`, so that the next instance finds its ports and files
//!   free. A process that is killed runs none.
//! - **No limits** on the number of guests, calls, connections and streams, and none on the length of a line (1 MiB in a
//!   real host).
//!
//! Test functions of one program run at the same time; each has a host of its own. A method waits for at most 10 s of
//! real time, see [`TestHost::set_limit`]. The daemon's `static`s are shared by all tests of the program.

mod clock;
mod commands;
pub(crate) mod core;
mod daemon;
mod executor;
mod fake;
mod guest;
mod host;
mod instance;
mod late_schemas;
mod life;
mod log_line;
mod pass_time;
mod route;
pub(crate) mod signal;
pub(crate) mod slot;
pub(crate) mod vtable;
pub(crate) mod world;

pub use daemon::TestDaemon;
pub use fake::FakeDaemon;
pub use guest::{PendingReply, TestGuest};
pub use host::{StartOptions, TestHost};
pub use log_line::LogLine;
pub(crate) use vtable::now;

/// Returns a new host, without any daemon.
#[must_use]
pub fn host() -> TestHost {
    TestHost::new()
}
