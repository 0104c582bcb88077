//! The reading of a stream of frames, with as few calls into the kernel as will do; and descriptors that go with a frame.

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

/// Waits until there is something, and appends as much of it as `room` has room for; 0 at the end. One task alone reads.
pub async fn read(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        poll_fn(|context| stream.poll_read_ready(context)).await?;
        match read_now(stream, room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Appends what is there.
///
/// # Errors
/// The system's; `WouldBlock` where there is nothing.
pub(crate) fn read_now(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
    let mut short = None;
    let result = stream.try_io(Interest::READABLE, || {
        let wanted = room.capacity() - room.len();
        let read = rustix::io::read(stream, spare_capacity(room))?;
        if (1..wanted).contains(&read) {
            // It has left nothing. Said so here, the runtime waits for more instead of having us read in vain.
            short = Some(read);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    short.map_or(result, Ok)
}

/// No descriptor is handed on by an exec, and no signal sent for a worker that has gone. Elsewhere nothing is lent.
#[cfg(target_os = "linux")]
pub(crate) const FLAGS: (RecvFlags, SendFlags) = (RecvFlags::CMSG_CLOEXEC, SendFlags::NOSIGNAL);
#[cfg(not(target_os = "linux"))]
pub(crate) const FLAGS: (RecvFlags, SendFlags) = (RecvFlags::empty(), SendFlags::empty());

/// The most descriptors that go with a frame.
const DESCRIPTORS_MAX: usize = 1;

/// Writes a frame with a descriptor, whole or not at all.
///
/// # Errors
/// The system's; `WouldBlock` where there is no room.
pub(crate) fn send_with(
    stream: &UnixStream,
    frame: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    stream.try_io(Interest::WRITABLE, || send_whole(stream, frame, descriptor))
}

/// The same for a socket that nothing was written to yet, before the runtime has it.
///
/// # Errors
/// The system's.
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
    // The kernel cuts nothing this small.
    match sent == frame.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// As [`read`], through `chunk`, where descriptors may come with frames. `descriptors` has those that came last: mostly with
/// the last frame there is, but where that was read in two pieces, with the one before. A process that may have no more of
/// them gets fewer than were sent.
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
                // What came before and was not taken belongs to a frame that nobody wanted.
                descriptors.clear();
                descriptors.extend(came);
                is_cut = true;
            }
        }
        // As above, but for a read that descriptors have ended.
        if !is_cut && (1..wanted).contains(&received) {
            short = Some(received);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(received)
    });
    short.map_or(result, Ok)
}
