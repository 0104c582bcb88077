//! A caller must not answer its own call to a foreign daemon that is gone. TCP connects a port to itself if nothing
//! listens on it and the system picks it for the connecting end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dae_tests::{Ecosystem, program};

use crate::clients::tool;

/// A daemon that answers `dae` with its credential, and everything else with `real`.
const SENSOR: &str = r#"
import json, os, socket, threading
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 40123))
listener.listen()
def serve(guest):
    lines = guest.makefile("rw")
    for line in lines:
        name = line.split()[0]
        own = {"name": "Sensor", "pid": os.getpid(), "port": 40123}
        lines.write(name + " " + json.dumps([own if name == "dae" else "real"]) + "\n")
        lines.flush()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// Returns a command for a shell in a network namespace of its own, or `None` where the tools for it are missing.
fn in_own_network() -> Option<Command> {
    let is_root = rustix::process::geteuid().is_root();
    let flags = if is_root { "-n" } else { "-rn" };
    let mut unshare = tool("unshare", &["--version"])?;
    for needed in ["ip", "python3"] {
        tool(needed, &["--version"])?;
    }
    unshare.args([flags, "sh"]);
    Some(unshare)
}

#[test]
fn a_foreign_daemon_that_has_gone_is_not_answered_for_by_its_caller() {
    let Some(mut shell) = in_own_network() else {
        return;
    };
    let ecosystem = Ecosystem::asleep();
    let sensor = ecosystem.scratch().join("sensor.py");
    std::fs::write(&sensor, SENSOR).expect("a file of our own");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/discovery/itself.sh");
    let command = ecosystem.command();
    shell
        .arg(script)
        .env("EXE", command.get_program())
        .env("HOME_DIR", ecosystem.home())
        .env("PEER", ecosystem.plugin("peer"))
        .env("SENSOR", &sensor)
        .stdin(Stdio::null());
    let output = program::run(&mut shell, Duration::from_secs(120));
    let said = |what: &str| {
        let lines = output.stdout.lines();
        let said = lines.filter_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
        said.map(str::to_owned).collect::<Vec<_>>()
    };
    if output.stdout.contains("UNABLE") || output.stdout.is_empty() {
        eprintln!("SKIPPED: no network namespace can be made here: {output:?}");
        return;
    }
    assert_eq!(said("there"), [r#""real" "real""#], "{output:?}");
    let gone = said("gone");
    assert_eq!(gone.len(), 2, "{output:?}");
    assert!(gone[0].contains("does not listen"), "{output:?}");
    assert!(!gone[1].contains("\"connect"), "{output:?}");
    for refused in said("gone by name") {
        assert!(refused.contains("unavailable"), "{refused}");
    }
    assert_eq!(said("again"), [r#""real""#], "{output:?}");
}
