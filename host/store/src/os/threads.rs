//! The end of a thread as the system sees it, which may come after its join.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(crate) use linux::task_of_this_thread;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::task_of_this_thread;
