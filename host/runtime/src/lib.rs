//! The hot path of a host and the code that runs daemons: from a guest's line to its reply, in any process.
//!
//! The modules, in reading order. This is also the order of imports: a file imports only from its own folder and from
//! those below it in this list.
//!
//! - `fuzzed`: entry points for the fuzzers
//! - [`peers`]: the names of daemons, connections to them, and the ecosystem API that uses both
//! - [`session`]: from a connection to the instance behind it: the gate, guests, dispatch, the control socket
//! - [`instance`]: one instance of a daemon, in this process or another; the worker's main function
//! - [`process`]: a daemon's process as its host sees it, and the messages between the two
//! - [`hand_off`]: busy guests whose sockets go to their daemon's process: both sides, and the memory that they share
//! - [`plugin`]: loaded libraries, the command table, and the host API of plugins
//! - [`connection`]: the parts of a connection: event queues, pending calls, guest handles, topics
//! - [`threads`]: counters, file descriptor limits, the watchdog, latency classes, spare threads
//! - [`os`]: the seam to the operating system

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod connection;
#[doc(hidden)]
pub mod fuzzed;
pub(crate) mod hand_off;
pub mod instance;
pub mod os;
pub mod peers;
pub mod plugin;
pub mod process;
pub mod session;
pub mod threads;
