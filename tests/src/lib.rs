//! The harness of the end-to-end tests and the benches: a real host, real plugins, real sockets.
//!
//! The harness does not link to the host. Cargo builds the executable and the plugins, and they run as a user would run
//! them. A test therefore sees exit codes, signals, files and bytes, and takes no shortcut. For the same reason
//! [`Message`] has its own parser: the codec must not be tested with the codec.
//!
//! Every wait has a condition and a limit, by default [`LIMIT`]. None is a bare sleep. A failure panics at the line of
//! the test, and the host's standard error is printed below it.
//!
//! There are no mocks, and there is no access to the host's process from inside.

pub mod artefacts;
pub mod control;
pub mod ecosystem;
pub mod files;
pub mod guest;
pub mod leftovers;
pub mod load;
pub mod message;
pub mod nats;
pub mod ports;
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
pub use ports::{free_port, taken_port};
pub use program::{Output, Running};
pub use wait::{until, until_some};

/// The longest time for things that should happen at once. A passing test never waits that long. The limit is this high
/// because a machine that builds and tests on two cores can stall for seconds.
pub const LIMIT: Duration = Duration::from_secs(20);
