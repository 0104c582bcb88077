//! Large states, which pass between processes as files in memory: nothing is lost, and nothing is left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dae_tests::{Ecosystem, Guest, LIMIT, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::MODES;

const NAME: &str = "Bulky";
/// Large enough to be no small state, and small enough for a debug build.
const BYTES: u64 = 2_000_000;

/// A host with the daemon, and its guest.
struct Storehouse {
    ecosystem: Ecosystem,
    guest: Guest,
    /// The number of records.
    count: Value,
}

impl Storehouse {
    fn open(flags: &[&str], bytes: u64) -> Self {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install(NAME, "bulky", flags);
        let count = guest.ask("fill", &json!([bytes]));
        Storehouse {
            ecosystem,
            guest,
            count,
        }
    }

    fn visit(&mut self) -> Value {
        self.guest.ask("visit", &json!([7]))
    }

    /// Checks that the state is that after the last visit.
    #[track_caller]
    fn assert_kept(&mut self, visits: &Value, after: &str) {
        assert_eq!(self.guest.ask("visits", &json!([7])), *visits, "{after}");
        assert_eq!(self.guest.ask("count", &json!([])), self.count, "{after}");
    }

    fn order(&self, order: &str) {
        let _ = self.ecosystem.cli(&[order, NAME]).ok();
    }

    fn worker(&self) -> u32 {
        let pid = self.ecosystem.status(NAME)["pid"].as_u64();
        pid.and_then(|pid| u32::try_from(pid).ok())
            .expect("a process")
    }

    fn snapshot(&self) -> PathBuf {
        let states = self.ecosystem.home().join("states");
        states.join(format!("{NAME}.json"))
    }

    fn until_generation(&self, generation: u64) {
        until(LIMIT, "the next generation answers", || {
            let status = self.ecosystem.status(NAME);
            status["state"] == "ready" && status["generation"] == generation
        });
    }
}

#[test]
fn it_survives_reloads_moves_and_the_host() {
    for flags in MODES {
        let mut house = Storehouse::open(flags, BYTES);
        for order in ["reload", "isolate", "reload", "embed", "restart", "isolate"] {
            let visits = house.visit();
            house.order(order);
            house.assert_kept(&visits, order);
        }
        let visits = house.visit();
        house.ecosystem.stop();
        house.ecosystem.wake(&[]);
        house.ecosystem.until_state(NAME, "ready");
        house.guest = house.ecosystem.guest(NAME);
        house.assert_kept(&visits, "a restart of the host");
        let visits = house.visit();
        house.order("reload");
        house.ecosystem.kill();
        house.ecosystem.wake(&[]);
        house.ecosystem.until_state(NAME, "ready");
        house.guest = house.ecosystem.guest(NAME);
        house.assert_kept(&visits, "a kill of the host");
    }
}

#[test]
fn a_killed_subprocess_starts_again_from_the_last_snapshot() {
    let mut house = Storehouse::open(&["--isolate"], BYTES);
    let visits = house.visit();
    house.order("reload");
    house.visit();
    process::signal(house.worker(), Signal::KILL);
    house.until_generation(3);
    house.assert_kept(&visits, "what came after the snapshot is lost");
}

#[test]
fn one_that_is_no_json_is_refused_and_the_old_instance_goes_on() {
    for flags in MODES {
        let mut house = Storehouse::open(flags, 100_000);
        let visits = house.visit();
        house.guest.ask("spoil", &json!([]));
        let refused = house.ecosystem.cli(&["reload", NAME]).code(1);
        assert!(refused.says(&["its state is not JSON"]), "{refused:?}");
        house.assert_kept(&visits, "the old instance answers");
        assert_eq!(house.ecosystem.status(NAME)["generation"], 1);
        assert!(!house.snapshot().exists(), "and nothing was stored");
    }
}

#[test]
fn a_disk_that_refuses_it_is_told_of_and_nothing_is_lost() {
    for flags in MODES {
        let mut house = Storehouse::open(flags, BYTES);
        let visits = house.visit();
        // A directory in the file's place makes every write fail.
        std::fs::create_dir(house.snapshot()).expect("a directory of ours");
        house.order("reload");
        house.assert_kept(&visits, "the reload itself");
        house
            .ecosystem
            .until_logged(NAME, "its state could not be kept");
        if flags.is_empty() {
            house.order("isolate");
        }
        let generation = house.ecosystem.status(NAME)["generation"].as_u64();
        process::signal(house.worker(), Signal::KILL);
        house.until_generation(generation.expect("a number") + 1);
        house.assert_kept(&visits, "the host's memory has it");
        std::fs::remove_dir(house.snapshot()).expect("a directory of ours");
        let visits = house.visit();
        house.ecosystem.stop();
        house.ecosystem.wake(&[]);
        house.ecosystem.until_state(NAME, "ready");
        house.guest = house.ecosystem.guest(NAME);
        house.assert_kept(&visits, "the disk takes it again");
    }
}

/// Returns how many descriptors of each kind a process has.
fn kinds(of: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for target in process::descriptors(of).into_values() {
        let target = target.to_string_lossy().into_owned();
        let kind = target.split(':').next().unwrap_or_default().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Returns whether there are no more descriptors of any kind than before.
fn has_no_more(now: &BTreeMap<String, usize>, before: &BTreeMap<String, usize>) -> bool {
    now.iter()
        .all(|(kind, count)| Some(count) <= before.get(kind))
}

#[test]
fn reloads_leave_no_descriptors_behind() {
    for flags in MODES {
        let house = Storehouse::open(flags, 300_000);
        house.order("reload");
        let held = || {
            let worker = (!flags.is_empty()).then(|| kinds(house.worker()));
            (kinds(house.ecosystem.pid()), worker)
        };
        // A process in reserve holds descriptors of the host, too, from the moment at which it is there.
        let is_settled = || {
            let host = house.ecosystem.pid();
            process::daemons_of(host).len() <= flags.len() && process::reserve_of(host).len() == 1
        };
        until(LIMIT, "the old process has gone", is_settled);
        let before = held();
        for _ in 0..20 {
            house.order("reload");
        }
        // There may be fewer: a state may still have been written before.
        until(LIMIT, "no more descriptors than before", || {
            let (host, worker) = held();
            let is_worker_small = worker.is_none_or(|now| {
                let before = before.1.as_ref();
                before.is_some_and(|before| has_no_more(&now, before))
            });
            is_settled() && has_no_more(&host, &before.0) && is_worker_small
        });
    }
}
