//! The listening TCP sockets of this machine, and the processes that hold them, as the kernel reports them.
//!
//! A scan that finds nothing new must cost next to nothing, so there are two queries. Each scan asks the kernel
//! which sockets listen; the answer has the address, the user and an id of each socket. Finding the processes that
//! hold a socket takes a walk through the file descriptors of all processes of this user. This is done only for new
//! ids.
//!
//! Each kind of system has a file of its own with the same functions. None of them makes a connection.

use std::net::SocketAddr;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod proc;
#[cfg(target_os = "linux")]
mod sock_diag;

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{holders, is_process_of, listening, start_of};
#[cfg(target_os = "linux")]
pub(super) use linux::{holders, is_process_of, listening, start_of};

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ListeningSocket {
    pub(super) address: SocketAddr,
    /// The user who made it.
    pub(super) uid: u32,
    /// An id that is unique among the present sockets, and mostly differs from later ones too.
    pub(super) id: u64,
}

/// A process. The id alone is not enough, because another process may get it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    /// The start time, in a unit and from an origin that the system defines; 0 if unknown. First, so that processes
    /// sort by age.
    pub(super) start: u64,
    pub(super) pid: u32,
}

// The implementation for other systems is compiled here too, to check it against this one.
#[cfg(all(test, target_os = "linux"))]
#[allow(dead_code, reason = "a part of it is tested")]
mod elsewhere;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_is_seen_with_its_user_and_its_process_and_no_more_once_closed() {
        let addresses = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];
        let ours: Vec<TcpListener> = addresses
            .iter()
            .filter_map(|address| TcpListener::bind(address).ok())
            .collect();
        assert!(ours.len() >= 2, "IPv4 is everywhere");
        let seen = listening().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        for one in &ours {
            let address = one.local_addr().unwrap();
            let socket = seen.iter().find(|socket| socket.address == address);
            let socket = socket.unwrap_or_else(|| panic!("{address} is not in {seen:?}"));
            assert_eq!(socket.uid, uid, "{address}");
            let holders = holders(&HashSet::from([socket.id]));
            let pids: Vec<u32> = holders[&socket.id].iter().map(|one| one.pid).collect();
            assert_eq!(pids, [std::process::id()], "{address}");
        }
        let gone: HashSet<SocketAddr> = ours.iter().map(|one| one.local_addr().unwrap()).collect();
        drop(ours);
        let left = listening().unwrap();
        assert!(left.iter().all(|socket| !gone.contains(&socket.address)));
    }

    #[test]
    fn netlink_the_files_and_the_library_agree() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let of =
            |sockets: Vec<ListeningSocket>| sockets.into_iter().find(|one| one.address == address);
        let by_diag = of(sock_diag::listening().unwrap());
        let by_files = of(proc::listening().unwrap());
        assert!(by_diag.is_some());
        assert_eq!(by_diag, by_files);
        let by_library = of(elsewhere::of_all().unwrap()).unwrap();
        assert!(elsewhere::is_process_of(
            std::process::id(),
            &[by_library.id]
        ));
        assert!(!elsewhere::is_process_of(1, &[by_library.id]));
    }

    #[test]
    fn a_process_answers_for_the_sockets_it_or_its_parent_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = listening().unwrap();
        let socket = seen.iter().find(|one| one.address == address).unwrap();
        let mut subprocess = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let own = std::process::id();
        assert!(is_process_of(own, &[socket.id]));
        assert!(
            is_process_of(subprocess.id(), &[socket.id]),
            "a child of ours"
        );
        assert!(!is_process_of(1, &[socket.id]));
        assert!(!is_process_of(own, &[u64::MAX]), "no socket of ours");
        assert!(start_of(subprocess.id()).is_some_and(|start| start >= start_of(own).unwrap()));
        subprocess.kill().unwrap();
        subprocess.wait().unwrap();
        assert_eq!(start_of(subprocess.id()), None);
    }
}
