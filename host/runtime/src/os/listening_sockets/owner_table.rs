//! The tables of TCP listeners and their processes that Windows gives, and whose sockets they are. Pure.
//!
//! The layouts are those of `MIB_TCPTABLE_OWNER_PID` and `MIB_TCP6TABLE_OWNER_PID` in `tcpmib.h`: a count, and rows of
//! numbers in the machine's byte order. Addresses and ports are in the network's.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ListeningSocket, id_of};

/// The size of the count before the rows (bytes).
const COUNT_BYTES: usize = 4;

/// The process of a socket whose process the system doesn't name.
const NOBODY: u32 = 0;

/// A socket in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
}

/// Reads a table of IPv4 sockets: state, local address and port, remote address and port, process. Returns `None` if it
/// is cut off.
pub(super) fn rows_v4(table: &[u8]) -> Option<Vec<Row>> {
    rows(table, |row: &[u8; 24]| {
        let ip = Ipv4Addr::from(array::<4>(row, 4)?);
        row_of(SocketAddr::from((ip, port(row, 8)?)), row, 20)
    })
}

/// Reads a table of IPv6 sockets: local address, its scope and port, the same of the remote one, state, process. Returns
/// `None` if it is cut off.
pub(super) fn rows_v6(table: &[u8]) -> Option<Vec<Row>> {
    rows(table, |row: &[u8; 56]| {
        let ip = Ipv6Addr::from(array::<16>(row, 0)?);
        row_of(SocketAddr::from((ip, port(row, 20)?)), row, 52)
    })
}

fn rows<const N: usize>(table: &[u8], read: impl Fn(&[u8; N]) -> Option<Row>) -> Option<Vec<Row>> {
    let count = u32::from_ne_bytes(array(table, 0)?) as usize;
    let rows = table.get(COUNT_BYTES..)?.as_chunks::<N>().0;
    rows.get(..count)?.iter().map(read).collect()
}

fn row_of(address: SocketAddr, row: &[u8], pid_at: usize) -> Option<Row> {
    let pid = u32::from_ne_bytes(array(row, pid_at)?);
    Some(Row { address, pid })
}

/// Reads a port, which is in the first two of four bytes.
fn port(row: &[u8], at: usize) -> Option<u16> {
    array(row, at).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Returns the sockets of these rows. `is_own` checks whether a process belongs to this user, once for each. A socket
/// without a process belongs to nobody who could be asked.
pub(super) fn sockets(rows: Vec<Row>, is_own: impl Fn(u32) -> bool) -> Vec<ListeningSocket> {
    let mut known = HashMap::from([(NOBODY, false)]);
    let socket = |row: Row| ListeningSocket {
        address: row.address,
        is_own: *known.entry(row.pid).or_insert_with(|| is_own(row.pid)),
        id: id_of(row.pid, row.address.port()),
    };
    rows.into_iter().map(socket).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::pid_of;
    use super::*;

    fn table(rows: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(rows.len()).unwrap().to_ne_bytes();
        [&count[..], &rows.concat()].concat()
    }

    fn row_v4(port: u16, pid: u32) -> Vec<u8> {
        let mut row = vec![2, 0, 0, 0, 127, 0, 0, 1];
        row.extend(port.to_be_bytes());
        row.extend([0xAA; 10]);
        row.extend(pid.to_ne_bytes());
        row
    }

    #[test]
    fn the_rows_of_both_families_are_read() {
        let v4 = table(&[row_v4(8080, 7), row_v4(8081, 9)]);
        let row = |address: &str, pid| Row {
            address: address.parse().unwrap(),
            pid,
        };
        let expected = [row("127.0.0.1:8080", 7), row("127.0.0.1:8081", 9)];
        assert_eq!(rows_v4(&v4).unwrap(), expected);
        // The system may leave room behind the last row.
        assert_eq!(rows_v4(&[&v4[..], &[0; 30]].concat()).unwrap(), expected);
        for length in 0..v4.len() {
            assert_eq!(rows_v4(&v4[..length]), None, "{length} bytes");
        }
        let mut v6 = [0; 56];
        v6[15] = 1;
        v6[20..22].copy_from_slice(&8080_u16.to_be_bytes());
        v6[52..].copy_from_slice(&7_u32.to_ne_bytes());
        let v6 = table(&[v6.to_vec()]);
        assert_eq!(rows_v6(&v6).unwrap(), [row("[::1]:8080", 7)]);
    }

    #[test]
    fn a_socket_belongs_to_the_user_of_its_process_and_without_one_to_nobody() {
        let rows = rows_v4(&table(&[
            row_v4(8080, 7),
            row_v4(8081, 4),
            row_v4(8082, 0),
            row_v4(8083, 7),
        ]));
        let asked = RefCell::new(Vec::new());
        let is_own = |pid| {
            asked.borrow_mut().push(pid);
            pid == 7
        };
        let sockets = sockets(rows.unwrap(), is_own);
        let owned: Vec<bool> = sockets.iter().map(|one| one.is_own).collect();
        assert_eq!(owned, [true, false, false, true]);
        assert_eq!(asked.into_inner(), [7, 4], "each process once");
        assert_eq!(pid_of(sockets[0].id), 7);
        assert_ne!(sockets[0].id, sockets[3].id);
    }
}
