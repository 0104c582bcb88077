//! What other systems tell of their listening sockets, by way of the crate `listeners`.
//!
//! It doesn't say whose a process is. To any user but root these systems show that user's processes alone, which is all
//! that is needed; to root they show everybody's, so that nothing is looked for as root. A socket has no id there: its
//! process and port stand for it.

use std::collections::{HashMap, HashSet};
use std::io;

use listeners::{Protocol, SocketState};

use super::{ListeningSocket, Process};

/// All sockets of this user that listen.
///
/// # Errors
/// The system's, and where this is root.
pub(in super::super) fn listening() -> io::Result<Vec<ListeningSocket>> {
    if rustix::process::geteuid().is_root() {
        return Err(io::Error::other(
            "on this system root can't tell whose a socket is; run the host as another user",
        ));
    }
    of_all()
}

/// All that can be seen, as sockets of this user's.
pub(super) fn of_all() -> io::Result<Vec<ListeningSocket>> {
    let all = listeners::get_all().map_err(|error| io::Error::other(error.to_string()))?;
    let listen = all
        .into_iter()
        .filter(|one| (one.protocol, one.state) == (Protocol::TCP, SocketState::Listen));
    let uid = rustix::process::geteuid().as_raw();
    Ok(listen
        .map(|one| ListeningSocket {
            address: one.socket,
            uid,
            id: u64::from(one.process.pid) << 16 | u64::from(one.socket.port()),
        })
        .collect())
}

/// Who holds these sockets.
pub(in super::super) fn holders(ids: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
    let process = |id: u64| Process {
        start: 0,
        pid: pid_of(id),
    };
    ids.iter().map(|id| (*id, vec![process(*id)])).collect()
}

/// Whether the process of that number holds one of these sockets.
pub(in super::super) fn is_process_of(pid: u32, ids: &[u64]) -> bool {
    ids.iter().any(|id| pid_of(*id) == pid)
}

/// Not told here: a process that ends is known by its sockets, which end with it.
pub(in super::super) fn start_of(_pid: u32) -> Option<u64> {
    Some(0)
}

fn pid_of(id: u64) -> u32 {
    u32::try_from(id >> 16).unwrap_or_default()
}
