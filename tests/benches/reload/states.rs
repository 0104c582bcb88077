//! The pause and the memory of reloads with a large state, beside serde_json alone: `-- --state 100MB`.
//!
//! The daemon's state is a map of names to small records. A guest sends commands while the daemon is reloaded, and its
//! longest wait is the pause. Between two reloads this program writes and reads the same value with serde_json, in one
//! process. The ratio of each reload is that to the pair behind it.
//!
//! Memory is that of the host and its workers, beyond what they had without a state, and without the author's own
//! values: those of the old instance and those of the new one. It is watched in reloads of their own, since looking
//! takes time. A file in memory counts once, whoever has mapped it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Ecosystem, Guest, process};
use serde_json::{Value, json};

use super::figures::median;
use super::records::{self, Records};

/// The name of the daemon.
const NAME: &str = "Bulky";

/// A measured way: the fixture, and how it is installed.
struct Way {
    label: &'static str,
    library: &'static str,
    flags: &'static [&'static str],
}

/// The ways: the whole state in the pause, or a snapshot before it and what has changed in it.
const WAYS: [Way; 4] = [
    Way {
        label: "in-process",
        library: "bulky",
        flags: &[],
    },
    Way {
        label: "subprocess",
        library: "bulky",
        flags: &["--isolate"],
    },
    Way {
        label: "two phases",
        library: "phased",
        flags: &[],
    },
    Way {
        label: "…, subprocess",
        library: "phased",
        flags: &["--isolate"],
    },
];

/// The measured reloads of each way.
pub(super) const RELOADS_DEFAULT: u64 = 7;
/// The reloads in which memory is watched.
const WATCHED: usize = 2;
/// The time between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// The time between two commands of the guest: long enough to leave the processors to the reload.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// The state's value here, in the process of the bench.
struct StateValue {
    /// The size that was asked for, from which the daemon makes the same value.
    bytes: u64,
    records: Records,
    json_bytes: u64,
    /// The memory that the value takes.
    value_bytes: u64,
}

impl StateValue {
    fn of_size(bytes: u64) -> Self {
        let text = serde_json::to_vec(&records::of_size(bytes)).expect("JSON");
        let before = private_bytes(std::process::id());
        let records = serde_json::from_slice(&text).expect("the same JSON");
        let value_bytes = private_bytes(std::process::id()).saturating_sub(before);
        StateValue {
            bytes,
            records,
            json_bytes: text.len() as u64,
            value_bytes,
        }
    }

    /// Returns the time that serde_json takes to write and to read the value.
    fn write_and_read(&self) -> Duration {
        let began = Instant::now();
        let text = serde_json::to_vec(&self.records).expect("JSON");
        let back: Records = serde_json::from_slice(&text).expect("the same JSON");
        let took = began.elapsed();
        assert_eq!(back.len(), self.records.len());
        took
    }
}

pub(super) fn measure(bytes: u64, reloads: u64) -> Value {
    let subject = StateValue::of_size(bytes);
    let megabytes = subject.json_bytes as f64 / 1e6;
    println!("a state of {megabytes:.1} MB as JSON, {reloads} reloads each");
    println!(
        "{:<14} {:>9} {:>9} {:>7} {:>12}",
        "", "pause ms", "serde ms", "ratio", "memory/JSON"
    );
    let rows = WAYS.map(|way| of_way(&subject, &way, reloads));
    json!({"json_bytes": subject.json_bytes, "value_bytes": subject.value_bytes, "reloads": reloads, "rows": rows})
}

fn of_way(subject: &StateValue, way: &Way, reloads: u64) -> Value {
    let (label, library) = (way.label, way.library);
    let mut ecosystem = Ecosystem::start_with(Artefacts::released());
    let mut guest = ecosystem.install(NAME, library, way.flags);
    let empty = memory(ecosystem.pid());
    guest.ask("fill", &json!([subject.bytes]));
    // From here on the values are those that serde has read, which take less memory than those that were made.
    ecosystem.stop();
    ecosystem.wake(&[]);
    ecosystem.until_state(NAME, "ready");
    guest = ecosystem.guest(NAME);
    let (mut pauses, mut pairs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut watched = 0;
    for _ in 0..WATCHED {
        watched = watched.max(peak(&ecosystem));
    }
    for _ in 0..reloads {
        let pause = pause(&ecosystem, &mut guest);
        let pair = subject.write_and_read();
        ratios.push(pause.as_secs_f64() / pair.as_secs_f64());
        pauses.push(pause.as_secs_f64() * 1e3);
        pairs.push(pair.as_secs_f64() * 1e3);
    }
    let beyond = watched as f64 - empty as f64 - 2.0 * subject.value_bytes as f64;
    let memory = beyond / subject.json_bytes as f64;
    let (pause, pair, ratio) = (
        median(pauses.clone()),
        median(pairs.clone()),
        median(ratios.clone()),
    );
    println!("{label:<14} {pause:>9.1} {pair:>9.0} {ratio:>7.2} {memory:>12.2}");
    json!({
        "way": label, "pause_ms": pause, "serde_ms": pair, "ratio": ratio, "memory_to_json": memory,
        "peak_bytes": watched, "empty_bytes": empty, "pauses_ms": pauses, "serdes_ms": pairs, "ratios": ratios,
    })
}

fn reload(ecosystem: &Ecosystem) {
    let reloaded = ecosystem.cli(&["reload", NAME]);
    let _ = reloaded.ok();
}

/// Returns the guest's longest wait during a reload.
fn pause(ecosystem: &Ecosystem, guest: &mut Guest) -> Duration {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                guest.ask("count", &json!([]));
                longest = longest.max(asked.elapsed());
                thread::sleep(ASK_EVERY);
            }
            longest
        });
        reload(ecosystem);
        is_over.store(true, Ordering::Relaxed);
        asking.join().expect("a guest that is answered")
    })
}

/// Returns the most memory during a reload, and a while after it.
fn peak(ecosystem: &Ecosystem) -> u64 {
    let (host, is_over) = (ecosystem.pid(), AtomicBool::new(false));
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(memory(host));
                thread::sleep(LOOK_EVERY);
            }
            most
        });
        reload(ecosystem);
        is_over.store(true, Ordering::Relaxed);
        looking.join().expect("it only looks")
    })
}

/// Returns the memory of a host and its workers.
fn memory(host: u32) -> u64 {
    let mut all = process::workers_of(host);
    all.push(host);
    let mut files = BTreeMap::new();
    for process in &all {
        files.extend(files_in_memory(*process));
    }
    let private: u64 = all.iter().map(|process| private_bytes(*process)).sum();
    private + files.into_values().sum::<u64>()
}

/// Returns a process's part of the memory that is not of shared files.
fn private_bytes(process: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
    let rollup = rollup.unwrap_or_default();
    let of = |key: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    };
    of("Pss_Anon:") + of("Pss_File:")
}

/// Returns the memory of each file in memory that a process has open, by its number.
fn files_in_memory(process: u32) -> BTreeMap<u64, u64> {
    let listed = std::fs::read_dir(format!("/proc/{process}/fd"));
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let target = std::fs::read_link(&path).ok()?;
        target.to_str()?.starts_with("/memfd:").then_some(())?;
        let metadata = std::fs::metadata(&path).ok()?;
        Some((metadata.ino(), metadata.blocks() * 512))
    };
    listed.into_iter().flatten().filter_map(of).collect()
}

/// Reads a size such as `100MB`, `8MiB` or `4096`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("KB", 1_000),
        ("MB", 1_000_000),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (unit, factor) = unit.copied().unwrap_or(("", 1));
    let number = text[..text.len() - unit.len()].parse::<u64>();
    number
        .map(|number| number * factor)
        .map_err(|_| format!("a size is a number with KB, MB, KiB, MiB or nothing, and not {text}"))
}
