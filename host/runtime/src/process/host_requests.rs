//! The requests that a daemon may make of its host, and the refusals that need only the request.
//!
//! A daemon in a process of its own is answered by its worker before the host has the request. Worker and host both
//! check requests here, so that a daemon gets the same answer in both modes. The host checks a worker's requests once
//! more, because it trusts no process that runs a plugin.

use dae_common_tcp::{Line, Message, is_name, read_line};
use dae_plugin_api::abi::status;
use dae_plugin_api::operation;

use crate::plugin::completion::Completion;
use crate::process::ipc::split_u64;

/// The most event queues that one instance may have open.
pub(crate) const FEEDS_MAX: usize = 4096;

/// The names of lines that Dae sends and answers itself. They cannot be topics: a subscriber that is connected to Dae
/// could not distinguish them from events.
const OF_DAE: [&str; 13] = [
    "announce",
    "connect",
    "dae",
    "disconnect",
    "error",
    "find",
    "help",
    "list",
    "options",
    "publish",
    "stats",
    "subscribe",
    "unsubscribe",
];

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

/// Reads a request that must be one line: an event.
pub fn event(line: &[u8]) -> Option<Message<'_>> {
    match read_line(line) {
        // A second line would have a name that was not checked.
        Line::Message(message) if !line.contains(&b'\n') => Some(message),
        _ => None,
    }
}

/// Returns the refusal of an invalid request, or `None` if it may be carried out.
pub fn refusal(operation: &str, request: &[u8]) -> Option<Completion> {
    let checked = match operation {
        operation::FEED_SUBSCRIBE => match std::str::from_utf8(split_u64(request).1) {
            Ok(topic) => check_topic(topic),
            Err(_) => Err("the topic is not UTF-8".to_owned()),
        },
        operation::PUBLISH => match event(request) {
            Some(message) => check_topic(message.name),
            None => Err("that is no line: a name, a space, and a JSON array".to_owned()),
        },
        operation::GUEST_LISTEN
        | operation::GUEST_CLOSE
        | operation::FEED_WATCH
        | operation::FEED_CLOSE => Ok(()),
        _ => return Some(ended(status::UNKNOWN, String::new())),
    };
    checked.err().map(|text| ended(status::FAILED, text))
}

/// Returns the refusal of an event queue beyond [`FEEDS_MAX`].
pub(crate) fn too_many_event_queues() -> Completion {
    let text = format!("this daemon listens in {FEEDS_MAX} places already, as many as it may");
    ended(status::FAILED, text)
}

fn ended(status: u32, text: String) -> Completion {
    Completion {
        status,
        bytes: text.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_refused_by_the_request_alone() {
        let event_queue = |topic: &str| [&7_u64.to_le_bytes(), topic.as_bytes()].concat();
        let long = "x".repeat(129);
        for (operation, request, expected) in [
            ("feed.subscribe", event_queue("tick"), None),
            ("feed.subscribe", event_queue("list"), Some(status::FAILED)),
            ("feed.subscribe", event_queue(""), Some(status::FAILED)),
            ("feed.subscribe", event_queue("a b"), Some(status::FAILED)),
            ("feed.subscribe", event_queue(&long), Some(status::FAILED)),
            ("feed.subscribe", b"short".to_vec(), Some(status::FAILED)),
            ("publish", b"tick [1]".to_vec(), None),
            ("publish", b"list [1]".to_vec(), Some(status::FAILED)),
            (
                "publish",
                b"tick []\nerror []".to_vec(),
                Some(status::FAILED),
            ),
            ("publish", b"\xff []".to_vec(), Some(status::FAILED)),
            ("publish", Vec::new(), Some(status::FAILED)),
            ("guest.listen", event_queue(""), None),
            ("call", Vec::new(), Some(status::UNKNOWN)),
            ("", Vec::new(), Some(status::UNKNOWN)),
        ] {
            let refused = refusal(operation, &request);
            assert_eq!(
                refused.as_ref().map(|ended| ended.status),
                expected,
                "{operation}"
            );
            let is_told = refused
                .is_none_or(|ended| ended.status == status::UNKNOWN || !ended.bytes.is_empty());
            assert!(is_told, "{operation}");
        }
    }
}
