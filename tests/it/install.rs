//! Commands that install and uninstall daemons, with and without a host.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use dae_tests::{Ecosystem, Guest, LIMIT, free_port, spoil, until};
use serde_json::json;

fn refuses(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
}

#[test]
fn install_list_call_uninstall() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Sample", "sample", &[]);
    assert_eq!(guest.ask("add", &json!([1, 2])), json!(3));
    assert_eq!(ecosystem.names(), ["Dae", "Sample"]);
    let called = ecosystem.cli(&["call", "Sample", "greet", "Ada"]).ok();
    assert!(called.stdout.contains("Ada"), "{called:?}");

    let port = ecosystem.port_of("Sample");
    let _ = ecosystem.cli(&["uninstall", "Sample"]).ok();
    assert_eq!(ecosystem.names(), ["Dae"]);
    guest.expect_closed();
    until(LIMIT, "the port is closed", || refuses(port));
    let _ = ecosystem.cli(&["status", "Sample"]).code(4);
}

#[test]
fn install_says_what_runs_and_where() {
    let ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("vectors");
    let output = ecosystem
        .cli(&["install", "V", file.to_str().expect("UTF-8"), "--json"])
        .ok();
    let installed = output.json();
    let status = ecosystem.status("V");
    for key in ["name", "plugin", "version", "port", "hash", "generation"] {
        assert_eq!(
            installed[key], status[key],
            "{key}: {installed} against {status}"
        );
    }
    assert_eq!(
        (&installed["name"], &installed["plugin"]),
        (&json!("V"), &json!("Vectors"))
    );
    assert!(
        installed["ms"].as_u64().is_some_and(|ms| ms < 20_000),
        "{installed}"
    );
    assert_eq!(
        installed["hash"].as_str().map(str::len),
        Some(64),
        "{installed}"
    );
}

#[test]
fn every_daemon_answers_the_required_commands() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Other", "vectors", &[]);
    let credential = guest.ask("dae", &json!([]));
    assert_eq!(credential["name"], "Other");
    assert_eq!(credential["plugin"], "Vectors");
    assert_eq!(credential["port"], json!(ecosystem.port_of("Other")));
    assert_eq!(credential["pid"], json!(ecosystem.pid()));
    assert_eq!(credential["mode"], "in-process");
    let options = guest.ask("options", &json!([]));
    for (command, count) in [
        ("echo", 1),
        ("add", 2),
        ("nothing", 0),
        ("push", 1),
        ("slow", 1),
        ("dae", 0),
        ("options", 0),
    ] {
        assert_eq!(options[command], json!(count), "{command} in {options}");
    }
    let help = guest.ask("help", &json!([])).to_string();
    assert!(
        help.contains("The sum of two numbers") && help.contains("number"),
        "{help}"
    );
    let stats = guest.ask("stats", &json!([]));
    assert!(
        stats["calls"].is_u64() && stats["errors"].is_u64(),
        "{stats}"
    );
}

#[test]
fn dae_lists_and_finds_on_its_own_port() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let mut dae = ecosystem.guest("Dae");
    let list = dae.ask("list", &json!([]));
    let names: Vec<_> = list
        .as_array()
        .expect("credentials")
        .iter()
        .filter(|c| c["foreign"] != true)
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["Dae", "Sample"]);
    let found = dae.ask("find", &json!(["Sample"]));
    assert_eq!(found["port"], json!(ecosystem.port_of("Sample")));
    let fault = dae.ask_in_vain("find", &json!(["Nobody"]));
    assert!(fault.message.contains("Nobody"), "{fault:?}");
    // Commands that change the host are not available over TCP.
    for command in ["install", "uninstall", "stop", "start", "restart"] {
        assert_eq!(
            dae.ask_in_vain(command, &json!(["Sample"])).code,
            "unknown-command"
        );
    }
}

#[test]
fn one_file_runs_as_several_daemons_each_with_its_config() {
    let ecosystem = Ecosystem::start();
    let mut anna = ecosystem.install(
        "Anna",
        "lifecycle",
        &["--config", r#"{"greeting": "ahoj"}"#],
    );
    let file = ecosystem.scratch().join("config.json");
    fs::write(&file, r#"{"greeting": "salut"}"#).expect("a config file");
    let from_file = format!("@{}", file.display());
    let mut bert = ecosystem.install("Bert", "lifecycle", &["--config", &from_file]);
    assert_eq!(anna.ask("greeting", &json!([])), "ahoj");
    assert_eq!(bert.ask("greeting", &json!([])), "salut");
    assert_eq!(anna.ask("whoami", &json!([]))["name"], "Anna");
    assert_eq!(bert.ask("dae", &json!([]))["plugin"], "Lifecycle");
    assert_eq!(
        ecosystem.status("Anna")["hash"],
        ecosystem.status("Bert")["hash"]
    );

    let _ = ecosystem.cli(&["uninstall", "Anna"]).ok();
    assert_eq!(bert.ask("greeting", &json!([])), "salut");
}

#[test]
fn a_stopped_daemon_stays_installed_and_starts_again() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Sample", "sample", &[]);
    let port = ecosystem.port_of("Sample");
    let _ = ecosystem.cli(&["stop", "Sample"]).ok();
    guest.expect_closed();
    assert_eq!(ecosystem.status("Sample")["state"], "stopped");
    let _ = ecosystem.cli(&["call", "Sample", "greet", "Ada"]).code(3);

    let _ = ecosystem.cli(&["start", "Sample"]).ok();
    assert_eq!(ecosystem.port_of("Sample"), port);
    ecosystem.guest("Sample").expect_alive();
}

#[test]
fn restart_makes_a_new_instance_on_the_same_port() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Sample", "sample", &[]);
    let before = (
        guest.ask("dae", &json!([]))["generation"].clone(),
        ecosystem.port_of("Sample"),
    );
    let _ = ecosystem.cli(&["restart", "Sample"]).ok();
    let after = (
        ecosystem.guest("Sample").ask("dae", &json!([]))["generation"].clone(),
        ecosystem.port_of("Sample"),
    );
    assert!(
        after.0.as_u64() > before.0.as_u64(),
        "{before:?}, then {after:?}"
    );
    assert_eq!(after.1, before.1);
}

#[test]
fn a_pinned_port_is_the_port() {
    let mut ecosystem = Ecosystem::start();
    let port = free_port();
    let _guest = ecosystem.install("Sample", "sample", &["--port", &port.to_string()]);
    assert_eq!(ecosystem.port_of("Sample"), port);
    ecosystem.stop();
    ecosystem.wake(&[]);
    ecosystem.until_state("Sample", "ready");
    assert_eq!(ecosystem.port_of("Sample"), port);
}

#[test]
fn a_pinned_port_that_is_taken_is_refused() {
    let ecosystem = Ecosystem::start();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let file = ecosystem.plugin("sample");
    let output = ecosystem
        .cli(&[
            "install",
            "Sample",
            file.to_str().expect("UTF-8"),
            "--port",
            &port,
        ])
        .code(1);
    assert!(output.says(&[&port]), "{output:?}");
    assert_eq!(ecosystem.names(), ["Dae"]);
}

#[test]
fn a_chosen_port_that_was_taken_meanwhile_is_changed_with_a_warning() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let port = ecosystem.port_of("Sample");
    ecosystem.stop();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free now");
    ecosystem.wake(&[]);
    ecosystem.until_state("Sample", "ready");
    assert_ne!(ecosystem.port_of("Sample"), port);
    assert!(
        ecosystem.stderr().contains(&port.to_string()),
        "no warning names port {port}:\n{}",
        ecosystem.stderr()
    );
    drop(taken);
}

#[test]
fn the_source_may_go_once_it_is_installed() {
    let mut ecosystem = Ecosystem::start();
    let bytes = fs::read(ecosystem.plugin("vectors")).expect("the plugin");
    let source = spoil::write(&ecosystem.scratch(), "v.so", &bytes);
    let _ = ecosystem
        .cli(&["install", "Vectors", source.to_str().expect("UTF-8")])
        .ok();
    // Overwritten in place: a host that had mapped the source itself would crash.
    fs::write(&source, vec![0; bytes.len()]).expect("our own file");
    ecosystem.guest("Vectors").expect_alive();
    fs::remove_file(&source).expect("our own file");
    ecosystem.stop();
    ecosystem.wake(&[]);
    ecosystem.until_state("Vectors", "ready");
    ecosystem.guest("Vectors").expect_alive();
}

#[test]
fn a_taken_name_is_refused_and_replace_replaces() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("D", "sample", &[]);
    let port = ecosystem.port_of("D");
    let file = ecosystem.plugin("vectors");
    let file = file.to_str().expect("UTF-8");
    let output = ecosystem.cli(&["install", "D", file]).code(1);
    assert!(
        output.says(&["taken", "exists", "already"]) && output.says(&["--replace"]),
        "{output:?}"
    );
    guest.expect_alive();
    assert_eq!(ecosystem.status("D")["plugin"], "Sample");

    let _ = ecosystem.cli(&["install", "D", file, "--replace"]).ok();
    assert_eq!(ecosystem.status("D")["plugin"], "Vectors");
    assert_eq!(ecosystem.port_of("D"), port);
    assert_eq!(ecosystem.guest("D").ask("echo", &json!([1])), json!(1));
}

#[test]
fn a_replacement_that_does_not_start_leaves_the_old_one() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("D", "vectors", &[]);
    let (port, before) = (ecosystem.port_of("D"), ecosystem.installed());
    let file = ecosystem.plugin("lifecycle");
    let file = file.to_str().expect("UTF-8");
    for config in [
        r#"{"start": "fail"}"#,
        r#"{"start": "panic"}"#,
        r#"{"unknown": 1}"#,
    ] {
        let output = ecosystem
            .cli(&["install", "D", file, "--replace", "--config", config])
            .code(1);
        assert!(output.says(&["asked to", "config"]), "{config}: {output:?}");
        ecosystem.until_state("D", "ready");
        assert_eq!(
            Guest::connect(port).ask("echo", &json!(["old"])),
            "old",
            "after {config}"
        );
        assert_eq!(ecosystem.status("D")["plugin"], "Vectors");
        assert!(
            ecosystem.installed() == before,
            "{config} changed what is installed"
        );
    }
}

#[test]
fn install_and_uninstall_work_with_no_host() {
    let mut ecosystem = Ecosystem::asleep();
    let file = ecosystem.plugin("vectors");
    let file = file.to_str().expect("UTF-8");
    let output = ecosystem.cli(&["install", "Vectors", file]).ok();
    assert!(
        output.says(&["next"]),
        "it should say when it takes effect: {output:?}"
    );
    let output = ecosystem.cli(&["install", "Gone", file]).ok();
    assert!(output.says(&["next"]), "{output:?}");
    let output = ecosystem.cli(&["uninstall", "Gone"]).ok();
    assert!(output.says(&["next"]), "{output:?}");
    let _ = ecosystem.cli(&["uninstall", "Gone"]).code(4);

    ecosystem.wake(&[]);
    ecosystem.until_state("Vectors", "ready");
    assert_eq!(ecosystem.names(), ["Dae", "Vectors"]);
    ecosystem.guest("Vectors").expect_alive();
}

/// Returns an error without the program's hint. A host adds what runs on in front of it.
fn without_hint(text: &str) -> &str {
    let hint = text.find(" (on the command line: `");
    &text[..hint.unwrap_or(text.len())]
}

#[test]
fn with_no_host_the_same_is_refused_and_the_config_counts() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(&json!({"defaults": {"mode": "subprocess"}}));
    let file = ecosystem.plugin("vectors");
    let file = file.to_str().expect("UTF-8");
    let install = |ecosystem: &Ecosystem, name: &str, flags: &[&str]| {
        ecosystem.cli(&[&["install", name, file], flags].concat())
    };
    let _ = install(&ecosystem, "A", &["--port", "4711"]).ok();
    let refused = |ecosystem: &Ecosystem| {
        let texts = [
            ("B", &["--settings", r#"{"restrat": 1}"#][..]),
            ("B", &["--settings", r#"{"after": ["B"]}"#]),
            ("B", &["--port", "4711"]),
            ("B", &["--config", "[]"]),
            ("A", &[]),
            ("Dae", &[]),
            ("A", &["--replace", "--state", "nothing"]),
            ("B", &["--state", "last"]),
        ];
        texts.map(|(name, flags)| {
            let output = install(ecosystem, name, flags);
            assert_ne!(output.status, 0, "{name} {flags:?}: {output:?}");
            (output.status, output.stderr)
        })
    };
    let without = refused(&ecosystem);
    ecosystem.wake(&[]);
    ecosystem.until_state("A", "ready");
    assert_eq!(ecosystem.status("A")["mode"], "subprocess");
    for ((code, text), (host_code, host_text)) in without.iter().zip(&refused(&ecosystem)) {
        let reason = without_hint(text.trim_start_matches("dae-host: ").trim_end());
        assert!(
            code == host_code && host_text.contains(reason),
            "{text} or {host_text}"
        );
    }
    assert_eq!(ecosystem.names(), ["Dae", "A"]);
}
