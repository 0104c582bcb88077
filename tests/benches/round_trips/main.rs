//! Round trips, beside the fastest thing that could stand in the host's place: `cargo bench -p dae-tests --bench round_trips`.
//!
//! A load generator sends commands and checks every byte of every reply. It drives, in turn, a bare tokio line echo, a
//! daemon in a release host, in-process and in a subprocess, servers that one would write by hand, and peers where they
//! are installed. A round gives each server the same time under the same load; rounds are interleaved, so that a machine
//! that slows down slows all of them. The median of the rounds counts. Absolute numbers belong to the machine; what
//! carries over is the ratio to the bare echo of the same round, and of the figures the CPU time a request first.
//!
//! With one connection, load and server share one processor. On two of them a round trip is mostly the wake-up of the
//! other one, and whether the scheduler puts them on one or two is chance: the same server was seen at 9,000 and at
//! 155,000 round trips a second. On one, what is measured is the work of both. With many connections they run where
//! they like.
//!
//! Flags after `--`: see [`options`]. The table goes to standard output, all figures to
//! `target/bench/round_trips.json`; `--page` measures nothing: it writes what all benches have kept into `host/docs/performance.md`.
//! A host that cannot be built ends the bench with code 1 and a reason.

#[path = "../figures/mod.rs"]
mod figures;
mod idle;
mod load;
mod options;
mod page;
mod peers;
#[path = "../raw/mod.rs"]
mod raw;
mod report;
mod script;
mod servers;
mod syscalls;

use std::process::ExitCode;
use std::time::Duration;

use dae_tests::process;
use options::Options;
use report::{Report, Run, Subject};
use script::{Script, Workload};
use servers::{CONTENDERS, Server};
use syscalls::Counting;

/// Under which its figures are kept.
const NAME: &str = "round_trips";

/// Connections by commands in flight on each. The first is a person or a script, the second a pipelining daemon; the
/// others show that the host serves many as well as one.
const SHAPES: [Shape; 5] = [
    Shape::new(1, 1),
    Shape::new(1, 64),
    Shape::new(50, 1),
    Shape::new(50, 16),
    Shape::new(1000, 1),
];

/// Before each measurement: caches, branch predictors and socket buffers find their size.
const WARM_UP: Duration = Duration::from_millis(150);

/// How the load is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|one| one == raw::ARGUMENT) {
        return end(raw::main());
    }
    // `cargo test --benches` runs this file without the flag, in a debug build that measures nothing.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("round_trips measures under `cargo bench` alone");
        return ExitCode::SUCCESS;
    }
    end(
        Options::read(&arguments).and_then(|options| match options.page {
            true => page::write(),
            false => bench(&options),
        }),
    )
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

fn bench(options: &Options) -> Result<(), String> {
    figures::allow_descriptors(idle::CONNECTIONS as u64 + 1_000)?;
    let mut report = Report::default();
    if options.idle {
        each_idle(options, &mut report)?;
    }
    let mut servers = Vec::new();
    for contender in CONTENDERS.into_iter().filter(|one| options.takes(one)) {
        servers.extend(contender.start()?);
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        each_load(options, &servers, |server, subject| {
            report.add(subject, measure(server, subject, options.round)?);
            Ok(())
        })?;
    }
    // What follows may be interrupted with nothing lost.
    report.keep()?;
    if syscalls::can_be_counted() {
        each_load(options, &servers, |server, subject| {
            report.add_syscalls(subject, count_syscalls(server, subject, options.round)?);
            Ok(())
        })?;
    }
    println!("{}", report.table());
    report.keep()
}

fn each_idle(options: &Options, report: &mut Report) -> Result<(), String> {
    for contender in CONTENDERS.into_iter().filter(|one| options.takes(one)) {
        if let Some(server) = contender.start()? {
            eprintln!(
                "{} idle connections: {}",
                idle::CONNECTIONS,
                contender.label
            );
            let idle = idle::measure(&server);
            let idle = idle.map_err(|error| format!("{}: {error}", contender.label))?;
            report.add_idle(contender.label, idle);
        }
    }
    Ok(())
}

/// Every server under every load that was asked for, each on the processors that are its own then.
fn each_load(
    options: &Options,
    servers: &[Server],
    mut measure: impl FnMut(&Server, Subject) -> Result<(), String>,
) -> Result<(), String> {
    let anywhere = process::processors();
    let together = process::last_of(&anywhere);
    for workload in Workload::ALL.into_iter().filter(|one| options.loads(*one)) {
        for shape in SHAPES.into_iter().filter(|one| options.shapes(*one)) {
            let processors = match shape.connections {
                1 => &together,
                _ => &anywhere,
            };
            process::confine(std::process::id(), processors);
            let can = |server: &&Server| Script::of(workload, server.contender.tongue).is_some();
            for server in servers.iter().filter(can) {
                server.confine(processors);
                let subject = Subject {
                    workload,
                    shape,
                    server: server.contender.label,
                };
                measure(server, subject)?;
            }
        }
    }
    process::confine(std::process::id(), &anywhere);
    Ok(())
}

fn measure(server: &Server, subject: Subject, round: Duration) -> Result<Run, String> {
    drive(server, subject, WARM_UP)?;
    let before = server.cpu_ns();
    let done = drive(server, subject, round)?;
    let cpu_ns = server.cpu_ns().saturating_sub(before);
    Ok(Run::of(&done, cpu_ns))
}

fn count_syscalls(server: &Server, subject: Subject, round: Duration) -> Result<f64, String> {
    let failed = |error| format!("{}: {error}", subject.server);
    let counting = Counting::of(&server.processes).map_err(failed)?;
    let done = drive(server, subject, round)?;
    let count = counting.end().map_err(failed)?;
    Ok(count as f64 / done.latency_ns.len() as f64)
}

fn drive(server: &Server, subject: Subject, time: Duration) -> Result<load::Done, String> {
    let script = Script::of(subject.workload, server.contender.tongue);
    let script = script.ok_or("a command that the server doesn't have")?;
    let done = load::drive(server.port, script, subject.shape, time);
    done.map_err(|error| format!("{}: {error}", subject.server))
}
