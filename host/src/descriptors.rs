//! Descriptors of this process: how many there may be, and those that whoever started it left open.
//!
//! A daemon takes one for as long as it listens, so a host may have as many as the system allows it at all: the soft limit
//! is for programs that can't count beyond 1,024. The last of them are not for daemons: a host without any lets no guest
//! in, loads no file and makes no process.
//!
//! What is left open is kept from the processes of daemons. What the host itself opens is closed at an exec, as everything
//! is that Rust opens. What it has inherited is not, and would be handed on to every daemon in a process of its own: the
//! lock of a wrapper script, a pipe that somebody waits to see closed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that no daemon takes to listen: enough for a guest or two of each that is in use, and for what is opened
/// for a moment.
const KEPT: u64 = 128;
/// Where there are few in all, no more than one in so many is kept.
const KEPT_SHARE: u64 = 8;

/// Raises the soft limit to the hard one.
pub(crate) fn allow_all() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    // Where the system doesn't want that, what there is has to do; who comes to its end is told.
    let _ = setrlimit(Resource::Nofile, all);
}

/// Whether a daemon may keep what it has just opened to listen.
///
/// # Errors
/// Too few would be left; what to do.
pub(crate) fn check_room(opened: &impl AsRawFd) -> Result<(), String> {
    // The system gives the lowest number that is free: all below it are in use.
    let used = u64::try_from(opened.as_raw_fd()).unwrap_or(0);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if used + KEPT.min(limit / KEPT_SHARE) >= limit => Err(no_room(limit)),
        _ => Ok(()),
    }
}

/// The same as [`check_room`] says, where not even one could be opened; `None` for any other error.
pub(crate) fn no_room_after(error: &io::Error) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (Errno::from_io_error(error) == Some(Errno::MFILE)).then(|| no_room(limit))
}

fn no_room(limit: u64) -> String {
    let kept = KEPT.min(limit / KEPT_SHARE);
    format!(
        "the host's process may have {limit} files and sockets open, and all but the last {kept}, which guests and files \
         need, are in use; allow it more (`ulimit -n`, or LimitNOFILE= of its service) and start it anew, or run fewer daemons"
    )
}

/// Marks every open descriptor but the three standard ones to be closed at an exec. To be called before there are threads.
pub(crate) fn keep_to_ourselves() {
    // The list has the descriptor of the list itself, which is closed by then; so all are collected first.
    for fd in open_descriptors() {
        // SAFETY: the number was open a moment ago and nothing has run in between that closes any but the list's own,
        // for which the call below fails harmlessly; the borrow ends with the call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // One that has gone needs no mark.
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}

fn open_descriptors() -> Vec<RawFd> {
    let Ok(list) = std::fs::read_dir("/dev/fd") else {
        return Vec::new();
    };
    let names = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    names.filter(|fd| *fd > 2).collect()
}
