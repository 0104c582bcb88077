//! The listening sockets of Linux.
//!
//! `sock_diag`, a netlink protocol, lists only the listening sockets. `/proc/net/tcp` has every connection too,
//! which on a host with 20,000 guests is 40,000 lines at every scan. So the files are read only if netlink is not
//! available, as in a service with restricted address families. Only `/proc/PID/fd` shows which process holds a
//! socket.

use std::collections::{HashMap, HashSet};
use std::io;

use super::{ListeningSocket, Process, proc, sock_diag};

/// Returns all listening sockets.
///
/// # Errors
/// Fails if neither netlink nor the files are available.
pub(in super::super) fn listening() -> io::Result<Vec<ListeningSocket>> {
    sock_diag::listening().or_else(|_| proc::listening())
}

/// Returns the processes that hold these sockets, the oldest first. Sockets without a visible holder are absent.
pub(in super::super) fn holders(ids: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
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
pub(in super::super) fn is_process_of(pid: u32, ids: &[u64]) -> bool {
    let holds = |pid: u32| {
        let held = proc::sockets_of(pid);
        ids.iter().any(|id| held.contains(id))
    };
    holds(pid) || proc::origin_of(pid).is_some_and(|origin| holds(origin.parent))
}

/// Returns the start time of the process with that id, or `None` if there is none.
pub(in super::super) fn start_of(pid: u32) -> Option<u64> {
    Some(proc::origin_of(pid)?.start)
}
