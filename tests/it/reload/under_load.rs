//! Reloads under load: good or bad, they refuse, close, double or lose nothing for any guest.

use std::path::PathBuf;
use std::time::Instant;

use dae_tests::{Control, Guest, spoil};
use serde_json::{Value, json};

use super::traffic::Traffic;
use super::{Kitchen, NAME, version};

/// The flags of each mode, and its number of good reloads.
const GOOD: [(&[&str], u64); 2] = [(&[], 1_000), (&["--isolate"], 250)];

/// The flags of each mode, and its number of reloads of which every third is bad. Each kind of bad file occurs.
const MIXED: [(&[&str], u64); 2] = [(&[], 200), (&["--isolate"], 48)];

/// The limit after which the host gives up a file that hangs (ms). A good file takes a tenth of it on a busy machine.
const HANG_MS: u64 = 1_000;

/// A daemon under load and two builds of it that replace each other.
struct Turns {
    files: [PathBuf; 2],
    /// The version that runs.
    version: u64,
    control: Control,
    guest: Guest,
    traffic: Traffic,
    // Dropped last: its host serves the other fields.
    kitchen: Kitchen,
}

impl Turns {
    fn begin(kitchen: Kitchen, flags: &[&str]) -> Self {
        let (_, guest) = kitchen.install(flags);
        let file = |version| kitchen.file(&format!("{version}.so"), &json!({"version": version}));
        Turns {
            files: [1, 2].map(file),
            version: 1,
            control: kitchen.ecosystem.control(),
            guest,
            traffic: Traffic::start(kitchen.ecosystem.port_of(NAME)),
            kitchen,
        }
    }

    /// Replaces the running build by the other one.
    #[track_caller]
    fn take(&mut self) {
        self.version = 3 - self.version;
        let file = &self.files[usize::from(self.version == 2)];
        let answer = replace(&mut self.control, file);
        assert!(answer.is_ok(), "{answer:?}");
        self.check();
    }

    /// Asserts that a bad file is refused. Returns the text of the refusal.
    #[track_caller]
    fn refuse(&mut self, what: &str, file: &std::path::Path) -> String {
        let text = replace(&mut self.control, file).expect_err(what);
        let is_refusal = text.starts_with(&format!("refused {NAME}: "));
        assert!(is_refusal && text.contains("runs on"), "{what}: {text}");
        self.check();
        text
    }

    #[track_caller]
    fn check(&mut self) {
        assert_eq!(version(&mut self.guest), self.version);
    }

    /// Ends the load, and compares its counts with the state.
    #[track_caller]
    fn end(mut self) {
        let told = self.traffic.end();
        let commands = told.counts.len();
        println!("{commands} commands, the longest wait {:.1?}", told.longest);
        assert_eq!(told.versions.into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(self.guest.ask("count", &json!([])), commands as u64);
        check_nothing_left_behind(&self.kitchen);
        // The kitchen's end checks the host for leftovers, so the control connection is closed first.
        drop((self.control, self.kitchen));
    }
}

/// Asserts that each earlier instance has ended or is ending: the host has given up on none of its threads or memory.
#[track_caller]
fn check_nothing_left_behind(kitchen: &Kitchen) {
    let retired = &kitchen.ecosystem.status(NAME)["retired"];
    let left_behind = retired["left_behind"].as_u64().unwrap_or(0);
    assert_eq!(left_behind, 0, "{retired}");
}

fn replace(control: &mut Control, file: &std::path::Path) -> Result<Value, String> {
    let request = json!({"name": NAME, "file": file, "replace": true});
    control
        .ask("install", &request)
        .map_err(|fault| fault.message)
}

#[test]
fn good_reloads_lose_nothing() {
    for (flags, reloads) in GOOD {
        let mut turns = Turns::begin(Kitchen::open(), flags);
        let began = Instant::now();
        (0..reloads).for_each(|_| turns.take());
        println!("{flags:?}: {reloads} reloads in {:.1?}", began.elapsed());
        turns.end();
    }
}

/// Returns the bad files, each with its fault.
fn bad_files(kitchen: &Kitchen) -> Vec<(&'static str, PathBuf)> {
    let with = |key: &str, fate: Value| kitchen.bytes(&json!({"version": 9, key: fate}));
    let good = kitchen.bytes(&json!({"version": 9}));
    let half = good[..good.len() / 2].to_vec();
    let all = [
        ("not ELF", b"#!/bin/sh\necho no library\n".to_vec()),
        ("truncated", half),
        ("wrong ABI", spoil::of_abi(good, 9)),
        ("start fails", with("start", json!("fail"))),
        ("start panics", with("start", json!("panic"))),
        ("segfaults", with("constructor", json!("crash"))),
        ("state unreadable", with("misreads", json!(true))),
        ("hangs", with("constructor", json!("hang"))),
    ];
    let write = |(what, bytes): (&'static str, Vec<u8>)| {
        let name = format!("{}.so", what.replace(' ', "-"));
        let file = spoil::write(&kitchen.ecosystem.scratch(), &name, &bytes);
        (what, file)
    };
    all.into_iter().map(write).collect()
}

#[test]
fn bad_reloads_lose_nothing_either() {
    let config = json!({"start_ms": HANG_MS, "defaults": {"preflight_ms": HANG_MS}});
    for (flags, reloads) in MIXED {
        let kitchen = Kitchen::configured(&config);
        let bad = bad_files(&kitchen);
        let mut turns = Turns::begin(kitchen, flags);
        let began = Instant::now();
        let mut refused = Vec::new();
        for number in 1..=reloads {
            if number % 3 == 0 {
                let (what, file) = &bad[refused.len() % bad.len()];
                refused.push(turns.refuse(what, file));
            } else {
                turns.take();
            }
        }
        println!("{flags:?}: {reloads} reloads in {:.1?}", began.elapsed());
        for text in &refused[..bad.len()] {
            println!("    {text}");
        }
        turns.end();
    }
}
