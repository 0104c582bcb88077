//! Calls from daemon to daemon by name, one after the other: inside one host, through its worker processes, and over
//! TCP to a daemon of another host.
//!
//! The calling daemon measures the time of each call itself, so that the time contains nothing else. The rounds of all
//! routes alternate, and each figure is the median of its rounds.
//!
//! Beside them, two bare tokio processes exchange a line over a socket pair. Neither they nor the hosts and workers are
//! bound to processors. A route between processes is comparable by its ratio to them in the same round.
//!
//! `cargo bench -p dae-tests --bench calls`; flags after `--`: `--rounds N`, `--calls N`. All figures go to
//! `target/bench/calls.json`.

#[path = "../figures/mod.rs"]
mod figures;
#[path = "../raw/mod.rs"]
mod raw;

use std::process::ExitCode;

use dae_tests::{Artefacts, Ecosystem, Guest};
use figures::command_line;
use figures::spread::Spread;
use hdrhistogram::Histogram;
use raw::ping_pong::PingPong;
use serde_json::{Value, json};

/// A route from one daemon to another.
struct Route {
    label: &'static str,
    caller: Guest,
    /// The daemon that it calls, and the command.
    target: (String, &'static str),
    is_between_processes: bool,
    rounds: Vec<Round>,
}

/// The nanoseconds per call.
#[derive(Clone, Copy)]
struct Round {
    p50: u64,
    p99: u64,
}

struct Options {
    rounds: u64,
    calls: u64,
}

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|one| one == raw::ARGUMENT)
    {
        return command_line::end("calls", raw::main());
    }
    let Some(words) = command_line::words("calls") else {
        return ExitCode::SUCCESS;
    };
    command_line::end("calls", options(&words).and_then(|options| bench(&options)))
}

fn bench(options: &Options) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the two bare processes: {error}");
    let (here, elsewhere) = ecosystems();
    let mut routes = routes(&here, &elsewhere);
    let (mut peer, mut bare) = (PingPong::start().map_err(failed)?, Vec::new());
    for _ in 0..options.rounds {
        let [p50, p99] = peer.measure(options.calls).map_err(failed)?;
        bare.push(Round { p50, p99 });
        for route in &mut routes {
            let round = measure(route, options.calls);
            route.rounds.push(round);
        }
    }
    print_table(&routes, &bare, options);
    let figures: Vec<Value> = routes.iter().map(|route| figure(route, &bare)).collect();
    let peer =
        json!({"p50": median(&bare, |round| round.p50), "p99": median(&bare, |round| round.p99)});
    figures::keep(
        "calls",
        json!({"unit": "ns", "rounds": options.rounds, "routes": figures, "bare": peer}),
    )
}

fn options(words: &[String]) -> Result<Options, String> {
    let flags = [("--rounds", 9), ("--calls", 20_000)];
    let [rounds, calls] = command_line::numbers(words, flags)?;
    Ok(Options { rounds, calls })
}

/// Starts two hosts. The daemon of the second one has a unique name.
fn ecosystems() -> (Ecosystem, Ecosystem) {
    let artefacts = Artefacts::released();
    let (here, elsewhere) = (
        Ecosystem::start_with(artefacts),
        Ecosystem::start_with(artefacts),
    );
    let _ = elsewhere.install(&far(), "peer", &[]);
    let _ = here.install("Near", "peer", &[]);
    let _ = here.install("Apart", "peer", &["--isolate"]);
    let _ = here.cli(&["scan"]).ok();
    (here, elsewhere)
}

/// Returns a name that is unique on the machine, because every ecosystem of the machine is found.
fn far() -> String {
    format!("Far-{}", std::process::id())
}

fn routes(here: &Ecosystem, _elsewhere: &Ecosystem) -> Vec<Route> {
    let _ = here.install("Caller", "peer", &[]);
    let _ = here.install("CallerApart", "peer", &["--isolate"]);
    let route = |label: &'static str, caller: &str, target: &str, command| Route {
        label,
        caller: here.guest(caller),
        target: (target.to_owned(), command),
        is_between_processes: !label.starts_with("in-process to in-process"),
        rounds: Vec::new(),
    };
    vec![
        route("in-process to in-process, fn", "Caller", "Near", "echo"),
        route(
            "in-process to in-process, async fn",
            "Caller",
            "Near",
            "echo_soon",
        ),
        route("in-process to subprocess", "Caller", "Apart", "echo"),
        route("subprocess to in-process", "CallerApart", "Near", "echo"),
        route("subprocess to subprocess", "CallerApart", "Apart", "echo"),
        route(
            "in-process over TCP to another host",
            "Caller",
            &far(),
            "echo",
        ),
    ]
}

fn measure(route: &mut Route, calls: u64) -> Round {
    let (daemon, command) = &route.target;
    let took = route
        .caller
        .ask("measure", &json!([daemon, command, calls]));
    let mut histogram = Histogram::<u64>::new(3).expect("three digits are possible");
    for ns in took.as_array().expect("a list of times") {
        histogram += ns.as_u64().expect("nanoseconds");
    }
    Round {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
    }
}

fn median(rounds: &[Round], of: fn(&Round) -> u64) -> u64 {
    let mut all: Vec<u64> = rounds.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Returns the p50 of a route between processes as a ratio to that of the bare processes in the same round.
fn to_bare(route: &Route, bare: &[Round]) -> Option<Spread> {
    let ratio = |(call, bare): (&Round, &Round)| call.p50 as f64 / bare.p50 as f64;
    let ratios = route.rounds.iter().zip(bare).map(ratio);
    route
        .is_between_processes
        .then(|| Spread::of(ratios.collect()))
}

fn figure(route: &Route, bare: &[Round]) -> Value {
    json!({
        "route": route.label,
        "p50": median(&route.rounds, |round| round.p50),
        "p99": median(&route.rounds, |round| round.p99),
        "to_bare": to_bare(route, bare).map(Spread::json),
    })
}

fn print_table(routes: &[Route], bare: &[Round], options: &Options) {
    println!(
        "{} rounds of {} calls, one after the other; microseconds a call; ~ is no result",
        options.rounds, options.calls
    );
    println!(
        "{:38} {:>8} {:>8} {:>22}",
        "route", "p50", "p99", "p50 of the bare pair"
    );
    let row = |label: &str, rounds: &[Round], ratio: String| {
        let us = |of: fn(&Round) -> u64| median(rounds, of) as f64 / 1e3;
        let (p50, p99) = (us(|round| round.p50), us(|round| round.p99));
        println!("{label:38} {p50:>8.2} {p99:>8.2} {ratio:>22}");
    };
    for route in routes {
        let ratio = to_bare(route, bare).map_or(String::new(), Spread::ratio);
        row(route.label, &route.rounds, ratio);
    }
    row("two bare processes, a socket pair", bare, String::new());
}
