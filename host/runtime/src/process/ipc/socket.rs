//! Reading from a stream of frames with few system calls, and passing descriptors with frames.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Waits for data, and appends as much as `room` has space for. Returns 0 at the end. Only one task may read.
pub async fn read(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        poll_fn(|context| stream.poll_read_ready(context)).await?;
        match read_now(stream, room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Appends the data that is there.
///
/// # Errors
/// The system's error; `WouldBlock` if there is none.
pub(crate) fn read_now(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
    let mut short = None;
    let result = stream.try_io(Interest::READABLE, || {
        let wanted = room.capacity() - room.len();
        let read = rustix::io::read(stream, spare_capacity(room))?;
        if (1..wanted).contains(&read) {
            // A short read has emptied the socket. `WouldBlock` makes the runtime wait for more data, which saves a
            // vain read.
            short = Some(read);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    short.map_or(result, Ok)
}

/// The flags for receiving and sending. An exec passes no descriptor on, and a write to a dead worker raises no signal.
/// Systems other than Linux have no hand-offs.
#[cfg(target_os = "linux")]
pub(crate) const FLAGS: (RecvFlags, SendFlags) = (RecvFlags::CMSG_CLOEXEC, SendFlags::NOSIGNAL);
#[cfg(not(target_os = "linux"))]
pub(crate) const FLAGS: (RecvFlags, SendFlags) = (RecvFlags::empty(), SendFlags::empty());

/// The most descriptors that go with a frame.
const DESCRIPTORS_MAX: usize = 1;

/// Writes a frame with a descriptor, whole or not at all.
///
/// # Errors
/// The system's error; `WouldBlock` if the socket is full.
pub(crate) fn send_with(
    stream: &UnixStream,
    frame: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    stream.try_io(Interest::WRITABLE, || send_whole(stream, frame, descriptor))
}

/// Writes a frame with a descriptor to a socket to which nothing was written yet, before the runtime has it.
///
/// # Errors
/// The system's error.
pub(crate) fn send_first(
    stream: &std::os::unix::net::UnixStream,
    frame: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    send_whole(stream, frame, descriptor)
}

fn send_whole(stream: impl AsFd, frame: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(frame)];
    let sent = rustix::net::sendmsg(stream, &parts, &mut ancillary, FLAGS.1)?;
    // The kernel does not split a frame this small.
    match sent == frame.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Reads like [`read`], but through `chunk`, and takes descriptors that come with frames. `descriptors` holds those
/// that came last. Mostly they belong to the last frame there is; if that frame was read in two pieces, they belong to
/// the one before. A process at its file descriptor limit gets fewer of them than were sent.
pub async fn receive(
    stream: &UnixStream,
    chunk: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    loop {
        poll_fn(|context| stream.poll_read_ready(context)).await?;
        match receive_now(stream, chunk, descriptors) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

fn receive_now(
    stream: &UnixStream,
    chunk: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let wanted = chunk.len();
    let mut short = None;
    let result = stream.try_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(chunk)];
        let received = rustix::net::recvmsg(stream, &mut into, &mut ancillary, FLAGS.0)?.bytes;
        let mut is_cut = false;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                // The descriptors still here belong to a frame that did not take them.
                descriptors.clear();
                descriptors.extend(came);
                is_cut = true;
            }
        }
        // As above, but not for a read that was cut short by descriptors.
        if !is_cut && (1..wanted).contains(&received) {
            short = Some(received);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(received)
    });
    short.map_or(result, Ok)
}
