//! Reloads under load: nobody is refused, closed, answered twice or forgotten, whether they go well or badly.

use std::time::{Duration, Instant};

use dae_tests::{Control, spoil};
use serde_json::{Value, json};

use super::traffic::Traffic;
use super::{Kitchen, MODES, NAME, version};

/// Good reloads that a test makes, if there is the time.
const RELOADS_MAX: u64 = 1_000;

/// How long it may take over them, in each mode.
const RELOADS_TIME: Duration = Duration::from_secs(30);

/// Fewer than this in that time would show little.
const RELOADS_MIN: u64 = 50;

/// Reloads of which every third is bad.
const MIXED_MAX: u64 = 200;

/// A trial and a start that hang are given up after so long (ms), to have time for the others.
const HANG_MS: u64 = 1_000;

fn replace(control: &mut Control, file: &std::path::Path) -> Result<Value, String> {
    let request = json!({"name": NAME, "file": file, "replace": true});
    control
        .ask("install", &request)
        .map_err(|fault| fault.message)
}

#[test]
fn good_reloads_lose_nothing() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        let files = [2, 1]
            .map(|version| kitchen.file(&format!("{version}.so"), &json!({"version": version})));
        let traffic = Traffic::start(kitchen.ecosystem.port_of(NAME));
        let mut control = kitchen.ecosystem.control();
        let (began, mut reloads) = (Instant::now(), 0);
        while reloads < RELOADS_MAX && began.elapsed() < RELOADS_TIME {
            let wanted = 2 - reloads % 2;
            let answer = replace(&mut control, &files[(reloads % 2) as usize]);
            assert!(answer.is_ok(), "reload {reloads}: {answer:?}");
            assert_eq!(version(&mut guest), wanted, "after reload {reloads}");
            reloads += 1;
        }
        let took = began.elapsed();
        let told = traffic.end();
        println!(
            "{flags:?}: {reloads} reloads in {took:.1?}, {} commands, the longest wait {:.1?}",
            told.counts.len(),
            told.longest
        );
        assert!(reloads >= RELOADS_MIN, "only {reloads} reloads");
        assert_eq!(told.versions.into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(guest.ask("count", &json!([])), told.counts.len() as u64);
    }
}

/// What is wrong with a bad file, and what its refusal says in-process and in a subprocess.
fn bad_files(kitchen: &Kitchen) -> Vec<(&'static str, Vec<u8>)> {
    let with = |key: &str, fate: Value| kitchen.bytes(&json!({"version": 9, key: fate}));
    let good = kitchen.bytes(&json!({"version": 9}));
    let half = good[..good.len() / 2].to_vec();
    vec![
        ("not ELF", b"#!/bin/sh\necho no library\n".to_vec()),
        ("truncated", half),
        ("wrong ABI", spoil::of_abi(good, 9)),
        ("start fails", with("start", json!("fail"))),
        ("start panics", with("start", json!("panic"))),
        ("segfaults", with("constructor", json!("crash"))),
        ("state unreadable", with("misreads", json!(true))),
        ("hangs", with("constructor", json!("hang"))),
    ]
}

#[test]
fn bad_reloads_lose_nothing_either() {
    for flags in MODES {
        let kitchen = Kitchen::configured(&json!({"start_ms": HANG_MS}));
        let (_, mut guest) = kitchen.install(flags);
        let good = [2, 1]
            .map(|version| kitchen.file(&format!("{version}.so"), &json!({"version": version})));
        let bad: Vec<_> = bad_files(&kitchen)
            .into_iter()
            .map(|(what, bytes)| {
                let file = format!("{}.so", what.replace(' ', "-"));
                (
                    what,
                    spoil::write(&kitchen.ecosystem.scratch(), &file, &bytes),
                )
            })
            .collect();
        let traffic = Traffic::start(kitchen.ecosystem.port_of(NAME));
        let mut control = kitchen.ecosystem.control();
        let (began, mut done, mut runs) = (Instant::now(), 0, 1);
        let mut refused = Vec::new();
        while done < MIXED_MAX && (began.elapsed() < RELOADS_TIME || refused.len() < bad.len()) {
            done += 1;
            if done % 3 == 0 {
                let (what, file) = &bad[refused.len() % bad.len()];
                let answer = replace(&mut control, file);
                let text = answer.expect_err(what);
                assert!(
                    text.starts_with(&format!("refused {NAME}: ")),
                    "{what}: {text}"
                );
                assert!(text.contains("runs on"), "{what}: {text}");
                refused.push(text);
            } else {
                runs = 3 - runs;
                let answer = replace(&mut control, &good[(runs % 2) as usize]);
                assert!(answer.is_ok(), "reload {done}: {answer:?}");
            }
            assert_eq!(version(&mut guest), runs, "after reload {done}");
        }
        let told = traffic.end();
        println!(
            "{flags:?}: {done} reloads, {} refused, in {:.1?}; {} commands, the longest wait {:.1?}",
            refused.len(),
            began.elapsed(),
            told.counts.len(),
            told.longest
        );
        for text in &refused[..bad.len()] {
            println!("    {text}");
        }
        assert_eq!(told.versions.into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(guest.ask("count", &json!([])), told.counts.len() as u64);
    }
}
