//! The file descriptor limits of this process, and the descriptors that it has inherited.
//!
//! The soft limit is meant for programs that can't handle descriptors above 1,023. The host raises it as needed, up to
//! the hard limit ([`grow`]). Descriptors are given out in this order of priority:
//! - The last ones are reserved ([`reserved`]) for the control socket, its clients, files and the processes of daemons.
//!   Whatever guests do, the owner can query, install and stop.
//! - Below that, a guest is let in while a descriptor is free and its daemon has no more than its share
//!   ([`let_guest_in`]), so that the guests of one daemon can't take all. If there is no room, a guest that has sent
//!   nothing yet is closed, and the new one is let in once it has gone.
//! - A daemon listens while some are left for guests too ([`check_room`]). Those in use by guests count as free here:
//!   guests must not keep a daemon from starting.
//!
//! The system assigns the lowest free number, so the number of a descriptor shows how many are in use.
//!
//! Daemon processes must not get descriptors that this process has inherited. Rust opens descriptors so that an exec
//! closes them, but inherited ones would be passed on to every subprocess: the lock of a wrapper script, or a pipe that
//! another program waits to see closed.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::os::descriptors::{self, Numbered};
use dae_store::rate_limit::RateLimit;

pub(crate) use crate::os::descriptors::is_none_left;
pub use crate::os::descriptors::{keep_to_ourselves, set_limit as allow};

/// Descriptors that no guest and no listener takes: enough for the control socket's clients, and for daemons that start
/// and files that are written meanwhile. A process takes five while it is started.
const RESERVED_MAX: u64 = 512;
/// The bound under a low limit: at most one in this many descriptors is reserved.
const RESERVED_SHARE: u64 = 4;
/// Descriptors that no listener takes, besides the reserved ones: enough for a guest or two of each daemon in use.
const FOR_GUESTS_MAX: u64 = 128;
/// The bound under a low limit: at most one in this many descriptors is kept from listeners.
const FOR_GUESTS_SHARE: u64 = 8;
/// The number of guests that a daemon may have per descriptor left for guests. A flooded daemon takes three quarters of
/// the descriptors, and leaves the rest to others.
const GUESTS_PER_FREE: u64 = 3;
/// The interval at which descriptor shortage is logged: it recurs with each connection and is the same each time.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// The number of guest connections in this process.
static GUESTS: AtomicU64 = AtomicU64::new(0);

/// The limit for log entries about all ports of this process, which share its descriptors.
static TROUBLE: RateLimit = RateLimit::new(1, LOGGED_EVERY);

/// Descriptors that a host needs for its start and its first daemons.
const NEEDED: u64 = 256;
/// The factor by which the soft limit is raised each time.
const GROWTH: u64 = 4;

/// The soft limit that this process was started with; set by [`allow_some`].
static STARTED_WITH: OnceLock<u64> = OnceLock::new();

/// Records the soft limit, and raises it to the minimum that a host needs.
pub fn allow_some() {
    if let Some(current) = descriptors::limit() {
        let _ = STARTED_WITH.set(current);
        allow(current.max(NEEDED));
    }
}

/// Raises the soft limit if the number of a newly opened descriptor shows that half of it is in use. Not earlier: the
/// processes that in-process daemons start inherit it, and some programs can't handle descriptors above 1,023.
pub(crate) fn grow(opened: &impl Numbered) {
    if let Some(limit) = descriptors::limit()
        && opened.number() >= limit / 2
    {
        allow(limit.saturating_mul(GROWTH));
    }
}

/// Raises the soft limit after an error that means that it is reached. Returns true if the limit is higher now.
pub fn grow_after(error: &io::Error) -> bool {
    let limit = descriptors::limit();
    if let (true, Some(limit)) = (is_none_left(error), limit) {
        allow(limit.saturating_mul(GROWTH));
    }
    descriptors::limit() != limit
}

/// Returns the soft limit that this process was started with, if it may be different now.
pub(crate) fn started_with() -> Option<u64> {
    STARTED_WITH.get().copied()
}

/// Checks that a daemon may keep the listener that it has just opened.
///
/// # Errors
/// Too few descriptors would be left; the text says what to do.
pub fn check_room(opened: &impl Numbered) -> Result<(), String> {
    grow(opened);
    let guests = GUESTS.load(Ordering::Relaxed);
    match descriptors::limit() {
        Some(limit) if !is_room_to_listen(limit, opened.number(), guests) => Err(no_room(limit)),
        _ => Ok(()),
    }
}

fn is_room_to_listen(limit: u64, used: u64, guests: u64) -> bool {
    let others = used.saturating_sub(guests);
    // When guests use all of theirs, a listener may take a reserved one. So does, for a moment, each connection that
    // waits until a guest has made room for it.
    others + kept_from_listeners(limit) < limit && used + reserved(limit) / 4 < limit
}

/// The connection of a guest, or of a daemon to another one, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct CountedConnection(());

impl Drop for CountedConnection {
    fn drop(&mut self) {
        GUESTS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a newly opened connection of a daemon that has `guests` others. If there is no room at its number,
/// tries to move it to the lowest free descriptor, so that the numbers still show how many are in use. A caller may try
/// again after an error.
///
/// # Errors
/// Too few descriptors are left; the text says what to do.
pub(crate) fn let_guest_in(
    opened: &mut TcpStream,
    guests: usize,
) -> Result<CountedConnection, String> {
    grow(opened);
    let count_as = |used: u64| count_in(|limit| is_room_for_guest(limit, used, guests as u64));
    let no_room = match count_as(opened.number()) {
        Err(no_room) => no_room,
        counted => return counted,
    };
    // The lowest free number. If the call fails, there is no room.
    let Ok(lower) = descriptors::lowest_copy(opened) else {
        return Err(no_room);
    };
    let counted = count_as(lower.number())?;
    *opened = TcpStream::from_std(lower).map_err(|_| no_room)?;
    Ok(counted)
}

fn count_in(is_room: impl FnOnce(u64) -> bool) -> Result<CountedConnection, String> {
    match descriptors::limit() {
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

/// Returns the limit for clients of the control socket: a quarter of the reserved descriptors.
pub(crate) fn control_clients_max() -> usize {
    let limit = descriptors::limit().unwrap_or(u64::MAX);
    usize::try_from(reserved(limit) / 4)
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Logs that a connection could not be accepted or was refused for lack of descriptors, at most once a minute in total.
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

/// Returns the text of [`check_room`] if opening failed for lack of descriptors, and `None` for any other error.
pub fn no_room_after(error: &io::Error) -> Option<String> {
    let limit = descriptors::limit().unwrap_or(u64::MAX);
    is_none_left(error).then(|| no_room(limit))
}

fn no_room(limit: u64) -> String {
    let kept = kept_from_listeners(limit);
    format!(
        "the host's process may have {limit} files and sockets open, and all but the last {kept}, which guests and files \
         need, are in use; allow it more (`ulimit -n`, or LimitNOFILE= of its service) and start it anew, or run fewer daemons"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_leave_what_is_reserved_and_one_daemon_leaves_some_to_others() {
        // The guests of one daemon connect, with 30 descriptors in use before the first of them.
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
