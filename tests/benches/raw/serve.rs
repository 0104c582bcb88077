//! The guests of a server on one thread: a batch at a time, or a line at a time.
//!
//! All connections share one read buffer and one write buffer, because only one connection is served at a time. A
//! connection itself stores only an incomplete line, and replies that could not be sent yet.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead as _, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::commands::{self, Answer};

/// The size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// The command whose replies wait, and how long.
const LATER: (&[u8], Duration) = (b"later ", Duration::from_millis(1));

/// The buffers that all connections share.
struct Shared {
    read: Vec<u8>,
    out: Vec<u8>,
}

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::new(Shared { read: vec![0; READ_BYTES], out: Vec::new() });
}

/// Listens on a free port, and prints it on standard output.
pub(super) async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    Ok(listener)
}

/// Serves all guests with one write for each read.
pub(super) async fn batches(answer: Answer) -> io::Result<()> {
    let listener = listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let guest = Guest {
            stream,
            answer,
            half_line: Vec::new(),
            unsent: Vec::new(),
            is_later: false,
        };
        // A guest that disconnects is not an error of the server.
        tokio::spawn(async move { guest.serve().await.unwrap_or(()) });
    }
}

struct Guest {
    stream: TcpStream,
    answer: Answer,
    half_line: Vec<u8>,
    unsent: Vec<u8>,
    /// The unsent replies wait. Those of one read wait together, as commands that are called at once do.
    is_later: bool,
}

impl Guest {
    async fn serve(mut self) -> io::Result<()> {
        while poll_fn(|context| self.poll_batch(context)).await? {
            if self.is_later {
                tokio::time::sleep(LATER.1).await;
            }
            if !self.unsent.is_empty() {
                let unsent = std::mem::take(&mut self.unsent);
                self.stream.write_all(&unsent).await?;
            }
        }
        Ok(())
    }

    /// Reads once, and writes the replies. Returns false at the end of the stream.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        SHARED.with_borrow_mut(|Shared { read, out }| {
            let mut came = ReadBuf::new(read);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut came))?;
            let joined;
            let bytes = match self.half_line.is_empty() {
                true => came.filled(),
                false => {
                    joined = [&self.half_line, came.filled()].concat();
                    &joined
                }
            };
            let whole = memchr::memrchr(b'\n', bytes).map_or(0, |last| last + 1);
            let half_line = bytes[whole..].to_vec();
            let replies = (self.answer)(&bytes[..whole], out);
            self.is_later = replies.starts_with(LATER.0);
            self.unsent = match self.is_later {
                true => replies.to_vec(),
                false => unsent_of(&self.stream, replies)?,
            };
            self.half_line = half_line;
            Poll::Ready(Ok(!came.filled().is_empty()))
        })
    }
}

/// Writes as much as the socket accepts, and returns the rest.
fn unsent_of(stream: &TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    match stream.try_write(bytes) {
        Ok(sent) => Ok(bytes[sent..].to_vec()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(bytes.to_vec()),
        Err(error) => Err(error),
    }
}

/// Serves all guests with one write for each line.
pub(super) async fn line_by_line() -> io::Result<()> {
    let listener = listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move { answer_lines(stream).await.unwrap_or(()) });
    }
}

async fn answer_lines(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut out) = (Vec::new(), Vec::new());
    while stream.read_until(b'\n', &mut line).await? > 0 {
        commands::answer(line.trim_ascii_end(), &mut out);
        stream.write_all(&out).await?;
        line.clear();
        out.clear();
    }
    Ok(())
}
