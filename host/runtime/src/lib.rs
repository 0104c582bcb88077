//! The hot path of a host, and the code of daemons: from a guest's line to its reply, wherever a daemon runs.
//!
//! In reading order, which is also the order of imports (a file imports only from its own folder and those below it):
//!
//! - `fuzzed`: what a fuzzer reaches
//! - [`peers`]: the names of daemons, connections to them, and what a daemon has its host do with both
//! - [`session`]: from a connection to the instance behind it: the gate, guests, dispatch, the control socket
//! - [`instance`]: one instance of a daemon, in this process or another; the worker's main
//! - [`process`]: a daemon's process, as its host sees it, and what the two say to each other
//! - [`plugin`]: loaded libraries, the command table, what a plugin may ask of its host
//! - [`connection`]: what a connection works with: event queues, pending calls, guests' handles, topics
//! - [`threads`]: counters, limits of descriptors, the watchdog, latency classes, spare threads

pub mod connection;
#[doc(hidden)]
pub mod fuzzed;
pub mod instance;
pub mod peers;
pub mod plugin;
pub mod process;
pub mod session;
pub mod threads;
