//! A guest of one line at a time: how the command line talks to a host and to daemons.
//!
//! Blocking and without a runtime, since a command has one thing to wait for. The same client speaks on the control
//! socket and on a daemon's TCP port; the grammar is `dae_common_tcp`'s, so that no line is understood in two ways.
//!
//! On the control socket calls are tagged, because events come in between. A daemon is called without a tag: one call
//! is under way at a time, and a daemon written by somebody else may know no tags. Absent: pipelining, reconnecting.
//!
//! Errors: [`Fault::NoHost`] when nobody holds the home, [`Fault::NotListening`] when its holder can't be reached, [`Fault::Refused`] for an `error` line, and a text for
//! everything that breaks the protocol or the connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use dae_common_tcp::{Inbox, write_message};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Session;
use super::exit::Fault;
use super::incoming::{Arguments, Incoming, Refusal, array, one};
use crate::report::Greeting;
use crate::self_connection::is_to_itself;

/// The longest reply taken in. Far above the protocol's own limit for a line, since `logs -n` of a busy home is one
/// line; it is here so that a peer which never ends its line cannot take all memory.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Read at once; more than any usual reply.
const READ_BYTES: usize = 16 << 10;

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

/// The tag of every control call; one is enough, since one call is under way at a time.
const CONTROL_TAG: &str = "cli";

/// One connection, one call at a time.
#[derive(Debug)]
pub(super) struct Client<S> {
    stream: S,
    inbox: Inbox,
    tag: Option<&'static str>,
    /// Whom an error message is about: "the host" or a daemon's name.
    peer: String,
    /// An `error` that answers no call of ours: the reason, if the connection closes next.
    parting: Option<String>,
    /// How long an answer may take, whatever else comes meanwhile.
    answer_max: Duration,
}

impl Client<UnixStream> {
    /// Connects to the host of the session's home, and checks that it is that home's.
    ///
    /// A host that holds the home and doesn't listen is waited for: it starts, or makes its socket anew.
    ///
    /// # Errors
    /// `Fault::NoHost` if nobody holds the home, `Fault::NotListening` if its holder doesn't listen in time.
    pub(super) fn control(session: &Session) -> Result<Self> {
        let began = Instant::now();
        let path = session.home.control_socket();
        let stream = loop {
            let connected = session.home.control_socket_short();
            match connected.and_then(|short| UnixStream::connect(short.path())) {
                Ok(stream) => break stream,
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
        stream.set_read_timeout(Some(CONTROL_ANSWER_MAX))?;
        let mut client = Client::over(stream, Some(CONTROL_TAG), "the host".to_owned());
        client.answer_max = CONTROL_ANSWER_MAX;
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
    pub(super) fn wait_for_ever(&mut self) -> Result<()> {
        Ok(self.stream.set_read_timeout(None)?)
    }
}

impl Client<TcpStream> {
    /// Connects to the daemon `name` where it listens. Its replies are waited for without a limit: how long a command may
    /// take is between the daemon and its host.
    pub(super) fn daemon(name: &str, address: SocketAddr) -> Result<Self> {
        let stream = match TcpStream::connect(address) {
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
    pub(super) fn foreign(name: &str, address: SocketAddr) -> Result<Self> {
        let mut client = Self::daemon(name, address)?;
        client.stream.set_read_timeout(Some(FOREIGN_ANSWER_MAX))?;
        client.answer_max = FOREIGN_ANSWER_MAX;
        Ok(client)
    }
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

impl<S: Read + Write> Client<S> {
    fn over(stream: S, tag: Option<&'static str>, peer: String) -> Self {
        let inbox = Inbox::connecting(REPLY_BYTES_MAX);
        Client {
            stream,
            inbox,
            tag,
            peer,
            parting: None,
            answer_max: Duration::MAX,
        }
    }

    /// Sends one command and waits for its result: `arguments` is a JSON array; `null` stands for a command that
    /// returns nothing.
    pub(super) fn call(&mut self, name: &str, arguments: &impl Serialize) -> Result<Box<RawValue>> {
        let mut line = Vec::new();
        write_message(&mut line, name, self.tag, &serde_json::to_vec(arguments)?);
        // A peer that refuses us may have closed already: then what it said last is worth more than our write error.
        let sent = self.stream.write_all(&line);
        let reply = self.reply(name);
        match sent {
            Ok(()) => one(reply?),
            Err(error) => {
                let unsent = || format!("cannot send {name} to {}: {error}", self.peer);
                one(reply.with_context(unsent)?)
            }
        }
    }

    /// As [`Client::call`], with the result read into a type.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        name: &str,
        arguments: &impl Serialize,
    ) -> Result<T> {
        let result = self.call(name, arguments)?;
        serde_json::from_str(result.get()).with_context(|| {
            format!(
                "{} answered {name} with something else than expected: {}",
                self.peer,
                result.get()
            )
        })
    }

    /// The next line of that name that answers nothing; `None` when the peer has closed.
    pub(super) fn event(&mut self, name: &str) -> Result<Option<Arguments>> {
        while let Some(line) = self.line()? {
            if line.name == name {
                return Ok(Some(array(&line.arguments)?));
            }
        }
        Ok(None)
    }

    fn reply(&mut self, name: &str) -> Result<Arguments> {
        let begun = Instant::now();
        while let Some(line) = self.line()? {
            if begun.elapsed() > self.answer_max {
                return Err(self.no_answer());
            }
            let ours = line.tag.as_deref() == self.tag;
            if line.name == "error" {
                self.refusal(name, ours, &line)?;
            } else if line.name == name && ours && !line.asks_us() {
                return array(&line.arguments);
            } else if line.asks_us() {
                self.answer(&line)?;
            }
        }
        match self.parting.take() {
            Some(reason) => bail!("{} closed the connection: {reason}", self.peer),
            None => bail!(
                "{} closed the connection before it answered {name}",
                self.peer
            ),
        }
    }

    /// An error that is about our call ends it; another one is kept, as it may be why the connection closes.
    fn refusal(&mut self, name: &str, ours: bool, line: &Incoming) -> Result<()> {
        let arguments = array(&line.arguments)?;
        let text = arguments.first().map_or("null", |first| first.get());
        let refusal: Refusal = serde_json::from_str(text)
            .with_context(|| format!("{} sent an error that cannot be read: {text}", self.peer))?;
        if ours && refusal.command == name {
            return Err(self.fault(refusal).into());
        }
        self.parting = Some(format!("{} ({})", refusal.message, refusal.code));
        Ok(())
    }

    /// On the control socket the message says it all; a daemon's own words need the code beside them.
    fn fault(&self, refusal: Refusal) -> Fault {
        let Refusal {
            command,
            code,
            message,
        } = refusal;
        let message = match self.tag {
            Some(_) => message,
            None => format!("{} {command}: {message} ({code})", self.peer),
        };
        Fault::Refused { code, message }
    }

    /// Both sides of a connection answer `dae` and `options`; ours is short.
    fn answer(&mut self, line: &Incoming) -> Result<()> {
        let pid = std::process::id();
        let result = match line.name.as_str() {
            "dae" => format!(r#"[{{"name":"dae-host-guest","pid":{pid},"port":0}}]"#),
            _ => "[{}]".to_owned(),
        };
        let mut reply = Vec::new();
        write_message(
            &mut reply,
            &line.name,
            line.tag.as_deref(),
            result.as_bytes(),
        );
        Ok(self.stream.write_all(&reply)?)
    }

    /// The next line, however many reads it takes; `None` at the end of the stream.
    fn line(&mut self) -> Result<Option<Incoming>> {
        loop {
            if let Some(line) = self.inbox.next() {
                return Incoming::take(line, &self.peer).map(Some);
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    let last = self.inbox.finish();
                    return last
                        .map(|line| Incoming::take(line, &self.peer))
                        .transpose();
                }
                Ok(length) => self.inbox.room(length).extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_fault(error)),
            }
        }
    }

    fn read_fault(&self, error: io::Error) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.no_answer(),
            _ => anyhow!(error).context(format!("lost the connection to {}", self.peer)),
        }
    }

    fn no_answer(&self) -> anyhow::Error {
        let (peer, limit) = (&self.peer, self.answer_max.as_secs());
        match self.tag {
            Some(_) => {
                anyhow!("{peer} did not answer within {limit} s; it may be stopped or overloaded")
            }
            None => anyhow!(
                "{peer} did not answer within {limit} s; a foreign daemon may say nothing to a command that it doesn't \
                have: `dae-host options {peer}` shows those it has"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that has said all it will say, and keeps what it is told.
    struct Script {
        says: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            // Three bytes at a time: a line never comes in one piece.
            let length = bytes.len().min(3);
            self.says.read(&mut bytes[..length])
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn client(tag: Option<&'static str>, says: &str) -> Client<Script> {
        let says = io::Cursor::new(says.as_bytes().to_vec());
        Client::over(
            Script {
                says,
                heard: Vec::new(),
            },
            tag,
            "Sample".to_owned(),
        )
    }

    fn called(tag: Option<&'static str>, says: &str) -> Result<String> {
        let result = client(tag, says).call("add", &[1, 2])?;
        Ok(result.get().to_owned())
    }

    #[test]
    fn a_reply_is_the_line_of_the_same_name_and_tag() {
        let cases = [
            (None, "add [3]\n", "3"),
            (None, "tick [1]\nadd [3]\n", "3"),
            (Some("cli"), "add [1]\nadd#other [2]\nadd#cli [3]\n", "3"),
            (None, "add [1.50]\n", "1.50"),
            (None, "add []\n", "null"),
            (None, "add\n", "null"),
            (None, "add [1,2]\n", "[1,2]"),
            (None, "add [3]", "3"),
        ];
        for (tag, says, expected) in cases {
            assert_eq!(called(tag, says).expect(says), expected, "{says}");
        }
    }

    #[test]
    fn a_refusal_of_our_call_keeps_its_code() {
        let says = "error [{\"command\":\"add\",\"code\":\"bad-arguments\",\"message\":\"two are wanted\"}]\n";
        let error = called(None, says).expect_err("it was refused");
        assert!(
            matches!(error.downcast_ref(), Some(Fault::Refused { code, .. }) if code == "bad-arguments")
        );
        assert_eq!(
            error.to_string(),
            "Sample add: two are wanted (bad-arguments)"
        );
    }

    #[test]
    fn an_early_end_says_what_the_peer_said_last() {
        let says =
            "error [{\"command\":\"\",\"code\":\"too-many-guests\",\"message\":\"come later\"}]\n";
        let error = called(None, says).expect_err("it closed").to_string();
        assert!(error.contains("come later (too-many-guests)"), "{error}");
        let error = called(None, "").expect_err("it closed").to_string();
        assert!(error.contains("before it answered add"), "{error}");
    }

    #[test]
    fn a_question_in_between_is_answered() {
        let mut client = client(None, "dae\noptions#7\nadd [3]\n");
        client.call("add", &[1, 2]).expect("the reply came last");
        let heard = String::from_utf8(client.stream.heard).expect("UTF-8");
        assert!(
            heard.starts_with("add [1,2]\ndae [{\"name\":\"dae-host-guest\""),
            "{heard}"
        );
        assert!(heard.ends_with("options#7 [{}]\n"), "{heard}");
    }

    #[test]
    fn a_foreign_daemon_that_says_other_things_for_ever_is_not_waited_for() {
        let mut client = client(None, "tick [1]\ntick [2]\n");
        client.answer_max = Duration::ZERO;
        let error = client.call("nothing", &[0]).expect_err("it never answers");
        let told = error.to_string();
        assert!(told.contains("`dae-host options Sample`"), "{told}");
    }

    #[test]
    fn events_follow_a_reply_until_the_end() {
        let mut client = client(Some("cli"), "logs#cli [[]]\nlog [1]\nother [0]\nlog [2]\n");
        client.call("logs", &[0]).expect("the reply");
        let mut seen = Vec::new();
        while let Some(arguments) = client.event("log").expect("a line") {
            seen.push(arguments[0].get().to_owned());
        }
        assert_eq!(seen, ["1", "2"]);
    }
}
