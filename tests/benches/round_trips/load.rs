//! The load: connections that always have a fixed number of commands in flight, and check every received byte.
//!
//! It is a closed loop: each reply triggers the next command, and all commands triggered by one read go out in one
//! write. The server therefore never gets more than it can handle, and the measurement contains round trips without
//! queueing by the load generator. One thread drives all connections. With servers that are faster than this thread,
//! the thread itself is measured. The bare echo shows how fast it is.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::Shape;
use super::script::Script;

/// The largest latency in the histogram: a minute, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The significant digits of a latency.
const DIGITS: u8 = 3;

/// The time without a reply after which a server counts as broken, not slow.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The initial buffer space for the reply to one command, in bytes.
const REPLY_BYTES: usize = 64;

/// The result of a measurement.
#[derive(Debug)]
pub(super) struct Done {
    /// The time of each round trip, in nanoseconds.
    pub(super) latency_ns: Histogram<u64>,
    /// The time from the first command to the last reply.
    pub(super) time: Duration,
}

/// Drives the server at `port` for `time`.
///
/// Returns an error if the connection fails, or a reply does not match its command.
pub(super) fn drive(port: u16, script: Script, shape: Shape, time: Duration) -> io::Result<Done> {
    let script = Rc::new(script);
    on_one_thread(async {
        let streams = connect(port, shape.connections).await?;
        let total = Rc::new(RefCell::new(histogram()));
        let start = Instant::now();
        let mut guests = JoinSet::new();
        for stream in streams {
            let guest = Guest::new(stream, Rc::clone(&script), shape.in_flight);
            let total = Rc::clone(&total);
            guests.spawn_local(guest.drive(start + time, total));
        }
        while let Some(one) = guests.join_next().await {
            one.map_err(io::Error::other)??;
        }
        let time = start.elapsed();
        Ok(Done {
            latency_ns: total.replace(histogram()),
            time,
        })
    })
}

/// Runs `work` on the current thread, so that its tasks can share data.
pub(super) fn on_one_thread<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// Opens `count` connections to the server at `port`.
///
/// Returns an error if one of them is refused.
pub(super) async fn connect(port: u16, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    Ok(streams)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, DIGITS).expect("a range that is one")
}

/// A connection to the server.
struct Guest {
    stream: TcpStream,
    script: Rc<Script>,
    /// The number of the next command, and of the oldest one without a reply.
    next: u64,
    oldest: u64,
    /// The time at which each command in flight was sent, by its number modulo the length.
    sent_at: Vec<Instant>,
    /// The incomplete reply received so far, and the bytes to send next.
    came: Vec<u8>,
    out: Vec<u8>,
}

impl Guest {
    fn new(stream: TcpStream, script: Rc<Script>, in_flight: usize) -> Self {
        Guest {
            stream,
            script,
            next: 0,
            oldest: 0,
            sent_at: vec![Instant::now(); in_flight],
            came: Vec::with_capacity(REPLY_BYTES * in_flight),
            out: Vec::new(),
        }
    }

    /// Runs until `deadline` has passed and every command is answered.
    async fn drive(
        mut self,
        deadline: Instant,
        latency_ns: Rc<RefCell<Histogram<u64>>>,
    ) -> io::Result<()> {
        self.send(self.sent_at.len()).await?;
        while self.oldest < self.next {
            self.receive().await?;
            let now = Instant::now();
            let answered = self.check(now, &mut latency_ns.borrow_mut())?;
            if now < deadline {
                self.send(answered).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.out.clear();
        let now = Instant::now();
        for _ in 0..count {
            let slot = self.slot(self.next);
            self.sent_at[slot] = now;
            self.out.extend_from_slice(self.script.command(self.next));
            self.next += 1;
        }
        self.stream.write_all(&self.out).await
    }

    async fn receive(&mut self) -> io::Result<()> {
        let read = tokio::time::timeout(SILENCE_MAX, self.stream.read_buf(&mut self.came)).await;
        match read.map_err(|_| io::Error::other("it is silent with commands unanswered"))?? {
            0 => Err(io::Error::other("it closed with commands unanswered")),
            _ => Ok(()),
        }
    }

    /// Removes every whole reply, and returns their number.
    fn check(&mut self, now: Instant, latency_ns: &mut Histogram<u64>) -> io::Result<usize> {
        let mut rest = &self.came[..];
        let before = self.oldest;
        while !rest.is_empty() {
            let reply = self.script.reply(self.oldest);
            let length = reply.len().min(rest.len());
            if self.oldest == self.next || rest[..length] != reply[..length] {
                return Err(unexpected(reply, rest));
            }
            if length < reply.len() {
                break;
            }
            let took = now - self.sent_at[self.slot(self.oldest)];
            latency_ns.saturating_record(took.as_nanos() as u64);
            self.oldest += 1;
            rest = &rest[length..];
        }
        let taken = self.came.len() - rest.len();
        self.came.drain(..taken);
        Ok((self.oldest - before) as usize)
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.sent_at.len() as u64) as usize
    }
}

fn unexpected(reply: &[u8], came: &[u8]) -> io::Error {
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(80)].escape_ascii().to_string();
    let (reply, came) = (shown(reply), shown(came));
    io::Error::other(format!("expected `{reply}`, got `{came}`"))
}
