//! File descriptors, which the system assigns from the lowest free number on.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::fs::FileType;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

pub use std::os::fd::{
    AsFd as AsDescriptor, BorrowedFd as BorrowedDescriptor, OwnedFd as OwnedDescriptor,
};

/// The first descriptor after standard input, output and error.
const FIRST_INHERITED: RawFd = 3;

/// A descriptor whose number shows how many are in use: the system assigns the lowest free one.
pub trait Numbered {
    /// Returns the number.
    fn number(&self) -> u64;
}

impl<T: AsRawFd> Numbered for T {
    fn number(&self) -> u64 {
        u64::try_from(self.as_raw_fd()).unwrap_or(0)
    }
}

pub(super) fn of(opened: &impl AsDescriptor) -> BorrowedDescriptor<'_> {
    opened.as_fd()
}

pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

pub(super) fn set_limit(files_max: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(files_max, |maximum| files_max.min(maximum)));
    // If the system refuses, the process keeps its limit.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

pub(super) fn is_none_left(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

pub(super) fn lowest_copy(stream: &TcpStream) -> io::Result<std::net::TcpStream> {
    Ok(fcntl_dupfd_cloexec(stream, 0)?.into())
}

pub(super) fn keep_to_ourselves() {
    close_fds::set_fds_cloexec(FIRST_INHERITED, &[]);
}

pub(super) fn socket_number(socket: BorrowedDescriptor<'_>) -> io::Result<u64> {
    let stat = rustix::fs::fstat(socket)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => Ok(stat.st_ino),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
