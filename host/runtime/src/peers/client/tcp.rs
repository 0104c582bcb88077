//! A client to a daemon elsewhere on the machine, in any language, over TCP.
//!
//! One task reads and writes. A caller queues a line and waits for the reply. If the other side is known to support
//! tags, calls are tagged, so that a slow one delays no other. Daemons of the original protocol know no tags, and their
//! replies are matched by name.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use dae_common_tcp::{ErrorCode, Inbox, Line, Message, write_message, write_trace};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Client, ConnectionStage, OpenedConnection};
use crate::connection::event_queue::EVENT_QUEUE_BYTES_MAX;
use crate::connection::pending_calls::{
    CallError, CallReply, LineMatch, PendingCalls, as_array, in_time,
};
use crate::peers::directory::ForeignAddress;
use crate::peers::self_connection::is_to_itself;
use crate::threads::{fd_limits, trace};
use dae_store::lock::lock;
use dae_store::report::Credential;

/// The longest time that the other side may take to accept; it is on this machine.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The limit for unsent bytes. Past it, calls are refused, and an event or an answer ends the connection, since nobody
/// would notice a single dropped line.
const OUTGOING_BYTES_MAX: usize = EVENT_QUEUE_BYTES_MAX;
/// The longest time after a close for the other side to read the rest and to close its end.
const GOODBYE: Duration = Duration::from_secs(5);
/// The size of one read (bytes).
const READ_BYTES: usize = 16 << 10;
/// The reasons for ending a connection on this side.
const NOT_READ: &str = "slow-guest: it doesn't read what it is sent";
const OUT_OF_STEP: &str =
    "it never answered an earlier call, so that its replies can't be told apart any more";
/// The limit for names of received events that may have been calls. No real protocol has more.
const QUESTIONS_MAX: usize = 256;

/// A connection over TCP.
#[derive(Debug)]
pub(super) struct TcpClient {
    credential: Credential,
    knows_tags: bool,
    asked: PendingCalls,
    outgoing: Mutex<Vec<u8>>,
    more: Notify,
    /// Cancelled once nothing more is sent; `why_over` has the reason.
    is_over: CancellationToken,
    why_over: OnceLock<&'static str>,
    last_tag: AtomicU64,
    /// Names of lines that the other side has sent. A line of ours with such a name may be the reply.
    came: Mutex<HashSet<String>>,
}

impl TcpClient {
    fn new(credential: Credential) -> Self {
        TcpClient {
            // Only credentials of this host's own protocol have a generation.
            knows_tags: credential.generation.is_some(),
            credential,
            asked: PendingCalls::default(),
            outgoing: Mutex::default(),
            more: Notify::new(),
            is_over: CancellationToken::new(),
            why_over: OnceLock::new(),
            last_tag: AtomicU64::new(0),
            came: Mutex::default(),
        }
    }

    /// Returns the credential of the other daemon.
    pub(super) fn credential(&self) -> Credential {
        self.credential.clone()
    }

    /// Sends a command. The reply fails with `timeout` after `limit`; zero means no limit.
    pub(super) fn call(
        self: Arc<Self>,
        name: &str,
        arguments: &str,
        limit: Duration,
    ) -> impl Future<Output = CallReply> + Send + use<> {
        let tag = self.tag();
        let mut line = Vec::new();
        if let Some(parent) = trace::current_parent() {
            write_trace(&mut line, &parent);
        }
        line.extend_from_slice(&line_of(name, tag.as_deref(), arguments));
        let asked = self.asked.ask(name, tag, || self.send(&line));
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
        let line = line_of(message.name, tag.as_deref(), message.arguments);
        let sent = match may_be_answer {
            true => self.send(&line),
            // Most receivers treat an event as a command, and answer it.
            false => self.asked.expect(message.name, tag, || self.send(&line)),
        };
        if sent.is_err() {
            self.end(NOT_READ);
        }
        sent.is_ok()
    }

    /// Returns whether the connection takes a call of that name. If the reply to an abandoned call could be mistaken
    /// for its reply, the connection ends and is opened again.
    pub(super) fn takes(&self, name: &str) -> bool {
        if !self.knows_tags && self.asked.is_out_of_step(name) {
            self.end(OUT_OF_STEP);
        }
        !self.is_over.is_cancelled()
    }

    /// Ends the connection.
    fn end(&self, why: &'static str) {
        let _ = self.why_over.set(why);
        self.is_over.cancel();
    }

    fn tag(&self) -> Option<String> {
        self.knows_tags
            .then(|| self.last_tag.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Queues a line, given with its LF.
    fn send(&self, line: &[u8]) -> Result<(), CallError> {
        let mut outgoing = lock(&self.outgoing);
        if self.is_over.is_cancelled() || outgoing.len() + line.len() > OUTGOING_BYTES_MAX {
            let text = format!(
                "{} doesn't read what it is sent; {} bytes wait",
                self.credential.name,
                outgoing.len()
            );
            return Err(CallError::new(ErrorCode::Unavailable, text));
        }
        outgoing.extend_from_slice(line);
        drop(outgoing);
        self.more.notify_one();
        Ok(())
    }

    fn is_gone(&self) -> CallError {
        let text = format!("the connection to {} was lost", self.credential.name);
        CallError::new(ErrorCode::Crashed, text)
    }

    fn take(&self, client: &Client, line: Line<'_>) {
        let message = match line {
            Line::Message(message) => message,
            Line::Fault(fault) => {
                self.asked.answer_fault(&fault);
                return;
            }
            // Ignored: a connecting side doesn't answer other protocols.
            Line::OtherProtocol(_) => return,
        };
        match self.asked.answer(&message) {
            LineMatch::Ours => return,
            // The reply to a call that was given up. Its tag shows that it is no event.
            LineMatch::NotOurs if self.knows_tags && message.tag.is_some() => return,
            LineMatch::EventRefused | LineMatch::NotOurs => {}
        }
        let mut came = lock(&self.came);
        if came.len() < QUESTIONS_MAX && !came.contains(message.name) {
            came.insert(message.name.to_owned());
        }
        drop(came);
        let arguments = as_array(message.arguments);
        let line = [message.name.as_bytes(), b" ", &arguments].concat();
        if let Some(answer) = client.hear(&message, &line) {
            self.send_answer(answer);
        }
    }

    fn send_answer(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        if self.send(&line).is_err() {
            // The other side sends calls and doesn't read the answers.
            self.end(NOT_READ);
        }
    }
}

/// Returns a line as it is sent, with its LF.
fn line_of(name: &str, tag: Option<&str>, arguments: &str) -> Vec<u8> {
    let mut line = Vec::new();
    write_message(&mut line, name, tag, &as_array(arguments));
    line
}

/// Connects, and serves the connection until it is lost. Returns why.
pub(super) async fn attend(client: &Client, foreign: &ForeignAddress) -> CallError {
    let ForeignAddress {
        credential,
        address,
    } = foreign;
    let connected = tokio::select! {
        connected = timeout(CONNECT_MAX, TcpStream::connect(address)) => connected,
        () = client.closed.cancelled() => return client.is_closed(),
    };
    let about = |text: String| {
        let text = format!("{} at {address}: {text}", credential.name);
        CallError::new(ErrorCode::Unavailable, text)
    };
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return about(error.to_string()),
        Err(_) => return about(format!("it did not accept in {CONNECT_MAX:?}")),
    };
    if is_to_itself(&stream) {
        return about("nobody listens there any more".to_owned());
    }
    let others = client.host.opened.load(Ordering::Relaxed);
    let _opened = OpenedConnection::by(&client.host);
    let _counted = match fd_limits::let_guest_in(&mut stream, others) {
        Ok(counted) => counted,
        Err(text) => return about(text),
    };
    // Lines are written whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let there = LastingConnection(Arc::new(TcpClient::new(credential.clone())));
    client.is_connected(ConnectionStage::Tcp(Arc::clone(&there.0)), credential);
    let why = match tend(client, &there.0, stream).await {
        Ok(()) => "it closed its end".to_owned(),
        Err(error) => error.to_string(),
    };
    about(format!("it is not there any more: {why}"))
}

async fn tend(client: &Client, there: &TcpClient, stream: TcpStream) -> io::Result<()> {
    let (reading, writing) = stream.into_split();
    let farewell = async {
        client.closed.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        ended = read(client, there, reading) => ended,
        ended = write(client, there, writing) => ended.map(|never| match never {}),
        () = there.is_over.cancelled() => Err(io::Error::other(*there.why_over.get().unwrap_or(&NOT_READ))),
        () = farewell => Ok(()),
    }
}

async fn read(client: &Client, there: &TcpClient, mut reading: OwnedReadHalf) -> io::Result<()> {
    let mut inbox = Inbox::connecting(client.host.limits.line_bytes_max);
    loop {
        let read = reading.read_buf(inbox.room(READ_BYTES)).await?;
        while let Some(line) = inbox.next() {
            there.take(client, line);
        }
        if read == 0 {
            if let Some(line) = inbox.finish() {
                there.take(client, line);
            }
            return Ok(());
        }
    }
}

/// Writes the queued bytes. After a close it shuts its half down behind the last line, so that the other side ends the
/// connection once it has read everything.
async fn write(
    client: &Client,
    there: &TcpClient,
    mut writing: OwnedWriteHalf,
) -> io::Result<Infallible> {
    loop {
        let outgoing = std::mem::take(&mut *lock(&there.outgoing));
        if !outgoing.is_empty() {
            writing.write_all(&outgoing).await?;
            continue;
        }
        tokio::select! {
            biased;
            () = there.more.notified() => {}
            () = client.closed.cancelled() => {
                writing.shutdown().await?;
                return std::future::pending().await;
            }
        }
    }
}

/// A guard that ends the connection when it is dropped, and with it all waiting calls.
struct LastingConnection(Arc<TcpClient>);

impl Drop for LastingConnection {
    fn drop(&mut self) {
        // In this order: a call that is sent later is refused, not forgotten.
        self.0.is_over.cancel();
        self.0.asked.end(&self.0.is_gone());
    }
}

#[cfg(test)]
mod tests {
    use dae_common_tcp::Fault;
    use futures_util::FutureExt as _;

    use super::*;

    fn there() -> TcpClient {
        TcpClient::new(Credential {
            name: "B".to_owned(),
            pid: 1,
            port: 1,
            foreign: true,
            ..Credential::default()
        })
    }

    #[test]
    fn one_who_asks_and_reads_no_answers_costs_a_bounded_amount() {
        let there = there();
        let answer = vec![b'x'; 1000];
        for _ in 0..2 * OUTGOING_BYTES_MAX / answer.len() {
            there.send_answer(answer.clone());
        }
        assert!(there.is_over.is_cancelled());
        assert!(lock(&there.outgoing).len() <= OUTGOING_BYTES_MAX);
        let refused = there.send(b"add [1]\n").unwrap_err();
        assert_eq!(refused.code, "unavailable");
    }

    #[test]
    fn a_reply_that_can_not_be_read_answers_its_call() {
        let there = there();
        let reply = there.asked.ask("dump", None, || Ok(())).unwrap();
        there.asked.answer_fault(&Fault {
            code: ErrorCode::LineTooLong,
            command: "dump",
            tag: None,
            message: "too long".to_owned(),
        });
        let refusal = reply.now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(refusal.code, "line-too-long");
    }

    /// The refused call must not take the reply to the next one.
    #[tokio::test]
    async fn a_call_that_has_no_room_takes_nobodys_reply() {
        let there = Arc::new(there());
        let limit = Duration::from_secs(60);
        let too_long = format!("[\"{}\"]", "x".repeat(OUTGOING_BYTES_MAX));
        let refused = Arc::clone(&there).call("echo", &too_long, limit).await;
        assert_eq!(refused.unwrap_err().code, "unavailable");
        let next = Arc::clone(&there).call("echo", "[2]", limit);
        there.asked.answer(&Message {
            name: "echo",
            tag: None,
            arguments: "[2]",
        });
        assert_eq!(next.await.unwrap(), b"[2]");
    }
}
