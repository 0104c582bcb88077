//! The test host of `dae_plugin_api::testing` answers as a real host does: one script of calls, sent to both.

use dae_plugin_api::testing::{self, TestGuest};
use dae_tests::{Ecosystem, Guest};
use serde_json::{Value, json};

#[path = "../fixtures/vectors/src/lib.rs"]
mod vectors;

/// The commands of the script, with results and errors of each kind.
fn script() -> Vec<(&'static str, Value)> {
    vec![
        ("echo", json!([{"a": [1, "x", null]}])),
        ("add", json!([1, 2.5])),
        ("add", json!([1])),
        ("add", json!([1, "x"])),
        ("add", json!([1, 2, 3])),
        ("nothing", json!([])),
        ("nothing", json!([1])),
        ("fail", json!(["no"])),
        ("fail", json!([""])),
        ("refuse", json!(["not-found", "no", {"key": 1, "n": 0.5}])),
        ("refuse", json!(["full", ""])),
        ("refuse", json!(["crashed", "no", [u64::MAX]])),
        ("refuse", json!(["a b", "no"])),
        ("slow", json!([0])),
        ("slow", json!([-1])),
        ("ready", json!([[]])),
        ("count", json!([3])),
        ("count", json!([0])),
        ("count", json!([300_000])),
        ("count", json!(["x"])),
        ("push", json!([2])),
        ("panic", json!([])),
        ("block", json!([1])),
        ("block", json!(["x"])),
        ("unheard-of", json!([])),
        ("options", json!([])),
    ]
}

/// The questions about commands, and the commands with a type of the daemon's own.
fn questions() -> Vec<(&'static str, Value)> {
    vec![
        ("help", json!([])),
        ("help", json!(["echo"])),
        ("help", json!(["help"])),
        ("help", json!(["zzzzzzzz"])),
        ("help", json!([1])),
        ("help", json!(["places"])),
        ("help", json!(["echo", "places"])),
        ("help", json!([{"command": "places"}])),
        ("help", json!("places")),
        ("places", json!([{"east": 1, "name": null}])),
        ("places", json!([{"name": "x"}])),
    ]
}

/// A reply, or an error's code, text and data.
type Replied = Result<Value, (String, String, Option<Value>)>;

fn real(guest: &mut Guest, name: &str, arguments: &Value) -> Replied {
    let reply = guest.try_ask(name, arguments);
    reply.map_err(|fault| (fault.code, fault.message, fault.data))
}

fn tested(guest: &TestGuest, name: &str, arguments: &Value) -> Replied {
    guest.call(name, arguments).map_err(|error| {
        let code = error.code().expect("a code of the protocol").to_owned();
        // The caller's error ends with the code, the command and the daemon.
        let origin = format!(" ({code}, {name} at Vectors)");
        let text = error.to_string();
        let text = text.strip_suffix(&origin).unwrap_or(&text);
        // This file includes the daemon's source by a path of its own.
        (code, text.replace("it/../", ""), error.data().cloned())
    })
}

#[test]
fn a_test_host_answers_as_a_real_host_does() {
    let host = testing::host();
    let daemon = host.start::<vectors::Vectors>(()).expect("it starts");
    let in_test = daemon.guest().expect("a guest");
    for flags in [&[][..], &["--isolate"]] {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Vectors", "vectors", flags);
        for (name, arguments) in script().into_iter().chain(questions()) {
            let expected = real(&mut guest, name, &arguments);
            let found = tested(&in_test, name, &arguments);
            assert_eq!(found, expected, "{name} {arguments} {flags:?}");
        }
        let events: Vec<String> = in_test.events().iter().map(ToString::to_string).collect();
        assert_eq!(events, ["tick [0]", "tick [1]"]);
    }
}
