//! The listening sockets of Unix systems other than Linux, from the crate `listeners`.
//!
//! The crate doesn't say which user owns a process. These systems show a user only its own processes, which is
//! enough. They show root all processes, so root can't look for daemons.

use std::collections::{HashMap, HashSet};
use std::io;

use listeners::{Protocol, SocketState};

use super::{ListeningSocket, Process, id_of, pid_of};

/// Returns all listening sockets of this user.
///
/// # Errors
/// Fails if the system reports an error, or if this is root.
pub fn listening() -> io::Result<Vec<ListeningSocket>> {
    if rustix::process::geteuid().is_root() {
        return Err(io::Error::other(
            "on this system root can't tell whose a socket is; run the host as another user",
        ));
    }
    of_all()
}

/// Returns all visible sockets, as sockets of this user.
pub(super) fn of_all() -> io::Result<Vec<ListeningSocket>> {
    let all = listeners::get_all().map_err(|error| io::Error::other(error.to_string()))?;
    let listen = all
        .into_iter()
        .filter(|one| (one.protocol, one.state) == (Protocol::TCP, SocketState::Listen));
    Ok(listen
        .map(|one| ListeningSocket {
            address: one.socket,
            is_own: true,
            id: id_of(one.process.pid, one.socket.port()),
        })
        .collect())
}

/// Returns the processes that hold these sockets.
pub fn holders(ids: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
    let process = |id: u64| Process {
        start: 0,
        pid: pid_of(id),
    };
    ids.iter().map(|id| (*id, vec![process(*id)])).collect()
}

/// Returns whether the process with that id holds one of these sockets.
pub fn is_process_of(pid: u32, ids: &[u64]) -> bool {
    ids.iter().any(|id| pid_of(*id) == pid)
}

/// Returns 0 for every process: the start time is unknown here. The end of a process shows in its sockets, which
/// end with it.
pub fn start_of(_pid: u32) -> Option<u64> {
    Some(0)
}
