//! Two bare tokio processes with a socket pair between them, which exchange a line as two daemons exchange a call.
//!
//! The first process sends a line, and the second returns it. Each has one thread and parses nothing, so that no call
//! between two processes can be faster. The first one measures the time of each exchange, as a calling daemon does.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::Kind;

/// The largest line.
const LINE_BYTES_MAX: usize = 64;

/// Both processes. Dropping this value ends them.
pub(crate) struct PingPong {
    child: Child,
    // Closed first on a drop: the process ends by that, and then the other one.
    orders: Option<ChildStdin>,
    results: BufReader<ChildStdout>,
}

impl PingPong {
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = super::this_program_as(Kind::Ping)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let orders = child.stdin.take();
        let results = BufReader::new(child.stdout.take().expect("it was asked for"));
        Ok(PingPong {
            child,
            orders,
            results,
        })
    }

    /// Exchanges so many lines, one after the other. Returns p50 and p99, in nanoseconds.
    pub(crate) fn measure(&mut self, lines: u64) -> io::Result<[u64; 2]> {
        let orders = self.orders.as_mut().expect("open until the drop");
        writeln!(orders, "{lines}")?;
        let mut result = String::new();
        self.results.read_line(&mut result)?;
        let mut numbers = result.split_whitespace().map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok);
        let both = next().zip(next());
        let (p50, p99) = both.ok_or_else(|| io::Error::other(format!("got `{result}`")))?;
        Ok([p50, p99])
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Runs the first process: each line of standard input is a number of exchanges.
pub(super) async fn ping() -> io::Result<()> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let mut child = super::this_program_as(Kind::Pong)?;
    let mut child = child.stdin(OwnedFd::from(theirs)).spawn()?;
    let mut socket = tokio_socket(ours)?;
    for order in io::stdin().lines() {
        let lines = order?.parse().map_err(io::Error::other)?;
        let [p50, p99] = exchange(&mut socket, lines).await?;
        println!("{p50} {p99}");
    }
    drop(socket);
    child.wait()?;
    Ok(())
}

async fn exchange(socket: &mut UnixStream, lines: u64) -> io::Result<[u64; 2]> {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits are possible");
    for number in 0..lines {
        let began = Instant::now();
        let line = format!("echo [{number}]\n");
        socket.write_all(line.as_bytes()).await?;
        let mut reply = vec![0; line.len()];
        socket.read_exact(&mut reply).await?;
        if reply != line.as_bytes() {
            let reply = reply.escape_ascii();
            return Err(io::Error::other(format!(
                "expected `{line}`, got `{reply}`"
            )));
        }
        histogram += u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
    Ok([0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile)))
}

/// Runs the second process, whose standard input is the socket.
pub(super) async fn pong() -> io::Result<()> {
    let mut socket = tokio_socket(StdUnixStream::from(
        io::stdin().as_fd().try_clone_to_owned()?,
    ))?;
    let mut bytes = [0; LINE_BYTES_MAX];
    loop {
        match socket.read(&mut bytes).await? {
            0 => return Ok(()),
            count => socket.write_all(&bytes[..count]).await?,
        }
    }
}

fn tokio_socket(socket: StdUnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
