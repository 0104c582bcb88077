//! A guest for tests: a connection that sends bytes and receives lines, each within a limit.
//!
//! It blocks, because a test does one thing at a time. A test that needs two things at once uses two guests.
//! [`Message`] parses the received lines strictly.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Fault, LIMIT, Message};

/// The size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Guest {
    stream: TcpStream,
    /// The received bytes. Those before `taken` have been returned as lines.
    bytes: Vec<u8>,
    taken: usize,
}

impl Guest {
    /// Connects to a port of the loopback address.
    ///
    /// # Panics
    /// Panics if nothing listens there.
    #[track_caller]
    #[must_use]
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|error| panic!("cannot connect to port {port}: {error}"));
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_write_timeout(Some(LIMIT))
            .expect("a socket option");
        Guest {
            stream,
            bytes: Vec::new(),
            taken: 0,
        }
    }

    /// Sends bytes unchanged.
    ///
    /// # Panics
    /// Panics if the daemon has closed the connection, or accepts no bytes for [`LIMIT`].
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the daemon takes our bytes");
    }

    /// Closes the sending direction of the connection.
    ///
    /// # Panics
    /// Panics if the connection is closed.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("a connection that stands");
    }

    /// Returns the next line, without its LF.
    ///
    /// # Panics
    /// Panics if no line comes within [`LIMIT`], or the daemon closes the connection.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.line_within(LIMIT)
            .unwrap_or_else(|| panic!("the daemon closed the connection; a line was expected"))
    }

    /// Returns the next line as a message.
    ///
    /// # Panics
    /// Panics if no line comes within [`LIMIT`], or the line is not a message.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        Message::read(&self.line())
    }

    /// Returns the next line, or `None` if the daemon has closed the connection.
    ///
    /// # Panics
    /// Panics if neither happens within `limit`, or if the connection ends inside a line.
    #[track_caller]
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        self.compact();
        let mut searched = self.taken;
        loop {
            if let Some(length) = self.bytes[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                return Some(self.take(searched + length));
            }
            searched = self.bytes.len();
            let came = self.read(deadline);
            assert!(
                came.is_some(),
                "no line within {limit:?}; so far: {:?}",
                self.rest()
            );
            if came == Some(0) {
                assert!(
                    self.rest().is_empty(),
                    "the connection ended within a line: {:?}",
                    self.rest()
                );
                return None;
            }
        }
    }

    /// Sends one command and returns the value of the next `name` line. Events in between are dropped.
    ///
    /// # Errors
    /// Returns the content of an `error` line that comes instead of the reply.
    ///
    /// # Panics
    /// Panics if no reply comes within [`LIMIT`].
    #[track_caller]
    pub fn try_ask(&mut self, name: &str, arguments: &Value) -> Result<Value, Fault> {
        self.send(format!("{name} {arguments}\n"));
        loop {
            let message = self.message();
            if message.name == name || message.name == "error" {
                return message.result();
            }
        }
    }

    /// Does the same as [`Guest::try_ask`], but an error fails the test.
    ///
    /// # Panics
    /// Panics if the answer is an error, or no answer comes.
    #[track_caller]
    pub fn ask(&mut self, name: &str, arguments: &Value) -> Value {
        self.try_ask(name, arguments)
            .unwrap_or_else(|fault| panic!("{name} {arguments} was answered {fault:?}"))
    }

    /// Sends a command that must fail, and returns its error.
    ///
    /// # Panics
    /// Panics if the command succeeds.
    #[track_caller]
    pub fn ask_in_vain(&mut self, name: &str, arguments: &Value) -> Fault {
        match self.try_ask(name, arguments) {
            Err(fault) => fault,
            Ok(value) => panic!("{name} {arguments} was answered {value}; an error was expected"),
        }
    }

    /// Expects that the next line equals the given one, compared as (name, tag, JSON value).
    ///
    /// # Panics
    /// Panics if the lines differ.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.message(), Message::read(line));
    }

    /// Expects that the daemon closes the connection without sending another line.
    ///
    /// # Panics
    /// Panics if a line comes, or if neither happens within [`LIMIT`].
    #[track_caller]
    pub fn expect_closed(&mut self) {
        assert_eq!(
            self.line_within(LIMIT),
            None,
            "the connection should be closed"
        );
    }

    /// Expects that the daemon still answers on this connection.
    ///
    /// # Panics
    /// Panics if it does not answer.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        let credential = self.ask("dae", &json!([]));
        assert!(credential["name"].is_string(), "{credential}");
    }

    /// Returns the socket, for operations that this type does not offer.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn take(&mut self, end: usize) -> String {
        let line = std::str::from_utf8(&self.bytes[self.taken..end])
            .expect("what the daemon sends is UTF-8")
            .to_owned();
        self.taken = end + 1;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
        line
    }

    /// Removes returned lines before a read, never during a search, so that they do not pile up on a long connection.
    fn compact(&mut self) {
        if self.taken >= READ_BYTES {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    fn rest(&self) -> String {
        String::from_utf8_lossy(&self.bytes[self.taken..]).into_owned()
    }

    /// Returns the number of bytes read: 0 if the daemon has closed the connection, `None` if nothing came in time.
    fn read(&mut self, deadline: Instant) -> Option<usize> {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        self.stream
            .set_read_timeout(Some(left))
            .expect("a socket option");
        let length = self.bytes.len();
        self.bytes.resize(length + READ_BYTES, 0);
        let came = self.stream.read(&mut self.bytes[length..]);
        self.bytes
            .truncate(length + came.as_ref().copied().unwrap_or(0));
        match came {
            Ok(count) => Some(count),
            // A daemon that closes while it has unread bytes resets the connection. That also counts as closed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(0),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            // The test received a signal, or the machine was suspended.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read(deadline),
            Err(error) => panic!("reading from the daemon: {error}"),
        }
    }
}
