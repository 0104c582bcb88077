//! Daemons that start on demand and sleep when idle, in both modes: what wakes them, what doesn't, and what is kept.

mod changes;
mod idle;

use std::thread;

use dae_tests::{Ecosystem, Guest, LIMIT, until_some};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];
const NAME: &str = "Ledger";

/// Installs a daemon of that library with these settings, and connects a guest, which says nothing.
#[track_caller]
fn install(
    ecosystem: &Ecosystem,
    (name, library): (&str, &str),
    flags: &[&str],
    settings: &Value,
) -> Guest {
    let settings = settings.to_string();
    ecosystem.install(name, library, &[flags, &["--settings", &settings]].concat())
}

/// Installs a daemon that keeps a total, and starts on demand.
#[track_caller]
fn on_demand(ecosystem: &Ecosystem, flags: &[&str]) -> Guest {
    let settings = json!({"start": "on-demand"});
    install(ecosystem, (NAME, "keeper"), flags, &settings)
}

/// Returns the kept events of a daemon of that kind.
#[track_caller]
fn events(ecosystem: &Ecosystem, name: &str, kind: &str) -> Vec<Value> {
    let words = ["events", "--json", "-n", "10000", name];
    let mut events = ecosystem.cli(&words).ok().json_lines();
    events.retain(|event| event["event"] == kind);
    events
}

#[track_caller]
fn expect_state(ecosystem: &Ecosystem, name: &str, state: &str, generation: u64) {
    let status = ecosystem.status(name);
    let found = (&status["state"], &status["generation"]);
    assert_eq!(found, (&json!(state), &json!(generation)), "{status:#}");
}

#[test]
fn the_first_command_starts_it_and_nothing_else_does() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = on_demand(&ecosystem, flags);
        let status = ecosystem.status(NAME);
        assert_eq!(status["state"], "asleep", "{status:#}");
        assert_eq!(status["pid"], Value::Null, "{status:#}");
        assert_eq!(ecosystem.status("Dae")["libraries"]["loaded"], 0);
        let credential = guest.ask("dae", &json!([]));
        assert_eq!(
            (&credential["name"], &credential["pid"]),
            (&json!(NAME), &json!(ecosystem.pid())),
            "{credential}"
        );
        let described = ["options", "help"].map(|name| guest.ask(name, &json!([])));
        assert_eq!(described[0]["add"], 1);
        assert!(guest.ask("help", &json!(["total"]))["total"].is_object());
        assert_eq!(guest.ask("stats", &json!([]))["calls"], 4);
        let fault = guest.ask_in_vain("tota", &json!([]));
        assert_eq!(fault.code, "unknown-command");
        assert!(fault.message.contains("did you mean total?"), "{fault:?}");
        for words in [&["options", NAME][..], &["list"]] {
            let shown = ecosystem.cli(words).ok().stdout;
            assert!(
                shown.contains(NAME) || shown.contains("add"),
                "{words:?}: {shown}"
            );
        }
        let found = ecosystem.control().ask("find", &json!(NAME));
        assert_eq!(found.expect("it listens")["port"], status["port"]);
        expect_state(&ecosystem, NAME, "asleep", 0);
        assert_eq!(guest.ask("add", &json!([5])), 5);
        expect_state(&ecosystem, NAME, "ready", 1);
        assert_eq!(guest.ask("dae", &json!([]))["generation"], 1);
        let by_code = ["options", "help"].map(|name| guest.ask(name, &json!([])));
        assert_eq!(by_code, described);
        expect_explained(&ecosystem);
    }
}

/// Asserts that the events say what has woken the daemon, and by which rule it slept.
#[track_caller]
fn expect_explained(ecosystem: &Ecosystem) {
    let woken = events(ecosystem, NAME, "woken");
    assert_eq!(woken.len(), 1, "{woken:?}");
    assert_eq!(woken[0]["command"], "add");
    let told = ecosystem.cli(&["explain", NAME]).ok().stdout;
    assert!(
        told.contains("because it starts with its first command (start)")
            && told.contains("woken by the command add"),
        "{told}"
    );
}

#[test]
fn an_install_says_that_it_sleeps_and_an_explanation_what_wakes_it() {
    let ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("keeper");
    let file = file.to_str().expect("UTF-8");
    let settings = json!({"start": "on-demand"}).to_string();
    let words = ["install", NAME, file, "--settings", &settings];
    let said = ecosystem.cli(&words).ok().stdout;
    assert!(said.contains("sleeps on 127.0.0.1:"), "{said}");
    let said = ecosystem.cli(&["reload", NAME]).ok().stdout;
    assert!(said.contains("runs it from the next command on"), "{said}");
    let told = ecosystem.cli(&["explain", NAME]).ok().stdout;
    assert!(
        told.contains("Ledger is asleep") && told.contains("the next command starts it"),
        "{told}"
    );
}

#[test]
fn what_comes_with_the_first_command_is_answered_in_its_order() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = on_demand(&ecosystem, flags);
        guest.send("nothing\nadd [1]\nstats\nadd [2]\ntotal\nadd#tag [3]\n");
        let fault = guest.line();
        assert!(fault.starts_with("error"), "{fault}");
        guest.expect("add [1]");
        assert!(guest.line().starts_with("stats "));
        guest.expect("add [3]");
        guest.expect("total [3]");
        guest.expect("add#tag [6]");
        expect_state(&ecosystem, NAME, "ready", 1);
    }
}

#[test]
fn a_guest_that_has_finished_sending_gets_its_answer() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = on_demand(&ecosystem, flags);
        guest.send("add [4]\n");
        guest.half_close();
        guest.expect("add [4]");
        guest.expect_closed();
    }
}

#[test]
fn many_first_guests_at_once_start_it_once() {
    const MANY: u64 = 30;
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        drop(on_demand(&ecosystem, flags));
        let port = ecosystem.port_of(NAME);
        let guests = (0..MANY).map(|_| {
            thread::spawn(move || {
                let mut guest = Guest::connect(port);
                guest.ask("add", &json!([1])).as_u64()
            })
        });
        let guests: Vec<_> = guests.collect();
        let mut totals: Vec<_> = guests
            .into_iter()
            .map(|guest| guest.join().expect("it is answered"))
            .collect();
        totals.sort_unstable();
        assert_eq!(totals, (1..=MANY).map(Some).collect::<Vec<_>>());
        expect_state(&ecosystem, NAME, "ready", 1);
        assert_eq!(events(&ecosystem, NAME, "woken").len(), 1);
    }
}

#[test]
fn a_daemon_that_calls_one_that_sleeps_wakes_it() {
    for flags in MODES {
        for of_caller in MODES {
            let ecosystem = Ecosystem::start();
            drop(on_demand(&ecosystem, flags));
            let mut caller = ecosystem.install("Caller", "peer", of_caller);
            // A connection alone wakes nobody, and neither does what the host can answer.
            let number = caller.ask("connect", &json!([NAME]));
            let options = caller.ask("ask", &json!([number, "options"]));
            assert!(options.to_string().contains("add"), "{options}");
            expect_state(&ecosystem, NAME, "asleep", 0);
            let reply = caller.ask("ask", &json!([number, "add", 2]));
            assert!(reply.to_string().contains('2'), "{reply}");
            expect_state(&ecosystem, NAME, "ready", 1);
            let reply = caller.ask("call", &json!([NAME, "add", 2]));
            assert!(reply.to_string().contains('4'), "{reply}");
        }
    }
}

#[test]
fn a_start_that_fails_is_told_and_ends_in_a_crash_loop() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let config = json!({"start": "fail"}).to_string();
        let settings = json!({
            "start": "on-demand",
            "restart": {"burst_max": 2, "backoff_first_ms": 20, "served_ms": 3_600_000},
        });
        let flags = [flags, &["--config", &config]].concat();
        let mut guest = install(&ecosystem, ("Lifecycle", "lifecycle"), &flags, &settings);
        expect_state(&ecosystem, "Lifecycle", "asleep", 0);
        let fault = guest.ask_in_vain("greeting", &json!([]));
        assert_eq!(fault.code, "unavailable", "{fault:?}");
        assert!(fault.message.contains("can't be woken"), "{fault:?}");
        assert!(fault.message.contains("asked to"), "{fault:?}");
        let status = ecosystem.until_state("Lifecycle", "crash-loop");
        assert!(
            status["reason"].to_string().contains("asked to"),
            "{status:#}"
        );
        let fault = guest.ask_in_vain("greeting", &json!([]));
        assert!(fault.message.contains("crash loop"), "{fault:?}");
        // Another config is another try, on demand.
        let words = ["config", "Lifecycle", "set", "config.start=work"];
        let _ = ecosystem.cli(&words).ok();
        assert_eq!(guest.ask("greeting", &json!([])), "");
    }
}

#[test]
fn those_that_start_after_one_that_sleeps_start() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        drop(on_demand(&ecosystem, flags));
        let settings = json!({"after": [NAME], "after_ms": 3_600_000});
        drop(install(&ecosystem, ("Other", "recipe"), flags, &settings));
        ecosystem.stop();
        ecosystem.wake(&[]);
        let status = ecosystem.until_state("Other", "ready");
        assert_eq!(status["start_note"], Value::Null, "{status:#}");
        expect_state(&ecosystem, NAME, "asleep", 0);
    }
}

/// Waits for an event of that kind, and returns it.
#[track_caller]
fn until_event(ecosystem: &Ecosystem, name: &str, kind: &str) -> Value {
    until_some(LIMIT, kind, || events(ecosystem, name, kind).pop())
}

#[test]
fn an_install_on_demand_is_told_before_the_sleep() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let file = ecosystem.plugin("sample").display().to_string();
        let settings = ["--settings", r#"{"start": "on-demand"}"#];
        let install = [&["install", "Sample", &file], &settings[..], flags].concat();
        let _ = ecosystem.cli(&install).ok();
        let kinds = || -> Vec<String> {
            let events = ecosystem.cli(&["--json", "events", "Sample"]).ok();
            let kinds = events.json_lines().into_iter();
            let kinds = kinds.map(|event| event["event"].as_str().expect("a kind").to_owned());
            kinds.collect()
        };
        assert_eq!(kinds(), ["installed", "asleep"], "{flags:?}");
        // Other code of a daemon that sleeps leaves it asleep, which is no event.
        let other = ecosystem.plugin("counter").display().to_string();
        let _ = ecosystem
            .cli(&["install", "Sample", &other, "--replace"])
            .ok();
        assert_eq!(kinds(), ["installed", "asleep", "installed"], "{flags:?}");
    }
}
