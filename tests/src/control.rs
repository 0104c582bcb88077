//! A direct connection to the control socket, for tests that send commands faster than programs start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::{Ecosystem, Fault, LIMIT, Message};

/// A connection to a host's control socket.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Ecosystem {
    /// Connects to the host's control socket.
    ///
    /// # Panics
    /// Panics if there is no socket, or nothing listens on it.
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
    /// Sends a command without waiting for its reply.
    ///
    /// # Panics
    /// Panics if the host has ended.
    #[track_caller]
    pub fn send(&mut self, command: &str, argument: &Value) {
        let line = format!("{command} [{argument}]\n");
        let sent = self.stream.write_all(line.as_bytes());
        sent.expect("the host takes our bytes");
    }

    /// Returns the next reply.
    ///
    /// # Errors
    /// Returns the content of an `error` line.
    ///
    /// # Panics
    /// Panics if no reply comes within [`LIMIT`].
    #[track_caller]
    pub fn reply(&mut self) -> Result<Value, Fault> {
        let mut line = String::new();
        let read = self.replies.read_line(&mut line);
        read.expect("a reply in time");
        Message::read(line.trim_end()).result()
    }

    /// Sends a command without an argument, and waits for its reply.
    ///
    /// # Errors
    /// Returns the content of an `error` line.
    ///
    /// # Panics
    /// Panics if no reply comes within [`LIMIT`].
    #[track_caller]
    pub fn ask_plainly(&mut self, command: &str) -> Result<Value, Fault> {
        let sent = self.stream.write_all(format!("{command}\n").as_bytes());
        sent.expect("the host takes our bytes");
        self.reply()
    }

    /// Sets the longest wait for a reply, in place of [`LIMIT`].
    ///
    /// # Panics
    /// Panics if the socket is closed.
    pub fn be_patient(&mut self, limit: Duration) {
        let limited = self.stream.set_read_timeout(Some(limit));
        limited.expect("a socket option");
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// Returns the content of an `error` line.
    ///
    /// # Panics
    /// Panics if no reply comes within [`LIMIT`].
    #[track_caller]
    pub fn ask(&mut self, command: &str, argument: &Value) -> Result<Value, Fault> {
        self.send(command, argument);
        self.reply()
    }
}
