//! The load: connections that always have so many commands in flight, and check every reply.
//!
//! A closed loop: a reply that comes sends the next command, all that one read brought in one write. So the server is
//! never asked for more than it has room for, and what is measured is a round trip and no queue of our own making.
//! One thread drives all connections; with servers that are faster than it, it is what is measured, and the bare echo
//! shows how fast that is.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Shape;
use super::servers::Server;

/// The slowest reply that the histogram tells from slower ones: a minute, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Three digits of a latency are kept.
const DIGITS: u8 = 3;

/// A server that stays silent for so long is broken, not slow.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a measurement brought.
#[derive(Debug)]
pub(super) struct Done {
    /// Each round trip's time, in nanoseconds.
    pub(super) latency_ns: Histogram<u64>,
    /// From the first command to the last reply.
    pub(super) time: Duration,
}

/// Drives `server` for `time`.
///
/// Errors: the connection fails, or a reply isn't the one that belongs to its command.
pub(super) fn drive(server: &Server, shape: Shape, time: Duration) -> io::Result<Done> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..shape.connections {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let start = Instant::now();
        let mut guests = JoinSet::new();
        for stream in streams {
            let guest = Guest::new(stream, server.command, shape.in_flight);
            guests.spawn(guest.drive(start + time));
        }
        let mut latency_ns = histogram();
        while let Some(one) = guests.join_next().await {
            latency_ns
                .add(one.map_err(io::Error::other)??)
                .map_err(io::Error::other)?;
        }
        Ok(Done {
            latency_ns,
            time: start.elapsed(),
        })
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, DIGITS).expect("a range that is one")
}

/// One connection.
struct Guest {
    stream: TcpStream,
    command: &'static str,
    /// The number of the next command, and of the oldest that isn't answered.
    next: u64,
    oldest: u64,
    /// When each command in flight was sent, by its number modulo the length.
    sent_at: Vec<Instant>,
    /// What came and isn't a whole line yet, and what goes out next.
    came: Vec<u8>,
    out: Vec<u8>,
    latency_ns: Histogram<u64>,
}

impl Guest {
    fn new(stream: TcpStream, command: &'static str, in_flight: usize) -> Self {
        let sent_at = vec![Instant::now(); in_flight];
        let (came, out) = (Vec::with_capacity(64 << 10), Vec::new());
        Guest {
            stream,
            command,
            next: 0,
            oldest: 0,
            sent_at,
            came,
            out,
            latency_ns: histogram(),
        }
    }

    /// Until `deadline` passes and everything is answered.
    async fn drive(mut self, deadline: Instant) -> io::Result<Histogram<u64>> {
        self.send(self.sent_at.len()).await?;
        while self.oldest < self.next {
            let answered = self.receive().await?;
            if Instant::now() < deadline {
                self.send(answered).await?;
            }
        }
        Ok(self.latency_ns)
    }

    async fn send(&mut self, count: usize) -> io::Result<()> {
        self.out.clear();
        let first = self.next;
        for _ in 0..count {
            push_line(&mut self.out, self.command, self.next);
            self.next += 1;
        }
        let now = Instant::now();
        (first..self.next).for_each(|number| *self.slot(number) = now);
        self.stream.write_all(&self.out).await
    }

    /// One read, and every whole reply in it; returns how many there were.
    async fn receive(&mut self) -> io::Result<usize> {
        let read = tokio::time::timeout(SILENCE_MAX, self.stream.read_buf(&mut self.came)).await;
        let count =
            read.map_err(|_| io::Error::other("the server is silent with commands unanswered"))??;
        if count == 0 {
            return Err(io::Error::other(
                "the server closed with commands unanswered",
            ));
        }
        let now = Instant::now();
        let came = std::mem::take(&mut self.came);
        let (mut start, before) = (0, self.oldest);
        while let Some(length) = came[start..].iter().position(|byte| *byte == b'\n') {
            let end = start + length + 1;
            self.check(&came[start..end], now)?;
            start = end;
        }
        self.came = came;
        self.came.drain(..start);
        Ok((self.oldest - before) as usize)
    }

    fn check(&mut self, line: &[u8], now: Instant) -> io::Result<()> {
        self.out.clear();
        push_line(&mut self.out, self.command, self.oldest);
        if line != self.out {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
            return Err(io::Error::other(format!(
                "expected `{}`, got `{}`",
                shown(&self.out),
                shown(line)
            )));
        }
        let took = now - *self.slot(self.oldest);
        self.latency_ns.saturating_record(took.as_nanos() as u64);
        self.oldest += 1;
        Ok(())
    }

    fn slot(&mut self, number: u64) -> &mut Instant {
        let length = self.sent_at.len() as u64;
        &mut self.sent_at[(number % length) as usize]
    }
}

/// `command [number]`, which is the command as well as its reply.
fn push_line(out: &mut Vec<u8>, command: &str, number: u64) {
    use std::io::Write as _;
    writeln!(out, "{command} [{number}]").expect("a Vec takes all");
}
