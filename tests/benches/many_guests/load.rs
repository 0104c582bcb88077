//! The load: many connections, of which each sends a command now and then. The times of the commands are spread evenly.
//!
//! The loop is open: a command is sent when it is due, however long earlier ones take. One thread drives all
//! connections with epoll, and has nothing else to do, so that it takes little of the machine. Every byte of a reply is
//! checked. The text of a command names its guest, so that a reply to the wrong guest is noticed.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};

/// The time without a reply after which a server counts as broken, not slow.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The largest latency in the histogram: a minute, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The significant digits of a latency.
const DIGITS: u8 = 3;

/// The events that one call takes from the kernel.
const EVENTS_MAX: usize = 256;

/// The connections that may wait to be accepted: fewer than the queue of any listener holds. The kernel tries again only
/// after a second where the queue is full.
const UNANSWERED_MAX: usize = 100;

/// The first command of a connection that waits until it is accepted, and its reply.
const FIRST: &[u8; 18] = b"echo [\"accepted\"]\n";

/// The bytes of a command, which are those of its reply.
const LINE_BYTES: usize = 30;

/// The result of a measurement.
#[derive(Debug)]
pub(super) struct Done {
    /// The time of each round trip, in nanoseconds.
    pub(super) latency_ns: Histogram<u64>,
    /// The time from which on each command was due until it was sent, in nanoseconds.
    pub(super) late_ns: Histogram<u64>,
    /// The commands that were not sent, because the one before them had no reply yet.
    pub(super) skipped: u64,
    /// The CPU time of the load itself.
    pub(super) cpu_ns: u64,
    pub(super) time: Duration,
}

/// All connections to a server.
pub(super) struct Guests {
    all: Vec<Guest>,
    epoll: OwnedFd,
    in_flight: usize,
}

/// A connection to the server.
struct Guest {
    stream: TcpStream,
    line: [u8; LINE_BYTES],
    /// The time of the command in flight, and the bytes of its reply that have come.
    sent_at: Option<Instant>,
    came: usize,
}

impl Guests {
    /// Connects `count` guests to the server at `port`.
    ///
    /// Returns an error if one of them is refused.
    pub(super) fn connect(port: u16, count: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            if number % UNANSWERED_MAX == 0 {
                until_accepted(&mut stream)?;
            }
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            all.push(Guest {
                stream,
                line: [0; LINE_BYTES],
                sent_at: None,
                came: 0,
            });
        }
        Ok(Guests {
            all,
            epoll,
            in_flight: 0,
        })
    }

    /// Sends `commands` commands, one in each `pause`, from one guest after the other. Runs on its own thread, since it
    /// has the kernel wake it on time, and what this process starts later must not inherit that.
    ///
    /// Returns an error if a connection fails, or a reply does not match its command.
    pub(super) fn drive(&mut self, commands: u64, pause: Duration) -> io::Result<Done> {
        std::thread::scope(|scope| {
            let driven = scope.spawn(|| {
                set_current_timer_slack(NonZeroU64::new(1))?;
                self.send_and_check(commands, pause)
            });
            driven.join().expect("the load doesn't panic")
        })
    }

    fn send_and_check(&mut self, commands: u64, pause: Duration) -> io::Result<Done> {
        let mut done = Done::new();
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let (began, cpu_ns) = (Instant::now(), thread_cpu_ns());
        let due = |number: u64| began + Duration::from_nanos(pause.as_nanos() as u64 * number);
        let (mut next, mut heard) = (0, began);
        while next < commands || self.in_flight > 0 {
            while next < commands && due(next) <= Instant::now() {
                self.send(next, due(next), &mut done)?;
                next += 1;
            }
            let wait = match next < commands {
                true => due(next).saturating_duration_since(Instant::now()),
                false => SILENCE_MAX,
            };
            events.clear();
            self.wait(&mut events, wait)?;
            let now = Instant::now();
            for event in &events {
                let guest = event.data.u64() as usize;
                self.receive(guest, now, &mut done)?;
                heard = now;
            }
            if self.in_flight > 0 && now - heard > SILENCE_MAX {
                return Err(io::Error::other("it is silent with commands unanswered"));
            }
        }
        done.time = began.elapsed();
        done.cpu_ns = thread_cpu_ns() - cpu_ns;
        Ok(done)
    }

    /// Waits with `ppoll`, because the wait of epoll has a resolution of a millisecond.
    fn wait(&self, events: &mut Vec<epoll::Event>, limit: Duration) -> io::Result<()> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut ready = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut ready, Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Timespec::default();
        epoll::wait(&self.epoll, spare_capacity(events), Some(&now))?;
        Ok(())
    }

    fn send(&mut self, number: u64, due: Instant, done: &mut Done) -> io::Result<()> {
        let count = self.all.len() as u64;
        let (guest, turn) = ((number % count) as usize, number / count % 100_000);
        let one = &mut self.all[guest];
        if one.sent_at.is_some() {
            done.skipped += 1;
            return Ok(());
        }
        let line = format!("echo [\"guest {guest:05} no {turn:05}\"]\n");
        one.line.copy_from_slice(line.as_bytes());
        let now = Instant::now();
        done.late_ns
            .saturating_record((now - due).as_nanos() as u64);
        (one.sent_at, one.came) = (Some(now), 0);
        self.in_flight += 1;
        one.stream.write_all(&one.line)
    }

    fn receive(&mut self, guest: usize, now: Instant, done: &mut Done) -> io::Result<()> {
        let one = &mut self.all[guest];
        let mut bytes = [0; 2 * LINE_BYTES];
        let read = match one.stream.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            read => read?,
        };
        let (came, expected) = (&bytes[..read], &one.line[one.came..]);
        let is_expected = read > 0 && one.sent_at.is_some() && expected.starts_with(came);
        if !is_expected {
            let [came, expected] = [came, expected].map(|bytes| bytes.escape_ascii().to_string());
            let text = format!("guest {guest} expected `{expected}`, got `{came}`");
            return Err(io::Error::other(text));
        }
        one.came += read;
        if one.came == LINE_BYTES
            && let Some(sent_at) = one.sent_at.take()
        {
            done.latency_ns
                .saturating_record((now - sent_at).as_nanos() as u64);
            self.in_flight -= 1;
        }
        Ok(())
    }
}

impl Done {
    fn new() -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_NS_MAX, DIGITS).expect("a range");
        Done {
            latency_ns: histogram(),
            late_ns: histogram(),
            skipped: 0,
            cpu_ns: 0,
            time: Duration::ZERO,
        }
    }
}

/// Waits for the reply to a first command. The server has then accepted all earlier connections, too.
fn until_accepted(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.write_all(FIRST)?;
    let mut reply = [0; FIRST.len()];
    stream.read_exact(&mut reply)?;
    match reply == *FIRST {
        true => Ok(()),
        false => Err(io::Error::other(format!("got `{}`", reply.escape_ascii()))),
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
