//! A process that is started with all its descendants in one group, so that they can be ended together, and so that a
//! Ctrl-C at the terminal doesn't reach them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{BuildGroup, lead_group};
#[cfg(windows)]
pub use windows::{BuildGroup, lead_group};
