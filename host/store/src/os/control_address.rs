//! The address of a home's control socket.
//!
//! On Unix it is a socket file in the home, and its path may have to be shortened for the kernel. On Windows it is the
//! name of a named pipe; such names are not files and are common to the whole machine.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::SocketPath;
#[cfg(unix)]
pub(crate) use unix::{of_home, short};
#[cfg(windows)]
pub use windows::SocketPath;
#[cfg(windows)]
pub(crate) use windows::{of_home, short};
