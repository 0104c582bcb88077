//! The requests that a daemon may make of its host: from an operation's name and its payload to a value.
//!
//! Each name is matched here and nowhere else. Everything that carries a request out matches the value exhaustively, so
//! the compiler names each place that a new operation concerns. The two functions of the boundary that take requests
//! have a type each: [`ImmediateRequest`] for `ask`, [`DeferredRequest`] for `ask_later`.
//!
//! A refusal that needs only the request is also decided here. A daemon in a process of its own is answered by its
//! worker before the host has the request, so worker and host read requests by the same rules, and a daemon gets the
//! same answer in both modes. The host reads a worker's requests once more, because it trusts no process that runs a
//! plugin.
//!
//! A number that is cut off reads as 0, which no guest has.

use std::borrow::Cow;

use dae_common_tcp::{ErrorCode, Line, Message, is_name, read_line};
use dae_plugin_api::operation;
use dae_plugin_api::parts::{PART_BYTES_MAX, kind};

use crate::connection::guest_handle::SentPart;
use crate::connection::pending_calls::CallError;
use crate::plugin::completion::Completion;
use crate::plugin::payload::{split_sized, split_u64};

/// The most event queues that one instance may have open.
pub(crate) const EVENT_QUEUES_MAX: usize = 4096;

/// The text for a payload that should be a line.
const NOT_A_LINE: &str = "that is no line: a name, a space, and a JSON array";

/// The names of lines that Dae sends and answers itself. They cannot be topics: a subscriber that is connected to Dae
/// could not distinguish them from events.
const OF_DAE: [&str; 14] = [
    "announce",
    "connect",
    "dae",
    "disconnect",
    "error",
    "find",
    "help",
    "list",
    "options",
    "part",
    "publish",
    "stats",
    "subscribe",
    "unsubscribe",
];

/// A request as the daemon sent it. A worker passes these bytes on to its host.
#[derive(Debug, Clone, Copy)]
pub struct RequestBytes<'a> {
    /// The name of the operation.
    pub operation: &'a str,
    /// The data of the request.
    pub payload: &'a [u8],
}

/// A request that is answered at once.
#[derive(Debug, PartialEq, Eq)]
pub enum ImmediateRequest<'a> {
    /// Asks for the daemon's own credential.
    Credential,
    /// Asks for the daemon's config.
    Config,
    /// Asks for the trace of the command that asks.
    TraceParent,
    /// Asks whether a guest is there; `None` if the request names no number.
    GuestOpen(Option<u64>),
    /// Changes something in the host.
    Instruction(Instruction<'a>),
}

/// A request that changes something in the host. It is answered at once, even where the host is in another process.
#[derive(Debug, PartialEq, Eq)]
pub enum Instruction<'a> {
    /// Adds an event queue as a receiver of a guest's events.
    Listen {
        /// The number of the new queue.
        event_queue: u64,
        /// The guest.
        guest: u64,
    },
    /// Closes a guest's connection.
    CloseGuest(u64),
    /// Opens an event queue for a topic.
    Subscribe {
        /// The number of the new queue.
        event_queue: u64,
        /// The topic, which is a valid one.
        topic: &'a str,
    },
    /// Opens the event queue of that number for all topics.
    SubscribeAll(u64),
    /// Opens the event queue of that number for the daemons that come, change and go.
    Watch(u64),
    /// Closes the event queue of that number.
    CloseEventQueue(u64),
    /// Publishes an event.
    Publish {
        /// The topic, which is a valid one.
        topic: &'a str,
        /// The event, one whole line.
        line: &'a [u8],
    },
}

/// A request whose answer may come later.
#[derive(Debug, PartialEq, Eq)]
pub enum DeferredRequest<'a> {
    /// Connects to the daemon of that name.
    Connect(&'a str),
    /// Sends a command to a guest.
    CallGuest {
        /// The guest.
        guest: u64,
        /// The command.
        message: Message<'a>,
        /// The command as it came.
        line: &'a [u8],
    },
    /// Sends a command to a daemon.
    Call {
        /// The name of the daemon.
        daemon: &'a str,
        /// The command.
        message: Message<'a>,
    },
    /// Asks for the credentials of all daemons.
    List,
    /// Asks for the credential of the daemon of that name.
    Find(Cow<'a, str>),
    /// Provides a daemon of another host, with this credential.
    Provide(&'a str),
    /// Withdraws the daemon of another host that has this name.
    Withdraw(&'a str),
    /// Asks for the next lines of the event queue of that number.
    NextLines(u64),
    /// Keeps the daemon's state.
    Save,
    /// Passes an item of a running command to its caller.
    Part(SentPart<'a>),
}

impl<'a> ImmediateRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// The refusal of an unknown operation or an invalid payload.
    pub fn read(bytes: RequestBytes<'a>) -> Result<Self, Completion> {
        Ok(match bytes.operation {
            operation::CREDENTIAL => ImmediateRequest::Credential,
            operation::CONFIG => ImmediateRequest::Config,
            operation::TRACE_PARENT => ImmediateRequest::TraceParent,
            operation::GUEST_OPEN => {
                let number = std::str::from_utf8(bytes.payload).ok();
                ImmediateRequest::GuestOpen(number.and_then(|number| number.parse().ok()))
            }
            _ => ImmediateRequest::Instruction(Instruction::read(bytes)?),
        })
    }
}

impl<'a> Instruction<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// The refusal of an unknown operation or an invalid payload.
    pub fn read(bytes: RequestBytes<'a>) -> Result<Self, Completion> {
        let (number, rest) = split_u64(bytes.payload);
        Ok(match bytes.operation {
            operation::GUEST_LISTEN => Instruction::Listen {
                event_queue: number,
                guest: split_u64(rest).0,
            },
            operation::GUEST_CLOSE => Instruction::CloseGuest(number),
            operation::QUEUE_SUBSCRIBE => Instruction::Subscribe {
                event_queue: number,
                topic: topic(std::str::from_utf8(rest).map_err(|_| "the topic is not UTF-8"))?,
            },
            operation::QUEUE_SUBSCRIBE_ALL => Instruction::SubscribeAll(number),
            operation::QUEUE_WATCH => Instruction::Watch(number),
            operation::QUEUE_CLOSE => Instruction::CloseEventQueue(number),
            operation::PUBLISH => Instruction::Publish {
                topic: topic(event(bytes.payload).ok_or(NOT_A_LINE))?,
                line: bytes.payload,
            },
            _ => return Err(Completion::unknown()),
        })
    }
}

impl<'a> DeferredRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// The refusal of an unknown operation or an invalid payload.
    pub fn read(bytes: RequestBytes<'a>) -> Result<Self, Completion> {
        let (number, rest) = split_u64(bytes.payload);
        Ok(match bytes.operation {
            operation::CONNECT => DeferredRequest::Connect(text(bytes.payload)?),
            operation::PROVIDE => DeferredRequest::Provide(text(bytes.payload)?),
            operation::WITHDRAW => DeferredRequest::Withdraw(text(bytes.payload)?),
            operation::GUEST_CALL => DeferredRequest::CallGuest {
                guest: number,
                message: message(rest)?,
                line: rest,
            },
            operation::CALL => {
                let (daemon, line) = split_sized(bytes.payload).ok_or_else(not_a_line)?;
                DeferredRequest::Call {
                    daemon: std::str::from_utf8(daemon).map_err(|_| not_a_line())?,
                    message: message(line)?,
                }
            }
            operation::LIST => DeferredRequest::List,
            operation::FIND => DeferredRequest::Find(String::from_utf8_lossy(bytes.payload)),
            operation::QUEUE_NEXT => DeferredRequest::NextLines(number),
            operation::SAVE => DeferredRequest::Save,
            operation::PART => DeferredRequest::Part(part(number, rest)?),
            _ => return Err(Completion::unknown()),
        })
    }
}

/// Checks the name of a topic.
///
/// # Errors
/// The reason why it is not allowed, for a person.
pub fn check_topic(topic: &str) -> Result<(), String> {
    if OF_DAE.contains(&topic) {
        return Err(format!(
            "{topic} can be no topic: Dae's own lines have that name"
        ));
    }
    match is_name(topic) {
        true => Ok(()),
        false => Err(format!(
            "{topic:?} is no topic: 1 to 128 bytes without white space, control characters or `#`"
        )),
    }
}

/// Returns the refusal of an event queue beyond [`EVENT_QUEUES_MAX`].
pub(crate) fn too_many_event_queues() -> Completion {
    Completion::failed(format!(
        "this daemon listens in {EVENT_QUEUES_MAX} places already, as many as it may"
    ))
}

fn topic<'a>(read: Result<&'a str, &str>) -> Result<&'a str, Completion> {
    let checked = read.map_err(str::to_owned);
    let checked = checked.and_then(|topic| check_topic(topic).map(|()| topic));
    checked.map_err(Completion::failed)
}

/// Returns the name of an event. The payload must be one line.
fn event(payload: &[u8]) -> Option<&str> {
    match read_line(payload) {
        // A second line would have a name that was not checked.
        Line::Message(message) if !payload.contains(&b'\n') => Some(message.name),
        _ => None,
    }
}

fn message(line: &[u8]) -> Result<Message<'_>, Completion> {
    match read_line(line) {
        Line::Message(message) => Ok(message),
        _ => Err(not_a_line()),
    }
}

/// Reads what follows the guest in a part: the call, the kind, and the item.
fn part(guest: u64, rest: &[u8]) -> Result<SentPart<'_>, Completion> {
    let (call, rest) = split_u64(rest);
    let Some((kind, item)) = rest.split_first() else {
        return Err(Completion::gone());
    };
    // JSON is UTF-8, and so is every line.
    if item.len() > PART_BYTES_MAX || std::str::from_utf8(item).is_err() {
        return Err(Completion::failed(format!(
            "that is no item of a part: JSON of at most {PART_BYTES_MAX} bytes"
        )));
    }
    Ok(SentPart {
        guest,
        call,
        is_progress: *kind == kind::PROGRESS,
        item,
    })
}

fn text(payload: &[u8]) -> Result<&str, Completion> {
    std::str::from_utf8(payload).map_err(|_| not_utf8())
}

fn not_utf8() -> Completion {
    CallError::new(ErrorCode::BadArguments, "the name is not UTF-8").into()
}

fn not_a_line() -> Completion {
    CallError::new(ErrorCode::BadName, NOT_A_LINE).into()
}

#[cfg(test)]
mod tests;
