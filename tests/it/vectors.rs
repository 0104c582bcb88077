//! Every vector of Common TCP through a real socket against a real plugin.
//!
//! Each vector has a connection of its own, once in one write and once byte by byte. After the expected lines the test
//! sends one more command, whose reply must come next. So a surplus line is noticed without waiting for silence.

use std::io::Write as _;

use dae_tests::artefacts::workspace;
use dae_tests::{Ecosystem, Guest, Message};
use serde_json::{Map, Value};

/// The command that shows that nothing else came.
const LAST_WORD: &str = "echo#last [\"word\"]";

struct Vector {
    id: String,
    send: Vec<u8>,
    expect: Vec<Value>,
    half_close: bool,
    closed: bool,
}

fn vectors() -> Vec<Vector> {
    let path = workspace().join("host/common-tcp/vectors/common-tcp.jsonl");
    let text = std::fs::read_to_string(&path).expect("the vectors lie beside the codec");
    text.lines()
        .map(|line| Vector::read(&serde_json::from_str(line).expect("a vector is JSON")))
        .collect()
}

impl Vector {
    fn read(value: &Value) -> Self {
        let flag = |key: &str| value[key].as_bool().unwrap_or(false);
        Vector {
            id: value["id"].as_str().expect("an id").to_owned(),
            send: bytes(&value["send"]),
            expect: value["expect"].as_array().expect("expected lines").clone(),
            half_close: flag("half_close"),
            closed: flag("closed"),
        }
    }

    /// Plays the vector over one connection, with `chunk` bytes per write.
    fn play(&self, port: u16, chunk: usize) {
        let mut guest = Guest::connect(port);
        for bytes in self.send.chunks(chunk) {
            // A connection that is refused early may be closed before all of it is sent.
            let sent = guest.stream().write_all(bytes);
            assert!(sent.is_ok() || self.closed, "{}: {sent:?}", self.id);
        }
        if self.half_close {
            guest.half_close();
        }
        for expected in &self.expect {
            self.check(&guest.message(), expected);
        }
        if self.closed || self.half_close {
            return guest.expect_closed();
        }
        guest.send(format!("{LAST_WORD}\n"));
        assert_eq!(
            guest.message(),
            Message::read(LAST_WORD),
            "{}: a line too many",
            self.id
        );
    }

    fn check(&self, message: &Message, expected: &Value) {
        match expected {
            Value::String(line) => assert_eq!(message, &Message::read(line), "{}", self.id),
            Value::Object(error) => self.check_error(message, error),
            other => panic!(
                "{}: a vector expects lines and errors, not {other}",
                self.id
            ),
        }
    }

    fn check_error(&self, message: &Message, expected: &Map<String, Value>) {
        let tag = expected.get("tag").and_then(Value::as_str);
        assert_eq!(
            (message.name.as_str(), message.tag.as_deref()),
            ("error", tag),
            "{}: {message:?}",
            self.id
        );
        let said = message
            .arguments
            .first()
            .expect("an error says what happened");
        for (key, value) in expected["error"].as_object().expect("the error's members") {
            assert_eq!(&said[key], value, "{}: {key} of {message:?}", self.id);
        }
        let text = said["message"]
            .as_str()
            .expect("an error has words for a person");
        assert!(
            !text.is_empty() && !text.contains('\n'),
            "{}: {text:?}",
            self.id
        );
    }
}

/// Returns the bytes of a string as UTF-8, or of `{"hex": …}`.
fn bytes(send: &Value) -> Vec<u8> {
    let hex = match send {
        Value::String(text) => return text.clone().into_bytes(),
        other => other["hex"].as_str().expect("a string or hex"),
    };
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[test]
fn every_vector_in_one_write() {
    play_all(usize::MAX);
}

#[test]
fn every_vector_byte_by_byte() {
    play_all(1);
}

/// Plays every vector in both modes, with `chunk` bytes per write.
fn play_all(chunk: usize) {
    let ecosystem = Ecosystem::start();
    for (name, flags) in [("Here", &[][..]), ("Apart", &["--isolate"])] {
        let _guest = ecosystem.install(name, "vectors", flags);
        let port = ecosystem.port_of(name);
        vectors().iter().for_each(|vector| vector.play(port, chunk));
    }
}

#[test]
fn there_are_vectors() {
    let ids: std::collections::BTreeSet<String> =
        vectors().into_iter().map(|vector| vector.id).collect();
    assert!(ids.len() >= 30, "only {} vectors were read", ids.len());
    for id in [
        "echo-string",
        "http-post-closed",
        "tagged-overtakes",
        "not-utf8",
        "tls-hello-closed",
        "byte-order-mark-dropped",
    ] {
        assert!(ids.contains(id), "{id} is missing");
    }
}
