//! `dlopen` with the flag that keeps a library mapped.

#![allow(unsafe_code)]

use std::path::Path;

pub use libloading::os::unix::Library;
use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};

/// The flag that keeps a library mapped whatever happens to its handle. libloading does not have it; the value is that
/// of glibc and musl.
#[cfg(target_os = "linux")]
const RTLD_NODELETE: i32 = 0x1000;
#[cfg(target_os = "macos")]
const RTLD_NODELETE: i32 = 0x80;

/// # Safety
/// As for [`super::open_for_good`].
pub(super) unsafe fn open_for_good(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: the caller vouches for the file's constructors.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
}

pub(super) fn exit_at_once(code: i32) -> ! {
    // SAFETY: it takes any number, never returns, and touches no memory of this process.
    unsafe { libc::_exit(code) }
}
