//! A named pipe.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{FromRawHandle as _, IntoRawHandle as _, OwnedHandle};
use std::process::Stdio;

use futures_util::FutureExt as _;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer};
use windows_sys::Win32::Foundation::{
    HANDLE_FLAG_INHERIT, INVALID_HANDLE_VALUE, SetHandleInformation,
};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;
use windows_sys::Win32::System::Console::{GetStdHandle, STD_INPUT_HANDLE, SetStdHandle};

use crate::os::account::own_pipe;
use crate::os::descriptors::{BorrowedDescriptor, OwnedDescriptor};

/// Either end, on a runtime.
#[derive(Debug)]
pub enum WorkerStream {
    /// The host's end.
    Host(NamedPipeServer),
    /// The worker's end.
    Worker(NamedPipeClient),
}

pub(super) type HostEnd = NamedPipeServer;
pub(super) type WorkerEnd = OwnedHandle;

impl WorkerStream {
    /// Waits until the stream may take more bytes.
    ///
    /// # Errors
    /// The system's error.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            WorkerStream::Host(end) => end.writable().await,
            WorkerStream::Worker(end) => end.writable().await,
        }
    }

    /// Writes what fits at once.
    ///
    /// # Errors
    /// The system's error; `WouldBlock` if the stream is full.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            WorkerStream::Host(end) => end.try_write(bytes),
            WorkerStream::Worker(end) => end.try_write(bytes),
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            WorkerStream::Host(end) => end.readable().await,
            WorkerStream::Worker(end) => end.readable().await,
        }
    }

    fn try_read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            WorkerStream::Host(end) => end.try_read(chunk),
            WorkerStream::Worker(end) => end.try_read(chunk),
        }
    }
}

pub(super) fn pair() -> io::Result<(HostEnd, WorkerEnd)> {
    // The name is random, and nobody else may open the pipe.
    let name = format!(r"\\.\pipe\dae-worker-{}", random_hex());
    let host = own_pipe(&name, true)?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_OVERLAPPED);
    let worker: File = options.open(&name)?;
    // The other end is there, so this returns at once.
    match host.connect().now_or_never() {
        Some(connected) => connected?,
        None => return Err(io::ErrorKind::NotConnected.into()),
    }
    Ok((host, worker.into()))
}

/// Returns 32 random digits. The standard library's hashers have keys from the system's source of randomness.
fn random_hex() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let number = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", number(), number())
}

pub(super) fn open_host_end(end: HostEnd) -> io::Result<WorkerStream> {
    Ok(WorkerStream::Host(end))
}

pub(super) fn open_worker_end(end: WorkerEnd) -> io::Result<WorkerStream> {
    // SAFETY: the handle is this value's own, and that of a pipe which was opened for overlapped use.
    let client = unsafe { NamedPipeClient::from_raw_handle(end.into_raw_handle()) }?;
    Ok(WorkerStream::Worker(client))
}

pub(super) fn into_stdin(end: WorkerEnd) -> Stdio {
    Stdio::from(end)
}

pub(super) fn take() -> io::Result<WorkerEnd> {
    let nothing = File::open("NUL")?;
    // SAFETY: neither call touches memory of this process. Nobody else uses the standard input: the process has just
    // started. So its handle has no other owner, and that of NUL is given away.
    let end = unsafe {
        let handle = GetStdHandle(STD_INPUT_HANDLE);
        if handle.is_null() || handle == INVALID_HANDLE_VALUE {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Processes that the daemon starts must not hold the pipe open.
        SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0);
        SetStdHandle(STD_INPUT_HANDLE, nothing.into_raw_handle());
        OwnedHandle::from_raw_handle(handle)
    };
    Ok(end)
}

pub(super) async fn read(stream: &WorkerStream, room: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match read_now(stream, room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

pub(super) fn read_now(stream: &WorkerStream, room: &mut Vec<u8>) -> io::Result<usize> {
    match stream {
        WorkerStream::Host(end) => end.try_read_buf(room),
        WorkerStream::Worker(end) => end.try_read_buf(room),
    }
}

/// No descriptor can go with a frame. A frame without its descriptor is useless.
pub(super) fn send_first(
    _stream: &HostEnd,
    _frame: &[u8],
    _descriptor: BorrowedDescriptor<'_>,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`send_first`].
pub(super) fn send_with(
    _stream: &WorkerStream,
    _frame: &[u8],
    _descriptor: BorrowedDescriptor<'_>,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) async fn receive(
    stream: &WorkerStream,
    chunk: &mut [u8],
    _descriptors: &mut Vec<OwnedDescriptor>,
) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
