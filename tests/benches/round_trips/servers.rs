//! What is measured: a bare line echo, and daemons in release hosts, each in processes of its own.

use dae_tests::{Artefacts, Ecosystem, process};
use rustix::thread::CpuSet;

use super::raw::RawServer;

/// The bare echo's name in the report: what the others are compared with.
pub(super) const RAW_LABEL: &str = "raw tokio";

/// One server under load.
pub(super) struct Server {
    /// Its name in the report.
    pub(super) label: &'static str,
    /// Its port of the loopback address.
    pub(super) port: u16,
    /// The command to send; its reply is the same line.
    pub(super) command: &'static str,
    /// All the processes that a command passes through.
    processes: Vec<u32>,
    // Held until the bench is over; its drop ends them.
    _life: Life,
}

enum Life {
    Raw(#[allow(dead_code, reason = "held for its drop")] RawServer),
    Host(#[allow(dead_code, reason = "held for its drop")] Ecosystem),
}

impl Server {
    /// CPU time that its processes have taken so far.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.processes
            .iter()
            .map(|process| process::cpu_ns(*process))
            .sum()
    }

    /// Lets it run on these processors alone.
    pub(super) fn confine(&self, processors: &CpuSet) {
        for process in &self.processes {
            process::confine(*process, processors);
        }
    }
}

/// Starts all of them: the bare echo, a daemon's sync command, its async one, and the sync one in a subprocess.
pub(super) fn start() -> Result<Vec<Server>, String> {
    Ok(vec![
        raw()?,
        host("dae sync", "echo", &[])?,
        host("dae async", "ready", &[])?,
        host("subprocess", "echo", &["--isolate"])?,
    ])
}

fn raw() -> Result<Server, String> {
    let server =
        RawServer::start().map_err(|error| format!("cannot start the bare echo: {error}"))?;
    Ok(Server {
        label: RAW_LABEL,
        port: server.port,
        command: "echo",
        processes: vec![server.pid()],
        _life: Life::Raw(server),
    })
}

/// The harness panics where a host or plugin is missing, as tests should; a bench has a reason to give and an end.
fn host(
    label: &'static str,
    command: &'static str,
    flags: &'static [&'static str],
) -> Result<Server, String> {
    let started = || {
        let ecosystem = Ecosystem::start_with(Artefacts::released());
        let _guest = ecosystem.install("Vectors", "vectors", flags);
        let (port, pid) = (ecosystem.port_of("Vectors"), ecosystem.pid());
        let mut processes = process::workers_of(pid);
        processes.push(pid);
        Server {
            label,
            port,
            command,
            processes,
            _life: Life::Host(ecosystem),
        }
    };
    std::panic::catch_unwind(started)
        .map_err(|_| format!("no host to measure for `{label}`; the reason stands above"))
}
