//! The short name of a process in lists such as `top`. Linux alone has one that a process can choose.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// Names this process, on the thread that has started it. The kernel keeps the first 15 bytes. Threads that begin later
/// inherit the name.
pub(crate) fn set(name: &str) {
    system::set(name);
}
