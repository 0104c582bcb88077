//! The connection of `connect` to its daemon, which is made again whenever it is lost.
//!
//! A thread reads it, so that events are shown while a person types. It passes on the lines of the pending call, shows
//! all others, and answers the daemon's own questions. After a loss it says so in one line and connects again as soon
//! as the daemon, or its host, is back.
//!
//! Calls are tagged, so that events and replies can't be mixed up. A foreign daemon may know no tags.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use dae_common_tcp::{Inbox, PART, write_message};
use serde_json::value::RawValue;

use super::super::Session;
use super::super::client::ReplyPart;
use super::super::exit::Fault;
use super::super::guest::DaemonAddress;
use super::super::incoming::{self, Incoming, Refusal, array, one};
use super::super::signatures::{self, Commands};
use super::news::News;
use dae_runtime::peers::reset::reset_at_close;
use dae_store::lock::lock;

/// The longest line that is read (bytes): far above the protocol's usual limit.
const LINE_BYTES_MAX: usize = 64 << 20;

/// The size of one read (bytes).
const READ_BYTES: usize = 16 << 10;

/// The interval of attempts to connect again.
const AGAIN: Duration = Duration::from_millis(200);

/// The longest wait of a command for a connection that is being made again.
const CONNECTED_MAX: Duration = Duration::from_secs(5);

/// The longest wait for an answer of a foreign daemon, which may say nothing to a command that it doesn't know.
const FOREIGN_ANSWER_MAX: Duration = Duration::from_secs(30);

/// The tag of each call. One is enough, since one call is under way at a time.
const TAG: &str = "connect";

/// The line that asks for replies in parts.
const ASKS_FOR_PARTS: &[u8] = b"dae [{\"parts\":true}]\n";

/// A message of the reading thread about the pending call.
enum Heard {
    Line(Incoming),
    Lost,
    /// A person has ended the wait.
    Cancelled,
}

/// A connection that comes back.
pub(super) struct Link {
    name: String,
    shared: Arc<Shared>,
    heard: Receiver<Heard>,
    cancels: Sender<Heard>,
}

/// The parts that the reading thread shares.
struct Shared {
    state: Mutex<LinkState>,
    changed: Condvar,
    news: Arc<News>,
}

#[derive(Default)]
struct LinkState {
    /// `None` while there is no connection.
    stream: Option<TcpStream>,
    /// The name and the tag of the pending call.
    pending: Option<(String, Option<String>)>,
    commands: Arc<Commands>,
    is_foreign: bool,
    /// True if the connection was closed here, which cancels its command.
    is_cancelled: bool,
}

/// A line to send, and how its reply is recognized.
pub(super) struct SentMessage<'a> {
    pub(super) command: &'a str,
    /// The tag, if the caller chooses it.
    pub(super) tag: Option<Option<&'a str>>,
    pub(super) arguments: &'a str,
}

impl Link {
    /// Connects to a daemon, and reads from then on.
    pub(super) fn open(session: &Session, name: &str, news: Arc<News>) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            news,
        });
        let stream = shared.connect(session, name)?;
        let (sender, heard) = channel();
        let cancels = sender.clone();
        let (session, reading, owned) = (session.clone(), Arc::clone(&shared), name.to_owned());
        thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || reading.keep(&session, &owned, (stream, sender)))?;
        Ok(Link {
            name: name.to_owned(),
            shared,
            heard,
            cancels,
        })
    }

    /// Returns a function that gives the commands that the daemon describes now.
    pub(super) fn commands(&self) -> impl Fn() -> Arc<Commands> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || Arc::clone(&lock(&shared.state).commands)
    }

    /// Returns a function that ends the wait for the pending call, and returns whether there is one.
    pub(super) fn canceller(&self) -> impl Fn() -> bool + Send + use<> {
        let (shared, cancels) = (Arc::clone(&self.shared), self.cancels.clone());
        move || {
            let mut state = lock(&shared.state);
            let is_pending = state.pending.take().is_some();
            if is_pending {
                state.is_cancelled = true;
                // The host cancels the command of a connection that is reset. The reading thread makes another one.
                if let Some(stream) = state.stream.take() {
                    reset_at_close(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                }
                // The receiver ends with the program.
                let _ = cancels.send(Heard::Cancelled);
            }
            is_pending
        }
    }

    /// Returns a function that makes the end of the program cancel the pending call.
    pub(super) fn at_the_end(&self) -> impl FnOnce() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || lock(&shared.state).stream.iter().for_each(reset_at_close)
    }

    /// Sends a message and waits for its result. Passes each part of it to `take`; `None` if the items were the result.
    pub(super) fn call(
        &self,
        message: &SentMessage<'_>,
        take: &mut dyn FnMut(ReplyPart) -> Result<()>,
    ) -> Result<Option<Box<RawValue>>> {
        let is_foreign = self.send(message)?;
        let mut has_items = false;
        let result = loop {
            let line = match self.next(is_foreign)? {
                Heard::Lost => bail!(
                    "{} closed the connection before it answered {}",
                    self.name,
                    message.command
                ),
                Heard::Cancelled => bail!(
                    "{} was cancelled; {} has the end of its connection",
                    message.command,
                    self.name
                ),
                Heard::Line(line) => line,
            };
            match line.name.as_str() {
                "error" => break Err(self.fault(&line)?.into()),
                PART => {
                    let part = one(array(&line.arguments)?)?;
                    let part: ReplyPart = serde_json::from_str(part.get()).with_context(|| {
                        format!("{} sent a part that cannot be read", self.name)
                    })?;
                    has_items |= !part.progress;
                    take(part)?;
                }
                _ => break array(&line.arguments),
            }
        };
        lock(&self.shared.state).pending = None;
        let reply = result?;
        let is_whole = has_items && reply.is_empty();
        (!is_whole).then(|| one(reply)).transpose()
    }

    /// Sends a message, if need be once the connection is there again. Returns whether the daemon is foreign.
    fn send(&self, message: &SentMessage<'_>) -> Result<bool> {
        let state = lock(&self.shared.state);
        let is_lost = |state: &mut LinkState| state.stream.is_none();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, CONNECTED_MAX, is_lost);
        let (mut state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        // Late lines of earlier calls and connections.
        while self.heard.try_recv().is_ok() {}
        let own_tag = (!state.is_foreign).then_some(TAG);
        let tag = message.tag.unwrap_or(own_tag);
        let mut line = Vec::new();
        write_message(
            &mut line,
            message.command,
            tag,
            message.arguments.as_bytes(),
        );
        state.pending = Some((message.command.to_owned(), tag.map(str::to_owned)));
        let Some(stream) = &mut state.stream else {
            return Err(Fault::Refused {
                code: "not-running".to_owned(),
                message: format!(
                    "there is no connection to {}, and {} was not sent",
                    self.name, message.command
                ),
            }
            .into());
        };
        // A lost connection is noticed by the reading thread.
        let _ = stream.write_all(&line);
        Ok(state.is_foreign)
    }

    fn next(&self, is_foreign: bool) -> Result<Heard> {
        let heard = match is_foreign {
            true => self.heard.recv_timeout(FOREIGN_ANSWER_MAX),
            false => self.heard.recv().map_err(RecvTimeoutError::from),
        };
        heard.map_err(|_| {
            anyhow!(
                "{} did not answer; a foreign daemon may say nothing to a command that it doesn't have",
                self.name
            )
        })
    }

    fn fault(&self, line: &Incoming) -> Result<Fault> {
        let error = one(array(&line.arguments)?)?;
        let refusal: Refusal = serde_json::from_str(error.get())
            .with_context(|| format!("{} sent an error that cannot be read", self.name))?;
        Ok(Fault::Answered {
            message: format!(
                "{} {}: {} ({})",
                self.name,
                refusal.command,
                refusal.text(),
                refusal.code
            ),
            error: error.get().to_owned(),
        })
    }
}

impl Shared {
    /// Connects to the daemon, and asks it for its commands. Returns the connection to read.
    fn connect(&self, session: &Session, name: &str) -> Result<TcpStream> {
        let daemon = DaemonAddress::find(session, name)?;
        daemon.check_here("connect")?;
        let help = daemon.help(&mut daemon.connect()?, &[])?;
        let commands = help.and_then(|help| signatures::commands(&help));
        let mut stream = daemon.connect()?.into_stream();
        if !daemon.is_foreign {
            stream.write_all(ASKS_FOR_PARTS)?;
        }
        let reading = stream.try_clone()?;
        let mut state = lock(&self.state);
        state.stream = Some(stream);
        state.commands = Arc::new(commands.unwrap_or_default());
        state.is_foreign = daemon.is_foreign;
        self.changed.notify_all();
        Ok(reading)
    }

    /// Reads the connection, and makes it again, for ever.
    fn keep(&self, session: &Session, name: &str, (mut stream, heard): (TcpStream, Sender<Heard>)) {
        loop {
            let end = self.read(&mut stream, (name, &heard));
            let is_cancelled = {
                let mut state = lock(&self.state);
                state.stream = None;
                std::mem::take(&mut state.is_cancelled)
            };
            // The other side of the channel ends with the program.
            let _ = heard.send(Heard::Lost);
            let mut reason = end.err().map(|error| format!("{error:#}"));
            let mut is_told = false;
            stream = loop {
                // Also before the first attempt: a daemon or a host that ends has said so by then.
                thread::sleep(AGAIN);
                match self.connect(session, name) {
                    Ok(stream) => break stream,
                    Err(error) if !is_told => {
                        let reason = reason.take().unwrap_or_else(|| format!("{error:#}"));
                        self.news
                            .remark(&format!("the connection to {name} is lost: {reason}"));
                        is_told = true;
                    }
                    Err(_) => {}
                }
            };
            self.news.remark(&match (is_told, is_cancelled) {
                (true, _) => format!("connected to {name} again"),
                (false, true) => {
                    format!("connected to {name} anew; its events of before have ended")
                }
                (false, false) => format!("{name} closed the connection; connected again"),
            });
        }
    }

    /// Reads until the connection ends.
    fn read(&self, stream: &mut TcpStream, (name, heard): (&str, &Sender<Heard>)) -> Result<()> {
        let mut inbox = Inbox::connecting(LINE_BYTES_MAX);
        let mut bytes = [0; READ_BYTES];
        loop {
            while let Some(line) = inbox.next() {
                self.take(Incoming::take(line, name)?, heard);
            }
            match stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(length) => inbox.room(length).extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The end of a process closes its connections in this way too.
                Err(_) => return Ok(()),
            }
        }
    }

    fn take(&self, line: Incoming, heard: &Sender<Heard>) {
        let mut state = lock(&self.state);
        if line.asks_us() {
            if let Some(stream) = &mut state.stream {
                let _ = stream.write_all(&incoming::answer(&line));
            }
            return;
        }
        let is_awaited = state.pending.as_ref().is_some_and(|(name, tag)| {
            let is_reply = line.name == *name || matches!(line.name.as_str(), "error" | PART);
            is_reply && line.tag == *tag
        });
        drop(state);
        match is_awaited {
            true => drop(heard.send(Heard::Line(line))),
            false => self.news.event(&line),
        }
    }
}
