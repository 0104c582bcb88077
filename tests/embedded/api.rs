//! The API of the embedding program: calls to daemons, the stream of events, and errors that speak of the library.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use dae_host::Dae;
use dae_host::dae::{DaeEvents, FaultKind};
use dae_host::event::{DaeEvent, DaeEventKind};
use dae_host::report::{InstallRequest, Mode};
use dae_tests::{Artefacts, Ecosystem, LIMIT, spoil};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::start;

const GRACE: Duration = Duration::from_millis(300);

/// Tests that a second install under a name is refused in the words of the library.
pub(super) fn taken_name(runtime: &Runtime) {
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dae = start(home.path(), &json!({})).await;
        let plugin = Artefacts::of_tests().plugin("sample");
        dae.install("Sample", plugin).await.expect("it is new");
        let fault = dae.install("Sample", plugin).await;
        let fault = fault.expect_err("the name is taken");
        assert_eq!(fault.kind(), FaultKind::NameTaken);
        let text = fault.to_string();
        assert!(text.contains("`replace`") && !text.contains("--"), "{text}");
        let busy = Dae::builder().home(home.path()).start().await;
        let text = format!("{:#}", busy.expect_err("one host at a time"));
        assert!(
            text.contains("another home") && !text.contains("--"),
            "{text}"
        );
        dae.shutdown(GRACE).await;
    });
}

/// Tests that `dae-host shutdown` is refused by default and leaves the ecosystem as it is, and that a program which allows
/// it gets the request and ends by itself.
pub(super) fn requested_end(runtime: &Runtime) {
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dae = start(home.path(), &json!({})).await;
        let plugin = Artefacts::of_tests().plugin("sample");
        dae.install("Sample", plugin).await.expect("it is new");
        let refused = run_shutdown(home.path()).await;
        let text = String::from_utf8_lossy(&refused.stderr);
        let program = format!("part of another program (pid {})", std::process::id());
        assert!(
            !refused.status.success() && text.contains(&program),
            "{text}"
        );
        let sum = dae.call::<i64>("Sample", "add", (1, 2)).await;
        assert_eq!(sum.expect("it lives on"), 3);
        dae.shutdown(GRACE).await;
    });
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let builder = Dae::builder().home(home.path()).ends_on_request();
        let dae = builder.start().await.expect("an ecosystem starts");
        let command = run_shutdown(home.path());
        let program = async {
            let requested = timeout(LIMIT, dae.shutdown_requested()).await;
            requested.expect("the owner's request");
            // A request is remembered, for a program that begins to wait late.
            dae.shutdown_requested().await;
            dae.shutdown(GRACE).await;
            drop(dae);
        };
        let (ended, ()) = tokio::join!(command, program);
        assert!(ended.status.success(), "{ended:?}");
    });
}

/// Runs the command `shutdown` of the program for a home.
async fn run_shutdown(home: &Path) -> Output {
    let mut command = Command::new(Artefacts::of_tests().host());
    command.arg("--home").arg(home).arg("shutdown");
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.expect("the command runs");
    output.expect("the program is there")
}

/// Tests that a program calls daemons by name in both modes, with types of its own, and gets every kind of error.
pub(super) fn calls(runtime: &Runtime) {
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dae = start(home.path(), &json!({"command_ms": 500})).await;
        let request = InstallRequest {
            file: Artefacts::of_tests().plugin("misbehave").into(),
            ..InstallRequest::default()
        };
        for (name, mode) in [("Here", Mode::InProcess), ("Apart", Mode::Subprocess)] {
            let request = InstallRequest {
                name: Some(name.to_owned()),
                mode: Some(mode),
                ..request.clone()
            };
            dae.install_with(request).await.expect("it is new");
            call_each_way(&dae, name).await;
        }
        for (name, mode) in [("Near", Mode::InProcess), ("Far", Mode::Subprocess)] {
            let request = InstallRequest {
                name: Some(name.to_owned()),
                file: Artefacts::of_tests().plugin("vectors").into(),
                mode: Some(mode),
                ..InstallRequest::default()
            };
            dae.install_with(request).await.expect("it is new");
            call_in_vain(&dae, name).await;
        }
        let named: Vec<Value> = dae.call("Dae", "list", ()).await.expect("Dae answers");
        assert_eq!(named.len(), 5, "{named:?}");
        dae.stop("Here").await.expect("it runs");
        let stopped = dae.call::<u32>("Here", "pid", ()).await;
        assert_eq!(code_of(stopped), "unavailable");
        dae.shutdown(GRACE).await;
        let ended = dae.call::<u32>("Apart", "pid", ()).await;
        assert_eq!(code_of(ended), "unavailable");
    });
}

/// Tests that a program whose runtime has one thread can call, also a command that never gives its thread back.
pub(super) fn one_thread(_: &Runtime) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dae = start(home.path(), &json!({})).await;
        let plugin = Artefacts::of_tests().plugin("misbehave");
        dae.install("Here", plugin).await.expect("it is new");
        let echoed: String = dae.call("Here", "echo", ("a",)).await.expect("it echoes");
        assert_eq!(echoed, "a");
        let holds = dae.call::<()>("Here", "sleep_here", (true,));
        timeout(Duration::from_millis(50), holds)
            .await
            .expect_err("it never returns");
        let _: Vec<Value> = dae.call("Dae", "list", ()).await.expect("Dae answers");
        dae.shutdown(GRACE).await;
    });
}

async fn call_in_vain(dae: &Dae, name: &str) {
    let data = json!({"key": "a", "n": u64::MAX});
    let arguments = ("not-found", "no such key", &data);
    let fault = dae.call::<()>(name, "refuse", arguments).await;
    let fault = fault.expect_err("it refuses");
    assert_eq!(
        (fault.code(), fault.data()),
        (Some("not-found"), Some(&data))
    );
    assert_eq!(fault.to_string(), "no such key (not-found)");
    let fault = dae.call::<()>(name, "fail", ("no",)).await;
    assert_eq!(fault.expect_err("it fails").data(), None);
}

async fn call_each_way(dae: &Dae, name: &str) {
    let echoed: Vec<String> = dae
        .call(name, "echo", (["a", "b"],))
        .await
        .expect("it echoes");
    assert_eq!(echoed, ["a", "b"]);
    let pid: u32 = dae.call(name, "pid", ()).await.expect("a number");
    let misread = dae.call::<String>(name, "pid", ()).await;
    let misread = misread.expect_err("a number is no string");
    assert_eq!(misread.code(), None, "{misread}");
    for (command, arguments, code) in [
        ("nothing", json!([]), "unknown-command"),
        ("echo", json!([]), "bad-arguments"),
        ("panic", json!([]), "crashed"),
        ("sleep_async", json!([]), "timeout"),
    ] {
        let ended = dae.call::<Value>(name, command, arguments).await;
        assert_eq!(code_of(ended), code, "{command}");
    }
    let nobody = dae.call::<Value>("Nobody", "pid", ()).await;
    assert_eq!(code_of(nobody), "unavailable");
    // A caller that gives up takes nothing with it.
    let waits = dae.call::<()>(name, "sleep_async", ());
    timeout(Duration::from_millis(20), waits)
        .await
        .expect_err("it never returns");
    dae.restart(name).await.expect("it runs");
    let other: u32 = dae.call(name, "pid", ()).await.expect("the next one");
    assert_eq!(pid == other, name == "Here", "{pid} {other}");
}

#[track_caller]
fn code_of<T: std::fmt::Debug>(ended: Result<T, dae_host::dae::CallFault>) -> String {
    let fault = ended.expect_err("an error");
    let text = fault.to_string();
    fault.code().unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Tests that each change of a daemon's life is an event, with its reason, in both modes.
pub(super) fn events(runtime: &Runtime) {
    for mode in [Mode::InProcess, Mode::Subprocess] {
        runtime.block_on(async {
            let home = tempfile::tempdir().expect("a temporary directory");
            let dae = start(home.path(), &json!({})).await;
            let mut events = dae.events();
            live(&dae, &mut events, mode).await;
            dae.shutdown(GRACE).await;
            drop(dae);
            let rest = timeout(LIMIT, async { while events.next().await.is_some() {} });
            rest.await.expect("the stream ends with the ecosystem");
        });
    }
}

async fn live(dae: &Dae, events: &mut DaeEvents, mode: Mode) {
    let request = InstallRequest {
        name: Some("A".to_owned()),
        file: Artefacts::of_tests().plugin("misbehave").into(),
        mode: Some(mode),
        settings: Some(json!({"on_panic": "restart"})),
        ..InstallRequest::default()
    };
    dae.install_with(request).await.expect("it is new");
    expect(events, |kind| matches!(kind, DaeEventKind::Started)).await;
    let ready = expect(events, |kind| matches!(kind, DaeEventKind::Ready)).await;
    assert_eq!(ready.generation, Some(1), "{ready:?}");
    expect(events, |kind| {
        matches!(kind, DaeEventKind::Installed { .. })
    })
    .await;
    dae.restart("A").await.expect("it runs");
    let reloaded = |kind: &DaeEventKind| matches!(kind, DaeEventKind::Reloaded { .. });
    assert_eq!(expect(events, reloaded).await.generation, Some(2));
    let refused = dae.rollback("A").await.expect_err("nothing to go back to");
    let event = expect(events, |kind| matches!(kind, DaeEventKind::Refused { .. })).await;
    let DaeEventKind::Refused { reason, .. } = &event.kind else {
        unreachable!("it was looked for");
    };
    assert_eq!(*reason, refused.to_string());
    dae.call::<()>("A", "panic", ())
        .await
        .expect_err("it panics");
    let crashed = |kind: &DaeEventKind| matches!(kind, DaeEventKind::Crashed { .. });
    assert_eq!(expect(events, crashed).await.generation, Some(2));
    let planned = |kind: &DaeEventKind| matches!(kind, DaeEventKind::RestartPlanned { .. });
    expect(events, planned).await;
    expect(events, |kind| matches!(kind, DaeEventKind::Ready)).await;
    dae.stop("A").await.expect("it runs");
    expect(events, |kind| matches!(kind, DaeEventKind::Stopped)).await;
    dae.uninstall("A").await.expect("it is there");
    expect(events, |kind| matches!(kind, DaeEventKind::Uninstalled)).await;
}

/// Tests that code which does not last is told by events, in both modes.
pub(super) fn rollback_events(runtime: &Runtime) {
    let plain = std::fs::read(Artefacts::of_tests().plugin("recipe")).expect("a plugin");
    for mode in [Mode::InProcess, Mode::Subprocess] {
        runtime.block_on(async {
            let home = tempfile::tempdir().expect("a temporary directory");
            let dae = start(home.path(), &json!({})).await;
            let mut events = dae.events();
            for (version, run) in [(1, "work"), (2, "panic")] {
                let recipe = json!({"version": version, "run": run});
                let bytes = spoil::of_recipe(plain.clone(), &recipe);
                let request = InstallRequest {
                    name: Some("A".to_owned()),
                    file: spoil::write(home.path(), &format!("{version}.so"), &bytes),
                    replace: version > 1,
                    mode: Some(mode),
                    ..InstallRequest::default()
                };
                dae.install_with(request).await.expect("it starts");
            }
            let rolled_back = |kind: &DaeEventKind| matches!(kind, DaeEventKind::RolledBack { .. });
            let event = expect(&mut events, rolled_back).await;
            let DaeEventKind::RolledBack { cause, .. } = &event.kind else {
                unreachable!("it was looked for");
            };
            assert!(cause.contains("run was asked to panic"), "{cause}");
            let quarantined =
                |kind: &DaeEventKind| matches!(kind, DaeEventKind::Quarantined { .. });
            let event = expect(&mut events, quarantined).await;
            let DaeEventKind::Quarantined { hash, reason } = &event.kind else {
                unreachable!("it was looked for");
            };
            assert_eq!(hash.len(), 64, "{hash}");
            assert!(reason.contains("run was asked to panic"), "{reason}");
            assert_eq!(dae.call::<u64>("A", "version", ()).await.ok(), Some(1));
            dae.shutdown(GRACE).await;
        });
    }
}

/// Tests that a scan tells by events what another host runs, and that it runs it no more.
pub(super) fn foreign_events(runtime: &Runtime) {
    let elsewhere = Ecosystem::start();
    let _ = elsewhere.install("A", "counter", &[]);
    let port = elsewhere.port_of("A");
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let others = [format!("1-{}", port - 1), format!("{}-65535", port + 1)];
        let config = json!({"scan_ports_never": others});
        let dae = start(home.path(), &config).await;
        let mut events = dae.events();
        dae.scan().await.expect("a scan");
        let appeared = |kind: &DaeEventKind| matches!(kind, DaeEventKind::ForeignAppeared { .. });
        let event = expect(&mut events, appeared).await;
        let DaeEventKind::ForeignAppeared { credential } = &event.kind else {
            unreachable!("it was looked for");
        };
        assert_eq!(credential.port, port, "{event:?}");
        let _ = elsewhere.cli(&["uninstall", "A"]).ok();
        dae.scan().await.expect("a scan");
        let gone = |kind: &DaeEventKind| matches!(kind, DaeEventKind::ForeignGone);
        expect(&mut events, gone).await;
        dae.shutdown(GRACE).await;
    });
}

/// Returns the next event of that kind. Those before it are of the same daemon.
async fn expect(events: &mut DaeEvents, is_wanted: impl Fn(&DaeEventKind) -> bool) -> DaeEvent {
    let mut before = Vec::new();
    let wanted = async {
        loop {
            let event = events.next().await.expect("the ecosystem runs");
            assert_eq!(event.daemon, "A", "{event:?}");
            if is_wanted(&event.kind) {
                return event;
            }
            before.push(event);
        }
    };
    let wanted = timeout(LIMIT, wanted).await;
    wanted.unwrap_or_else(|_| panic!("it did not come; these did: {before:#?}"))
}
