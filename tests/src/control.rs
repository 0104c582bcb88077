//! The control socket, spoken to directly: for a test that asks more often than a program can be started.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::{Ecosystem, Fault, LIMIT, Message};

/// One connection to a host's control socket.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Ecosystem {
    /// Connects to the host's control socket.
    ///
    /// # Panics
    /// When there is none, or nobody listens.
    #[track_caller]
    #[must_use]
    pub fn control(&self) -> Control {
        let sockets = self.sockets();
        let path = sockets.first().expect("a host that runs has a socket");
        let stream = UnixStream::connect(path).expect("the host listens");
        let limited = stream.set_read_timeout(Some(LIMIT));
        limited.expect("a socket option");
        Control {
            replies: BufReader::new(stream.try_clone().expect("a descriptor")),
            stream,
        }
    }
}

impl Control {
    /// Sends a command, and doesn't wait for its reply.
    ///
    /// # Panics
    /// When the host has gone.
    #[track_caller]
    pub fn send(&mut self, command: &str, argument: &Value) {
        let line = format!("{command} [{argument}]\n");
        let sent = self.stream.write_all(line.as_bytes());
        sent.expect("the host takes our bytes");
    }

    /// The next reply.
    ///
    /// # Errors
    /// What the host said instead.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`].
    #[track_caller]
    pub fn reply(&mut self) -> Result<Value, Fault> {
        let mut line = String::new();
        let read = self.replies.read_line(&mut line);
        read.expect("a reply in time");
        Message::read(line.trim_end()).result()
    }

    /// Sends a command that takes no argument, and waits for its reply.
    ///
    /// # Errors
    /// What the host said instead.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`].
    #[track_caller]
    pub fn ask_plainly(&mut self, command: &str) -> Result<Value, Fault> {
        let sent = self.stream.write_all(format!("{command}\n").as_bytes());
        sent.expect("the host takes our bytes");
        self.reply()
    }

    /// Waits for replies as long as this from now on.
    ///
    /// # Panics
    /// When the socket is gone.
    pub fn be_patient(&mut self, limit: Duration) {
        let limited = self.stream.set_read_timeout(Some(limit));
        limited.expect("a socket option");
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// What the host said instead.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`].
    #[track_caller]
    pub fn ask(&mut self, command: &str, argument: &Value) -> Result<Value, Fault> {
        self.send(command, argument);
        self.reply()
    }
}
