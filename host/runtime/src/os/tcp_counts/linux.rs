//! The socket options and requests of Linux.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::ByteCounts;

pub(super) fn counts(socket: BorrowedFd<'_>) -> io::Result<ByteCounts> {
    loop {
        let before = waiting(socket)?;
        let info = TcpInfo::of(socket)?;
        if info.state == TcpInfo::CLOSED {
            // The counts of a closed connection are not reliable.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // Bytes that come in or are acknowledged between two calls are in one result and not in the other. Then ask
        // again.
        if before == waiting(socket)? {
            let (to_read, to_acknowledge) = before;
            let end = u64::from(info.has_ended());
            return Ok(ByteCounts {
                read: (info.bytes_received - end).saturating_sub(to_read),
                written: info.bytes_acked + to_acknowledge,
            });
        }
    }
}

pub(super) fn keep_in_line(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_oobinline(socket, true)?)
}

/// # Safety
/// As for [`super::receive`].
pub(super) unsafe fn receive(
    socket: BorrowedFd<'_>,
    at: *mut u8,
    length: usize,
) -> io::Result<usize> {
    // SAFETY: the descriptor is borrowed, so it is open. The kernel writes at most `length` bytes, to memory that the
    // caller vouches for.
    let read = unsafe { libc::recv(socket.as_raw_fd(), at.cast(), length, libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// # Safety
/// As for [`super::send`].
pub(super) unsafe fn send(
    socket: BorrowedFd<'_>,
    at: *const u8,
    length: usize,
) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the descriptor is borrowed, so it is open. The kernel reads `length` bytes of memory that the caller
    // vouches for.
    let written = unsafe { libc::send(socket.as_raw_fd(), at.cast(), length, flags) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Returns the number of bytes that came in and are unread, and of those that were written and are not acknowledged.
fn waiting(socket: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let mut written: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel writes one `int`, to the `int` behind the pointer.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut written) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let to_read = rustix::io::ioctl_fionread(socket)?;
    Ok((to_read, u64::try_from(written).unwrap_or_default()))
}

/// The fields used of the kernel's `struct tcp_info` (`linux/tcp.h`), which only ever grows at its end.
struct TcpInfo {
    state: u8,
    bytes_acked: u64,
    bytes_received: u64,
}

impl TcpInfo {
    /// `TCP_CLOSE` of `net/tcp_states.h`.
    const CLOSED: u8 = 7;

    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        /// The offsets of the counts: after 8 bytes of flags, 24 `u32` and two `u64`.
        const ACKED: usize = 120;
        const RECEIVED: usize = 128;
        const BYTES: usize = 136;
        let mut info = [0_u8; BYTES];
        let mut length = BYTES as libc::socklen_t;
        // SAFETY: the descriptor is borrowed, so it is open; the kernel writes at most `length` bytes, to a buffer of
        // that size, and their number to `length`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // Kernels before 4.1 do not count.
        if (length as usize) < BYTES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let number = |at: usize| {
            info[at..]
                .first_chunk()
                .map_or(0, |b| u64::from_ne_bytes(*b))
        };
        Ok(TcpInfo {
            state: info[0],
            bytes_acked: number(ACKED),
            bytes_received: number(RECEIVED),
        })
    }

    /// Returns whether the other side has ended its stream. The end counts as a byte received.
    fn has_ended(&self) -> bool {
        /// `TCP_TIME_WAIT`, `TCP_CLOSE_WAIT`, `TCP_LAST_ACK` and `TCP_CLOSING` of `net/tcp_states.h`.
        const ENDED: [u8; 4] = [6, 8, 9, 11];
        ENDED.contains(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn every_byte_counts_once_also_past_the_end_of_what_comes() {
        let (mut client, mut server) = pair();
        let begin = counts(server.as_fd()).unwrap();
        client.write_all(b"0123456789").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        server.write_all(b"abc").unwrap();
        let since = || {
            let now = counts(server.as_fd()).unwrap();
            (now.read - begin.read, now.written - begin.written)
        };
        assert_eq!(since(), (4, 3));
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(since(), (4, 3));
        let mut rest = Vec::new();
        (&server).read_to_end(&mut rest).unwrap();
        assert_eq!((rest.len(), since()), (6, (10, 3)));
    }

    #[test]
    fn what_nobody_reads_is_written_all_the_same() {
        let (_client, mut server) = pair();
        server.set_nonblocking(true).unwrap();
        let begin = counts(server.as_fd()).unwrap();
        let mut written = 0;
        while let Ok(bytes) = server.write(&[7; 10_000]) {
            written += bytes as u64;
        }
        assert!(written > 10_000);
        assert_eq!(
            counts(server.as_fd()).unwrap().written - begin.written,
            written
        );
    }
}
