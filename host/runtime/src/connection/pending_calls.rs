//! The pending calls of one side of a connection: sent and not answered yet.
//!
//! A line is the reply to the oldest unanswered call of its name and tag (Common TCP). The table must therefore be in
//! the order of the lines. So one lock covers both adding a call and queueing its line, and a line that can't be queued
//! adds no entry.
//!
//! A call that timed out or was cancelled keeps its entry until its reply comes. Otherwise the reply would go to the
//! next caller. The same holds for an event, since most receivers answer it. A call that stays unanswered for
//! [`GIVEN_UP_AFTER`] after its caller stopped waiting is given up: its entry stays for a late reply until the next
//! call of that name.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dae_common_tcp::{DaemonError, ErrorCode, Fault, Message, write_daemon_error};
use dae_plugin_api::coded::{CodedError, RawData};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use dae_store::lock::lock;

/// The limit for unanswered calls of one side: as many as a guest may have in flight.
const ASKED_MAX: usize = 1024;
/// The limit for events of different names or tags that wait for replies. Past it the oldest is forgotten: a receiver
/// that treats the lines as events answers none.
const EVENTS_MAX: usize = 1024;
/// The time in which the reply to an abandoned call may still come.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// The reason why a call has no result: the argument of an `error` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// One of Common TCP's error codes, or one of the called daemon's own.
    pub code: String,
    /// A text for a person.
    #[serde(default)]
    pub message: String,
    /// The data for a program; `null` stands for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<RawData>,
    /// The daemon that was called, for a caller that knows only the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
}

impl CallError {
    /// Makes an error that the host itself reports.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        CallError {
            code: code.as_str().to_owned(),
            message: message.into(),
            data: None,
            daemon: None,
        }
    }

    /// Returns the error with the name of the daemon that was called.
    #[must_use]
    pub fn of_daemon(mut self, name: &str) -> Self {
        self.daemon = Some(name.to_owned());
        self
    }

    /// Appends the error line for that command.
    pub fn write_line(&self, out: &mut Vec<u8>, command: &str, tag: Option<&str>) {
        let error = DaemonError {
            code: &self.code,
            message: &self.message,
            data: self.data.as_ref().map(RawData::get),
        };
        write_daemon_error(out, command, tag, &error);
    }
}

impl From<CodedError> for CallError {
    fn from(error: CodedError) -> Self {
        CallError {
            code: error.code,
            message: error.message,
            data: error.data,
            daemon: None,
        }
    }
}

/// The arguments of the reply as a JSON array, or the reason why there is none.
pub type CallReply = Result<Vec<u8>, CallError>;

/// The table of one side's unanswered calls.
#[derive(Debug, Default)]
pub struct PendingCalls {
    /// True if anything is unanswered. A connection without calls needs no lock.
    is_any: AtomicBool,
    calls: Mutex<CallTable>,
}

#[derive(Debug, Default)]
struct CallTable {
    /// The entries, in the order of their lines.
    unanswered: Vec<PendingCall>,
    /// The reason why the table takes no more calls, once the connection has ended.
    end: Option<CallError>,
}

#[derive(Debug)]
struct PendingCall {
    name: String,
    tag: Option<String>,
    kind: CallKind,
}

#[derive(Debug)]
enum CallKind {
    Call {
        reply: oneshot::Sender<CallReply>,
        /// The time when its caller stopped waiting.
        abandoned: Arc<OnceLock<Instant>>,
    },
    /// Lines whose replies are dropped: their number, and when the last one was sent.
    Events { count: usize, last: Instant },
}

/// The reply to a call that was sent. If dropped, the call keeps its entry in the table until its reply comes.
#[derive(Debug)]
pub struct ReplyFuture {
    reply: oneshot::Receiver<CallReply>,
    abandoned: Arc<OnceLock<Instant>>,
}

impl Future for ReplyFuture {
    type Output = Result<CallReply, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(context)
    }
}

impl Drop for ReplyFuture {
    fn drop(&mut self) {
        let _ = self.abandoned.set(Instant::now());
    }
}

impl PendingCalls {
    /// Returns whether anything is unanswered.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Adds a call and has `send` queue its line, in one step. No other call's line gets between the two.
    ///
    /// # Errors
    /// `send` failed, too many calls are unanswered, or the connection has ended. Nothing is added then.
    pub fn ask(
        &self,
        name: &str,
        tag: Option<String>,
        send: impl FnOnce() -> Result<(), CallError>,
    ) -> Result<ReplyFuture, CallError> {
        let (sender, reply) = oneshot::channel();
        let abandoned = Arc::new(OnceLock::new());
        let awaited = ReplyFuture {
            reply,
            abandoned: Arc::clone(&abandoned),
        };
        let kind = CallKind::Call {
            reply: sender,
            abandoned,
        };
        let mut calls = lock(&self.calls);
        calls.check_room(name)?;
        self.sent(&mut calls, send)?;
        calls.unanswered.push(PendingCall {
            name: name.to_owned(),
            tag,
            kind,
        });
        Ok(awaited)
    }

    /// Adds an event, whose reply is dropped, and has `send` queue its line, in one step.
    ///
    /// # Errors
    /// `send` failed, or the connection has ended. Nothing is added then.
    pub fn expect(
        &self,
        name: &str,
        tag: Option<String>,
        send: impl FnOnce() -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let mut calls = lock(&self.calls);
        if let Some(end) = &calls.end {
            return Err(end.clone());
        }
        self.sent(&mut calls, send)?;
        calls.enter_event(name, tag);
        Ok(())
    }

    /// Runs `send` under the table's lock. A reply may come before this returns; its reader then waits for the lock.
    fn sent(
        &self,
        calls: &mut CallTable,
        send: impl FnOnce() -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        self.is_any.store(true, Ordering::Release);
        let sent = send();
        if sent.is_err() {
            let is_any = !calls.unanswered.is_empty();
            self.is_any.store(is_any, Ordering::Release);
        }
        sent
    }

    /// Returns whether an untagged call of that name was given up. A late reply to it would look like the reply to the
    /// next call.
    #[must_use]
    pub fn is_out_of_step(&self, name: &str) -> bool {
        let now = Instant::now();
        let calls = lock(&self.calls);
        let mut given_up = calls.unanswered.iter().filter(|one| one.is_given_up(now));
        given_up.any(|one| one.name == name && one.tag.is_none())
    }

    /// Matches a line with the oldest pending call of its name and tag. If there is one, the line is its reply.
    pub fn answer(&self, message: &Message<'_>) -> LineMatch {
        if !self.is_any() {
            return LineMatch::NotOurs;
        }
        let refusal = refusal_in(message);
        let name = refusal
            .as_ref()
            .map_or(message.name, |(command, _)| command);
        let mut calls = lock(&self.calls);
        let found = calls.take(name, message.tag);
        let is_any = !calls.unanswered.is_empty();
        self.is_any.store(is_any, Ordering::Release);
        drop(calls);
        let reply = match refusal {
            Some((_, refusal)) => Err(refusal),
            None => Ok(as_array(message.arguments)),
        };
        match (found, reply) {
            (None, _) => LineMatch::NotOurs,
            (Some(AnsweredCall::Event), Err(_)) => LineMatch::EventRefused,
            (Some(AnsweredCall::Event), Ok(_)) => LineMatch::Ours,
            (Some(AnsweredCall::Call(waiting)), reply) => {
                // The caller may have given up.
                let _ = waiting.send(reply);
                LineMatch::Ours
            }
        }
    }

    /// Matches an invalid line with the oldest pending call of its name and tag. If there is one, its result is the
    /// line's fault.
    pub fn answer_fault(&self, fault: &Fault<'_>) -> LineMatch {
        if !self.is_any() {
            return LineMatch::NotOurs;
        }
        let arguments = json!([{
            "command": fault.command,
            "code": fault.code.as_str(),
            "message": fault.message,
        }]);
        self.answer(&Message {
            name: "error",
            tag: fault.tag,
            arguments: &arguments.to_string(),
        })
    }

    /// Ends the table with its connection. All unanswered calls and all later ones fail with `refusal`.
    pub fn end(&self, refusal: &CallError) {
        let mut calls = lock(&self.calls);
        calls.end = Some(refusal.clone());
        let unanswered = std::mem::take(&mut calls.unanswered);
        self.is_any.store(false, Ordering::Release);
        drop(calls);
        for one in unanswered {
            if let CallKind::Call { reply, .. } = one.kind {
                let _ = reply.send(Err(refusal.clone()));
            }
        }
    }
}

/// An entry whose reply has come.
enum AnsweredCall {
    Call(oneshot::Sender<CallReply>),
    Event,
}

impl CallTable {
    /// Makes space for one more call, or returns why there is none.
    fn check_room(&mut self, name: &str) -> Result<(), CallError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let now = Instant::now();
        let calls = |all: &[PendingCall]| all.iter().filter(|one| one.is_call()).count();
        let is_full = calls(&self.unanswered) >= ASKED_MAX;
        self.unanswered
            .retain(|one| !(one.is_given_up(now) && (is_full || one.name == name)));
        if calls(&self.unanswered) >= ASKED_MAX {
            let text = format!("{ASKED_MAX} calls are unanswered already; wait for some of them");
            return Err(CallError::new(ErrorCode::Unavailable, text));
        }
        Ok(())
    }

    fn enter_event(&mut self, name: &str, tag: Option<String>) {
        let now = Instant::now();
        // Replies are matched by name and tag, so consecutive events with the same ones need only one entry.
        let latest = self
            .unanswered
            .iter_mut()
            .rfind(|one| one.name == name && one.tag == tag);
        if let Some(PendingCall {
            kind: CallKind::Events { count, last },
            ..
        }) = latest
        {
            *count += 1;
            *last = now;
            return;
        }
        let mut events = self.unanswered.iter().filter(|one| !one.is_call());
        if events.by_ref().count() >= EVENTS_MAX {
            let oldest = self.unanswered.iter().position(|one| !one.is_call());
            oldest.map(|at| self.unanswered.remove(at));
        }
        self.unanswered.push(PendingCall {
            name: name.to_owned(),
            tag,
            kind: CallKind::Events {
                count: 1,
                last: now,
            },
        });
    }

    fn take(&mut self, name: &str, tag: Option<&str>) -> Option<AnsweredCall> {
        let is_it = |one: &PendingCall| one.name == name && one.tag.as_deref() == tag;
        let at = self.unanswered.iter().position(is_it)?;
        if let CallKind::Events { count, .. } = &mut self.unanswered[at].kind
            && *count > 1
        {
            *count -= 1;
            return Some(AnsweredCall::Event);
        }
        Some(match self.unanswered.remove(at).kind {
            CallKind::Call { reply, .. } => AnsweredCall::Call(reply),
            CallKind::Events { .. } => AnsweredCall::Event,
        })
    }
}

/// The relation of a line to the pending calls.
#[derive(Debug, PartialEq, Eq)]
pub enum LineMatch {
    /// The reply to one of them.
    Ours,
    /// The other side's `error` reply to an event.
    EventRefused,
    /// Not a reply to any of them.
    NotOurs,
}

impl PendingCall {
    fn is_call(&self) -> bool {
        matches!(self.kind, CallKind::Call { .. })
    }

    /// Returns whether nobody has waited for the reply for more than [`GIVEN_UP_AFTER`].
    fn is_given_up(&self, now: Instant) -> bool {
        let since = match &self.kind {
            CallKind::Call { abandoned, .. } => abandoned.get().copied(),
            CallKind::Events { last, .. } => Some(*last),
        };
        since.is_some_and(|since| now.saturating_duration_since(since) > GIVEN_UP_AFTER)
    }
}

/// Waits for a reply from `who`. Fails with `timeout` after `limit`; zero means no limit.
pub async fn in_time(reply: ReplyFuture, limit: Duration, (who, name): (&str, &str)) -> CallReply {
    let gone = |_| {
        let text = format!("the connection to {who} was lost");
        Err(CallError::new(ErrorCode::Crashed, text))
    };
    if limit.is_zero() {
        return reply.await.unwrap_or_else(gone);
    }
    match tokio::time::timeout(limit, reply).await {
        Ok(reply) => reply.unwrap_or_else(gone),
        Err(_) => {
            let text = format!("{who} did not answer {name} within {limit:?}");
            Err(CallError::new(ErrorCode::Timeout, text))
        }
    }
}

/// Reads an `error` line: the command that failed, and why. It is lenient, since a failure that stays in the table
/// would give each later call its predecessor's reply. The data are not parsed, so they may be any JSON. Returns `None` if
/// the line names no command.
fn refusal_in(message: &Message<'_>) -> Option<(String, CallError)> {
    if message.name != "error" {
        return None;
    }
    let arguments: Vec<Box<RawValue>> =
        serde_json::from_slice(&as_array(message.arguments)).ok()?;
    let refusal: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(arguments.first()?.get()).ok()?;
    let text = |key: &str| {
        let json = refusal.get(key)?.get();
        match serde_json::from_str(json) {
            Ok(Value::Null) => None,
            Ok(Value::String(text)) if text.trim().is_empty() => None,
            Ok(Value::String(text)) => Some(text),
            Ok(_) | Err(_) => Some(json.to_owned()),
        }
    };
    let command = text("command")?;
    let data = refusal.get("data").map(|data| data.get());
    let error = CallError {
        code: text("code").unwrap_or_else(|| ErrorCode::Failed.as_str().to_owned()),
        message: text("message").unwrap_or_else(|| format!("{command} failed")),
        data: data
            .filter(|json| *json != "null")
            .and_then(|json| RawData::read(json.to_owned())),
        daemon: None,
    };
    Some((command, error))
}

/// Converts arguments as received to a strict JSON array.
pub fn as_array(arguments: &str) -> Vec<u8> {
    match arguments.as_bytes().first() {
        None => b"[]".to_vec(),
        Some(b'[') if is_json(arguments) => arguments.as_bytes().to_vec(),
        Some(_) if is_json(arguments) => format!("[{arguments}]").into_bytes(),
        // Not JSON: JSON5 is converted, and any other text is passed on as a string.
        Some(_) => match dae_store::json5_text::to_strict(arguments) {
            Ok(strict) if strict.starts_with('[') => strict.into_bytes(),
            Ok(strict) => format!("[{strict}]").into_bytes(),
            Err(_) => serde_json::json!([arguments]).to_string().into_bytes(),
        },
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests;
