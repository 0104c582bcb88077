//! A named pipe.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle, IntoRawHandle as _, OwnedHandle};
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_OVERLAPPED, FlushFileBuffers};
use windows_sys::Win32::System::Console::{GetStdHandle, STD_INPUT_HANDLE, SetStdHandle};

use crate::os::account::own_pipe;
use crate::os::descriptors::{BorrowedDescriptor, OwnedDescriptor};

/// The longest wait for the rest of what a process has sent that is gone: its pipe ends at once.
const REST_MAX: Duration = Duration::from_secs(1);

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

/// Leaves `NUL` as the standard input in both forms: as the system's handle, and as the C runtime's descriptor 0, which
/// got the pipe's handle before `main`. So code in C reads no bytes that the host sends.
pub(super) fn take() -> io::Result<WorkerEnd> {
    // SAFETY: the call touches no memory of this process.
    let inherited = unsafe { GetStdHandle(STD_INPUT_HANDLE) };
    if inherited.is_null() || inherited == INVALID_HANDLE_VALUE {
        return Err(io::ErrorKind::NotConnected.into());
    }
    // SAFETY: the handle is open until `leave_nothing` closes it. The copy isn't inherited: processes that the daemon
    // starts must not hold the pipe open.
    let end = unsafe { BorrowedHandle::borrow_raw(inherited) }.try_clone_to_owned()?;
    leave_nothing(inherited)?;
    Ok(end)
}

/// Replaces the standard input by `NUL`, and closes it.
fn leave_nothing(inherited: HANDLE) -> io::Result<()> {
    // SAFETY: the text ends with a NUL. The calls touch no memory of this process. Nobody else uses the standard input,
    // since the process has just started, so its handle has no other owner than the C runtime.
    unsafe {
        let nothing = _open(c"NUL".as_ptr(), OPEN_TO_READ);
        let is_of_c = _get_osfhandle(STDIN) == inherited as isize;
        // Closes the handle that the descriptor had.
        if nothing < 0 || _dup2(nothing, STDIN) != 0 {
            return Err(io::Error::other("the C runtime can't open NUL"));
        }
        _close(nothing);
        if !is_of_c {
            CloseHandle(inherited);
        }
        match SetStdHandle(STD_INPUT_HANDLE, _get_osfhandle(STDIN) as HANDLE) {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// The C runtime's descriptor of the standard input.
const STDIN: c_int = 0;

/// Opens a file to read its bytes as they are (`_O_RDONLY | _O_BINARY`).
const OPEN_TO_READ: c_int = 0x8000;

// Every C runtime of Windows has these functions.
unsafe extern "C" {
    fn _open(name: *const c_char, flags: c_int, ...) -> c_int;
    fn _dup2(from: c_int, to: c_int) -> c_int;
    fn _close(descriptor: c_int) -> c_int;
    fn _get_osfhandle(descriptor: c_int) -> isize;
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

/// The runtime reads ahead one part only, so the rest has to be waited for. It is followed by the pipe's end.
pub(super) async fn read_rest(stream: &WorkerStream, room: &mut Vec<u8>) -> io::Result<usize> {
    let read = tokio::time::timeout(REST_MAX, read(stream, room)).await;
    read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A write that found the pipe full goes on in the background, and would end with the process.
pub(super) fn deliver(stream: &WorkerStream) {
    let handle = match stream {
        WorkerStream::Host(end) => end.as_raw_handle(),
        WorkerStream::Worker(end) => end.as_raw_handle(),
    };
    // SAFETY: the handle is borrowed, so it is open. The call fails if nobody is left to read.
    unsafe { FlushFileBuffers(handle) };
}

fn read_now(stream: &WorkerStream, room: &mut Vec<u8>) -> io::Result<usize> {
    match stream {
        WorkerStream::Host(end) => end.try_read_buf(room),
        WorkerStream::Worker(end) => end.try_read_buf(room),
    }
}

/// The process may not have opened its end yet.
pub(super) fn send_early(_stream: &HostEnd, _frame: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, stdin};
    use std::process::Command;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::runtime;

    /// The variable that makes a test's process the worker.
    const IS_WORKER: &str = "DAE_TEST_WORKER";

    /// The bytes that the host sends, and that the worker sends back.
    const SENT: &[u8; 8] = b"protocol";

    unsafe extern "C" {
        fn _read(descriptor: c_int, room: *mut u8, bytes: u32) -> c_int;
    }

    /// Reads the standard input as code in C does.
    fn read_as_c() -> i32 {
        let mut room = [0; 8];
        // SAFETY: the pointer is to as many bytes as are named.
        unsafe { _read(STDIN, room.as_mut_ptr(), 8) }
    }

    async fn work() {
        let end = take().unwrap();
        let mut room = Vec::new();
        assert_eq!(read_as_c(), 0, "the end of NUL");
        assert_eq!(stdin().read_to_end(&mut room).unwrap(), 0, "the same");
        // A program that it starts inherits NUL, too.
        let mut more = Command::new("cmd");
        assert!(more.args(["/c", "more"]).output().unwrap().stdout.len() <= 2);
        let WorkerStream::Worker(mut client) = open_worker_end(end).unwrap() else {
            unreachable!("it is the worker's end");
        };
        let mut got = [0; SENT.len()];
        client.read_exact(&mut got).await.unwrap();
        client.write_all(&got).await.unwrap();
    }

    #[test]
    fn code_in_c_reads_nothing_that_the_host_sends() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            if std::env::var_os(IS_WORKER).is_some() {
                return work().await;
            }
            let (mut host, worker) = pair().unwrap();
            host.write_all(SENT).await.unwrap();
            let name =
                "os::worker_stream::windows::tests::code_in_c_reads_nothing_that_the_host_sends";
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg(name).env(IS_WORKER, "1");
            let mut child = command.stdin(into_stdin(worker)).spawn().unwrap();
            // It has a copy of the end that the command holds.
            drop(command);
            let mut got = [0; SENT.len()];
            let read = host.read_exact(&mut got).await;
            assert!(child.wait().unwrap().success());
            read.unwrap();
            assert_eq!(&got, SENT);
        });
    }
}
