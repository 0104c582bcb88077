//! The command line as a guest of one daemon: its address, connections to it, and its own description.
//!
//! The host knows the address. `help` is a courtesy of this program's hosts: a foreign daemon may know no `help`, may
//! not answer it at all, or may close the connection. It is therefore asked on a connection of its own, and no failure
//! there counts.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::value::RawValue;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::incoming::Refusal;
use dae_store::report::Status;

/// The longest wait for a foreign daemon's description. It is for convenience only, and the command itself still waits
/// its own time.
const FOREIGN_HELP_MAX: Duration = Duration::from_secs(2);

/// The address of a daemon.
#[derive(Debug)]
pub(super) struct DaemonAddress {
    pub(super) name: String,
    address: SocketAddr,
    pub(super) is_foreign: bool,
    /// The name by which the bridge at the address knows it, for a daemon of another host.
    remote: Option<String>,
    /// The limit at which its host ends a command; `None` for no limit.
    answer_max: Option<Duration>,
}

impl DaemonAddress {
    /// Asks the host for the address of the daemon `name`.
    pub(super) fn find(session: &Session, name: &str) -> Result<Self> {
        // By its port and not by its credential: a daemon that is being restarted has no credential, but its port is open,
        // and a command waits there for the next instance.
        let mut host = Client::control(session)?;
        let mut status: Status = host.ask("status", &[name])?;
        let remote = status.provider.clone().map(|_| name.to_owned());
        if let Some(provider) = status.provider {
            status = host.ask("status", &[&provider])?;
        }
        match status.port {
            _ if status.state == "impostor" => Err(Fault::Refused {
                code: "impostor".to_owned(),
                message: format!("{name} is an impostor: {}", status.reason),
            }
            .into()),
            Some(port) => Ok(DaemonAddress {
                name: name.to_owned(),
                address: address(&status, port),
                is_foreign: status.foreign,
                remote,
                answer_max: status.answer_ms.map(Duration::from_millis),
            }),
            None => Err(not_running(session, &status).into()),
        }
    }

    /// Refuses a daemon of another host, which gives no conversation and no events.
    pub(super) fn check_here(&self, command: &str) -> Result<()> {
        match &self.remote {
            None => Ok(()),
            Some(name) => Err(Fault::Refused {
                code: "failed".to_owned(),
                message: format!(
                    "{name} is a daemon of another host, and {command} is for those of this one; `call` runs its commands"
                ),
            }
            .into()),
        }
    }

    /// Connects to the daemon.
    pub(super) fn connect(&self) -> Result<Client<TcpStream>> {
        match self.is_foreign {
            true => Client::foreign(&self.name, self.address),
            false => {
                let mut client = Client::daemon(&self.name, self.address, self.answer_max)?;
                if let Some(remote) = &self.remote {
                    client.call_through_bridge(remote);
                }
                Ok(client)
            }
        }
    }

    /// Asks the daemon to describe its commands, or with a name in `arguments` one of them. `client` is connected to
    /// it. Returns `None` if the daemon can't.
    pub(super) fn help(
        &self,
        client: &mut Client<TcpStream>,
        arguments: &[&str],
    ) -> Result<Option<Box<RawValue>>> {
        if self.is_foreign {
            return Ok(self.foreign("help", arguments));
        }
        match client.call("help", &arguments) {
            Ok(answer) => Ok(Some(answer)),
            // It is the name in the arguments that is unknown, or the host is older.
            Err(error) if is_refused(&error) => Ok(None),
            Err(error) => Err(error)
                .with_context(|| format!("cannot ask {} to describe its commands", self.name)),
        }
    }

    /// Asks the daemon for the names of its commands. Returns `None` if it can't list them.
    pub(super) fn options(&self, client: &mut Client<TcpStream>) -> Option<Box<RawValue>> {
        match self.is_foreign {
            true => self.foreign("options", &[]),
            false => client.call("options", &[(); 0]).ok(),
        }
    }

    /// Calls a command on a connection of its own.
    fn foreign(&self, command: &str, arguments: &[&str]) -> Option<Box<RawValue>> {
        let mut client = self.connect().ok()?;
        client.wait_at_most(FOREIGN_HELP_MAX);
        client.call_or_silence(command, &arguments).ok()?
    }
}

/// Returns the address of a daemon that the host describes.
pub(super) fn address(status: &Status, port: u16) -> SocketAddr {
    let ip = status.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    SocketAddr::new(ip, port)
}

/// Returns whether the daemon has answered that it knows no such command, or takes no such argument.
fn is_refused(error: &anyhow::Error) -> bool {
    let Some(Fault::Answered { error, .. }) = error.downcast_ref() else {
        return false;
    };
    let refusal: Result<Refusal, _> = serde_json::from_str(error);
    refusal
        .is_ok_and(|refusal| matches!(refusal.code.as_str(), "unknown-command" | "bad-arguments"))
}

fn not_running(session: &Session, status: &Status) -> Fault {
    let Status {
        name,
        state,
        reason,
        ..
    } = status;
    let why = match reason.is_empty() {
        true => String::new(),
        false => format!(" ({reason})"),
    };
    let command = |what: &str| session.command_line(&format!("{what} {name}"));
    let message = match state.as_str() {
        "stopped" | "failed" | "finished" => {
            format!("{name} is {state}{why}; `{}` starts it", command("start"))
        }
        // Its state is still that of before.
        _ => format!(
            "{name} has no port now, since it is just being started or stopped; `{}` shows what comes of it",
            command("status")
        ),
    };
    Fault::Refused {
        code: "not-running".to_owned(),
        message,
    }
}
