//! The listening sockets of Linux.
//!
//! `sock_diag`, a netlink protocol, lists only the listening sockets. `/proc/net/tcp` has every connection too,
//! which on a host with 20,000 guests is 40,000 lines at every scan. So the files are read only if netlink is not
//! available, as in a service with restricted address families. Only `/proc/PID/fd` shows which process holds a
//! socket.

mod proc;
mod sock_diag;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;

use super::{ListeningSocket, Process};

/// A listening socket as the kernel lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed {
    address: SocketAddr,
    /// The user who made it.
    uid: u32,
    /// The number of its inode.
    id: u64,
}

/// Returns all listening sockets.
///
/// # Errors
/// Fails if neither netlink nor the files are available.
pub fn listening() -> io::Result<Vec<ListeningSocket>> {
    by_diag().or_else(|_| by_files())
}

/// Returns all listening sockets, from netlink.
pub(super) fn by_diag() -> io::Result<Vec<ListeningSocket>> {
    sock_diag::listening().map(with_owner)
}

/// Returns all listening sockets, from the files.
pub(super) fn by_files() -> io::Result<Vec<ListeningSocket>> {
    proc::listening().map(with_owner)
}

fn with_owner(listed: Vec<Listed>) -> Vec<ListeningSocket> {
    let own = rustix::process::geteuid().as_raw();
    let socket = |one: Listed| ListeningSocket {
        address: one.address,
        is_own: one.uid == own,
        id: one.id,
    };
    listed.into_iter().map(socket).collect()
}

/// Returns the processes that hold these sockets, the oldest first. Sockets without a visible holder are absent.
pub fn holders(ids: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
    let mut holders: HashMap<u64, Vec<Process>> = HashMap::new();
    for pid in proc::processes_of(rustix::process::geteuid().as_raw()) {
        let mut held = proc::sockets_of(pid);
        held.retain(|id| ids.contains(id));
        if held.is_empty() {
            continue;
        }
        let Some(start) = start_of(pid) else {
            continue;
        };
        for id in held {
            holders.entry(id).or_default().push(Process { start, pid });
        }
    }
    holders.values_mut().for_each(|all| all.sort_unstable());
    holders
}

/// Returns whether the process with that id holds one of these sockets, or was started by one that does: a host's
/// worker answers on a socket of its host.
pub fn is_process_of(pid: u32, ids: &[u64]) -> bool {
    let holds = |pid: u32| {
        let held = proc::sockets_of(pid);
        ids.iter().any(|id| held.contains(id))
    };
    holds(pid) || proc::origin_of(pid).is_some_and(|origin| holds(origin.parent))
}

/// Returns the start time of the process with that id, or `None` if there is none.
pub fn start_of(pid: u32) -> Option<u64> {
    Some(proc::origin_of(pid)?.start)
}
