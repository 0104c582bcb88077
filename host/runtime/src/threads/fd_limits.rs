//! Descriptors of this process: how many there may be, and those that whoever started it left open.
//!
//! A host may have as many as the system allows it at all: the soft limit is for programs that can't count beyond 1,024, and
//! is raised as far as there is need ([`grow`]).
//! They are given out by who needs them:
//! - The last of them are reserved ([`reserved`]) for the control socket, its clients, files and the processes of daemons.
//!   Whatever guests do, the owner can ask, install and stop.
//! - Below that, a guest is let in while one is left, and while its daemon has no more than its share ([`let_guest_in`]): the
//!   guests of one daemon can't take all. Where there is no room, a guest that has said nothing so far makes room for it:
//!   it is closed, and the new one is let in once it has gone.
//! - A daemon listens while some are left for guests too ([`check_room`]). Those that guests have count as left: guests must
//!   not keep a daemon from starting.
//!
//! The system gives the lowest number that is free, so the number of a descriptor tells how many are in use.
//!
//! What is left open is kept from the processes of daemons. What the host itself opens is closed at an exec, as everything
//! is that Rust opens. What it has inherited is not, and would be handed on to every daemon in a process of its own: the
//! lock of a wrapper script, a pipe that somebody waits to see closed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

use dae_store::rate_limit::RateLimit;

/// Descriptors that no guest and no listener takes: enough for the control socket's clients, and for daemons that start and
/// files that are written meanwhile. A process takes five while it is made.
const RESERVED_MAX: u64 = 512;
/// Where there are few in all, no more than one in so many is reserved.
const RESERVED_SHARE: u64 = 4;
/// Descriptors that no daemon takes to listen, beside the reserved ones: enough for a guest or two of each that is in use.
const FOR_GUESTS_MAX: u64 = 128;
/// Where there are few in all, no more than one in so many.
const FOR_GUESTS_SHARE: u64 = 8;
/// A daemon's guests may be so many times as many as there are descriptors left for guests. One daemon that is flooded
/// takes three quarters of them, and leaves the rest to others.
const GUESTS_PER_FREE: u64 = 3;
/// How often trouble with descriptors is logged: it comes with each connection, and is the same each time.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Connections of guests in this process.
static GUESTS: AtomicU64 = AtomicU64::new(0);

/// Trouble at all ports of this process, which share its descriptors.
static TROUBLE: RateLimit = RateLimit::new(1, LOGGED_EVERY);

/// What a host opens to start, and for its first daemons.
const NEEDED: u64 = 256;
/// How many times as high the soft limit is each time it is raised.
const GROWTH: u64 = 4;

/// The soft limit that this process was started with; there once it may have been raised.
static STARTED_WITH: OnceLock<u64> = OnceLock::new();

/// Remembers the soft limit, and raises it to what a host needs at least.
pub fn allow_some() {
    if let Some(current) = getrlimit(Resource::Nofile).current {
        let _ = STARTED_WITH.set(current);
        allow(current.max(NEEDED));
    }
}

/// Raises the soft limit where what was just opened shows that half of it is in use. Not before: what daemons in this
/// process start inherits it, and programs that can't count beyond 1,024 must not find more without need.
pub(crate) fn grow(opened: &impl AsRawFd) {
    let used = u64::try_from(opened.as_raw_fd()).unwrap_or(0);
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && used >= limit / 2
    {
        allow(limit.saturating_mul(GROWTH));
    }
}

/// Whether an error says that this process has as many descriptors open as it may.
pub(crate) fn is_none_left(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

/// Raises the soft limit after an error that says that it is reached. True if there are more now.
pub fn grow_after(error: &io::Error) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    if let (true, Some(limit)) = (is_none_left(error), limit) {
        allow(limit.saturating_mul(GROWTH));
    }
    getrlimit(Resource::Nofile).current != limit
}

/// Returns the soft limit that this process was started with, if it may be another one now.
pub(crate) fn started_with() -> Option<u64> {
    STARTED_WITH.get().copied()
}

/// Sets the soft limit, as far as the hard one allows it.
pub fn allow(files_max: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(files_max, |maximum| files_max.min(maximum)));
    // Where the system doesn't want that, the process has what it has.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// Whether a daemon may keep what it has just opened to listen.
///
/// # Errors
/// Too few would be left; what to do.
pub fn check_room(opened: &impl AsRawFd) -> Result<(), String> {
    grow(opened);
    let guests = GUESTS.load(Ordering::Relaxed);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if !is_room_to_listen(limit, number(opened), guests) => Err(no_room(limit)),
        _ => Ok(()),
    }
}

fn is_room_to_listen(limit: u64, used: u64, guests: u64) -> bool {
    let others = used.saturating_sub(guests);
    // Where guests have all of theirs, a listener may take one of the reserved. So does, for a moment, each connection
    // that waits until a guest has made room for it.
    others + kept_from_listeners(limit) < limit && used + reserved(limit) / 4 < limit
}

/// The system gives the lowest number that is free: all below it are in use.
fn number(opened: &impl AsRawFd) -> u64 {
    u64::try_from(opened.as_raw_fd()).unwrap_or(0)
}

/// The connection of a guest, or of a daemon to another, as long as it is counted.
#[derive(Debug)]
pub(crate) struct CountedConnection(());

impl Drop for CountedConnection {
    fn drop(&mut self) {
        GUESTS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection that was just opened, of a daemon that has `guests` others. Asked again after an error, it takes a
/// lower descriptor as soon as one is free, so that numbers go on telling how many are in use.
///
/// # Errors
/// Too few descriptors are left; what to do.
pub(crate) fn let_guest_in(
    opened: &mut TcpStream,
    guests: usize,
) -> Result<CountedConnection, String> {
    grow(opened);
    let count_as = |used: u64| count_in(|limit| is_room_for_guest(limit, used, guests as u64));
    let no_room = match count_as(number(opened)) {
        Err(no_room) => no_room,
        counted => return counted,
    };
    // The lowest number that is free. Where there is none to be had, there is no room.
    let Ok(lower) = fcntl_dupfd_cloexec(&*opened, 0) else {
        return Err(no_room);
    };
    let counted = count_as(number(&lower))?;
    *opened = TcpStream::from_std(lower.into()).map_err(|_| no_room)?;
    Ok(counted)
}

fn count_in(is_room: impl FnOnce(u64) -> bool) -> Result<CountedConnection, String> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if !is_room(limit) => Err(format!(
            "the host's process may have {limit} files and sockets open, and has no room for another connection of this \
             daemon; try again later, or allow the host more (`ulimit -n`, or LimitNOFILE= of its service)"
        )),
        _ => {
            GUESTS.fetch_add(1, Ordering::Relaxed);
            Ok(CountedConnection(()))
        }
    }
}

fn is_room_for_guest(limit: u64, used: u64, guests: u64) -> bool {
    let free = limit.saturating_sub(reserved(limit) + used);
    free > 0 && guests <= GUESTS_PER_FREE * free
}

/// Returns how many clients of the control socket there may be: a quarter of what is reserved.
pub(crate) fn control_clients_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(reserved(limit) / 4)
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Logs that no connection is accepted at a port, or that one was refused for want of descriptors; once a minute in all.
pub(crate) fn log_trouble(daemon: &str, trouble: &dyn std::fmt::Display) {
    if let Some(skipped) = TROUBLE.is_due() {
        tracing::warn!(
            daemon,
            skipped,
            "a connection could not be let in: {trouble}"
        );
    }
}

fn reserved(limit: u64) -> u64 {
    RESERVED_MAX.min(limit / RESERVED_SHARE)
}

fn kept_from_listeners(limit: u64) -> u64 {
    reserved(limit) + FOR_GUESTS_MAX.min(limit / FOR_GUESTS_SHARE)
}

/// The same as [`check_room`] says, where not even one could be opened; `None` for any other error.
pub fn no_room_after(error: &io::Error) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    is_none_left(error).then(|| no_room(limit))
}

fn no_room(limit: u64) -> String {
    let kept = kept_from_listeners(limit);
    format!(
        "the host's process may have {limit} files and sockets open, and all but the last {kept}, which guests and files \
         need, are in use; allow it more (`ulimit -n`, or LimitNOFILE= of its service) and start it anew, or run fewer daemons"
    )
}

/// Marks every open descriptor but the three standard ones to be closed at an exec. To be called before there are threads.
pub fn keep_to_ourselves() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_leave_what_is_reserved_and_one_daemon_leaves_some_to_others() {
        // One daemon's guests come, with 30 descriptors in use before the first of them.
        let let_in = |limit, used: u64| {
            (0..)
                .take_while(|guests| is_room_for_guest(limit, used + guests, *guests))
                .count() as u64
        };
        for limit in [64, 256, 1024, 1 << 20] {
            let used = 30;
            let (own, free) = (let_in(limit, used), limit - reserved(limit) - used);
            assert!(
                own > free * 7 / 10 && own <= free * 8 / 10,
                "{own} of {free}"
            );
            let others = let_in(limit, used + own);
            assert!(others > 0, "{limit}");
            assert!(used + own + others <= limit - reserved(limit), "{limit}");
        }
        assert!(!is_room_for_guest(64, 64 - reserved(64), 0));
        assert!(!is_room_for_guest(64, 1000, 0), "the limit was lowered");
    }

    #[test]
    fn guests_keep_no_daemon_from_listening_and_daemons_leave_room_for_guests() {
        for limit in [64, 256, 1024, 1 << 20] {
            let all = limit - reserved(limit);
            assert!(
                is_room_to_listen(limit, all, all - 30),
                "{limit}: guests have all of theirs"
            );
            let replacing = limit - reserved(limit) / 2;
            assert!(
                is_room_to_listen(limit, replacing, replacing - 30),
                "{limit}: guests come in place of others"
            );
            assert!(
                !is_room_to_listen(limit, limit - 1, limit - 30),
                "{limit}: nothing is left"
            );
            let listeners = (30..)
                .take_while(|used| is_room_to_listen(limit, *used, 0))
                .count() as u64;
            assert!(is_room_for_guest(limit, 30 + listeners, 0), "{limit}");
        }
    }
}
