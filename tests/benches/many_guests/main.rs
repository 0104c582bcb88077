//! Many guests, of which each sends a command now and then: `cargo bench -p dae-tests --bench many_guests`.
//!
//! 10,000 guests send one command a second each. A daemon in the host's process and one in a subprocess answer them,
//! beside the bare tokio line echo in the same round. The figures are CPU time a command, of all processes of the
//! server, and the latency. No guest is busy here, and nearly each command wakes the server.
//!
//! This is a bench of its own and no load of `round_trips`: the loop is open, at a rate that is far below what a server
//! can do, and a connection lasts for the whole round. A server is started anew for each round, so that a round's ten
//! thousand closed connections don't use up the ports of the next.
//!
//! Flags after `--`: `--connections N`, `--per-second N` (the commands of each connection), `--seconds N` (of a round),
//! `--rounds N`. All figures go to `target/bench/many_guests.json`.

#[path = "../figures/mod.rs"]
mod figures;
mod load;
#[path = "../raw/mod.rs"]
mod raw;

use std::process::ExitCode;
use std::time::Duration;

use dae_tests::{Artefacts, Ecosystem, process};
use figures::command_line;
use figures::spread::Spread;
use load::Guests;
use raw::RawServer;
use serde_json::{Value, json};

/// The file descriptors of a server besides its connections.
const DESCRIPTORS_BESIDES: u64 = 1_000;

/// The seconds of load before each measurement: every guest has sent a command.
const WARM_UP_S: u64 = 2;

/// The servers, in the order in which they are measured. The others are compared with the first one.
const SERVERS: [(&str, Option<&[&str]>); 3] = [
    ("raw", None),
    ("in-process", Some(&[])),
    ("subprocess", Some(&["--isolate"])),
];

/// A figure of a round.
type Figure = fn(&Round) -> f64;

/// The figures of a round, by their names in the stored file.
const FIGURES: [(&str, Figure); 3] = [
    ("cpu_us", |round| round.cpu_us),
    ("p50_us", |round| round.p50_us),
    ("p99_us", |round| round.p99_us),
];

/// The load, as the flags say.
struct Load {
    connections: u64,
    per_second: u64,
    seconds: u64,
    rounds: u64,
}

/// The figures of one server in one round.
struct Round {
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// The lateness of the load itself (p99), the share of a processor that it took, and the commands that it left out.
    late_us: f64,
    load_cpu: f64,
    skipped: u64,
}

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|one| one == raw::ARGUMENT)
    {
        return command_line::end("many_guests", raw::main());
    }
    let Some(words) = command_line::words("many_guests") else {
        return ExitCode::SUCCESS;
    };
    command_line::end(
        "many_guests",
        Load::read(&words).and_then(|load| bench(&load)),
    )
}

impl Load {
    fn read(words: &[String]) -> Result<Self, String> {
        let flags = [
            ("--connections", 10_000),
            ("--per-second", 1),
            ("--seconds", 5),
            ("--rounds", 9),
        ];
        let numbers = command_line::numbers(words, flags)?;
        if numbers.contains(&0) {
            return Err("each number is at least 1".to_owned());
        }
        let [connections, per_second, seconds, rounds] = numbers;
        Ok(Load {
            connections,
            per_second,
            seconds,
            rounds,
        })
    }

    fn commands_in(&self, seconds: u64) -> u64 {
        self.connections * self.per_second * seconds
    }

    /// Returns the time between two commands.
    fn pause(&self) -> Duration {
        Duration::from_secs(1) / u32::try_from(self.commands_in(1)).unwrap_or(u32::MAX)
    }
}

fn bench(load: &Load) -> Result<(), String> {
    figures::allow_descriptors(load.connections + DESCRIPTORS_BESIDES)?;
    let mut rounds = SERVERS.map(|_| Vec::new());
    for number in 1..=load.rounds {
        eprintln!("round {number} of {}", load.rounds);
        for ((label, flags), rounds) in SERVERS.iter().zip(&mut rounds) {
            let round = measure(load, *flags).map_err(|error| format!("{label}: {error}"))?;
            rounds.push(round);
        }
    }
    print(load, &rounds);
    let rows = SERVERS.iter().zip(&rounds);
    let rows: Vec<Value> = rows
        .map(|((label, _), of_it)| row(label, of_it, &rounds[0]))
        .collect();
    figures::keep(
        "many_guests",
        json!({
            "connections": load.connections, "per_second": load.per_second, "seconds": load.seconds,
            "rounds": load.rounds, "rows": rows,
        }),
    )
}

/// Starts a server, and measures it.
fn measure(load: &Load, flags: Option<&[&str]>) -> Result<Round, String> {
    let failed = |error: std::io::Error| error.to_string();
    let Some(flags) = flags else {
        let server = RawServer::start().map_err(failed)?;
        return drive(load, server.port, &server.processes()).map_err(failed);
    };
    let ecosystem = Ecosystem::start_with(Artefacts::released());
    drop(ecosystem.install("Measured", "measured", flags));
    let pid = ecosystem.pid();
    let processes = [vec![pid], process::workers_of(pid)].concat();
    drive(load, ecosystem.port_of("Measured"), &processes).map_err(failed)
}

fn drive(load: &Load, port: u16, processes: &[u32]) -> std::io::Result<Round> {
    let cpu_ns = || {
        processes
            .iter()
            .map(|one| process::cpu_ns(*one))
            .sum::<u64>()
    };
    let mut guests = Guests::connect(port, load.connections as usize)?;
    guests.drive(load.commands_in(WARM_UP_S), load.pause())?;
    let before = cpu_ns();
    let done = guests.drive(load.commands_in(load.seconds), load.pause())?;
    let cpu_ns = cpu_ns().saturating_sub(before);
    let us_at = |quantile| done.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Round {
        cpu_us: cpu_ns as f64 / 1e3 / done.latency_ns.len().max(1) as f64,
        p50_us: us_at(0.5),
        p99_us: us_at(0.99),
        late_us: done.late_ns.value_at_quantile(0.99) as f64 / 1e3,
        load_cpu: done.cpu_ns as f64 / done.time.as_nanos() as f64,
        skipped: done.skipped,
    })
}

/// Returns the ratio of a figure to that of the bare echo in the same round.
fn to_raw(rounds: &[Round], raw: &[Round], figure: Figure) -> Spread {
    let pairs = rounds.iter().zip(raw);
    Spread::of(pairs.map(|(one, raw)| figure(one) / figure(raw)).collect())
}

fn row(label: &str, rounds: &[Round], raw: &[Round]) -> Value {
    let mut row = json!({"server": label, "to_raw": {}});
    for (name, figure) in FIGURES {
        row[name] = Spread::of(rounds.iter().map(figure).collect()).json();
        row["to_raw"][name] = to_raw(rounds, raw, figure).json();
    }
    row["skipped"] = json!(rounds.iter().map(|round| round.skipped).sum::<u64>());
    row["load_late_us"] = json!(rounds.iter().map(|round| round.late_us).collect::<Vec<_>>());
    row["load_cpu"] = json!(
        rounds
            .iter()
            .map(|round| round.load_cpu)
            .collect::<Vec<_>>()
    );
    row
}

fn print(load: &Load, all: &[Vec<Round>]) {
    println!(
        "{} guests, {} command a second each, {} rounds of {} s; median [quartiles]; ~ is no result",
        load.connections, load.per_second, load.rounds, load.seconds
    );
    println!(
        "{:<11} {:>20} {:>20} {:>22} {:>22}",
        "server", "cpu us", "p99 us", "cpu/raw", "p99/raw"
    );
    for ((label, _), rounds) in SERVERS.iter().zip(all) {
        let [cpu, _, p99] = FIGURES.map(|(_, figure)| {
            let here = Spread::of(rounds.iter().map(figure).collect()).shown(1);
            (here, to_raw(rounds, &all[0], figure).ratio())
        });
        println!(
            "{label:<11} {:>20} {:>20} {:>22} {:>22}",
            cpu.0, p99.0, cpu.1, p99.1
        );
    }
    let each = || all.iter().flatten();
    let skipped: u64 = each().map(|round| round.skipped).sum();
    let late = Spread::of(each().map(|round| round.late_us).collect());
    let cpu = Spread::of(each().map(|round| round.load_cpu).collect());
    println!(
        "the load: {:.2} of a processor, late by {} us (p99), {skipped} commands left out",
        cpu.median,
        late.shown(0)
    );
}
