//! A relay between guests and a child process, in the style of go-plugin: one connection to the child for all guests,
//! and a frame for each command and each reply.
//!
//! A frame consists of the guest's number, the length, and the line. Ready frames go out in one write, so this measures
//! the lowest cost of a relay, not the highest.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream, tcp};
use tokio::sync::mpsc;

use super::{Kind, commands, serve};

/// The size of a frame's head in bytes: the guest's number and the line's length, four bytes each.
const HEAD_BYTES: usize = 8;

/// The size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// The channels for replies, by the guest's number.
type Guests = Arc<Mutex<HashMap<u32, mpsc::UnboundedSender<Vec<u8>>>>>;

/// Runs the parent, between the guests and the child.
pub(super) async fn serve() -> io::Result<()> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let mut child = super::this_program_as(Kind::RelayChild)?;
    child.stdin(OwnedFd::from(theirs)).spawn()?;
    drop(child);
    ours.set_nonblocking(true)?;
    let (from_child, to_child) = UnixStream::from_std(ours)?.into_split();
    let (frames, queue) = mpsc::unbounded_channel();
    let guests = Guests::default();
    tokio::spawn(send(queue, to_child));
    tokio::spawn(deliver(from_child, Arc::clone(&guests)));
    let listener = serve::listen().await?;
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(guest(number, stream, frames.clone(), Arc::clone(&guests)));
    }
    Ok(())
}

async fn guest(
    number: u32,
    stream: TcpStream,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    guests: Guests,
) {
    let (read, write) = stream.into_split();
    let (replies, queue) = mpsc::unbounded_channel();
    let lock = || guests.lock().unwrap_or_else(PoisonError::into_inner);
    lock().insert(number, replies);
    tokio::spawn(reply(queue, write));
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line).await, Ok(1..)) {
        let mut frame = Vec::with_capacity(HEAD_BYTES + line.len());
        push_frame(&mut frame, number, &line);
        line.clear();
        if frames.send(frame).is_err() {
            break;
        }
    }
    lock().remove(&number);
}

async fn send(mut frames: mpsc::UnboundedReceiver<Vec<u8>>, mut to_child: OwnedWriteHalf) {
    while let Some(mut out) = frames.recv().await {
        while let Ok(more) = frames.try_recv() {
            out.extend(more);
        }
        if to_child.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn deliver(mut from_child: OwnedReadHalf, guests: Guests) {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    while matches!(from_child.read_buf(&mut bytes).await, Ok(1..)) {
        let guests = guests.lock().unwrap_or_else(PoisonError::into_inner);
        take_frames(&mut bytes, |number, line| {
            if let Some(guest) = guests.get(&number) {
                // A guest that has disconnected needs no reply.
                let _ = guest.send(line.to_vec());
            }
        });
    }
}

async fn reply(mut replies: mpsc::UnboundedReceiver<Vec<u8>>, mut guest: tcp::OwnedWriteHalf) {
    while let Some(mut out) = replies.recv().await {
        while let Ok(more) = replies.try_recv() {
            out.extend(more);
        }
        if guest.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// Runs the child, whose standard input is the connection to the parent.
pub(super) async fn answer() -> io::Result<()> {
    let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let (mut line, mut out) = (Vec::new(), Vec::new());
    while socket.read_buf(&mut bytes).await? > 0 {
        take_frames(&mut bytes, |number, command| {
            line.clear();
            commands::answer(command.trim_ascii_end(), &mut line);
            push_frame(&mut out, number, &line);
        });
        socket.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

fn push_frame(out: &mut Vec<u8>, number: u32, line: &[u8]) {
    out.extend(number.to_le_bytes());
    out.extend((line.len() as u32).to_le_bytes());
    out.extend_from_slice(line);
}

/// Removes every whole frame from the front, and passes it to `take`.
fn take_frames(bytes: &mut Vec<u8>, mut take: impl FnMut(u32, &[u8])) {
    let mut rest = &bytes[..];
    while let Some((number, after)) = rest.split_first_chunk::<4>()
        && let Some((length, after)) = after.split_first_chunk::<4>()
        && let Some((line, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize)
    {
        take(u32::from_le_bytes(*number), line);
        rest = after;
    }
    let taken = bytes.len() - rest.len();
    bytes.drain(..taken);
}
