//! A guest's socket: the numbers of bytes read from and written to it by the kernel's own count, and reading and writing
//! between it and the shared memory.
//!
//! The worker reads straight into the shared memory, so that no moment exists in which bytes are read and lie in memory
//! that dies with the worker. The kernel gets an address for that, and no reference to the memory is made.
//!
//! A killed process cannot report whether its last `recv` or `send` was done, but the kernel can. The bytes that came
//! in, less those still to be read, were read. The bytes that the other side has acknowledged, and those that await
//! that, were written. Urgent data must be in line with the rest ([`keep_in_line`]), or it would count as unread for
//! good.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::buffer::OwnBuffer;

/// The bytes read from and written to a connection since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCounts {
    pub read: u64,
    pub written: u64,
}

/// Asks the kernel for the counts. Nothing may read from or write to the connection meanwhile.
///
/// # Errors
/// `ConnectionReset` if the connection is closed, `Unsupported` where the system does not count, or the system's error.
#[cfg(target_os = "linux")]
pub fn counts(socket: BorrowedFd<'_>) -> io::Result<ByteCounts> {
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

#[cfg(not(target_os = "linux"))]
pub fn counts(_: BorrowedFd<'_>) -> io::Result<ByteCounts> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes the kernel treat urgent data like any other data.
///
/// # Errors
/// The system's error.
pub fn keep_in_line(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_oobinline(socket, true)?)
}

/// Reads once into a buffer of the shared memory, without waiting.
///
/// # Errors
/// The system's error; `WouldBlock` if there is nothing to read.
#[cfg(target_os = "linux")]
pub(crate) fn receive<const BYTES: usize>(
    socket: BorrowedFd<'_>,
    into: &mut OwnBuffer<'_, BYTES>,
) -> io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    let (at, length) = into.address(0..BYTES);
    // SAFETY: the descriptor is borrowed, so it is open. The kernel writes at most `length` bytes, to a part of a
    // buffer that this thread has for itself: it is borrowed mutably, by way of the only guard. No reference to it as plain bytes exists. The host copies none of it until this process
    // has reported it.
    let read = unsafe { libc::recv(socket.as_raw_fd(), at.cast(), length, libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes a part of a buffer of the shared memory once, without waiting.
///
/// # Errors
/// The system's error; `WouldBlock` if the socket is full.
#[cfg(target_os = "linux")]
pub(crate) fn send<const BYTES: usize>(
    socket: BorrowedFd<'_>,
    from: &OwnBuffer<'_, BYTES>,
    part: Range<usize>,
) -> io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    let (at, length) = from.address(part);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the descriptor is borrowed, so it is open. The kernel reads `length` bytes, which lie within a buffer
    // that this thread owns.
    let written = unsafe { libc::send(socket.as_raw_fd(), at.cast_const().cast(), length, flags) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn receive<const BYTES: usize>(
    _: BorrowedFd<'_>,
    _: &mut OwnBuffer<'_, BYTES>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn send<const BYTES: usize>(
    _: BorrowedFd<'_>,
    _: &OwnBuffer<'_, BYTES>,
    _: Range<usize>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns the number of bytes that came in and are unread, and of those that were written and are not acknowledged.
#[cfg(target_os = "linux")]
fn waiting(socket: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    use std::os::fd::AsRawFd as _;
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
#[cfg(target_os = "linux")]
struct TcpInfo {
    state: u8,
    bytes_acked: u64,
    bytes_received: u64,
}

#[cfg(target_os = "linux")]
impl TcpInfo {
    /// `TCP_CLOSE` of `net/tcp_states.h`.
    const CLOSED: u8 = 7;

    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
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

#[cfg(all(test, target_os = "linux"))]
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
