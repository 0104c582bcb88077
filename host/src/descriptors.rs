//! Descriptors that whoever started the program left open: kept from the processes of daemons.
//!
//! What the host itself opens is closed at an exec, as everything is that Rust opens. What it has inherited is not, and
//! would be handed on to every daemon in a process of its own: the lock of a wrapper script, a pipe that somebody waits
//! to see closed.

#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

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
