//! Checks the codec against the protocol's test vectors.
//!
//! A daemon of a few lines has the commands that the vectors need. It has no clock: each answer has a time at which
//! it would be ready, and the answers are sorted by those times. So this tests what the codec reads and writes. The
//! host's tests cover real sockets.

use dae_common_tcp::{
    DaemonError, ErrorCode, Inbox, LINE_BYTES_MAX, Line, Message, Part, asks_for_parts,
    close_reply, open_reply, write_daemon_error, write_error, write_part,
};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../vectors/common-tcp.jsonl");

/// The least number of vectors, because a truncated file would pass by testing nothing.
const VECTORS_MIN: usize = 30;

/// One answer, and the time at which it would be ready.
struct Answer {
    ready_ms: u64,
    bytes: Vec<u8>,
}

/// A complete connection, with its answers in the order of the commands.
#[derive(Default)]
struct Connection {
    answers: Vec<Answer>,
    /// The time at which the last answer to an untagged command is ready. The next such answer can't be sent
    /// before.
    untagged_ms: u64,
    /// True while the connection asks for parts.
    takes_parts: bool,
    is_closed: bool,
}

impl Connection {
    fn take(&mut self, line: &Line<'_>) {
        let mut bytes = Vec::new();
        let (tag, ready_ms) = match line {
            Line::OtherProtocol(_) => {
                self.is_closed = true;
                return;
            }
            Line::Fault(fault) => {
                write_error(
                    &mut bytes,
                    fault.command,
                    fault.tag,
                    fault.code,
                    &fault.message,
                );
                (fault.tag, 0)
            }
            Line::Message(message) if message.name == "dae" && !message.arguments.is_empty() => {
                self.takes_parts = asks_for_parts(message.arguments).unwrap_or(self.takes_parts);
                return;
            }
            Line::Message(message) => match self.answer(message, &mut bytes) {
                Some(ready_ms) => (message.tag, ready_ms),
                None => return,
            },
        };
        let ready_ms = match tag {
            Some(_) => ready_ms,
            None => ready_ms.max(self.untagged_ms),
        };
        if tag.is_none() {
            self.untagged_ms = ready_ms;
        }
        self.answers.push(Answer { ready_ms, bytes });
    }

    /// Answers a message, in parts if it is a `count` that was asked for so.
    fn answer(&self, message: &Message<'_>, out: &mut Vec<u8>) -> Option<u64> {
        let (Some(tag), Ok((Some(Value::Array(items)), _)), true) = (
            message.tag,
            call(message),
            message.name == "count" && self.takes_parts,
        ) else {
            return answer(message, out);
        };
        for item in items {
            let item = item.to_string();
            let part = Part {
                command: message.name,
                tag,
                is_progress: false,
                item: item.as_bytes(),
            };
            write_part(out, part);
        }
        let start = open_reply(out, message.name, message.tag);
        close_reply(out, start);
        Some(0)
    }

    /// Returns all bytes that were sent, in order of time.
    fn sent(mut self) -> Vec<u8> {
        self.answers.sort_by_key(|answer| answer.ready_ms);
        self.answers
            .into_iter()
            .flat_map(|answer| answer.bytes)
            .collect()
    }
}

/// Writes the answer to a message, if it needs one, and returns the time at which it would be ready.
fn answer(message: &Message<'_>, out: &mut Vec<u8>) -> Option<u64> {
    let is_stray = matches!(message.name, "dae" | "options" | "error");
    if is_stray && !message.arguments.is_empty() {
        return None;
    }
    match call(message) {
        Ok((value, ready_ms)) => {
            let start = open_reply(out, message.name, message.tag);
            if let Some(value) = value {
                out.extend_from_slice(value.to_string().as_bytes());
            }
            close_reply(out, start);
            Some(ready_ms)
        }
        Err(refusal) => {
            let data = refusal.data.map(|data| data.to_string());
            let error = DaemonError {
                code: &refusal.code,
                message: &refusal.text,
                data: data.as_deref(),
            };
            write_daemon_error(out, message.name, message.tag, &error);
            Some(0)
        }
    }
}

/// The failure of a command.
struct Refusal {
    code: String,
    text: String,
    data: Option<Value>,
}

impl Refusal {
    fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Refusal {
            code: code.as_str().to_owned(),
            text: text.into(),
            data: None,
        }
    }

    /// Returns the error of an author, whose code is replaced if it is none.
    fn own(code: &Value, text: &Value, data: Option<&Value>) -> Self {
        let (code, text) = (code.as_str().unwrap_or(""), text.as_str().unwrap_or(""));
        let is_word = code
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let is_own = is_word && code.parse::<ErrorCode>().is_err();
        Refusal {
            code: if is_own { code } else { "failed" }.to_owned(),
            text: text.to_owned(),
            data: data.cloned(),
        }
    }
}

/// Returns the result of a command and the time at which it is ready, or its failure.
fn call(message: &Message<'_>) -> Result<(Option<Value>, u64), Refusal> {
    let arguments = arguments_of(message.arguments)?;
    match (message.name, arguments.as_slice()) {
        ("echo", [value]) => Ok((Some(value.clone()), 0)),
        ("add", [a, b]) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok((Some(json!(a + b)), 0)),
            _ => Err(Refusal::new(
                ErrorCode::BadArguments,
                "two numbers expected",
            )),
        },
        ("count", [n]) if n.is_u64() => {
            let last = n.as_u64().unwrap_or(0);
            Ok((Some((1..=last).collect()), 0))
        }
        ("nothing", []) => Ok((None, 0)),
        ("slow", [ms]) => Ok((Some(ms.clone()), ms.as_u64().unwrap_or(0))),
        ("fail", [text]) => Err(Refusal::new(ErrorCode::Failed, text.as_str().unwrap_or(""))),
        ("refuse", [code, text]) => Err(Refusal::own(code, text, None)),
        ("refuse", [code, text, data]) => Err(Refusal::own(code, text, Some(data))),
        ("echo" | "add" | "count" | "nothing" | "slow" | "fail" | "refuse", _) => {
            Err(Refusal::new(ErrorCode::BadArguments, "wrong count"))
        }
        _ => Err(Refusal::new(ErrorCode::UnknownCommand, "see options")),
    }
}

fn arguments_of(text: &str) -> Result<Vec<Value>, Refusal> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let strict = serde_json::from_str(text).ok();
    match strict.map_or_else(|| json5::from_str(text), Ok) {
        Ok(Value::Array(arguments)) => Ok(arguments),
        Ok(argument) => Ok(vec![argument]),
        Err(fault) => Err(Refusal::new(ErrorCode::BadArguments, fault.to_string())),
    }
}

/// Runs a connection over `bytes` that come in pieces of `piece_bytes`.
fn run(bytes: &[u8], piece_bytes: usize) -> Connection {
    let mut inbox = Inbox::new(LINE_BYTES_MAX);
    let mut connection = Connection::default();
    for piece in bytes.chunks(piece_bytes) {
        inbox.room(piece.len()).extend_from_slice(piece);
        while let Some(line) = inbox.next() {
            connection.take(&line);
        }
    }
    if let Some(line) = inbox.finish() {
        connection.take(&line);
    }
    connection
}

/// Returns the bytes that a vector sends.
fn sent_bytes(vector: &Value) -> Vec<u8> {
    match &vector["send"] {
        Value::String(text) => text.clone().into_bytes(),
        object => {
            let hex = object["hex"].as_str().expect("send is a string or {hex}");
            let digits = hex.as_bytes().chunks(2);
            digits.map(byte_of_hex).collect()
        }
    }
}

fn byte_of_hex(digits: &[u8]) -> u8 {
    let text = std::str::from_utf8(digits).expect("hex is ASCII");
    u8::from_str_radix(text, 16).expect("two hex digits")
}

/// Splits a line into its name, its tag and its JSON value, for comparison.
fn read_line(line: &str) -> (String, Option<String>, Value) {
    let (command, arguments) = line.split_once(' ').expect("a name and an array");
    let arguments = serde_json::from_str(arguments).expect("strict JSON");
    match command.split_once('#') {
        Some((name, tag)) => (name.to_owned(), Some(tag.to_owned()), arguments),
        None => (command.to_owned(), None, arguments),
    }
}

/// Returns whether a line is what a vector expects: the same line, or an error with at least those members.
fn is_expected(line: &str, expected: &Value) -> bool {
    let (name, tag, arguments) = read_line(line);
    if let Value::String(expected) = expected {
        return (name, tag, arguments) == read_line(expected);
    }
    let members = expected["error"].as_object().expect("an error's members");
    name == "error"
        && tag.as_deref() == expected["tag"].as_str()
        && members
            .iter()
            .all(|(key, value)| arguments[0][key] == *value)
}

fn check_vector(vector: &Value, piece_bytes: usize) {
    let connection = run(&sent_bytes(vector), piece_bytes);
    assert_eq!(
        connection.is_closed,
        vector["closed"] == json!(true),
        "{vector}"
    );
    let sent = String::from_utf8(connection.sent()).expect("UTF-8 goes out");
    let expected = vector["expect"].as_array().expect("expect is an array");
    assert_eq!(
        sent.lines().count(),
        expected.len(),
        "{vector}\nsent:\n{sent}"
    );
    for (line, expected) in sent.lines().zip(expected) {
        assert!(is_expected(line, expected), "{vector}\nsent: {line}");
    }
}

#[test]
fn all_vectors_hold_however_they_are_split() {
    let vectors: Vec<Value> = VECTORS
        .lines()
        .map(|line| serde_json::from_str(line).expect("a vector is one JSON line"))
        .collect();
    assert!(
        vectors.len() >= VECTORS_MIN,
        "only {} vectors",
        vectors.len()
    );
    for vector in &vectors {
        for piece_bytes in [1, 2, 7, usize::MAX] {
            check_vector(vector, piece_bytes);
        }
    }
}
