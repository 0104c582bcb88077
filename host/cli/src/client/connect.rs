//! How a connection comes about: to the host of a home, to a daemon of it, to a foreign daemon.
//!
//! Each has its own limits: of the connection itself, and of one answer. None waits without end for a peer that is stopped,
//! unless the owner of a host lets commands run for ever.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::super::Session;
use super::super::exit::Fault;
use super::{CONTROL_TAG, Client, Stream, is_over_time};
use dae_runtime::peers::self_connection::is_to_itself;
use dae_store::report::Greeting;

/// How long a host may take over one control command. Its slowest is an install: 10 s for a daemon's `start`, 5 s of
/// grace for the one that is replaced, and what the disk takes.
const CONTROL_ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long a host that holds the home may take to listen: it looks at its socket every 2 s, and it starts within seconds.
const LISTENS_MAX: Duration = Duration::from_secs(5);

/// How often that is looked at.
const LISTENS_POLL: Duration = Duration::from_millis(50);

/// How long a foreign daemon may take over one command. It may know no `error`, and then says nothing to a command that
/// it doesn't have.
const FOREIGN_ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long the connection to a daemon on this machine may take. It comes about at once, or the daemon accepts nobody.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A host answers `timeout` itself when a command runs past its limit. This much later nobody is there to say so.
const HOST_SILENT_MAX: Duration = Duration::from_secs(10);

impl Stream for UnixStream {
    fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)?;
        self.set_write_timeout(limit)
    }
}

impl Stream for TcpStream {
    fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)?;
        self.set_write_timeout(limit)
    }
}

impl Client<UnixStream> {
    /// Connects to the host of the session's home, and checks that it is that home's.
    ///
    /// A host that holds the home and doesn't listen is waited for: it starts, or makes its socket anew.
    ///
    /// # Errors
    /// `Fault::NoHost` if nobody holds the home, `Fault::NotListening` if its holder doesn't listen in time.
    pub(crate) fn control(session: &Session) -> Result<Self> {
        let began = Instant::now();
        let path = session.home.control_socket();
        let stream = loop {
            let connected = session.home.control_socket_short();
            match connected.and_then(|short| connect_within(short.path(), CONNECT_MAX)) {
                Ok(stream) => break stream,
                Err(error) if is_over_time(&error) => bail!(
                    "the host at {} accepts nobody within {} s; it may be stopped or overloaded",
                    path.display(),
                    CONNECT_MAX.as_secs()
                ),
                Err(error) if !means_nobody_listens(&error) => {
                    return Err(error).with_context(|| {
                        format!("cannot connect to the host at {}", path.display())
                    });
                }
                Err(_) => {}
            }
            match session.home.holder() {
                None => return Err(session.no_host().into()),
                Some(held) if began.elapsed() > LISTENS_MAX => {
                    return Err(Fault::NotListening { held, socket: path }.into());
                }
                Some(_) => thread::sleep(LISTENS_POLL),
            }
        };
        let mut client = Client::over(stream, Some(CONTROL_TAG), "the host".to_owned());
        client.answer_max = Some(CONTROL_ANSWER_MAX);
        client.greet(session)?;
        Ok(client)
    }

    /// Checks that the other side serves the home that is meant, and has it check the same.
    fn greet(&mut self, session: &Session) -> Result<()> {
        let home = &session.home.data;
        let look = || format!("cannot look at the home {}", home.display());
        let meant = session.home.id().with_context(look)?.to_string();
        let greeting: Greeting = self.ask("greet", &[&meant])?;
        if greeting.home != meant {
            bail!(
                "the host with pid {} serves the home {}, and not {}; nothing was done",
                greeting.pid,
                greeting.path.display(),
                home.display()
            );
        }
        Ok(())
    }

    /// From now on waits for events without a limit.
    pub(crate) fn wait_for_ever(&mut self) {
        self.deadline = None;
    }
}

impl Client<TcpStream> {
    /// Connects to the daemon `name` where it listens. Its host ends a command that takes too long; `answer_max` is when it
    /// does so, and a little later nobody is waited for. `None` where the host lets commands run for ever.
    pub(crate) fn daemon(
        name: &str,
        address: SocketAddr,
        answer_max: Option<Duration>,
    ) -> Result<Self> {
        let mut client = Self::connect(name, address)?;
        client.answer_max = answer_max.map(|limit| limit.saturating_add(HOST_SILENT_MAX));
        Ok(client)
    }

    fn connect(name: &str, address: SocketAddr) -> Result<Self> {
        let stream = match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Err(error) if means_nobody_listens(&error) => {
                return Err(not_listening(name, address).into());
            }
            Ok(stream) if is_to_itself(&stream) => {
                return Err(not_listening(name, address).into());
            }
            result => result.with_context(|| format!("cannot connect to {name} at {address}"))?,
        };
        stream.set_nodelay(true)?;
        Ok(Client::over(stream, None, name.to_owned()))
    }

    /// The same to a foreign daemon, whose replies are not waited for without a limit.
    pub(crate) fn foreign(name: &str, address: SocketAddr) -> Result<Self> {
        let mut client = Self::connect(name, address)?;
        client.answer_max = Some(FOREIGN_ANSWER_MAX);
        client.is_foreign = true;
        Ok(client)
    }

    /// Sets how long an answer is waited for, whoever the daemon is.
    pub(crate) fn wait_at_most(&mut self, limit: Duration) {
        self.answer_max = Some(limit);
    }
}

/// Connects to a Unix socket. Its listener may accept nobody, and then the plain call waits without end.
fn connect_within(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// The host named the port, and the daemon has gone since.
fn not_listening(name: &str, address: SocketAddr) -> Fault {
    Fault::Refused {
        code: "not-running".to_owned(),
        message: format!("{name} does not listen at {address} any more"),
    }
}

/// No socket file, or one that a host left behind when it was killed.
fn means_nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_accepts_nobody_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let limit = Duration::from_millis(1);
        // Connections are kept, so that the listener's queue fills up.
        let mut kept = Vec::new();
        let error = loop {
            match connect_within(&path, limit) {
                Ok(stream) => kept.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }
}
