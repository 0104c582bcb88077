//! The measured servers: daemons in release hosts, servers as one would write them by hand, and peers where they are
//! installed.
//!
//! Each runs in its own processes, which end when it is dropped.

use std::io;

use dae_tests::{Artefacts, Ecosystem, process};
use rustix::thread::CpuSet;

use super::peers::{self, Peer};
use super::raw::{Kind, RawServer};
use super::script::Tongue;

/// The name of the bare echo in the report. The other servers are compared with it.
pub(super) const RAW_LABEL: &str = "raw";

/// The name of the daemon in the host's process. The one in a subprocess is compared with it, too.
pub(super) const IN_PROCESS_LABEL: &str = "in-process";

/// A server that can be started and measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contender {
    /// The name in the report.
    pub(super) label: &'static str,
    /// The protocol of the server.
    pub(super) tongue: Tongue,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Bare(Kind),
    /// A daemon that is installed with the given flags.
    Daemon(&'static [&'static str]),
    Redis,
    Node,
}

const fn contender(label: &'static str, tongue: Tongue, what: What) -> Contender {
    Contender {
        label,
        tongue,
        what,
    }
}

/// All contenders, in the order in which they are measured. The others are compared with the first one.
pub(super) const CONTENDERS: [Contender; 9] = [
    contender(RAW_LABEL, Tongue::Mirror, What::Bare(Kind::Echo)),
    contender("static", Tongue::CommonTcp, What::Bare(Kind::Static)),
    contender(IN_PROCESS_LABEL, Tongue::Daemon, What::Daemon(&[])),
    contender("subprocess", Tongue::Daemon, What::Daemon(&["--isolate"])),
    contender("redis RESP", Tongue::Resp, What::Redis),
    contender("redis inline", Tongue::Inline, What::Redis),
    contender("node", Tongue::CommonTcp, What::Node),
    contender("relay", Tongue::CommonTcp, What::Bare(Kind::Relay)),
    contender("naive", Tongue::CommonTcp, What::Bare(Kind::Naive)),
];

/// A running server.
pub(super) struct Server {
    /// The contender that was started.
    pub(super) contender: Contender,
    /// The port on the loopback address.
    pub(super) port: u16,
    /// All processes through which a command passes.
    pub(super) processes: Vec<u32>,
    // Kept until the bench is over. Dropping it ends the processes.
    _life: Life,
}

#[allow(dead_code, reason = "each is held for its drop")]
enum Life {
    Bare(RawServer),
    Host(Ecosystem),
    Peer(Peer),
}

impl Contender {
    /// Starts the server. Prints a note and returns `None` if it is not installed on this machine.
    pub(super) fn start(self) -> Result<Option<Server>, String> {
        let started = match self.what {
            What::Bare(kind) => bare(kind).map(Some),
            What::Daemon(flags) => daemon(flags).map(Some),
            What::Redis => peers::redis().map(|peer| peer.map(of_peer)),
            What::Node => peers::node().map(|peer| peer.map(of_peer)),
        };
        let started = started.map_err(|error| format!("cannot start `{}`: {error}", self.label))?;
        Ok(started.map(|(port, processes, life)| Server {
            contender: self,
            port,
            processes,
            _life: life,
        }))
    }
}

type Started = (u16, Vec<u32>, Life);

fn bare(kind: Kind) -> io::Result<Started> {
    let server = RawServer::start_as(kind)?;
    Ok((server.port, server.processes(), Life::Bare(server)))
}

fn of_peer(peer: Peer) -> Started {
    (peer.port, vec![peer.pid()], Life::Peer(peer))
}

/// Starts a daemon. The test harness panics if a host or plugin is missing, but a bench must end with a reason.
fn daemon(flags: &'static [&'static str]) -> io::Result<Started> {
    let started = || {
        let ecosystem = Ecosystem::start_with(Artefacts::released());
        let _guest = ecosystem.install("Measured", "measured", flags);
        let (port, pid) = (ecosystem.port_of("Measured"), ecosystem.pid());
        let processes = [vec![pid], process::workers_of(pid)].concat();
        (port, processes, Life::Host(ecosystem))
    };
    std::panic::catch_unwind(started).map_err(|_| io::Error::other("the reason stands above"))
}

impl Server {
    /// Returns the CPU time of its processes so far, in user and kernel mode.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.sum(process::cpu_ns)
    }

    /// Returns the resident memory of its processes, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.sum(process::resident_bytes)
    }

    fn sum(&self, figure: fn(u32) -> u64) -> u64 {
        self.processes.iter().map(|process| figure(*process)).sum()
    }

    /// Restricts its processes to the given processors.
    pub(super) fn confine(&self, processors: &CpuSet) {
        for process in &self.processes {
            process::confine(*process, processors);
        }
    }
}
