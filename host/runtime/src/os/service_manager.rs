//! The reports of a host to the service manager that started it, and whether there is one that knows units.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{INSTEAD, is_alive, is_booted, is_ready, is_stopping, needs_time, watchdog};
#[cfg(windows)]
pub use windows::{INSTEAD, is_alive, is_booted, is_ready, is_stopping, needs_time, watchdog};
