//! Tests of the requests that a daemon may make of its host: each operation with valid and with invalid bytes.

use dae_plugin_api::abi::status;

use super::*;

/// Returns the payload of a number and what follows it.
fn numbered(number: u64, rest: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), rest].concat()
}

/// Returns the payload of a call by name.
fn sized(length: u64, rest: &str) -> Vec<u8> {
    numbered(length, rest.as_bytes())
}

fn echo() -> Message<'static> {
    Message {
        name: "echo",
        tag: None,
        arguments: "[1]",
    }
}

fn failed(text: impl Into<String>) -> Completion {
    Completion::failed(text.into())
}

#[test]
fn questions_about_the_instance_itself() {
    use ImmediateRequest::{Config, Credential, GuestOpen};
    for (operation, payload, expected) in [
        ("credential", &b""[..], Ok(Credential)),
        ("credential", b"ignored", Ok(Credential)),
        ("config", b"", Ok(Config)),
        ("guest.open", b"7", Ok(GuestOpen(Some(7)))),
        ("guest.open", b"", Ok(GuestOpen(None))),
        ("guest.open", b"-1", Ok(GuestOpen(None))),
        ("guest.open", b"18446744073709551616", Ok(GuestOpen(None))),
        ("guest.open", b"\xff", Ok(GuestOpen(None))),
        (
            "guest.close",
            &7_u64.to_le_bytes(),
            Ok(ImmediateRequest::Instruction(Instruction::CloseGuest(7))),
        ),
        ("list", b"", Err(Completion::unknown())),
        ("", b"", Err(Completion::unknown())),
    ] {
        let bytes = RequestBytes { operation, payload };
        assert_eq!(ImmediateRequest::read(bytes), expected, "{operation}");
    }
}

/// Checks how an instruction is read, and that a refusal other than `UNKNOWN` has a text.
#[track_caller]
fn check(operation: &str, payload: &[u8], expected: Result<Instruction<'_>, Completion>) {
    let read = Instruction::read(RequestBytes { operation, payload });
    assert_eq!(read, expected, "{operation}");
    if let Err(refusal) = read {
        let is_unknown = refusal.status == status::UNKNOWN;
        assert_eq!(is_unknown, refusal.bytes.is_empty(), "{operation}");
    }
}

#[test]
fn instructions_of_numbers() {
    use Instruction::{CloseEventQueue, CloseGuest, Listen, Watch};
    let listen = |event_queue, guest| Ok(Listen { event_queue, guest });
    let both = numbered(7, &9_u64.to_le_bytes());
    for (operation, payload, expected) in [
        ("guest.listen", both, listen(7, 9)),
        ("guest.listen", numbered(7, b"cut off"), listen(7, 0)),
        ("guest.listen", b"cut off".to_vec(), listen(0, 0)),
        ("guest.close", numbered(9, b""), Ok(CloseGuest(9))),
        ("guest.close", Vec::new(), Ok(CloseGuest(0))),
        ("feed.watch", numbered(7, b""), Ok(Watch(7))),
        ("feed.watch", Vec::new(), Ok(Watch(0))),
        ("feed.close", numbered(7, b""), Ok(CloseEventQueue(7))),
        ("feed.close", Vec::new(), Ok(CloseEventQueue(0))),
    ] {
        check(operation, &payload, expected);
    }
    // A worker answers the first three by itself; the next one belongs to `ask_later`.
    for operation in ["credential", "config", "guest.open", "call", "nonsense", ""] {
        check(operation, b"7", Err(Completion::unknown()));
    }
}

#[test]
fn instructions_about_topics() {
    let subscribed = Ok(Instruction::Subscribe {
        event_queue: 7,
        topic: "tick",
    });
    check("feed.subscribe", &numbered(7, b"tick"), subscribed);
    let published = Ok(Instruction::Publish {
        topic: "tick",
        line: b"tick [1]",
    });
    check("publish", b"tick [1]", published);
    let long = "x".repeat(129);
    for topic in ["list", "", "a b", &long] {
        let refused = Err(failed(check_topic(topic).unwrap_err()));
        check("feed.subscribe", &numbered(7, topic.as_bytes()), refused);
    }
    let no_text = Err(failed("the topic is not UTF-8"));
    check("feed.subscribe", &numbered(7, b"\xff"), no_text);
    let no_topic = Err(failed(check_topic("").unwrap_err()));
    check("feed.subscribe", b"cut off", no_topic);
    let reserved = Err(failed(check_topic("list").unwrap_err()));
    check("publish", b"list [1]", reserved);
    for payload in [&b"tick []\nerror []"[..], b"\xff []", b""] {
        check("publish", payload, Err(failed(NOT_A_LINE)));
    }
}

#[test]
fn requests_that_are_answered_later() {
    use DeferredRequest::{Call, CallGuest, Connect, Find, List, NextLines};
    let call = |daemon| {
        let message = echo();
        Ok(Call { daemon, message })
    };
    let called_guest = Ok(CallGuest {
        guest: 9,
        message: echo(),
        line: b"echo [1]",
    });
    for (operation, payload, expected) in [
        ("connect", b"B".to_vec(), Ok(Connect("B"))),
        ("connect", Vec::new(), Ok(Connect(""))),
        ("connect", b"\xff".to_vec(), Err(not_utf8())),
        ("guest.call", numbered(9, b"echo [1]"), called_guest),
        ("guest.call", numbered(9, b""), Err(not_a_line())),
        ("guest.call", numbered(9, b"\xff []"), Err(not_a_line())),
        ("guest.call", b"cut off".to_vec(), Err(not_a_line())),
        ("call", sized(1, "Becho [1]"), call("B")),
        ("call", sized(0, "echo [1]"), call("")),
        ("call", sized(99, "Becho [1]"), Err(not_a_line())),
        ("call", sized(u64::MAX, "Becho [1]"), Err(not_a_line())),
        ("call", sized(1, "B"), Err(not_a_line())),
        ("call", numbered(1, b"\xffecho [1]"), Err(not_a_line())),
        ("call", Vec::new(), Err(not_a_line())),
        ("list", Vec::new(), Ok(List)),
        ("list", b"ignored".to_vec(), Ok(List)),
        ("find", b"B".to_vec(), Ok(Find("B".into()))),
        ("find", b"\xff".to_vec(), Ok(Find("\u{fffd}".into()))),
        ("feed.next", numbered(7, b""), Ok(NextLines(7))),
        ("feed.next", Vec::new(), Ok(NextLines(0))),
        ("publish", b"tick [1]".to_vec(), Err(Completion::unknown())),
        ("nonsense", Vec::new(), Err(Completion::unknown())),
    ] {
        let payload = &payload[..];
        let read = DeferredRequest::read(RequestBytes { operation, payload });
        assert_eq!(read, expected, "{operation}");
    }
}

#[test]
fn a_save_needs_no_payload() {
    let (operation, payload) = ("save", &b"ignored"[..]);
    let read = DeferredRequest::read(RequestBytes { operation, payload });
    assert_eq!(read, Ok(DeferredRequest::Save));
}

/// Returns the names that `dae_plugin_api::operation` declares.
fn declared() -> Vec<&'static str> {
    let source = include_str!("../../../../../plugin-api/src/operation.rs");
    let constants = source.lines().filter(|line| line.starts_with("pub const "));
    let names = constants.filter_map(|line| line.split('"').nth(1));
    names.collect()
}

#[test]
fn every_operation_of_the_boundary_is_known_to_one_of_its_functions() {
    let names = declared();
    assert!(names.len() >= 15, "{names:?}");
    for operation in names {
        let payload = b"";
        let bytes = RequestBytes { operation, payload };
        let unknown = Some(Completion::unknown());
        let at_once = ImmediateRequest::read(bytes).err() != unknown;
        let later = DeferredRequest::read(bytes).err() != unknown;
        assert!(at_once != later, "{operation}");
    }
}
