//! The files below `/proc` that list sockets and processes.
//!
//! A process may end between two reads, so its files may be absent at any time. Then it has no sockets any more.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;

use super::Listed;

/// The state `TCP_LISTEN`, as the files of `/proc/net` write it.
const LISTEN: &str = "0A";

/// Returns the listening sockets in `/proc/net/tcp` and `/proc/net/tcp6`.
pub(super) fn listening() -> io::Result<Vec<Listed>> {
    let mut lines = fs::read_to_string("/proc/net/tcp")?;
    // Absent on systems without IPv6.
    lines.push_str(&fs::read_to_string("/proc/net/tcp6").unwrap_or_default());
    Ok(lines.lines().filter_map(listener).collect())
}

/// Reads one line, if it is of a listening socket: number, local address, remote address, state, queues, timer,
/// retransmissions, user, timeout, inode, and more.
fn listener(line: &str) -> Option<Listed> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    if state != LISTEN {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let id = fields.nth(1)?.parse().ok()?;
    let address = address_of(address)?;
    Some(Listed { address, uid, id })
}

/// Reads an address such as `0100007F:1F90`: words of four bytes as numbers of this machine, and the port as a number.
fn address_of(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index * 8)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Returns the ids of all processes of user `uid`.
pub(super) fn processes_of(uid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes = Vec::new();
    for entry in entries {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // The directory belongs to the process's effective user.
        if let (Some(pid), Ok(metadata)) = (pid, entry.metadata())
            && metadata.uid() == uid
        {
            processes.push(pid);
        }
    }
    processes
}

/// Returns the ids of the sockets among a process's file descriptors.
pub(super) fn sockets_of(pid: u32) -> HashSet<u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    let descriptors = descriptors.into_iter().flatten().flatten();
    let socket = |target: &str| {
        target
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    descriptors
        .filter_map(|entry| socket(fs::read_link(entry.path()).ok()?.to_str()?))
        .collect()
}

/// The origin of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) parent: u32,
    /// In clock ticks since the system started.
    pub(super) start: u64,
}

/// Returns the parent and the start time of a process, or `None` if there is none with that id.
pub(super) fn origin_of(pid: u32) -> Option<Origin> {
    // A program may have a name that is not UTF-8.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    origin_in(&String::from_utf8_lossy(&stat))
}

/// Reads the fields 4 and 22 of `/proc/PID/stat` (proc_pid_stat(5)). The second field is the program's name in
/// parentheses, and may itself have parentheses and spaces in it.
fn origin_in(stat: &str) -> Option<Origin> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Origin { parent, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_listening_socket_is_read() {
        // As an x86 machine writes them.
        if cfg!(target_endian = "big") {
            return;
        }
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0";
        let expected = Listed {
            address: "127.0.0.1:8080".parse().unwrap(),
            uid: 1000,
            id: 4711,
        };
        assert_eq!(listener(line), Some(expected));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None, "connected");
        let v6 = line.replace("0100007F", "00000000000000000000000001000000");
        let address = listener(&v6).unwrap().address;
        assert_eq!(address, "[::1]:8080".parse().unwrap());
        for length in 0..line.find("4711").unwrap() {
            assert_eq!(listener(&line[..length]), None, "{length} characters");
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let numbers: Vec<String> = (5..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b (c)) S 42 {}", numbers.join(" "));
        let expected = Origin {
            parent: 42,
            start: 22,
        };
        assert_eq!(origin_in(&stat), Some(expected));
        assert_eq!(origin_in("7 (a) S 42 5"), None);
        assert_eq!(origin_in(""), None);
    }
}
