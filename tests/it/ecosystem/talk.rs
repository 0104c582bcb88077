//! Calls: their replies, the order of the replies, and the errors when the other side fails.

use dae_tests::{LIMIT, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Pair;

#[test]
fn a_call_by_name_is_answered_whatever_it_carries() {
    for mut pair in Pair::all() {
        for value in [
            json!(7),
            json!("ü \" \n"),
            json!([1, [2]]),
            json!({"a": null}),
            json!(null),
        ] {
            let echoed = pair.a.ask("call", &json!([pair.other, "echo", value]));
            assert_eq!(echoed, value, "{}", pair.label);
        }
        let late = pair
            .a
            .ask("call", &json!([pair.other, "echo_late", "later", 20]));
        assert_eq!(late, "later", "{}", pair.label);
        let name = pair.a.ask("call", &json!([pair.other, "dae"]));
        assert_eq!(name["name"], pair.other, "{}", pair.label);
        let options = pair.a.ask("call", &json!([pair.other, "options"]));
        assert_eq!(options["echo"], 1, "{}", pair.label);
    }
}

#[test]
fn an_error_keeps_its_code() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        for (code, call) in [
            ("unknown-command", json!([pair.other, "ehco", 1])),
            ("bad-arguments", json!([pair.other, "echo"])),
            ("failed", json!([pair.other, "close", 0])),
            ("crashed", json!([pair.other, "break_down"])),
            ("unavailable", json!(["Nobody", "echo", 1])),
        ] {
            let fault = pair.a.ask_in_vain("call", &call);
            assert!(
                fault.message.starts_with(&format!("{code}: ")),
                "{label}: {call}: {fault:?}"
            );
        }
        assert_eq!(
            pair.a.ask("call", &json!([pair.other, "echo", 1])),
            1,
            "{label}"
        );
    }
}

#[test]
fn lines_arrive_in_the_order_in_which_they_were_sent() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        let notes = pair.a.ask("say_and_ask", &json!([number, 500]));
        assert_eq!(notes, json!([500, true]), "{}", pair.label);
    }
}

#[test]
fn slow_calls_of_one_connection_hold_up_no_quick_one() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.send(format!(
            "ask#slow [{number},\"echo_late\",1,10000]\nask#quick [{number},\"echo\",2]\n"
        ));
        let first = pair.a.message();
        assert_eq!(
            first.tag.as_deref(),
            Some("quick"),
            "{}: {first:?}",
            pair.label
        );
    }
}

/// Waits until the other daemon answers `A`'s calls again.
#[track_caller]
fn until_answered_again(pair: &mut Pair) {
    let label = pair.label.clone();
    until(LIMIT, &format!("{label}: it answers again"), || {
        pair.a.try_ask("call", &json!([pair.other, "echo", 5])) == Ok(json!(5))
    });
}

#[test]
fn a_call_in_the_hands_of_one_that_dies_is_answered_crashed() {
    for mut pair in [Pair::here(false, true), Pair::here(true, true)] {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        let fault = pair.a.ask_in_vain("call", &json!([pair.other, "abort"]));
        assert!(fault.message.starts_with("crashed: "), "{label}: {fault:?}");
        until_answered_again(&mut pair);
        until(
            LIMIT,
            &format!("{label}: crash and return are told"),
            || {
                let heard = super::heard(&mut pair.a);
                let names: Vec<_> = heard
                    .iter()
                    .filter_map(|line| line.split(' ').next())
                    .collect();
                names == ["disconnect", "connect"]
            },
        );
        assert_eq!(pair.a.ask("ask", &json!([number, "echo", 6])), 6, "{label}");
    }
    let mut pair = Pair::apart(false);
    let host = pair.elsewhere.as_mut().expect("another host");
    let number = pair.a.ask("connect", &json!([pair.other]));
    // Lines of one connection keep their order, so the other side has the first call when it answers the second.
    pair.a.send(format!(
        "ask#late [{number},\"echo_late\",1,60000]\nask#quick [{number},\"echo\",2]\n"
    ));
    assert_eq!(pair.a.message().tag.as_deref(), Some("quick"));
    process::signal(host.pid(), Signal::KILL);
    let answer = pair.a.message();
    assert_eq!(
        (&*answer.name, answer.tag.as_deref()),
        ("error", Some("late"))
    );
    let text = answer.arguments[0]["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("crashed: "), "{text}");
}

#[test]
fn a_reload_of_the_other_side_loses_no_call_and_no_connection() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        for round in 0..5 {
            pair.a
                .send(format!("ask [{number},\"echo_late\",{round},100]\n"));
            let _ = pair.host_of_b().cli(&["reload", &pair.other]).ok();
            let reply = pair.a.message();
            assert_eq!(reply.result(), Ok(json!(round)), "{label}");
        }
        let heard = super::heard(&mut pair.a);
        assert_eq!(heard, Vec::<String>::new(), "{label}: nothing was lost");
    }
}

#[test]
fn a_reload_of_the_one_who_calls_ends_its_connections() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let _number = pair.connect();
        let host = pair.host_of_b();
        until(LIMIT, &format!("{label}: its guest is there"), || {
            host.status(&pair.other)["guests"] == 2
        });
        let _ = pair.here.cli(&["reload", "A"]).ok();
        let host = pair.host_of_b();
        until(LIMIT, &format!("{label}: its guest has gone"), || {
            host.status(&pair.other)["guests"] == 1
        });
        assert_eq!(
            pair.a.ask("call", &json!([pair.other, "echo", 3])),
            3,
            "{label}"
        );
    }
}

#[test]
fn one_that_was_stopped_is_connected_to_again_by_its_name() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        let _ = pair.host_of_b().cli(&["stop", &pair.other]).ok();
        until(LIMIT, &format!("{label}: the loss is told"), || {
            super::heard(&mut pair.a)
                .iter()
                .any(|event| event.starts_with("disconnect "))
        });
        assert_eq!(pair.a.ask("is_open", &json!([number])), false, "{label}");
        let _ = pair.host_of_b().cli(&["start", &pair.other]).ok();
        if pair.elsewhere.is_some() {
            // The next scan finds it again.
            let _ = pair.here.cli(&["scan"]).ok();
        }
        until(LIMIT, &format!("{label}: it is there again"), || {
            super::heard(&mut pair.a)
                .iter()
                .any(|event| event.starts_with("connect "))
        });
        let echoed = pair.a.ask("ask", &json!([number, "echo", 8]));
        assert_eq!(echoed, 8, "{label}");
    }
}

#[test]
fn one_that_calls_itself_or_in_a_circle_comes_to_an_end() {
    for is_apart in [false, true] {
        let mut pair = Pair::here(is_apart, is_apart);
        for levels in [1, 10, 300] {
            assert_eq!(pair.a.ask("descend", &json!([levels])), levels);
        }
        // A asks B to ask A.
        let circle = json!([pair.other, "call", "A", "call", pair.other, "echo", "round"]);
        assert_eq!(pair.a.ask("call", &circle), "round");
    }
}

#[test]
fn everybody_is_found_by_name() {
    for mut pair in Pair::all() {
        let names = pair.a.ask("names", &json!([]));
        let names: Vec<String> = serde_json::from_value(names).expect("names");
        assert_eq!(names[0], "Dae", "{}", pair.label);
        assert!(
            names.contains(&"A".to_owned()) && names.contains(&pair.other.to_owned()),
            "{}: {names:?}",
            pair.label
        );
        let port = pair.a.ask("port_of", &json!([pair.other]));
        assert_eq!(
            port,
            pair.host_of_b().status(&pair.other)["port"],
            "{}",
            pair.label
        );
        assert_eq!(pair.a.ask("port_of", &json!(["Nobody"])), Value::Null);
        let dae = pair.a.ask("call", &json!(["Dae", "find", pair.other]));
        assert_eq!(dae["port"], port, "{}: Dae is one of them", pair.label);
    }
}
