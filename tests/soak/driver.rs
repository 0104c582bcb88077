//! The driver: performs each step with a real host and real guests, and compares the result with the model.
//!
//! Steps go through the command line and through files, as a user would make them. The result comes from the control
//! socket and from guests that stay connected. Every failure is a panic that says what was expected and what was found.

mod callers;
mod check;
mod code;
mod crash;
mod drop_in;
mod guests;
mod ledger;
mod patience;
mod plugin;

use std::collections::BTreeMap;
use std::path::PathBuf;

use dae_tests::{Ecosystem, Guest, Output, until_some};
use serde_json::{Value, json};

use crate::disk::Disk;
use crate::model::{Ending, Mode, Name, Step, World};
use callers::{Caller, Manner};
use guests::Guests;
use ledger::Ledger;
use patience::patience;

pub use patience::shorten;
pub use plugin::Plugin;

/// The daemon whose state is saved every second.
const CHECKPOINTED: Name = Name::Cleo;

/// The error of a step whose outcome depends on time, on a machine that was too slow. The rest of the history cannot be
/// checked.
#[derive(Debug)]
pub struct TooSlow;

/// A home, and everything that the test knows about it.
pub struct Driver<'p> {
    // Dropped first: an ecosystem removes its home, which fails while something is mounted there.
    disk: Option<Disk>,
    ecosystem: Ecosystem,
    plugin: &'p Plugin,
    /// The process id of the host that runs, or ran last.
    host: u32,
    known: BTreeMap<Name, Known>,
}

/// The test's knowledge about a name, besides the model's.
#[derive(Default)]
struct Known {
    ledger: Ledger,
    guests: Guests,
    /// The counter that alternates between two source files, so that a new file is not the watched one.
    turn: u64,
}

impl<'p> Driver<'p> {
    /// Starts a host in a new home.
    pub fn start(plugin: &'p Plugin, world: &World) -> Self {
        let ecosystem = Ecosystem::asleep();
        let disk = world.has_own_disk.then(|| {
            let disk = Disk::over(&ecosystem.home());
            disk.unwrap_or_else(|error| panic!("{error}"))
        });
        ecosystem.configure(&config());
        let mut driver = Driver {
            disk,
            ecosystem,
            plugin,
            host: 0,
            known: BTreeMap::new(),
        };
        driver.known(CHECKPOINTED).ledger.has_checkpoints = true;
        driver.wake();
        driver
    }

    /// Returns everything that the host has written to standard error.
    pub fn stderr(&self) -> String {
        self.ecosystem.stderr()
    }

    /// Performs a step that leads from one world to the other, and checks the home.
    ///
    /// # Errors
    /// Returns [`TooSlow`] if the outcome of the step depends on time and the machine was too slow.
    pub fn step(&mut self, before: &World, step: &Step, after: &World) -> Result<(), TooSlow> {
        if before.is_full && after.is_full {
            self.disk().fill();
        }
        self.make(before, step, after)?;
        self.check(after);
        Ok(())
    }

    fn make(&mut self, before: &World, step: &Step, after: &World) -> Result<(), TooSlow> {
        let worlds = (before, after);
        match step {
            Step::Install { .. } => self.install(step, after),
            Step::Uninstall { name } => self.uninstall(*name, worlds),
            Step::Stop { name, is_busy } => self.stop(*name, *is_busy, before),
            Step::Start { name } => self.act("start", *name, false, worlds),
            Step::Restart { name, is_busy } => self.act("restart", *name, *is_busy, worlds),
            Step::Again { name, is_busy } => self.act("reload", *name, *is_busy, worlds),
            Step::Rollback { name, is_busy } => self.roll_back(*name, *is_busy, worlds),
            Step::Move {
                name,
                mode,
                is_busy,
            } => {
                let word = match mode {
                    Mode::Isolated => "isolate",
                    Mode::Embedded => "embed",
                };
                self.act(word, *name, *is_busy, worlds);
            }
            Step::Reload { .. } => self.reload(step, worlds),
            Step::ReloadBad { .. } => self.reload_badly(step, before),
            Step::KillWorker { name, is_busy } => self.crash(*name, *is_busy, before, false),
            Step::Crash { name, is_busy } => self.crash(*name, *is_busy, before, true),
            Step::Call { name, count } => self.call(*name, *count, before),
            Step::Connect { name } => self.connect(*name),
            Step::Disturb { name, how } => self.disturb(*name, *how),
            Step::EndHost { how, busy } => self.end_host(*how, *busy, before),
            Step::StartHost => self.start_host(worlds),
            Step::DropIn { .. }
            | Step::ReplaceDropIn { .. }
            | Step::RenameDropIn
            | Step::RemoveDropIn => return self.change_dropped(step, worlds),
            Step::FillDisk => self.disk().fill(),
            Step::FreeDisk => self.disk().free(),
        }
        Ok(())
    }

    /// Ends the history. Checks that everything survives two restarts of the host, that no files are left over in the
    /// home, and that a host whose daemons are all uninstalled holds no more than at its first start.
    pub fn finish(&mut self, world: &World) {
        let mut world = world.clone();
        if world.is_full {
            self.make_at_end(&mut world, Step::FreeDisk);
        }
        for how in [Ending::InOrder; 2] {
            if !world.is_up {
                self.make_at_end(&mut world, Step::StartHost);
            }
            self.make_at_end(&mut world, Step::EndHost { how, busy: None });
        }
        self.check_leftovers(&world);
        self.make_at_end(&mut world, Step::StartHost);
        for known in self.known.values_mut() {
            known.guests.leave();
        }
        self.ecosystem.give_back();
    }

    /// Skips the check of the host's resources, because the history has failed or was ended early.
    pub fn abandon(&self) {
        self.ecosystem.leaves("the history has failed");
    }

    fn make_at_end(&mut self, world: &mut World, step: Step) {
        let before = world.clone();
        world.change(&step);
        let made = self.step(&before, &step, world);
        made.expect("nothing of this depends on time");
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a disk of the home's own")
    }

    fn known(&mut self, name: Name) -> &mut Known {
        self.known.entry(name).or_default()
    }

    fn ledger(&mut self, name: Name) -> &mut Ledger {
        &mut self.known(name).ledger
    }

    fn wake(&mut self) {
        self.ecosystem.wake(&[]);
        self.host = self.ecosystem.pid();
    }

    fn cli(&self, words: &[&str]) -> Output {
        self.ecosystem.cli(words)
    }

    /// Sends a command to the host and returns its reply.
    #[track_caller]
    fn ask(&self, command: &str, argument: &Value) -> Value {
        let mut control = self.ecosystem.control();
        control.be_patient(patience());
        let answer = control.ask(command, argument);
        answer.unwrap_or_else(|fault| panic!("{command} {argument} was answered {fault:?}"))
    }

    fn status(&self, name: Name) -> Value {
        self.ask("status", &json!(name.as_str()))
    }

    /// Waits until the daemon's status satisfies the condition, and returns the status.
    #[track_caller]
    fn until_status(&self, name: Name, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let what = format!("{} {what}", name.as_str());
        until_some(patience(), &what, || {
            last = self.status(name);
            is_so(&last).then(|| last.clone())
        })
    }

    fn port(&self, name: Name) -> u16 {
        let status = self.until_status(name, "has a port", |status| status["port"].is_u64());
        let port = status["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        port.expect("a port's number")
    }

    fn guest(&self, name: Name) -> Guest {
        Guest::connect(self.port(name))
    }

    /// Starts a caller of a daemon if `is_busy` is set.
    fn caller(&self, name: Name, is_busy: bool, manner: Manner) -> Option<Caller> {
        is_busy.then(|| Caller::start(self.port(name), manner))
    }

    fn scratch(&self, file: &str) -> PathBuf {
        self.ecosystem.scratch().join(file)
    }
}

/// Returns a config with which restarts never give up, nothing is rolled back automatically, and limits suit a busy
/// machine.
fn config() -> Value {
    let patience_ms = patience().as_millis() as u64;
    let restart = json!({
        "backoff_first_ms": 0, "backoff_max_ms": 0, "served_ms": 0, "burst_ms": 0, "slow_ms": 0,
    });
    json!({
        "dae_port": 0,
        "start_ms": patience_ms,
        "instance_wait_ms": patience_ms,
        "command_ms": patience_ms,
        "drop_in_gone_ms": drop_in::GONE_MS,
        "drop_in_poll_ms": 500,
        "defaults": {
            "restart": restart,
            "rollback_window_ms": 0,
            "preflight_ms": patience_ms,
            "health_misses_max": 20,
        },
        "daemons": {CHECKPOINTED.as_str(): {"checkpoint_s": 1}},
    })
}
