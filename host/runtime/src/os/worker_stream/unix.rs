//! A pair of sockets: reading a stream of frames with few system calls, and passing descriptors with frames.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;

use rustix::buffer::spare_capacity;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Either end, on a runtime.
pub type WorkerStream = UnixStream;
pub(super) type HostEnd = std::os::unix::net::UnixStream;
pub(super) type WorkerEnd = std::os::unix::net::UnixStream;

pub(super) fn pair() -> io::Result<(HostEnd, WorkerEnd)> {
    HostEnd::pair()
}

pub(super) fn open_host_end(end: HostEnd) -> io::Result<WorkerStream> {
    end.set_nonblocking(true)?;
    UnixStream::from_std(end)
}

pub(super) fn open_worker_end(end: WorkerEnd) -> io::Result<WorkerStream> {
    open_host_end(end)
}

pub(super) fn into_stdin(end: WorkerEnd) -> Stdio {
    Stdio::from(OwnedFd::from(end))
}

pub(super) fn take() -> io::Result<WorkerEnd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(WorkerEnd::from(socket))
}

pub(super) async fn read(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        poll_fn(|context| stream.poll_read_ready(context)).await?;
        match read_now(stream, room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// All that was sent is there when the process is gone.
pub(super) async fn read_rest(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
    read_now(stream, room)
}

/// Does nothing: the other end has the bytes already.
pub(super) fn deliver(_stream: &UnixStream) {}

fn read_now(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
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
const FLAGS: (RecvFlags, SendFlags) = (RecvFlags::CMSG_CLOEXEC, SendFlags::NOSIGNAL);
#[cfg(not(target_os = "linux"))]
const FLAGS: (RecvFlags, SendFlags) = (RecvFlags::empty(), SendFlags::empty());

/// The most descriptors that go with a frame.
const DESCRIPTORS_MAX: usize = 1;

pub(super) fn send_with(
    stream: &UnixStream,
    frame: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    stream.try_io(Interest::WRITABLE, || send_whole(stream, frame, descriptor))
}

pub(super) fn send_early(stream: &HostEnd, frame: &[u8]) -> io::Result<()> {
    let sent = rustix::net::send(stream, frame, FLAGS.1)?;
    // The kernel does not split a frame this small.
    match sent == frame.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

pub(super) fn send_first(
    stream: &HostEnd,
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

pub(super) async fn receive(
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
