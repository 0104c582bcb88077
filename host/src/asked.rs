//! The calls that one side of a connection has made and that the other has not answered.
//!
//! A line is the reply to the oldest unanswered call of its name and tag (Common TCP). So a call that nobody waits for any
//! more stays in its place until its reply has come, or it would be taken for the next one's; the same goes for an event,
//! which most who are sent one answer. What is never answered is given up after a while.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dae_common_tcp::{ErrorCode, Message};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::lock::lock;

/// Unanswered calls of one side: as many as a guest may have under way.
const ASKED_MAX: usize = 1024;
/// How long the reply to a call that nobody waits for is still expected. A reply later than that has lost its call.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Why a call has no result: the argument of an `error` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One of Common TCP's error codes.
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub message: String,
}

impl Refusal {
    /// A refusal of the host's own.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal {
            code: code.as_str().to_owned(),
            message: message.into(),
        }
    }
}

/// The arguments of the reply, a JSON array; or why there is none.
pub type Reply = Result<Vec<u8>, Refusal>;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Asked {
    /// Whether anything is unanswered, so that a connection over which nobody asks takes no lock.
    is_any: AtomicBool,
    calls: Mutex<Vec<Unanswered>>,
}

#[derive(Debug)]
struct Unanswered {
    name: String,
    tag: Option<String>,
    /// Where nobody waits, the reply is taken off and dropped.
    reply: Option<oneshot::Sender<Reply>>,
    since: Instant,
}

impl Asked {
    /// Whether anything is unanswered.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// A call that is on its way.
    ///
    /// # Errors
    /// Too many are unanswered.
    pub fn ask(
        &self,
        name: &str,
        tag: Option<String>,
    ) -> Result<oneshot::Receiver<Reply>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.put(name, tag, Some(sender)).map(|()| receiver)
    }

    /// A line is on its way whose reply nobody waits for. Those that are never answered make room for what follows: a
    /// listener answers nothing, and may be sent any number of events.
    pub fn expect(&self, name: &str, tag: Option<String>) {
        // Where only calls are unanswered, its reply will be taken for an event.
        let _ = self.put(name, tag, None);
    }

    fn put(
        &self,
        name: &str,
        tag: Option<String>,
        reply: Option<oneshot::Sender<Reply>>,
    ) -> Result<(), Refusal> {
        let mut calls = lock(&self.calls);
        let now = Instant::now();
        if calls.len() >= ASKED_MAX {
            calls.retain(|call| !call.is_given_up(now));
        }
        if calls.len() >= ASKED_MAX
            && let Some(event) = calls.iter().position(|call| call.reply.is_none())
        {
            calls.remove(event);
        }
        if calls.len() >= ASKED_MAX {
            let text = format!("{ASKED_MAX} calls are unanswered already; wait for some of them");
            return Err(Refusal::new(ErrorCode::Unavailable, text));
        }
        calls.push(Unanswered {
            name: name.to_owned(),
            tag,
            reply,
            since: now,
        });
        self.is_any.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes a line for the reply to a call, if it is one; whether it was, and, of one that nobody waited for, why it failed.
    pub fn answer(&self, message: &Message<'_>) -> Answered {
        if !self.is_any() {
            return Answered::NotOurs;
        }
        let refusal = refusal_in(message);
        let name = refusal
            .as_ref()
            .map_or(message.name, |told| told.command.as_str());
        let mut calls = lock(&self.calls);
        let now = Instant::now();
        calls.retain(|call| !call.is_given_up(now));
        let at = calls
            .iter()
            .position(|call| call.name == name && call.tag.as_deref() == message.tag);
        let found = at.map(|at| calls.remove(at));
        self.is_any.store(!calls.is_empty(), Ordering::Release);
        drop(calls);
        let Some(call) = found else {
            return Answered::NotOurs;
        };
        let reply = match refusal {
            Some(told) => Err(told.refusal),
            None => Ok(as_array(message.arguments)),
        };
        match (call.reply, reply) {
            // Whoever waited may have given up.
            (Some(waiting), reply) => drop(waiting.send(reply)),
            (None, Err(_)) => return Answered::EventRefused,
            (None, Ok(_)) => {}
        }
        Answered::Ours
    }

    /// The connection has ended: all that is unanswered is answered so.
    pub fn fail_all(&self, refusal: &Refusal) {
        let calls = std::mem::take(&mut *lock(&self.calls));
        self.is_any.store(false, Ordering::Release);
        for waiting in calls.into_iter().filter_map(|call| call.reply) {
            let _ = waiting.send(Err(refusal.clone()));
        }
    }
}

/// What a line was to the calls of this side.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// The reply to one of them.
    Ours,
    /// The other side's refusal of an event.
    EventRefused,
    /// Something else.
    NotOurs,
}

impl Unanswered {
    fn is_given_up(&self, now: Instant) -> bool {
        let is_awaited = self.reply.as_ref().is_some_and(|reply| !reply.is_closed());
        !is_awaited && now.duration_since(self.since) > GIVEN_UP_AFTER
    }
}

/// Waits for a reply of `who`; in time, or `timeout` comes (zero means for ever).
pub async fn in_time(
    reply: oneshot::Receiver<Reply>,
    limit: Duration,
    (who, name): (&str, &str),
) -> Reply {
    let gone = |_| {
        let text = format!("the connection to {who} was lost");
        Err(Refusal::new(ErrorCode::Crashed, text))
    };
    if limit.is_zero() {
        return reply.await.unwrap_or_else(gone);
    }
    match tokio::time::timeout(limit, reply).await {
        Ok(reply) => reply.unwrap_or_else(gone),
        Err(_) => {
            let text = format!("{who} did not answer {name} within {limit:?}");
            Err(Refusal::new(ErrorCode::Timeout, text))
        }
    }
}

/// An `error` line's one argument.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    command: String,
    #[serde(flatten)]
    refusal: Refusal,
}

fn refusal_in(message: &Message<'_>) -> Option<Told> {
    if message.name != "error" {
        return None;
    }
    serde_json::from_slice::<[Told; 1]>(&as_array(message.arguments))
        .ok()
        .map(|[told]| told)
}

/// Arguments as they came, in the form that they are handed on in: a strict JSON array.
pub fn as_array(arguments: &str) -> Vec<u8> {
    match arguments.as_bytes().first() {
        None => b"[]".to_vec(),
        Some(b'[') if is_json(arguments) => arguments.as_bytes().to_vec(),
        Some(_) if is_json(arguments) => format!("[{arguments}]").into_bytes(),
        // Not JSON: JSON5, or a text; either way the sender meant something, and the reader is told what came.
        Some(_) => match crate::lenient::to_strict(arguments) {
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
mod tests {
    use super::*;

    fn message(name: &'static str, arguments: &'static str) -> Message<'static> {
        Message {
            name,
            tag: None,
            arguments,
        }
    }

    #[test]
    fn replies_go_to_the_oldest_call_of_their_name() {
        let asked = Asked::default();
        let mut first = asked.ask("add", None).unwrap();
        let mut second = asked.ask("add", None).unwrap();
        let mut other = asked.ask("slow", None).unwrap();
        assert_eq!(asked.answer(&message("tick", "[1]")), Answered::NotOurs);
        assert_eq!(asked.answer(&message("add", "[3]")), Answered::Ours);
        assert_eq!(asked.answer(&message("add", "4")), Answered::Ours);
        let refused = r#"[{"command":"slow","code":"timeout","message":"late"}]"#;
        assert_eq!(asked.answer(&message("error", refused)), Answered::Ours);
        assert_eq!(first.try_recv().unwrap().unwrap(), b"[3]");
        assert_eq!(second.try_recv().unwrap().unwrap(), b"[4]");
        assert_eq!(other.try_recv().unwrap().unwrap_err().code, "timeout");
        assert!(!asked.is_any());
    }

    #[test]
    fn a_late_reply_is_not_taken_for_the_next_ones() {
        let asked = Asked::default();
        drop(asked.ask("add", None).unwrap());
        let mut second = asked.ask("add", None).unwrap();
        assert_eq!(asked.answer(&message("add", "[\"late\"]")), Answered::Ours);
        assert!(second.try_recv().is_err());
        assert_eq!(asked.answer(&message("add", "[2]")), Answered::Ours);
        assert_eq!(second.try_recv().unwrap().unwrap(), b"[2]");
    }

    #[test]
    fn too_many_are_refused_and_an_end_answers_all() {
        let asked = Asked::default();
        let mut all: Vec<_> = (0..ASKED_MAX)
            .map(|_| asked.ask("a", None).unwrap())
            .collect();
        assert_eq!(asked.ask("a", None).unwrap_err().code, "unavailable");
        let gone = Refusal::new(ErrorCode::Crashed, "it has gone");
        asked.fail_all(&gone);
        assert_eq!(all[7].try_recv().unwrap().unwrap_err(), gone);
        assert!(asked.ask("a", None).is_ok());
    }

    #[test]
    fn events_that_nobody_answers_refuse_nothing() {
        let asked = Asked::default();
        for _ in 0..2 * ASKED_MAX {
            asked.expect("tick", None);
        }
        let mut call = asked.ask("add", None).unwrap();
        assert_eq!(asked.answer(&message("add", "[3]")), Answered::Ours);
        assert_eq!(call.try_recv().unwrap().unwrap(), b"[3]");
    }

    #[test]
    fn what_comes_is_handed_on_as_an_array() {
        for (came, handed_on) in [
            ("", "[]"),
            ("[1, 2]", "[1, 2]"),
            ("5", "[5]"),
            ("['x']", r#"["x"]"#),
            ("{a: 1}", r#"[{"a":1}]"#),
            ("hello there", r#"["hello there"]"#),
        ] {
            assert_eq!(
                String::from_utf8(as_array(came)).unwrap(),
                handed_on,
                "{came}"
            );
        }
    }
}
