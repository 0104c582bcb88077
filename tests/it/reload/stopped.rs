//! Daemons that their owner has stopped: a new file waits for the next start, however it arrives.

use dae_tests::{LIMIT, spoil, until};
use serde_json::json;

use super::{Kitchen, MODES, NAME, count_to, version};

impl Kitchen {
    #[track_caller]
    fn assert_stopped(&self, after: &str) {
        let status = self.ecosystem.status(NAME);
        assert_eq!(status["state"], "stopped", "after {after}: {status}");
        assert_eq!(status["pid"], json!(null), "after {after}: {status}");
    }

    /// Waits until the host has reported that many files that wait for the daemon's start.
    #[track_caller]
    fn until_waiting(&self, count: usize) {
        until(LIMIT, &format!("{count} files wait"), || {
            let logged = self.ecosystem.logged("Dae");
            let waiting = logged
                .iter()
                .filter(|text| text.contains("waits for the next start"));
            waiting.count() == count
        });
    }
}

fn assert_replacements_wait(kitchen: &Kitchen, flags: &[&str]) {
    let output = kitchen.replace(&json!({"version": 3}), flags).ok();
    assert!(output.stdout.contains("dae-host --home"), "{output:?}");
    kitchen.assert_stopped("install --replace");
    let output = kitchen.replace(&json!({"version": 4, "misreads": true}), &[]);
    let output = output.code(1);
    assert!(output.says(&["its preflight failed"]), "{output:?}");
}

#[test]
fn a_stopped_daemon_stays_stopped_whatever_comes() {
    for flags in MODES {
        let mut kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();

        let _ = kitchen.file("source.so", &json!({"version": 2}));
        kitchen.until_waiting(1);
        kitchen.assert_stopped("a change of its file");

        for words in [
            &["reload", NAME][..],
            &["rollback", NAME],
            &["isolate", NAME],
            &["embed", NAME],
        ] {
            let output = kitchen.ecosystem.cli(words).ok();
            assert!(output.stdout.contains("next"), "{words:?}: {output:?}");
            kitchen.assert_stopped(words[0]);
        }
        assert_replacements_wait(&kitchen, flags);

        // The same while no host runs, and over the host's next start.
        kitchen.ecosystem.stop();
        let output = kitchen.replace(&json!({"version": 5}), &[]).ok();
        assert!(output.says(&["next"]), "{output:?}");
        kitchen.ecosystem.wake(&[]);
        kitchen.ecosystem.stop();
        let _ = kitchen.file("replacement.so", &json!({"version": 6}));
        kitchen.ecosystem.wake(&[]);
        kitchen.until_waiting(2);
        kitchen.assert_stopped("a change of its file while no host ran");

        let _ = kitchen.ecosystem.cli(&["start", NAME]).ok();
        let mut guest = kitchen.ecosystem.guest(NAME);
        assert_eq!(version(&mut guest), 6);
        assert_eq!(guest.ask("count", &json!([])), 5);
    }
}

#[test]
fn a_stopped_drop_in_stays_stopped_when_its_file_changes() {
    let kitchen = Kitchen::open();
    let drop_in = kitchen.ecosystem.home().join("plugins");
    spoil::write(&drop_in, "r.so", &kitchen.bytes(&json!({"version": 1})));
    kitchen.ecosystem.until_state(NAME, "ready");
    let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
    spoil::write(&drop_in, "r.so", &kitchen.bytes(&json!({"version": 2})));
    kitchen.until_waiting(1);
    kitchen.assert_stopped("a new file over its own");
    let _ = kitchen.ecosystem.cli(&["start", NAME]).ok();
    assert_eq!(version(&mut kitchen.ecosystem.guest(NAME)), 2);
}
