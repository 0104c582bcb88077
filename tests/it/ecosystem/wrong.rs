//! A daemon's wrong requests to its host are answered the same in both modes.

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::{Value, json};

use super::flags;

/// Returns the answers that the fixture's `try_wrong` gets.
fn answers(is_apart: bool) -> Vec<String> {
    // The time that a call to a stopped daemon waits for it (ms).
    let ecosystem = Ecosystem::start_configured(&json!({"instance_wait_ms": 200}));
    let mut a = ecosystem.install("A", "peer", flags(is_apart));
    let _b = ecosystem.install("B", "peer", &[]);
    let _c = ecosystem.install("C", "peer", &[]);
    let mut leaving = ecosystem.guest("A");
    let gone = leaving.ask("keep_me", &json!([]));
    drop(leaving);
    let closed = a.ask("connect", &json!(["B"]));
    a.ask("close", &json!([closed]));
    assert_eq!(
        a.ask("is_open", &json!([closed])),
        false,
        "apart: {is_apart}: a connection is closed as soon as its daemon has closed it"
    );
    let away = a.ask("connect", &json!(["C"]));
    let _ = ecosystem.cli(&["stop", "C"]).ok();
    for number in [&gone, &away] {
        until(LIMIT, "the connection is not open", || {
            a.ask("is_open", &json!([number])) == Value::Bool(false)
        });
    }
    let all = a.ask("try_wrong", &json!([gone, closed, away]));
    serde_json::from_value(all).expect("texts")
}

#[test]
fn what_is_asked_wrongly_is_answered_the_same_in_both_modes() {
    let (here, apart) = (answers(false), answers(true));
    assert!(here.len() > 90, "{here:?}");
    for (here, apart) in here.iter().zip(&apart) {
        assert_eq!(
            here, apart,
            "left: in the host's process, right: in its own"
        );
    }
    assert_eq!(here.len(), apart.len());
    let refused = |what: &str| {
        here.iter()
            .any(|one| one.starts_with(what) && !one.ends_with(": ok"))
    };
    for name in ["list", "dae", "error", "connect", "", "a b"] {
        assert!(refused(&format!("subscribe({name:?})")), "{here:?}");
        assert!(refused(&format!("publish({name:?})")), "{here:?}");
    }
    for gone in ["gone", "closed"] {
        for what in ["on", "once", "events", "emit", "call", "credential"] {
            assert!(refused(&format!("{what}({gone:?})")), "{here:?}");
        }
    }
    assert!(here.iter().all(|one| !one.ends_with(": ")), "{here:?}");
}
