//! The user of a process, and pipes for this user alone.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsHandle as _, AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use dae_store::os::security::{self, Descriptor};
use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::Pipes::GetNamedPipeClientProcessId;
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION};

/// The size of the pipe's buffers (bytes): a reply of this size goes out at once, though nobody reads yet.
const PIPE_BYTES: u32 = 64 << 10;

/// Returns whether a process belongs to the user of this one.
#[must_use]
pub fn is_own_process(process: u32) -> bool {
    // SAFETY: the call touches no memory of this process.
    let opened = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) };
    if opened.is_null() {
        return false;
    }
    // SAFETY: the handle was opened just now, and has no other owner.
    let opened = unsafe { OwnedHandle::from_raw_handle(opened) };
    match (security::user_of(opened.as_handle()), security::own_user()) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    }
}

/// Returns whether the client of a pipe belongs to the user of this process.
#[must_use]
pub fn is_own_client(pipe: &NamedPipeServer) -> bool {
    let mut process = 0;
    // SAFETY: the handle is borrowed, so it is open; the call writes one number, to the place behind the pointer.
    let is_known = unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut process) };
    is_known != 0 && is_own_process(process)
}

/// Creates an end of a pipe that only the user of this process may open, from this machine. Call it on a runtime.
///
/// # Errors
/// The system's error; `PermissionDenied` if `is_first` and a pipe of that name exists.
pub fn own_pipe(name: &str, is_first: bool) -> io::Result<NamedPipeServer> {
    let descriptor = Descriptor::of_owner()?;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or(0),
        lpSecurityDescriptor: descriptor.as_ptr(),
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options
        .first_pipe_instance(is_first)
        .reject_remote_clients(true);
    options
        .in_buffer_size(PIPE_BYTES)
        .out_buffer_size(PIPE_BYTES);
    // SAFETY: the pointer is that of a `SECURITY_ATTRIBUTES`, and the descriptor in it lives across the call.
    unsafe {
        options.create_with_security_attributes_raw(name, (&raw mut attributes).cast::<c_void>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_its_users_and_one_that_is_not_there_is_nobodys() {
        assert!(is_own_process(std::process::id()));
        // No process has an id that is no multiple of four.
        assert!(!is_own_process(u32::MAX));
    }
}
