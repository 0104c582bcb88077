//! Round trips a second, beside the fastest thing that could stand in the host's place: `cargo bench -p dae-tests`.
//!
//! A load generator sends `echo [n]` and checks every reply byte by byte. It drives, in turn, a bare tokio line echo
//! and a daemon in a release host, in-process and in a subprocess. A round gives each server the same time under the same
//! shape; rounds are interleaved, so that a machine that slows down slows all of them. The median of the rounds counts.
//! Absolute numbers belong to the machine; what carries over is the ratio to the bare echo of the same round.
//!
//! With one connection, load and server share one processor. On two of them a round trip is mostly the wake-up of the
//! other one, and whether the scheduler puts them on one or two is chance: the same server was seen at 9,000 and at
//! 155,000 round trips a second. On one, what is measured is the work of both. With many connections they run where
//! they like.
//!
//! Flags after `--`: `--rounds N`, `--seconds S` (a round), `--only TEXT` (shapes). The table goes to standard output,
//! all figures to `target/bench/round_trips.json`. A host that cannot be built ends the bench with code 1 and a reason.

mod load;
#[path = "../raw/mod.rs"]
mod raw;
mod report;
mod servers;

use std::process::ExitCode;
use std::time::Duration;

use dae_tests::process;
use report::{Report, Run};
use servers::Server;

/// Connections by commands in flight on each. The first is a person or a script, the second a pipelining daemon; the
/// others show that the host serves many as well as one.
const SHAPES: [Shape; 4] = [
    Shape::new(1, 1),
    Shape::new(1, 64),
    Shape::new(50, 1),
    Shape::new(50, 16),
];

/// The least that a median should be taken of.
const ROUNDS_DEFAULT: usize = 5;

/// Long against a scheduler's slice, short enough for five rounds of all shapes in a minute and a half.
const ROUND_DEFAULT: Duration = Duration::from_secs(1);

/// Before each measurement: caches, branch predictors and socket buffers find their size.
const WARM_UP: Duration = Duration::from_millis(200);

/// How the load is spread.
#[derive(Debug, Clone, Copy)]
struct Shape {
    connections: usize,
    in_flight: usize,
}

impl Shape {
    const fn new(connections: usize, in_flight: usize) -> Self {
        Shape {
            connections,
            in_flight,
        }
    }

    fn name(self) -> String {
        format!("{}x{}", self.connections, self.in_flight)
    }
}

/// What was asked for on the command line.
struct Options {
    rounds: usize,
    round: Duration,
    only: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|argument| argument == raw::ARGUMENT)
    {
        return end(raw::main());
    }
    // `cargo test --benches` runs this file without the flag, in a debug build that measures nothing.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("round_trips measures under `cargo bench` alone");
        return ExitCode::SUCCESS;
    }
    end(Options::read(&arguments).and_then(|options| bench(&options)))
}

fn end(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("round_trips: {reason}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options {
            rounds: ROUNDS_DEFAULT,
            round: ROUND_DEFAULT,
            only: String::new(),
        };
        let mut words = arguments.iter().filter(|word| *word != "--bench");
        while let Some(flag) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{flag} needs a value"))?;
            let number = || {
                value
                    .parse::<f64>()
                    .map_err(|error| format!("{flag} {value}: {error}"))
            };
            match flag.as_str() {
                "--rounds" => options.rounds = number()?.max(1.0) as usize,
                "--seconds" => {
                    options.round =
                        Duration::try_from_secs_f64(number()?).map_err(|e| e.to_string())?
                }
                "--only" => options.only.clone_from(value),
                _ => {
                    return Err(format!(
                        "{flag} is unknown; there are --rounds, --seconds and --only"
                    ));
                }
            }
        }
        Ok(options)
    }
}

fn bench(options: &Options) -> Result<(), String> {
    let servers = servers::start()?;
    let anywhere = process::processors();
    let together = process::last_of(&anywhere);
    let mut report = Report::default();
    let shapes = || {
        SHAPES
            .into_iter()
            .filter(|shape| shape.name().contains(&options.only))
    };
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for shape in shapes() {
            let alone = shape.connections == 1;
            let processors = if alone { &together } else { &anywhere };
            process::confine(std::process::id(), processors);
            for server in &servers {
                server.confine(processors);
                report.add(
                    server.label,
                    &shape.name(),
                    measure(server, shape, options.round)?,
                );
            }
        }
    }
    println!("{}", report.table());
    report.write()
}

fn measure(server: &Server, shape: Shape, round: Duration) -> Result<Run, String> {
    let load = |time: Duration| {
        load::drive(server, shape, time).map_err(|error| format!("{}: {error}", server.label))
    };
    load(WARM_UP)?;
    let before = server.cpu_ns();
    let done = load(round)?;
    let cpu_ns = server.cpu_ns().saturating_sub(before);
    Ok(Run::of(&done, cpu_ns))
}
