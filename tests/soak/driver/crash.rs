//! Unexpected ends of a daemon: its process is killed, its code crashes, or its host ends.

use dae_tests::{Message, process, until};
use rustix::process::Signal;

use super::callers::Manner;
use super::code::Worlds;
use super::ledger::Range;
use super::patience::patience;
use super::{Driver, Known};
use crate::model::{Ending, Mode, Name, World};

impl Driver<'_> {
    /// Kills the process of a daemon, or makes it crash with a command.
    pub(super) fn crash(&mut self, name: Name, is_busy: bool, before: &World, by_command: bool) {
        if before.daemons[&name].mode == Mode::Embedded {
            return self.crash_host(name, is_busy, before);
        }
        let caller = self.caller(name, is_busy, Manner::Quick);
        let pid = self.status(name)["pid"].clone();
        if by_command {
            let mut guest = self.guest(name);
            guest.send("crash\n");
            let line = guest.line_within(patience()).expect("its guests stay");
            let fault = Message::read(&line).result().expect_err("it crashes");
            assert_eq!(fault.code, "crashed", "{fault:?}");
        } else {
            let pid = pid.as_u64().and_then(|pid| u32::try_from(pid).ok());
            process::signal(pid.expect("it runs"), Signal::KILL);
        }
        self.until_status(name, "runs again", |status| {
            status["state"] == "ready" && status["pid"] != pid
        });
        let told = caller.map(|caller| {
            caller.until_more();
            caller.end()
        });
        let ledger = self.ledger(name);
        let count = ledger.count();
        let Some(told) = told else {
            ledger.live = Some(ledger.after_crash(count));
            return;
        };
        let (kept, last) = told.over_crash(count, |reached| ledger.after_crash(reached));
        ledger.held = kept;
        ledger.live = Some(Range::exactly(last));
        // A newer state may have been saved since the last known one.
        ledger.durable.high = ledger.durable.high.max(kept.high);
    }

    /// Crashes a daemon in the host's own process, which ends the host.
    fn crash_host(&mut self, name: Name, is_busy: bool, before: &World) {
        let caller = self.caller(name, is_busy, Manner::Quick);
        self.guest(name).send("crash\n");
        let status = self.ecosystem.end_status();
        assert!(!status.success(), "it ended by a signal: {status}");
        self.account_for_end(name, caller, before.daemons[&name].version);
        self.lose_host();
    }

    pub(super) fn end_host(&mut self, how: Ending, busy: Option<Name>, before: &World) {
        let caller = busy.and_then(|name| {
            let caller = self.caller(name, true, Manner::Mixed);
            caller.map(|caller| (name, caller))
        });
        match how {
            Ending::InOrder => self.ecosystem.stop(),
            Ending::Killed => {
                self.ecosystem.signal(Signal::KILL);
                let _ = self.ecosystem.end_status();
            }
        }
        if let Some((name, caller)) = caller {
            self.account_for_end(name, Some(caller), before.daemons[&name].version);
        }
        if how == Ending::Killed {
            return self.lose_host();
        }
        for Known { ledger, guests, .. } in self.known.values_mut() {
            ledger.stop(before.is_full);
            ledger.end_host();
            guests.expect_closed();
        }
        self.until_no_workers();
    }

    fn lose_host(&mut self) {
        for Known { ledger, guests, .. } in self.known.values_mut() {
            ledger.lose_host();
            guests.leave();
        }
        self.until_no_workers();
    }

    fn until_no_workers(&self) {
        until(patience(), "the host's processes are gone", || {
            process::workers_of(self.host).is_empty()
        });
    }

    pub(super) fn start_host(&mut self, (before, after): Worlds<'_>) {
        let departures = self.departures();
        self.wake();
        self.until_names(after);
        for name in Name::INSTALLED.into_iter().chain([Name::Recipe]) {
            match (before.daemons.get(&name), after.daemons.get(&name)) {
                (Some(_), None) => {
                    self.until_departed(departures);
                    self.ledger(name).uninstall();
                }
                (None, Some(_)) => self.ledger(name).install(before.departed.is_some()),
                _ => {}
            }
            if !after.daemons.contains_key(&name) {
                continue;
            }
            self.until_taken(name, after);
            self.begin(name, after);
            let version = |world: &World| world.daemons.get(&name).map(|daemon| daemon.version);
            if version(before) != version(after) && after.running(name).is_some() {
                // Its state may have been handed over to the changed file, or the changed file may have been started
                // with it.
                self.ledger(name).maybe_hand_over();
            }
        }
    }
}
