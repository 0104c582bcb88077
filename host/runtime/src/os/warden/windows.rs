//! The host's job object: the system ends its processes when the host ends, because nobody else has it open.

#![allow(unsafe_code)]

use std::io;

use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

/// The exit code of a worker that has lost its host (sysexits' EX_SOFTWARE).
const CODE_LOST: u32 = 70;

/// Does nothing: the host has put this process into its job before the first frame. A host that ends earlier closes the
/// pipe, which ends this process too.
pub(super) fn end_with(_host: u32) -> io::Result<()> {
    Ok(())
}

/// The job's other processes end when the host's last handle of it is closed.
pub(super) fn end_group() {
    // SAFETY: the handle of the own process is always valid.
    unsafe { TerminateProcess(GetCurrentProcess(), CODE_LOST) };
}
