//! Round trips, compared with the fastest alternatives to the host: `cargo bench -p dae-tests --bench round_trips`.
//!
//! A load generator sends commands and checks every byte of every reply. It drives a bare tokio line echo, a daemon in
//! a release host (in-process and in a subprocess), servers as one would write them by hand, and peers where they are
//! installed. In a round each server runs for the same time under the same load. The rounds are interleaved, so that a
//! machine that slows down affects all servers. The median of the rounds counts. Absolute numbers depend on the
//! machine. The ratio to the bare echo of the same round is comparable, above all for the CPU time per request.
//!
//! With one connection, load and server share one processor. On two processors a round trip is mostly the wake-up of
//! the other one, and it is chance whether the scheduler uses one or two: the same server reached 9,000 or 155,000
//! round trips a second. On one processor, the measurement shows the work of both. With many connections they may run
//! on all processors.
//!
//! Flags after `--`: see [`options`]. The table goes to standard output, all figures to
//! `target/bench/round_trips.json`. `--page` measures nothing: it writes the stored figures of all benches into
//! `host/docs/performance.md`. If a host cannot be built, the bench ends with code 1 and a reason.

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
use figures::command_line;
use options::Options;
use report::{Report, Run, Subject};
use script::{Script, Workload};
use servers::{CONTENDERS, Server};
use syscalls::Counting;

/// The name under which the figures are stored.
const NAME: &str = "round_trips";

/// The connections, and the commands in flight on each. The first is like a person or a script, the second like a
/// pipelining daemon. The others show that the host serves many connections as well as one.
const SHAPES: [Shape; 5] = [
    Shape::new(1, 1),
    Shape::new(1, 64),
    Shape::new(50, 1),
    Shape::new(50, 16),
    Shape::new(1000, 1),
];

/// The time before each measurement, in which caches, branch predictors and socket buffers adapt.
const WARM_UP: Duration = Duration::from_millis(150);

/// The distribution of the load.
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
    if std::env::args()
        .nth(1)
        .is_some_and(|one| one == raw::ARGUMENT)
    {
        return command_line::end("round_trips", raw::main());
    }
    let Some(words) = command_line::words("round_trips") else {
        return ExitCode::SUCCESS;
    };
    let measured = Options::read(&words).and_then(|options| match options.page {
        true => page::write(),
        false => bench(&options),
    });
    command_line::end("round_trips", measured)
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
    // The rest may be interrupted without loss.
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

/// Measures every server under every requested load, each on the processors assigned for that load.
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
