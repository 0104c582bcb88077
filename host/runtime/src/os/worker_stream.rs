//! The stream between a host and its worker: a pair of connected ends, of which the worker gets one as its standard
//! input.
//!
//! On Unix it is a pair of sockets, which can carry descriptors. On Windows it is a named pipe with a name that nobody
//! can guess, which only this user may open, and to which the host connects the worker's end itself.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;
use std::process::Stdio;

use super::descriptors::{BorrowedDescriptor, Numbered, OwnedDescriptor};

pub use system::WorkerStream;

/// The host's end, before the runtime has it.
#[derive(Debug)]
pub struct HostEnd(system::HostEnd);

/// The worker's end, which its process gets as standard input.
#[derive(Debug)]
pub struct WorkerEnd(system::WorkerEnd);

/// Makes a pair of connected ends. Call it on a runtime.
///
/// # Errors
/// The system's error.
pub fn pair() -> io::Result<(HostEnd, WorkerEnd)> {
    let (host, worker) = system::pair()?;
    Ok((HostEnd(host), WorkerEnd(worker)))
}

impl HostEnd {
    /// Writes a short frame, as the first thing of all.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where nothing can be sent that early.
    pub fn send_early(&self, frame: &[u8]) -> io::Result<()> {
        system::send_early(&self.0, frame)
    }

    /// Writes a frame with a descriptor, as the first thing but for [`HostEnd::send_early`].
    ///
    /// # Errors
    /// The system's error; `Unsupported` where no descriptors can be sent.
    pub fn send_first(&self, frame: &[u8], descriptor: BorrowedDescriptor<'_>) -> io::Result<()> {
        system::send_first(&self.0, frame, descriptor)
    }

    /// Gives it to the runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(self) -> io::Result<WorkerStream> {
        system::open_host_end(self.0)
    }
}

impl WorkerEnd {
    /// Takes it from this process's standard input, and leaves an empty standard input for the daemon.
    ///
    /// # Errors
    /// The system's error.
    pub fn take() -> io::Result<Self> {
        system::take().map(WorkerEnd)
    }

    /// Returns it as the standard input of a new process.
    #[must_use]
    pub fn into_stdin(self) -> Stdio {
        system::into_stdin(self.0)
    }

    /// Gives it to the runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(self) -> io::Result<WorkerStream> {
        system::open_worker_end(self.0)
    }

    /// Returns its descriptor, whose number shows how many are in use.
    pub(crate) fn descriptor(&self) -> &impl Numbered {
        &self.0
    }
}

/// Waits for data, and appends as much as `room` has space for. Returns 0 at the end. Only one task may read.
///
/// # Errors
/// The system's error.
pub fn read(stream: &WorkerStream, room: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> {
    system::read(stream, room)
}

/// Reads what a process had sent before it ended. Returns 0 at the end.
///
/// # Errors
/// The system's error; `WouldBlock` if there is no more.
pub fn read_rest(
    stream: &WorkerStream,
    room: &mut Vec<u8>,
) -> impl Future<Output = io::Result<usize>> {
    system::read_rest(stream, room)
}

/// Waits, before the end of this process, until its end can't take back what it has written. Blocks the thread.
pub fn deliver(stream: &WorkerStream) {
    system::deliver(stream);
}

/// Writes a frame with a descriptor, whole or not at all.
///
/// # Errors
/// The system's error; `WouldBlock` if the stream is full; `Unsupported` where no descriptors can be sent.
pub fn send_with(
    stream: &WorkerStream,
    frame: &[u8],
    descriptor: BorrowedDescriptor<'_>,
) -> io::Result<()> {
    system::send_with(stream, frame, descriptor)
}

/// Reads like [`read`], but through `chunk`, and takes descriptors that come with frames. `descriptors` holds those
/// that came last. Mostly they belong to the last frame there is; if that frame was read in two pieces, they belong to
/// the one before. A process at its file descriptor limit gets fewer of them than were sent.
///
/// # Errors
/// The system's error.
pub fn receive(
    stream: &WorkerStream,
    chunk: &mut [u8],
    descriptors: &mut Vec<OwnedDescriptor>,
) -> impl Future<Output = io::Result<usize>> {
    system::receive(stream, chunk, descriptors)
}
