//! Servers to stand beside a host, without one: the bare echo, which is every bench's yardstick, and three more.
//!
//! Each is the bench's own program, started again with [`ARGUMENT`], with tokio on one thread. The bare echo parses
//! nothing, so no host can reach it; it says what the machine, the kernel and the load generator allow. What the others
//! leave out is what a host is for: plugins, names, limits, reloads.

#![allow(dead_code, reason = "not every bench starts each of them")]

mod commands;
mod relay;
mod serve;

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use dae_tests::process;

/// The argument that makes a bench one of these servers. Behind it stands which.
pub(crate) const ARGUMENT: &str = "--raw-server";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// For each read one write of all the whole lines in it.
    Echo,
    /// The same, but the lines are commands that are compiled in, with typed arguments: what one would write by hand.
    Static,
    /// The same commands, a line at a time, each with a write of its own.
    Naive,
    /// The same commands in a process of their own, and this one between them and the guests.
    Relay,
    /// That process.
    RelayChild,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::Static => "static",
            Kind::Naive => "naive",
            Kind::Relay => "relay",
            Kind::RelayChild => "relay-child",
        }
    }

    fn read(word: &str) -> Option<Self> {
        use Kind::{Echo, Naive, Relay, RelayChild, Static};
        let mut kinds = [Echo, Static, Naive, Relay, RelayChild].into_iter();
        kinds.find(|kind| kind.word() == word)
    }
}

/// One of them in a process of its own, until dropped.
pub(crate) struct RawServer {
    child: Child,
    /// Its port of the loopback address.
    pub(crate) port: u16,
}

impl RawServer {
    /// Starts a bare echo; it listens when this returns.
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_as(Kind::Echo)
    }

    /// Starts one; it listens when this returns.
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

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process, and those that it has made.
    pub(crate) fn processes(&self) -> Vec<u32> {
        [vec![self.pid()], process::children(self.pid())].concat()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this_program_as(kind: Kind) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ARGUMENT, kind.word()]);
    Ok(command)
}

/// What such a process does: prints its port, and serves until its standard input ends, which is when the bench ends.
pub(crate) fn main() -> Result<(), String> {
    let word = std::env::args().nth(2).unwrap_or_default();
    let kind = Kind::read(&word).ok_or_else(|| format!("{ARGUMENT} {word}: no such server"))?;
    if kind != Kind::RelayChild {
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
            }
        })
    });
    served.map_err(|error| format!("the server {word} failed: {error}"))
}
