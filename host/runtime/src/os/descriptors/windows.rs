//! Sockets. A process may have millions of handles, so that memory runs out first.

#![allow(unsafe_code)]

use std::io;

use tokio::net::TcpStream;
use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::Networking::WinSock::WSAEMFILE;
use windows_sys::Win32::System::Console::{
    GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};

pub use std::os::windows::io::{
    AsSocket as AsDescriptor, BorrowedSocket as BorrowedDescriptor, OwnedSocket as OwnedDescriptor,
};

/// A handle. Its value does not show how many are in use.
pub trait Numbered {
    /// Returns 0.
    fn number(&self) -> u64;
}

impl<T> Numbered for T {
    fn number(&self) -> u64 {
        0
    }
}

pub(super) fn of(opened: &impl AsDescriptor) -> BorrowedDescriptor<'_> {
    opened.as_socket()
}

pub(super) fn limit() -> Option<u64> {
    None
}

pub(super) fn set_limit(_files_max: u64) {}

pub(super) fn is_none_left(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WSAEMFILE)
}

/// Nobody asks for it where there is no limit.
pub(super) fn lowest_copy(_stream: &TcpStream) -> io::Result<std::net::TcpStream> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A new process inherits all handles that may be inherited. Those that this process makes may not, so it is about the
/// standard handles. A process that inherits one by request gets a copy of it.
pub(super) fn keep_to_ourselves() {
    for number in [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
        // SAFETY: the calls touch no memory of this process, and refuse a handle that is not open.
        unsafe { SetHandleInformation(GetStdHandle(number), HANDLE_FLAG_INHERIT, 0) };
    }
}

/// The system has no such number. It is only needed where sockets go to other processes.
pub(super) fn socket_number(_socket: BorrowedDescriptor<'_>) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}
