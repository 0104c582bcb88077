//! What a daemon that misbehaves does to itself, to its guests, to the other daemons and to the host.
//!
//! One test a misdeed and mode. In a subprocess none may cost more than the daemon's own process: its guests' connections
//! stay, what was in its hands is answered, the next instance answers the next command, and a prober on another daemon
//! gets every answer all the while. In the host's own process some misdeeds can't be survived, and the tests say so
//! plainly: a segfault ends the host with SIGSEGV, and with it every daemon. That is what subprocess mode is for.
//!
//! The prober's quantiles before and during are printed (`--nocapture`); asserted is only that no call took as long as a
//! stall does, since a machine under load has its pauses.

mod host_ends;
mod in_process;
mod panics;
mod room;
mod scene;
mod subprocess;
