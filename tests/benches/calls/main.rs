//! Calls from daemon to daemon by name, one after the other: inside one host, through its worker processes, and over
//! TCP to a daemon of another host.
//!
//! The calling daemon measures the time of each call itself, so that the time contains nothing else. The rounds of all
//! routes alternate, and each figure is the median of its rounds. The ratio between the routes is what matters.
//!
//! `cargo bench -p dae-tests --bench calls`; flags after `--`: `--rounds N`, `--calls N`. All figures go to
//! `target/bench/calls.json`.

#[path = "../figures/mod.rs"]
mod figures;

use dae_tests::{Artefacts, Ecosystem, Guest};
use figures::command_line;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// A route from one daemon to another.
struct Route {
    label: &'static str,
    caller: Guest,
    /// The daemon that it calls, and the command.
    target: (String, &'static str),
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

fn main() {
    let Some(words) = command_line::words("calls") else {
        return;
    };
    let options = options(&words).expect("the options at the head of the bench");
    let (here, elsewhere) = ecosystems();
    let mut routes = routes(&here, &elsewhere);
    for _ in 0..options.rounds {
        for route in &mut routes {
            let round = measure(route, options.calls);
            route.rounds.push(round);
        }
    }
    print_table(&routes, &options);
    keep(&routes);
}

fn keep(routes: &[Route]) {
    let figures: Vec<Value> = routes.iter().map(figure).collect();
    let kept = figures::keep("calls", json!({"unit": "ns", "routes": figures}));
    kept.expect("the figures can be written");
}

fn options(words: &[String]) -> Result<Options, String> {
    let flags = [("--rounds", 5), ("--calls", 20_000)];
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
    let route = |label, caller: &str, target: &str, command| Route {
        label,
        caller: here.guest(caller),
        target: (target.to_owned(), command),
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

fn median(route: &Route, of: fn(&Round) -> u64) -> u64 {
    let mut all: Vec<u64> = route.rounds.iter().map(of).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

fn figure(route: &Route) -> Value {
    json!({
        "route": route.label,
        "p50": median(route, |round| round.p50),
        "p99": median(route, |round| round.p99),
    })
}

fn print_table(routes: &[Route], options: &Options) {
    println!(
        "{} rounds of {} calls, one after the other; microseconds a call",
        options.rounds, options.calls
    );
    println!("{:38} {:>8} {:>8} {:>10}", "route", "p50", "p99", "of TCP");
    let tcp = routes
        .last()
        .map_or(1, |route| median(route, |round| round.p50));
    for route in routes {
        let (p50, p99) = (
            median(route, |round| round.p50),
            median(route, |round| round.p99),
        );
        #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 ns")]
        let (p50, p99, ratio) = (p50 as f64 / 1e3, p99 as f64 / 1e3, p50 as f64 / tcp as f64);
        println!("{:38} {p50:>8.2} {p99:>8.2} {ratio:>10.3}", route.label);
    }
}
