//! The harness of the end-to-end tests and the benches: a real host, real plugins, real sockets.
//!
//! Nothing here links to the host. The executable and the plugins are built by cargo and run as anybody would run
//! them, so that a test sees exit codes, signals, files and bytes, and never a shortcut. For the same reason
//! [`Message`] reads a line by itself: what judges the codec must not be the codec.
//!
//! Every wait has a limit ([`LIMIT`] unless a test knows better) and a condition; none is a bare sleep. Whatever goes
//! wrong panics at the test's own line, with what the host wrote to its standard error printed below it.
//!
//! Absent: mocks, and a way into the host's process.

pub mod artefacts;
pub mod control;
pub mod ecosystem;
pub mod files;
pub mod guest;
pub mod leftovers;
pub mod load;
pub mod message;
pub mod process;
pub mod program;
mod questions;
pub mod spoil;
pub mod wait;

use std::time::Duration;

pub use artefacts::Artefacts;
pub use control::Control;
pub use ecosystem::Ecosystem;
pub use guest::Guest;
pub use load::Load;
pub use message::{Fault, Message};
pub use program::{Output, Running};
pub use wait::{until, until_some};

/// How long anything may take that should happen at once. A test that passes never waits for it; it is so long because
/// a machine that builds and tests on two cores can stand still for seconds.
pub const LIMIT: Duration = Duration::from_secs(20);
