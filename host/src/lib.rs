//! A plugin host for long-running daemons: the library, for programs that want an ecosystem of their own.
//!
//! [`Dae`] is all that an embedding program needs. In reading order, which is also the order of imports (a file imports
//! only what stands below it):
//!
//! - [`dae`]: the ecosystem, and what changes it
//! - `supervise`: one task a daemon, which owns its port
//! - `discover`: the daemons of this machine that this host doesn't run
//! - `dae_runtime`: from a guest's line to its reply, wherever the daemon's code runs
//! - `dae_store`: what is on the disk, and plain data and decisions
//!
//! What of the last two an embedding program meets is here, too.

pub mod dae;

mod discover;
mod supervise;

pub use dae::Dae;
#[doc(inline)]
pub use dae_runtime::instance::worker;
#[doc(inline)]
pub use dae_store::{config, home, log, manifest, registry, report, restart, settings};
