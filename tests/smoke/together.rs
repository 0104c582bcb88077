//! Daemons that talk to daemons, in the host's process and in their own.

use dae_tests::{Guest, until};
use serde_json::json;

use crate::host::{Host, PATIENT};
use crate::program::Program;

/// The two modes: a daemon's name in each, and the flags that choose it.
const MODES: [(&str, &[&str]); 2] = [("Near", &[]), ("Apart", &["--isolate"])];

#[test]
fn daemons_call_each_other_in_both_modes() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let mut callers = Vec::new();
    for (name, flags) in MODES {
        callers.push(host.install(name, "peer", flags));
        host.install(&format!("{name}Counter"), "counter", flags);
    }
    for (count, caller) in (1..).zip(&mut callers) {
        for target in ["NearCounter", "ApartCounter"] {
            let answer = caller.ask("call", &json!([target, "increment", 1]));
            assert_eq!(answer, count, "{target}");
        }
        let fault = caller.ask_in_vain("call", &json!(["NearCount", "increment"]));
        assert!(fault.message.contains("NearCount"), "{fault:?}");
    }
}

#[test]
fn events_of_a_topic_reach_subscribers_in_both_modes() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let mut dae = host.guest("Dae");
    let mut subscribers: Vec<Guest> = Vec::new();
    for (name, flags) in MODES {
        subscribers.push(host.install(name, "peer", flags));
    }
    for (name, flags) in MODES {
        let topic = format!("tick-{name}");
        dae.ask("subscribe", &json!([topic]));
        for subscriber in &mut subscribers {
            subscriber.ask("subscribe", &json!([topic]));
        }
        let config = json!({"every_ms": 20, "topic": topic}).to_string();
        let flags = [&["--config", &config], flags].concat();
        let mut clock = host.install(&format!("{name}Clock"), "clock", &flags);
        assert_eq!(dae.message().name, topic);
        for subscriber in &mut subscribers {
            until(PATIENT, "a subscriber hears it", || {
                let heard = subscriber.ask("heard", &json!([]));
                heard.to_string().contains(&topic)
            });
        }
        clock.ask("subscribe", &json!([]));
        assert_eq!(clock.message().name, "tick");
        dae.send(format!("unsubscribe [\"{topic}\"]\n"));
        until(PATIENT, "no more events", || {
            dae.message().name == "unsubscribe"
        });
    }
}
