//! Two ecosystems on one machine, each of which sees the other's daemons as foreign ones.

use dae_tests::{Ecosystem, Guest, LIMIT, free_port, process, until};
use rustix::process::Signal;
use serde_json::json;

use super::scene::{host_among, only, scan};

/// Starts an ecosystem with an in-process daemon and a subprocess. Returns it with the ports of Dae and of both.
fn inhabited(plugins: [(&str, &str); 2]) -> (Ecosystem, Vec<u16>) {
    // Another host could take the default port while this one is stopped.
    let ecosystem = Ecosystem::start_configured(&json!({"dae_port": free_port()}));
    let [(near, of_near), (apart, of_apart)] = plugins;
    let _guest = ecosystem.install(near, of_near, &[]);
    let _guest = ecosystem.install(apart, of_apart, &["--isolate"]);
    let ports = ["Dae", near, apart].map(|name| ecosystem.port_of(name));
    (ecosystem, ports.to_vec())
}

#[test]
fn two_ecosystems_see_each_others_daemons() {
    let (mut one, ports_of_one) = inhabited([("Sample", "sample"), ("Counter", "counter")]);
    let (mut two, ports_of_two) = inhabited([("Sample", "sample"), ("Tally", "counter")]);
    let all = [&ports_of_one[..], &ports_of_two[..]].concat();
    for ecosystem in [&mut one, &mut two] {
        ecosystem.stop();
        let mut config = only(&all);
        config["scan_ms"] = json!(100);
        ecosystem.configure(&config);
        ecosystem.wake(&[]);
    }
    let dae_and_sample =
        |ports: &[u16]| (format!("Dae@{}", ports[0]), format!("Sample@{}", ports[1]));
    let (dae, sample) = dae_and_sample(&ports_of_two);
    let seen_by_one = [&*dae, &*sample, "Tally"];
    let (dae, sample) = dae_and_sample(&ports_of_one);
    let seen_by_two = ["Counter", &*dae, &*sample];
    until(LIMIT, "both see all", || {
        scan(&one) == seen_by_one && scan(&two) == seen_by_two
    });
    // Later scans change nothing: neither host takes the other's daemons for impostors.
    for _ in 0..5 {
        assert_eq!(scan(&one), seen_by_one);
        assert_eq!(scan(&two), seen_by_two);
    }
    for (ecosystem, name) in [(&one, "Tally"), (&two, "Counter")] {
        assert_eq!(ecosystem.status(name)["state"], "foreign");
        let counted = ecosystem.cli(&["call", name, "dae"]).ok();
        assert!(counted.stdout.contains(name), "{counted:?}");
    }
    two.stop();
    until(LIMIT, "they are gone", || scan(&one).is_empty());
}

#[test]
fn a_worker_that_is_replaced_is_known_by_its_new_process() {
    let (one, ports) = inhabited([("Sample", "sample"), ("Counter", "counter")]);
    let two = host_among(&ports);
    let others = scan(&two);
    assert_eq!(others.len(), 3, "{others:?}");
    let worker = one.status("Counter")["pid"].clone();
    assert_eq!(two.status("Counter")["pid"], worker);
    let pid = u32::try_from(worker.as_u64().expect("a number")).expect("a pid");
    process::signal(pid, Signal::KILL);
    until(LIMIT, "the new worker is known", || {
        assert_eq!(scan(&two), others, "it is listed all the while");
        let now = &two.status("Counter")["pid"];
        *now != worker && *now == one.status("Counter")["pid"]
    });
}

/// Relies on the host's numbering of connections: each has the number after the previous one, whatever it is for.
#[test]
fn a_host_asks_none_of_its_own() {
    const NAMES: [&str; 2] = ["Near", "Apart"];
    let (mut one, ports) = inhabited(NAMES.map(|name| (name, "peer")));
    one.stop();
    one.configure(&only(&ports));
    one.wake(&[]);
    for name in NAMES {
        one.until_state(name, "ready");
    }
    let mut control = one.control();
    let found = control.ask_plainly("scan");
    assert_eq!(found.expect("it scans")["daemons"], json!([]));
    let number = || {
        let number = Guest::connect(ports[1]).ask("number", &json!([]));
        number.as_u64().expect("a number")
    };
    let first = number();
    let _ = control.ask_plainly("scan").expect("it scans");
    assert_eq!(number(), first + 1);
    // Another host does ask.
    let other = host_among(&ports);
    assert_eq!(scan(&other).len(), 3);
    assert!(number() > first + 2 + 2);
}

#[test]
fn who_asks_who_a_daemon_is_does_not_call_it() {
    let (one, ports) = inhabited([("Sample", "sample"), ("Counter", "counter")]);
    let calls = |name: &str| one.status(name)["calls"].clone();
    assert_eq!(["Sample", "Counter"].map(calls), [0, 0]);
    let other = host_among(&ports);
    assert_eq!(scan(&other).len(), 3);
    one.guest("Counter").expect_alive();
    assert_eq!(["Dae", "Sample", "Counter"].map(calls), [0, 0, 0]);
    let _ = one.cli(&["call", "Counter", "increment", "1"]).ok();
    assert_eq!(calls("Counter"), 1);
}
