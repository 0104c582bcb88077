//! Connections to the host of a home, to one of its daemons, and to a foreign daemon.
//!
//! Each kind has its own limits for connecting and for one answer. None waits without end for a peer that is stopped,
//! unless the owner of a host lets commands run without a limit.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::super::Session;
use super::super::exit::Fault;
use super::{CONTROL_TAG, Client, Stream, is_over_time};
use dae_runtime::os::control_client::ControlClient;
use dae_runtime::peers::reset::reset_at_close;
use dae_runtime::peers::self_connection::is_to_itself;
use dae_store::atomic_file::DiskFault;
use dae_store::report::Greeting;

/// The longest time for one control command. The slowest is an install: 10 s for a daemon's `start`, 5 s of grace for
/// the daemon that it replaces, and the time for the disk.
const CONTROL_ANSWER_MAX: Duration = Duration::from_secs(60);

/// The longest wait for a host that holds the home to listen: it checks its socket every 2 s, and starts within
/// seconds.
const LISTENS_MAX: Duration = Duration::from_secs(5);

/// The interval for trying to connect again.
const LISTENS_POLL: Duration = Duration::from_millis(50);

/// The longest time for one command of a foreign daemon. Such a daemon may not support `error`, and then doesn't answer
/// an unknown command.
const FOREIGN_ANSWER_MAX: Duration = Duration::from_secs(30);

/// The longest time for connecting on this machine. A connection succeeds at once, or the daemon accepts none.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The extra time after a command's limit. A host answers `timeout` itself when a command exceeds its limit; if that
/// answer is so late, the host doesn't respond.
const HOST_SILENT_MAX: Duration = Duration::from_secs(10);

impl Stream for ControlClient {
    fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        ControlClient::limit(self, limit)
    }
}

impl Stream for TcpStream {
    fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)?;
        self.set_write_timeout(limit)
    }
}

impl Client<ControlClient> {
    /// Connects to the host of the session's home, and checks that it serves that home.
    ///
    /// Waits for a host that holds the home but doesn't listen: it is starting, or recreating its socket.
    ///
    /// # Errors
    /// `Fault::NoHost` if no process holds the home, `Fault::NotListening` if its holder doesn't listen in time.
    pub(crate) fn control(session: &Session) -> Result<Self> {
        let began = Instant::now();
        let path = session.home.control_socket();
        let stream = loop {
            match ControlClient::connect(&session.home, CONNECT_MAX) {
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

    /// Checks that the other side serves the intended home, and has it check the same.
    fn greet(&mut self, session: &Session) -> Result<()> {
        let home = &session.home.data;
        let meant = session.home.id();
        let meant = meant.map_err(|e| DiskFault::new(&e, "look at the home", home))?;
        let meant = meant.to_string();
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

    /// Removes the limit, to wait for events.
    pub(crate) fn wait_for_ever(&mut self) {
        self.deadline = None;
    }
}

impl Client<TcpStream> {
    /// Connects to the address of the daemon `name`. `answer_max` is the limit at which its host ends a command; the
    /// client waits a little longer. `None` if the host sets no limit.
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

    /// Connects to a foreign daemon, which always gets a limit for its answers.
    pub(crate) fn foreign(name: &str, address: SocketAddr) -> Result<Self> {
        let mut client = Self::connect(name, address)?;
        client.answer_max = Some(FOREIGN_ANSWER_MAX);
        client.is_foreign = true;
        Ok(client)
    }

    /// Returns the connection itself, before anything was sent on it.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Returns another handle of the connection. `None` if the system has none left.
    pub(crate) fn handle(&self) -> Option<TcpStream> {
        self.stream.try_clone().ok()
    }

    /// Makes the end of the connection cancel the command that runs on it.
    pub(crate) fn reset_at_close(&self) {
        reset_at_close(&self.stream);
    }

    /// Sets the limit for an answer, for any daemon.
    pub(crate) fn wait_at_most(&mut self, limit: Duration) {
        self.answer_max = Some(limit);
    }
}

/// Returns the fault for a daemon that has gone since the host named its port.
fn not_listening(name: &str, address: SocketAddr) -> Fault {
    Fault::Refused {
        code: "not-running".to_owned(),
        message: format!(
            "{name} does not listen at {address} any more, since it was stopped or moved just now; `dae-host status {name}` shows it"
        ),
    }
}

/// Returns whether there is no socket file, or only one left by a killed host.
fn means_nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
