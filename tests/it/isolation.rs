//! Misbehaving daemons, and the effects on themselves, their guests, the other daemons and the host.
//!
//! There is one test per fault and mode. In a subprocess no fault may cost more than the daemon's own process: its
//! guests' connections stay, commands in flight are answered, the next instance answers the next command, and a prober
//! on another daemon gets every answer throughout. In the host's own process some faults are fatal, and the tests state
//! which: a segfault ends the host with SIGSEGV, and with it every daemon. Subprocess mode exists for such daemons.
//!
//! The tests print the prober's quantiles before and during the fault (`--nocapture`). They only assert that no call
//! took as long as a stall, since a machine under load pauses now and then.

mod host_ends;
mod in_process;
mod panics;
mod room;
mod scene;
mod subprocess;
