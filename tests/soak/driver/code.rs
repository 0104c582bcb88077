//! Steps that change which code runs: install, reload, rollback, move, stop and start.

use std::fs;
use std::path::PathBuf;

use dae_tests::{Output, spoil};

use super::callers::{Caller, Manner};
use super::{Driver, Known};
use crate::model::{Daemon, Fault, Mode, Name, Replacing, Step, Way, World};

/// The worlds before and after a step.
pub type Worlds<'w> = (&'w World, &'w World);

/// A change in progress, and the guest that calls meanwhile.
struct Meanwhile {
    name: Name,
    caller: Option<Caller>,
    /// The count before the change.
    count: u64,
    versions: Vec<u64>,
}

impl Driver<'_> {
    pub(super) fn install(&mut self, step: &Step, after: &World) {
        let Step::Install {
            name,
            version,
            mode,
            resume,
        } = *step
        else {
            return;
        };
        let file = self.source(name);
        put_file(&file, self.plugin.bytes(version), Replacing::ByRename);
        let kept = self.ledger(name).departed;
        // If it is not certain that a state was saved, none is requested.
        let resumes = resume && kept.low > 0;
        let mut words = vec!["install", name.as_str(), text(&file)];
        words.extend((mode == Mode::Isolated).then_some("--isolate"));
        words.extend(["--state", "last"].into_iter().filter(|_| resumes));
        let _ = self.cli(&words).ok();
        self.ledger(name).install(resumes);
        self.begin(name, after);
    }

    /// Records that the daemon has been started, and connects a guest, if the daemon runs.
    pub(super) fn begin(&mut self, name: Name, world: &World) {
        if world.running(name).is_some() {
            self.ledger(name).start();
            self.connect(name);
        }
    }

    pub(super) fn uninstall(&mut self, name: Name, (before, after): Worlds<'_>) {
        let output = self.cli(&["uninstall", name.as_str()]).ok();
        let is_aside = output.stdout.contains(".so.uninstalled");
        let moved = before.dropped != after.dropped;
        assert_eq!(is_aside, moved, "the file is moved aside: {output:?}");
        let Known { ledger, guests, .. } = self.known(name);
        ledger.uninstall();
        guests.expect_closed();
    }

    pub(super) fn stop(&mut self, name: Name, is_busy: bool, before: &World) {
        let caller = self.caller(name, is_busy, Manner::Mixed);
        let _ = self.cli(&["stop", name.as_str()]).ok();
        let version = before.daemons[&name].version;
        self.account_for_end(name, caller, version);
        let Known { ledger, guests, .. } = self.known(name);
        ledger.stop(false);
        guests.expect_closed();
    }

    /// Checks the answers that a caller got from a daemon that was stopped.
    pub(super) fn account_for_end(&mut self, name: Name, caller: Option<Caller>, version: u64) {
        if let Some(caller) = caller {
            let told = caller.end();
            let ledger = self.ledger(name);
            let count = ledger.count();
            ledger.live = Some(told.until_closed(count, &[version], &["unavailable"]));
        }
    }

    /// Makes a change by a command line with one word and the daemon's name.
    pub(super) fn act(&mut self, word: &str, name: Name, is_busy: bool, worlds: Worlds<'_>) {
        let meanwhile = self.meanwhile(name, is_busy, worlds);
        let _ = self.cli(&[word, name.as_str()]).ok();
        match meanwhile {
            Some(meanwhile) => self.hand_over(meanwhile),
            None => self.begin(name, worlds.1),
        }
    }

    pub(super) fn roll_back(&mut self, name: Name, is_busy: bool, worlds: Worlds<'_>) {
        if worlds.0.daemons[&name].older.is_empty() {
            let meanwhile = self.meanwhile(name, is_busy, worlds);
            let refused = self.cli(&["rollback", name.as_str()]).code(1);
            assert!(refused.says(&["no older code"]), "{refused:?}");
            self.go_on(meanwhile);
        } else {
            self.act("rollback", name, is_busy, worlds);
        }
    }

    pub(super) fn reload(&mut self, step: &Step, worlds: Worlds<'_>) {
        let Step::Reload {
            name,
            version,
            way,
            is_busy,
        } = *step
        else {
            return;
        };
        let meanwhile = self.meanwhile(name, is_busy, worlds);
        match way {
            Way::Replace => self.replace(name, version, worlds.0.is_full),
            Way::Source(how) => {
                put_file(&self.source(name), self.plugin.bytes(version), how);
                self.until_taken(name, worlds.1);
            }
        }
        let (before, after) = worlds;
        let is_news = way == Way::Replace || before.daemons[&name].version != version;
        match meanwhile {
            Some(meanwhile) if is_news && !after.is_full => self.hand_over(meanwhile),
            meanwhile => self.go_on(meanwhile),
        }
    }

    /// Runs `install --replace` with another file than the last time. On a full disk it is refused.
    fn replace(&mut self, name: Name, version: u64, is_full: bool) {
        self.known(name).turn += 1;
        let file = self.source(name);
        put_file(&file, self.plugin.bytes(version), Replacing::ByRename);
        let output = self.cli(&["install", name.as_str(), text(&file), "--replace"]);
        if is_full {
            expect_refused(&output.code(1), name);
            self.known(name).turn -= 1;
        } else {
            let _ = output.ok();
        }
    }

    pub(super) fn reload_badly(&mut self, step: &Step, before: &World) {
        let Step::ReloadBad {
            name,
            fault,
            way,
            is_busy,
        } = *step
        else {
            return;
        };
        let meanwhile = self.meanwhile(name, is_busy, (before, before));
        match way {
            Way::Replace => {
                let file = self.scratch(&format!("{}-bad.so", name.as_str()));
                put_file(&file, self.plugin.bad(fault), Replacing::ByRename);
                let output = self.cli(&["install", name.as_str(), text(&file), "--replace"]);
                expect_refused(&output.code(1), name);
            }
            Way::Source(how) => self.spoil_source(name, fault, how),
        }
        self.go_on(meanwhile);
    }

    /// Replaces the source file with a bad one, and restores the good one once the host has refused the bad one.
    fn spoil_source(&mut self, name: Name, fault: Fault, how: Replacing) {
        let source = self.source(name);
        let good = fs::read(&source).expect("our own file");
        let last = self.status(name)["last_refusal"].clone();
        put_file(&source, self.plugin.bad(fault), how);
        self.until_status(name, "has refused the file", |status| {
            status["last_refusal"] != last
        });
        put_file(&source, &good, how);
        self.until_looked();
    }

    /// Waits until the host has accepted the current file: the version is ready, or waits for the next start.
    pub(super) fn until_taken(&mut self, name: Name, after: &World) {
        if !after.is_up {
            return;
        }
        let hash = self.plugin.hash(after.daemons[&name].version);
        let is_running = after.running(name).is_some();
        self.until_status(name, "has taken the file", |status| {
            status["hash"] == *hash && (!is_running || status["state"] == "ready")
        });
        self.until_looked();
    }

    fn meanwhile(&mut self, name: Name, is_busy: bool, worlds: Worlds<'_>) -> Option<Meanwhile> {
        let (before, after) = worlds;
        before.running(name)?;
        let of = |world: &World| {
            world
                .daemons
                .get(&name)
                .map(|daemon: &Daemon| daemon.version)
        };
        Some(Meanwhile {
            name,
            caller: self.caller(name, is_busy, Manner::Mixed),
            count: self.ledger(name).count(),
            versions: [of(before), of(after)].into_iter().flatten().collect(),
        })
    }

    /// Checks that a new instance has the state, and that the callers noticed nothing.
    fn hand_over(&mut self, meanwhile: Meanwhile) {
        let (name, count) = (meanwhile.name, meanwhile.count);
        self.go_on(Some(meanwhile));
        self.ledger(name).hand_over(count, false);
    }

    /// Checks that every command was answered and counted once, by the old instance or its successor.
    fn go_on(&mut self, meanwhile: Option<Meanwhile>) {
        let Some(Meanwhile {
            name,
            caller: Some(caller),
            count,
            versions,
        }) = meanwhile
        else {
            return;
        };
        caller.until_more();
        let last = caller.end().all_counted(count, &versions);
        self.ledger(name).live = Some(super::ledger::Range::exactly(last));
    }

    /// Returns the file from which a daemon was installed.
    fn source(&mut self, name: Name) -> PathBuf {
        let turn = self.known(name).turn % 2;
        self.scratch(&format!("{}-{turn}.so", name.as_str()))
    }
}

/// Replaces the content of a file in the given way.
pub fn put_file(file: &std::path::Path, bytes: &[u8], how: Replacing) {
    let directory = file.parent().expect("a file in a directory");
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .expect("UTF-8");
    match how {
        Replacing::ByRename => {
            let new = spoil::write(directory, &format!(".{name}.new"), bytes);
            fs::rename(new, file).expect("our own file");
        }
        Replacing::InPlace => drop(spoil::write(directory, name, bytes)),
        Replacing::InTwoSteps => {
            let old = directory.join(format!("{name}.old"));
            fs::rename(file, &old).expect("our own file");
            let _ = spoil::write(directory, name, bytes);
            fs::remove_file(old).expect("our own file");
        }
    }
}

#[track_caller]
fn expect_refused(output: &Output, name: Name) {
    let refusal = format!("refused {}: ", name.as_str());
    let is_right = output.stderr.contains(&refusal) && output.stderr.contains("runs on");
    assert!(is_right, "a refusal: {output:#?}");
}

fn text(file: &std::path::Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}
