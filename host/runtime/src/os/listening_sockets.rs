//! The listening TCP sockets of this machine, and the processes that hold them, as the system reports them.
//!
//! A scan that finds nothing new must cost next to nothing, so there are two queries. Each scan asks the system
//! which sockets listen; the answer has the address, the user and an id of each socket. Finding the processes that
//! hold a socket takes a walk through the file descriptors of all processes of this user, on Linux. This is done only
//! for new ids. Other systems name the process together with the socket.
//!
//! The twins have the same functions. None of them makes a connection.

use std::net::SocketAddr;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(windows, test))]
#[cfg_attr(not(windows), allow(dead_code, reason = "a part of it is tested"))]
mod owner_table;
#[cfg(all(unix, not(target_os = "linux")))]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use linux::{holders, is_process_of, listening, start_of};
#[cfg(all(unix, not(target_os = "linux")))]
pub use unix::{holders, is_process_of, listening, start_of};
#[cfg(windows)]
pub use windows::{holders, is_process_of, listening, start_of};

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListeningSocket {
    /// The address at which it listens.
    pub address: SocketAddr,
    /// True if the user of this process made it.
    pub is_own: bool,
    /// An id that is unique among the present sockets, and mostly differs from later ones too. Where the system has none,
    /// the process and the port stand for it, and sockets of one process with the same port share it.
    pub id: u64,
}

/// A process. The id alone is not enough, because another process may get it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// The start time, in a unit and from an origin that the system defines; 0 if unknown. First, so that processes
    /// sort by age.
    pub start: u64,
    /// The process id.
    pub pid: u32,
}

/// Returns the id of a socket on a system that has none.
#[cfg(any(not(target_os = "linux"), test))]
fn id_of(pid: u32, port: u16) -> u64 {
    u64::from(pid) << 16 | u64::from(port)
}

/// Returns the process of the socket with an id of [`id_of`].
#[cfg(any(not(target_os = "linux"), test))]
fn pid_of(id: u64) -> u32 {
    u32::try_from(id >> 16).unwrap_or_default()
}

// The implementation for other systems is compiled here too, to check it against this one.
#[cfg(all(test, target_os = "linux"))]
#[allow(dead_code, reason = "a part of it is tested")]
mod unix;

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
        for one in &ours {
            let address = one.local_addr().unwrap();
            let socket = seen.iter().find(|socket| socket.address == address);
            let socket = socket.unwrap_or_else(|| panic!("{address} is not in {seen:?}"));
            assert!(socket.is_own, "{address}");
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
        let by_diag = of(linux::by_diag().unwrap());
        let by_files = of(linux::by_files().unwrap());
        assert!(by_diag.is_some());
        assert_eq!(by_diag, by_files);
        let by_library = of(unix::of_all().unwrap()).unwrap();
        assert!(unix::is_process_of(std::process::id(), &[by_library.id]));
        assert!(!unix::is_process_of(1, &[by_library.id]));
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
