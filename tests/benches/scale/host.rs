//! A release host over a home that was made beforehand, timed from its spawn.
//!
//! That all is up is heard as a service manager hears it, so that asking for it is no work of the host's.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, process};

/// How long a start may take; one that takes longer is no start.
const START_MAX: Duration = Duration::from_secs(300);

/// Between two looks whether somebody listens.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// A host that runs, until dropped.
pub(super) struct Host {
    child: Child,
    notified: UnixDatagram,
    spawned: Instant,
}

impl Host {
    /// Spawns one over the ecosystem's home, and waits for nothing.
    ///
    /// Errors: it can't be run.
    pub(super) fn spawn(ecosystem: &Ecosystem) -> io::Result<Self> {
        let socket = ecosystem.scratch().join("notify");
        // Of the host before.
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

    /// Waits until every daemon is up or has failed; returns the time since the spawn.
    ///
    /// Errors: it doesn't say so.
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

    /// Waits until the daemon at `port` has answered a command; returns the time since the spawn.
    ///
    /// Errors: it doesn't.
    pub(super) fn until_reply(&self, port: u16) -> io::Result<Duration> {
        first_reply(port, self.spawned)?;
        Ok(self.spawned.elapsed())
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let workers = process::workers_of(self.pid());
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        workers.into_iter().for_each(process::kill_group);
    }
}

/// Asks whoever comes to listen at `port` for a line, until it has answered one.
///
/// Errors: nobody does in time.
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
