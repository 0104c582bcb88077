//! A server of NATS for the tests of the plugin Fleet: the real one, on a port of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::artefacts::target_directory;
use crate::{LIMIT, free_port, process, program, until};
use rustix::process::Signal;

/// A running server, which is killed when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts a server with these arguments. Returns `None`, with a message, if this machine has no server; under CI that
    /// is a failure.
    ///
    /// # Panics
    /// Panics if the server doesn't listen in time, or there is none under CI.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let program = directory().join("nats-server");
        if !program.is_file() {
            let text = "there is no server of NATS; `.ci/nats` fetches one";
            assert!(std::env::var_os("CI").is_none(), "{text}");
            eprintln!("SKIPPED: {text}");
            return None;
        }
        let mut server = NatsServer {
            program,
            port: free_port(),
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            child: None,
        };
        server.wake();
        Some(server)
    }

    /// Returns the address for the config of a fleet.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server on its port, after [`NatsServer::kill`].
    ///
    /// # Panics
    /// Panics if it doesn't listen in time.
    pub fn wake(&mut self) {
        let mut command = Command::new(&self.program);
        let port = self.port.to_string();
        command
            .args(["--addr", "127.0.0.1", "--port", &port])
            .args(&self.arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("the server can be run"));
        until(LIMIT, "the server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Kills the server. Its clients see their connections end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal(child.id(), Signal::KILL);
            program::ends_within(&mut child, LIMIT);
        }
    }

    /// Stops the server, which then neither answers nor ends, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        let signal = if is_frozen {
            Signal::STOP
        } else {
            Signal::CONT
        };
        self.child
            .iter()
            .for_each(|child| process::signal(child.id(), signal));
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.freeze(false);
        self.kill();
    }
}

/// Returns the directory of the server and of its client for Python.
#[must_use]
pub fn directory() -> PathBuf {
    std::env::var_os("DAE_NATS_DIR").map_or_else(|| target_directory().join("nats"), PathBuf::from)
}
