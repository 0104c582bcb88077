//! The reports of a host to the service manager that started it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{is_ready, is_stopping, needs_time};
#[cfg(windows)]
pub use windows::{is_ready, is_stopping, needs_time};
