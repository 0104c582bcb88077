//! The listening sockets of Linux.
//!
//! `sock_diag`, a netlink protocol, lists only the listening sockets. `/proc/net/tcp` has every connection too,
//! which on a host with 20,000 guests is 40,000 lines at every scan. So the files are read only if netlink is not
//! available, as in a service with restricted address families. Only `/proc/PID/fd` shows which process holds a
//! socket.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use procfs::net::TcpState;
use procfs::process::{FDTarget, all_processes};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with};

use super::{ListeningSocket, Process};

/// The size of the receive buffer, in bytes. The kernel sends up to this much at once when it is asked for
/// everything.
const RECEIVE_BYTES: usize = 32 << 10;

/// Returns all listening sockets.
///
/// # Errors
/// Fails if neither netlink nor the files are available.
pub(in super::super) fn listening() -> io::Result<Vec<ListeningSocket>> {
    by_diag().or_else(|_| by_files())
}

/// Returns the listening sockets as netlink lists them.
pub(super) fn by_diag() -> io::Result<Vec<ListeningSocket>> {
    let socket = socket_with(
        rustix::net::AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut sockets = Vec::new();
    for (family, id) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        rustix::net::send(&socket, &request(family, id), SendFlags::empty())?;
        receive(&socket, &mut sockets)?;
    }
    Ok(sockets)
}

fn request(family: u8, socket_id: SocketId) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let all_listening = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    });
    let mut message = NetlinkMessage::new(header, all_listening.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Receives the complete answer to one request.
fn receive(socket: &OwnedFd, sockets: &mut Vec<ListeningSocket>) -> io::Result<()> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let (count, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..count];
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                    let id = &found.header.socket_id;
                    sockets.push(ListeningSocket {
                        address: SocketAddr::new(id.source_address, id.source_port),
                        uid: found.header.uid,
                        id: found.header.inode.into(),
                    });
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Messages are aligned to four bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
    }
}

/// Returns the listening sockets as the files of `/proc/net` list them.
pub(super) fn by_files() -> io::Result<Vec<ListeningSocket>> {
    let v4 = procfs::net::tcp().map_err(io::Error::other)?;
    // Absent on systems without IPv6.
    let v6 = procfs::net::tcp6().unwrap_or_default();
    let listen = v4.into_iter().chain(v6);
    let listen = listen.filter(|entry| entry.state == TcpState::Listen);
    Ok(listen
        .map(|entry| ListeningSocket {
            address: entry.local_address,
            uid: entry.uid,
            id: entry.inode,
        })
        .collect())
}

/// Returns the processes that hold these sockets, the oldest first. Sockets without a visible holder are absent.
pub(in super::super) fn holders(ids: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
    let mut holders: HashMap<u64, Vec<Process>> = HashMap::new();
    let own = rustix::process::geteuid().as_raw();
    // A process may end at any time. Then the sockets that it held are gone too.
    for process in all_processes().into_iter().flatten().flatten() {
        if !process.uid().is_ok_and(|uid| uid == own) {
            continue;
        }
        let mut held = sockets_of(&process);
        held.retain(|id| ids.contains(id));
        let Some(start) = (!held.is_empty())
            .then(|| start_of(process.pid.unsigned_abs()))
            .flatten()
        else {
            continue;
        };
        let pid = process.pid.unsigned_abs();
        for id in held {
            holders.entry(id).or_default().push(Process { start, pid });
        }
    }
    holders.values_mut().for_each(|all| all.sort_unstable());
    holders
}

/// Returns the sockets among a process's file descriptors, without duplicates.
fn sockets_of(process: &procfs::process::Process) -> HashSet<u64> {
    let descriptors = process.fd().into_iter().flatten().flatten();
    let socket = |target| match target {
        FDTarget::Socket(id) => Some(id),
        _ => None,
    };
    descriptors.filter_map(|one| socket(one.target)).collect()
}

/// Returns whether the process with that id holds one of these sockets, or was started by one that does: a host's
/// worker answers on a socket of its host.
pub(in super::super) fn is_process_of(pid: u32, ids: &[u64]) -> bool {
    let process = |pid: i32| procfs::process::Process::new(pid).ok();
    let holds = |one: &procfs::process::Process| {
        let held = sockets_of(one);
        ids.iter().any(|id| held.contains(id))
    };
    let Some(claimed) = i32::try_from(pid).ok().and_then(process) else {
        return false;
    };
    let parent = || process(claimed.stat().ok()?.ppid);
    holds(&claimed) || parent().is_some_and(|parent| holds(&parent))
}

/// Returns the start time of the process with that id, or `None` if there is none.
pub(in super::super) fn start_of(pid: u32) -> Option<u64> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    Some(process.stat().ok()?.starttime)
}
