//! A blocking client with one call at a time, for the connections of the command line to a host and to daemons.
//!
//! It needs no async runtime, since a command has one thing to wait for. The same client serves the control socket and
//! a daemon's TCP port. It parses lines with `dae_common_tcp`, so that both sides read each line alike.
//!
//! On the control socket calls are tagged, because events come in between. So are calls whose reply may come in parts. All
//! others are untagged: one call is under way at a time, and a daemon by another author may not support tags. Absent:
//! pipelining, reconnecting.
//!
//! Errors: [`Fault::NoHost`] if no process holds the home, [`Fault::NotListening`] if its holder can't be reached,
//! [`Fault::Refused`] for an `error` line of a host, [`Fault::Answered`] for one of a daemon, and a text for every breach of the protocol and every loss of the
//! connection.

mod connect;
mod events;
mod parts;
mod remote;

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use dae_common_tcp::{Inbox, TraceParent, write_message, write_trace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use events::DuringCall;
pub(super) use parts::ReplyPart;
use parts::TakePart;
use remote::RemoteDaemon;

use super::exit::Fault;
use super::incoming::{Arguments, Incoming, Refusal, answer, array, one};

/// The longest reply that is read (bytes). It is far above the protocol's limit for a line, since `logs -n` of a busy
/// home is one line. It keeps a peer that never ends its line from taking all memory.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// The size of one read (bytes); more than any usual reply.
const READ_BYTES: usize = 16 << 10;

/// The tag of every control call. One is enough, since one call is under way at a time.
const CONTROL_TAG: &str = "cli";

/// The command that every daemon answers. Replies come in the order of the commands, so its own follows all before it.
const FENCE: &str = "dae";

/// A connection with one call at a time.
#[derive(Debug)]
pub(super) struct Client<S> {
    stream: S,
    inbox: Inbox,
    tag: Option<&'static str>,
    /// The peer's name in error messages: "the host" or a daemon's name.
    peer: String,
    /// True if the peer may be of another make, which may not answer at all.
    is_foreign: bool,
    /// The daemon of another host that the calls are for, if the peer is its bridge.
    remote: Option<RemoteDaemon>,
    /// The text of an `error` that answers no call: the reason, if the connection closes next.
    parting: Option<String>,
    /// The limit for sending a call and receiving its answer together, whatever else comes meanwhile; `None` for none.
    answer_max: Option<Duration>,
    /// The end of the current wait.
    deadline: Option<Instant>,
    /// The fate of the events that come during a call.
    during_call: DuringCall,
    /// The trace of the next call.
    trace: Option<TraceParent>,
}

/// The result of a limited wait for an event.
pub(super) enum EventWait {
    /// The event's arguments.
    Event(Arguments),
    /// None has come in time.
    None,
    /// The peer has closed the connection.
    Closed,
}

/// A stream whose reads and writes can have a time limit.
pub(super) trait Stream: Read + Write {
    /// Sets the limit of each read and write; `None` for none.
    fn limit(&self, limit: Option<Duration>) -> io::Result<()>;
}

fn is_over_time(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The end of a wait for a reply, and the receiver of what comes before it.
struct Until<'w> {
    /// A command whose reply shows that there will be none to the call before it.
    fence: Option<&'w str>,
    take: TakePart<'w>,
}

impl<S: Stream> Client<S> {
    fn over(stream: S, tag: Option<&'static str>, peer: String) -> Self {
        let inbox = Inbox::connecting(REPLY_BYTES_MAX);
        Client {
            stream,
            inbox,
            tag,
            peer,
            is_foreign: false,
            remote: None,
            parting: None,
            answer_max: None,
            deadline: None,
            during_call: DuringCall::default(),
            trace: None,
        }
    }

    /// Sends one command and waits for its result. `arguments` is serialized to a JSON array. The result is `null` for
    /// a command that returns nothing.
    pub(super) fn call(&mut self, name: &str, arguments: &impl Serialize) -> Result<Box<RawValue>> {
        let mut line = Vec::new();
        self.write_call(&mut line, name, arguments)?;
        let take = &mut |_| Ok(());
        // Without a fence only a reply ends the exchange well.
        let reply = self.exchange(name, &line, Until { fence: None, take })?;
        one(reply.unwrap_or_default())
    }

    /// Lets the next call belong to that trace.
    pub(super) fn trace_next(&mut self, parent: TraceParent) {
        self.trace = Some(parent);
    }

    fn write_call(
        &mut self,
        line: &mut Vec<u8>,
        name: &str,
        arguments: &impl Serialize,
    ) -> Result<()> {
        if let Some(parent) = self.trace.take() {
            write_trace(line, &parent);
        }
        let arguments = serde_json::to_vec(arguments)?;
        match &mut self.remote {
            Some(remote) => {
                let wrapped = remote.wrapped(name, &arguments);
                write_message(line, remote::COMMAND, self.tag, wrapped.as_bytes());
            }
            None => write_message(line, name, self.tag, &arguments),
        }
        Ok(())
    }

    /// Does the same as [`Client::call`] for a daemon that may not answer an unknown command. Sends `dae` behind the
    /// command, which every daemon answers, and in order. Returns `None` if the answer to `dae` comes first.
    pub(super) fn call_or_silence(
        &mut self,
        name: &str,
        arguments: &impl Serialize,
    ) -> Result<Option<Box<RawValue>>> {
        let mut lines = Vec::new();
        self.write_call(&mut lines, name, arguments)?;
        lines.extend_from_slice(FENCE.as_bytes());
        lines.push(b'\n');
        let until = Until {
            fence: Some(FENCE),
            take: &mut |_| Ok(()),
        };
        self.exchange(name, &lines, until)?.map(one).transpose()
    }

    /// Begins the wait for an answer.
    fn wait_anew(&mut self) {
        // A limit past the end of time counts as none.
        self.deadline = self
            .answer_max
            .and_then(|limit| Instant::now().checked_add(limit));
    }

    /// Sends lines, and waits for the reply to the command `name`. Returns `None` if one to the fence comes first.
    fn exchange(
        &mut self,
        name: &str,
        lines: &[u8],
        until: Until<'_>,
    ) -> Result<Option<Arguments>> {
        let name = match &self.remote {
            Some(_) => remote::COMMAND,
            None => name,
        };
        self.wait_anew();
        // A peer that refuses the call may have closed already. Its last message then says more than the write error.
        let sent = self.send(lines);
        if let Err(error) = &sent
            && is_over_time(error)
        {
            return Err(self.no_answer());
        }
        let reply = self.reply(name, until);
        match sent {
            Ok(()) => reply,
            Err(error) => {
                reply.with_context(|| format!("cannot send {name} to {}: {error}", self.peer))
            }
        }
    }

    /// Does the same as [`Client::call`], and parses the result into a type.
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

    /// Returns the arguments of the next line of that name; `None` when the peer has closed.
    pub(super) fn event(&mut self, name: &str) -> Result<Option<Arguments>> {
        while let Some(line) = self.line()? {
            if line.name == name {
                return Ok(Some(array(&line.arguments)?));
            }
        }
        Ok(None)
    }

    /// Returns the arguments of the next line of that name, if it comes before the deadline. A line that has come in
    /// part by then is not lost.
    pub(super) fn event_before(&mut self, name: &str, deadline: Instant) -> Result<EventWait> {
        self.deadline = Some(deadline);
        match self.event(name) {
            Ok(Some(arguments)) => Ok(EventWait::Event(arguments)),
            Ok(None) => Ok(EventWait::Closed),
            Err(_) if Instant::now() >= deadline => Ok(EventWait::None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the peer has closed the connection, or until the deadline.
    pub(super) fn until_closed(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        while let Ok(Some(_)) = self.line() {}
    }

    fn reply(&mut self, name: &str, until: Until<'_>) -> Result<Option<Arguments>> {
        let Until { fence, take } = until;
        while let Some(line) = self.line()? {
            let ours = line.tag.as_deref() == self.tag;
            if line.name == "error" {
                self.refusal(name, ours, &line)?;
            } else if line.name == name && ours && !line.asks_us() {
                return array(&line.arguments).map(Some);
            } else if fence == Some(&line.name) && !line.asks_us() {
                return Ok(None);
            } else if line.asks_us() {
                self.answer(&line)?;
            } else if !self.pass_part(&line, name, take)? {
                self.during_call.take(line);
            }
        }
        match self.parting.take() {
            Some(reason) => bail!("{} closed the connection: {reason}", self.peer),
            None if self.is_host() => bail!(
                "{} ended, or closed the connection, before it answered {name}",
                self.peer
            ),
            None => bail!(
                "{} closed the connection before it answered {name}",
                self.peer
            ),
        }
    }

    /// Returns an error that is about our call. Keeps any other, as it may be why the connection closes.
    fn refusal(&mut self, name: &str, ours: bool, line: &Incoming) -> Result<()> {
        let arguments = array(&line.arguments)?;
        let text = arguments.first().map_or("null", |first| first.get());
        let refusal: Refusal = serde_json::from_str(text)
            .with_context(|| format!("{} sent an error that cannot be read: {text}", self.peer))?;
        if ours && refusal.command == name {
            return Err(self.fault(refusal, text).into());
        }
        self.parting = Some(format!("{} ({})", refusal.text(), refusal.code));
        Ok(())
    }

    /// Returns whether the peer is a host, on its control socket.
    fn is_host(&self) -> bool {
        self.tag == Some(CONTROL_TAG)
    }

    /// On the control socket the message is complete; a daemon's message needs its name and the code beside it. `error` is
    /// the refusal as JSON.
    fn fault(&self, refusal: Refusal, error: &str) -> Fault {
        if let Some(remote) = &self.remote {
            return remote.fault(error);
        }
        let text = refusal.text();
        match self.is_host() {
            true => Fault::Refused {
                message: text.to_owned(),
                code: refusal.code,
            },
            false => Fault::Answered {
                message: format!(
                    "{} {}: {text} ({})",
                    self.peer, refusal.command, refusal.code
                ),
                error: error.to_owned(),
            },
        }
    }

    /// Answers `dae` and `options`, which both sides of a connection must; our answer is short.
    fn answer(&mut self, line: &Incoming) -> Result<()> {
        Ok(self.send(&answer(line))?)
    }

    /// Sends all bytes before the deadline, however few the peer takes at once.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.limit_to_deadline()?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Limits the next read or write to the deadline. If that has passed, returns the error of a timed-out wait.
    fn limit_to_deadline(&self) -> io::Result<()> {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            left => self.stream.limit(left),
        }
    }

    /// Returns the next line, however many reads it takes; `None` at the end of the stream.
    fn line(&mut self) -> Result<Option<Incoming>> {
        loop {
            if let Some(line) = self.inbox.next() {
                return Incoming::take(line, &self.peer).map(Some);
            }
            let mut bytes = [0; READ_BYTES];
            let limited = self.limit_to_deadline();
            match limited.and_then(|()| self.stream.read(&mut bytes)) {
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
        match is_over_time(&error) {
            true => self.no_answer(),
            false => anyhow!(error).context(format!("lost the connection to {}", self.peer)),
        }
    }

    fn no_answer(&self) -> anyhow::Error {
        let (peer, limit) = (
            &self.peer,
            self.answer_max.unwrap_or_default().as_secs_f64(),
        );
        match self.is_foreign {
            false => {
                anyhow!("{peer} did not answer within {limit} s; it may be stopped or overloaded")
            }
            true => anyhow!(
                "{peer} did not answer within {limit} s; a foreign daemon may say nothing to a command that it doesn't \
                have: `dae-host options {peer}` shows those it has"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer whose output is fixed, and which records its input.
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

    impl Stream for Script {
        fn limit(&self, _limit: Option<Duration>) -> io::Result<()> {
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
    fn parts_of_our_call_are_passed_on_and_no_others() {
        let says = "part#call [{\"command\":\"add\",\"item\":1}]\npart#other [{\"command\":\"add\",\"item\":2}]\n\
            part [{\"command\":\"add\",\"item\":3}]\npart#call [{\"command\":\"add\",\"item\":4,\"progress\":true}]\n";
        for (reply, expected) in [("add#call []\n", None), ("add#call [[5]]\n", Some("[5]"))] {
            let mut client = client(None, &format!("{says}{reply}"));
            let mut seen = Vec::new();
            let result = client.call_in_parts("add", &[1, 2], &mut |part| {
                seen.push((part.item.get().to_owned(), part.progress));
                Ok(())
            });
            let result = result.expect(reply);
            assert_eq!(result.as_deref().map(RawValue::get), expected, "{reply}");
            assert_eq!(seen, [("1".to_owned(), false), ("4".to_owned(), true)]);
            let heard = String::from_utf8(client.stream.heard).expect("UTF-8");
            assert_eq!(heard, "dae [{\"parts\":true}]\nadd#call [1,2]\n");
        }
    }

    #[test]
    fn a_refusal_of_our_call_keeps_its_code_and_its_data() {
        let refusal =
            r#"{"command":"add","code":"bad-arguments","message":"two are wanted","data":[1e2]}"#;
        let hosts = called(Some("cli"), &format!("error#cli [{refusal}]\n"));
        assert!(
            matches!(hosts.unwrap_err().downcast_ref(), Some(Fault::Refused { code, .. }) if code == "bad-arguments")
        );
        let error = called(None, &format!("error [{refusal}]\n")).expect_err("it was refused");
        assert!(
            matches!(error.downcast_ref(), Some(Fault::Answered { error, .. }) if error == refusal)
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
        (client.answer_max, client.is_foreign) = (Some(Duration::ZERO), true);
        let error = client.call("nothing", &[0]).expect_err("it never answers");
        let text = error.to_string();
        assert!(text.contains("`dae-host options Sample`"), "{text}");
    }

    #[test]
    fn a_daemon_that_passes_over_a_command_is_not_waited_for() {
        for (says, expected) in [
            ("help [1]\ndae [{}]\n", Some("1")),
            ("tick [1]\ndae\nhelp []\n", Some("null")),
            ("dae [{}]\n", None),
            ("tick [1]\ndae [{}]\nhelp [1]\n", None),
        ] {
            let mut client = client(None, says);
            let answer = client.call_or_silence("help", &["add"]).expect(says);
            assert_eq!(answer.as_deref().map(RawValue::get), expected, "{says}");
            let heard = String::from_utf8(client.stream.heard).expect("UTF-8");
            assert!(heard.starts_with("help [\"add\"]\ndae\n"), "{heard}");
        }
        let refusal =
            "error [{\"command\":\"help\",\"code\":\"unknown-command\",\"message\":\"no\"}]\n";
        let refused = client(None, refusal).call_or_silence("help", &[0]);
        assert!(refused.is_err(), "{refused:?}");
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
