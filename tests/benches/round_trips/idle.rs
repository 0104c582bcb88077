//! Ten thousand silent connections: the resident memory per connection, new and after one command.
//!
//! Each server is newly started, so that no memory freed earlier can be reused. The kernel's memory for sockets is not
//! included.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load;
use super::script::{Script, Workload};
use super::servers::Server;

/// The number of connections.
pub(super) const CONNECTIONS: usize = 10_000;

/// The time without growth of its memory after which the server has accepted all connections.
const REST: Duration = Duration::from_millis(500);

/// The longest wait until the memory stops growing.
const REST_MAX: Duration = Duration::from_secs(30);

/// The bytes per connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    /// Before the first command.
    pub(super) new_bytes: f64,
    /// After one command and its reply.
    pub(super) used_bytes: f64,
}

/// Measures a server that has had no connections yet.
///
/// Returns an error if a connection fails, or a reply differs from the expected one.
pub(super) fn measure(server: &Server) -> io::Result<Idle> {
    let script = Script::of(Workload::Echo, server.contender.tongue).expect("all of them echo");
    // The first connection is not counted: it absorbs the one-time cost.
    load::on_one_thread(async {
        let mut first = load::connect(server.port, 1).await?;
        ask(&mut first[0], &script).await?;
        let before = at_rest(server).await?;
        let mut streams = load::connect(server.port, CONNECTIONS).await?;
        let new = at_rest(server).await?;
        for stream in &mut streams {
            ask(stream, &script).await?;
        }
        let used = at_rest(server).await?;
        let each = |bytes: u64| (bytes as f64 - before as f64) / CONNECTIONS as f64;
        Ok(Idle {
            new_bytes: each(new),
            used_bytes: each(used),
        })
    })
}

async fn ask(stream: &mut TcpStream, script: &Script) -> io::Result<()> {
    stream.write_all(script.command(0)).await?;
    let mut reply = vec![0; script.reply(0).len()];
    stream.read_exact(&mut reply).await?;
    match reply == script.reply(0) {
        true => Ok(()),
        false => Err(io::Error::other(format!("got `{}`", reply.escape_ascii()))),
    }
}

/// Returns the server's resident memory once it has stopped growing.
async fn at_rest(server: &Server) -> io::Result<u64> {
    let start = Instant::now();
    let mut last = server.resident_bytes();
    while start.elapsed() < REST_MAX {
        tokio::time::sleep(REST).await;
        let now = server.resident_bytes();
        if now <= last {
            return Ok(now);
        }
        last = now;
    }
    Err(io::Error::other("its memory does not stop growing"))
}
