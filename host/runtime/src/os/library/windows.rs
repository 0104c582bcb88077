//! `LoadLibraryExW` and a reference to the module that is never given back.

#![allow(unsafe_code)]

use std::path::Path;

pub use libloading::os::windows::Library;
use libloading::os::windows::{LOAD_LIBRARY_SEARCH_DEFAULT_DIRS, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

/// Libraries that the file needs are looked for in its own directory and in those of the system and the program, but
/// not in the working directory or on the `PATH`, where another user might have put one.
///
/// # Safety
/// As for [`super::open_for_good`].
pub(super) unsafe fn open_for_good(path: &Path) -> Result<Library, libloading::Error> {
    let flags = LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS;
    // SAFETY: the caller vouches for the file's constructors.
    let library = unsafe { Library::load_with_flags(path, flags) }?;
    library.pin()?;
    Ok(library)
}

pub(super) fn exit_at_once(code: i32) -> ! {
    // SAFETY: the handle of the own process is always valid, and the call does not return.
    unsafe { TerminateProcess(GetCurrentProcess(), code.cast_unsigned()) };
    // The call above cannot fail for the own process.
    std::process::abort()
}
