//! `sock_diag`, the netlink protocol in which Linux lists sockets.
//!
//! One request and one kind of answer are all that a scan needs, so their layout stands here, from the kernel's headers
//! `linux/netlink.h`, `linux/sock_diag.h` and `linux/inet_diag.h`. Numbers are in the machine's byte order, ports and
//! addresses in the network's. Anything that doesn't have this layout is an error, and the caller reads files instead.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::Listed;

/// The size of the receive buffer, in bytes. The kernel sends up to this much at once when it is asked for
/// everything.
const RECEIVE_BYTES: usize = 32 << 10;

/// The size of `nlmsghdr`: length (4 bytes), type (2), flags (2), sequence number (4), sender (4).
const HEADER_BYTES: usize = 16;
/// The size of `inet_diag_req_v2`: family, protocol, extensions, padding (1 byte each), states (4), socket id (48).
const REQUEST_BYTES: usize = 56;
/// The size of `inet_diag_msg`: family, state, timer, retransmissions (1 byte each), socket id (48), five numbers (4 each).
const SOCKET_BYTES: usize = 72;

/// The message types `NLMSG_ERROR`, `NLMSG_DONE` and `SOCK_DIAG_BY_FAMILY`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const BY_FAMILY: u16 = 20;
/// The flags `NLM_F_REQUEST | NLM_F_DUMP`: everything that matches.
const DUMP: u16 = 0x1 | 0x300;
/// The protocol `IPPROTO_TCP`.
const TCP: u8 = 6;
/// The bit of the state `TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;

/// True if the kernel sends more.
#[derive(Debug, PartialEq, Eq)]
enum DumpPart {
    More,
    Complete,
}

/// Returns all listening TCP sockets.
///
/// # Errors
/// Fails if this process may not use netlink, or the answer can't be read.
pub(super) fn listening() -> io::Result<Vec<Listed>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut sockets = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        rustix::net::send(&socket, &request(family), SendFlags::empty())?;
        receive(&socket, &mut sockets)?;
    }
    Ok(sockets)
}

/// Returns the request for the listening sockets of one address family.
fn request(family: AddressFamily) -> Vec<u8> {
    let length = HEADER_BYTES + REQUEST_BYTES;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    // The sequence number and the sender: there is one request at a time, and the kernel knows the sender.
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family.as_raw()).unwrap_or(0), TCP, 0, 0]);
    bytes.extend(LISTEN.to_ne_bytes());
    // The id of no socket in particular.
    bytes.resize(length, 0);
    bytes
}

/// Receives the complete answer to one request.
fn receive(socket: &OwnedFd, sockets: &mut Vec<Listed>) -> io::Result<()> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let (_, length) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::TRUNC)?;
        // A datagram that did not fit is cut off, and its length says so.
        let datagram = buffer.get(..length).ok_or_else(unreadable)?;
        if read(datagram, sockets)? == DumpPart::Complete {
            return Ok(());
        }
    }
}

/// Reads the messages of one datagram.
fn read(datagram: &[u8], sockets: &mut Vec<Listed>) -> io::Result<DumpPart> {
    let mut rest = datagram;
    if rest.is_empty() {
        return Err(unreadable());
    }
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(array(rest, 0)?) as usize;
        let kind = u16::from_ne_bytes(array(rest, 4)?);
        let body = rest.get(HEADER_BYTES..length).ok_or_else(unreadable)?;
        match kind {
            BY_FAMILY => sockets.push(socket(body)?),
            // A dump that failed on the way ends with its error.
            DONE => {
                return match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                    Some(code) if code < 0 => Err(error(code)),
                    _ => Ok(DumpPart::Complete),
                };
            }
            ERROR => return Err(error(i32::from_ne_bytes(array(body, 0)?))),
            // `NLMSG_NOOP`, or something newer.
            _ => {}
        }
        // Messages are aligned to four bytes; the last one may lack its padding.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(DumpPart::More)
}

/// Reads an `inet_diag_msg`.
fn socket(body: &[u8]) -> io::Result<Listed> {
    if body.len() < SOCKET_BYTES {
        return Err(unreadable());
    }
    let ip = match AddressFamily::from_raw(body[0].into()) {
        AddressFamily::INET => IpAddr::from(Ipv4Addr::from(array::<4>(body, 8)?)),
        AddressFamily::INET6 => IpAddr::from(Ipv6Addr::from(array::<16>(body, 8)?)),
        _ => return Err(unreadable()),
    };
    let port = u16::from_be_bytes(array(body, 4)?);
    Ok(Listed {
        address: SocketAddr::new(ip, port),
        uid: u32::from_ne_bytes(array(body, 64)?),
        id: u32::from_ne_bytes(array(body, 68)?).into(),
    })
}

/// Returns the `N` bytes at `offset`.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> io::Result<[u8; N]> {
    let bytes = bytes.get(offset..).and_then(|bytes| bytes.first_chunk());
    bytes.copied().ok_or_else(unreadable)
}

/// Returns the error of an `nlmsgerr`, which has the negative number of the error.
fn error(code: i32) -> io::Error {
    match code.checked_neg() {
        Some(errno) if errno > 0 => Errno::from_raw_os_error(errno).into(),
        // An acknowledgement, which was not requested.
        _ => unreadable(),
    }
}

fn unreadable() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's list of sockets can't be read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn listener(family: AddressFamily) -> Vec<u8> {
        let mut body = vec![u8::try_from(family.as_raw()).unwrap(), 10, 0, 0];
        body.extend(8080_u16.to_be_bytes());
        body.extend([0, 0, 127, 0, 0, 1]);
        body.resize(64, 0);
        body.extend(1000_u32.to_ne_bytes());
        body.extend(4711_u32.to_ne_bytes());
        body
    }

    #[test]
    fn sockets_are_read_until_the_end_of_the_list() {
        let mut sockets = Vec::new();
        let one = message(BY_FAMILY, &listener(AddressFamily::INET));
        let two = [one.clone(), one].concat();
        assert_eq!(read(&two, &mut sockets).unwrap(), DumpPart::More);
        let end = message(DONE, &[0; 4]);
        assert_eq!(read(&end, &mut sockets).unwrap(), DumpPart::Complete);
        let expected = Listed {
            address: "127.0.0.1:8080".parse().unwrap(),
            uid: 1000,
            id: 4711,
        };
        assert_eq!(sockets, [expected, expected]);
    }

    #[test]
    fn the_kernels_error_is_returned() {
        let refused = message(ERROR, &(-Errno::PERM.raw_os_error()).to_ne_bytes());
        let error = read(&refused, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let failed = message(DONE, &(-Errno::NOENT.raw_os_error()).to_ne_bytes());
        let error = read(&failed, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_answer_of_another_layout_is_an_error() {
        let whole = message(BY_FAMILY, &listener(AddressFamily::INET6));
        for length in 0..whole.len() {
            let read = read(&whole[..length], &mut Vec::new());
            assert!(read.is_err(), "{length} of {} bytes", whole.len());
        }
        let short = message(
            BY_FAMILY,
            &listener(AddressFamily::INET)[..SOCKET_BYTES - 1],
        );
        assert!(read(&short, &mut Vec::new()).is_err());
        let other_family = message(BY_FAMILY, &listener(AddressFamily::UNIX));
        assert!(read(&other_family, &mut Vec::new()).is_err());
        let endless = message(BY_FAMILY, &[]);
        assert!(read(&endless, &mut Vec::new()).is_err());
        assert!(read(&message(ERROR, &[0; 4]), &mut Vec::new()).is_err());
    }
}
