//! The plugin Fleet: hosts that call each other's daemons over a real server of NATS, which is cut off, frozen and killed.

use std::process::Command;
use std::time::Duration;

use dae_tests::nats::{self, NatsServer};
use dae_tests::process;
use dae_tests::{Ecosystem, Guest, LIMIT, artefacts, program, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::clients::{script, tool};

const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The longest time until the hosts agree after a fault: reconnects pause at most a second, heartbeats come each second, and two
/// that are missed are a loss.
const CONVERGE: Duration = Duration::from_secs(20);

/// A host with a fleet.
struct Member {
    ecosystem: Ecosystem,
    name: String,
}

impl Member {
    /// Starts a host of that name, with a fleet at that server.
    fn join(url: &str, name: &str, flags: &[&str]) -> Self {
        let ecosystem = Ecosystem::start();
        ecosystem.leaves("the client of NATS has threads and a socket");
        let member = Member {
            ecosystem,
            name: name.to_owned(),
        };
        let _ = member.install(&member.config(url, "home"), flags).ok();
        member
    }

    fn config(&self, url: &str, ecosystem: &str) -> Value {
        json!({"servers": [url], "ecosystem": ecosystem, "host": self.name})
    }

    fn install(&self, config: &Value, flags: &[&str]) -> dae_tests::Output {
        let file = artefacts::fleet().to_str().expect("a path in UTF-8");
        let config = config.to_string();
        let install = [
            "install", "Fleet", file, "--grant", "bridge", "--config", &config,
        ];
        self.ecosystem.cli(&[&install, flags].concat())
    }

    /// Returns the names in the list that have a host.
    fn remote(&self) -> Vec<String> {
        let list = self.ecosystem.cli(&["list", "--json"]).ok().stdout;
        let rows: Vec<Value> = serde_json::from_str(&list).expect("rows");
        let remote = rows.iter().filter(|row| row["host"].is_string());
        remote
            .map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// Waits until exactly these daemons of other hosts are listed.
    #[track_caller]
    fn sees(&self, names: &[&str]) {
        until(CONVERGE, &format!("{} sees {names:?}", self.name), || {
            self.remote() == names
        });
    }

    fn status(&self) -> Value {
        self.ecosystem.guest("Fleet").ask("status", &json!([]))
    }
}

/// Two hosts at one server: `one` has the counter and a peer, `two` has another peer, which is called `Far` there.
fn with_two_hosts(test: impl Fn(&mut NatsServer, &Member, &Member)) {
    for flags in MODES {
        let Some(mut server) = NatsServer::start(&[]) else {
            return;
        };
        let one = Member::join(&server.url(), "one", flags);
        let two = Member::join(&server.url(), "two", flags);
        let _ = one.ecosystem.install("Counter", "counter", &[]);
        let _ = one.ecosystem.install("Peer", "peer", &[]);
        let _ = two.ecosystem.install("Far", "peer", &[]);
        one.sees(&["Far@two"]);
        two.sees(&["Counter@one", "Peer@one"]);
        test(&mut server, &one, &two);
    }
}

/// Returns the fault of a call that a peer makes.
#[track_caller]
fn fault(peer: &mut Guest, call: &Value) -> String {
    peer.ask_in_vain("call", call).message
}

#[test]
fn daemons_of_another_host_are_listed_and_called_by_name() {
    with_two_hosts(|_, one, two| {
        let mut far = two.ecosystem.guest("Far");
        for (name, count) in [("Counter", 1), ("Counter@one", 2)] {
            assert_eq!(far.ask("call", &json!([name, "increment"])), count);
        }
        let called = two
            .ecosystem
            .cli(&["call", "Counter", "increment", "5"])
            .ok();
        assert_eq!(called.stdout.trim(), "7");
        let number = far.ask("connect", &json!(["Counter"]));
        assert_eq!(far.ask("ask", &json!([number, "increment"])), 8);
        // Both ways at once.
        let mut peer = one.ecosystem.guest("Peer");
        assert_eq!(
            peer.ask("call", &json!(["Far", "echo", [1.5, null, "ä"]])),
            json!([1.5, null, "ä"])
        );
        let table = one.ecosystem.cli(&["list"]).ok().stdout;
        let row = table
            .lines()
            .find(|row| row.starts_with("Far@two"))
            .expect("a row");
        assert!(row.contains(" two ") && row.contains("remote"), "{table}");
    });
}

#[test]
fn errors_of_another_host_reach_the_caller_as_they_are() {
    with_two_hosts(|_, one, two| {
        let mut peer = one.ecosystem.guest("Peer");
        let own = peer.ask(
            "look",
            &json!(["Far", "refuse", "not-found", "no such key", {"key": "a"}]),
        );
        assert_eq!(
            (&own["code"], &own["data"]),
            (&json!("not-found"), &json!({"key": "a"}))
        );
        for (command, code) in [("break_down", "crashed"), ("nothing", "unknown-command")] {
            let told = peer.ask("look", &json!(["Far", command]));
            assert_eq!(told["code"], code, "{told}");
        }
        let nobody = fault(&mut peer, &json!(["Nobody@two", "x"]));
        assert!(nobody.starts_with("unavailable: "), "{nobody}");
        let worker = two.ecosystem.install("Worker", "worker", &[]);
        drop(worker);
        one.sees(&["Far@two", "Worker@two"]);
        let large = peer.ask("look", &json!(["Worker", "text", 2 << 20]));
        let text = large["text"].as_str().unwrap_or_default();
        assert!(text.contains("at most 1048576"), "{text}");
    });
}

#[test]
fn topics_reach_all_hosts_once() {
    with_two_hosts(|_, one, two| {
        let (mut peer, mut far) = (one.ecosystem.guest("Peer"), two.ecosystem.guest("Far"));
        for guest in [&mut peer, &mut far] {
            let _ = guest.ask("subscribe", &json!(["news.today"]));
            let _ = guest.ask("subscribe", &json!(["last"]));
        }
        let _ = peer.ask("publish", &json!(["news.today", 1]));
        let _ = far.ask("publish", &json!(["news.today", 2]));
        let _ = peer.ask("publish", &json!(["last"]));
        let _ = far.ask("publish", &json!(["last"]));
        for guest in [&mut peer, &mut far] {
            let count = |heard: &Value, part: &str| heard.to_string().matches(part).count();
            until(LIMIT, "both have heard all", || {
                let heard = guest.ask("heard", &json!([]));
                count(&heard, "last") == 2 && count(&heard, "news.today [1]") == 1
            });
            let heard = guest.ask("heard", &json!([]));
            assert_eq!(count(&heard, "news.today"), 2, "{heard}");
        }
    });
}

#[test]
fn a_host_that_is_killed_is_gone_soon_and_a_call_to_it_ends() {
    with_two_hosts(|_, one, two| {
        let mut peer = one.ecosystem.guest("Peer");
        assert_eq!(peer.ask("call", &json!(["Far", "echo", 1])), 1);
        let call = ["call", "Far", "echo_late", "1", "60000"];
        let mut calling = one.ecosystem.cli_running(&call);
        until(LIMIT, "the call has arrived", || {
            two.status()["daemons"] == 1 && busy(two)
        });
        process::signal(two.ecosystem.pid(), Signal::KILL);
        assert_eq!(calling.end(LIMIT), Some(1));
        one.sees(&[]);
        let told = fault(&mut peer, &json!(["Far", "echo", 1]));
        assert!(told.starts_with("unavailable: "), "{told}");
    });
}

/// Returns whether a command of another host runs here.
fn busy(member: &Member) -> bool {
    let status = member
        .ecosystem
        .cli(&["status", "Far", "--json"])
        .ok()
        .stdout;
    let status: Value = serde_json::from_str(&status).expect("a status");
    status["guests"].as_u64().unwrap_or(0) > 0
}

#[test]
fn a_server_that_is_killed_ends_the_calls_and_comes_back() {
    with_two_hosts(|server, one, two| {
        let mut far = two.ecosystem.guest("Far");
        let call = ["call", "Far", "echo_late", "1", "60000"];
        let mut calling = one.ecosystem.cli_running(&call);
        until(LIMIT, "the call has arrived", || busy(two));
        server.kill();
        assert_eq!(calling.end(LIMIT), Some(1));
        until(CONVERGE, "one has noticed it", || {
            one.status()["connected"] == false
        });
        let told = fault(&mut far, &json!(["Counter", "count"]));
        assert!(told.starts_with("unavailable: "), "{told}");
        one.sees(&[]);
        // All that is local goes on.
        let counted = one.ecosystem.cli(&["call", "Counter", "increment"]).ok();
        assert_eq!(counted.stdout.trim(), "1");
        server.wake();
        one.sees(&["Far@two"]);
        two.sees(&["Counter@one", "Peer@one"]);
        assert_eq!(far.ask("call", &json!(["Counter", "count"])), 1);
    });
}

#[test]
fn a_server_that_neither_answers_nor_ends_holds_nothing_up() {
    with_two_hosts(|server, one, _| {
        let mut peer = one.ecosystem.guest("Peer");
        server.freeze(true);
        let told = fault(&mut peer, &json!(["Far", "echo", 1]));
        assert!(
            told.starts_with("crashed: ") || told.starts_with("unavailable: "),
            "{told}"
        );
        server.freeze(false);
        until(CONVERGE, "calls go on", || {
            peer.try_ask("call", &json!(["Far", "echo", 1])).is_ok()
        });
    });
}

#[test]
fn reloads_of_both_fleets_under_load_answer_each_call_once() {
    with_two_hosts(|_, one, two| {
        let call = [
            "call",
            "--repeat",
            "2000",
            "--concurrency",
            "4",
            "Counter",
            "increment",
        ];
        let mut calling = two.ecosystem.cli_running(&call);
        for _ in 0..3 {
            for member in [one, two] {
                let _ = member.ecosystem.cli(&["reload", "Fleet"]).ok();
            }
        }
        assert_eq!(calling.end(Duration::from_secs(120)), Some(0));
        let counted = one.ecosystem.cli(&["call", "Counter", "count"]).ok();
        assert_eq!(counted.stdout.trim(), "2000");
        two.sees(&["Counter@one", "Peer@one"]);
    });
}

#[test]
fn a_daemon_that_hosts_share_is_any_of_them() {
    for flags in MODES {
        let Some(server) = NatsServer::start(&[]) else {
            return;
        };
        let members = ["one", "two", "three"].map(|name| Member::join(&server.url(), name, flags));
        for member in &members[..2] {
            let config = json!({"here": member.name}).to_string();
            let _ = member
                .ecosystem
                .install("Worker", "worker", &["--config", &config]);
        }
        let [one, two, three] = &members;
        three.sees(&["Worker@one", "Worker@two"]);
        let _ = three.ecosystem.install("Peer", "peer", &[]);
        let mut peer = three.ecosystem.guest("Peer");
        let mut answered = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..64 {
            let here = peer.ask("call", &json!(["Worker", "here"]));
            *answered
                .entry(here.as_str().expect("a name").to_owned())
                .or_default() += 1;
        }
        assert!(
            answered.len() == 2 && answered.values().all(|count| *count > 8),
            "{answered:?}"
        );
        // A host that has its own asks that one.
        let own = one.ecosystem.cli(&["call", "Worker", "here"]).ok();
        assert_eq!(own.stdout.trim(), "\"one\"");
        let _ = two.ecosystem.cli(&["shutdown"]).ok();
        three.sees(&["Worker@one"]);
        for _ in 0..8 {
            assert_eq!(peer.ask("call", &json!(["Worker", "here"])), "one");
        }
    }
}

#[test]
fn a_name_that_two_hosts_have_needs_its_host() {
    let Some(server) = NatsServer::start(&[]) else {
        return;
    };
    let members = ["one", "two", "three"].map(|name| Member::join(&server.url(), name, &[]));
    for member in &members[..2] {
        let _ = member.ecosystem.install("Counter", "counter", &[]);
    }
    let three = &members[2];
    three.sees(&["Counter@one", "Counter@two"]);
    let _ = three.ecosystem.install("Peer", "peer", &[]);
    let told = fault(
        &mut three.ecosystem.guest("Peer"),
        &json!(["Counter", "count"]),
    );
    assert!(told.contains("Counter@one, Counter@two"), "{told}");
    let called = three
        .ecosystem
        .cli(&["call", "Counter@two", "increment"])
        .ok();
    assert_eq!(called.stdout.trim(), "1");
}

#[test]
fn two_hosts_of_one_name_and_two_ecosystems_at_one_server() {
    let Some(server) = NatsServer::start(&[]) else {
        return;
    };
    let one = Member::join(&server.url(), "one", &[]);
    let again = Member::join(&server.url(), "one", &[]);
    until(LIMIT, "the conflict is told", || {
        one.status()["conflicts"]
            .to_string()
            .contains("two hosts call themselves one")
    });
    let _ = again.ecosystem.cli(&["uninstall", "Fleet"]).ok();
    let _ = again
        .install(&again.config(&server.url(), "other"), &[])
        .ok();
    let _ = again.ecosystem.install("Counter", "counter", &[]);
    let two = Member::join(&server.url(), "two", &[]);
    let _ = two.ecosystem.install("Sample", "sample", &[]);
    one.sees(&["Sample@two"]);
    assert_eq!(again.remote(), [""; 0]);
}

#[test]
fn a_wrong_config_is_refused_and_a_server_that_is_away_is_not() {
    let member = Member {
        ecosystem: Ecosystem::start(),
        name: "one".to_owned(),
    };
    member
        .ecosystem
        .leaves("the client of NATS has threads and a socket");
    for (config, part) in [
        (json!({}), "nats://127.0.0.1:4222"),
        (json!({"servers": ["nats://127.0.0.1:1"]}), "ecosystem"),
        (
            json!({"servers": ["nats://127.0.0.1:1"], "ecosystem": "home", "host": "a b"}),
            "1 to 64",
        ),
        (
            json!({"servers": ["a b c"], "ecosystem": "home", "host": "a"}),
            "a b c",
        ),
        (json!({"server": "nats://127.0.0.1:1"}), "server"),
    ] {
        let refused = member.install(&config, &[]);
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
}

#[test]
fn a_server_that_is_away_stops_nothing_and_a_fleet_without_its_grant_says_so() {
    let member = Member {
        ecosystem: Ecosystem::start(),
        name: "one".to_owned(),
    };
    member
        .ecosystem
        .leaves("the client of NATS has threads and a socket");
    let away = member.install(&member.config("nats://127.0.0.1:1", "home"), &[]);
    assert!(away.stdout.contains("Fleet"), "{away:?}");
    assert_eq!(member.status()["connected"], false);
    let _ = member
        .ecosystem
        .install("Peer", "peer", &[])
        .ask("echo", &json!([1]));
    // Without the grant it says what it needs.
    let _ = member
        .ecosystem
        .cli(&["config", "Fleet", "set", "grants=[]"]);
    until(LIMIT, "the log says why", || {
        let log = member
            .ecosystem
            .cli(&["logs", "Fleet", "-n", "200"])
            .ok()
            .stdout;
        log.contains("grants")
    });
}

#[test]
fn what_strangers_send_changes_nothing() {
    with_two_hosts(|server, one, _| {
        let Some(mut python) = python() else {
            return;
        };
        let rubbish = r#"
import asyncio, json, sys, nats
async def main(url):
    client = await nats.connect(url)
    for payload in [b"", b"rubbish", b"{}", b"[]", b"\xff", b"x" * 100000, json.dumps({"host": "x", "boot": 1}).encode()]:
        for subject in ["host.x", "host.two", "list.one", "ask", "topic.a", "topic.%", "topic.Dae", "at.one.x.Counter.count", "cmd.Counter.count", "cmd.Counter.%"]:
            await client.publish("dae.home." + subject, payload)
            await client.publish("dae.home." + subject, payload, reply="dae.home.host.two")
    await client.flush()
    await client.close()
asyncio.run(main(sys.argv[1]))
"#;
        let output = program::run(python.args(["-c", rubbish, &server.url()]), LIMIT);
        let _ = output.ok();
        let mut peer = one.ecosystem.guest("Peer");
        assert_eq!(peer.ask("call", &json!(["Far", "echo", 1])), 1);
        one.sees(&["Far@two"]);
        assert_eq!(one.status()["conflicts"], json!([]));
    });
}

/// Returns Python with the client of NATS.
fn python() -> Option<Command> {
    let mut python = tool("python3", &["--version"])?;
    python.env("PYTHONPATH", nats::directory().join("python"));
    Some(python)
}

#[test]
fn a_client_of_nats_in_another_language_uses_the_same_daemons() {
    for flags in MODES {
        let (Some(server), Some(mut python)) = (NatsServer::start(&[]), python()) else {
            return;
        };
        let one = Member::join(&server.url(), "one", flags);
        let _ = one.ecosystem.install("Sample", "sample", &[]);
        let mut peer = one.ecosystem.install("Peer", "peer", &[]);
        until(LIMIT, "both are announced", || one.status()["daemons"] == 2);
        let _ = peer.ask("subscribe", &json!(["wanted"]));
        let script = script("nats_client.py");
        let mut running = program::Running::start(python.arg(script).arg(server.url()));
        for line in [
            "greeted Hello, Ada! You are number 1.",
            "refused bad-arguments 400",
            "ping io.nats.micro.v1.ping_response Sample",
            "info dae.home.cmd.Sample.greet",
            "stats 2 1",
        ] {
            assert_eq!(running.line(LIMIT).trim_end(), line);
        }
        until(LIMIT, "its event has come", || {
            peer.ask("heard", &json!([])).to_string().contains("wanted")
        });
        let _ = peer.ask("publish", &json!(["news.of.today", "x"]));
        assert_eq!(
            running.line(LIMIT).trim_end(),
            "event dae.home.topic.news.of.today ['x']"
        );
        assert_eq!(running.end(LIMIT), Some(0));
    }
}
