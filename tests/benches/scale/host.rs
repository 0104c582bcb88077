//! A release host in a prepared home, timed from its spawn.
//!
//! The host reports that all daemons are up as it would to a service manager, so that the measurement causes no extra
//! work in it.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, process};

/// The longest time for a start. A longer one is an error.
const START_MAX: Duration = Duration::from_secs(300);

/// The time between two connection attempts.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// A running host. Dropping this value kills it.
pub(super) struct Host {
    child: Child,
    notified: UnixDatagram,
    spawned: Instant,
}

impl Host {
    /// Spawns a host in the ecosystem's home, and does not wait for it.
    ///
    /// Returns an error if the host cannot be run.
    pub(super) fn spawn(ecosystem: &Ecosystem) -> io::Result<Self> {
        let socket = ecosystem.scratch().join("notify");
        // Remove the socket of the previous host.
        let _ = std::fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket)?;
        notified.set_read_timeout(Some(START_MAX))?;
        let log = std::fs::File::create(ecosystem.scratch().join("stderr"))?;
        let mut command = ecosystem.command();
        command.arg("run").env("NOTIFY_SOCKET", &socket);
        command.stdout(Stdio::null()).stderr(log);
        let spawned = Instant::now();
        Ok(Host {
            child: command.spawn()?,
            notified,
            spawned,
        })
    }

    /// Waits until every daemon is up or has failed. Returns the time since the spawn.
    ///
    /// Returns an error if the host does not report it in time.
    pub(super) fn until_ready(&self) -> io::Result<Duration> {
        let mut bytes = [0; 1024];
        loop {
            let count = self.notified.recv(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes[..count]);
            if text.lines().any(|line| line == "READY=1") {
                return Ok(self.spawned.elapsed());
            }
        }
    }

    /// Waits until the daemon at `port` has answered a command. Returns the time since the spawn.
    ///
    /// Returns an error if it does not answer.
    pub(super) fn until_reply(&self, port: u16) -> io::Result<Duration> {
        first_reply(port, self.spawned)?;
        Ok(self.spawned.elapsed())
    }

    /// Returns the process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let workers = process::workers_of(self.pid());
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        workers.into_iter().for_each(process::kill_group);
    }
}

/// Connects to `port` until something listens there, sends one command and waits for the reply.
///
/// Returns an error if there is no reply in time.
pub(super) fn first_reply(port: u16, since: Instant) -> io::Result<()> {
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(START_MAX))?;
                stream.write_all(b"add [1,2]\n")?;
                return stream.read_exact(&mut [0; b"add [3]\n".len()]);
            }
            Err(error) if since.elapsed() > START_MAX => return Err(error),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
