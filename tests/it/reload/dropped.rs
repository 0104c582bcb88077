//! Drop-ins whose file disappears: replaced in steps, renamed, deleted, uninstalled, and brought back.

use std::fs;
use std::path::{Path, PathBuf};

use dae_tests::{Guest, LIMIT, spoil, until};
use serde_json::{Value, json};

use super::{Kitchen, NAME, count_to, until_version};

/// A grace that no test outlasts (ms).
const LONG_MS: u64 = 600_000;

impl Kitchen {
    /// Opens a kitchen with that grace, and with polls that notice changes without file events.
    fn with_grace(ms: u64, mode: &str) -> Self {
        let config = json!({
            "drop_in_gone_ms": ms, "drop_in_poll_ms": 200, "defaults": {"mode": mode},
        });
        Kitchen::configured(&config)
    }

    fn dropped(&self, name: &str) -> PathBuf {
        self.ecosystem.home().join("plugins").join(name)
    }

    /// Writes that version into the drop-in directory.
    fn drop_in(&self, name: &str, version: u64) -> PathBuf {
        let bytes = self.bytes(&json!({"version": version}));
        spoil::write(&self.ecosystem.home().join("plugins"), name, &bytes)
    }

    fn until_gone(&self) {
        until(LIMIT, "the absence of the file is shown", || {
            let note = self.ecosystem.status(NAME)["source_note"].clone();
            note.as_str().is_some_and(|note| note.starts_with("gone"))
        });
    }

    fn until_source(&self, file: &Path) {
        until(LIMIT, &format!("it is of {}", file.display()), || {
            let status = self.ecosystem.status(NAME);
            status["source"] == json!(file) && status["source_note"].is_null()
        });
    }

    fn until_uninstalled(&self) {
        until(LIMIT, "it is uninstalled", || {
            self.ecosystem.names() == ["Dae"]
        });
    }

    /// Waits until the host has looked at the drop-in directory in its present state.
    fn until_looked(&self) {
        let _ = spoil::write(
            &self.ecosystem.home().join("plugins"),
            "looked.so",
            b"no plugin",
        );
        until(LIMIT, "the host has looked", || {
            self.ecosystem.stderr().contains("looked.so")
        });
    }
}

fn count(guest: &mut Guest) -> Value {
    guest.ask("count", &json!([]))
}

/// Replaces a file in two steps in each possible way, while one guest stays connected.
#[test]
fn a_file_replaced_in_steps_keeps_state_port_and_guests() {
    for mode in ["in-process", "subprocess"] {
        let kitchen = Kitchen::with_grace(LONG_MS, mode);
        let file = kitchen.drop_in("r.so", 1);
        kitchen.ecosystem.until_state(NAME, "ready");
        let port = kitchen.ecosystem.port_of(NAME);
        let mut guest = Guest::connect(port);
        count_to(&mut guest, 5);

        fs::rename(&file, kitchen.dropped("r.so.bak")).expect("our own file");
        kitchen.until_gone();
        until_version(&mut guest, 1);
        let _ = kitchen.drop_in("r.so", 2);
        until_version(&mut guest, 2);

        // An earlier version is accepted like any other.
        fs::remove_file(&file).expect("our own file");
        kitchen.until_gone();
        let _ = kitchen.drop_in("r.so", 1);
        until_version(&mut guest, 1);

        let generation = kitchen.ecosystem.status(NAME)["generation"].clone();
        let renamed = kitchen.dropped("s.so");
        fs::rename(&file, &renamed).expect("our own file");
        kitchen.until_source(&renamed);
        assert_eq!(kitchen.ecosystem.status(NAME)["generation"], generation);

        fs::remove_file(&renamed).expect("our own file");
        kitchen.until_gone();
        kitchen.until_source(&kitchen.drop_in("recipe-3.so", 3));
        until_version(&mut guest, 3);

        assert_eq!(count(&mut guest), 5, "{mode}");
        assert_eq!(kitchen.ecosystem.port_of(NAME), port, "{mode}");
    }
}

#[test]
fn a_link_whose_target_is_built_anew_keeps_its_daemon() {
    let kitchen = Kitchen::with_grace(LONG_MS, "in-process");
    let built = kitchen.file("built.so", &json!({"version": 1}));
    let link = kitchen.dropped("r.so");
    std::os::unix::fs::symlink(&built, &link).expect("our own link");
    kitchen.ecosystem.until_state(NAME, "ready");
    let mut guest = kitchen.ecosystem.guest(NAME);
    count_to(&mut guest, 5);
    fs::remove_file(&built).expect("our own file");
    kitchen.until_gone();
    let _ = kitchen.file("built.so", &json!({"version": 2}));
    until_version(&mut guest, 2);
    assert_eq!(count(&mut guest), 5);
}

#[test]
fn a_drop_in_that_is_gone_for_good_returns_as_it_was() {
    let kitchen = Kitchen::with_grace(300, "in-process");
    let file = kitchen.drop_in("r.so", 1);
    kitchen.ecosystem.until_state(NAME, "ready");
    count_to(&mut kitchen.ecosystem.guest(NAME), 5);
    let port = kitchen.ecosystem.port_of(NAME);
    let _ = kitchen.ecosystem.cli(&["isolate", NAME]).ok();
    fs::remove_file(&file).expect("our own file");
    kitchen.until_uninstalled();
    for part in ["has gone from the drop-in directory", "are kept until"] {
        kitchen.ecosystem.until_logged("Dae", part);
    }

    let _ = kitchen.drop_in("other-name.so", 2);
    let status = kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(
        (&status["port"], &status["mode"]),
        (&json!(port), &json!("subprocess"))
    );
    assert_eq!(count(&mut kitchen.ecosystem.guest(NAME)), 5);

    // A stopped daemon stays stopped.
    let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
    fs::remove_file(kitchen.dropped("other-name.so")).expect("our own file");
    kitchen.until_uninstalled();
    let _ = kitchen.drop_in("r.so", 3);
    kitchen.ecosystem.until_state(NAME, "stopped");
    let _ = kitchen.ecosystem.cli(&["start", NAME]).ok();
    assert_eq!(count(&mut kitchen.ecosystem.guest(NAME)), 5);
}

/// The kill comes after the registry has dropped the daemon, and before its archive is written.
#[test]
fn an_uninstall_that_a_kill_cuts_short_loses_neither_state_nor_mode() {
    let mut kitchen = Kitchen::with_grace(0, "in-process");
    let file = kitchen.drop_in("r.so", 1);
    kitchen.ecosystem.until_state(NAME, "ready");
    let mut guest = kitchen.ecosystem.guest(NAME);
    count_to(&mut guest, 5);
    let _ = kitchen.ecosystem.cli(&["isolate", NAME]).ok();
    // The daemon's end waits for this command.
    guest.send("hold#long [3600000]\nversion#now\n");
    guest.expect("version#now [1]");
    fs::remove_file(&file).expect("our own file");
    kitchen.until_uninstalled();
    kitchen.ecosystem.kill();
    kitchen.ecosystem.wake(&[]);

    let _ = kitchen.drop_in("r.so", 2);
    let status = kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(status["mode"], "subprocess");
    assert_eq!(count(&mut kitchen.ecosystem.guest(NAME)), 5);
}

#[test]
fn at_a_hosts_start_the_grace_runs_from_the_start() {
    let mut kitchen = Kitchen::with_grace(LONG_MS, "in-process");
    let file = kitchen.drop_in("r.so", 1);
    kitchen.ecosystem.until_state(NAME, "ready");
    count_to(&mut kitchen.ecosystem.guest(NAME), 5);
    kitchen.ecosystem.stop();
    fs::remove_file(&file).expect("our own file");
    kitchen.ecosystem.wake(&[]);
    kitchen.until_gone();
    kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(count(&mut kitchen.ecosystem.guest(NAME)), 5);
    kitchen.ecosystem.stop();
    kitchen.ecosystem.configure(&json!({"drop_in_gone_ms": 0}));
    kitchen.ecosystem.wake(&[]);
    kitchen.until_uninstalled();
}

#[test]
fn a_drop_in_that_is_uninstalled_does_not_come_back_by_itself() {
    let mut kitchen = Kitchen::open();
    let file = kitchen.drop_in("r.so", 1);
    kitchen.ecosystem.until_state(NAME, "ready");
    count_to(&mut kitchen.ecosystem.guest(NAME), 5);
    let aside = kitchen.dropped("r.so.uninstalled");
    let output = kitchen.ecosystem.cli(&["uninstall", NAME]).ok();
    let told = aside.to_str().expect("UTF-8");
    assert!(output.stdout.contains(told), "{output:?}");
    assert!(aside.exists() && !file.exists());
    kitchen.ecosystem.stop();
    kitchen.ecosystem.wake(&[]);
    kitchen.until_looked();
    assert_eq!(kitchen.ecosystem.names(), ["Dae"]);

    // The owner puts the file back, and later uninstalls it while no host runs.
    fs::rename(&aside, &file).expect("our own file");
    kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(count(&mut kitchen.ecosystem.guest(NAME)), 5);
    kitchen.ecosystem.stop();
    let output = kitchen.ecosystem.cli(&["uninstall", NAME]).ok();
    assert!(output.stdout.contains(told), "{output:?}");
    assert!(aside.exists() && !file.exists());
}
