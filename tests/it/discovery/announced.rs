//! Daemons that announce themselves to the host.

use dae_tests::{LIMIT, until};
use serde_json::{Value, json};

use super::scene::{Habit, Recorder, host_among, host_that_asks, scan};

/// Announces a daemon, again while the host answers that it is too soon after the last time. Returns the final answer.
#[track_caller]
fn announce(dae: &mut dae_tests::Guest, credential: &Value) -> Result<Value, String> {
    let mut told = Err(String::new());
    until(LIMIT, "an announcement that isn't too soon", || {
        let answer = dae.try_ask("announce", &json!([credential]));
        told = answer.map_err(|fault| fault.message);
        !matches!(&told, Err(text) if text.contains("less than a second ago"))
    });
    told
}

#[test]
fn a_daemon_that_was_not_ready_announces_itself() {
    let one = Recorder::start(Habit::Silent);
    let ecosystem = host_that_asks(&[&one]);
    assert_eq!(scan(&ecosystem), [""; 0]);
    one.becomes(Habit::Says(one.credential("Late")));
    assert_eq!(scan(&ecosystem), [""; 0], "nobody is asked twice");
    let mut dae = ecosystem.guest("Dae");
    let credential = json!({"name": "Late", "pid": std::process::id(), "port": one.port});
    let listed = announce(&mut dae, &credential).expect("it is honest");
    assert_eq!(
        (&listed["name"], &listed["foreign"]),
        (&json!("Late"), &json!(true))
    );
    assert_eq!(dae.ask("find", &json!(["Late"])), listed);
    // Announcing again at once is too soon, but may pass on a slow machine. Each one that passes asks the daemon again.
    let mut asked = 2;
    let fault = loop {
        assert!(asked < 20, "it is never too soon");
        match dae.try_ask("announce", &json!([credential])) {
            Ok(_) => asked += 1,
            Err(fault) => break fault,
        }
    };
    assert!(fault.message.contains("try again"), "{fault:?}");
    assert_eq!(one.guests(), asked);
    assert_eq!(one.heard(), b"dae\n".repeat(asked));
    // The daemon's own answer counts, not the announced credential.
    one.becomes(Habit::Says(one.credential("Later")));
    let listed = announce(&mut dae, &credential).expect("it is honest");
    assert_eq!(listed["name"], "Later");
}

#[test]
fn an_announcement_is_held_to_the_same_rules() {
    let (silent, liar, excluded) = (
        Recorder::start(Habit::Silent),
        Recorder::start(Habit::Silent),
        Recorder::start(Habit::Silent),
    );
    let lie = json!([{"name": "Liar", "pid": 1, "port": liar.port}]);
    liar.becomes(Habit::Says(format!("dae {lie}\n")));
    let ecosystem = host_that_asks(&[&silent, &liar]);
    excluded.records(&ecosystem);
    let mut dae = ecosystem.guest("Dae");
    let own_port = ecosystem.port_of("Dae");
    for (port, part) in [
        (silent.port, "doesn't answer"),
        (liar.port, "it says that its process is 1"),
        (excluded.port, "nobody who may be asked"),
        (own_port, "nobody who may be asked"),
        (80, "nobody who may be asked"),
    ] {
        let refusal = announce(&mut dae, &json!({"name": "A", "pid": 1, "port": port}));
        let refusal = refusal.expect_err("it breaks a rule");
        assert!(refusal.contains(part), "{port}: {refusal}");
    }
    assert_eq!(excluded.guests(), 0);
    for (arguments, part) in [
        (json!([{"name": "A"}]), "the member `port` is missing"),
        (json!([5]), "expected a credential"),
        (json!([]), "it takes one argument; got none"),
    ] {
        let fault = dae.ask_in_vain("announce", &arguments);
        assert_eq!(fault.code, "bad-arguments", "{fault:?}");
        assert!(fault.message.contains(part), "{fault:?}");
    }
}

#[test]
fn a_host_that_looks_for_nobody_still_sees_who_announced_itself_go() {
    let one = Recorder::daemon("Guest");
    let ecosystem = host_among(&[one.port]);
    let mut dae = ecosystem.guest("Dae");
    let announced = announce(&mut dae, &json!({"port": one.port}));
    assert_eq!(announced.expect("it is honest")["name"], "Guest");
    drop(one);
    until(LIMIT, "it is gone", || ecosystem.names() == ["Dae"]);
}
