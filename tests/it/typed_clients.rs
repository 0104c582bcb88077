//! Clients with types: `#[daemon_client]` against real daemons, and `dae-host client`, which writes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Ecosystem, Guest, program};
use serde_json::json;

use crate::clients::{script, tool};
use crate::discovery::scene::{host_among, scan};

const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The longest build: perhaps the first of all dependencies, on a busy machine.
const BUILD_MAX: Duration = Duration::from_secs(900);

/// Runs a test with a daemon that has the clients, and the counter, in both modes.
fn in_both_modes(test: impl Fn(&Ecosystem, &mut Guest)) {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _ = ecosystem.install("Counter", "counter", flags);
        let mut peer = ecosystem.install("Peer", "peer", flags);
        test(&ecosystem, &mut peer);
    }
}

#[test]
fn a_client_calls_its_daemon_by_types() {
    in_both_modes(|_, peer| {
        assert_eq!(peer.ask("count", &json!([])), 1);
        assert_eq!(peer.ask("count", &json!([5])), 6);
        for n in 7..60 {
            assert_eq!(peer.ask("count", &json!([])), n);
        }
    });
}

#[test]
fn a_client_goes_on_over_reloads_and_restarts_of_its_daemon() {
    in_both_modes(|ecosystem, peer| {
        assert_eq!(peer.ask("count_on", &json!([])), 1);
        let _ = ecosystem.cli(&["reload", "Counter"]).ok();
        assert_eq!(peer.ask("count_on", &json!([2])), 3);
        let _ = ecosystem.cli(&["restart", "Counter"]).ok();
        assert_eq!(peer.ask("count_on", &json!([])), 4);
        let _ = ecosystem.cli(&["isolate", "Counter"]).ok();
        assert_eq!(peer.ask("count_on", &json!([])), 5);
        let _ = ecosystem.cli(&["stop", "Counter"]).ok();
        let fault = peer.ask_in_vain("count_on", &json!([]));
        assert!(fault.message.starts_with("unavailable: "), "{fault:?}");
        assert!(fault.message.contains("increment at Counter"), "{fault:?}");
        let _ = ecosystem.cli(&["start", "Counter"]).ok();
        assert_eq!(peer.ask("count_on", &json!([])), 6);
    });
}

#[test]
fn a_client_that_does_not_fit_is_refused_with_the_argument() {
    in_both_modes(|ecosystem, peer| {
        let fault = peer.ask_in_vain("misfit", &json!(["Counter"]));
        let expected = "Counter does not fit this client: `increment`, argument 1 (`by`): the client sends a string, and the \
                        daemon takes an integer from 0 to 18446744073709551615 or null; `count`, result: the daemon returns an \
                        integer from 0 to 18446744073709551615, and the client reads true or false; change the client";
        assert!(fault.message.starts_with(expected), "{fault:?}");
        let other = peer.ask_in_vain("misfit", &json!(["Peer"]));
        assert!(
            other
                .message
                .contains("Peer does not fit this client: it has no command `increment`"),
            "{other:?}"
        );
        let _ = ecosystem.cli(&["uninstall", "Counter"]).ok();
        let gone = peer.ask_in_vain("misfit", &json!(["Counter"]));
        assert!(gone.message.contains("no daemon"), "{gone:?}");
    });
}

/// The clients of `Typed` in the peer that don't fit, each with the fault.
const UNFIT: [(&str, &str); 2] = [
    (
        "LargePoints",
        "`add_point`, argument 1 (`point`) at .x: the client sends an integer from -9223372036854775808 to 9223372036854775807, and the \
         daemon takes an integer from -2147483648 to 2147483647; `texts`, argument 3 (`more`): \
         the client sends an object with `x`, and the daemon takes a string; change the client",
    ),
    (
        "HighPoints",
        "`points_now`, result at [0].z: the daemon returns an object that may be without it, and the client reads only one that \
         has it; change the client",
    ),
];

#[test]
fn a_client_with_types_of_its_own_is_compared_when_it_connects() {
    in_both_modes(|ecosystem, peer| {
        let _ = ecosystem.install("Typed", "typed", &["--isolate"]);
        assert_eq!(peer.ask("add_point_by", &json!(["Points"])), 1);
        for (client, fault) in UNFIT {
            let refused = peer.ask_in_vain("add_point_by", &json!([client]));
            let expected = format!("Typed does not fit this client: {fault}");
            assert!(refused.message.starts_with(&expected), "{refused:?}");
        }
        // Nothing is known of these types, so the daemon refuses the call itself.
        let called = peer.ask_in_vain("add_point_by", &json!(["UnknownPoints"]));
        assert_eq!(called.code, "failed");
        assert!(
            called.message.contains("the member `x` is missing"),
            "{called:?}"
        );
        let log = ecosystem.logged("Peer");
        let has_panic = log.iter().any(|line| line.contains("wanted by the test"));
        assert!(has_panic, "{log:?}");
    });
}

#[test]
fn a_daemon_in_another_language_is_compared_by_its_options() {
    let Some(mut python) = tool("python3", &["--version"]) else {
        return;
    };
    python
        .arg(script("daemon.py"))
        .arg("Monty")
        .stdin(Stdio::null());
    let mut running = dae_tests::Running::start(&mut python);
    let port: u16 = running
        .line(dae_tests::LIMIT)
        .parse()
        .expect("it prints its port");
    let ecosystem = host_among(&[port]);
    assert_eq!(scan(&ecosystem), ["Monty"]);
    let mut peer = ecosystem.install("Peer", "peer", &[]);
    assert_eq!(peer.ask("add_at", &json!(["Monty"])), 3);
    let fault = peer.ask_in_vain("misfit", &json!(["Monty"]));
    assert!(
        fault.message.contains("it has no command `increment`"),
        "{fault:?}"
    );
    let unwritten = ecosystem.cli(&["client", "Monty"]);
    assert_eq!(unwritten.status, 1);
    assert!(
        unwritten.says(&["shows no command with a schema"]),
        "{unwritten:?}"
    );
}

/// A daemon that calls `Typed` by the client that was written for it.
const CALLER: &str = r#"//! Calls Typed by its written client.

mod typed;

use dae_plugin_api::prelude::*;

struct Caller {
    eco: Ecosystem,
}

#[daemon]
impl Caller {
    fn start(eco: Ecosystem) -> Self {
        Caller { eco }
    }

    #[command]
    async fn tour(&self) -> Result<json::Value> {
        let typed = typed::Typed::at(&self.eco).await?;
        let point = typed::Point { x: 1, y: Some(2), label: None };
        let added = typed.add_point(point, Some("here")).await?;
        let points = typed.points_now().await?;
        let label = points.first().and_then(|one| one.label.clone());
        let huge = typed.integers(1, -2, 3, u128::MAX).await?.3;
        let more = vec!["c".to_owned(), "d".to_owned()];
        let texts = typed.texts('a', "b", more).await?;
        let dot = json::json!({"dot": {"x": 1, "y": 1, "label": null}});
        let figure = typed.figure(dot).await?;
        typed.clear().await?;
        Ok(json::json!([added, label, huge == u128::MAX, texts, figure]))
    }
}
"#;

#[test]
fn the_client_that_the_program_writes_compiles_and_fits() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Typed", "typed", &[]);
    let directory = ecosystem.scratch().join("caller");
    let place = directory.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["new", place]).ok();
    fs::copy(workspace().join("Cargo.lock"), directory.join("Cargo.lock")).expect("our own");
    let written = ecosystem.cli(&["client", "Typed"]).ok().stdout;
    fs::write(directory.join("src/typed.rs"), &written).expect("our own");
    fs::write(directory.join("src/lib.rs"), CALLER).expect("our own");
    is_formatted(&directory.join("src/typed.rs"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--offline"])
        .current_dir(&directory)
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null());
    let without = program::run(&mut cargo, BUILD_MAX);
    let hint = "needs the feature `client` of dae-plugin-api: add `features = [\"client\"]`";
    assert!(without.stderr.contains(hint), "{without:#?}");
    let manifest = directory.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("our own");
    let with = text.replacen(
        "plugin-api\" }",
        "plugin-api\", features = [\"client\"] }",
        1,
    );
    assert_ne!(text, with);
    fs::write(manifest, with).expect("our own");
    let output = program::run(&mut cargo, BUILD_MAX).ok();
    assert!(!output.says(&["warning"]), "{output:#?}\n{written}");
    let file = target_directory().join("debug/libcaller.so");
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Caller", file]).ok();
    let toured = ecosystem.guest("Caller").ask("tour", &json!([]));
    let dot = json!({"dot": {"x": 1, "y": 1, "label": null}});
    assert_eq!(toured, json!([1, "here", true, ["a", "b", "c", "d"], dot]));
}

/// Asserts that rustfmt would change nothing in the file.
#[track_caller]
fn is_formatted(file: &Path) {
    let Some(mut rustfmt) = tool("rustfmt", &["--version"]) else {
        return;
    };
    let output = rustfmt
        .args(["--check", "--edition", "2024"])
        .arg(file)
        .output()
        .expect("rustfmt starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_client_is_written_from_a_file_too() {
    let ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("counter").display().to_string();
    let written = ecosystem.cli(&["client", &file]).ok().stdout;
    let expected = include_str!("../fixtures/peer/src/counter.rs");
    assert_eq!(written, expected);
    let named = ecosystem
        .cli(&["client", &file, "--name", "Till", "--json"])
        .ok()
        .json();
    let source = named["source"].as_str().expect("a text");
    assert!(
        source.contains("#[daemon_client(name = \"Counter\")]\npub trait Till {"),
        "{source}"
    );
    assert_eq!(named["daemon"], "Counter");
    let scratch = ecosystem.scratch().join("typed.rs");
    let typed = ecosystem
        .cli(&["client", &ecosystem.plugin("typed").display().to_string()])
        .ok();
    assert!(typed.says(&["ask the running daemon"]), "{typed:?}");
    fs::write(&scratch, typed.stdout).expect("our own");
    is_formatted(&scratch);
}

#[test]
fn a_client_of_nothing_is_refused() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Counter", "counter", &[]);
    for (words, status, text) in [
        (&["client", "Conter"][..], 4, "Counter"),
        (&["client", "./gone.so"], 1, "gone.so"),
        (
            &["client", "Counter", "--name", "two words"],
            2,
            "letters, digits",
        ),
    ] {
        let refused = ecosystem.cli(words);
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(refused.says(&[text]), "{refused:?}");
    }
    let _ = ecosystem.cli(&["stop", "Counter"]).ok();
    let stopped = ecosystem.cli(&["client", "Counter"]);
    assert_eq!(stopped.status, 3, "{stopped:?}");
    assert!(stopped.says(&["start Counter"]), "{stopped:?}");
}
