//! Loading a dynamic library for good, and ending a process whose loader hangs.

use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use system::Library;

/// Loads a file. It stays loaded whatever happens to the returned handle.
///
/// # Errors
/// The error of the system's loader.
///
/// # Safety
/// Loading runs the file's constructors, which must be sound in this process.
#[allow(unsafe_code)]
pub unsafe fn open_for_good(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: the caller vouches for the file's constructors.
    unsafe { system::open_for_good(path) }
}

/// Ends the process at once, without the exit handlers of its libraries.
pub fn exit_at_once(code: i32) -> ! {
    system::exit_at_once(code)
}
