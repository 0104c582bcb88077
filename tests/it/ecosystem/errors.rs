//! Errors with a code and data: by every kind of command, in every mode, to guests and to other daemons.

use dae_tests::{Ecosystem, Message};
use serde_json::{Value, json};

use super::{Pair, flags, until_heard};

/// The commands that fail as their arguments say, one of each kind.
const KINDS: [&str; 4] = ["refuse", "refuse_later", "refuse_aside", "refuse_kept"];

/// Data whose numbers would change if they were rounded.
fn data() -> Value {
    json!({"key": "ü \n", "n": u64::MAX, "low": i64::MIN, "float": 0.1})
}

#[test]
fn every_kind_of_command_is_answered_with_its_code_and_its_data() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut guest = host.install("A", "peer", flags(is_apart));
        for command in KINDS {
            for tag in ["", "#7"] {
                let arguments = json!(["not-found", "no such key", data()]);
                guest.send(format!("{command}{tag} {arguments}\n"));
                let error = json!([{
                    "command": command, "code": "not-found", "message": "no such key", "data": data(),
                }]);
                assert_eq!(
                    guest.message(),
                    Message::read(&format!("error{tag} {error}"))
                );
            }
            guest.send(format!("{command} [\"full\", \"no room\"]\n"));
            let expected =
                format!(r#"error [{{"command":"{command}","code":"full","message":"no room"}}]"#);
            assert_eq!(guest.line(), expected, "no data, no member");
        }
        let stats = guest.ask("stats", &json!([]));
        let counts = (&stats["errors"], &stats["panics"]);
        assert_eq!(counts, (&json!(12), &json!(0)), "{stats}");
    }
}

#[test]
fn many_commands_at_once_keep_their_errors_apart() {
    const MANY: usize = 500;
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut guest = host.install("A", "peer", flags(is_apart));
        let lines = (0..MANY).map(|n| format!("refuse [\"code-{n}\", \"no\", {n}]\necho [{n}]\n"));
        guest.send(lines.collect::<String>());
        for n in 0..MANY {
            let error = guest.message().arguments[0].take();
            assert_eq!(
                (&error["code"], &error["data"]),
                (&json!(format!("code-{n}")), &json!(n))
            );
            guest.expect(&format!("echo [{n}]"));
        }
    }
}

#[test]
fn a_wrong_code_or_wrong_data_never_cost_the_message() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut guest = host.install("A", "peer", flags(is_apart));
        for code in ["crashed", "failed", "Not Found", ""] {
            let fault = guest.ask_in_vain("refuse", &json!([code, "no such key", [1]]));
            assert_eq!(
                (fault.code.as_str(), fault.data),
                ("failed", Some(json!([1])))
            );
            let begin = format!("no such key (its code {code:?} is ");
            assert!(fault.message.starts_with(&begin), "{}", fault.message);
        }
        for (bytes, reason) in [(0, "it holds NaN"), (70_000, "an error takes 65536")] {
            let fault = guest.ask_in_vain("refuse_oddly", &json!([bytes]));
            assert_eq!((fault.code.as_str(), fault.data), ("odd", None));
            let is_told = fault.message.starts_with("no (its data were left out: ");
            assert!(
                is_told && fault.message.contains(reason),
                "{}",
                fault.message
            );
        }
        let fits = guest.ask_in_vain("refuse_oddly", &json!([65_534]));
        assert!(fits.data.is_some_and(|data| data.is_string()));
    }
}

#[test]
fn an_authors_code_passes_through_another_daemon() {
    for mut pair in Pair::all() {
        let (label, other) = (pair.label.clone(), pair.other.clone());
        for command in KINDS {
            let call = json!([other, command, "not-found", "no such key", data()]);
            let seen = pair.a.ask("look", &call);
            let text = format!("no such key (not-found, {command} at {other})");
            let expected = json!({"code": "not-found", "data": data(), "text": text});
            assert_eq!(seen, expected, "{label}");
            for route in ["pass_on", "connect_and_pass_on"] {
                let fault = pair.a.ask_in_vain(route, &call);
                assert_eq!(fault.code, "not-found", "{label}: {route}: {fault:?}");
                assert_eq!(fault.data, Some(data()), "{label}: {route}");
                assert!(
                    fault.message.starts_with("no such key (not-found, "),
                    "{label}"
                );
            }
        }
    }
}

#[test]
fn a_code_of_the_protocol_becomes_failed_and_names_the_daemon_to_blame() {
    for mut pair in Pair::all() {
        let other = pair.other.clone();
        for (code, daemon, command, arguments) in [
            ("crashed", other.as_str(), "break_down", vec![]),
            ("unknown-command", &other, "ehco", vec![json!(1)]),
            ("bad-arguments", &other, "echo", vec![]),
            ("failed", &other, "close", vec![json!(0)]),
            ("unavailable", "Nobody", "echo", vec![json!(1)]),
        ] {
            let call = [vec![json!(daemon), json!(command)], arguments].concat();
            let named = json!({"code": code, "command": command, "daemon": daemon});
            check_cause(&mut pair, &call, &named);
        }
    }
}

/// Asserts that a call that fails with a code of the protocol has this cause, by whichever way it is passed on.
#[track_caller]
fn check_cause(pair: &mut Pair, call: &[Value], named: &Value) {
    let label = pair.label.clone();
    let seen = pair.a.ask("look", &json!(call));
    let expected = (&named["code"], &json!(null));
    assert_eq!((&seen["code"], &seen["data"]), expected, "{label}");
    let fault = pair.a.ask_in_vain("pass_on", &json!(call));
    assert_eq!(fault.code, "failed", "{label}: {fault:?}");
    let data = fault.data.expect("the cause");
    let cause = &data["cause"];
    for key in ["code", "command", "daemon"] {
        assert_eq!(cause[key], named[key], "{label}: {data}");
    }
    let message = cause["message"].as_str().expect("a text");
    assert!(fault.message.starts_with(message), "{label}: {message}");
    // A second daemon in the row keeps the cause.
    let row = [&[json!("A"), json!("pass_on")], call].concat();
    let again = pair.a.ask_in_vain("pass_on", &json!(row));
    let expected = ("failed", Some(&data));
    assert_eq!(
        (again.code.as_str(), again.data.as_ref()),
        expected,
        "{label}"
    );
    // The host names the daemon behind a connection.
    let over = pair.a.ask_in_vain("connect_and_pass_on", &json!(call));
    let cause = &over.data.expect("the cause")["cause"];
    for key in ["code", "daemon"] {
        assert_eq!(cause[key], named[key], "{label}: {cause}");
    }
}

#[test]
fn an_event_that_is_refused_comes_back_with_its_data() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        pair.a.ask(
            "say",
            &json!([number, "refuse", "full", "no room", {"free": 0}]),
        );
        let error =
            r#"error [{"command":"refuse","code":"full","message":"no room","data":{"free":0}}]"#;
        let label = pair.label.clone();
        until_heard(&mut pair.a, &[error], &label);
    }
}

#[test]
fn the_command_line_shows_the_code_and_with_json_the_data() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let _guest = host.install("A", "peer", flags(is_apart));
        // A code that the host itself uses on its control socket, with an exit code and a hint of its own.
        for code in ["not-found", "not-running", "unknown-daemon", "name-taken"] {
            let call = [
                "call",
                "A",
                "refuse",
                code,
                "no such key",
                r#"{"key":0.10}"#,
            ];
            let message = format!("dae-host: A refuse: no such key ({code})\n");
            let plain = host.cli(&call);
            assert_eq!((plain.status, plain.stdout.as_str()), (1, ""), "{plain:?}");
            assert_eq!(plain.stderr, message);
            let output = host.cli(&[&["--json"], &call[..]].concat());
            assert_eq!(
                (output.status, output.stdout.as_str()),
                (1, ""),
                "{output:?}"
            );
            let error: Value = serde_json::from_str(&output.stderr).expect("one JSON document");
            let answer = json!({
                "command": "refuse", "code": code, "message": "no such key", "data": {"key": 0.1},
            });
            let expected = json!({"error": {
                "kind": "answered", "message": format!("A refuse: no such key ({code})"), "hint": null, "exit_code": 1,
                "answer": answer,
            }});
            assert_eq!(error, expected);
        }
    }
}
