//! A plugin host for long-running daemons: the library, for programs that embed an ecosystem.
//!
//! An embedding program needs only [`Dae`]. The modules in reading order, which is also the order of imports (a
//! file imports only from below it):
//!
//! - [`dae`]: the ecosystem, and the operations that change it
//! - `supervise`: one task per daemon, which owns its port
//! - `discover`: the daemons of this machine that this host doesn't run
//! - `dae_runtime`: from a guest's line to its reply, wherever the daemon's code runs
//! - `dae_store`: the files on disk, and plain data and decisions
//!
//! The parts of the last two that an embedding program needs are re-exported here.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod dae;

mod discover;
mod supervise;

pub use dae::Dae;
#[doc(inline)]
pub use dae_runtime::instance::worker;
#[doc(inline)]
pub use dae_store::{
    call_graph, config, event, home, log, manifest, registry, report, restart, settings, usage,
};

/// Traces: the commands of a trace that have ended. [`Dae`] begins no trace: a caller names one (`host/docs/protocol.md`).
pub mod trace {
    #[doc(inline)]
    pub use dae_common_tcp::TraceParent;
    #[doc(inline)]
    pub use dae_runtime::threads::trace::{EndedSpan, report_spans};
}
