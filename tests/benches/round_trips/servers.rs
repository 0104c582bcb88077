//! What is measured: a bare line echo, and daemons in a release host, each in a process of its own.
//!
//! The bare echo is this very program, started again with [`RAW_SERVER`]. It does the least that a line server on
//! tokio can do: one thread, and for each read one write of all the whole lines in it. It parses nothing, so no host can
//! reach it; it says what the machine, the kernel and the load generator allow.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use dae_tests::{Artefacts, Ecosystem, process};
use rustix::thread::CpuSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The argument that makes this program the bare echo.
pub(super) const RAW_SERVER: &str = "--raw-server";

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
    pid: u32,
    // Held until the bench is over; its drop ends the process.
    _life: Life,
}

enum Life {
    Raw(#[allow(dead_code, reason = "held for its drop")] RawChild),
    Host(#[allow(dead_code, reason = "held for its drop")] Ecosystem),
}

struct RawChild(Child);

impl Drop for RawChild {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// CPU time that the server's process has taken so far.
    pub(super) fn cpu_ns(&self) -> u64 {
        process::cpu_ns(self.pid)
    }

    /// Lets it run on these processors alone.
    pub(super) fn confine(&self, processors: &CpuSet) {
        process::confine(self.pid, processors);
    }
}

/// Starts all of them: the bare echo, a daemon's sync command, and its async one.
pub(super) fn start() -> Result<Vec<Server>, String> {
    Ok(vec![
        raw()?,
        host("dae sync", "echo")?,
        host("dae async", "ready")?,
    ])
}

fn raw() -> Result<Server, String> {
    let started = || -> io::Result<(RawChild, u16)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = RawChild(
            command
                .arg(RAW_SERVER)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let mut port = String::new();
        BufReader::new(child.0.stdout.take().expect("it was asked for")).read_line(&mut port)?;
        Ok((child, port.trim().parse().map_err(io::Error::other)?))
    };
    let (child, port) =
        started().map_err(|error| format!("cannot start the bare echo: {error}"))?;
    let pid = child.0.id();
    Ok(Server {
        label: RAW_LABEL,
        port,
        command: "echo",
        pid,
        _life: Life::Raw(child),
    })
}

/// The harness panics where a host or plugin is missing, as tests should; a bench has a reason to give and an end.
fn host(label: &'static str, command: &'static str) -> Result<Server, String> {
    let started = || {
        let ecosystem = Ecosystem::start_with(Artefacts::released());
        let _guest = ecosystem.install("Vectors", "vectors", &[]);
        let (port, pid) = (ecosystem.port_of("Vectors"), ecosystem.pid());
        Server {
            label,
            port,
            command,
            pid,
            _life: Life::Host(ecosystem),
        }
    };
    std::panic::catch_unwind(started)
        .map_err(|_| format!("no host to measure for `{label}`; the reason stands above"))
}

/// The bare echo: prints its port, and serves until its standard input ends, which is when the bench ends.
pub(super) fn raw_echo() -> Result<(), String> {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve()));
    served.map_err(|error| format!("the bare echo failed: {error}"))
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        // A guest that leaves is no failure of the server's.
        tokio::spawn(async move { echo_lines(stream).await.unwrap_or(()) });
    }
}

async fn echo_lines(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(64 << 10);
    while stream.read_buf(&mut bytes).await? > 0 {
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        stream.write_all(&bytes[..whole]).await?;
        bytes.drain(..whole);
    }
    Ok(())
}
