//! The reading of a stream of frames, with as few calls into the kernel as will do.

use std::future::poll_fn;
use std::io;

use rustix::buffer::spare_capacity;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Waits until there is something, and appends as much of it as `room` has room for; 0 at the end. One task alone reads.
pub(crate) async fn read(stream: &UnixStream, room: &mut Vec<u8>) -> io::Result<usize> {
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
