//! A visit to a daemon elsewhere on the machine, in whatever language it is written: over TCP.
//!
//! One task reads and writes; whoever calls leaves a line and waits for the reply. To those who are known to understand tags
//! a call is tagged, so that a slow one holds up no other; the seed's own daemons know none, and answer by name.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dae_common_tcp::{ErrorCode, Inbox, Line, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Stage, Visit};
use crate::asked::{Answered, Asked, Refusal, Reply, as_array, in_time};
use crate::neighbours::Foreign;
use crate::report::Credential;

/// How long the other side may take to accept; it is on this machine.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// What may wait for the other side to read (bytes); past it, calls are refused.
const OUTGOING_BYTES_MAX: usize = 4 << 20;
/// One read, in bytes.
const READ_BYTES: usize = 16 << 10;
/// Names of events that are remembered as perhaps being questions; more would be no protocol.
const QUESTIONS_MAX: usize = 256;

/// The connection.
#[derive(Debug)]
pub(super) struct There {
    credential: Credential,
    knows_tags: bool,
    asked: Asked,
    outgoing: Mutex<Vec<u8>>,
    more: Notify,
    last_tag: AtomicU64,
    /// Names of what the other side has sent: a line of ours by such a name may be the answer to it.
    came: Mutex<HashSet<String>>,
}

impl There {
    fn new(credential: Credential) -> Self {
        There {
            // Only this protocol's own credentials say so.
            knows_tags: credential.generation.is_some(),
            credential,
            asked: Asked::default(),
            outgoing: Mutex::default(),
            more: Notify::new(),
            last_tag: AtomicU64::new(0),
            came: Mutex::default(),
        }
    }

    /// Who is visited.
    pub(super) fn credential(&self) -> Credential {
        self.credential.clone()
    }

    /// Sends a command; the reply comes in time, or `timeout` does (zero means for ever).
    pub(super) fn call(
        self: Arc<Self>,
        name: &str,
        arguments: &str,
        limit: Duration,
    ) -> impl Future<Output = Reply> + Send + use<> {
        let tag = self.tag();
        let asked = self.asked.ask(name, tag.clone()).and_then(|reply| {
            self.send(name, tag.as_deref(), arguments)?;
            Ok(reply)
        });
        let name = name.to_owned();
        async move { in_time(asked?, limit, (&self.credential.name, &name)).await }
    }

    /// Sends a line that expects no reply.
    pub(super) fn emit(&self, message: &Message<'_>) -> bool {
        let may_be_answer = lock(&self.came).contains(message.name);
        let tag = match may_be_answer {
            true => None,
            false => self.tag(),
        };
        // Most who are sent an event take it for a command, and answer it.
        if !may_be_answer && self.asked.expect(message.name, tag.clone()).is_err() {
            return false;
        }
        self.send(message.name, tag.as_deref(), message.arguments)
            .is_ok()
    }

    fn tag(&self) -> Option<String> {
        self.knows_tags
            .then(|| self.last_tag.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn send(&self, name: &str, tag: Option<&str>, arguments: &str) -> Result<(), Refusal> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.len() + arguments.len() > OUTGOING_BYTES_MAX {
            let text = format!(
                "{} doesn't read what it is sent; {} bytes wait",
                self.credential.name,
                outgoing.len()
            );
            return Err(Refusal::new(ErrorCode::Unavailable, text));
        }
        dae_common_tcp::write_message(&mut outgoing, name, tag, &as_array(arguments));
        drop(outgoing);
        self.more.notify_one();
        Ok(())
    }

    fn is_gone(&self) -> Refusal {
        let text = format!("the connection to {} was lost", self.credential.name);
        Refusal::new(ErrorCode::Crashed, text)
    }

    fn take(&self, visit: &Visit, line: Line<'_>) {
        // What isn't a message is of no use to anybody, and a connecting side answers nothing.
        let Line::Message(message) = line else { return };
        if self.asked.answer(&message) == Answered::Ours {
            return;
        }
        let mut came = lock(&self.came);
        if came.len() < QUESTIONS_MAX && !came.contains(message.name) {
            came.insert(message.name.to_owned());
        }
        drop(came);
        let arguments = as_array(message.arguments);
        let line = [message.name.as_bytes(), b" ", &arguments].concat();
        if let Some(answer) = visit.hear(&message, &line) {
            lock(&self.outgoing).extend_from_slice(&[&answer[..], b"\n"].concat());
            self.more.notify_one();
        }
    }
}

/// Connects, and tends the connection until it is lost; why it was.
pub(super) async fn attend(visit: &Visit, foreign: &Foreign) -> Refusal {
    let Foreign {
        credential,
        address,
    } = foreign;
    let unavailable = |text: String| Refusal::new(ErrorCode::Unavailable, text);
    let stream = match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return unavailable(format!("{} at {address}: {error}", credential.name));
        }
        Err(_) => {
            let text = format!(
                "{} at {address} did not accept in {CONNECT_MAX:?}",
                credential.name
            );
            return unavailable(text);
        }
    };
    // A line is written whole; waiting to fill a packet would only delay it.
    let _ = stream.set_nodelay(true);
    let there = Lasting(Arc::new(There::new(credential.clone())));
    visit.is_connected(Stage::There(Arc::clone(&there.0)), credential);
    let (reading, writing) = stream.into_split();
    let ended = tokio::select! {
        ended = read(visit, &there.0, reading) => ended,
        ended = write(&there.0, writing) => ended,
    };
    let why = ended.map_or_else(|error| error.to_string(), |()| "it has ended it".to_owned());
    unavailable(format!(
        "{} at {address}: the connection was lost: {why}",
        credential.name
    ))
}

async fn read(
    visit: &Visit,
    there: &There,
    mut reading: tokio::net::tcp::OwnedReadHalf,
) -> std::io::Result<()> {
    let mut inbox = Inbox::new(visit.host.limits.line_bytes_max);
    loop {
        let read = reading.read_buf(inbox.room(READ_BYTES)).await?;
        while let Some(line) = inbox.next() {
            there.take(visit, line);
        }
        if read == 0 {
            if let Some(line) = inbox.finish() {
                there.take(visit, line);
            }
            return Ok(());
        }
    }
}

async fn write(there: &There, mut writing: tokio::net::tcp::OwnedWriteHalf) -> std::io::Result<()> {
    loop {
        let outgoing = std::mem::take(&mut *lock(&there.outgoing));
        match outgoing.is_empty() {
            true => there.more.notified().await,
            false => writing.write_all(&outgoing).await?,
        }
    }
}

/// A connection, until it is dropped; then whoever waits for it hears so.
struct Lasting(Arc<There>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.asked.fail_all(&self.0.is_gone());
    }
}

/// No code of others runs under these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
