//! The calls that one side of a connection has made and that the other has not answered.
//!
//! A line is the reply to the oldest unanswered call of its name and tag (Common TCP). The table is therefore kept in the
//! order of the lines: a call is entered and its line is queued in one step, under one lock, and a line that can't be queued
//! leaves no entry.
//!
//! A call that timed out or was cancelled keeps its place until its reply has come, or that reply would go to the next
//! caller. The same goes for an event, which most receivers answer. A call that stays unanswered for [`GIVEN_UP_AFTER`] once
//! nobody waits for it is given up: its place is kept for a late reply until the next call of that name.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dae_common_tcp::{ErrorCode, Fault, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use dae_store::lock::lock;

/// Calls of one side that may be unanswered: as many as a guest may have in flight.
const ASKED_MAX: usize = 1024;
/// Events of different names or tags whose replies are expected. Past it the oldest is forgotten: a receiver that takes
/// them for events answers none.
const EVENTS_MAX: usize = 1024;
/// Time in which the reply to an abandoned call may still come.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Why a call has no result: the argument of an `error` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// One of Common TCP's error codes.
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub message: String,
}

impl CallError {
    /// A refusal of the host's own.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        CallError {
            code: code.as_str().to_owned(),
            message: message.into(),
        }
    }
}

/// The arguments of the reply, a JSON array; or why there is none.
pub type CallReply = Result<Vec<u8>, CallError>;

/// See the file's head.
#[derive(Debug, Default)]
pub struct PendingCalls {
    /// Whether anything is unanswered, so that a connection over which nobody asks takes no lock.
    is_any: AtomicBool,
    calls: Mutex<CallTable>,
}

#[derive(Debug, Default)]
struct CallTable {
    /// In the order of their lines.
    unanswered: Vec<PendingCall>,
    /// Why no more are taken, once the connection has ended.
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
        /// When its caller stopped waiting.
        abandoned: Arc<OnceLock<Instant>>,
    },
    /// Lines whose replies are dropped: how many, and when the last one was sent.
    Events { count: usize, last: Instant },
}

/// The reply to a call that was sent. Dropped, the call keeps its place in the table until its reply comes.
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

    /// Enters a call and has `send` queue its line, in one step: no other call's line gets between the two.
    ///
    /// # Errors
    /// `send` refused, too many calls are unanswered, or the connection has ended. Nothing is entered then.
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

    /// Enters an event, whose reply is dropped when it comes, and has `send` queue its line, in one step.
    ///
    /// # Errors
    /// `send` refused, or the connection has ended. Nothing is entered then.
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

    /// Runs `send` under the table's lock. A reply may come before this returns: its reader waits for the lock.
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

    /// Returns whether an untagged call of that name was given up, so that a reply to it can no longer be told from the
    /// reply to the next call.
    #[must_use]
    pub fn is_out_of_step(&self, name: &str) -> bool {
        let now = Instant::now();
        let calls = lock(&self.calls);
        let mut given_up = calls.unanswered.iter().filter(|one| one.is_given_up(now));
        given_up.any(|one| one.name == name && one.tag.is_none())
    }

    /// Takes a line for the reply to the oldest call of its name and tag, if there is one.
    pub fn answer(&self, message: &Message<'_>) -> LineMatch {
        if !self.is_any() {
            return LineMatch::NotOurs;
        }
        let told = refusal_in(message);
        let name = told.as_ref().map_or(message.name, |(command, _)| command);
        let mut calls = lock(&self.calls);
        let found = calls.take(name, message.tag);
        let is_any = !calls.unanswered.is_empty();
        self.is_any.store(is_any, Ordering::Release);
        drop(calls);
        let reply = match told {
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

    /// Takes a line that can't be read for the reply to the oldest call of its name and tag, if there is one. The call is
    /// answered with what is wrong with the line.
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

    /// Ends the table with its connection: all that is unanswered, and every later call, is answered with `refusal`.
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
    /// Makes room for one more call, or says why there is none.
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
        // Replies are told apart by name, so that events of one name in a row need one entry.
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

/// What a line was to the calls of this side.
#[derive(Debug, PartialEq, Eq)]
pub enum LineMatch {
    /// The reply to one of them.
    Ours,
    /// The other side's refusal of an event.
    EventRefused,
    /// Something else.
    NotOurs,
}

impl PendingCall {
    fn is_call(&self) -> bool {
        matches!(self.kind, CallKind::Call { .. })
    }

    /// Returns whether nobody has waited for its reply for [`GIVEN_UP_AFTER`].
    fn is_given_up(&self, now: Instant) -> bool {
        let since = match &self.kind {
            CallKind::Call { abandoned, .. } => abandoned.get().copied(),
            CallKind::Events { last, .. } => Some(*last),
        };
        since.is_some_and(|since| now.saturating_duration_since(since) > GIVEN_UP_AFTER)
    }
}

/// Waits for a reply of `who`; in time, or `timeout` comes (zero means for ever).
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

/// Reads an `error` line: the command that it is about, and why that failed. It is read leniently, since a failure that is not
/// taken off the table would make each later call get its predecessor's reply. `None` for what names no command.
fn refusal_in(message: &Message<'_>) -> Option<(String, CallError)> {
    if message.name != "error" {
        return None;
    }
    let arguments: Vec<Value> = serde_json::from_slice(&as_array(message.arguments)).ok()?;
    let told = arguments.first()?;
    let text = |key: &str| match told.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    let command = text("command")?;
    let code = text("code").unwrap_or_else(|| ErrorCode::Failed.as_str().to_owned());
    let message = text("message").unwrap_or_else(|| format!("{command} failed"));
    Some((command, CallError { code, message }))
}

/// Arguments as they came, in the form that they are handed on in: a strict JSON array.
pub fn as_array(arguments: &str) -> Vec<u8> {
    match arguments.as_bytes().first() {
        None => b"[]".to_vec(),
        Some(b'[') if is_json(arguments) => arguments.as_bytes().to_vec(),
        Some(_) if is_json(arguments) => format!("[{arguments}]").into_bytes(),
        // Not JSON: JSON5, or a text; either way the sender meant something, and the reader is told what came.
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
