//! The first reply of a daemon that sleeps: `cargo bench -p dae-tests --bench cold`.
//!
//! A home has 10,000 daemons of one file that start on demand. A hundred of them in the host's process, and as many in
//! subprocesses, get their first command, one after the other. The time runs from the connection of a guest to the reply.
//!
//! Absolute times depend on the machine. The ratio to the start of a subprocess is comparable: from the command `start`
//! at the control socket to the first reply to a guest that connects then. The measurements alternate.
//!
//! Flags after `--`: `--daemons N`, `--wakes N`. All figures go to `target/bench/cold.json`.

#[path = "../figures/mod.rs"]
mod figures;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Ecosystem, Guest};
use figures::command_line;
use serde_json::{Value, json};

const DAEMONS_DEFAULT: u64 = 10_000;

const WAKES_DEFAULT: u64 = 100;

/// The file descriptors of the host besides the listeners of its daemons.
const DESCRIPTORS_BESIDES: usize = 1_000;

/// The longest time until all daemons listen.
const START_MAX: Duration = Duration::from_secs(300);

/// The daemon whose start is measured beside.
const STARTED: &str = "Started";

fn main() -> ExitCode {
    let Some(words) = command_line::words("cold") else {
        return ExitCode::SUCCESS;
    };
    command_line::end("cold", Size::read(&words).and_then(|size| bench(&size)))
}

/// The numbers of daemons.
struct Size {
    daemons: usize,
    /// The daemons that are woken in each mode.
    wakes: usize,
}

impl Size {
    fn read(words: &[String]) -> Result<Self, String> {
        let flags = [("--daemons", DAEMONS_DEFAULT), ("--wakes", WAKES_DEFAULT)];
        let [daemons, wakes] = command_line::numbers(words, flags)?;
        let count = |number: u64| usize::try_from(number).map_err(|error| error.to_string());
        let mut size = Size {
            daemons: count(daemons)?,
            wakes: count(wakes)?,
        };
        let possible = figures::descriptors_up_to((size.daemons + DESCRIPTORS_BESIDES) as u64);
        let possible = usize::try_from(possible).unwrap_or(usize::MAX);
        size.daemons = size
            .daemons
            .min(possible.saturating_sub(DESCRIPTORS_BESIDES));
        match size.daemons >= 2 * size.wakes && size.wakes > 0 {
            true => Ok(size),
            false => Err(format!("{} daemons are too few", size.daemons)),
        }
    }
}

fn bench(size: &Size) -> Result<(), String> {
    let mut ecosystem = prepared(size)?;
    let began = Instant::now();
    ecosystem.wake(&[]);
    let ports = until_all_sleep(&ecosystem, size.daemons)?;
    let asleep_s = began.elapsed().as_secs_f64();
    let loaded = ecosystem.status("Dae")["libraries"]["loaded"].clone();
    let (mut here, mut apart, mut started) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..size.wakes {
        here.push(first_reply(ports[&name(number)]));
        apart.push(first_reply(ports[&name(size.wakes + number)]));
        started.push(start(&ecosystem)?);
    }
    let awake = states(&ecosystem)
        .values()
        .filter(|one| one.0 == "ready")
        .count();
    // Dae and the one that is started beside are ready, too.
    if awake != 2 * size.wakes + 2 {
        return Err(format!("{awake} daemons are awake"));
    }
    println!(
        "{} daemons asleep after {asleep_s:.2} s, with {loaded} files loaded",
        size.daemons
    );
    let p50 = [here, apart, started].map(figures::median);
    show(p50);
    let [here, apart, started] = p50;
    figures::keep(
        "cold",
        json!({
            "daemons": size.daemons, "wakes": size.wakes, "asleep_s": asleep_s, "files_loaded": loaded,
            "start_ms": started, "in_process_ms": here, "subprocess_ms": apart,
        }),
    )
}

fn show([here, apart, started]: [f64; 3]) {
    println!("{:<34} {:>8} {:>8}", "p50", "ms", "ratio");
    for (what, ms) in [
        ("start of a subprocess", started),
        ("first reply, in-process", here),
        ("first reply, in a subprocess", apart),
    ] {
        println!("{what:<34} {ms:>8.2} {:>8.2}", ms / started);
    }
}

/// Returns a home with all daemons and no host.
fn prepared(size: &Size) -> Result<Ecosystem, String> {
    let mut ecosystem = Ecosystem::start_with(Artefacts::released());
    ecosystem.stop();
    ecosystem.configure(&json!({"scan_ms": 0}));
    ecosystem.wake(&[]);
    let settings = json!({"start": "on-demand"}).to_string();
    drop(ecosystem.install(&name(0), "measured", &["--settings", &settings]));
    drop(ecosystem.install(STARTED, "measured", &["--isolate"]));
    ecosystem.stop();
    let path = ecosystem.home().join("registry.json");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(&path).map_err(|error| failed(&error))?;
    let mut registry: Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    let daemons = registry["daemons"].as_object_mut().ok_or("no daemons")?;
    let mut entry = daemons[&name(0)].clone();
    entry["port"] = Value::Null;
    for number in 1..size.daemons {
        let is_apart = (size.wakes..2 * size.wakes).contains(&number);
        entry["mode"] = json!(if is_apart { "subprocess" } else { "in-process" });
        daemons.insert(name(number), entry.clone());
    }
    fs::write(&path, registry.to_string()).map_err(|error| failed(&error))?;
    Ok(ecosystem)
}

fn name(number: usize) -> String {
    format!("Cold-{number:05}")
}

/// Returns the state and port of each daemon.
fn states(ecosystem: &Ecosystem) -> BTreeMap<String, (String, Option<u64>)> {
    let list = ecosystem.cli(&["list", "--json"]).ok().json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = list.as_array().into_iter().flatten();
    all.map(|one| {
        (
            text(&one["name"]),
            (text(&one["state"]), one["port"].as_u64()),
        )
    })
    .collect()
}

/// Waits until so many daemons sleep. Returns their ports.
fn until_all_sleep(ecosystem: &Ecosystem, count: usize) -> Result<BTreeMap<String, u16>, String> {
    let began = Instant::now();
    loop {
        let mut all = states(ecosystem);
        all.retain(|_, (state, _)| state == "asleep");
        if all.len() == count {
            let port = |port: Option<u64>| u16::try_from(port?).ok();
            let ports = all.into_iter();
            return Ok(ports
                .filter_map(|(name, (_, number))| Some((name, port(number)?)))
                .collect());
        }
        if began.elapsed() > START_MAX {
            return Err(format!("{} of {count} daemons sleep", all.len()));
        }
    }
}

/// Returns the time until a new guest has its first reply (ms).
fn first_reply(port: u16) -> f64 {
    let began = Instant::now();
    let mut guest = Guest::connect(port);
    guest.send("add [1,2]\n");
    guest.expect("add [3]");
    ms(began)
}

/// Stops and starts a subprocess. Returns the time from its start to its first reply (ms).
fn start(ecosystem: &Ecosystem) -> Result<f64, String> {
    let mut control = ecosystem.control();
    let mut ask = |command: &str| {
        let done = control.ask(command, &json!(STARTED));
        done.map_err(|fault| format!("{command}: {fault:?}"))
    };
    ask("stop")?;
    let port = kept_port(&mut ask)?;
    let began = Instant::now();
    ask("start")?;
    first_reply(port);
    Ok(ms(began))
}

/// Returns the port that the stopped daemon has kept.
fn kept_port(ask: &mut impl FnMut(&str) -> Result<Value, String>) -> Result<u16, String> {
    let port = ask("status")?["kept_port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| "it has kept no port".to_owned())
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
