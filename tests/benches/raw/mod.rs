//! Servers without a host, for comparison: the bare echo, which is the usual baseline, three more, and two processes that
//! exchange lines.
//!
//! Each is the bench's own program, started again with [`ARGUMENT`], with tokio on one thread. The bare echo parses
//! nothing, so no host can be as fast. It shows the limit of the machine, the kernel and the load generator. The others
//! leave out what a host adds: plugins, names, limits, reloads.

#![allow(dead_code, reason = "not every bench starts each of them")]

mod commands;
pub(crate) mod ping_pong;
mod relay;
mod serve;

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use dae_tests::process;

/// The argument that makes a bench one of these servers. The kind of server follows it.
pub(crate) const ARGUMENT: &str = "--raw-server";

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One write for each read, with all whole lines of the read. If they begin with `later`, a millisecond later.
    Echo,
    /// The same, but the lines are compiled-in commands with typed arguments, as one would write them by hand.
    Static,
    /// The same commands, one line at a time, each with its own write.
    Naive,
    /// A relay between the guests and a process with the same commands.
    Relay,
    /// The process with the commands.
    RelayChild,
    /// The first of two processes that exchange lines, and the second.
    Ping,
    Pong,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::Static => "static",
            Kind::Naive => "naive",
            Kind::Relay => "relay",
            Kind::RelayChild => "relay-child",
            Kind::Ping => "ping",
            Kind::Pong => "pong",
        }
    }

    fn read(word: &str) -> Option<Self> {
        use Kind::{Echo, Naive, Ping, Pong, Relay, RelayChild, Static};
        let mut kinds = [Echo, Static, Naive, Relay, RelayChild, Ping, Pong].into_iter();
        kinds.find(|kind| kind.word() == word)
    }
}

/// A server in its own process. Dropping this value ends it.
pub(crate) struct RawServer {
    child: Child,
    /// The port on the loopback address.
    pub(crate) port: u16,
}

impl RawServer {
    /// Starts a bare echo. It listens when this returns.
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_as(Kind::Echo)
    }

    /// Starts a server. It listens when this returns.
    pub(crate) fn start_as(kind: Kind) -> io::Result<Self> {
        let mut command = this_program_as(kind)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = RawServer {
            child: command.spawn()?,
            port: 0,
        };
        let stdout = server.child.stdout.take().expect("it was asked for");
        let mut port = String::new();
        BufReader::new(stdout).read_line(&mut port)?;
        server.port = port.trim().parse().map_err(io::Error::other)?;
        Ok(server)
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the process ids of the server and its child processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        [vec![self.pid()], process::children(self.pid())].concat()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this_program_as(kind: Kind) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ARGUMENT, kind.word()]);
    Ok(command)
}

/// Runs such a server: prints its port, and serves until standard input closes, which happens when the bench ends.
pub(crate) fn main() -> Result<(), String> {
    let word = std::env::args().nth(2).unwrap_or_default();
    let kind = Kind::read(&word).ok_or_else(|| format!("{ARGUMENT} {word}: no such server"))?;
    if !matches!(kind, Kind::RelayChild | Kind::Ping | Kind::Pong) {
        std::thread::spawn(|| {
            let _ = io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match kind {
                Kind::Echo => serve::batches(commands::echo_all).await,
                Kind::Static => serve::batches(commands::answer_all).await,
                Kind::Naive => serve::line_by_line().await,
                Kind::Relay => relay::serve().await,
                Kind::RelayChild => relay::answer().await,
                Kind::Ping => ping_pong::ping().await,
                Kind::Pong => ping_pong::pong().await,
            }
        })
    });
    served.map_err(|error| format!("the server {word} failed: {error}"))
}
