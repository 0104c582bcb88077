//! Comparison of the host with the model after each step, and the check for leftovers at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dae_tests::{files, process};
use serde_json::{Value, json};

use super::Driver;
use super::patience::patience;
use crate::model::{Daemon, Mode, Name, World};

/// The exit code of the command line if no host runs.
const NO_HOST: i32 = 7;

/// The time between two checks.
const PAUSE: Duration = Duration::from_millis(5);

/// The row of each daemon in `list`, by name.
type Rows = BTreeMap<String, Value>;

impl Driver<'_> {
    /// Checks that everything agrees with the model.
    pub(super) fn check(&mut self, world: &World) {
        let told = self.ecosystem.stderr();
        let fault = told
            .lines()
            .find(|line| line.contains("a fault of the host"));
        assert_eq!(fault, None, "the host tells of its own fault");
        self.check_registry(world);
        if !world.is_up {
            let _ = self.cli(&["list"]).code(NO_HOST);
            return;
        }
        self.check_list(world);
        for name in world.all_running() {
            self.check_answers(name, world);
        }
        self.check_processes(world);
    }

    /// Waits until the daemons have the names of the model.
    pub(super) fn until_names(&self, world: &World) {
        let names: BTreeSet<String> = world.daemons.keys().map(|name| name.to_string()).collect();
        until_equal("the names of the daemons", &names, || {
            self.list().into_keys().collect()
        });
    }

    fn list(&self) -> Rows {
        let mut control = self.ecosystem.control();
        control.be_patient(patience());
        let rows = control.ask_plainly("list").expect("it lists");
        let rows = rows.as_array().expect("rows").clone().into_iter();
        let named = rows.map(|row| (row["name"].as_str().expect("a name").to_owned(), row));
        named.filter(|(name, _)| name != "Dae").collect()
    }

    fn check_list(&self, world: &World) {
        let expected = |daemon: &Daemon| {
            let state = if daemon.is_stopped {
                "stopped"
            } else {
                "ready"
            };
            let hash = self.plugin.hash(daemon.version);
            json!([state, daemon.mode.as_str(), hash, daemon.is_stopped, 0])
        };
        let shown = |row: Value| {
            let left_behind = row["retired"]["left_behind"].as_u64().unwrap_or(0);
            let is_down = row["pid"].is_null();
            json!([row["state"], row["mode"], row["hash"], is_down, left_behind])
        };
        until_equal(
            "state, mode, hash, whether it is down, and instances left behind",
            &of_all(world, expected),
            || {
                let rows = self.list().into_iter();
                rows.map(|(name, row)| (name, shown(row))).collect()
            },
        );
    }

    /// Checks the registry, from which the next host restores the daemons. The host writes it before it confirms a
    /// change. Only changes caused by a file may be written later.
    fn check_registry(&self, world: &World) {
        let file = self.ecosystem.home().join("registry.json");
        let expected = of_all(world, |daemon| self.entry(daemon));
        until_equal("the registry", &expected, || {
            // The file does not exist before the first daemon.
            let text = fs::read(&file).unwrap_or_else(|_| b"{}".into());
            let registry: Value = serde_json::from_slice(&text).expect("a registry that is whole");
            let entries = registry["daemons"].as_object().cloned().unwrap_or_default();
            let entries = entries.iter();
            entries
                .map(|(name, entry)| (name.clone(), kept(entry)))
                .collect()
        });
    }

    /// Returns the expected registry entry of a daemon, in the form that [`kept`] returns.
    fn entry(&self, daemon: &Daemon) -> Value {
        let hash = |version: &u64| self.plugin.hash(*version);
        let desired = if daemon.is_stopped {
            "stopped"
        } else {
            "running"
        };
        json!([
            hash(&daemon.version),
            daemon.older.iter().map(hash).collect::<Vec<_>>(),
            daemon.newer.iter().map(hash).collect::<Vec<_>>(),
            daemon.mode.as_str(),
            desired,
        ])
    }

    /// Checks that the guests are connected, got no lines that they did not ask for, and see the right version and
    /// count.
    fn check_answers(&mut self, name: Name, world: &World) {
        let version = world.daemons[&name].version;
        let known = self.known(name);
        let answers = known.guests.ask_each();
        assert!(!answers.is_empty(), "{name} has a guest that stays");
        for (answering, count) in answers {
            assert_eq!(answering, version, "the version of {name}");
            known.ledger.pin(count);
        }
    }

    /// Checks that each subprocess daemon has one process, and that there are no others but one in reserve.
    fn check_processes(&self, world: &World) {
        let isolated = |name: &Name| world.daemons[name].mode == Mode::Isolated;
        let expected = world.all_running().filter(isolated).count();
        until_equal(
            "processes of daemons, others of the host, and one in reserve at most",
            &(expected, 0, true),
            || {
                let (daemons, reserve) = (
                    process::daemons_of(self.host),
                    process::reserve_of(self.host),
                );
                let mut others = process::children(self.host);
                others.retain(|child| !daemons.contains(child) && !reserve.contains(child));
                // The default keeps one in reserve.
                (daemons.len(), others.len(), reserve.len() <= 1)
            },
        );
    }

    /// Checks that the home contains the installed daemons and the archived states, and nothing else.
    pub(super) fn check_leftovers(&self, world: &World) {
        let home = self.ecosystem.home();
        let is_temporary = |path: &PathBuf| {
            let name = path.file_name().expect("an entry of a directory");
            name.as_encoded_bytes().starts_with(b".new-")
        };
        let mut temporary = files::entries(&home);
        temporary.retain(is_temporary);
        assert!(
            temporary.is_empty(),
            "temporary files are left: {temporary:?}"
        );
        let stored = world.daemons.values().flat_map(Daemon::stored);
        let stored: BTreeSet<String> = stored.map(|version| self.plugin.hash(version)).collect();
        let found = stems_in(&home.join("store"));
        assert_eq!(stored, found, "left: what is to be stored; right: what is");
        let daemons: BTreeSet<String> = world.daemons.keys().map(|name| name.to_string()).collect();
        let states = stems_in(&home.join("states"));
        assert!(states.is_subset(&daemons), "states are left: {states:?}");
        let noted = stems_in(&home.join("run/workers"));
        assert!(noted.is_empty(), "processes are still noted: {noted:?}");
    }
}

/// Returns the fields of a registry entry that the model knows.
fn kept(entry: &Value) -> Value {
    let list = |key: &str| entry.get(key).cloned().unwrap_or(json!([]));
    json!([
        entry["hash"],
        list("previous"),
        list("newer"),
        entry["mode"],
        entry["desired"]
    ])
}

/// Returns the names of the files in a directory, up to the first dot.
fn stems_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let stem = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.split('.').next().unwrap_or_default().to_owned()
    };
    entries.map(stem).collect()
}

fn of_all(world: &World, of: impl Fn(&Daemon) -> Value) -> Rows {
    let all = world.daemons.iter();
    all.map(|(name, daemon)| (name.to_string(), of(daemon)))
        .collect()
}

/// Waits until the found value equals the expected one. On failure both are shown.
#[track_caller]
fn until_equal<T: PartialEq + Debug>(what: &str, expected: &T, mut look: impl FnMut() -> T) {
    let began = Instant::now();
    loop {
        let found = look();
        if found == *expected {
            return;
        }
        assert!(
            began.elapsed() < patience(),
            "{what}, after {:?}: expected {expected:#?}, found {found:#?}",
            patience()
        );
        std::thread::sleep(PAUSE);
    }
}
