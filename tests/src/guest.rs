//! A guest for tests: one connection, bytes out, lines in, each with a limit.
//!
//! Blocking, because a test does one thing after another; what must happen at once, a test does with two guests.
//! What comes is read by [`Message`], strictly.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Fault, LIMIT, Message};

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// One connection to a daemon.
#[derive(Debug)]
pub struct Guest {
    stream: TcpStream,
    /// What came and was not yet taken; lines before `taken` are done with.
    bytes: Vec<u8>,
    taken: usize,
}

impl Guest {
    /// Connects to a port of the loopback address.
    ///
    /// # Panics
    /// When nobody listens there.
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

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the daemon has closed, or takes nothing for [`LIMIT`].
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the daemon takes our bytes");
    }

    /// Says that no more will come.
    ///
    /// # Panics
    /// When the connection is gone.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("a connection that stands");
    }

    /// The next line, without its LF.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`], or the daemon closes.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.line_within(LIMIT)
            .unwrap_or_else(|| panic!("the daemon closed the connection; a line was expected"))
    }

    /// The next line, read.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`], or it is no message.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        Message::read(&self.line())
    }

    /// The next line; `None` if the daemon has closed the connection.
    ///
    /// # Panics
    /// When neither comes within `limit`, or the connection ends within a line.
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

    /// Sends one command and returns what the `name` line after it says; events in between are dropped.
    ///
    /// # Errors
    /// For an `error` line in the reply's place.
    ///
    /// # Panics
    /// When no reply comes within [`LIMIT`].
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

    /// As [`Guest::try_ask`], where an error fails the test.
    ///
    /// # Panics
    /// When the answer is an error, or none comes.
    #[track_caller]
    pub fn ask(&mut self, name: &str, arguments: &Value) -> Value {
        self.try_ask(name, arguments)
            .unwrap_or_else(|fault| panic!("{name} {arguments} was answered {fault:?}"))
    }

    /// The error that a command is answered with.
    ///
    /// # Panics
    /// When the command succeeds.
    #[track_caller]
    pub fn ask_in_vain(&mut self, name: &str, arguments: &Value) -> Fault {
        match self.try_ask(name, arguments) {
            Err(fault) => fault,
            Ok(value) => panic!("{name} {arguments} was answered {value}; an error was expected"),
        }
    }

    /// The next line is this one, compared as (name, tag, JSON value).
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.message(), Message::read(line));
    }

    /// The daemon closes the connection, with no line before that.
    ///
    /// # Panics
    /// When a line comes, or neither within [`LIMIT`].
    #[track_caller]
    pub fn expect_closed(&mut self) {
        assert_eq!(
            self.line_within(LIMIT),
            None,
            "the connection should be closed"
        );
    }

    /// The daemon still listens to this connection and answers it.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        let credential = self.ask("dae", &json!([]));
        assert!(credential["name"].is_string(), "{credential}");
    }

    /// The socket itself, for what this type has no word for.
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

    /// Before a read, never during a search: what was taken must not pile up over a long connection.
    fn compact(&mut self) {
        if self.taken >= READ_BYTES {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    fn rest(&self) -> String {
        String::from_utf8_lossy(&self.bytes[self.taken..]).into_owned()
    }

    /// How many bytes came; 0 when the daemon has closed, `None` when nothing came before the deadline.
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
            // A daemon that closes while bytes of ours wait for it resets the connection; for us it has closed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(0),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            // A signal to the test, or a machine that was paused.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read(deadline),
            Err(error) => panic!("reading from the daemon: {error}"),
        }
    }
}
