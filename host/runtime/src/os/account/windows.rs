//! Security identifiers of process tokens.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER,
    TokenUser,
};
use windows_sys::Win32::System::Pipes::GetNamedPipeClientProcessId;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION,
};

/// The room for a `TOKEN_USER` and its identifier, in `u64` for the alignment. An identifier has at most 68 bytes.
const TOKEN_USER_WORDS: usize = 16;

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
    match (user_of(opened.as_raw_handle()), own_user()) {
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
        lpSecurityDescriptor: descriptor.0,
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

/// A security descriptor that gives its owner everything and others nothing.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    fn of_owner() -> io::Result<Self> {
        // The owner (O) is this user also for an elevated process. The list (D) inherits nothing (P).
        let user = own_user()?;
        let text = format!("O:{user}D:P(A;;GA;;;{user})");
        let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with a NUL, and the call writes one pointer.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        match made {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Descriptor(descriptor)),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system has allocated it for this value.
        unsafe { LocalFree(self.0) };
    }
}

fn own_user() -> io::Result<String> {
    // SAFETY: the call returns a constant that stands for this process.
    user_of(unsafe { GetCurrentProcess() })
}

/// Returns the identifier of a process's user, such as `S-1-5-21-…`.
fn user_of(process: HANDLE) -> io::Result<String> {
    let mut token = ptr::null_mut();
    // SAFETY: the handle is open, and the call writes one handle.
    if unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the token was opened just now, and has no other owner.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut user = [0_u64; TOKEN_USER_WORDS];
    let bytes = u32::try_from(size_of_val(&user)).unwrap_or(0);
    let mut written = 0;
    // SAFETY: the call writes at most `bytes` bytes, to a buffer of that size and of sufficient alignment.
    let known = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            user.as_mut_ptr().cast(),
            bytes,
            &raw mut written,
        )
    };
    if known == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after success the buffer begins with a `TOKEN_USER`, whose pointer leads into the same buffer.
    let identifier = unsafe { (*user.as_ptr().cast::<TOKEN_USER>()).User.Sid };
    let mut text = ptr::null_mut();
    // SAFETY: the identifier is valid, and the call writes one pointer.
    if unsafe { ConvertSidToStringSidW(identifier, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has allocated the text, which ends with a NUL. It is freed once, after its last use.
    let read = unsafe {
        let length = (0..).take_while(|at| *text.add(*at) != 0).count();
        let read = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        read
    };
    Ok(read)
}
