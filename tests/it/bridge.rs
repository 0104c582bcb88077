//! Daemons of other hosts, which a bridge provides: found by name, called, listed, and gone with their bridge.

use std::time::Duration;

use dae_tests::{Ecosystem, Guest, wait};
use serde_json::{Value, json};

const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The longest wait for what comes at once.
const LIMIT: Duration = Duration::from_secs(30);

/// The install of a bridge.
fn grant<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["--grant", "bridge"], flags].concat()
}

/// Runs a test with a bridge and a peer, in both modes. The bridge provides `Far@box2`, which is the counter.
fn with_a_bridge(test: impl Fn(&Ecosystem, &mut Guest, &mut Guest)) {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _ = ecosystem.install("Counter", "counter", &[]);
        let mut bridge = ecosystem.install("Bridge", "bridge", &grant(flags));
        let mut peer = ecosystem.install("Peer", "peer", flags);
        let provided = bridge.ask("provide", &json!(["Far", "box2", "Counter"]));
        assert_eq!(provided, "Far@box2");
        test(&ecosystem, &mut bridge, &mut peer);
    }
}

fn names(ecosystem: &Ecosystem) -> Vec<Value> {
    let list = ecosystem.cli(&["list", "--json"]).ok().stdout;
    let rows: Vec<Value> = serde_json::from_str(&list).expect("rows");
    rows.into_iter().map(|row| row["name"].clone()).collect()
}

#[test]
fn a_daemon_of_another_host_is_called_by_its_name_alone_and_with_its_host() {
    with_a_bridge(|_, _, peer| {
        for (name, count) in [("Far", 1), ("Far@box2", 2), ("Far", 3)] {
            assert_eq!(peer.ask("call", &json!([name, "increment"])), count);
        }
        let number = peer.ask("connect", &json!(["Far"]));
        assert_eq!(peer.ask("ask", &json!([number, "increment", 5])), 8);
    });
}

#[test]
fn the_command_line_lists_it_and_calls_it() {
    with_a_bridge(|ecosystem, _, _| {
        let table = ecosystem.cli(&["list"]).ok().stdout;
        let heading = table.lines().next().expect("a heading");
        assert!(heading.contains("HOST"), "{table}");
        let row = table
            .lines()
            .find(|row| row.starts_with("Far@box2"))
            .expect("a row");
        assert!(
            row.contains("box2") && row.contains("remote") && row.contains("7.0.0"),
            "{row}"
        );
        let called = ecosystem.cli(&["call", "Far", "increment", "4"]).ok();
        assert_eq!(called.stdout.trim(), "4");
        let status = ecosystem.cli(&["status", "Far@box2", "--json"]).ok().stdout;
        let status: Value = serde_json::from_str(&status).expect("a status");
        assert_eq!(
            (&status["host"], &status["provider"]),
            (&json!("box2"), &json!("Bridge"))
        );
        assert_eq!(status["state"], "remote");
    });
}

#[test]
fn the_command_line_says_where_it_runs_and_refuses_to_change_it() {
    with_a_bridge(|ecosystem, _, _| {
        for command in ["listen", "connect"] {
            let refused = ecosystem.cli(&[command, "Far"]);
            assert!(
                refused.stderr.contains("daemon of another host"),
                "{refused:?}"
            );
        }
        let shown = ecosystem.cli(&["status", "Far"]).ok().stdout;
        assert!(shown.contains("provided by  Bridge"), "{shown}");
        let refused = ecosystem.cli(&["stop", "Far"]);
        assert!(
            refused.stderr.contains("a daemon of the host box2"),
            "{refused:?}"
        );
        let wrong = ecosystem.cli(&["call", "Far", "decrement"]);
        assert!(
            wrong.stderr.contains("Far decrement: ") && wrong.stderr.contains("unknown-command"),
            "{wrong:?}"
        );
    });
}

#[test]
fn an_error_of_another_host_reaches_the_caller_as_it_is() {
    with_a_bridge(|ecosystem, bridge, peer| {
        let _ = ecosystem.install("Other", "peer", &[]);
        let _ = bridge.ask("provide", &json!(["Away", "box2", "Other"]));
        let refused = |peer: &mut Guest, arguments: &[Value]| {
            let call = [&[json!("Away")], arguments].concat();
            peer.ask_in_vain("pass_on", &Value::Array(call))
        };
        let own = [
            json!("refuse"),
            json!("not-found"),
            json!("no such key"),
            json!({"key": 1}),
        ];
        let own = refused(peer, &own);
        assert_eq!(
            (own.code.as_str(), &own.data),
            ("not-found", &Some(json!({"key": 1}))),
            "{own:?}"
        );
        for (command, code) in [("break_down", "crashed"), ("nothing", "unknown-command")] {
            let fault = refused(peer, &[json!(command)]);
            let cause = &fault.data.as_ref().expect("data")["cause"];
            assert_eq!(
                (fault.code.as_str(), &cause["code"]),
                ("failed", &json!(code)),
                "{fault:?}"
            );
        }
        // The daemon there has passed on an error itself, and that is what its caller here sees.
        let passed_on = refused(peer, &[json!("pass_on"), json!("Nobody"), json!("x")]);
        let cause = &passed_on.data.as_ref().expect("data")["cause"];
        assert_eq!(
            (&cause["code"], &cause["daemon"]),
            (&json!("unavailable"), &json!("Nobody")),
            "{passed_on:?}"
        );
    });
}

#[test]
fn an_installed_daemon_is_never_hidden() {
    with_a_bridge(|ecosystem, bridge, peer| {
        assert_eq!(
            bridge.ask("provide", &json!(["Counter", "box2", "Counter"])),
            "Counter@box2"
        );
        let _ = ecosystem.cli(&["stop", "Counter"]).ok();
        let away = peer.ask_in_vain("call", &json!(["Counter", "count"]));
        assert!(away.message.starts_with("unavailable: "), "{away:?}");
        let _ = ecosystem.cli(&["uninstall", "Counter"]).ok();
        // Now the name is free, and the daemon behind it has gone.
        let gone = peer.ask_in_vain("call", &json!(["Counter", "count"]));
        assert!(gone.message.starts_with("unavailable: "), "{gone:?}");
    });
}

#[test]
fn a_name_that_several_hosts_have_needs_the_host_unless_it_is_shared() {
    with_a_bridge(|_, bridge, peer| {
        let _ = bridge.ask("provide", &json!(["Far", "box3", "Counter"]));
        let told = peer.ask_in_vain("call", &json!(["Far", "count"]));
        assert!(told.message.contains("Far@box2, Far@box3"), "{told:?}");
        assert_eq!(peer.ask("call", &json!(["Far@box3", "count"])), 0);
        for host in ["box2", "box3"] {
            let _ = bridge.ask("provide", &json!(["Worker", host, "Counter", true]));
        }
        assert_eq!(peer.ask("call", &json!(["Worker", "count"])), 0);
    });
}

#[test]
fn calls_wait_while_the_bridge_is_reloaded_and_its_names_stay() {
    with_a_bridge(|ecosystem, _, peer| {
        for n in 1..=5 {
            let _ = ecosystem.cli(&["reload", "Bridge"]).ok();
            assert_eq!(peer.ask("call", &json!(["Far", "increment"])), n);
        }
        assert!(names(ecosystem).contains(&json!("Far@box2")));
    });
}

#[test]
fn names_go_with_the_bridge_with_its_grant_and_at_a_stop() {
    with_a_bridge(|ecosystem, bridge, peer| {
        let gone = |ecosystem: &Ecosystem| {
            wait::until(LIMIT, "the name has gone", || {
                !names(ecosystem).contains(&json!("Far@box2"))
            });
        };
        let _ = bridge.ask("withdraw", &json!(["Far@box2"]));
        gone(ecosystem);
        let told = peer.ask_in_vain("call", &json!(["Far", "count"]));
        assert!(told.message.starts_with("unavailable: "), "{told:?}");
        let again = json!(["Far", "box2", "Counter"]);
        let _ = bridge.ask("provide", &again);
        let _ = ecosystem.cli(&["stop", "Bridge"]).ok();
        gone(ecosystem);
        let _ = ecosystem.cli(&["start", "Bridge"]).ok();
        let mut bridge = ecosystem.guest("Bridge");
        let _ = bridge.ask("provide", &again);
        let _ = ecosystem
            .cli(&["config", "Bridge", "set", "grants=[]"])
            .ok();
        gone(ecosystem);
        let fault = ecosystem.guest("Bridge").ask_in_vain("provide", &again);
        assert!(fault.message.contains("grants"), "{fault:?}");
        let _ = ecosystem
            .cli(&["config", "Bridge", "set", "grants=[\"bridge\"]"])
            .ok();
        let _ = ecosystem.guest("Bridge").ask("provide", &again);
        let _ = ecosystem.cli(&["uninstall", "Bridge"]).ok();
        gone(ecosystem);
    });
}

#[test]
fn without_the_grant_nothing_is_provided_or_heard() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut bridge = ecosystem.install("Bridge", "bridge", flags);
        let fault = bridge.ask_in_vain("provide", &json!(["Far", "box2", "Counter"]));
        assert!(
            fault.message.contains("may not provide daemons"),
            "{fault:?}"
        );
        match flags.is_empty() {
            true => drop(bridge.ask_in_vain("hear_all", &json!([]))),
            // The worker has answered before the host refuses; the stream ends at once.
            false => {
                let _ = bridge.ask("hear_all", &json!([]));
                wait::until(LIMIT, "the stream has ended", || {
                    bridge.ask("heard", &json!([])) == json!(["over"])
                });
            }
        }
    }
}

#[test]
fn names_and_hosts_that_break_a_rule_are_refused() {
    with_a_bridge(|ecosystem, bridge, _| {
        for (name, host, why) in [
            ("a b", "box2", "no name of a daemon"),
            ("", "box2", "no name of a daemon"),
            ("A", "", "no name of a host"),
            ("A", "b@c", "no name of a host"),
        ] {
            let fault = bridge.ask_in_vain("provide", &json!([name, host, "Counter"]));
            assert!(fault.message.contains(why), "{fault:?}");
        }
        let _ = ecosystem.install("Second", "bridge", &grant(&[]));
        let fault = ecosystem
            .guest("Second")
            .ask_in_vain("provide", &json!(["Far", "box2", "Counter"]));
        assert!(
            fault.message.contains("provided by Bridge already"),
            "{fault:?}"
        );
    });
}

#[test]
fn a_host_lists_ten_thousand_daemons_of_others_and_no_more() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Counter", "counter", &[]);
    let mut bridge = ecosystem.install("Bridge", "bridge", &grant(&[]));
    assert_eq!(bridge.ask("provide_many", &json!([10_000])), 10_000);
    let fault = bridge.ask_in_vain("provide", &json!(["More", "box2", "Counter"]));
    assert!(fault.message.contains("as many as it may"), "{fault:?}");
    assert_eq!(names(&ecosystem).len(), 10_003);
    let called = ecosystem.cli(&["call", "Far9999", "increment"]).ok();
    assert_eq!(called.stdout.trim(), "1");
}

#[test]
fn events_of_a_daemon_of_another_host_come_to_those_who_are_connected() {
    with_a_bridge(|_, bridge, peer| {
        let number = peer.ask("connect", &json!(["Far@box2"]));
        let _ = peer.ask("listen", &json!([number, "tick"]));
        let _ = bridge.ask("tell", &json!(["Far@box2", "tick", 7]));
        wait::until(LIMIT, "the event has come", || {
            peer.ask("heard", &json!([])).to_string().contains("tick")
        });
    });
}

#[test]
fn a_bridge_hears_all_topics_and_not_itself() {
    with_a_bridge(|ecosystem, bridge, peer| {
        let _ = bridge.ask("hear_all", &json!([]));
        let _ = bridge.ask("publish", &json!(["own", 1]));
        let _ = peer.ask("publish", &json!(["news", 2]));
        let mut dae = ecosystem.guest("Dae");
        let _ = dae.ask("publish", &json!(["more", 3]));
        wait::until(LIMIT, "both have come", || {
            bridge.ask("heard", &json!([])) == json!(["news [2]", "more [3]"])
        });
    });
}

#[test]
fn daemons_that_watch_see_those_of_other_hosts_come_and_go() {
    with_a_bridge(|_, bridge, peer| {
        let _ = peer.ask("watch", &json!([]));
        let _ = bridge.ask("provide", &json!(["New", "box3", "Counter"]));
        let _ = bridge.ask("withdraw", &json!(["New@box3"]));
        wait::until(LIMIT, "both have been seen", || {
            let heard = peer.ask("heard", &json!([])).to_string();
            heard.contains("Appeared New@box3") && heard.contains("Gone New@box3")
        });
    });
}

#[test]
fn a_reload_of_a_bridge_under_load_answers_each_call_once() {
    with_a_bridge(|ecosystem, _, peer| {
        let call = [
            "call",
            "--repeat",
            "2000",
            "--concurrency",
            "4",
            "Far",
            "increment",
        ];
        let mut calling = ecosystem.cli_running(&call);
        for _ in 0..3 {
            let _ = ecosystem.cli(&["reload", "Bridge"]).ok();
        }
        assert_eq!(calling.end(LIMIT), Some(0));
        assert_eq!(peer.ask("call", &json!(["Far", "count"])), 2000);
    });
}
